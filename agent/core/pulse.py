"""Who has promised to come by again, and until when. Pure: the time is an argument (monotonic seconds).

Each long-running loop has one open promise at most: the next one takes its place. A promise that is overdue is broken,
until its loop comes by once more. A loop that waits for what may never come has none.
"""

from msgspec import Struct


class Promise(Struct, frozen=True, kw_only=True):
    """`who` comes by again before `due`; meanwhile it is `doing` something, "" for nothing to speak of."""

    who: str
    due: float
    doing: str = ""


class Pulse:
    """The open promises of all loops."""

    def __init__(self) -> None:
        self._open: dict[str, Promise] = {}

    def promise(self, who: str, due: float, doing: str = "") -> None:
        """It has come by, and will again."""
        self._open[who] = Promise(who=who, due=due, doing=doing)

    def release(self, who: str) -> None:
        """It has come by, and promises nothing."""
        self._open.pop(who, None)

    def broken(self, now: float) -> tuple[Promise, ...]:
        """The promises that were not kept, the longest overdue first."""
        late = [promise for promise in self._open.values() if promise.due < now]
        return tuple(sorted(late, key=lambda promise: promise.due))

    def doing(self) -> dict[str, str]:
        """What is going on, by who does it; who does nothing to speak of is left out."""
        return {who: promise.doing for who, promise in sorted(self._open.items()) if promise.doing}


def told(services: int, doing: dict[str, str]) -> str:
    """One line for `systemctl status`: `2 services; scraper: building`."""
    count = "1 service" if services == 1 else f"{services} services"
    return "; ".join([count, *(f"{who.rpartition(' ')[2]}: {what}" for who, what in doing.items())])
