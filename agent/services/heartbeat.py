"""How the long-running loops say that they are alive: each promises to come by again within so many seconds.

    within(patience.switching(runtime), "switching")

stands wherever a loop begins something that takes its time. Whose promise it is needs no argument: `supervise` says it
for all that runs in its task (a context variable, so that it also holds in the tasks that are begun there). Whoever is
not supervised, such as a request, promises nothing by the same words: a part that both use need not know.
`services.watchdog` looks whether the promises are kept. At rest this costs a few assignments a minute.
"""

from collections.abc import Callable
from contextvars import ContextVar

from agent.core.ports import Clock
from agent.core.pulse import Promise, Pulse

Beat = Callable[[float | None, str], None]
"""Promises to come by again within so many seconds; None: promises nothing."""


def unwatched(seconds: float | None, doing: str) -> None:
    """Nobody looks after it."""
    del seconds, doing


current: ContextVar[Beat] = ContextVar("current", default=unwatched)
"""Of the loop that this code runs for."""


def within(seconds: float, doing: str = "") -> None:
    """The loop that this code runs for comes by again before so many seconds have passed."""
    current.get()(seconds, doing)


def at_rest() -> None:
    """It waits for what may never come."""
    current.get()(None, "")


class Heartbeat:
    """Of all loops. `changed` is called when what goes on is another thing than before."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pulse = Pulse()
        self._stopping = False
        self.changed: Callable[[], None] = lambda: None

    def of(self, who: str) -> Beat:
        """What `who` says that it is alive with."""

        def beat(seconds: float | None, doing: str) -> None:
            before = self._pulse.doing()
            if seconds is None or self._stopping:
                self._pulse.release(who)
            else:
                self._pulse.promise(who, self._clock.monotonic() + seconds, doing)
            if self._pulse.doing() != before:
                self.changed()

        return beat

    def end(self) -> None:
        """The agent is being stopped: nobody promises anything any more."""
        self._stopping = True
        self._pulse = Pulse()

    def broken(self) -> tuple[Promise, ...]:
        """Who did not keep a promise."""
        return self._pulse.broken(self._clock.monotonic())

    def doing(self) -> dict[str, str]:
        """What goes on, by who does it."""
        return self._pulse.doing()
