"""Which wish runs: the named cases, and what holds for every queue on every history."""

from collections.abc import Sequence
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.codes import CODES
from agent.core.order import SUPERSEDES, Decision, End, Pair, Wish, decide, skips

LINE = frozenset({("b", "a"), ("c", "a"), ("c", "b")})
"""Three commits, one upon the other."""


def a_wish(number: int, revision: str = "a", **differences: object) -> Wish:
    values: dict[str, object] = {"id": f"w{number}", "number": number, "revision": revision}
    return Wish(**(values | differences))  # type: ignore[arg-type]


def told(decision: Decision) -> tuple[str, dict[str, str]]:
    """The reason for which the claimed one ends ("" if it runs), and who took whose place."""
    reason = decision.claimed.reason if decision.claimed is not None else ""
    return reason, {end.id: end.by or end.reason for end in decision.waiting}


def test_of_a_line_the_newest_commit_runs_whatever_was_queued_last() -> None:
    """R-RX-23, F47."""
    for numbers in permutations((1, 2, 3)):
        older, middle, newest = (a_wish(number, name) for number, name in zip(numbers, "abc", strict=True))
        assert told(decide(newest, [older, middle], LINE)) == (
            "",
            {older.id: newest.id, middle.id: newest.id},
        )
        reason, ends = told(decide(older, [middle, newest], LINE))
        assert (reason, ends) == ("newer-queued", {middle.id: newest.id})


def test_commits_of_lines_that_know_nothing_of_each_other_both_run() -> None:
    one, other = a_wish(1, "x"), a_wish(2, "y")
    assert told(decide(one, [other], frozenset())) == ("", {})
    assert told(decide(other, [one], frozenset())) == ("", {})


def test_of_the_same_revision_the_newest_runs() -> None:
    one, other = a_wish(1), a_wish(2)
    assert told(decide(other, [one], LINE)) == ("", {"w1": "w2"})
    assert told(decide(one, [other], LINE)) == ("newer-queued", {})


def test_of_the_same_revision_a_persons_runs_before_one_that_came_by_itself() -> None:
    assert told(decide(a_wish(1, person=True), [a_wish(2)], LINE)) == ("", {"w2": "w1"})


def test_what_a_person_named_gives_way_to_a_push_that_stands_on_it() -> None:
    assert told(decide(a_wish(1, "a", person=True), [a_wish(2, "c")], LINE)) == ("newer-queued", {})


def test_what_a_person_named_does_not_give_way_to_an_older_commit() -> None:
    assert told(decide(a_wish(1, "b", person=True), [a_wish(2, "a")], LINE)) == ("", {"w2": "w1"})


def test_what_a_person_forced_takes_the_place_of_what_came_before_it_and_lets_live_what_comes_after() -> None:
    forced = a_wish(2, "a", person=True, forced=True)
    assert told(decide(forced, [a_wish(1, "c"), a_wish(3, "b")], LINE)) == ("", {"w1": "w2"})


def test_what_a_person_forced_gives_way_to_a_later_forced_one_only() -> None:
    first = a_wish(1, "a", person=True, forced=True)
    later = a_wish(2, "c", person=True)
    assert told(decide(first, [later], LINE)) == ("", {})
    again = a_wish(3, "a", person=True, forced=True)
    assert told(decide(first, [later, again], LINE)) == ("newer-queued", {"w2": "w3"})


@pytest.mark.parametrize("bar", ["skip-deploy", "paths-unchanged", "newer-live"])
def test_what_does_nothing_takes_nobodys_place(bar: str) -> None:
    """A tip that is passed over must not cost the green commit below it."""
    passed_over = a_wish(2, "c", bar=bar)
    assert told(decide(a_wish(1, "a"), [passed_over], LINE)) == ("", {"w2": bar})
    assert told(decide(passed_over, [a_wish(1, "a")], LINE)) == (bar, {})


@pytest.mark.parametrize("bar", ["quarantined", "already-live"])
def test_what_is_live_or_quarantined_is_left_to_its_own_turn_and_takes_nobodys_place(bar: str) -> None:
    barred = a_wish(2, "c", bar=bar)
    assert told(decide(a_wish(1, "a", person=True), [barred], LINE)) == ("", {})
    assert told(decide(barred, [a_wish(1, "a")], LINE)) == ("", {})


def test_what_has_to_wait_can_be_overtaken_and_overtakes_nobody() -> None:
    frozen = a_wish(1, "c", waits=True)
    assert told(decide(a_wish(2, "b", person=True), [frozen], LINE)) == ("", {})
    frozen = a_wish(1, "a", waits=True)
    assert told(decide(a_wish(2, "b", person=True), [frozen], LINE)) == ("", {"w1": "w2"})


def test_every_reason_to_end_superseded_is_a_code() -> None:
    assert SUPERSEDES | {"newer-queued"} <= CODES.keys()


# --- every queue on every history


@st.composite
def cases(draw: st.DrawFn) -> tuple[Wish, list[Wish], frozenset[Pair]]:
    """A history with merges, some wishes for its commits, and which of them was claimed."""
    commits = draw(st.integers(1, 6))
    above: dict[int, set[int]] = {}
    for commit in range(commits):
        parents = draw(st.sets(st.integers(0, commit - 1), max_size=2)) if commit else set()
        above[commit] = parents | {older for parent in parents for older in above[parent]}
    stands_on = frozenset((str(new), str(old)) for new, olds in above.items() for old in olds)
    wishes = [a_wish(number, *draw(_looks(commits))) for number in range(draw(st.integers(1, 6)))]
    wishes = [draw(_dressed(wish)) for wish in wishes]
    index = draw(st.integers(0, len(wishes) - 1))
    return wishes[index], wishes[:index] + wishes[index + 1 :], stands_on


