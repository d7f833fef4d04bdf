"""The command `homeport`: finds the subcommand, calls it, turns errors into a sentence and an exit status.

Exit status (as sysexits.h has them where there is one): 0 done, 1 the deployment or check failed, 2 wrong usage,
69 no agent answers, 75 try again, 78 configuration. Each subcommand is a module with `add(commands)`; what is
heavy is imported by the subcommand that needs it.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict

from agent import __version__
from agent.cli import (
    backup,
    check,
    deliveries,
    demo,
    deploy,
    history,
    logs,
    reload,
    rollback,
    schema,
    secret,
    serve,
    service,
    setup,
    status,
)  # fmt: skip
from agent.core.errors import ConfigError, HomeportError, Refused, Unavailable

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NO_AGENT = 69
EXIT_TRY_AGAIN = 75
EXIT_CONFIG = 78


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    whole = argparse.ArgumentParser(
        prog="homeport",
        description="Deploys and operates services on a Raspberry Pi: a signed push becomes a healthy release,"
        " or bounces back.",
        epilog="Exit status: 0 done, 1 failed, 2 usage, 69 no agent answers, 75 try again, 78 configuration.",
    )
    whole.add_argument("--version", action="version", version=f"homeport {__version__}")
    _add_globals(whole, top=True)
    shared = argparse.ArgumentParser(add_help=False)
    _add_globals(shared, top=False)
    commands = whole.add_subparsers(metavar="COMMAND", required=True, dest="command")
    for module in (
        serve, demo, check, schema, secret, reload, status,
        deploy, rollback, history, logs, deliveries, service, backup,
        setup,
    ):  # fmt: skip
        module.add(commands, shared)
    return whole


def _add_globals(target: argparse.ArgumentParser, *, top: bool) -> None:
    """Options that every subcommand knows, before and after its name."""

    def default(value: object) -> object:
        return value if top else argparse.SUPPRESS

    group = target.add_argument_group("which agent")
    group.add_argument(
        "--socket",
        metavar="PATH",
        default=default(os.environ.get("HOMEPORT_SOCKET") or "/run/homeport/agent.sock"),
        help="the agent's unix socket (HOMEPORT_SOCKET; by default /run/homeport/agent.sock)",
    )
    group.add_argument(
        "--url", default=default(None), help="another agent's address; its token is taken from HOMEPORT_TOKEN"
    )
    target.add_argument(
        "--json", action="store_true", default=default(False), help="print the API's own object"
    )


def run(arguments: Sequence[str]) -> int:
    """Parses and carries out; returns the exit status."""
    chosen = parser().parse_args(arguments)
    try:
        return int(chosen.run(chosen))
    except HomeportError as error:
        return _tell(error, as_json=chosen.json)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader (head, say) has enough
        return 0
    except OSError as error:  # the world refuses: no directory, no permission, a full disk
        print(f"homeport: {error.filename or 'input or output'}: {error.strerror or error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return 130


def _tell(error: HomeportError, *, as_json: bool) -> int:
    """Prints an error for a person (with --json for a program, too) and chooses the exit status."""
    if isinstance(error, ConfigError):
        if as_json:
            problems = {
                "code": "config-invalid",
                "file": error.file,
                "problems": list(map(asdict, error.problems)),
                **error.done,
            }
            print(json.dumps(problems, indent=2, ensure_ascii=False))
        check.print_problems(error, sys.stderr)
        return EXIT_CONFIG
    if as_json:
        problem = {"code": error.code, "detail": error.message, "hint": error.hint, **error.done}
        print(json.dumps(problem, indent=2, ensure_ascii=False))
    print(f"homeport: {error}", file=sys.stderr)
    if error.hint:
        print(f"  {error.hint}", file=sys.stderr)
    if isinstance(error, Unavailable):
        return EXIT_NO_AGENT if error.code == "no-agent" else EXIT_TRY_AGAIN
    if isinstance(error, Refused) and error.status in (400, 404, 405, 422):
        return EXIT_USAGE
    return EXIT_FAILED
