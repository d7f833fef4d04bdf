"""Windows of the week in which nothing is deployed by itself."""

from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agent.core.freeze import DAYS, NEVER, Freeze, Window, edge_of, freeze_of, is_endless, wrong_windows
from agent.core.location import Finding
from tests.build import a_service

BERLIN = ZoneInfo("Europe/Berlin")


def a_window(begin: str, end: str) -> Window:
    return Window(edge_of(begin), edge_of(end))


def freeze(*windows: tuple[str, str], zone: tzinfo = BERLIN) -> Freeze:
    return Freeze(tuple(a_window(*window) for window in windows), zone)


def local(text: str, fold: int = 0) -> datetime:
    """A time in Berlin."""
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold)


def until(frozen: Freeze, at: datetime) -> str | None:
    """The end, as a clock in Berlin shows it."""
    end = frozen.until(at)
    return None if end is None else end.astimezone(BERLIN).strftime("%a %d %H:%M %Z").lower()


WEEKEND = ("fri 17:00", "mon 08:00")
NIGHT = ("22:00", "06:00")


@pytest.mark.parametrize(
    ("at", "end"),
    [
        ("2026-11-27T16:59:59", None),
        ("2026-11-27T17:00:00", "mon 30 08:00 cet"),
        ("2026-11-29T23:59:59", "mon 30 08:00 cet"),
        ("2026-11-30T07:59:59", "mon 30 08:00 cet"),
        ("2026-11-30T08:00:00", None),
        ("2026-12-02T12:00:00", None),
    ],
)
def test_a_window_over_the_weeks_end(at: str, end: str | None) -> None:
    assert until(freeze(WEEKEND), local(at)) == end


@pytest.mark.parametrize(
    ("at", "end"),
    [
        ("2026-12-02T21:59:59", None),
        ("2026-12-02T22:00:00", "thu 03 06:00 cet"),
        ("2026-12-03T00:00:00", "thu 03 06:00 cet"),
        ("2026-12-03T05:59:59", "thu 03 06:00 cet"),
        ("2026-12-03T06:00:00", None),
        ("2026-12-31T23:00:00", "fri 01 06:00 cet"),
    ],
)
def test_a_window_over_midnight(at: str, end: str | None) -> None:
    assert until(freeze(NIGHT), local(at)) == end


def test_windows_that_meet_are_one() -> None:
    both = freeze(NIGHT, ("06:00", "07:00"), ("fri 06:30", "fri 12:00"))
    assert until(both, local("2026-12-02T23:00:00")) == "thu 03 07:00 cet"
    assert until(both, local("2026-12-03T23:00:00")) == "fri 04 12:00 cet"


def test_without_windows_nothing_is_ever_frozen() -> None:
    assert NEVER.until(datetime(2026, 1, 1, tzinfo=UTC)) is None


# --- the days on which clocks change: 29 March (02:00 -> 03:00) and 25 October 2026 (03:00 -> 02:00)


def test_an_end_that_the_clock_skips_is_the_instant_of_the_jump() -> None:
    frozen = freeze(("23:00", "02:30"))
    assert until(frozen, local("2026-03-29T01:59:59")) == "sun 29 03:00 cest"
    assert until(frozen, local("2026-03-29T03:00:00")) is None


def test_a_begin_that_the_clock_skips_is_the_instant_of_the_jump() -> None:
    frozen = freeze(("02:30", "05:00"))
    assert until(frozen, local("2026-03-29T01:59:59")) is None
    assert until(frozen, local("2026-03-29T03:00:00")) == "sun 29 05:00 cest"


def test_a_jump_is_found_to_the_second() -> None:
    for minute in ("02:00", "02:01", "02:30", "02:59"):
        frozen = freeze((f"sun {minute}", "sun 12:00"))
        assert frozen.until(datetime(2026, 3, 29, 0, 59, 59, tzinfo=UTC)) is None
        assert frozen.until(datetime(2026, 3, 29, 1, 0, 0, tzinfo=UTC)) == datetime(
            2026, 3, 29, 10, tzinfo=UTC
        )


def test_a_window_that_the_clock_skips_whole_is_none() -> None:
    frozen = freeze(("02:15", "02:45"))
    assert until(frozen, local("2026-03-29T03:00:00")) is None
    assert until(frozen, local("2026-03-29T01:59:59")) is None
    assert until(frozen, local("2026-03-30T02:20:00")) == "mon 30 02:45 cest"


def test_what_the_clock_shows_twice_begins_with_the_first_and_ends_with_the_second() -> None:
    frozen = freeze(("23:00", "02:30"))
    for fold in (0, 1):
        assert until(frozen, local("2026-10-25T02:29:00", fold)) == "sun 25 02:30 cet"
    assert until(frozen, local("2026-10-25T02:45:00", 0)) == "sun 25 02:30 cet"
    assert until(frozen, local("2026-10-25T02:30:00", 1)) is None
    frozen = freeze(("02:30", "04:00"))
    assert until(frozen, local("2026-10-25T02:30:00", 0)) == "sun 25 04:00 cet"
    assert until(frozen, local("2026-10-25T02:10:00", 1)) == "sun 25 04:00 cet"


def test_a_weekend_with_a_change_of_clocks_is_an_hour_longer_or_shorter() -> None:
    frozen = freeze(WEEKEND)
    for day, hours in (("2026-03-27", 62), ("2026-10-23", 64), ("2026-11-27", 63)):
        begin = local(f"{day}T17:00:00")
        end = frozen.until(begin)
        assert end is not None
        assert end - begin.astimezone(UTC) == timedelta(hours=hours)


# --- always