def _looks(commits: int) -> st.SearchStrategy[tuple[str]]:
    return st.tuples(st.integers(0, commits - 1).map(str))


@st.composite
def _dressed(draw: st.DrawFn, wish: Wish) -> Wish:
    kind = draw(st.sampled_from(["automatic", "automatic", "person", "forced", "barred", "waits"]))
    bar = draw(st.sampled_from([*sorted(SUPERSEDES), "quarantined", "already-live"]))
    return a_wish(
        wish.number, wish.revision, person=kind in ("person", "forced"), forced=kind == "forced",
        bar=bar if kind == "barred" else "", waits=kind == "waits",
    )  # fmt: skip


def follow(case: tuple[Wish, list[Wish], frozenset[Pair]]) -> list[str]:
    """Decides again and again, each time about the oldest that is left; returns who ran."""
    claimed, waiting, stands_on = case
    queue: list[Wish] = [claimed, *waiting]
    ran: list[str] = []
    while queue:
        decision = decide(queue[0], queue[1:], stands_on)
        ended = {end.id for end in decision.waiting}
        if decision.claimed is None and not queue[0].bar:
            ran.append(queue[0].id)
        queue = [wish for wish in queue[1:] if wish.id not in ended]
    return ran


@given(cases())
def test_it_is_total_and_each_ends_once(case: tuple[Wish, list[Wish], frozenset[Pair]]) -> None:
    claimed, waiting, stands_on = case
    decision = decide(claimed, waiting, stands_on)
    ends = [end.id for end in decision.waiting]
    assert len(ends) == len(set(ends))
    assert set(ends) <= {wish.id for wish in waiting}
    assert decision.claimed is None or decision.claimed.id == claimed.id
    assert decide(claimed, waiting[::-1], stands_on).claimed == decision.claimed or _tied(decision)


def _tied(decision: Decision) -> bool:
    """Of two that could have taken its place, either may be named."""
    return decision.claimed is not None and bool(decision.claimed.by)


@given(cases())
def test_nobody_is_superseded_but_by_one_that_stands_on_it_is_the_same_or_was_forced(
    case: tuple[Wish, list[Wish], frozenset[Pair]],
) -> None:
    claimed, waiting, stands_on = case
    wishes = {wish.id: wish for wish in (claimed, *waiting)}
    decision = decide(claimed, waiting, stands_on)
    for end in (*decision.waiting, *((decision.claimed,) if decision.claimed else ())):
        wish = wishes[end.id]
        if not end.by:
            assert end.reason == wish.bar
            assert not wish.forced
            continue
        by = wishes[end.by]
        assert not by.bar
        assert not by.waits
        assert end.id != end.by
        if by.forced and by.number > wish.number:
            continue
        assert not wish.forced
        assert by.revision == wish.revision or (by.revision, wish.revision) in stands_on


@given(cases())
def test_who_takes_a_place_is_not_superseded_in_the_same_breath(
    case: tuple[Wish, list[Wish], frozenset[Pair]],
) -> None:
    claimed, waiting, stands_on = case
    decision = decide(claimed, waiting, stands_on)
    ends = [*decision.waiting, *([decision.claimed] if decision.claimed else [])]
    assert {end.by for end in ends} & {end.id for end in ends} == set()


@given(cases())
def test_as_long_as_one_may_run_one_does(case: tuple[Wish, list[Wish], frozenset[Pair]]) -> None:
    """Whoever is taken up first: the queue is worked off, and of those that may run at least one ran."""
    able = [wish for wish in (case[0], *case[1]) if not wish.bar and not wish.waits]
    assert bool(able) <= bool(follow(case))


@given(cases())
def test_the_last_that_a_person_forced_always_runs(case: tuple[Wish, list[Wish], frozenset[Pair]]) -> None:
    forced = [wish for wish in (case[0], *case[1]) if wish.forced]
    if forced:
        assert max(forced, key=lambda wish: wish.number).id in follow(case)


@given(cases())
def test_of_automatic_wishes_none_runs_that_another_stands_on(
    case: tuple[Wish, list[Wish], frozenset[Pair]],
) -> None:
    """R-RX-23: whatever the order, no older commit runs beside a newer one."""
    wishes = [wish for wish in (case[0], *case[1]) if not wish.person and not wish.waits]
    if not wishes:
        return
    ran = follow((wishes[0], wishes[1:], case[2]))
    revisions: Sequence[str] = [wish.revision for wish in wishes if wish.id in ran]
    assert len(revisions) == len(set(revisions))
    assert not [(new, old) for new in revisions for old in revisions if (new, old) in case[2]]


# --- [skip deploy]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("docs [skip deploy]", True),
        ("[deploy skip] docs\n\nmore", True),
        ("docs\n\n[Skip Deploy]\n", True),
        ("docs [SKIP DEPLOY]", True),
        ("", False),
        ("skip deploy", False),
        ("[skip ci]", False),
        ("[skip deployment]", False),
        ("[skip\ndeploy]", False),
        ("[[skip deploy]]", True),
    ],
)
def test_a_message_that_asks_for_no_deployment(message: str, expected: bool) -> None:
    assert skips(message) is expected


@given(st.text(), st.text(), st.sampled_from(["[skip deploy]", "[deploy skip]"]), st.data())
def test_the_words_count_wherever_they_stand_and_however_they_are_written(
    before: str, after: str, words: str, data: st.DataObject
) -> None:
    written = "".join(letter.upper() if data.draw(st.booleans()) else letter for letter in words)
    assert skips(before + written + after)


def test_an_end_by_another_names_it() -> None:
    assert decide(a_wish(1), [a_wish(2, "b")], LINE).claimed == End("w1", "newer-queued", "w2")
