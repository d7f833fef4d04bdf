"""What is new in a log whose beginning moves out of sight."""

from hypothesis import given
from hypothesis import strategies as st

from agent.cli.logs import MISSED, fresh
from agent.cli.show import length

BUILD = "--- building\n"


def test_what_grows_is_printed_once() -> None:
    looks = [
        "",
        BUILD + "one",
        BUILD + "one\ntwo",
        BUILD + "one\ntwo and more",
        BUILD + "one\ntwo and more\n--- verifying\nup",
    ]
    printed, seen = "", ""
    for now in looks:
        printed += fresh(seen, now)
        seen = now
    assert printed == looks[-1]


def test_what_moved_up_is_not_printed_again() -> None:
    lines = [f"line {number}" for number in range(100)]
    seen, printed = "", ""
    for end in range(0, 101, 7):
        now = BUILD + "\n".join(lines[max(0, end - 20) : end])
        printed += fresh(seen, now)
        seen = now
    assert MISSED not in printed
    assert printed == BUILD + "\n".join(lines[:98])


def test_what_was_missed_is_marked() -> None:
    assert fresh(BUILD + "a long line", BUILD + "another one") == MISSED + "another one"


def test_a_step_before_stays_where_it_is() -> None:
    first = "--- fetching\nfrom afar\n"
    assert fresh(first + BUILD + "one\ntwo", first + BUILD + "two\nthree") == "\nthree"


def test_a_line_that_looks_like_a_head_may_move_out_of_sight() -> None:
    assert fresh(BUILD + "x\n--- building\nlast words", "last words\nand more") == "\nand more"


@given(st.text("ab\n", max_size=300), st.lists(st.integers(0, 60), max_size=12), st.integers(70, 120))
def test_whatever_is_printed_slowly_enough_nothing_is_missed(
    text: str, steps: list[int], window: int
) -> None:
    """With a window that holds more than what comes between two looks; what repeats itself may be shown shorter."""
    seen, printed, at = "", "", 0
    for step in steps:
        at = min(len(text), at + step)
        now = text[max(0, at - window) : at]
        printed += fresh(seen, now)
        seen = now
    assert MISSED not in printed
    assert len(printed) <= at
    assert printed.endswith(seen[-10:])


def test_a_length_of_time_is_told_as_people_do() -> None:
    told = {0: "0.0 s", 4.24: "4.2 s", 42: "42 s", 60: "1 min", 192: "3 min 12 s", 7500: "2 h 5 min", 90000: "1 d 1 h",
            59.7: "1 min"}  # fmt: skip
    assert {seconds: length(seconds) for seconds in told} == told
