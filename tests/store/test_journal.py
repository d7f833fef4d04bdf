"""Deliveries and deployments in a real SQLite file: what one transaction entails."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from agent.core.errors import Conflict, Refused
from agent.core.model import Deployment, Fault, Release, State
from agent.core.order import End
from agent.core.pipeline import Outcome, advance
from agent.store.database import Database
from agent.store.events import EventLog
from agent.store.inbox import Inbox, Wanted
from agent.store.journal import Journal
from agent.store.services import ServiceRows
from agent.store.transitions import Change, Limits, Reset
from tests.build import OTHER, REVISION, a_delivery
from tests.fakes import START, FakeClock

HASH = "0123456789abcdef"
LIMITS = Limits(max_per_hour=2)
OK4 = [Outcome.OK] * 4


class Store:
    """The parts of the store over one file, and shortcuts to walk a deployment."""

    def __init__(self, database: Database, clock: FakeClock) -> None:
        self.clock = clock
        self.inbox = Inbox(database, clock)
        self.journal = Journal(database, clock)
        self.services = ServiceRows(database, clock)
        self.events = EventLog(database)

    async def push(self, body: bytes = b"one", revision: str = REVISION, **differences: Any) -> Any:
        delivery = a_delivery(body, revision=revision, received_at=self.clock.now(), **differences)
        return await self.inbox.admit(delivery, [Wanted("scraper", revision, HASH)])

    async def ask(self, **differences: Any) -> Deployment:
        wish = {
            "requested": None, "revision": None, "force": False, "actor": "me", "config_hash": HASH,
        }  # fmt: skip
        return await self.journal.request("scraper", **(wish | differences))

    async def walk(self, deployment: Deployment, *outcomes: Outcome, **change: Any) -> Deployment:
        for outcome in outcomes:
            to = advance(deployment.state, outcome)
            last = outcome is outcomes[-1]
            found = Change(revision=deployment.revision or REVISION, **(change if last else {}))
            deployment = await self.journal.advance(deployment, to, found, LIMITS)
        return deployment

    async def claim(self) -> Deployment:
        claimed = await self.journal.claim("scraper", HASH)
        assert claimed is not None
        return claimed

    async def claim_of(self, admission: Any) -> str:
        """Claims what a delivery led to."""
        claimed = await self.claim()
        assert claimed.id == admission.deployments[0].id
        return claimed.id

    async def bounce(self, revision: str, body: bytes) -> Deployment:
        """A push that is deployed and rolled back to a release that was confirmed earlier."""
        await self.push(body, revision)
        deployment = await self.walk(await self.claim(), *[Outcome.OK] * 4)
        deployment = await self.walk(deployment, Outcome.FAILED, reason="health-timeout", fault=Fault.COMMIT)
        back = Release(name="1-aaaaaaa", service="scraper", revision=REVISION)
        return await self.walk(deployment, Outcome.OK, live=back)

    async def names(self) -> list[str]:
        return [event.name for event in await self.events.after(0, 1000)]


@pytest.fixture
def store(database: Database, clock: FakeClock) -> Store:
    """An empty store."""
    return Store(database, clock)


async def test_a_delivery_and_its_deployment_appear_together(store: Store) -> None:
    """R-RX-12."""
    admission = await store.push()
    assert admission.decision == "deploy"
    deployment = await store.journal.deployment(admission.deployments[0].id)
    assert deployment is not None
    assert (deployment.state, deployment.trigger.delivery) == (State.QUEUED, "guid-1")
    delivery = await store.inbox.delivery("guid-1")
    assert delivery is not None
    assert delivery.deployments == (deployment.id,)
    assert await store.names() == ["deployment.queued", "delivery.accepted"]


async def test_a_redelivery_returns_the_deployment_it_already_made(store: Store) -> None:
    """R-RX-13, R-RX-14, F46: the signed bytes count, not the headers."""
    first = await store.push()
    again = await store.push(id="another-guid", event="push")
    assert again.decision == "duplicate"
    assert again.deployments == first.deployments


async def test_ten_copies_at_once_make_one_deployment(store: Store) -> None:
    """R-RX-13."""
    answers = await asyncio.gather(*(store.push() for _ in range(10)))
    assert sorted(answer.decision for answer in answers) == ["deploy"] + ["duplicate"] * 9
    assert len({answer.deployments for answer in answers}) == 1
    assert len((await store.journal.deployments()).items) == 1


async def test_another_body_for_a_revision_on_its_way_is_answered_with_its_deployment(store: Store) -> None:
    first = await store.push(b"one")
    second = await store.push(b"two")
    assert second.decision == "deploy"
    assert second.deployments == first.deployments


async def test_ignored_bytes_do_not_block_the_same_bytes_later(store: Store) -> None:
    """A captured body replayed first under another event name must not make the real one a duplicate."""
    store.inbox.note(a_delivery(b"one", event="star", decision="ignored", reason="event"))
    assert (await store.push(b"one")).decision == "deploy"


@pytest.mark.parametrize(
    ("fault", "decision"),
    [(Fault.WORLD, "deploy"), (Fault.INTERRUPTED, "deploy"), (Fault.COMMIT, "duplicate")],
)
async def test_a_redelivery_renews_what_the_world_broke(store: Store, fault: Fault, decision: str) -> None:
    first = await store.push()
    await store.walk(await store.claim(), Outcome.FAILED, reason="git-unreachable", fault=fault)
    again = await store.push()
    assert again.decision == decision
    assert (again.deployments == first.deployments) == (decision == "duplicate")
    assert (await store.push()).decision == "duplicate"


@pytest.mark.parametrize(
    ("outcomes", "last"),
    [
        ([], {}),
        (["claim"], {}),
        (["claim", *OK4], {}),
        (["claim", *OK4, Outcome.OK], {"live": Release(name="1-aaaaaaa", service="scraper", revision=REVISION)}),
        (["claim", *OK4, Outcome.FAILED, Outcome.OK], {"fault": Fault.WORLD, "reason": "runtime-failed"}),
        (["claim", *OK4, Outcome.FAILED, Outcome.NO_FALLBACK], {"fault": Fault.WORLD, "reason": "no-fallback"}),
        (["claim", *OK4, Outcome.FAILED, Outcome.FAILED], {"fault": Fault.WORLD, "reason": "rollback-failed"}),
        (["claim", Outcome.CANCELLED], {"reason": "skip-deploy"}),
        (["claim", Outcome.FAILED], {"fault": Fault.COMMIT, "reason": "quarantined"}),
    ],
    ids=["queued", "fetching", "verifying", "succeeded", "rolled_back", "stopped", "broken", "superseded", "failed"],
)  # fmt: skip
async def test_a_redelivery_changes_nothing_whatever_became_of_it(
    store: Store, outcomes: list[Any], last: dict[str, Any]
) -> None:
    """CONTRACT's redelivery rules, state by state; the one exception is the test above."""
    first = await store.push()
    if outcomes:
        await store.walk(await store.claim(), *outcomes[1:], **last)
    before = (await store.journal.deployments()).items
    again = await store.push()
    assert (again.decision, again.deployments) == ("duplicate", first.deployments)
    assert (await store.journal.deployments()).items == before


