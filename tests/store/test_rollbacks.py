"""Rollbacks that were asked for, in a real SQLite file: who goes first, what is left, what one transaction entails."""

import asyncio
import sqlite3

import pytest

from agent.core.codes import CODES
from agent.core.errors import Conflict
from agent.core.model import Deployment, Fault, Release, State
from agent.core.pipeline import Outcome
from agent.store.database import Database
from agent.store.inbox import Admission, Wanted
from agent.store.rollbacks import Rollbacks
from agent.store.transitions import Change, conclude, get, move
from tests.build import OTHER, REVISION, a_delivery
from tests.fakes import FakeClock
from tests.store.test_journal import HASH, LIMITS, OK4, Store

SERVICE = "scraper"


@pytest.fixture
def store(database: Database, clock: FakeClock) -> Store:
    """An empty store."""
    return Store(database, clock)


@pytest.fixture
def rollbacks(database: Database, clock: FakeClock) -> Rollbacks:
    """Over the same file."""
    return Rollbacks(database, clock)


async def deployed(store: Store, revision: str, body: bytes) -> Release:
    """A push that succeeded."""
    await store.push(body, revision)
    deployment = await store.walk(await store.claim(), *OK4)
    live = Release(name=deployment.release or "", service=SERVICE, revision=revision)
    await store.walk(deployment, Outcome.OK, live=live)
    return live


async def ask(rollbacks: Rollbacks, to: str | None = None, key: str | None = None) -> Deployment:
    return await rollbacks.request(SERVICE, to=to, actor="me", config_hash=HASH, key=key)


async def test_it_goes_before_what_waits_and_is_rolling_back_at_once(
    store: Store, rollbacks: Rollbacks
) -> None:
    old, new = await deployed(store, REVISION, b"one"), await deployed(store, OTHER, b"two")
    await store.push(b"three", "c" * 40)
    made = await ask(rollbacks)
    assert (made.target, made.previous, made.revision) == ("", OTHER, None)
    claimed = await store.claim()
    assert (claimed.id, claimed.state, claimed.previous) == (made.id, State.ROLLING_BACK, OTHER)
    assert [step.state for step in claimed.steps] == ["done", "running"]
    named = await ask(rollbacks, old.name)
    assert (named.target, named.revision) == (old.name, REVISION)
    assert new.name != old.name


async def test_its_end_its_quarantine_and_what_it_passes_over_are_one_transaction(
    store: Store, rollbacks: Rollbacks
) -> None:
    old = await deployed(store, REVISION, b"one")
    await deployed(store, OTHER, b"two")
    waiting = (await store.push(b"again", OTHER)).deployments[0].id
    await ask(rollbacks)
    claimed = await store.claim()
    await rollbacks.aim(claimed, old)
    with pytest.raises(RuntimeError):
        await _ends_and_fails(store, claimed, old)
    assert (await store.services.overview(SERVICE)).quarantine == ()
    ended = await store.journal.advance(claimed, State.SUCCEEDED, Change(live=old), LIMITS)
    assert (ended.revision, ended.previous, ended.release) == (REVISION, OTHER, old.name)
    overview = await store.services.overview(SERVICE)
    assert [(item.revision, item.reason) for item in overview.quarantine] == [(OTHER, "left-by-hand")]
    assert overview.live is not None
    assert overview.live.release == old.name
    passed_over = await store.journal.deployment(waiting)
    assert passed_over is not None
    assert (passed_over.state, passed_over.reason) == (State.SUPERSEDED, "quarantined")
    assert (passed_over.hint, passed_over.steps[-1].detail) == (
        CODES["quarantined"].hint, f"{claimed.id} went back from it",
    )  # fmt: skip


async def _ends_and_fails(store: Store, claimed: Deployment, old: Release) -> None:
    """The same transaction, broken off at its very end."""
    now = store.clock.now()

    def act(connection: sqlite3.Connection) -> None:
        move(connection, claimed, State.SUCCEEDED, Change(live=old), now)
        conclude(connection, get(connection, claimed.id), Change(live=old), LIMITS, now)
        raise RuntimeError("the power is gone")

    await store.journal._database.write(act)


