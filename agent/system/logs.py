"""The agent's own log: one line an entry on standard output, without control characters and without secrets."""

import json
import logging
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import TextIO

from agent.core.text import clean, clean_lines

log = logging.getLogger(__name__)

LINE_LIMIT = 8192
"""Characters; what is longer is cut."""

_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


class LineFormatter(logging.Formatter):
    """Text or JSON. Under systemd (JOURNAL_STREAM) each line begins with its priority."""

    def __init__(self, *, as_json: bool, journal: bool, redact: Callable[[str], str]) -> None:
        super().__init__()
        self._json = as_json
        self._journal = journal
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        """One line, also for an exception with its traceback."""
        message = clean(self._redact(record.getMessage()), LINE_LIMIT)
        trace = ""
        if record.exc_info:
            trace = clean_lines(self._redact(self.formatException(record.exc_info)))
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        if self._json:
            entry = {"at": at, "level": record.levelname.lower(), "logger": record.name, "message": message}
            line = _as_json(entry | ({"trace": trace} if trace else {}))
        else:
            line = f"{message}{' | ' + trace.replace(chr(10), ' | ') if trace else ''}"
            line = line if self._journal else f"{at} {record.levelname:<7} {line}"
        prefix = f"<{_PRIORITIES.get(record.levelno, 6)}>" if self._journal else ""
        return prefix + line[:LINE_LIMIT]


def _as_json(entry: dict[str, str]) -> str:
    """A whole document within the limit: it is the longest texts that are cut, not the line."""
    line = json.dumps(entry, ensure_ascii=False)
    for name in ("trace", "message"):
        over = len(line) - (LINE_LIMIT - 3)  # the priority stands before it
        if over > 0 and name in entry:
            entry[name] = entry[name][: max(len(entry[name]) - over, 0)]
            line = json.dumps(entry, ensure_ascii=False)
    return line


class _Standard(logging.StreamHandler[TextIO]):
    """Standard output."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        """The library would print the entry with its arguments, which nobody redacted."""
        error = sys.exc_info()[1]
        with suppress(OSError, ValueError):
            print(f"an entry of {record.name} could not be logged: {type(error).__name__}", file=sys.stderr)


def set_up(redact: Callable[[str], str], *, level: str = "INFO", as_json: bool = False) -> None:
    """Sends the log of the whole process to standard output, and what Python itself would print of a defect, too:
    only so it is one line, and without secrets (R-RX-31)."""
    handler = _Standard(sys.stdout)
    handler.setFormatter(
        LineFormatter(as_json=as_json, journal="JOURNAL_STREAM" in os.environ, redact=redact)
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    sys.excepthook = _ended
    threading.excepthook = _thread_ended
    sys.unraisablehook = _unraisable


def _ended(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        log.critical("the agent has ended by a defect", exc_info=(kind, error, trace))


def _thread_ended(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_value is not None:
        log.error("a thread has ended", exc_info=(ended.exc_type, ended.exc_value, ended.exc_traceback))


def _unraisable(raised: "sys.UnraisableHookArgs") -> None:
    if raised.exc_value is not None:
        log.error(
            "an error nobody waits for", exc_info=(raised.exc_type, raised.exc_value, raised.exc_traceback)
        )
