"""What a delivery asks for exactly, a commit or a ref, stays with it: joined, held, and sent again."""

import asyncio
from datetime import timedelta

import pytest

from agent.core.model import Deployment, Fault, State
from agent.store.database import Database
from agent.store.inbox import Admission, Inbox, Wanted
from agent.store.journal import Journal
from agent.store.services import ServiceRows
from agent.store.transitions import Change, Limits
from tests.build import OTHER, REVISION, a_delivery
from tests.fakes import FakeClock

HASH = "0123456789abcdef"
TAG = "refs/tags/v1"


class Store:
    """The parts of the store that deliveries meet."""

    def __init__(self, database: Database, clock: FakeClock) -> None:
        self.clock = clock
        self.inbox = Inbox(database, clock)
        self.journal = Journal(database, clock)
        self.services = ServiceRows(database, clock)

    async def release(self, body: bytes = b"release", tag: str = TAG) -> Admission:
        """A published release: only the fetch will tell which commit it is."""
        delivery = a_delivery(body, event="release", ref=tag, revision=None, received_at=self.clock.now())
        return await self.inbox.admit(delivery, [Wanted("scraper", None, HASH, requested=tag)])

    async def run(self, body: bytes = b"run", revision: str = REVISION) -> Admission:
        """A green run of exactly this commit."""
        delivery = a_delivery(body, event="workflow_run", revision=revision, received_at=self.clock.now())
        return await self.inbox.admit(delivery, [Wanted("scraper", revision, HASH, requested=revision)])

    async def deployment(self, admission: Admission) -> Deployment:
        (placed,) = admission.deployments
        found = await self.journal.deployment(placed.id)
        assert found is not None
        return found

    async def fail(self, change: Change) -> Deployment:
        claimed = await self.journal.claim("scraper", HASH)
        assert claimed is not None
        return await self.journal.advance(claimed, State.FAILED, change, Limits(2))


@pytest.fixture
def store(database: Database, clock: FakeClock) -> Store:
    return Store(database, clock)


UNREACHABLE = Change(reason="git-unreachable", fault=Fault.WORLD)


async def test_a_release_waits_under_its_tag_and_without_a_revision(store: Store) -> None:
    made = await store.deployment(await store.release())
    assert (made.requested, made.revision, made.trigger.event) == (TAG, None, "release")


async def test_two_deliveries_about_one_tag_are_one_deployment_while_it_waits(store: Store) -> None:
    first = await store.release()
    second = await store.release(b"published anew")
    assert (second.decision, second.deployments) == ("deploy", first.deployments)
    other = await store.release(b"another one", "refs/tags/v2")
    assert other.deployments != first.deployments


async def test_a_tag_that_is_being_looked_up_is_not_joined(store: Store) -> None:
    """It may have been moved since."""
    first = await store.release()
    await store.journal.claim("scraper", HASH)
    assert (await store.release(b"published anew")).deployments != first.deployments


async def test_a_release_does_not_join_what_waits_for_the_tip_and_a_push_not_the_release(
    store: Store,
) -> None:
    released = await store.release()
    delivery = a_delivery(b"push", received_at=store.clock.now())
    pushed = await store.inbox.admit(delivery, [Wanted("scraper", REVISION, HASH)])
    assert pushed.deployments != released.deployments
    assert (await store.release(b"again")).deployments == released.deployments
    tip = await store.journal.request(
        "scraper", requested=None, revision=None, force=False, actor="me", config_hash=HASH
    )
    assert tip.id not in {placed.id for placed in (*released.deployments, *pushed.deployments)}


async def test_a_person_who_asks_for_the_same_tag_gets_the_same_deployment(store: Store) -> None:
    released = await store.deployment(await store.release())
    asked = await store.journal.request(
        "scraper", requested=TAG, revision=None, force=False, actor="me", config_hash=HASH
    )
    assert asked.id == released.id
    forced = await store.journal.request(
        "scraper", requested=TAG, revision=None, force=True, actor="me", config_hash=HASH
    )
    assert forced.id != released.id, "force is more than was asked for before"


async def test_a_redelivery_after_a_failure_of_the_world_asks_for_the_same_again(store: Store) -> None:
    """R-RX-13: not for the branch's tip."""
    for first, again, requested, revision in (
        (store.release, store.release, TAG, None),
        (store.run, store.run, REVISION, REVISION),
    ):
        made = await store.deployment(await first())
        assert (await store.fail(UNREACHABLE)).id == made.id
        renewed = await again()
        assert renewed.decision == "deploy"
        anew = await store.deployment(renewed)
        assert anew.id != made.id
        assert (anew.requested, anew.revision) == (requested, revision)
        assert (await again()).decision == "duplicate"
        await store.fail(Change(reason="tree-refused", fault=Fault.COMMIT))


async def test_a_resume_admits_the_newest_as_it_was_asked_for(store: Store) -> None:
    """Of a run and a release that came in the meantime, the later one."""
    await store.services.hold("scraper", actor="me", reason="")
    assert (await store.run(b"run", OTHER)).reason == "held"
    store.clock.advance(timedelta(minutes=1).total_seconds())
    assert (await store.release()).reason == "held"
    admitted = await store.services.resume("scraper", actor="me", config_hash=HASH)
    assert admitted is not None
    assert (admitted.requested, admitted.revision, admitted.trigger.event) == (TAG, None, "release")
    assert (await store.release()).decision == "duplicate"


async def test_what_was_held_and_then_configured_otherwise_is_admitted_as_it_was_decided_last(
    store: Store,
) -> None:
    """The same bytes again, now decided in another way: the tip instead of the commit."""
    await store.services.hold("scraper", actor="me", reason="")
    await store.run()
    delivery = a_delivery(b"run", event="workflow_run", received_at=store.clock.now())
    await store.inbox.admit(delivery, [Wanted("scraper", REVISION, HASH)])
    admitted = await store.services.resume("scraper", actor="me", config_hash=HASH)
    assert admitted is not None
    assert admitted.requested is None


async def test_a_run_of_a_quarantined_commit_is_ignored(store: Store) -> None:
    """R-RX-14."""
    await store.run()
    await store.fail(Change(reason="build-failed", fault=Fault.COMMIT))
    assert (await store.run(b"second attempt")).reason == "quarantined"
    assert (await store.release()).decision == "deploy", "whether it is the same commit shows after the fetch"


async def test_what_an_admission_costs_does_not_grow_with_what_there_is_already(
    store: Store, database: Database
) -> None:
    """R-RX-12, R-RX-25, F48: 2000 that wait and a history behind them: no more work for SQLite than at the start."""

    async def effort(number: int) -> int:
        """Hundreds of instructions of SQLite's machine that one delivery takes."""
        ticks = 0

        def tick() -> int:
            nonlocal ticks
            ticks += 1
            return 0

        await database.write(lambda connection: connection.set_progress_handler(tick, 100))
        await store.run(b"%d" % number, f"{number:040x}")
        await store.release(b"tag %d" % number, f"refs/tags/v{number}")
        await database.write(lambda connection: connection.set_progress_handler(None, 100))
        return ticks

    at_first = await effort(1)
    for start in range(100, 2100, 100):
        await asyncio.gather(*(store.run(b"%d" % n, f"{n:040x}") for n in range(start, start + 100)))
    assert await effort(5000) <= 2 * at_first + 5
