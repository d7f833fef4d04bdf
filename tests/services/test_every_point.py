"""At every act of a deployment something goes wrong: each time it ends as it must, once, with the right one running.

The points are recorded from a run without trouble, so that none is forgotten. Here the agent dies as an exception, in
one process and fast; the real SIGKILL and the real power cut are `tests/crash`.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.errors import StepFailed, Unavailable
from agent.core.model import Deployment, Fault, State
from tests.services.workshop import SERVICE, Killed, Wire, Workshop, a_workshop

PHASES = ("before", "after")
STORE = ("journal", "services", "rollbacks")

GOOD, SICK, CRASH, UNBUILT, FIRST = "good", "sick", "crash", "unbuilt", "first"
SPARE, BACK, NAMED, REFUSED, BLAMED = "spare", "back", "named", "refused", "blamed"
ASKED = (BACK, NAMED, REFUSED, BLAMED)
UNMIGRATED, TIDIED = "unmigrated", "tidied"
ENDS = {
    GOOD: (State.SUCCEEDED, "", None),
    SICK: (State.ROLLED_BACK, "health-timeout", Fault.COMMIT),
    CRASH: (State.ROLLED_BACK, "process-died", Fault.COMMIT),
    UNBUILT: (State.FAILED, "build-failed", Fault.COMMIT),
    FIRST: (State.FAILED, "no-fallback", Fault.COMMIT),
    SPARE: (State.ROLLED_BACK, "health-timeout", Fault.COMMIT),
    BACK: (State.SUCCEEDED, "", None),
    NAMED: (State.SUCCEEDED, "", None),
    REFUSED: (State.FAILED, "release-changed", Fault.WORLD),
    BLAMED: (State.ROLLED_BACK, "workflow-failed", Fault.COMMIT),
    UNMIGRATED: (State.FAILED, "migrate-failed", Fault.COMMIT),
    TIDIED: (State.SUCCEEDED, "", None),
}

DEPLOY = {
    "keep_releases": 1,
    "build": {"commands": ["make"], "reuse": {"key": ["lock"], "paths": ["deps"]}},
    "migrate": ["./migrate"],
}
"""Dependencies are linked from the first release that built them, and the data is migrated before each switch."""
BUILD = "write deps x\nsay built"
MIGRATED = {SICK, CRASH, FIRST, SPARE, UNMIGRATED}
"""What failed after it had begun to migrate the data."""


async def begin(shop: Workshop, way: str) -> str:
    """What is deployed: a mood; a build or a migration that fails; a sick one with nothing to go back to, or with
    nothing on the disk; a good one after which the oldest release goes; or what a person wants to go back to, or a
    workflow leads back from."""
    if way == BLAMED:
        return (await shop.failed((await shop.all())[0].revision or "")).deployments[0].id
    if way in ASKED:
        return (await shop.go_back(None if way == BACK else "1-" + (await oldest(shop))[:7])).id
    mood = {UNBUILT: GOOD, FIRST: SICK, SPARE: SICK, UNMIGRATED: GOOD, TIDIED: GOOD}.get(way, way)
    migrate = "say migrating\nfail" if way == UNMIGRATED else "say migrated"
    build, lock = (
        ("fail", "2") if way == UNBUILT else (BUILD, "1")
    )  # only a new lock file and the first one build
    await shop.push(mood, build, lock=lock, migrate=migrate)
    return (await shop.all())[0].id


async def oldest(shop: Workshop) -> str:
    return (await shop.all())[-1].revision or ""


async def quarantined(shop: Workshop, way: str) -> set[str]:
    """Which revisions must be in quarantine at the end."""
    every = await shop.all()
    if way in (BACK, NAMED):
        return {every[1].revision or ""}
    return {every[0].revision or ""} if ENDS[way][2] is Fault.COMMIT else set()


@asynccontextmanager
async def prepared(way: str) -> AsyncIterator[Workshop]:
    """A workshop where two good releases were deployed, unless it is to be the first."""
    async with a_workshop(deploy=DEPLOY) as shop:
        if way != FIRST:
            await shop.deploy(build=BUILD, lock="0" if way == TIDIED else "1")
            await shop.deploy(build=BUILD, lock="1")
            assert shop.disk.ran[0] == f"build 1-{(await oldest(shop))[:7]}"
            assert len(shop.disk.ran) == (2 if way == TIDIED else 1)
        if way == SPARE:
            shop.releases.lose_all()
        if way == REFUSED:
            shop.disk.trees[shop.releases.path(f"1-{(await oldest(shop))[:7]}")]["n"] = "edited"
        shop.wire.forget()
        yield shop


async def recorded(way: str) -> tuple[list[str], list[str]]:
    """Every act of an undisturbed deployment, in order, and what the runtime did."""
    async with prepared(way) as shop:
        before = len(shop.runtime.acts)
        identity = await begin(shop, way)
        assert await shop.work()
        assert told(await found(shop, identity)) == ENDS[way]
        return list(shop.wire.passed), shop.runtime.acts[before:]


async def found(shop: Workshop, identity: str) -> Deployment:
    deployment = await shop.journal.deployment(identity)
    assert deployment is not None
    return deployment


def told(deployment: Deployment) -> tuple[State, str, Fault | None]:
    return deployment.state, deployment.reason, deployment.fault


def part_of(place: str) -> str:
    return place.split("/")[1].partition(".")[0]


async def finish(shop: Workshop, starts: int) -> int:
    """Starts the agent until it comes to rest; returns how often that was."""
    for number in range(1, starts + 1):
        if await shop.work():
            return number
    raise AssertionError(f"not at rest after {starts} starts")


async def agrees(shop: Workshop, identity: str, way: str) -> None:
    """The deployment ended as it does without trouble, and everything fits."""
    deployment = await found(shop, identity)
    assert told(deployment) == ENDS[way]
    assert deployment.migrated == (way in MIGRATED or way in (GOOD, TIDIED))
    assert ("was migrated" in deployment.hint) == (way in MIGRATED)
    overview = await shop.services.overview(SERVICE)
    assert {item.revision for item in overview.quarantine} == await quarantined(shop, way)
    assert not await shop.held()
    await shop.check()


def defect() -> RuntimeError:
    return RuntimeError("a defect of homeport")


@pytest.mark.parametrize("way", ENDS)
@pytest.mark.parametrize("error", [Killed, defect])
async def test_a_kill_or_a_defect_at_any_act_changes_no_end(
    way: str, error: Callable[[], BaseException]
) -> None:
    """R-PL-2 in one process: the next agent, or the lane that the supervisor starts again, goes on.

    After an act is the same as before the next one: nobody catches a kill or a defect in between.
    """
    places, _ = await recorded(way)
    for place in places:
        async with prepared(way) as shop:
            shop.wire.raises(place, "before", error)
            identity = await begin(shop, way)
            starts = await finish(shop, 2)
            with naming(shop.wire):
                assert shop.wire.done == [f"{place}@before"]
                assert starts == (2 if error is Killed else 1)
                await agrees(shop, identity, way)


@contextmanager
def naming(wire: Wire) -> Iterator[None]:
    """Adds to a failure where it was provoked."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{wire.done}: {error}\n{wire.passed}") from error


