"""The agent's own log: whole lines in their order, nothing lost at the end, and nobody waits for its reader."""

import io
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.system.logs import LINE_LIMIT, LineFormatter, Lines

SECRET = "a-secret-that-nobody-may-read"


def a_formatter(*, as_json: bool = False, journal: bool = False) -> LineFormatter:
    return LineFormatter(as_json=as_json, journal=journal, redact=lambda text: text.replace(SECRET, "***"))


@contextmanager
def a_log(stream: io.TextIOBase, backlog: int = 100, *, as_json: bool = False) -> Iterator[logging.Logger]:
    handler = Lines(stream, backlog=backlog)  # type: ignore[arg-type]
    handler.setFormatter(a_formatter(as_json=as_json))
    logger = logging.Logger("agent.test", logging.DEBUG)  # noqa: LOG001 - one that leaves nothing behind
    logger.addHandler(handler)
    try:
        yield logger
    finally:
        handler.close()


def a_record(message: str, *args: object, trace: bool = False) -> logging.LogRecord:
    info = None
    if trace:
        try:
            raise ValueError("x" * 20_000 + SECRET)
        except ValueError:
            info = sys.exc_info()
    return logging.LogRecord("agent.test", logging.INFO, "", 0, message, args, info)


def test_entries_are_whole_lines_in_their_order() -> None:
    stream = io.StringIO()
    with a_log(stream, 10_000) as log:

        def tell(who: int) -> None:
            for number in range(300):
                log.info("%d %d", who, number)

        threads = [threading.Thread(target=tell, args=(who,)) for who in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        log.error("the end")
    said = [line.split()[2:] for line in stream.getvalue().splitlines()]
    assert len(said) == 1201
    assert said[-1] == ["the", "end"]
    for who in range(4):
        assert [number for one, number in said[:-1] if one == str(who)] == [str(n) for n in range(300)]


def test_a_message_says_what_was_true_when_it_was_logged() -> None:
    stream, growing = io.StringIO(), ["one"]
    with a_log(stream) as log:
        log.info("%s", growing)
        growing.append("two")
    assert stream.getvalue().endswith("['one']\n")


def test_a_message_that_cannot_be_made_harms_nobody() -> None:
    stream = io.StringIO()
    with a_log(stream) as log:
        log.info("%d", "no number")
        log.info("next")
    first, second = stream.getvalue().splitlines()
    assert "cannot be told: TypeError" in first
    assert second.endswith("next")


def test_who_logs_does_not_wait_for_a_reader_that_hangs_and_what_was_dropped_is_told() -> None:
    """R-MO-3, R-MO-5: standard output is a pipe that nobody reads."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        with a_log(stream, backlog=300) as log:
            started = time.monotonic()
            for number in range(5000):
                log.warning("%d %s", number, "x" * 200)
            took = time.monotonic() - started
            got = bytearray()
            reader = threading.Thread(target=lambda: got.extend(_read_to(reading, b"were dropped")))
            reader.start()
            reader.join(60)
        assert not reader.is_alive()
    os.close(reading)
    lines = got.decode().splitlines()
    dropped = next(int(line.split()[2]) for line in lines if "were dropped" in line)
    assert dropped + len([line for line in lines if "xxx" in line]) >= 5000 - 300
    assert took < 30, "a pipe of 64 KiB was full after 300 of them"


def _read_to(descriptor: int, word: bytes) -> bytes:
    got = bytearray()
    while word not in got:
        got += os.read(descriptor, 65536)
    return bytes(got)


def test_nothing_is_lost_at_the_end_of_the_process(tmp_path: Path) -> None:
    """Not by an exit, nor by an error that nobody foresaw."""
    program = """
import logging, sys
from agent.system.logs import set_up
set_up(lambda text: text)
for number in range(2000):
    logging.getLogger("x").info("line %d", number)
if sys.argv[1] == "error":
    raise RuntimeError("not foreseen")
"""
    for how in ("exit", "error"):
        done = subprocess.run(
            [sys.executable, "-c", program, how], capture_output=True, text=True, timeout=60, check=False
        )
        lines = done.stdout.splitlines()
        assert [line.rsplit(" ", 1)[1] for line in lines[:2000]] == [str(n) for n in range(2000)]
        assert ["not foreseen" in line for line in lines[2000:]] == [True] * (how == "error")
        assert (done.returncode != 0) is (how == "error")


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("trace", [True, False])
@pytest.mark.parametrize("message", ["x" * 20_000, '"\\' * 9000, "\u001b[31m\n\u2028ü" * 4000, SECRET])
def test_a_line_is_bounded_and_one_line_and_without_secrets(
    message: str, *, trace: bool, as_json: bool
) -> None:
    """R-MO-5, R-RX-31, R-RX-32: and JSON stays JSON."""
    line = a_formatter(as_json=as_json).format(a_record("%s", message, trace=trace))
    assert len(line.encode()) <= LINE_LIMIT
    assert len(line.splitlines()) == 1
    assert SECRET not in line
    assert "\u001b" not in line
    if as_json:
        entry = json.loads(line)
        assert entry["message"]
        assert ("ValueError" in entry.get("trace", "")) is trace


def test_under_systemd_a_line_begins_with_its_priority() -> None:
    assert a_formatter(journal=True).format(a_record("hello")) == "<6>hello"
    said = a_formatter(journal=True, as_json=True).format(a_record("hello"))
    assert json.loads(said.removeprefix("<6>"))["message"] == "hello"


def a_line(message: str, error: BaseException | None = None, *, as_json: bool, journal: bool = False) -> str:
    formatter = LineFormatter(as_json=as_json, journal=journal, redact=str)
    trace = (type(error), error, None) if error is not None else None
    return formatter.format(logging.LogRecord("agent", logging.INFO, __file__, 1, message, (), trace))


@pytest.mark.parametrize("letter", ["x", "ä", "\U0001f600", '"', "\\"])
@pytest.mark.parametrize("journal", [False, True])
def test_no_line_is_longer_than_8_kib_whatever_it_is_about(letter: str, journal: bool) -> None:
    """R-MO-5: bytes, not characters; with its time and its traceback."""
    for size in (8000, 8150, 8192, 100_000):
        for error in (None, ValueError(letter * size)):
            text = a_line(letter * size, error, as_json=False, journal=journal)
            assert LINE_LIMIT - 4 <= len(text.encode()) <= LINE_LIMIT or size < LINE_LIMIT
            entry = a_line(letter * size, error, as_json=True, journal=journal)
            assert len(entry.encode()) <= LINE_LIMIT
            assert json.loads(entry.removeprefix("<6>"))["message"].startswith(letter * 500)


def test_a_short_line_is_left_alone() -> None:
    assert a_line("all is well", as_json=False, journal=True) == "<6>all is well"
    assert json.loads(a_line("all is well", as_json=True))["message"] == "all is well"
