"""Durations and sizes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.units import parse_duration, parse_size, write_duration, write_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("200ms", 0.2), ("30s", 30), ("5m", 300), ("2h", 7200), ("30d", 2_592_000), ("0s", 0)],
)
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "5", "5 m", "m", "-5s", "1.5h", "1h30m", "5M", "5s\n", "٣s", "9999999999s"]
)
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="must be a duration such as"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("100", 100), ("4K", 4096), ("64M", 64 << 20), ("2G", 2 << 30), ("1T", 1 << 40)],
)
def test_a_size_is_a_number_and_perhaps_a_power_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "64MB", "64m", "-1", "1.5G", "64M\n"])
def test_anything_else_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="must be a size such as"):
        parse_size(text)


@given(st.integers(0, 999_999_999))
def test_a_written_duration_reads_as_the_same_one(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert parse_duration(write_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "size", "duration", "bytes_"),
    [(0, 0, "0s", "0"), (0.001, 1, "1ms", "1"), (1.5, 1024, "1500ms", "1K"), (60, 1025, "1m", "1025"),
     (90, 3 << 20, "90s", "3M"), (7200, 1 << 30, "2h", "1G"), (86400, 5 << 40, "1d", "5T"), (0.0004, 2, "0s", "2")],
)  # fmt: skip
def test_each_is_written_in_its_largest_whole_unit(
    seconds: float, size: int, duration: str, bytes_: str
) -> None:
    assert (write_duration(seconds), write_size(size)) == (duration, bytes_)


@given(st.integers(0, 999_999_999_999))
def test_a_written_size_reads_as_the_same_one(size: int) -> None:
    assert parse_size(write_size(size)) == size


@given(st.integers(0, 999_999_999), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_every_duration_is_written_no_longer_than_it_was_given(number: int, unit: str) -> None:
    text = f"{number}{unit}"
    written = write_duration(parse_duration(text))
    assert parse_duration(written) == parse_duration(text)
    assert len(written) <= max(len(text), 2)
