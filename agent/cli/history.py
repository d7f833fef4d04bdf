"""`homeport history`: the deployments so far, newest first."""

import argparse
from datetime import UTC, datetime
from typing import Any

from agent.cli.client import Client
from agent.cli.show import emit, length, local, outage, pages, revision, table


def add(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Declares the subcommand."""
    parser = commands.add_parser("history", parents=[shared], help="the deployments so far, newest first")
    parser.add_argument("service", metavar="SERVICE", nargs="?", help="by default all of them")
    parser.add_argument("--limit", metavar="N", type=int, default=20, help="how many; by default 20")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Asks and prints."""
    query = {} if options.service is None else {"service": options.service}
    document = pages(Client(options), "/api/v1/deployments", options.limit, **query)
    head = ("DEPLOYMENT", "BEGUN", "SERVICE", "REVISION", "ASKED BY", "STATE", "TOOK", "OUTAGE", "REASON")
    rows = [_row(item) for item in document["items"]]
    none = "Nothing was deployed yet: `homeport deploy` begins."
    emit(options, document, table(rows, head) if rows else none)
    return 0


def _row(deployment: dict[str, Any]) -> tuple[str, ...]:
    return (
        deployment["id"],
        local(deployment["created_at"]),
        deployment["service"],
        revision(deployment),
        asked_by(deployment["trigger"]),
        deployment["state"],
        _took(deployment),
        outage(deployment),
        deployment["reason"],
    )


def asked_by(trigger: dict[str, Any]) -> str:
    """What a deployment comes from: `push by me`, `me`, `poll`."""
    what = trigger["event"] or ("" if trigger["kind"] == "manual" else trigger["kind"])
    who = trigger["actor"] or ""
    return " by ".join(part for part in (what, who) if part) or str(trigger["kind"])


def _took(deployment: dict[str, Any]) -> str:
    """From being asked for to its end; of one that goes on, so far."""
    begun, ended = datetime.fromisoformat(deployment["created_at"]), deployment["finished_at"]
    if ended is None:
        return f"{length((datetime.now(UTC) - begun).total_seconds())} so far"
    return length((datetime.fromisoformat(ended) - begun).total_seconds())