async def test_the_same_key_is_the_same_wish(store: Store, rollbacks: Rollbacks) -> None:
    old = await deployed(store, REVISION, b"one")
    await deployed(store, OTHER, b"two")
    first = await ask(rollbacks, key="me k")
    await store.journal.advance(await store.claim(), State.SUCCEEDED, Change(live=old), LIMITS)
    assert (await ask(rollbacks, key="me k")).id == first.id
    assert (await ask(rollbacks)).id != first.id


async def test_ten_at_once_are_one(store: Store, rollbacks: Rollbacks) -> None:
    await deployed(store, REVISION, b"one")
    made = await asyncio.gather(*[ask(rollbacks) for _ in range(10)])
    assert len({item.id for item in made}) == 1


async def test_an_aim_is_only_taken_while_it_is_rolling_back(store: Store, rollbacks: Rollbacks) -> None:
    old = await deployed(store, REVISION, b"one")
    made = await ask(rollbacks)
    with pytest.raises(Conflict):
        await rollbacks.aim(made, old)


async def test_a_spare_release_is_named_once_and_needed_until_the_end(
    store: Store, rollbacks: Rollbacks
) -> None:
    await deployed(store, REVISION, b"one")
    await store.push(b"two", OTHER)
    bad = await store.walk(await store.claim(), *OK4)
    bad = await store.walk(bad, Outcome.FAILED, reason="health-timeout", fault=Fault.COMMIT)
    spare = await rollbacks.spare(bad, REVISION)
    assert spare == await rollbacks.spare(bad, REVISION)
    assert (spare.name, spare.config_hash) == (f"3-{REVISION[:7]}", HASH)
    other = await rollbacks.spare(bad, "c" * 40)
    assert other.name == "4-ccccccc"
    assert await rollbacks.needed(SERVICE) == {spare.name, other.name}
    await store.walk(bad, Outcome.OK, live=spare)
    assert await rollbacks.needed(SERVICE) == set()
    confirmed = {item.name: item.confirmed_at is not None for item in await store.journal.releases(SERVICE)}
    assert confirmed[spare.name]
    assert not confirmed[other.name]


async def test_a_release_knows_whether_its_revision_is_in_quarantine(
    store: Store, rollbacks: Rollbacks
) -> None:
    """With the configuration that it was built for, and with the one of now."""
    old = await deployed(store, REVISION, b"one")
    await deployed(store, OTHER, b"two")
    await ask(rollbacks)
    await store.journal.claim(SERVICE, "another configuration")
    found = (await store.journal.deployments()).items[0]
    await store.journal.advance(found, State.SUCCEEDED, Change(live=old), LIMITS)

    async def quarantined(config_hash: str) -> list[bool]:
        return [item.quarantined for item in await store.journal.releases(SERVICE, config_hash)]

    assert await quarantined("another configuration") == [False, True]
    assert await quarantined("a third one") == [False, False]


# --- by a workflow that failed after the deployment


async def fault_in(store: Store, revision: str, body: bytes) -> Admission:
    """A delivery that found a fault in this revision."""
    sent = a_delivery(body, id=f"guid-{body.decode()}", event="workflow_run", received_at=store.clock.now())
    return await store.inbox.admit(sent, [Wanted(SERVICE, revision, HASH, back=True)])


async def test_a_fault_in_what_is_live_is_a_rollback_through_its_own_fault(store: Store) -> None:
    await deployed(store, REVISION, b"one")
    await deployed(store, OTHER, b"two")
    admission = await fault_in(store, OTHER, b"red")
    assert (admission.decision, len(admission.deployments)) == ("deploy", 1)
    made = await store.journal.deployment(admission.deployments[0].id)
    assert made is not None
    assert (made.state, made.target, made.revision, made.config_hash) == (State.QUEUED, "", OTHER, HASH)
    assert (made.reason, made.hint, made.fault) == (
        "workflow-failed", CODES["workflow-failed"].hint, Fault.COMMIT,
    )  # fmt: skip
    again = await fault_in(store, OTHER, b"red again")
    assert (again.decision, again.deployments) == ("deploy", admission.deployments)
    claimed = await store.claim()
    assert (claimed.id, claimed.state, claimed.trigger.kind) == (made.id, State.ROLLING_BACK, "webhook")


