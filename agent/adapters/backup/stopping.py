"""Ending long work in a thread: it asks now and then whether it shall."""

from collections.abc import Callable

from agent.core.errors import StepFailed

Stopped = Callable[[], bool]


def never() -> bool:
    """For work that nobody stops."""
    return False


def heed(stopped: Stopped) -> None:
    """Raises backup-failed if the work was told to stop. Called at least several times a second."""
    if stopped():
        raise StepFailed("backup-failed", "it was cancelled")
