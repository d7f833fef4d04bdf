"""Only one agent works in a state directory: a kernel lock, which dies with its holder however that ends."""

import fcntl
import os
from pathlib import Path
from types import TracebackType

from agent.core.errors import Unavailable


class StateLock:
    """Held as a context manager for the agent's whole life. Not inherited by children (O_CLOEXEC)."""

    def __init__(self, directory: Path) -> None:
        """Takes the lock. Raises Unavailable(already-running) with the holder's pid, and OSError."""
        handle = os.open(directory / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(handle)
            raise Unavailable("already-running", f"already running, pid {holder}") from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        self._handle = handle

    def __enter__(self) -> None:
        """It is held already."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Lets it go; the file stays."""
        os.close(self._handle)
