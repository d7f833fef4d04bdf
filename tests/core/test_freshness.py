"""How old a time is, in whichever form it was written."""

import time
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.freshness import judge, when
from tests.fakes import START

AT = START.timestamp()


@pytest.mark.parametrize(
    "value",
    [
        AT, int(AT), int(AT * 1e3), int(AT * 1e6), int(AT * 1e9), f"{AT:.0f}", f" {AT:.3f}\n", f"{AT * 1e3:.0f}",
        "2026-11-22T12:00:00Z", "2026-11-22 12:00:00", "2026-11-22T12:00:00.000", "2026-11-22T13:00:00+01:00",
        "2026-11-22T06:30:00-05:30", "20261122T120000",
    ],
)  # fmt: skip
def test_the_usual_forms_are_one_time(value: object) -> None:
    assert when(value) == AT


def test_a_day_is_its_beginning_in_utc() -> None:
    assert when("2026-11-22") == AT - 12 * 3600


def test_without_a_zone_it_is_utc_wherever_the_agent_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Pacific/Auckland")
        time.tzset()
        assert when("2026-11-22T12:00:00") == AT
    time.tzset()


@pytest.mark.parametrize(
    "value",
    ["", " ", "now", "12:00", "1_000", "nan", "inf", "1e9", "0x10", "9" * 31, "٣", b"2026-11-22", float("nan"),
     float("inf"), 1e300, 10**40, True, [], "2026-13-01", "2026-11-22T25:00:00"],
)  # fmt: skip
def test_what_is_no_time(value: object) -> None:
    assert when(value) is None
    fresh, sentence = judge(value, START, 60)
    assert not fresh
    assert sentence


@pytest.mark.parametrize(
    ("value", "fresh", "sentence"),
    [
        (AT, True, "0 s ago"),
        (AT - 60, True, "60 s ago"),
        (AT - 60.5, False, "60 s ago, more than 1m"),
        (AT - 119, False, "119 s ago, more than 1m"),
        (AT - 120, False, "2 min ago, more than 1m"),
        (AT - 90 * 60, False, "90 min ago, more than 1m"),
        (AT - 7199, False, "120 min ago, more than 1m"),
        (AT - 7200, False, "2 h ago, more than 1m"),
        (AT - 47 * 3600, False, "47 h ago, more than 1m"),
        (AT - 2 * 86400, False, "2 d ago, more than 1m"),
        (AT - 400000, False, "5 d ago, more than 1m"),
        (AT + 60, True, "0 s ago"),
        (AT + 61, False, "the time is 61 s in the future: compare the clocks and the time zone"),
        (0, False, "20780 d ago, more than 1m"),
        (None, False, "there is no time yet"),
        ("  ", False, "there is no time yet"),
        ("soon\x1b[31m", False, "'soon\\x1b[31m' is not a time"),
        (1e20, False, "1e+20 is not a time"),
        ("s" * 100, False, f"'{'s' * 58}… is not a time"),
    ],
)
def test_the_named_cases(value: object, fresh: bool, sentence: str) -> None:
    assert judge(value, START, 60) == (fresh, sentence)


TIMES = st.floats(4 * 365 * 86400, 3000 * 365 * 86400).map(
    lambda seconds: datetime.fromtimestamp(seconds, UTC)
)
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(TIMES, ZONES)
def test_every_form_of_a_time_reads_as_that_time(at: datetime, zone: timezone) -> None:
    seconds = at.timestamp()
    for scale in (1, 1e3, 1e6, 1e9):
        read = when(int(seconds * scale))
        assert read is not None
        assert abs(read - seconds) <= 1
    for text in (at.isoformat(), at.astimezone(zone).isoformat(" "), at.replace(tzinfo=None).isoformat()):
        assert when(text) == pytest.approx(seconds, abs=1e-3)


@given(
    st.one_of(st.none(), st.integers(), st.floats(), st.text(), st.binary(), st.booleans(), TIMES.map(str))
)
def test_whatever_stands_there_gets_a_sentence(value: object) -> None:
    fresh, sentence = judge(value, START, 900)
    assert sentence.isprintable()
    assert len(sentence) < 150
    assert not (fresh and when(value) is None)


@given(TIMES, st.floats(0, 1e6), st.floats(1, 1e6))
def test_fresh_is_what_is_neither_older_than_the_limit_nor_ahead(
    at: datetime, ago: float, limit: float
) -> None:
    assert judge(at.timestamp() - ago, at, limit)[0] == (at.timestamp() - (at.timestamp() - ago) <= limit)
    assert judge(at.timestamp() + 61 + ago, at, limit)[0] is False
