"""What the machine gives: time, secrets, space put aside, a hint that there is work. Its rules: `core.ports`."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    """Time, as an argument. Durations come from `monotonic`; `now` is for people, cron and retention."""

    def now(self) -> datetime:
        """The wall clock, aware, UTC."""

    def monotonic(self) -> float:
        """Seconds that only grow."""

    async def sleep(self, seconds: float) -> None:
        """Waits."""


class Secrets(Protocol):
    """Resolves references to secrets. `redact` hides every secret that was ever resolved."""

    def get(self, reference: object) -> bytes:
        """The secret's bytes. Raises ConfigError if it is missing, empty or readable by everybody."""

    def key_file(self, reference: object) -> Path:
        """The file with a private key, for a program that reads it itself. Looks at it anew each time.

        Blocks. Raises ConfigError if it is missing, open to others, no private key, or locked by a passphrase."""

    def redact(self, text: str) -> str:
        """The text with every known secret replaced by ***."""


class Reserve(Protocol):
    """Space on the state's disk, put aside for what was begun. Its methods block, may be called in any thread, and
    raise nothing: a disk that refuses is told in `why`."""

    @property
    def short(self) -> bool:
        """Whether some of it was needed, or there was no room for it: nothing new is to be begun. Answers at once."""

    @property
    def why(self) -> str:
        """A sentence about that, with figures; "" if all of it is there."""

    def spend(self) -> bool:
        """Gives a piece of it back to the disk; False: there was nothing left."""

    def restore(self) -> bool:
        """Puts aside what is missing, if that leaves enough to others. Returns whether all of it is there."""

    def ensure(self) -> None:
        """Spends as much as a start of a service needs of a disk that is full."""


Wake = Callable[[], None]
"""A hint that there is work. It may be lost without harm."""