def full() -> Unavailable:
    return Unavailable("store-unavailable", "database or disk is full")


@pytest.mark.parametrize("way", ENDS)
@pytest.mark.parametrize("times", [1, 3])
async def test_a_store_that_fails_for_a_while_changes_nothing_but_the_time(way: str, times: int) -> None:
    """The same end, and the runtime was not touched once more than without trouble."""
    places, acts = await recorded(way)
    for place in places:
        if part_of(place) not in STORE:
            continue
        for phase in PHASES:
            async with prepared(way) as shop:
                before = len(shop.runtime.acts)
                shop.wire.raises(place, phase, full, times)
                identity = await begin(shop, way)
                assert await finish(shop, 1) == 1
                assert shop.wire.done
                with naming(shop.wire):
                    await agrees(shop, identity, way)
                    if way != CRASH:  # each attempt at the switch starts anew what has died meanwhile
                        assert shop.runtime.acts[before:] == acts


def refused() -> StepFailed:
    return StepFailed("disk-failed", "the disk refuses")


@pytest.mark.parametrize("way", [GOOD, SICK, BACK])
async def test_the_worlds_refusal_at_any_act_ends_as_its_state_says(way: str) -> None:
    """R-RB-6: never blamed on the commit; and what the commit did wrong is never blamed on the world."""
    places, _ = await recorded(way)
    for place in places:
        if part_of(place) in (*STORE, "probe") or "restore_locked" in place:  # these never refuse
            continue
        for phase in PHASES:
            async with prepared(way) as shop:
                acts = list(shop.runtime.acts)
                live = await shop.live()
                shop.wire.raises(place, phase, refused)
                identity = await begin(shop, way)
                assert await finish(shop, 1) == 1
                with naming(shop.wire):
                    await refused_well(shop, identity, place, way)
                    if switches_nothing(place):
                        assert shop.runtime.acts == acts
                        assert await shop.live() == live
                    await shop.check()