TIMES = st.integers(0, 10 * 366 * 86400).map(
    lambda seconds: datetime(2020, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
)
ZONES = st.sampled_from(
    ["Europe/Berlin", "UTC", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kolkata"]
).map(ZoneInfo)
CLOCKS = st.tuples(st.integers(0, 23), st.integers(0, 59)).map(lambda drawn: f"{drawn[0]:02}:{drawn[1]:02}")


@st.composite
def windows(draw: st.DrawFn) -> Window:
    days = draw(
        st.one_of(st.just(("", "")), st.tuples(*[st.sampled_from(DAYS).map(lambda day: f"{day} ")] * 2))
    )
    window = a_window(days[0] + draw(CLOCKS), days[1] + draw(CLOCKS))
    assume(window.minutes)
    return window


SOME = st.lists(windows(), min_size=1, max_size=3).filter(lambda found: not is_endless(found)).map(tuple)


@given(SOME, ZONES, TIMES)
def test_an_end_is_later_and_is_really_one(some: tuple[Window, ...], zone: tzinfo, now: datetime) -> None:
    frozen = Freeze(some, zone)
    end = frozen.until(now)
    if end is None:
        return
    assert now < end < now + timedelta(days=8)
    assert frozen.until(end) is None
    assert frozen.until(end - timedelta(seconds=1)) == end


@given(SOME, TIMES)
def test_without_a_change_of_clocks_it_is_what_a_clock_on_the_wall_says(
    some: tuple[Window, ...], now: datetime
) -> None:
    minute = now.weekday() * 1440 + now.hour * 60 + now.minute
    covered = any(
        (minute - (window.begin.day or 0) * 1440 - window.begin.minute)
        % (1440 if window.begin.day is None else 10080)
        < window.minutes
        for window in some
    )
    assert (Freeze(some, UTC).until(now) is not None) == covered


@given(SOME, ZONES, TIMES, st.timedeltas(timedelta(days=-4000), timedelta(days=4000)))
def test_a_clock_that_jumps_is_asked_anew_each_time(
    some: tuple[Window, ...], zone: tzinfo, now: datetime, jump: timedelta
) -> None:
    """F53: nothing is remembered, so that a clock that was wrong costs nothing later."""
    frozen = Freeze(some, zone)
    before = frozen.until(now)
    frozen.until(now + jump)
    assert frozen.until(now) == before


# --- reading


@pytest.mark.parametrize(
    ("text", "expected"), [("00:00", (None, 0)), ("23:59", (None, 1439)), ("Sun 06:05", (6, 365))]
)
def test_an_edge_is_a_time_with_or_without_a_day(text: str, expected: tuple[int | None, int]) -> None:
    edge = edge_of(text)
    assert (edge.day, edge.minute) == expected


@pytest.mark.parametrize(
    "text",
    ["", "24:00", "8:00", "fri", "friday 17:00", "fri  17:00", "17:60", "17:00:00", "fr 1:00", "17.00"],
)
def test_anything_else_is_no_edge(text: str) -> None:
    with pytest.raises(ValueError, match="must be a time"):
        edge_of(text)


@pytest.mark.parametrize(
    ("some", "endless"),
    [
        ([], False),
        ([NIGHT], False),
        ([NIGHT, ("06:00", "22:00")], True),
        ([("mon 00:00", "thu 00:00"), ("thu 00:00", "mon 00:00")], True),
        ([("mon 00:00", "sun 23:59")], False),
        ([("mon 00:00", "sun 23:59"), ("sun 20:00", "mon 00:01")], True),
        ([("00:00", "23:59")], False),
    ],
)
def test_what_covers_the_whole_week_is_endless(some: list[tuple[str, str]], endless: bool) -> None:
    assert is_endless([a_window(*window) for window in some]) is endless


def test_the_options_of_a_service_are_its_windows() -> None:
    service = a_service(deploy={"freeze": [{"from": "fri 17:00", "to": "mon 08:00"}]})
    assert freeze_of(service.deploy, BERLIN) == freeze(WEEKEND)


DAYLESS = "must name a day if `from` does, and only then"
NO_EDGE = "must be a time such as 22:00 or fri 17:00"
HINT = "days are mon tue wed thu fri sat sun; hours have two digits"
WHOLE = Finding((), "covers the whole week: nothing would ever be deployed by itself")


@pytest.mark.parametrize(
    ("some", "findings"),
    [
        ([], []),
        ([NIGHT], []),
        ([("5pm", "8:00")], [Finding((0, "from"), NO_EDGE, HINT), Finding((0, "to"), NO_EDGE, HINT)]),
        ([NIGHT, ("fri 17:00", "08:00")], [Finding((1, "to"), DAYLESS, relies=((1, "from"),))]),
        ([("17:00", "fri 08:00")], [Finding((0, "to"), DAYLESS, relies=((0, "from"),))]),
        (
            [("17:00", "17:00")],
            [
                Finding(
                    (0, "to"), "is the same as `from`: this is no time, or all of it", relies=((0, "from"),)
                )
            ],
        ),
        ([NIGHT, ("06:00", "22:00")], [WHOLE]),
        ([NIGHT, ("5pm", "22:00")], [Finding((1, "from"), NO_EDGE, HINT)]),
        ([NIGHT, ("06:00", "22:00"), ("5pm", "22:00")], [Finding((2, "from"), NO_EDGE, HINT), WHOLE]),
    ],
)
def test_what_cannot_be_meant_is_told_at_its_place(
    some: list[tuple[str, str]], findings: list[Finding]
) -> None:
    options = a_service(deploy={"freeze": [{"from": begin, "to": end} for begin, end in some]}).deploy.freeze
    assert list(wrong_windows(options)) == findings
