"""`homeport logs`: what a deployment's programs printed, also while they are at it.

The agent keeps the end of what each step printed. So what was shown before may have moved up, or out, by the next
look: only what is new is printed, and a mark where something was missed.
"""

import argparse
import re
import sys
import time
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from agent.cli.client import Client, segment
from agent.cli.deploy import ENDS, POLL_SECONDS, STEPS, look, summary
from agent.cli.show import emit, pages
from agent.core.errors import Refused, Unavailable
from agent.core.text import clean_lines

MISSED = "\n[...]\n"
"""Stands where more was printed between two looks than is kept."""
ANCHOR = 64
"""Characters that are looked for first, where two looks may overlap."""
SEARCHED = 1000
"""So many deployments are looked through for one whose id begins as it was given."""

_HEAD = re.compile(rf"^--- (?:{'|'.join(STEPS)})\n", re.MULTILINE)


def add(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Declares the subcommand."""
    parser = commands.add_parser("logs", parents=[shared], help="what a deployment's programs printed")
    parser.add_argument(
        "deployment",
        metavar="DEPLOYMENT",
        help="its id or the beginning of it, `latest`, or a service's name for its newest one",
    )
    parser.add_argument("--follow", action="store_true", help="go on with what is printed, until it ends")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints what there is, and with --follow what comes."""
    client = Client(options)
    identity = find(client, options.deployment)
    text = _follow(client, identity, quiet=options.json) if options.follow else _log(client, identity)
    if options.json:
        emit(options, {"id": identity, "log": text}, "")
    elif not options.follow:
        print(text.rstrip("\n") or "Its programs printed nothing.")
    return 0


def find(client: Client, name: str) -> str:
    """The id of the deployment that is meant. Raises Refused if it is none, or could be several."""
    if name in _services(client):
        (newest,) = pages(client, "/api/v1/deployments", 1, service=name)["items"] or [None]
        return _found(newest, f"{name} was never deployed")
    if name == "latest":
        (newest,) = pages(client, "/api/v1/deployments", 1)["items"] or [None]
        return _found(newest, "nothing was deployed yet")
    if len(name) == 12:
        return str(client.get(f"/api/v1/deployments/{segment(name, 'the deployment')}")["id"])
    every = pages(client, "/api/v1/deployments", SEARCHED)["items"]
    meant = [item["id"] for item in every if name and item["id"].startswith(name)]
    if len(meant) > 1:
        raise Refused(
            400, "request-invalid", f"{len(meant)} deployments begin with {name}", hint="Write more of it."
        )
    return _found({"id": meant[0]} if meant else None, f"there is no deployment {name!r}")


def _found(deployment: dict[str, Any] | None, none: str) -> str:
    if deployment is None:
        raise Refused(404, "not-found", none, hint="`homeport history` shows what there is.")
    return str(deployment["id"])


def _services(client: Client) -> list[str]:
    return [service["name"] for service in client.get("/api/v1/services")["items"]]


def _log(client: Client, identity: str) -> str:
    return clean_lines(client.text(f"/api/v1/deployments/{quote(identity, safe='')}/log"))


def _follow(client: Client, identity: str, *, quiet: bool) -> str:
    """Prints what is new at each look, until the deployment has ended; returns all that is kept of it."""
    seen = ""
    while True:
        deployment = look(client, identity)
        with suppress(Unavailable):  # the agent is being restarted: `look` waits for it
            text = _log(client, identity).rstrip("\n")
            if not quiet:
                sys.stdout.write(fresh(seen, text))
                sys.stdout.flush()
            seen = text
            if deployment["state"] in ENDS:
                break
        time.sleep(POLL_SECONDS)
    if not quiet:
        print(flush=True)
        print(summary(deployment), file=sys.stderr)
    return seen


def fresh(seen: str, now: str) -> str:
    """What is new in `now` for somebody who saw `seen`."""
    if now.startswith(seen):
        return now[len(seen) :]
    heads = list(_HEAD.finditer(seen))
    begin = heads[-1].end() if heads else 0
    if not now.startswith(
        seen[:begin]
    ):  # a program printed something that looks like a head, and it moved out
        begin = 0
    old, new = seen[begin:], now[begin:]
    overlap = _overlap(old, new)
    return new[overlap:] if overlap else MISSED + new


def _overlap(old: str, new: str) -> int:
    """How many characters at the end of `old` are the beginning of `new`: the most there can be."""
    anchor = new[:ANCHOR]
    at = old.find(anchor)
    while at >= 0:
        if new.startswith(old[at:]):
            return len(old) - at
        at = old.find(anchor, at + 1)
    return next((count for count in range(min(ANCHOR, len(old)), 0, -1) if new.startswith(old[-count:])), 0)