async def refused_well(shop: Workshop, identity: str, place: str, way: str) -> None:
    deployment = await found(shop, identity)
    state, act = place.split("/")[:2]
    if switches_nothing(place):
        assert told(deployment) == (State.FAILED, "disk-failed", Fault.WORLD)
    elif state == "switching" or (state == "verifying" and act != "runtime.output"):
        assert told(deployment) == (State.ROLLED_BACK, "disk-failed", Fault.WORLD)
    else:  # on the way back it is tried again; before and after the deployment it is of no weight
        assert told(deployment) == ENDS[way]
    if way not in ASKED and deployment.revision is not None:
        assert await shop.quarantined(deployment.revision) == (deployment.fault is Fault.COMMIT)


def switches_nothing(place: str) -> bool:
    """Whether the old version serves on, untouched. A migration comes first in `switching`."""
    migrates = place in ("switching/releases.current/1", "switching/builder.migrate/1")
    return migrates or place.partition("/")[0] in ("fetching", "building", "backing_up")


@st.composite
def troubles(draw: st.DrawFn) -> tuple[str, list[tuple[int, str, str]]]:
    """A way, and some troubles: at which act (counted over the whole run), in which phase, of which kind."""
    way = draw(st.sampled_from(list(ENDS)))
    trouble = st.tuples(
        st.integers(0, 60), st.sampled_from(PHASES), st.sampled_from(["killed", "defect", "full", "reboot"])
    )
    return way, draw(st.lists(trouble, min_size=2, max_size=4))


@settings(max_examples=80, deadline=None)
@given(troubles())
async def test_several_troubles_in_a_row_still_converge(case: tuple[str, list[tuple[int, str, str]]]) -> None:
    """R-PL-3 in one process: a legal end after at most one start more than there were kills."""
    way, planned = case
    async with prepared(way) as shop:
        identity = await begin(shop, way)
        counted = Counted(shop, planned)
        shop.wire.watch = counted.watch
        kills = sum(kind in ("killed", "reboot") for _, _, kind in planned)
        await finish(shop, kills + 1)
        deployment = await found(shop, identity)
        if way != SPARE or deployment.state is not State.FAILED:  # else what somebody removed is still gone
            await shop.check()
        interrupted = {
            (State.FAILED, "interrupted", Fault.INTERRUPTED),
            (State.ROLLED_BACK, "interrupted", Fault.INTERRUPTED),
            (State.FAILED, "no-fallback", Fault.INTERRUPTED),
        }
        assert told(deployment) in ({ENDS[way]} if way in ASKED else interrupted | {ENDS[way]})
        assert await shop.quarantined(deployment.revision or "") == (deployment.fault is Fault.COMMIT)
        if way in (GOOD, TIDIED, UNBUILT, UNMIGRATED, *ASKED):
            assert not await shop.held()


class Counted:
    """Troubles at acts that are counted over several agents."""

    def __init__(self, shop: Workshop, planned: list[tuple[int, str, str]]) -> None:
        self._shop = shop
        self._planned = list(planned)
        self._count = 0

    def watch(self, phase: str) -> None:
        self._count += phase == "before"
        for trouble in self._planned:
            if self._count > trouble[0] and phase == trouble[1]:
                self._planned.remove(trouble)
                self._count = 0
                self._cause(trouble[2])

    def _cause(self, kind: str) -> None:
        match kind:
            case "full":
                if self._shop.wire.passed and part_of(self._shop.wire.passed[-1]) in STORE:
                    raise full()
            case "defect":
                raise defect()
            case "reboot":
                self._shop.runtime.reboot()
                raise Killed
            case _:
                raise Killed
