"""How old a time is that a service wrote down, in whichever usual form it did so."""

import math
import re
from datetime import UTC, datetime

from agent.core.text import clean
from agent.core.units import write_duration

AHEAD = 60.0
"""So many seconds a time may be in the future: clocks differ."""

_SCALES = ((1e11, 1.0), (1e14, 1e3), (1e17, 1e6), (1e20, 1e9))
"""Below so much it counts seconds, milliseconds, microseconds, nanoseconds: each covers the years 1973 to 5138."""


def when(value: object) -> float | None:
    """Seconds since 1970, or None if it is no time: a number or its digits, or ISO 8601 (UTC if it names no zone)."""
    if isinstance(value, str):
        text = value.strip()
        if not re.fullmatch(r"[+-]?[0-9]{1,30}(\.[0-9]{1,30})?", text):
            return _iso(text)
        value = float(text)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return next((value / scale for below, scale in _SCALES if abs(value) < below), None)


def judge(value: object, now: datetime, max_age: float) -> tuple[bool, str]:
    """Whether it is not longer ago than `max_age` seconds, and a sentence. What is in the future cannot be judged."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return False, "there is no time yet"
    at = when(value)
    if at is None:
        return False, f"{clean(repr(value), 60)} is not a time"
    age = now.timestamp() - at
    if age < -AHEAD:
        return False, f"the time is {_about(-age)} in the future: compare the clocks and the time zone"
    told = f"{_about(max(age, 0.0))} ago"
    return (True, told) if age <= max_age else (False, f"{told}, more than {write_duration(max_age)}")


def _iso(text: str) -> float | None:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _about(seconds: float) -> str:
    """A duration for people: in one unit, the largest that leaves at least two of it."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