async def test_the_newest_queued_one_runs_and_the_rest_is_superseded(store: Store) -> None:
    """R-RX-25, F48."""
    for number in range(20):
        await store.push(f"{number}".encode(), f"{number:040x}")
    claimed = await store.claim()
    assert claimed.revision == f"{19:040x}"
    items = (await store.journal.deployments()).items
    assert [item.state for item in items] == [State.FETCHING] + [State.SUPERSEDED] * 19
    assert await store.journal.claim("scraper", HASH) is None


async def test_a_state_changes_only_from_where_the_caller_saw_it(store: Store) -> None:
    await store.push()
    claimed = await store.claim()
    await store.walk(claimed, Outcome.OK)
    with pytest.raises(Conflict):
        await store.walk(claimed, Outcome.OK)


async def test_success_makes_a_release_live_and_confirmed(store: Store) -> None:
    await store.push()
    deployment = await store.walk(await store.claim(), *OK4)
    assert deployment.release == "1-aaaaaaa"
    release = Release(name="1-aaaaaaa", service="scraper", revision=REVISION)
    ended = await store.walk(deployment, Outcome.OK, live=release)
    assert (ended.state, ended.finished_at) == (State.SUCCEEDED, store.clock.now())
    live = await store.services.live("scraper")
    assert live is not None
    assert live.release == "1-aaaaaaa"
    assert [item.confirmed_at for item in await store.journal.releases("scraper")] == [store.clock.now()]
    assert [step.name for step in ended.steps] == [
        "queued", "fetching", "building", "backing_up", "switching", "verifying",
    ]  # fmt: skip
    assert {step.state for step in ended.steps} == {"done"}


