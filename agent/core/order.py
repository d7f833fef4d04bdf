"""Which of the wishes in a queue runs, and which have become idle. Pure: `services.gate` asks git and the journal.

Order is ancestry, not the time at which something was queued: a delivery that comes late must not take the service
back. A wish gives way to one whose revision stands on its own. What a person forced overrides that: it gives way to
a later forced one only, and takes the place of whatever was queued before it. What has a reason to do nothing (it is
live, quarantined, skipped ...) and what has to wait (held, frozen) takes nobody's place.

    decide(claimed, waiting, stands_on)  ->  the end of the claimed one, or None: it runs;  the ends of those waiting
"""

import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from msgspec import Struct

Pair = tuple[str, str]
"""A revision, and one that it stands on (an ancestor; never itself)."""

SUPERSEDES = frozenset({"newer-live", "skip-deploy", "paths-unchanged"})
"""Reasons of a wish's own with which it ends superseded, also while it still waits."""


class Wish(Struct, frozen=True, kw_only=True):
    """A deployment that has not begun, with all that its fate depends on."""

    id: str
    number: int
    """Its place in the queue: a greater one came later."""
    revision: str
    person: bool = False
    """A person asked for it."""
    forced: bool = False
    waits: bool = False
    """Held or frozen: it may not run now."""
    bar: str = ""
    """A reason of its own why it does not run; a code of `core.codes`. What is forced has none."""


class End(Struct, frozen=True):
    """A wish ends superseded; `by` is the wish that took its place, if one did."""

    id: str
    reason: str
    by: str = ""


class Decision(Struct, frozen=True):
    """`claimed`: how the claimed wish ends; None: it runs, unless it has a bar. `waiting`: which of the others end."""

    claimed: End | None
    waiting: tuple[End, ...]


def decide(claimed: Wish, waiting: Sequence[Wish], stands_on: AbstractSet[Pair]) -> Decision:
    """What becomes of the wish that was claimed and of those in the queue. Who is not told an end stays in it."""
    every = (claimed, *waiting)
    active = [wish for wish in every if not wish.bar and not wish.waits]
    left = [wish for wish in active if not any(_takes_place(other, wish, stands_on) for other in active)]
    ends = {wish.id: end for wish in every if (end := _end(wish, left, stands_on)) is not None}
    own = ends.pop(claimed.id, None)
    return Decision(own, tuple(ends.values()))


def _end(wish: Wish, left: Sequence[Wish], stands_on: AbstractSet[Pair]) -> End | None:
    if wish.bar in SUPERSEDES:
        return End(wish.id, wish.bar)
    by = next((other for other in left if _takes_place(other, wish, stands_on)), None)
    if wish.bar or by is None:  # the end of what is live or quarantined already is not "superseded"
        return None
    return End(wish.id, "newer-queued", by.id)


def _takes_place(one: Wish, other: Wish, stands_on: AbstractSet[Pair]) -> bool:
    """Whether `one` makes `other` idle."""
    if one.id == other.id:
        return False
    if one.forced and one.number > other.number:
        return True
    if other.forced:
        return one.forced and one.number > other.number
    if one.revision == other.revision:
        return _weight(one) > _weight(other)
    return (one.revision, other.revision) in stands_on


def _weight(wish: Wish) -> tuple[bool, bool, int]:
    """Of two wishes for one revision: what was forced, what a person wants, what came last."""
    return wish.forced, wish.person, wish.number


_SKIP = re.compile(r"\[(?:skip deploy|deploy skip)\]", re.IGNORECASE)


def skips(message: str) -> bool:
    """Whether a commit's message asks for no deployment."""
    return _SKIP.search(message) is not None
