"""What is written is read back whole, field by field: rows, lists, and what each act says in the event log."""

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from msgspec import structs

from agent.core.codes import CODES
from agent.core.errors import Conflict, Refused
from agent.core.model import (
    Backup,
    Deployment,
    Fault,
    Hold,
    Live,
    Proof,
    Quarantine,
    Release,
    State,
    Step,
    Trigger,
)
from agent.core.order import End
from agent.core.pipeline import Outcome
from agent.core.restores import Restore, Standing
from agent.store.backups import BackupRows
from agent.store.database import Database
from agent.store.inbox import Wanted
from agent.store.restores import RestoreRows
from agent.store.rollbacks import Rollbacks
from agent.store.transitions import Change, Reset
from tests.build import OTHER, REVISION, a_delivery
from tests.fakes import START, FakeClock
from tests.store.test_journal import HASH, LIMITS, OK4, Store

SERVICE = "scraper"
OLD = Release(name="1-aaaaaaa", service=SERVICE, revision=REVISION)


@pytest.fixture
def store(database: Database, clock: FakeClock) -> Store:
    """An empty store."""
    return Store(database, clock)


async def told(store: Store) -> list[tuple[str, str | None, str | None, dict[str, Any]]]:
    """Every event: its name, its service, its deployment, its data."""
    return [
        (event.name, event.service, event.deployment, event.data) for event in await store.events.after(0, 99)
    ]


async def test_a_deployment_is_read_back_as_it_went(store: Store, clock: FakeClock) -> None:
    await store.push(sender="me")
    claimed = await store.claim()
    clock.advance(1)
    await store.journal.advance(claimed, State.BUILDING, Change(revision=OTHER, detail="fetched"))
    building = await store.journal.deployment(claimed.id)
    assert building is not None
    clock.advance(1)
    failure = Change(reason="build-failed", hint="look", fault=Fault.COMMIT, detail="exit 1", backup="b1")
    ended = await store.journal.advance(building, State.FAILED, failure, LIMITS)
    assert ended == Deployment(
        id=claimed.id,
        service=SERVICE,
        revision=OTHER,
        previous=None,
        state=State.FAILED,
        reason="build-failed",
        hint="look",
        trigger=Trigger(kind="webhook", event="push", delivery="guid-1", actor="me"),
        steps=(
            Step(name=State.QUEUED, state="done", started_at=START, finished_at=START),
            Step(
                name=State.FETCHING,
                state="done",
                started_at=START,
                finished_at=START + timedelta(seconds=1),
                detail="fetched",
            ),
            Step(
                name=State.BUILDING,
                state="failed",
                started_at=START + timedelta(seconds=1),
                finished_at=START + timedelta(seconds=2),
                detail="exit 1",
            ),
        ),
        created_at=START,
        finished_at=START + timedelta(seconds=2),
        release="1-bbbbbbb",
        backup="b1",
        fault=Fault.COMMIT,
        config_hash=HASH,
    )
    assert (await store.journal.deployments(SERVICE)).items == (ended,)
    assert (await store.journal.deployments("other")).items == ()


async def test_a_delivery_is_read_back_as_it_came(store: Store) -> None:
    sent = a_delivery(b"one", received_at=store.clock.now(), secret=2, sender="me")
    admission = await store.inbox.admit(sent, [Wanted(SERVICE, REVISION, HASH, before=OTHER)])
    (placed,) = admission.deployments
    assert (admission.reason, placed.service) == ("", SERVICE)
    expected = structs.replace(sent, decision="deploy", deployments=(placed.id,))
    assert await store.inbox.delivery(sent.id) == expected
    assert await store.inbox.delivery(sent.digest) == expected
    assert await store.inbox.delivery("another") is None
    assert (await store.inbox.deliveries()).items == (expected,)
    made = await store.journal.deployment(placed.id)
    assert made is not None
    assert (made.revision, made.before, made.config_hash) == (REVISION, OTHER, HASH)


