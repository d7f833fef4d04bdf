"""Durations and sizes as people write them: `200ms 30s 5m 2h 30d`, `64M 2G`.

A duration always has its unit, so that nobody takes seconds for minutes. Sizes are powers of 1024.
"""

import re

from agent.core.settings import Bytes, Seconds

DURATION = r"^[0-9]{1,9}(ms|s|m|h|d)$"
"""As a pattern for a JSON Schema."""
SIZE = r"^[0-9]{1,12}[KMGT]?$"

_MILLISECONDS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_BYTES = {"T": 1 << 40, "G": 1 << 30, "M": 1 << 20, "K": 1 << 10, "": 1}


def parse_duration(text: str) -> Seconds:
    """Seconds. Raises ValueError for anything that is not a whole number and a unit."""
    found = re.fullmatch(r"([0-9]{1,9})(ms|s|m|h|d)", text)
    if found is None:
        raise ValueError("must be a duration such as 200ms, 30s, 5m, 2h or 30d")
    return Seconds(int(found[1]) * _MILLISECONDS[found[2]] / 1000)


def write_duration(seconds: float) -> str:
    """The shortest text that `parse_duration` reads as this duration, to the millisecond."""
    milliseconds = round(seconds * 1000)
    if milliseconds == 0:
        return "0s"
    unit, size = next(pair for pair in _MILLISECONDS.items() if milliseconds % pair[1] == 0)
    return f"{milliseconds // size}{unit}"


def parse_size(text: str) -> Bytes:
    """Bytes. Raises ValueError for anything that is not a whole number and perhaps K, M, G or T."""
    found = re.fullmatch(r"([0-9]{1,12})([KMGT]?)", text)
    if found is None:
        raise ValueError("must be a size such as 64M or 2G")
    return Bytes(int(found[1]) * _BYTES[found[2]])


def write_size(size: int) -> str:
    """The shortest text that `parse_size` reads as this size."""
    if size == 0:
        return "0"
    letter, factor = next(pair for pair in _BYTES.items() if size % pair[1] == 0)
    return f"{size // factor}{letter}"
