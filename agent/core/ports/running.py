"""What runs, and how it is asked how it is. Its rules: `core.ports`."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from agent.core.model import Launch, Probed, Running


class Runtime(Protocol):
    """How one service runs. A runtime outlives the agent: the next agent finds what this one started."""

    async def look(self) -> Running | None:
        """What runs now, or None. Says nothing about its health. Its `release` is "" if nobody knows which one it is.

        Is asked before `current` is changed: what was started by somebody else then runs what it named."""

    async def check(self, launch: Launch) -> None:
        """Whether `start` would find what it is to run: asked while the old version still serves.

        Raises start-failed. Nothing that runs notices it."""

    async def start(self, launch: Launch) -> Running:
        """Starts a release unless this very release runs already. Any other instance must be gone before.

        Raises start-failed (the commit's fault) or runtime-failed (the world's).
        """

    async def stop(self) -> None:
        """Ends what runs, its whole group, with grace and then without. When it returns nothing is left."""

    async def recovers(self) -> bool:
        """Whether somebody else is about to start it again by themselves: then nobody must get in their way."""

    async def listens(self, host: str, port: int) -> bool | None:
        """Whether the socket listening there belongs to what runs now; None: this runtime cannot tell."""

    async def output(self) -> str:
        """The last lines (up to 8 KiB) that the service itself printed, for the report of a failure."""


class Beside(Protocol):
    """A runtime that can start a release beside the one that serves: `start` does, where `refuses` says nothing."""

    async def refuses(self, launch: Launch) -> str:
        """Why this release must not be started beside what runs, as a sentence; "" if it may. It may if it runs."""

    async def promote(self, launch: Launch) -> str:
        """Users are sent to this release, which runs and has proven itself; a sentence about it.

        When it returns it was seen that they get there. What served before still runs. Where they do not get there they
        are sent back, and it raises nginx-refused or nginx-unanswered: the world's fault."""

    async def retire(self, wanted: Callable[[], Awaitable[bool]]) -> bool:
        """What does not serve any more ends: gently, and at the latest when its time is over. What `current` names
        serves then. Raises process-died if that does not run and something else does, which then goes on.

        `wanted`: whether somebody wants it back by now. It is not ended then, and False is returned."""


class Probe(Protocol):
    """One question to a running service."""

    address: tuple[str, int] | None
    """Where it asks, if it asks over TCP: the runtime then confirms whose socket answers."""

    async def ask(self, launch: Launch) -> Probed:
        """Asks what runs as `launch` once, with a deadline of its own. A failure is an answer, never an exception."""


class Knock(Protocol):
    """Where users of a service knock."""

    async def knock(self) -> bool:
        """Whether somebody answered. Quick and light, so that it may be asked all the time; raises nothing."""