async def test_a_rollback_quarantines_in_the_same_transaction(store: Store) -> None:
    """R-RB-2."""
    ended = await store.bounce(OTHER, b"bad")
    assert (ended.state, ended.reason) == (State.ROLLED_BACK, "health-timeout")
    assert await store.services.quarantined("scraper", OTHER, HASH)
    answer = await store.push(b"bad again", OTHER)
    assert (answer.decision, answer.reason) == ("ignored", "quarantined")
    with pytest.raises(Refused) as caught:
        await store.ask(revision=OTHER)
    assert (caught.value.status, caught.value.code) == (409, "quarantined")
    assert (await store.ask(revision=OTHER, force=True)).state is State.QUEUED


async def test_another_configuration_is_not_quarantined(store: Store) -> None:
    await store.bounce(OTHER, b"bad")
    assert (await store.ask(revision=OTHER, config_hash="another")).state is State.QUEUED


async def test_the_second_rollback_holds_and_a_resume_admits_what_was_ignored(store: Store) -> None:
    """R-RB-4, F71."""
    await store.bounce("c" * 40, b"bad one")
    assert (await store.services.overview("scraper")).hold is None
    store.clock.advance(600)
    await store.bounce("d" * 40, b"bad two")
    assert (await store.services.overview("scraper")).hold is not None
    assert "service.held" in await store.names()
    for body, revision in ((b"fix one", "e" * 40), (b"fix two", "f" * 40)):
        answer = await store.push(body, revision)
        assert (answer.decision, answer.reason) == ("ignored", "held")
    with pytest.raises(Refused, match="held"):
        await store.ask()
    admitted = await store.services.resume("scraper", actor="me", config_hash=HASH)
    assert admitted is not None
    assert admitted.revision == "f" * 40
    assert (await store.services.overview("scraper")).hold is None
    assert await store.services.resume("scraper", actor="me", config_hash=HASH) is None
    again = await store.push(b"fix two", "f" * 40)
    assert (again.decision, again.deployments[0].id) == ("duplicate", admitted.id)


async def test_after_a_resume_the_count_begins_anew(store: Store) -> None:
    for number in range(2):
        await store.bounce(f"{number:040x}", f"{number}".encode())
    store.clock.advance(60)
    await store.services.resume("scraper", actor="me", config_hash=HASH)
    store.clock.advance(60)
    await store.bounce("9" * 40, b"third")
    assert (await store.services.overview("scraper")).hold is None


async def test_a_held_service_does_not_start_what_was_queued_before(store: Store) -> None:
    await store.push()
    await store.services.hold("scraper", actor="me")
    assert await store.journal.claim("scraper", HASH) is None
    await store.ask(force=True)
    assert (await store.claim()).force


