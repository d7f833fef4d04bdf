"""Text from outside, made harmless."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.text import clean, clean_lines, tail


@pytest.mark.parametrize(
    ("text", "limit", "cleaned"),
    [
        ("", 5, ""),
        (" a \t b\r\nc ", 20, "a b c"),
        ("\x1b[31mred\x1b[0m", 20, "red"),
        ("\x1b]0;title\x07bell", 20, "bell"),
        ("a\u202eb\u200bc\ufeff\ud800d", 20, "a b c d"),
        ("\x9b\x85e\x7f", 20, "e"),
        ("12345", 5, "12345"),
        ("123456", 5, "1234…"),
        (" " * 40 + "late", 5, ""),  # what stands beyond eight times the limit is not even looked at
        (" " * 39 + "late", 5, "l"),
    ],
)
def test_one_line_without_control_and_direction_characters(text: str, limit: int, cleaned: str) -> None:
    """R-RX-32."""
    assert clean(text, limit) == cleaned


def test_a_line_has_at_most_256_characters_unless_told_otherwise() -> None:
    assert clean("x" * 256) == "x" * 256
    assert clean("x" * 257) == "x" * 255 + "…"


@given(st.text(), st.integers(1, 40))
def test_whatever_comes_is_one_printable_line_within_the_limit(text: str, limit: int) -> None:
    """R-RX-32."""
    cleaned = clean(text, limit)
    assert len(cleaned) <= limit
    assert "\n" not in cleaned
    assert "\x1b" not in cleaned
    assert clean(cleaned, limit) == cleaned.rstrip()


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("a\r\nb\rc\n\td", "a\nb\nc\n\td"),
        ("\x1b[1;32mok\x1b[0m\x00\n", "ok\n"),
        ("x" * 1000, "x" * 1000),
    ],
)
def test_a_programs_output_keeps_its_lines_and_tabs(text: str, cleaned: str) -> None:
    assert clean_lines(text) == cleaned


@pytest.mark.parametrize(
    ("text", "limit", "end"),
    [
        ("abc", 3, "abc"),
        ("abcd", 3, "bcd"),  # no line begins in it
        ("one\ntwo\nthree", 9, "three"),
        ("one\ntwo\nthree", 10, "two\nthree"),
        ("long\n", 3, "ng\n"),  # a line's start with nothing behind it is none
        ("a\n\nb", 3, "\nb"),
    ],
)
def test_the_tail_begins_at_a_lines_start_where_there_is_one(text: str, limit: int, end: str) -> None:
    assert tail(text, limit) == end
