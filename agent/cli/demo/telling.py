"""What the person reads: an act's title, what happened with its times, and how it ended.

On a terminal in colour, with the current state while something is under way; elsewhere plain lines.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO


class Telling:
    """Writes to `stream`. `now` is a monotonic clock."""

    def __init__(self, stream: TextIO, now: Callable[[], float]) -> None:
        self._stream = stream
        self._now = now
        self._terminal = _terminal(stream) if stream.isatty() else None
        self._status: Any = None

    def line(self, text: str = "", style: str = "") -> None:
        """One line."""
        if self._terminal is None:
            print(text, file=self._stream, flush=True)
        else:
            self._terminal.print(text, style=style or None)

    def waiting(self, text: str) -> None:
        """What is under way; seen on a terminal only."""
        if self._status is not None:
            self._status.update(text)

    @contextmanager
    def act(self, number: int, title: str) -> Iterator[None]:
        """Tells the title before, and after it how long the act took; nothing after one that failed."""
        self.line()
        self.line(f"Act {number} of 5: {title}", "bold")
        began = self._now()
        if self._terminal is None:
            yield
        else:
            with self._terminal.status("...") as self._status:
                yield
        self._status = None
        self.line(f"  ok, {self._now() - began:.1f} s", "green")


def _terminal(stream: TextIO) -> Any:
    from rich.console import Console

    return Console(file=stream, highlight=False, markup=False, soft_wrap=True)