async def test_no_fallback_leaves_nothing_live(store: Store) -> None:
    """F69."""
    await store.push()
    deployment = await store.walk(await store.claim(), *OK4)
    deployment = await store.walk(deployment, Outcome.FAILED, reason="process-died", fault=Fault.COMMIT)
    ended = await store.walk(deployment, Outcome.NO_FALLBACK, reason="no-fallback")
    assert (ended.state, ended.reason) == (State.FAILED, "no-fallback")
    assert await store.services.live("scraper") is None
    assert await store.services.quarantined("scraper", REVISION, HASH)


async def test_a_rollback_through_interruptions_neither_quarantines_nor_counts(store: Store) -> None:
    for number in range(3):
        revision = f"{number:040x}"
        await store.push(revision.encode(), revision)
        deployment = await store.walk(await store.claim(), *OK4)
        deployment = await store.walk(
            deployment, Outcome.FAILED, reason="interrupted", fault=Fault.INTERRUPTED
        )
        await store.walk(deployment, Outcome.OK, live=Release(name="x", service="scraper", revision=REVISION))
        assert not await store.services.quarantined("scraper", revision, HASH)
    assert (await store.services.overview("scraper")).hold is None


async def test_an_interruption_counts_unless_the_agent_was_stopped_in_order(store: Store) -> None:
    await store.push()
    found = await store.walk(await store.claim(), Outcome.OK)
    for orderly, expected in ((False, 1), (True, 1), (False, 2)):
        if orderly:
            await store.journal.stop_in_order()
        (found,) = await store.journal.unfinished()
        found = await store.journal.interrupted(found)
        assert found.interruptions == expected
    assert [step.state for step in found.steps] == ["done", "done", *["interrupted"] * 3, "running"]


async def test_the_same_key_is_the_same_deployment(store: Store) -> None:
    """R-UI-4."""
    first = await store.ask(key="ci:1")
    await store.walk(await store.claim(), Outcome.FAILED, fault=Fault.WORLD, reason="git-unreachable")
    assert (await store.ask(key="ci:1")).id == first.id
    assert (await store.ask(key="ci:2")).id != first.id


async def test_a_list_is_paged_newest_first(store: Store) -> None:
    for number in range(5):
        await store.push(f"{number}".encode(), f"{number:040x}")
    first = await store.journal.deployments("scraper", limit=3)
    second = await store.journal.deployments("scraper", limit=3, before=first.next)
    assert [int(item.revision or "", 16) for item in (*first.items, *second.items)] == [4, 3, 2, 1, 0]
    assert second.next is None
    with pytest.raises(Refused):
        await store.journal.deployments(before="; DROP TABLE deployments")


async def test_a_wish_that_cannot_be_resolved_costs_no_accepted_delivery(store: Store) -> None:
    """A person asks for a tag that does not exist while a push waits."""
    push = (await store.push()).deployments[0].id
    await store.ask(requested="no-such-tag")
    mistaken = await store.claim()
    await store.walk(mistaken, Outcome.FAILED, reason="revision-unknown", fault=Fault.WORLD)
    assert (await store.claim()).id == push


async def test_what_a_deployment_overtakes_ends_in_the_same_transaction(store: Store) -> None:
    push = (await store.push()).deployments[0].id
    await store.ask(requested="v1")
    wished = await store.claim()
    assert (await store.journal.deployment(push)).state is State.QUEUED  # type: ignore[union-attr]
    await store.walk(wished, Outcome.OK, overtaken=(End(push, "newer-queued", wished.id),))
    ended = await store.journal.deployment(push)
    assert ended is not None
    assert (ended.state, ended.reason) == (State.SUPERSEDED, "newer-queued")
    assert ended.hint
    assert ended.steps[-1].detail == f"superseded by {wished.id}"


async def test_what_is_not_queued_any_more_is_not_overtaken(store: Store) -> None:
    first = await store.claim_of(await store.push())
    await store.ask(requested="v1")
    second = await store.claim()
    await store.walk(
        second, Outcome.OK, overtaken=(End(first, "newer-queued", second.id), End("gone", "x", "y"))
    )
    assert (await store.journal.deployment(first)).state is State.FETCHING  # type: ignore[union-attr]