async def test_a_delivery_that_is_ignored_says_so(store: Store) -> None:
    await store.services.hold(SERVICE, actor="me")
    admission = await store.push(b"one", event="push", reason="unused")
    assert (admission.decision, admission.reason, admission.deployments) == ("ignored", "held", ())
    found = await store.inbox.delivery("guid-1")
    assert found is not None
    assert (found.decision, found.reason, found.deployments) == ("ignored", "held", ())
    nobody = await store.inbox.admit(a_delivery(b"two", id="guid-2", reason="other-branch"), [])
    assert (nobody.decision, nobody.reason) == ("ignored", "other-branch")
    digest, other = a_delivery(b"one").digest, a_delivery(b"two").digest
    data = {"delivery": "guid-1", "digest": digest, "event": "push", "reason": "held"}
    assert (await told(store))[1:] == [
        ("delivery.ignored", SERVICE, None, data),
        (
            "delivery.ignored",
            None,
            None,
            data | {"delivery": "guid-2", "digest": other, "reason": "other-branch"},
        ),
    ]


async def test_a_delivery_that_is_only_noted_is_there_with_the_next_commit(store: Store) -> None:
    noted = a_delivery(
        b"ping", event="ping", received_at=store.clock.now(), decision="ignored", reason="pong"
    )
    store.inbox.note(noted)
    await store.services.hold(SERVICE, actor="me")
    assert await store.inbox.delivery(noted.digest) == noted
    again = structs.replace(
        noted, id="guid-2", received_at=START + timedelta(seconds=1), reason="event-ignored"
    )
    store.inbox.note(again)
    await store.services.resume(SERVICE, actor="me", config_hash=HASH)
    assert (await store.inbox.deliveries()).items == (again,)


async def test_a_delivery_for_two_services_is_told_of_none_alone(store: Store) -> None:
    wanted = [Wanted(SERVICE, REVISION, HASH), Wanted("api", REVISION, HASH)]
    sent = a_delivery(b"one", received_at=store.clock.now())
    admission = await store.inbox.admit(sent, wanted)
    assert [placed.service for placed in admission.deployments] == [SERVICE, "api"]
    assert (await told(store))[-1][:3] == ("delivery.accepted", None, None)
    again = await store.inbox.admit(sent, wanted)
    assert again.decision == "duplicate"
    assert {placed.service: placed.id for placed in again.deployments} == {
        placed.service: placed.id for placed in admission.deployments
    }


async def test_each_state_is_told_with_where_it_came_from(store: Store) -> None:
    await store.push(sender="me")
    claimed = await store.claim()
    ended = await store.walk(claimed, *OK4)
    ended = await store.walk(
        ended, Outcome.OK, live=Release(name=ended.release or "", service=SERVICE, revision=REVISION)
    )
    digest = a_delivery(b"one").digest
    queued = {"trigger": "webhook", "actor": "me", "revision": REVISION, "force": False}
    accepted = {"delivery": "guid-1", "digest": digest, "event": "push", "reason": ""}
    ways = ["queued", "fetching", "building", "backing_up", "switching", "verifying", "succeeded"]
    assert await told(store) == [
        ("deployment.queued", SERVICE, claimed.id, queued),
        ("delivery.accepted", SERVICE, None, accepted),
        *[
            (f"deployment.{to}", SERVICE, claimed.id, {"from": come, "revision": REVISION})
            for come, to in pairwise(ways)
        ],
    ]


async def test_a_persons_wish_is_told_with_its_reason(store: Store) -> None:
    made = await store.ask(revision=REVISION, requested="v1", reason="for the demo", force=True)
    again = await store.ask(revision=REVISION, requested="v1", actor="you", reason="me too")
    plain = await store.ask(revision=OTHER)
    assert again.id == made.id
    wish = {"trigger": "manual", "actor": "me", "revision": REVISION, "force": True, "reason": "for the demo"}
    assert await told(store) == [
        ("deployment.queued", SERVICE, made.id, wish),
        ("deployment.joined", SERVICE, made.id, {"actor": "you", "reason": "me too"}),
        (
            "deployment.queued", SERVICE, plain.id,
            {"trigger": "manual", "actor": "me", "revision": OTHER, "force": False},
        ),
    ]  # fmt: skip
    assert (made.trigger, made.force, made.person, made.requested) == (
        Trigger(kind="manual", actor="me"),
        True,
        True,
        "v1",
    )


async def test_a_wish_that_is_refused_says_why(store: Store) -> None:
    await store.services.hold(SERVICE, actor="me")
    with pytest.raises(Refused, match=r"scraper: automatic deployments are held") as held:
        await store.ask(revision=REVISION)
    assert (held.value.status, held.value.code) == (409, "held")
    await store.services.resume(SERVICE, actor="me", config_hash=HASH)
    await store.bounce(OTHER, b"bad")
    with pytest.raises(Refused, match=rf"scraper: revision {OTHER} failed before") as quarantined:
        await store.ask(revision=OTHER)
    assert (quarantined.value.status, quarantined.value.code) == (409, "quarantined")


