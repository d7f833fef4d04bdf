"""`homeport deploy`: asks for a deployment and, with --wait, shows how it goes on."""

import argparse
import re
import sys
import time
from datetime import datetime
from typing import Any

from agent.cli.client import Client, segment
from agent.cli.show import coloured, emit, goes_back, outage, revision, subject
from agent.core.errors import Refused, StepFailed, Unavailable
from agent.core.text import clean_lines

POLL_SECONDS = 0.3
RESTART_SECONDS = 60.0
"""How long --wait bears an agent that does not answer: it may be restarted, and the deployment goes on then."""
TAIL_LINES = 20
LINE_CHARACTERS = 200
STEPS = ("queued", "fetching", "building", "backing_up", "switching", "verifying", "rolling_back")
ENDS = ("succeeded", "failed", "rolled_back", "superseded", "broken")


def add(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Declares the subcommand."""
    parser = commands.add_parser("deploy", parents=[shared], help="deploy now")
    parser.add_argument("service", metavar="SERVICE", nargs="?", help="may be left out if there is only one")
    parser.add_argument(
        "--revision", metavar="R", help="a commit, branch or tag; by default the branch's tip"
    )
    parser.add_argument(
        "--force", action="store_true", help="also if it is held, quarantined or already live"
    )
    parser.add_argument("--reason", default="", help="why; stands in the event log")
    parser.add_argument(
        "--wait",
        action="store_true",
        help="show the progress, and what a failed step printed; exit 1 unless it succeeds",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Asks, and waits if it is told to."""
    client = Client(options)
    wish = {"service": options.service, "revision": options.revision, "reason": options.reason}
    body: dict[str, object] = {name: value for name, value in wish.items() if value is not None}
    answer = client.post("/deploy", body | {"force": options.force})
    if not options.wait:
        made = answer["deployment"]
        text = f"{made['service']}: {revision(made)} is queued as {made['id']}; `homeport status` shows how it goes."
        emit(options, answer, text)
        return 0
    ended = follow(client, answer["deployment"]["id"], quiet=options.json)
    emit(options, {"deployment": ended}, summary(ended))
    return 0 if ended["state"] == "succeeded" else 1


def follow(client: Client, identity: str, *, quiet: bool) -> dict[str, Any]:
    """Prints each step once it has ended, until the deployment has."""
    shown = 0
    told = False
    while True:
        deployment = look(client, identity)
        told = told or _tell_hold(client, deployment)
        ended = deployment["state"] in ENDS
        steps = [step for step in deployment["steps"] if step["finished_at"]]
        if not quiet:
            for step in steps[shown:]:
                print(_step_line(step), flush=True)
                for line in _output(client, identity, step):
                    print(f"      {line}", flush=True)
        shown = len(steps)
        if ended:
            return deployment
        time.sleep(POLL_SECONDS)


def _tell_hold(client: Client, deployment: dict[str, Any]) -> bool:
    """Says once what it waits for, if its service was held after it had been queued: that may take for ever."""
    if deployment["state"] != "queued" or deployment.get("force") or goes_back(deployment):
        return False
    name = deployment["service"]
    try:
        hold = client.get(f"/api/v1/services/{segment(name, 'the service')}")["hold"]
    except (Refused, StepFailed, Unavailable):  # removed by a reload, or restarting: only help
        return False
    if hold:
        text = f"{deployment['id']} waits: {name} is held ({hold['reason']})"
        print(f"  {text}; `homeport resume {name}` lets it go on", file=sys.stderr, flush=True)
    return bool(hold)


def look(client: Client, identity: str) -> dict[str, Any]:
    """The deployment as it is now. Raises Unavailable if the agent stays away."""
    patience = time.monotonic() + RESTART_SECONDS
    while True:
        try:
            found: dict[str, Any] = client.get(f"/api/v1/deployments/{identity}")
        except Unavailable as error:
            if time.monotonic() >= patience:
                error.hint = f"The deployment {identity} goes on as soon as `homeport serve` runs again."
                raise
            time.sleep(POLL_SECONDS)
        else:
            return found


def _output(client: Client, identity: str, step: dict[str, Any]) -> list[str]:
    """The last lines of what a failed step's programs printed. They are only help: none if they cannot be had."""
    if step["state"] != "failed":
        return []
    try:
        log = client.text(f"/api/v1/deployments/{identity}/log")
    except (Refused, StepFailed, Unavailable):
        return []
    parts = re.split(rf"^--- ({'|'.join(STEPS)})\n", log, flags=re.MULTILINE)
    printed = dict(zip(parts[1::2], parts[2::2], strict=True)).get(
        step["name"], ""
    )  # the last run of the step
    lines = [line.rstrip().expandtabs() for line in clean_lines(printed).split("\n")]
    return [line[:LINE_CHARACTERS] for line in lines if line][-TAIL_LINES:]


def _step_line(step: dict[str, Any]) -> str:
    seconds = (
        datetime.fromisoformat(step["finished_at"]) - datetime.fromisoformat(step["started_at"])
    ).total_seconds()
    mark = {"done": "✓", "failed": "✗"}.get(step["state"], "·")
    return f"  {mark} {step['name']:<13} {seconds:6.2f} s  {step['detail']}".rstrip()


def summary(deployment: dict[str, Any]) -> str:
    """How it ended, and what to do about it."""
    text = f"{deployment['service']}: {subject(deployment)} {coloured(deployment['state'])}"
    if seen := deployment.get("outage"):
        text += f"\n  outage: {outage(deployment)}; the slowest answer took {seen['longest_wait']:.2f} s"
    if deployment["reason"]:
        text += f"\n  {deployment['reason']}: {deployment['hint']}"
    return text
