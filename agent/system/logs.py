"""The agent's own log: one line an entry on standard output, without control characters and without secrets."""

import json
import logging
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime

from agent.core.text import clean, clean_lines

LINE_LIMIT = 8192
"""Bytes of a whole line (R-MO-5); what is longer is cut, and stays JSON where it is JSON."""

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
        return _cut(prefix + line, LINE_LIMIT)


def _cut(text: str, size: int) -> str:
    """At most so many bytes of it, and no half of a character."""
    return text.encode("utf-8", "replace")[:size].decode("utf-8", "ignore")


def _as_json(entry: dict[str, str]) -> str:
    """One object that fits: of what is too long the trace goes first."""
    room = LINE_LIMIT - len("<6>")
    while len((line := json.dumps(entry, ensure_ascii=False)).encode("utf-8", "replace")) > room:
        name = "trace" if entry.get("trace") else "message"
        entry[name] = _cut(entry[name], len(entry[name].encode("utf-8", "replace")) // 2)
    return line


def set_up(redact: Callable[[str], str], *, level: str = "INFO", as_json: bool = False) -> None:
    """Sends the log of the whole process to standard output."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        LineFormatter(as_json=as_json, journal="JOURNAL_STREAM" in os.environ, redact=redact)
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