async def test_an_interruption_a_migration_and_a_reset_are_told(store: Store) -> None:
    await store.push()
    claimed = await store.claim()
    cut = await store.journal.interrupted(claimed)
    assert [(step.state, step.detail) for step in cut.steps[1:]] == [
        ("interrupted", "the agent was stopped"),
        ("running", ""),
    ]
    reset = Change(revision=REVISION, reset=Reset("main", REVISION, OTHER))
    building = await store.journal.advance(cut, State.BUILDING, reset)
    switching = await store.walk(building, Outcome.OK, Outcome.OK, backup="b1")
    await store.journal.migrating(switching)
    events = {name: (service, deployment, data) for name, service, deployment, data in await told(store)}
    about = (SERVICE, claimed.id)
    assert events["deployment.interrupted"] == (*about, {"state": "fetching", "interruptions": 1})
    assert events["branch.reset"] == (*about, {"branch": "main", "old": REVISION, "new": OTHER})
    assert events["deployment.migrating"] == (*about, {"revision": REVISION, "backup": "b1"})
    for stale in (store.journal.interrupted, store.journal.migrating):
        with pytest.raises(Conflict, match=f"deployment {claimed.id} is no longer fetching"):
            await stale(claimed)


async def test_with_the_switch_and_only_then_interruptions_are_counted_anew(store: Store) -> None:
    await store.push()
    deployment = await store.journal.interrupted(await store.claim())
    counts = []
    for to in (State.BUILDING, State.BACKING_UP, State.SWITCHING):
        deployment = await store.journal.advance(deployment, to, Change(revision=REVISION))
        counts.append(deployment.interruptions)
    assert counts == [1, 1, 0]
    deployment = await store.journal.interrupted(deployment)
    assert (await store.journal.advance(deployment, State.VERIFYING, Change())).interruptions == 1


async def test_what_is_overtaken_names_who_took_its_place(store: Store) -> None:
    first = (await store.push(b"one")).deployments[0].id
    second = (await store.push(b"two", OTHER)).deployments[0].id
    third = (await store.push(b"three", "c" * 40)).deployments[0].id
    claimed = await store.claim()
    assert claimed.id == third
    assert [(await ended(store, one)) for one in (first, second)] == [
        (State.SUPERSEDED, "newer-queued", CODES["newer-queued"].hint, f"superseded by {third}")
    ] * 2
    skipped = (await store.push(b"four", "d" * 40)).deployments[0].id
    overtaken = Change(revision="c" * 40, overtaken=(End(skipped, "skip-deploy"),))
    await store.journal.advance(claimed, State.BUILDING, overtaken)
    assert await ended(store, skipped) == (
        State.SUPERSEDED, "skip-deploy", CODES["skip-deploy"].hint, "skip-deploy",
    )  # fmt: skip


async def ended(store: Store, identity: str) -> tuple[State, str, str, str]:
    found = await store.journal.deployment(identity)
    assert found is not None
    return found.state, found.reason, found.hint, found.steps[-1].detail