async def test_what_a_person_asked_for_is_taken_up_first_and_in_turn(store: Store) -> None:
    push = (await store.push()).deployments[0].id
    wished = [
        (await store.ask(requested=name, force=force)).id for name, force in (("v1", True), ("v2", False))
    ]
    later = (await store.push(b"two", OTHER)).deployments[0].id
    for expected in (*wished, later):
        claimed = await store.claim()
        assert claimed.id == expected
        await store.walk(claimed, Outcome.FAILED, reason="revision-unknown", fault=Fault.WORLD)
    assert (await store.journal.deployment(push)).state is State.SUPERSEDED  # type: ignore[union-attr]


async def test_of_the_very_same_wish_the_newest_stands_for_all(store: Store) -> None:
    """Else each of them would fetch, and fail, by itself while the network is gone."""
    pushed = [(b"one", REVISION), (b"two", OTHER), (b"three", "c" * 40)]
    wished = [(await store.push(*push)).deployments[0].id for push in pushed]
    assert (await store.claim()).id == wished[-1]
    states = [item.state for item in (await store.journal.deployments()).items]
    assert states == [State.FETCHING, State.SUPERSEDED, State.SUPERSEDED]


async def test_what_a_person_forced_is_not_the_same_as_what_came_later(store: Store) -> None:
    forced = await store.ask(force=True)
    await store.ask()
    assert (await store.claim()).id == forced.id
    assert [item.state for item in (await store.journal.deployments()).items] == [
        State.QUEUED,
        State.FETCHING,
    ]


async def test_while_frozen_only_a_persons_wish_is_claimed(store: Store) -> None:
    push = (await store.push()).deployments[0].id
    assert await store.journal.claim("scraper", HASH, frozen=True) is None
    wished = await store.ask(requested="v1")
    claimed = await store.journal.claim("scraper", HASH, frozen=True)
    assert claimed is not None
    assert claimed.id == wished.id
    assert (await store.claim()).id == push


async def test_a_person_who_asks_for_what_is_queued_makes_it_a_persons(store: Store) -> None:
    """F95: one deployment, both see the same; and what a person wants, no filter and no freeze stops."""
    push = (await store.push()).deployments[0].id
    assert not (await store.journal.deployment(push)).person  # type: ignore[union-attr]
    joined = await store.ask(requested=REVISION, revision=REVISION, reason="now")
    assert (joined.id, joined.person) == (push, True)
    event = (await store.events.page(1)).items[0]
    assert (event.name, event.deployment) == ("deployment.joined", push)
    assert event.data == {"actor": "me", "reason": "now"}
    assert (await store.journal.claim("scraper", HASH, frozen=True)).id == push  # type: ignore[union-attr]


@pytest.mark.parametrize("first", ["push", "person"])
async def test_a_delivery_and_a_person_at_once_are_one_deployment(store: Store, first: str) -> None:
    """F95, the race: whoever of them is faster, one row."""
    calls = [store.push(), store.ask(requested=REVISION, revision=REVISION)]
    answers = await asyncio.gather(*(calls if first == "push" else reversed(calls)))
    ids = {answer.id if isinstance(answer, Deployment) else answer.deployments[0].id for answer in answers}
    (made,) = (await store.journal.deployments()).items
    assert ids == {made.id}
    assert made.person


async def test_what_a_person_joined_in_the_last_instant_is_not_passed_over(store: Store) -> None:
    """The gate had read it as automatic: it is handed back, and decided anew."""
    await store.push()
    claimed = await store.claim()
    joined = await store.ask(requested=REVISION, revision=REVISION)
    assert joined.id == claimed.id
    same = await store.journal.advance(claimed, State.SUPERSEDED, Change(reason="skip-deploy"))
    assert (same.state, same.person) == (State.FETCHING, True)
    ended = await store.journal.advance(same, State.SUPERSEDED, Change(reason="newer-queued"))
    assert ended.state is State.SUPERSEDED


