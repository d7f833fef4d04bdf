"""`homeport hold` and `homeport resume`: stop the automatic deployments of a service, and let them go on."""

import argparse
from typing import Any

from agent.cli.client import Client, segment
from agent.cli.show import emit


def add(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Declares both subcommands."""
    hold = commands.add_parser("hold", parents=[shared], help="stop a service's automatic deployments")
    hold.add_argument("service", metavar="SERVICE")
    hold.add_argument("--reason", default="", help="why; shown in the status")
    hold.set_defaults(run=_hold)
    resume = commands.add_parser("resume", parents=[shared], help="let them go on")
    resume.add_argument("service", metavar="SERVICE")
    resume.set_defaults(run=_resume)


def _hold(options: argparse.Namespace) -> int:
    body = {"reason": options.reason} if options.reason else {}
    answer = Client(options).post(f"/api/v1/services/{segment(options.service, 'the service')}/hold", body)
    text = f"{options.service} is held: nothing is deployed until `homeport resume {options.service}`."
    emit(options, answer, text)
    return 0


def _resume(options: argparse.Namespace) -> int:
    answer = Client(options).post(f"/api/v1/services/{segment(options.service, 'the service')}/resume")
    emit(options, answer, f"{options.service} is not held: a push deploys it.")
    return 0