async def test_a_fault_in_what_is_not_live_or_has_no_way_back_is_ignored(store: Store) -> None:
    assert (await fault_in(store, REVISION, b"nothing is live")).reason == "not-live"
    await deployed(store, REVISION, b"one")
    assert (await fault_in(store, OTHER, b"another")).reason == "not-live"
    assert (await fault_in(store, REVISION, b"the only one")).reason == "no-fallback"
    assert (await store.inbox.deliveries()).items[0].decision == "ignored"


async def test_a_fault_while_held_is_ignored_and_not_made_up_for(store: Store) -> None:
    await deployed(store, REVISION, b"one")
    await deployed(store, OTHER, b"two")
    await store.services.hold(SERVICE, actor="me")
    assert (await fault_in(store, OTHER, b"red")).reason == "held"
    assert await store.services.resume(SERVICE, actor="me", config_hash=HASH) is None
    assert await store.journal.claim(SERVICE, HASH) is None


async def test_an_automatic_rollback_waits_while_held_and_a_persons_does_not(
    store: Store, rollbacks: Rollbacks
) -> None:
    await deployed(store, REVISION, b"one")
    await deployed(store, OTHER, b"two")
    assert not await rollbacks.waits(SERVICE)
    automatic = (await fault_in(store, OTHER, b"red")).deployments[0].id
    assert await rollbacks.waits(SERVICE)
    await store.services.hold(SERVICE, actor="me")
    assert not await rollbacks.waits(SERVICE)
    assert await store.journal.claim(SERVICE, HASH) is None
    by_hand = await ask(rollbacks)
    assert await rollbacks.waits(SERVICE)
    assert (await store.claim()).id == by_hand.id
    assert not await rollbacks.waits(SERVICE)
    await store.services.resume(SERVICE, actor="me", config_hash=HASH)
    assert (await store.claim()).id == automatic


async def test_of_persons_rollbacks_the_newest_goes_and_the_older_ones_end(
    store: Store, rollbacks: Rollbacks
) -> None:
    old = await deployed(store, REVISION, b"one")
    await deployed(store, OTHER, b"two")
    to_old, back = await ask(rollbacks, old.name), await ask(rollbacks)
    claimed = await store.claim()
    assert claimed.id == back.id
    passed = await store.journal.deployment(to_old.id)
    assert passed is not None
    assert (passed.state, passed.reason, passed.hint) == (
        State.SUPERSEDED, "newer-queued", CODES["newer-queued"].hint,
    )  # fmt: skip


async def test_what_was_to_be_left_and_is_not_live_any_more_is_passed_over(
    store: Store, rollbacks: Rollbacks
) -> None:
    old = await deployed(store, REVISION, b"one")
    await deployed(store, OTHER, b"two")
    back = await ask(rollbacks)
    named = await ask(rollbacks, old.name)
    await live_is(store, Release(name="9-ccccccc", service=SERVICE, revision="c" * 40))
    claimed = await store.claim()
    assert (claimed.id, claimed.previous) == (named.id, "c" * 40)
    passed = await store.journal.deployment(back.id)
    assert passed is not None
    assert (passed.state, passed.reason) == (State.SUPERSEDED, "not-live")


async def live_is(store: Store, release: Release) -> None:
    """Something else went live between the wish and its turn."""
    await store.journal._database.write(
        lambda connection: connection.execute(
            "UPDATE services SET live_release = ?, live_revision = ?", (release.name, release.revision)
        )
    )


async def test_a_release_that_is_not_there_any_more_is_forgotten(store: Store) -> None:
    old, new = await deployed(store, REVISION, b"one"), await deployed(store, OTHER, b"two")
    await store.journal.forget_release("another", old.name)
    assert [release.name for release in await store.journal.releases(SERVICE)] == [old.name, new.name]
    await store.journal.forget_release(SERVICE, old.name)
    assert [release.name for release in await store.journal.releases(SERVICE)] == [new.name]
