"""`homeport rollback`: goes back to a release that lies on the disk."""

import argparse
from typing import Any

from agent.cli import deploy
from agent.cli.client import Client, segment
from agent.cli.show import emit, revision


def add(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Declares the subcommand."""
    parser = commands.add_parser(
        "rollback",
        parents=[shared],
        help="go back to a release that is kept",
        description="Goes back, without network and build, to the last good release before what is live, or to the one"
        " that is named. What it leaves is not deployed again by itself.",
    )
    parser.add_argument("service", metavar="SERVICE")
    parser.add_argument("--to", metavar="RELEASE", help="its name, such as 12-3f1c0a9")
    parser.add_argument("--reason", default="", help="why; stands in the event log")
    parser.add_argument("--wait", action="store_true", help="show the progress; exit 1 unless it succeeds")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Asks, and waits if it is told to."""
    client = Client(options)
    wish = {"to": options.to, "reason": options.reason}
    path = f"/api/v1/services/{segment(options.service, 'the service')}/rollback"
    made = client.post(path, {name: value for name, value in wish.items() if value is not None})
    if not options.wait:
        text = f"{made['service']}: back to {revision(made)} is queued as {made['id']};"
        emit(options, made, f"{text} `homeport status` shows how it goes.")
        return 0
    ended = deploy.follow(client, made["id"], quiet=options.json)
    emit(options, ended, deploy.summary(ended))
    return 0 if ended["state"] == "succeeded" else 1
