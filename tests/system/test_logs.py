"""The agent's own log: lines that somebody else can rely on."""

import json
import logging

import pytest

from agent.system.logs import LINE_LIMIT, LineFormatter


def line(message: str, error: BaseException | None = None, *, as_json: bool, journal: bool = False) -> str:
    formatter = LineFormatter(as_json=as_json, journal=journal, redact=str)
    trace = (type(error), error, None) if error is not None else None
    return formatter.format(logging.LogRecord("agent", logging.INFO, __file__, 1, message, (), trace))


@pytest.mark.parametrize("letter", ["x", "ä", "\U0001f600", '"', "\\"])
@pytest.mark.parametrize("journal", [False, True])
def test_no_line_is_longer_than_8_kib_whatever_it_is_about(letter: str, journal: bool) -> None:
    """R-MO-5: bytes, not characters; with its time and its traceback."""
    for size in (8000, 8150, 8192, 100_000):
        for error in (None, ValueError(letter * size)):
            text = line(letter * size, error, as_json=False, journal=journal)
            assert LINE_LIMIT - 4 <= len(text.encode()) <= LINE_LIMIT or size < LINE_LIMIT
            entry = line(letter * size, error, as_json=True, journal=journal)
            assert len(entry.encode()) <= LINE_LIMIT
            assert json.loads(entry.removeprefix("<6>"))["message"].startswith(letter * 1000)


def test_a_short_line_is_left_alone() -> None:
    assert line("all is well", as_json=False, journal=True) == "<6>all is well"
    assert json.loads(line("all is well", as_json=True))["message"] == "all is well"