async def test_what_nobody_has_joined_is_passed_over(store: Store) -> None:
    await store.push()
    ended = await store.journal.advance(await store.claim(), State.SUPERSEDED, Change(reason="skip-deploy"))
    assert (ended.state, ended.person) == (State.SUPERSEDED, False)


async def test_what_a_person_joined_while_it_waited_is_not_passed_over_either(store: Store) -> None:
    await store.push(b"other", OTHER)
    wished = await store.ask(requested="v1")
    claimed = await store.claim()
    assert claimed.id == wished.id
    waiting = await store.ask(requested=OTHER, revision=OTHER)
    await store.walk(claimed, Outcome.OK, overtaken=(End(waiting.id, "paths-unchanged"),))
    assert (await store.journal.deployment(waiting.id)).state is State.QUEUED  # type: ignore[union-attr]


async def test_a_reset_is_told_with_both_revisions(store: Store) -> None:
    """R-RX-24, F36."""
    await store.push()
    await store.walk(await store.claim(), Outcome.OK, reset=Reset("main", OTHER, REVISION))
    (event,) = [event for event in (await store.events.page(50)).items if event.name == "branch.reset"]
    assert event.data == {"branch": "main", "old": OTHER, "new": REVISION}


async def test_a_redelivery_while_held_keeps_its_deployment(store: Store) -> None:
    first = await store.push()
    await store.walk(await store.claim(), Outcome.FAILED, reason="git-unreachable", fault=Fault.WORLD)
    await store.services.hold("scraper", actor="me")
    for _ in range(3):
        again = await store.push()
        assert (again.decision, again.deployments) == ("duplicate", first.deployments)
    resumed = await store.services.resume("scraper", actor="me", config_hash=HASH)
    assert resumed is not None
    assert resumed.revision == REVISION


async def test_a_key_is_kept_also_when_its_wish_joined_a_deployment(store: Store) -> None:
    first = await store.ask(revision=REVISION, requested=REVISION)
    joined = await store.ask(revision=REVISION, requested=REVISION, key="ci 1")
    assert joined.id == first.id
    await store.walk(await store.claim(), Outcome.FAILED, reason="git-unreachable", fault=Fault.WORLD)
    assert (await store.ask(revision=REVISION, requested=REVISION, key="ci 1")).id == first.id


async def test_a_resume_under_a_wrong_clock_does_not_switch_the_guard_off(store: Store) -> None:
    """F53: the Pi's clock was a year ahead when the person resumed."""
    now = store.clock.now()
    await store.services.hold("scraper", actor="me")
    store.clock.set_wall(now + timedelta(days=365))
    await store.services.resume("scraper", actor="me", config_hash=HASH)
    store.clock.set_wall(now)
    for number in range(2):
        await store.bounce(f"{number:040x}", f"{number}".encode())
    assert (await store.services.overview("scraper")).hold is not None


async def test_a_rollback_under_a_clock_that_ran_ahead_holds_nothing_a_month_later(store: Store) -> None:
    """F53: it counts as long as it may have been within the hour, and no longer."""
    now = store.clock.now()
    store.clock.set_wall(now + timedelta(days=365))
    await store.bounce(f"{1:040x}", b"1")
    store.clock.set_wall(now)
    await store.push(b"2", f"{2:040x}")
    await store.walk(await store.claim(), Outcome.FAILED, reason="git-unreachable", fault=Fault.WORLD)
    store.clock.advance(30 * 86400)
    await store.bounce(f"{3:040x}", b"3")
    assert (await store.services.overview("scraper")).hold is None
    await store.bounce(f"{4:040x}", b"4")
    assert (await store.services.overview("scraper")).hold is not None


async def test_releases_come_in_the_order_in_which_they_were_begun_whatever_the_clock_said(
    store: Store,
) -> None:
    """F53: also the tenth after the ninth."""
    for number in range(11):
        store.clock.set_wall(START - timedelta(days=number))
        await store.push(f"{number}".encode(), f"{number:040x}")
        await store.walk(
            await store.claim(), Outcome.OK, Outcome.FAILED, reason="build-failed", fault=Fault.COMMIT
        )
    names = [release.name for release in await store.journal.releases("scraper")]
    assert names == [f"{number + 1}-0000000" for number in range(11)]


