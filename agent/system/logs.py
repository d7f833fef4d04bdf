"""The agent's own log: one line an entry on standard output, without control characters and without secrets."""

import json
import logging
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime

from agent.core.text import clean, clean_lines

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
            line = json.dumps(entry | ({"trace": trace} if trace else {}), ensure_ascii=False)
        else:
            line = f"{message}{' | ' + trace.replace(chr(10), ' | ') if trace else ''}"
            line = line if self._journal else f"{at} {record.levelname:<7} {line}"
        prefix = f"<{_PRIORITIES.get(record.levelno, 6)}>" if self._journal else ""
        return prefix + line[:LINE_LIMIT]


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