async def test_an_overview_has_all_of_it(store: Store, clock: FakeClock) -> None:
    empty = await store.services.overview(SERVICE)
    assert (empty.live, empty.last, empty.current, empty.hold, empty.quarantine) == (
        None,
        None,
        None,
        None,
        (),
    )
    await store.push(b"one")
    await store.walk(await store.claim(), *OK4, Outcome.OK, live=OLD)
    clock.advance(5)
    bounced = await store.bounce(OTHER, b"two")
    await store.services.hold(SERVICE, actor="me", reason="wait")
    clock.advance(5)
    await store.services.hold(SERVICE, actor="you")
    waiting = await store.ask(revision="c" * 40, force=True)
    found = await store.services.overview(SERVICE)
    at = START + timedelta(seconds=5)
    assert found.live == Live(revision=REVISION, release=OLD.name, since=at, proven=True)
    assert found.live == await store.services.live(SERVICE)
    assert found.hold == Hold(since=at, reason="wait", actor="me") == await store.services.hold_of(SERVICE)
    assert found.quarantine == (
        Quarantine(revision=OTHER, config_hash=HASH, reason="health-timeout", deployment=bounced.id, at=at),
    )
    assert found.last is not None
    assert found.last.id == bounced.id
    assert found.current == waiting
    assert await store.services.quarantined(SERVICE, OTHER, HASH)
    assert not await store.services.quarantined(SERVICE, REVISION, HASH)
    assert not await store.services.quarantined(SERVICE, OTHER, "another")
    assert not await store.services.quarantined("other", OTHER, HASH)
    assert await store.services.hold_of("other") is None
    assert await store.services.live("other") is None
    assert ("service.held", SERVICE, None, {"reason": "wait", "actor": "me"}) in await told(store)
    await store.services.resume(SERVICE, actor="you", config_hash=HASH)
    await store.services.resume(SERVICE, actor="you", config_hash=HASH)
    resumed = [event for event in await told(store) if event[0] == "service.resumed"]
    assert resumed == [("service.resumed", SERVICE, None, {"actor": "you"})]
    await store.services.hold(SERVICE, actor="me")
    again = await store.services.hold_of(SERVICE)
    assert again is not None
    assert again.reason == "held by a person"


async def test_what_served_and_cannot_be_gone_back_to_is_live_no_more(store: Store) -> None:
    await store.push(b"one")
    await store.walk(await store.claim(), *OK4, Outcome.OK, live=OLD)
    await store.push(b"two", OTHER)
    back = await store.walk(await store.claim(), *OK4, Outcome.FAILED, reason="health-timeout")
    still = await store.services.live(SERVICE)
    assert still is not None
    await store.walk(back, Outcome.NO_FALLBACK, reason="no-fallback")
    assert await store.services.live(SERVICE) is None


async def test_a_hold_by_the_guard_says_how_many_and_nobodys_name(store: Store) -> None:
    await store.bounce(OTHER, b"one")
    await store.bounce("c" * 40, b"two")
    assert (
        "service.held",
        SERVICE,
        None,
        {"reason": "2 rollbacks within an hour", "actor": None},
    ) in await told(store)


async def test_a_page_ends_where_the_next_one_begins(store: Store) -> None:
    made = [(await store.push(str(n).encode(), f"{n:040}", id=f"g{n}")).deployments[0].id for n in range(5)]
    for page_of, names in (
        (store.journal.deployments, made),
        (store.inbox.deliveries, [f"g{n}" for n in range(5)]),
    ):
        seen, before = [], None
        for size in (2, 2, 1):
            page = await page_of(limit=2, before=before)
            assert len(page.items) == size
            seen += [item.id for item in page.items]
            before = page.next
        assert before is None
        assert seen == names[::-1]
    assert (await store.journal.deployments(limit=5)).next is None
    events = await store.events.page(3)
    assert [event.id for event in events.items] == [10, 9, 8]
    assert [event.id for event in (await store.events.page(3, events.next)).items] == [7, 6, 5]
    assert [event.id for event in await store.events.after(7, 2)] == [8, 9]
    for wrong in ("", "x", "-1", "1.0", "٣", "9" * 19):
        with pytest.raises(Refused) as refused:
            await store.events.page(3, wrong)
        assert (refused.value.status, refused.value.code) == (400, "request-invalid")


async def test_an_event_of_its_own_is_recorded_whole(store: Store) -> None:
    await store.events.record("reload.done", START, service=SERVICE, data={"a": 1})
    (event,) = await store.events.after(0, 9)
    assert (event.at, event.name, event.service, event.deployment, event.data) == (
        START, "reload.done", SERVICE, None, {"a": 1},
    )  # fmt: skip


# --- backups and restores


def a_backup(identity: str, **differences: Any) -> Backup:
    values: dict[str, Any] = {
        "id": identity, "service": SERVICE, "deployment": "d1", "at": START, "state": "ok",
        "bytes": 7, "stored_bytes": 3,
    }  # fmt: skip
    return Backup(**(values | differences))