async def test_a_failed_rollback_leaves_the_live_release_unproven(store: Store) -> None:
    """R-RB-5."""
    await store.push()
    deployment = await store.walk(await store.claim(), *OK4)
    deployment = await store.walk(deployment, Outcome.FAILED, reason="process-died", fault=Fault.COMMIT)
    back = Release(name="0-aaaaaaa", service="scraper", revision=OTHER)
    ended = await store.walk(deployment, Outcome.FAILED, reason="rollback-failed", live=back)
    live = await store.services.live("scraper")
    assert live is not None
    assert (ended.state, live.release, live.proven) == (State.BROKEN, "0-aaaaaaa", False)


# --- builds and migrations


async def building(store: Store) -> Deployment:
    await store.push()
    return await store.walk(await store.claim(), Outcome.OK)


def named(deployment: Deployment, **values: Any) -> Release:
    assert deployment.release is not None
    return Release(name=deployment.release, service="scraper", revision=REVISION, config_hash=HASH, **values)


async def test_what_a_release_is_made_from_is_kept_and_can_be_corrected(store: Store) -> None:
    deployment = await building(store)
    for recipe, builder in (("r1", "0-abcdef0"), ("r1", "0-abcdef0"), ("r2", ""), ("", "")):
        await store.journal.made_from(named(deployment, recipe=recipe, built_by=builder))
        (found,) = await store.journal.releases("scraper")
        assert (found.recipe, found.built_by) == (recipe, builder)


async def test_that_the_data_is_about_to_be_migrated_is_committed_with_its_event(store: Store) -> None:
    """R-RB-9, F8."""
    deployment = await store.walk(await building(store), Outcome.OK, Outcome.OK, backup="b1")
    assert not deployment.migrated
    for _ in range(2):
        await store.journal.migrating(deployment)
    now = await store.journal.deployment(deployment.id)
    assert now is not None
    assert now.migrated
    assert now.state is State.SWITCHING
    (event, _) = [
        event for event in await store.events.after(0, 1000) if event.name == "deployment.migrating"
    ]
    assert (event.deployment, event.data) == (deployment.id, {"revision": REVISION, "backup": "b1"})
    ended = await store.walk(now, Outcome.MIGRATE_FAILED, reason="migrate-failed", fault=Fault.COMMIT)
    assert (ended.state, ended.migrated) == (State.FAILED, True)
    assert await store.services.quarantined("scraper", REVISION, HASH)
    with pytest.raises(Conflict):
        await store.journal.migrating(now)


async def test_what_a_running_step_printed_stands_where_its_output_will(store: Store) -> None:
    deployment = await building(store)
    output = store.journal.output
    assert await output(deployment.id, (State.BUILDING, "so far")) == "--- building\nso far\n"
    assert await output(deployment.id, (State.FETCHING, "another step's")) == ""
    deployment = await store.walk(deployment, Outcome.OK, output="all of it")
    assert await output(deployment.id, (State.BUILDING, "so far")) == "--- building\nall of it\n"
    running = await output(deployment.id, (State.BACKING_UP, "next"))
    assert running == "--- building\nall of it\n--- backing_up\nnext\n"
    assert await output("nobody", (State.BUILDING, "x")) is None


async def test_the_output_of_each_step_keeps_its_own_indent(store: Store) -> None:
    deployment = await building(store)
    deployment = await store.walk(deployment, Outcome.OK, output="  indented\n\n")
    assert await store.journal.output(deployment.id) == "--- building\n  indented\n"


async def test_what_is_unfinished_is_told_oldest_first_without_what_waits(store: Store) -> None:
    await store.push()
    first = await store.claim()
    await store.push(b"two", OTHER)
    assert await store.journal.unfinished() == [await store.journal.deployment(first.id)]
