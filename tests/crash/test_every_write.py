"""R-PL-1: the plug is pulled at whatever the agent writes, and what the device had not written is lost as well.

The points are recorded, kind by kind (`stage.KINDS`): here each act has one cut, in turn before, in the middle of and
after it, and each kind has one when its answer has just arrived. `make e2e-long` pulls the plug at random.
"""

import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest

from tests.crash.plug import a_plug
from tests.crash.stage import ANSWER, KINDS, Cut, Stage, a_stage
from tests.crash.sweep import PHASES, end_services

FRESH = ("first", "first-crash")
"""These begin with nothing; the others with two good releases."""
TIDYING = ("forget", "remove", "reclaim")
"""Acts for which something must have become old."""
NAMED = {
    "archivestore.create": "mid",  # F3
    "backuprows.record": "before",  # F4
    "source.fetch": "mid",  # F5
    "builder.build": "mid",  # F6
    "releases.seal": "mid",  # F7
    "builder.migrate": "mid",  # F8
    "releases.point": "before",  # F9
    "runtime.start": "before",  # F10
    "archivestore.reclaim": "mid",  # F14
    "releases.remove": "mid",  # F14
    "reloading.reload": "mid",  # F15
}
"""In which phase of an act the fault matrix wants its cut; the other acts take turns."""
MIDDLES = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032)
AGAIN = 0.15
"""So many of the random cuts are followed by another one in the recovery."""
CUTS = int(os.environ.get("RANDOM_CUTS", "5"))
SEED = int(os.environ.get("RANDOM_SEED", "1"))

pytestmark = [pytest.mark.root, pytest.mark.timeout(1800 + 60 * CUTS)]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with a_plug() as plug:
        made = a_stage(plug)
        try:
            yield made
        finally:
            made.home.end()
            end_services(made.home)


@pytest.fixture(scope="module")
def points(stage: Stage) -> dict[str, list[str]]:
    """Every point of every kind; those that begin with nothing come last."""
    return {kind: stage.record(kind) for kind in sorted(KINDS, key=lambda kind: kind in FRESH)}


def act_of(point: str) -> str:
    """A point without its state and its occurrence."""
    return point.split("/")[1]


def one_of_each(points: dict[str, list[str]]) -> list[Cut]:
    """One cut of every act there is, spread over the kinds; one of the way back, and one of every kind's answer."""
    chosen: list[Cut] = []
    load: Counter[str] = Counter()
    acts = {act_of(point) for every in points.values() for point in every}
    for number, act in enumerate(sorted(acts)):
        kinds = [kind for kind, every in points.items() if act in map(act_of, every)]
        kind = min(kinds, key=lambda name: (load[name], name))
        load[kind] += 1
        point = next(point for point in points[kind] if act_of(point) == act)
        chosen.append(Cut(kind, f"{point}@{NAMED.get(act, PHASES[number % 3])}"))
    back = next(point for point in points["crash"] if point.startswith("rolling_back/runtime.start"))
    return [*chosen, Cut("crash", f"{back}@mid"), *(Cut(kind, ANSWER) for kind in points)]


def at_random(points: dict[str, list[str]], count: int, chance: random.Random) -> list[Cut]:
    """Any kind, any point of it, any phase; a few of them twice."""
    cuts = []
    for _ in range(count):
        kind = chance.choice(list(points))
        place = f"{chance.choice(points[kind])}@{chance.choice(PHASES)}"
        again = chance.randint(1, 30) if chance.random() < AGAIN else 0
        cuts.append(Cut(kind, ANSWER if chance.random() < 0.05 else place, chance.choice(MIDDLES), again))
    return cuts


def survive(stage: Stage, cuts: Sequence[Cut]) -> str:
    """Pulls the plug at each, first where two releases are; returns the counts as a sentence."""
    ends: Counter[str] = Counter()
    failures: list[str] = []
    stage.missed = 0
    stage.start_over()
    for cut in sorted(
        cuts, key=lambda each: (each.kind in FRESH, any(word in each.place for word in TIDYING))
    ):
        try:
            ends[stage.survive(cut)] += 1
        except AssertionError as failure:
            failures.append(str(failure))
            print(failure, flush=True)
            stage.start_over()
    assert not failures, f"{len(failures)} of {len(cuts)} power cuts:\n" + "\n\n".join(failures)
    counts = ", ".join(f"{number} {end.replace('_', ' ')}" for end, number in ends.most_common())
    return f"{len(cuts)} power cuts: {counts}; {stage.missed} of them after the end"


def test_a_power_cut_at_every_act_that_writes_hurts_nothing(
    stage: Stage, points: dict[str, list[str]]
) -> None:
    """R-PL-1, F1, F3, F4, F5, F6, F7, F8, F9, F10, F12, F14, F15; M1, M2, M3."""
    cuts = one_of_each(points)
    told = survive(stage, cuts)
    print(told)
    assert len(cuts) >= 40
    assert stage.missed <= len(cuts) // 10, told


def test_two_power_cuts_while_verifying_go_back_without_another_trial(stage: Stage) -> None:
    """F11: which version cuts the power, nobody can tell. It is not blamed for it either."""
    stage.start_over()
    place = "verifying/journal.advance/1@before"
    before = stage.serves
    assert stage.survive(Cut("next", place, then=place)) == "rolled_back"
    assert stage.serves == before
    newest = stage.home.get("/api/v1/deployments").document["items"][0]
    assert (newest["state"], newest["reason"]) == ("rolled_back", "interrupted")
    assert stage.home.get("/status").document["services"]["app"]["quarantine"] == []


def test_power_cuts_at_random_hurt_nothing(stage: Stage, points: dict[str, list[str]]) -> None:
    """R-PL-1."""
    print(f"RANDOM_CUTS={CUTS} RANDOM_SEED={SEED}")
    print(survive(stage, at_random(points, CUTS, random.Random(SEED))))
