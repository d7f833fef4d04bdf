"""What a poll finds in a real SQLite file, and that one which finds nothing new leaves it alone."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agent.core.model import Deployment, Fault, Release, State
from agent.core.pipeline import Outcome, advance
from agent.store.database import Database
from agent.store.inbox import Inbox, Wanted
from agent.store.journal import Journal
from agent.store.polls import Polls
from agent.store.services import ServiceRows
from agent.store.transitions import Change, Limits
from tests.build import OTHER, REVISION, a_delivery
from tests.fakes import FakeClock

HASH = "0123456789abcdef"


class Store:
    """The journal and the polls over one file."""

    def __init__(self, database: Database, clock: FakeClock) -> None:
        self.journal = Journal(database, clock)
        self.services = ServiceRows(database, clock)
        self.inbox = Inbox(database, clock)
        self._polls = Polls(database, clock)

    async def poll(self, tip: str = REVISION, config_hash: str = HASH) -> str:
        return await self._polls.found("scraper", tip, config_hash)

    async def all(self) -> tuple[Deployment, ...]:
        return (await self.journal.deployments()).items

    async def ask(self, requested: str | None = None, **differences: Any) -> Deployment:
        wish: dict[str, Any] = {"revision": requested, "force": False, "actor": "me", "config_hash": HASH}
        return await self.journal.request("scraper", requested=requested, **(wish | differences))

    async def end(self, *outcomes: Outcome, revision: str = REVISION, **change: Any) -> Deployment:
        """Claims what is queued and carries it to an end."""
        deployment = await self.journal.claim("scraper", HASH)
        assert deployment is not None
        for outcome in outcomes:
            last = outcome is outcomes[-1]
            found = Change(revision=revision, **(change if last else {}))
            to = advance(deployment.state, outcome)
            deployment = await self.journal.advance(deployment, to, found, Limits(2))
        return deployment

    async def succeed(self, revision: str = REVISION) -> Deployment:
        live = Release(name=f"1-{revision[:7]}", service="scraper", revision=revision)
        return await self.end(*[Outcome.OK] * 5, revision=revision, live=live)

    async def fail(self, reason: str = "backup-failed", fault: Fault = Fault.WORLD) -> Deployment:
        return await self.end(*[Outcome.OK] * 2, Outcome.FAILED, reason=reason, fault=fault)


@pytest.fixture
def store(database: Database, clock: FakeClock) -> Store:
    return Store(database, clock)


async def test_a_new_tip_is_queued_once(store: Store) -> None:
    """R-RX-26."""
    assert await store.poll() == ""
    (made,) = await store.all()
    assert (made.state, made.trigger.kind, made.trigger.event, made.revision) == (
        State.QUEUED, "poll", None, REVISION,
    )  # fmt: skip
    assert (made.requested, made.person, made.config_hash) == (None, False, HASH)
    assert "on its way" in await store.poll()
    assert "on its way" in await store.poll(OTHER), (
        "what is queued for the tip will run whatever the tip is then"
    )
    assert len(await store.all()) == 1


async def test_polls_at_the_same_time_make_one_deployment(store: Store) -> None:
    answers = await asyncio.gather(*(store.poll() for _ in range(10)))
    assert sorted(bool(answer) for answer in answers) == [False] + [True] * 9
    assert len(await store.all()) == 1


async def test_a_delivery_that_comes_after_all_is_answered_with_the_polls_deployment(store: Store) -> None:
    await store.poll()
    (made,) = await store.all()
    admission = await store.inbox.admit(a_delivery(), [Wanted("scraper", REVISION, HASH)])
    assert [placed.id for placed in admission.deployments] == [made.id]


async def test_another_tip_is_queued_while_one_is_deployed(store: Store) -> None:
    await store.poll()
    assert await store.journal.claim("scraper", HASH)
    assert "on its way" in await store.poll()
    assert await store.poll(OTHER) == ""


async def test_what_a_person_chose_is_not_undone_by_a_poll(store: Store) -> None:
    """It went back to an older commit by name: the tip had its turn."""
    await store.poll()
    await store.succeed()
    await store.ask(OTHER)
    await store.succeed(OTHER)
    assert "a person chose" in await store.poll()
    assert await store.poll("c" * 40) == "", "a new commit is another matter"


async def test_a_branch_that_went_back_is_followed(store: Store) -> None:
    """R-RX-24."""
    await store.poll(OTHER)
    await store.succeed(OTHER)
    await store.poll()
    await store.succeed()
    assert await store.poll(OTHER) == ""


async def test_what_the_world_broke_is_tried_three_times(store: Store) -> None:
    """R-RB-6."""
    for _ in range(3):
        assert await store.poll() == ""
        await store.fail()
    assert "failed 3 times" in await store.poll()
    assert await store.poll(config_hash="another") == "", "another configuration may help"


async def test_a_held_service_is_left_alone(store: Store) -> None:
    await store.services.hold("scraper", actor="me")
    assert "held" in await store.poll()
    assert await store.all() == ()


@pytest.mark.parametrize(
    "case", ["live", "queued", "held", "quarantined", "rolled-back", "skip-deploy", "paths-unchanged"]
)
async def test_a_hundred_polls_that_find_nothing_new_write_no_byte(
    store: Store, tmp_path: Path, case: str
) -> None:
    """R-RB-2, F70, R-PL-8."""
    await store.poll()
    match case:
        case "live":
            await store.succeed()
        case "held":
            await store.services.hold("scraper", actor="me")
        case "quarantined":
            await store.fail("build-failed", Fault.COMMIT)
        case "rolled-back":
            bad = await store.end(
                *[Outcome.OK] * 4, Outcome.FAILED, reason="process-died", fault=Fault.COMMIT
            )
            back = Release(name="0-bbbbbbb", service="scraper", revision=OTHER)
            await store.journal.advance(bad, State.ROLLED_BACK, Change(live=back), Limits(2))
        case "skip-deploy" | "paths-unchanged":
            await store.end(Outcome.CANCELLED, reason=case)
    before, files = await store.all(), bytes_of(tmp_path)
    for _ in range(100):
        assert await store.poll()
    assert await store.all() == before
    assert bytes_of(tmp_path) == files


def bytes_of(directory: Path) -> dict[str, tuple[int, bytes]]:
    """The database with its log as they lie there. (The shared memory beside them counts readers, on no disk.)"""
    return {
        path.name: (path.stat().st_mtime_ns, path.read_bytes())
        for path in directory.iterdir()
        if not path.name.endswith("-shm")
    }
