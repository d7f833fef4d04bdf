"""Two troubles in a row: one before or after an act, and one at the very next act, which may be what handles the first.

The points are those of `test_every_point`. Each is tried with every kind of trouble that it can have (the agent is
killed, homeport has a defect, the store is full, the world refuses), twice. Of these `make test` takes every
`POINTS_STRIDE`-th, `make e2e-long` all.
"""

import inspect
import os
from dataclasses import dataclass
from itertools import product

import pytest

from agent.core.errors import StepFailed, Unavailable
from agent.core.model import Fault, State
from agent.core.pipeline import ENDS as LAST
from agent.core.ports import Builder, Probe, Releases, Runtime, Source
from agent.services.step import Saves
from agent.store.journal import Journal
from agent.store.rollbacks import Rollbacks
from agent.store.services import ServiceRows
from tests.services.test_every_point import (
    ASKED,
    ENDS,
    FIRST,
    SPARE,
    STORE,
    begin,
    defect,
    finish,
    found,
    part_of,
    prepared,
    recorded,
    told,
)
from tests.services.workshop import Killed, Workshop

pytestmark = pytest.mark.timeout(1800)

STRIDE = int(os.environ.get("POINTS_STRIDE", "37"))
TROUBLES = ("killed", "defect", "refused")
"""What a store cannot refuse it is too full for; what never refuses is killed instead."""
NEVER_REFUSE = ("probe.ask", "saves.restore_locked")

PARTS = {
    "source": Source, "releases": Releases, "builder": Builder, "runtime": Runtime, "probe": Probe, "saves": Saves,
    "journal": Journal, "services": ServiceRows, "rollbacks": Rollbacks,
}  # fmt: skip
ELSEWHERE = {
    "source.peek": "the poller asks it",
    "source.changes": "the gate asks it only where paths are chosen",
    "source.resolve": "only what a person names; see test_gate",
    "runtime.recovers": "the healer asks it; see test_healing",
    "source.parent": "only if nothing else is left to go back to; see test_rollback",
    "journal.interrupted": "only the next agent's, after the first trouble",
    "journal.request": "people ask it; see tests/crash",
    "journal.deployments": "for people",
    "journal.output": "for people",
    "journal.stop_in_order": "after the lane has gone; see test_lanes",
    "services.overview": "for people",
    "services.hold": "people ask it; see tests/crash",
    "services.resume": "people ask it; see tests/crash",
    "rollbacks.request": "people ask it; see tests/crash",
    "rollbacks.leave": "the healer asks for it; see test_probation",
    "rollbacks.waits": "only where versions run side by side; see test_side_by_side",
}


@dataclass(frozen=True)
class Pair:
    """Where the first trouble is, and which they are."""

    place: str
    phase: str
    first: str
    second: str

    def __str__(self) -> str:
        return f"{self.first} {self.phase} {self.place}, then {self.second}"


async def points(way: str) -> list[tuple[str, str]]:
    """Before and after every act of an undisturbed run, in order. What fails has no after; and nothing follows the last
    one, when the lane goes to sleep."""
    async with prepared(way) as shop:
        passed: list[tuple[str, str]] = []
        shop.wire.watch = lambda phase: passed.append((shop.wire.passed[-1], phase))
        await begin(shop, way)
        assert await shop.work()
        return list(dict.fromkeys(passed))[:-1]


def pairs(passed: list[tuple[str, str]]) -> list[Pair]:
    return [
        Pair(place, phase, first, second)
        for (place, phase), first, second in product(passed, TROUBLES, TROUBLES)
    ]


class Twice:
    """Causes the pair's troubles, once each, and keeps what they were."""

    def __init__(self, shop: Workshop, pair: Pair) -> None:
        self._wire = shop.wire
        self._pair = pair
        self.caused: list[str] = []

    def watch(self, phase: str) -> None:
        here = self._wire.passed[-1]
        if not self.caused and (here, phase) == (self._pair.place, self._pair.phase):
            self._cause(self._pair.first, here)
        elif len(self.caused) == 1 and phase == "before":
            self._cause(self._pair.second, here)

    def _cause(self, trouble: str, here: str) -> None:
        if trouble == "refused" and here.split("/")[1] in NEVER_REFUSE:
            trouble = "killed"
        self.caused.append(trouble)
        if trouble == "killed":
            raise Killed
        if trouble == "defect":
            raise defect()
        if part_of(here) in STORE:
            raise Unavailable("store-unavailable", "database or disk is full")
        raise StepFailed("disk-failed", "the disk refuses")


async def hurt(way: str, pair: Pair) -> None:
    """Goes through both, with as many agents as it takes, and looks at the end."""
    async with prepared(way) as shop:
        identity = await begin(shop, way)
        twice = Twice(shop, pair)
        shop.wire.watch = twice.watch
        starts = await finish(shop, 3)
        assert len(twice.caused) == 2, twice.caused
        assert starts == 1 + twice.caused.count("killed")
        deployment = await found(shop, identity)
        assert deployment.state in LAST - {State.BROKEN, State.SUPERSEDED}, deployment
        if deployment.fault is Fault.COMMIT:
            assert told(deployment) == ENDS[way] or way in (FIRST, SPARE), deployment
        if ENDS[way][0] is not State.SUCCEEDED:
            assert deployment.state is not State.SUCCEEDED, deployment
        if way not in ASKED:
            assert await shop.quarantined(deployment.revision or "") == (deployment.fault is Fault.COMMIT)
        if way != SPARE or deployment.state is not State.FAILED:  # else what somebody removed is still gone
            await shop.check()


@pytest.mark.parametrize("way", ENDS)
async def test_two_troubles_in_a_row_at_any_act_end_as_one_may(way: str) -> None:
    """R-PL-2, R-PL-3 in one process: one end, one end event, the right release, and nobody is blamed for the world."""
    passed = await points(way)
    every = pairs(passed)
    chosen = every[list(ENDS).index(way) % STRIDE :: STRIDE]
    for pair in chosen:
        try:
            await hurt(way, pair)
        except AssertionError as error:
            raise AssertionError(f"{way}: {pair}: {error}") from error
    print(f"{way}: {len(chosen)} of {len(every)} pairs at {len(passed)} points, all ended")


async def test_every_effect_and_every_commit_is_a_point() -> None:
    """R-PL-2: a method that somebody adds to a port or to the journal is passed by one of the ways, or named here."""
    passed = {place.split("/")[1] for way in ENDS for place in (await recorded(way))[0]}
    there = {
        f"{name}.{method}"
        for name, part in PARTS.items()
        for method, _ in inspect.getmembers(part, inspect.iscoroutinefunction)
        if not method.startswith("_")
    }
    unpassed = there - passed
    assert not unpassed - set(ELSEWHERE), f"no way passes {unpassed - set(ELSEWHERE)}"
    assert not set(ELSEWHERE) - unpassed, f"passed after all: {set(ELSEWHERE) - unpassed}"
    assert passed <= there
