"""F52: what has ended goes, the oldest first, so that the state stays small; what is still owed never does."""

import asyncio
import sqlite3
from datetime import timedelta

import pytest

from agent.core.model import State
from agent.store import trimming
from agent.store.database import Database
from agent.store.events import EventLog
from agent.store.inbox import Inbox, Wanted
from agent.store.journal import Journal
from agent.store.rows import micros
from agent.store.services import ServiceRows
from agent.store.transitions import Change, Limits
from tests.build import OTHER, REVISION, a_delivery
from tests.fakes import FakeClock

HASH = "0123456789abcdef"
FLOOD, PENDING = 100_000, 50


async def _count(database: Database, table: str, where: str = "1") -> int:
    return int(
        await database.read(
            lambda connection: connection.execute(f"SELECT count(*) FROM {table} WHERE {where}").fetchone()[0]
        )
    )


async def _size(database: Database) -> int:
    """Bytes that are in use."""
    return await database.read(
        lambda connection: (
            connection.execute("PRAGMA page_size").fetchone()[0]
            * (
                connection.execute("PRAGMA page_count").fetchone()[0]
                - connection.execute("PRAGMA freelist_count").fetchone()[0]
            )
        )
    )


def _flood(connection: sqlite3.Connection, at: int) -> None:
    """As many deliveries as an attacker with the secret, or years, would bring; the oldest of them still wait."""
    connection.execute("INSERT INTO services(name) VALUES('scraper')")
    numbers = range(1, FLOOD + 1)
    connection.executemany(
        "INSERT INTO deliveries(digest, id, event, received_at, secret, repository, ref, revision, sender, decision,"
        " reason) VALUES(printf('%064d', ?1), printf('%032d', ?1), 'push', ?2, 0, 'me/scraper', 'refs/heads/main',"
        " printf('%040d', ?1), 'me', 'deploy', '')",
        ((number, at) for number in numbers),
    )
    connection.executemany(
        "INSERT INTO deployments(id, service, state, revision, kind, created_at, finished_at)"
        " VALUES('d' || ?1, 'scraper', ?2, printf('%040d', ?1), 'webhook', ?3, ?4)",
        (
            (number, "queued" if number <= PENDING else "superseded", at, None if number <= PENDING else at)
            for number in range(1, 2 * PENDING + 1)
        ),
    )
    connection.executemany(
        "INSERT INTO outcomes(delivery, service, revision, deployment) VALUES(?1, 'scraper', ?1, 'd' || ?2)",
        ((number, number if number <= PENDING else PENDING + 1 + number % PENDING) for number in numbers),
    )
    connection.executemany(
        "INSERT INTO events(at, name, data) VALUES(?2, 'delivery.accepted', printf('{\"delivery\":\"%0128d\"}', ?1))",
        ((number, at) for number in numbers),
    )


async def _deliver(inbox: Inbox, clock: FakeClock, numbers: range) -> None:
    wanted = [Wanted("scraper", REVISION, HASH)]
    for first in numbers[:: trimming.EVERY]:
        bodies = [b"%d" % number for number in range(first, min(first + trimming.EVERY, numbers.stop))]
        await asyncio.gather(
            *(inbox.admit(a_delivery(body, received_at=clock.now()), wanted) for body in bodies)
        )


@pytest.mark.timeout(600)
async def test_a_hundred_thousand_rows_shrink_to_what_is_kept_and_what_waits(
    database: Database, clock: FakeClock
) -> None:
    """F52, measured."""
    inbox, journal = Inbox(database, clock), Journal(database, clock)
    await database.write(lambda connection: _flood(connection, micros(clock.now())))
    before = await _size(database)
    rounds = FLOOD // (trimming.AT_ONCE - trimming.EVERY) + 2
    await _deliver(inbox, clock, range(rounds * trimming.EVERY))
    for table, kept in (("deliveries", trimming.DELIVERIES), ("events", trimming.EVENTS)):
        assert kept <= await _count(database, table) <= kept + trimming.EVERY + PENDING, table
    assert await _count(database, "deliveries", f"number <= {PENDING}") == PENDING
    assert await _count(database, "deployments", f"state = 'queued' AND number <= {PENDING}") == PENDING
    assert await _count(database, "outcomes") == await _count(database, "deliveries")
    after = await _size(database)
    assert after < before / 2
    claimed = await journal.claim("scraper", HASH)
    assert claimed is not None
    print(f"{FLOOD} deliveries: {before >> 20} MiB, then {after >> 20} MiB")


async def test_deployments_that_ended_go_and_the_last_ones_stay(
    database: Database, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F52: with their steps and keys; those of a quiet service are not pushed out by a busy one."""
    monkeypatch.setattr(trimming, "EVERY", 4)
    monkeypatch.setattr(trimming, "DEPLOYMENTS", 10)
    journal = Journal(database, clock)

    async def one(service: str, number: int) -> None:
        await journal.request(
            service,
            requested=None,
            revision=None,
            force=True,
            actor="me",
            config_hash=HASH,
            key=f"{service} {number}",
        )
        claimed = await journal.claim(service, HASH)
        assert claimed is not None
        await journal.advance(claimed, State.FAILED, Change(reason="git-unreachable"), Limits(2))

    await database.write(
        lambda connection: connection.executemany(
            "INSERT INTO services(name) VALUES(?)", [("quiet",), ("busy",)]
        )
    )
    for number in range(3):
        await one("quiet", number)
    waiting = await journal.request(
        "busy", requested=None, revision=OTHER, force=False, actor="me", config_hash=HASH
    )
    for number in range(40):
        await one("busy", number)
    assert await _count(database, "deployments", "service = 'quiet'") == 3
    assert 10 <= await _count(database, "deployments", "service = 'busy'") <= 10 + 4 + 1
    assert await _count(database, "keys") == await _count(
        database, "deployments", "id <> '" + waiting.id + "'"
    )
    assert await _count(database, "steps", "deployment NOT IN (SELECT number FROM deployments)") == 0


async def test_what_a_resume_would_admit_is_kept(
    database: Database, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F52: of all that was ignored for a hold, the newest."""
    monkeypatch.setattr(trimming, "EVERY", 4)
    monkeypatch.setattr(trimming, "DELIVERIES", 10)
    inbox, services = Inbox(database, clock), ServiceRows(database, clock)
    await services.hold("scraper", actor="me")
    for number in range(20):
        clock.advance(timedelta(seconds=1).total_seconds())
        delivery = a_delivery(b"%d" % number, received_at=clock.now())
        assert (await inbox.admit(delivery, [Wanted("scraper", REVISION, HASH)])).reason == "held"
    for number in range(40):
        await inbox.admit(
            a_delivery(b"other %d" % number, received_at=clock.now()), [Wanted("other", OTHER, HASH)]
        )
    assert await _count(database, "outcomes", "reason = 'held'") == 1
    resumed = await services.resume("scraper", actor="me", config_hash=HASH)
    assert resumed is not None
    assert resumed.revision == REVISION


async def test_the_event_log_keeps_its_end(
    database: Database, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F52."""
    monkeypatch.setattr(trimming, "EVERY", 4)
    monkeypatch.setattr(trimming, "EVENTS", 10)
    events = EventLog(database)
    for number in range(50):
        await events.record(f"event.{number}", clock.now(), data={})
    found = (await events.page(50)).items
    assert 10 <= len(found) <= 14
    assert found[0].name == "event.49"