async def test_a_backups_row_comes_and_goes_with_its_events(
    store: Store, database: Database, clock: FakeClock
) -> None:
    rows = BackupRows(database, clock)
    first, second = a_backup("b1"), a_backup("b2", at=START + timedelta(seconds=1), state="partial")
    other = a_backup("b3", service="api", deployment=None)
    for backup in (first, second, other):
        await rows.record(backup)
    assert await rows.rows(SERVICE) == [second, first]
    assert await rows.rows() == [other, second, first]
    assert (await rows.find("b1"), await rows.find("b9")) == (first, None)
    await rows.record(changed := structs.replace(first, state="failed"))
    assert await rows.find("b1") == changed
    await rows.forget("b2")
    await rows.forget("b2")
    size = {"bytes": 7, "stored_bytes": 3}
    assert await told(store) == [
        ("backup.ok", SERVICE, "d1", {"backup": "b1", **size}),
        ("backup.partial", SERVICE, "d1", {"backup": "b2", **size}),
        ("backup.ok", "api", None, {"backup": "b3", **size}),
        ("backup.failed", SERVICE, "d1", {"backup": "b1", **size}),
        ("backup.gone", SERVICE, None, {"backup": "b2"}),
    ]
    assert (await store.services.overview(SERVICE)).last_backup == changed


async def test_a_restore_is_found_by_each_of_its_names(
    store: Store, database: Database, clock: FakeClock
) -> None:
    rows = RestoreRows(database, clock)
    first = Restore(id="r1", service=SERVICE, backup="b1", state=Standing.STAGING, at=START, actor="me")
    second = structs.replace(first, id="r2", deployment="d2", actor=None)
    await rows.begin(first)
    await rows.begin(second)
    assert await rows.of(SERVICE) == await rows.unfinished(SERVICE) == [second, first]
    assert (await rows.find("r1"), await rows.find("r9")) == (first, None)
    assert (await rows.of_deployment("d2"), await rows.of_deployment("d1")) == (second, None)
    assert await BackupRows(database, clock).needed(SERVICE, []) == {"b1"}
    failed = structs.replace(first, state=Standing.FAILED, reason="no-space")
    assert await rows.advance(first, failed) == failed
    await rows.advance(failed, counted := structs.replace(failed, files=2))
    assert await rows.find("r1") == counted
    assert await rows.unfinished(SERVICE) == [second]
    with pytest.raises(Conflict, match="restore r1 is no longer staging"):
        await rows.advance(first, failed)
    assert await told(store) == [
        ("restore.staging", SERVICE, None, {"restore": "r1", "backup": "b1", "actor": "me"}),
        ("restore.staging", SERVICE, "d2", {"restore": "r2", "backup": "b1"}),
        (
            "restore.failed",
            SERVICE,
            None,
            {"restore": "r1", "backup": "b1", "reason": "no-space", "actor": "me"},
        ),
    ]


async def test_the_newest_proof_counts(store: Store, database: Database, clock: FakeClock) -> None:
    rows = RestoreRows(database, clock)
    proofs = [Proof(id="b1", at=START, seconds=took, files=4, bytes=9, tables={}) for took in (1.5, 2.5)]
    for proof in proofs:
        await rows.prove(SERVICE, proof)
    assert (await store.services.overview(SERVICE)).last_proven_restore == proofs[-1]
    assert (await told(store))[-1] == (
        "backup.proven",
        SERVICE,
        None,
        {"backup": "b1", "seconds": 2.5, "files": 4},
    )


async def test_a_rollback_is_told_as_a_persons_wish(
    store: Store, database: Database, clock: FakeClock
) -> None:
    await store.push(b"one")
    await store.walk(await store.claim(), *OK4, Outcome.OK, live=OLD)
    rollbacks = Rollbacks(database, clock)
    made = await rollbacks.request(SERVICE, to=None, actor="me", reason="too slow", config_hash=HASH)
    queued = {"trigger": "manual", "actor": "me", "revision": None, "force": False, "reason": "too slow"}
    assert (await told(store))[-1] == ("deployment.queued", SERVICE, made.id, queued)
    assert (made.service, made.config_hash, made.trigger) == (
        SERVICE,
        HASH,
        Trigger(kind="manual", actor="me"),
    )
    claimed = await store.journal.claim(SERVICE, "another")
    assert claimed is not None
    assert (claimed.id, claimed.config_hash) == (made.id, "another")
    spare = await rollbacks.spare(claimed, OTHER)
    assert spare == Release(name="2-bbbbbbb", service=SERVICE, revision=OTHER, config_hash="another")
    assert await rollbacks.spare(claimed, OTHER) == spare
    assert (await rollbacks.spare(claimed, REVISION)).name == "3-aaaaaaa"
