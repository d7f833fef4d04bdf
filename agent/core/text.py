"""Text from outside, made harmless before it reaches a log, a terminal or a page."""

import re

_UNSAFE = re.compile(
    # ANSI sequences whole; C0 and C1 controls; zero-width and bidirectional marks (CVE-2021-42574)
    r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"
    r"|[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]|[\ud800-\udfff]"
)
_UNSAFE_BUT_LINES = re.compile(_UNSAFE.pattern.replace(r"\x00-\x1f", r"\x00-\x08\x0b-\x1f"))


def clean(text: str, limit: int = 256) -> str:
    """One line without control, escape and direction characters, at most `limit` characters long."""
    line = _UNSAFE.sub(" ", text[: limit * 8])
    line = " ".join(line.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def clean_lines(text: str) -> str:
    """Like `clean`, but line feeds and tabs stay and nothing is cut: for a program's output."""
    return _UNSAFE_BUT_LINES.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def tail(text: str, limit: int) -> str:
    """The last `limit` characters, beginning at a line's start where there is one."""
    if len(text) <= limit:
        return text
    cut = text[-limit:]
    _, newline, rest = cut.partition("\n")
    return rest if newline and rest else cut
