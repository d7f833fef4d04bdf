"""`deploy.freeze`: windows of the week in which nothing is deployed by itself. Pure: time and zone are arguments.

A window is written in local time, on a weekday (`fri 17:00` to `mon 08:00`) or on every day (`22:00` to `06:00`); one
that ends before it begins goes over midnight, or over the week's end. On the days on which clocks change, an edge that
the clock skips is the instant of the jump; of an edge that it shows twice, a window begins with the first and ends with
the second: rather frozen too long than too short.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo

from msgspec import Struct

from agent.core import settings
from agent.core.location import Finding

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
WEEK_MINUTES = 7 * 24 * 60
_DAY_MINUTES = 24 * 60
_EDGE = re.compile(rf"(?:({'|'.join(DAYS)}) )?([01][0-9]|2[0-3]):([0-5][0-9])")


class Edge(Struct, frozen=True):
    """A minute of every day, or (with `day`, Monday is 0) of one day of the week."""

    day: int | None
    minute: int


class Window(Struct, frozen=True):
    """From one edge up to, and without, the other; both have a day, or neither."""

    begin: Edge
    end: Edge

    @property
    def minutes(self) -> int:
        """How long it is on a clock on the wall; 0 if both edges are the same."""
        cycle = _DAY_MINUTES if self.begin.day is None else WEEK_MINUTES
        return (_minute_of_week(self.end) - _minute_of_week(self.begin)) % cycle


class Freeze(Struct, frozen=True):
    """A service's windows, and the zone in which they are written."""

    windows: tuple[Window, ...] = ()
    zone: tzinfo = UTC

    def until(self, now: datetime) -> datetime | None:
        """When the window that `now` (aware) lies in ends, with those that follow on it without a gap; None: it lies
        in none. In UTC."""
        end = now.astimezone(UTC)
        spans = sorted(span for window in self.windows for span in _spans(window, end, self.zone))
        for begin, stop in spans:
            if begin <= end < stop:
                end = stop
        return end if end > now else None


NEVER = Freeze()
"""Without windows."""


def edge_of(text: str) -> Edge:
    """Reads `fri 17:00` or `22:00`. Raises ValueError."""
    found = _EDGE.fullmatch(text.lower())
    if found is None:
        raise ValueError("must be a time such as 22:00 or fri 17:00")
    return Edge(DAYS.index(found[1]) if found[1] else None, int(found[2]) * 60 + int(found[3]))


def freeze_of(deploy: settings.Deploy, zone: tzinfo) -> Freeze:
    """What the options of a service say. They must have been checked."""
    windows = (Window(edge_of(option.begin), edge_of(option.end)) for option in deploy.freeze)
    return Freeze(tuple(windows), zone)


def wrong_windows(options: Sequence[settings.Freeze]) -> Iterator[Finding]:
    """What cannot be meant, at its place in the list of windows."""
    for index, option in enumerate(options):
        yield from (finding.below((index,)) for finding in _wrong(option))
    right = [option for option in options if not any(True for _ in _wrong(option))]
    if is_endless([Window(edge_of(option.begin), edge_of(option.end)) for option in right]):
        yield Finding((), "covers the whole week: nothing would ever be deployed by itself")


def _wrong(option: settings.Freeze) -> Iterator[Finding]:
    edges: list[Edge] = []
    for name, text in (("from", option.begin), ("to", option.end)):
        try:
            edges.append(edge_of(text))
        except ValueError as error:
            yield Finding((name,), str(error), "days are mon tue wed thu fri sat sun; hours have two digits")
    if len(edges) < 2:
        return
    if (edges[0].day is None) != (edges[1].day is None):
        yield Finding(("to",), "must name a day if `from` does, and only then", relies=(("from",),))
    elif edges[0] == edges[1]:
        yield Finding(("to",), "is the same as `from`: this is no time, or all of it", relies=(("from",),))


def is_endless(windows: Sequence[Window]) -> bool:
    """Whether they cover the whole week, so that nothing would ever be deployed by itself."""
    covered: set[int] = set()
    for window in windows:
        for begin in _begins(window):
            covered |= {minute % WEEK_MINUTES for minute in range(begin, begin + window.minutes)}
    return len(covered) == WEEK_MINUTES


def _minute_of_week(edge: Edge) -> int:
    return (edge.day or 0) * _DAY_MINUTES + edge.minute


def _begins(window: Window) -> Iterator[int]:
    """The minutes of the week at which it begins."""
    first = _minute_of_week(window.begin)
    if window.begin.day is not None:
        yield first
        return
    yield from range(first, WEEK_MINUTES, _DAY_MINUTES)


def _spans(window: Window, now: datetime, zone: tzinfo) -> Iterator[tuple[datetime, datetime]]:
    """Each time that the window comes round, from a week before `now` to a week after it, as instants."""
    today = now.astimezone(zone).date()
    for offset in range(-8, 9):
        day = today + timedelta(days=offset)
        if window.begin.day in (None, day.weekday()):
            last = window.begin.minute + window.minutes
            yield _instant(day, window.begin.minute, zone, late=False), _instant(day, last, zone, late=True)


def _instant(day: date, minute: int, zone: tzinfo, *, late: bool) -> datetime:
    """When a clock on the wall shows this minute, counted from the day's midnight. `late`: the second time, if there
    are two. What it skips is the instant of the jump (PEP 495: then `fold` tells the offsets before and after it)."""
    shown = datetime(day.year, day.month, day.day) + timedelta(minutes=minute)  # noqa: DTZ001 - the zone follows
    first, second = (shown.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first <= second:
        return second if late else first
    return _jump(second, first, zone)


def _jump(before: datetime, after: datetime, zone: tzinfo) -> datetime:
    """The instant between the two at which the zone's offset changes, to the second."""
    offset = before.astimezone(zone).utcoffset()
    low, high = 0, int((after - before).total_seconds())
    while high - low > 1:
        middle = (low + high) // 2
        if (before + timedelta(seconds=middle)).astimezone(zone).utcoffset() == offset:
            low = middle
        else:
            high = middle
    return before + timedelta(seconds=high)
