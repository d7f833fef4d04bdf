"""Whose hands build in a service's releases beside the agent's: what `adapters.releases` has to do about them."""

from pathlib import Path
from typing import Protocol

from agent.system import access, process


class Hands(Protocol):
    """Who builds in releases. What they leave behind is ended, and can be removed."""

    async def end(self, place: Path) -> None:
        """Whoever an agent that was killed has left at work in this release is ended."""

    async def give_back(self, place: Path) -> bool:
        """What the agent cannot remove there they remove; False: it is nothing of theirs."""

    def close(self, place: Path) -> None:
        """No build may write there any more. Blocks."""

    def show(self, place: Path) -> None:
        """A build may read there. Blocks."""


class OwnHands:
    """The agent's own user builds. `other` is the number of the user that may have built before: access lists, which
    new releases inherit, still name it."""

    def __init__(self, other: int | None = None) -> None:
        self._other = other

    async def end(self, place: Path) -> None:
        """See `Hands`: they are found by the mark that they carry."""
        await process.end_orphans(process.mark_of(place))

    async def give_back(self, place: Path) -> bool:  # noqa: ARG002 - all of it is the agent's
        """See `Hands`."""
        return False

    def close(self, place: Path) -> None:
        """See `Hands`: for the other one; the agent's user stays the same."""
        if self._other is not None:
            access.limit(place, self._other, access.NOTHING)

    def show(self, place: Path) -> None:
        """See `Hands`: the user is the same."""
