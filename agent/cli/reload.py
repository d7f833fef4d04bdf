"""`homeport reload`: the running agent takes up its configuration file. Exit status 78 if it cannot be used."""

import argparse
from typing import Any

from agent.cli.client import Client
from agent.cli.show import emit


def add(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Declares the subcommand."""
    parser = commands.add_parser("reload", parents=[shared], help="take up the changed configuration file")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Asks, and tells what changed. An invalid file changes nothing: its problems are printed as `check` does."""
    done = Client(options).post("/api/v1/reload")
    emit(options, done, "\n".join(_lines(done)))
    return 0


def _lines(done: dict[str, Any]) -> list[str]:
    busy, older = done["after_deployment"], done["older_runtime"]
    lines = [f"{done['file']} is in force."]
    lines += [f"  {name} was added" for name in done["added"]]
    lines += [f"  {name} {_changed(busy=name in busy)}" for name in done["changed"]]
    lines += [f"  {name} was removed; its process is left running" for name in done["removed"]]
    lines += [
        f"  {name} runs as it was started: `homeport deploy {name} --force` starts it with its new `runtime`"
        for name in older
    ]
    lines += [f"  {option} counts from the next start of the agent" for option in done["restart_needed"]]
    return lines


def _changed(*, busy: bool) -> str:
    return "changes as soon as what is going on with it has ended" if busy else "has changed"
