"""`source.paths`: which changes matter. Pure.

A pattern is a path from the repository's root, compared segment by segment:

    *       any characters of one segment             src/*.py
    **      any number of whole segments, also none   src/**   **/requirements.txt
    /       at the end: everything below a directory  docs/    the same as docs/**
    !       at the start: not these                   src/**, !src/tests/

The last pattern that fits a path decides about it. Everything else, `?` and `[` too, stands for itself. The work is
bounded by pattern times path, whatever somebody pushes: no regular expression, no backtracking without end.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

P = TypeVar("P")
T = TypeVar("T")


def touches(patterns: Sequence[str], changed: Iterable[str]) -> bool:
    """Whether one of the changed paths matters."""
    return any(matters(patterns, path) for path in changed)


def matters(patterns: Sequence[str], path: str) -> bool:
    """What the last pattern that fits says of a path; without one it does not matter."""
    segments = path.split("/")
    for pattern in reversed(patterns):
        if fits(pattern.removeprefix("!"), segments):
            return not pattern.startswith("!")
    return False


def problem_of(patterns: Sequence[str], index: int) -> str:
    """Why a pattern can match nothing, or not what was meant; "" if it is right."""
    pattern = patterns[index].removeprefix("!")
    segments = pattern.removesuffix("/").split("/")
    if patterns[index].startswith("!") and index == 0:
        return "must not begin with `!`: there is nothing yet to take it out of"
    if any(part in ("", ".", "..") for part in segments):
        return "must be a path from the repository's root, without `.`, `..` and double slashes"
    if any("**" in part and part != "**" for part in segments):
        return "must have `**` between slashes only; within a name write `*`"
    return ""


def fits(pattern: str, segments: Sequence[str]) -> bool:
    """Whether a pattern without `!` fits a whole path."""
    wanted = pattern.removesuffix("/").split("/") + (["**"] if pattern.endswith("/") else [])
    return _fits(wanted, segments, "**", _segment_fits)


def _segment_fits(pattern: str, segment: str) -> bool:
    return _fits(pattern, segment, "*", str.__eq__)


def _fits(pattern: Sequence[P], items: Sequence[T], star: P, same: Callable[[P, T], bool]) -> bool:
    """A glob: goes back to the last star only, which is enough, because an earlier one that took more gains nothing."""
    at, here = 0, 0
    after_star, taken = -1, 0
    while here < len(items):
        if at < len(pattern) and pattern[at] == star:
            at += 1
            after_star, taken = at, here
        elif at < len(pattern) and same(pattern[at], items[here]):
            at, here = at + 1, here + 1
        elif after_star >= 0:
            taken += 1
            at, here = after_star, taken
        else:
            return False
    return all(part == star for part in pattern[at:])
