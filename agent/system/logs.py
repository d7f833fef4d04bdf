"""The agent's own log: one line an entry on standard output, without control characters and without secrets.

Whoever logs only hands the entry over; a thread of its own makes lines of them and writes those that came together at
once. So a reader of standard output that hangs (a full pipe, a stuck journal) stops neither the loop nor an answer:
what does not fit into BACKLOG is dropped, and counted in the log. Nothing that was handed over is lost at an
orderly end (`logging.shutdown`), nor by an unforeseen error; SIGKILL may cost the last GATHER_SECONDS of it.
"""

import io
import json
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import TextIO

from agent.core.text import clean, clean_lines

log = logging.getLogger(__name__)

LINE_LIMIT = 8192
"""Bytes of a whole line (R-MO-5); what is longer is cut, and stays JSON where it is JSON."""

BACKLOG = 4096
"""Entries that may wait to be written."""

AT_ONCE = 256
"""Entries that are written together at most: each may be LINE_LIMIT long."""

GATHER_SECONDS = 0.05
"""How long an entry below WARNING waits for company; others are written at once."""

END_SECONDS = 3.0
"""How long the end waits for whoever reads standard output."""

_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


class LineFormatter(logging.Formatter):
    """Text or JSON. Under systemd (JOURNAL_STREAM) each line begins with its priority."""

    def __init__(self, *, as_json: bool, journal: bool, redact: Callable[[str], str]) -> None:
        super().__init__()
        self._json = as_json
        self._journal = journal
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        """One line, also for an exception with its traceback. JSON stays JSON where it is cut."""
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
    """One object that fits: the longer text gives way, a traceback in its middle, where it tells least."""
    room = LINE_LIMIT - len("<6>")
    while len((line := json.dumps(entry, ensure_ascii=False)).encode("utf-8", "replace")) > room:
        trace, message = entry.get("trace", ""), entry["message"]
        if len(trace) > len(message):
            part = len(trace) // 4
            entry["trace"] = f"{trace[:part]} ... {trace[-part:]}"
        else:
            entry["message"] = message[: len(message) // 2]
    return line


class Lines(logging.Handler):
    """Writes entries to a stream, in their order, from a thread of its own."""

    def __init__(self, stream: TextIO, *, backlog: int = BACKLOG, gather: float = GATHER_SECONDS) -> None:
        super().__init__()
        self._stream = stream
        self._backlog = backlog
        self._gather = gather
        self._waiting: deque[logging.LogRecord] = deque()
        self._dropped = 0
        self._some, self._urgent = threading.Event(), threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._work, name="log", daemon=True)
        self._thread.start()

    def handle(self, record: logging.LogRecord) -> bool:
        """Takes an entry over; waits for nothing (the handler's own lock is not needed: a deque is one)."""
        if len(self._waiting) >= self._backlog:
            self._dropped += 1
            return False
        record.msg, record.args = _told(record), None
        self._waiting.append(record)
        if not self._some.is_set():
            self._some.set()
        if record.levelno >= logging.WARNING:
            self._urgent.set()
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """As `handle`."""
        self.handle(record)

    def flush(self) -> None:
        """Writes what waits now, unless that is being done already."""
        self._urgent.set()
        self._some.set()

    def close(self) -> None:
        """Writes what waits, as far as it is read within END_SECONDS."""
        self._ended = True
        self.flush()
        self._thread.join(END_SECONDS)
        super().close()

    def _work(self) -> None:
        while True:
            self._some.wait()
            self._urgent.wait(self._gather)
            self._some.clear()
            self._urgent.clear()
            ended = self._ended
            self._write_waiting()
            if ended:
                return

    def _write_waiting(self) -> None:
        while self._waiting:
            many = min(len(self._waiting), AT_ONCE)
            self._write([self.format(self._waiting.popleft()) for _ in range(many)])
        dropped, self._dropped = self._dropped, 0
        if dropped:
            text = f"{dropped} entries were dropped: whoever reads this log is too slow"
            entry = logging.LogRecord(__name__, logging.WARNING, "", 0, text, None, None)
            self._write([self.format(entry)])

    def _write(self, lines: list[str]) -> None:
        try:
            self._stream.write("".join(f"{line}\n" for line in lines))
            self._stream.flush()
        except (OSError, ValueError):  # nobody reads any more, and there is no other place to say so
            self._dropped += len(lines)


def _told(record: logging.LogRecord) -> str:
    """The message, made at once: what it tells of may change before it is written."""
    try:
        return record.getMessage()
    except (TypeError, ValueError, LookupError, AttributeError) as error:  # it must not harm whoever logs it
        return f"an entry of {record.name} cannot be told: {type(error).__name__}"


def set_up(redact: Callable[[str], str], *, level: str = "INFO", as_json: bool = False) -> None:
    """Sends the log of the whole process to standard output, and what Python itself would print of a defect, too:
    only so it is one line, and without secrets (R-RX-31)."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # whatever the locale, a line is written
    handler = Lines(sys.stdout)
    handler.setFormatter(
        LineFormatter(as_json=as_json, journal="JOURNAL_STREAM" in os.environ, redact=redact)
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    # what no line shows need not be found out for each
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
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
