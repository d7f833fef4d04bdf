"""What the commands print: for people as text, with --json the API's own object."""

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from agent.cli.client import Client
from agent.core.errors import Refused

PAGE = 200
"""The most items that the API puts into one page."""

_COLOURS = {
    "succeeded": "32", "healthy": "32", "ok": "32", "failed": "31", "broken": "31;1", "unhealthy": "31",
    "bad": "31", "rolled_back": "33", "held": "33", "degraded": "33", "partial": "33", "superseded": "2",
}  # fmt: skip


def emit(options: argparse.Namespace, document: object, text: str) -> None:
    """The document with --json, else the text."""
    print(json.dumps(document, indent=2, ensure_ascii=False) if options.json else text)


def coloured(word: str) -> str:
    """A state in its colour, on a terminal only."""
    code = _COLOURS.get(word)
    return f"\x1b[{code}m{word}\x1b[0m" if code and sys.stdout.isatty() else word


def table(rows: Sequence[Sequence[str]], head: Sequence[str]) -> str:
    """Columns as wide as their widest cell; the last one is not padded."""
    lines = [list(head), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = []
    for line in lines:
        cells = [coloured(cell) + " " * (width - len(cell)) for cell, width in zip(line, widths, strict=True)]
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)


def ago(at: str | None, now: datetime | None = None) -> str:
    """How long ago an RFC 3339 time was: `3 min ago`."""
    if at is None:
        return "-"
    return f"{span(((now or datetime.now(UTC)) - datetime.fromisoformat(at)).total_seconds())} ago"


def span(seconds: float) -> str:
    """A length of time in its largest unit: `3 min`."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{max(0, int(seconds))} s"


def length(seconds: float) -> str:
    """How long something took: `4.2 s`, `42 s`, `3 min 12 s`, `2 h 5 min`."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    for unit, size, lesser, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit}" + (f" {rest} {lesser}" if rest else "")
    return f"{whole} s"


def local(at: str) -> str:
    """An RFC 3339 time as the clock on the wall shows it here: `2026-11-25 09:03`."""
    return f"{datetime.fromisoformat(at).astimezone():%Y-%m-%d %H:%M}"


def size(number: int) -> str:
    """Bytes for people: `12.5 MiB`."""
    amount = float(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    raise AssertionError("unreachable")


def pages(client: Client, path: str, limit: int, **query: str) -> dict[str, Any]:
    """The first `limit` items of a list of the API, asked for page by page. Raises Refused if that is none."""
    if limit < 1:
        raise Refused(400, "request-invalid", "--limit must be a whole number, 1 or more")
    items: list[Any] = []
    cursor: str | None = None
    while True:
        asked = query | {"limit": str(min(limit - len(items), PAGE))} | ({"before": cursor} if cursor else {})
        page = client.get(f"{path}?{urlencode(asked)}")
        items += page["items"]
        cursor = page["next"]
        if cursor is None or len(items) >= limit:
            return {"items": items, "next": cursor}


def deployment_line(deployment: dict[str, Any]) -> str:
    """One deployment in one line."""
    reason = f" ({deployment['reason']})" if deployment["reason"] else ""
    return f"{deployment['id']}  {subject(deployment)}  {coloured(deployment['state'])}{reason}"


def outage(deployment: dict[str, Any]) -> str:
    """What its switch cost the users: `none`, `0.4 s`; "" where nobody looked."""
    seen = deployment.get("outage")
    if not seen:
        return ""
    return f"{seen['seconds']:.2f} s" if seen["failed"] else "none"


def subject(deployment: dict[str, Any]) -> str:
    """What it is about: a revision, or where a person goes back to."""
    return f"back to {revision(deployment)}" if goes_back(deployment) else revision(deployment)


def revision(deployment: dict[str, Any]) -> str:
    """What it deploys, as far as that is known yet: seven digits, or the name that was asked for."""
    if deployment["revision"]:
        return str(deployment["revision"])[:7]
    if goes_back(deployment):
        return str(deployment["target"] or "the release before")
    return str(deployment["requested"] or "the branch's tip")


def goes_back(deployment: dict[str, Any]) -> bool:
    """Whether it is a person's rollback: its revision is then the one that it goes to."""
    return deployment.get("target") is not None and deployment["trigger"]["kind"] == "manual"
