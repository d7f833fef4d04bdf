"""`homeport serve`: the agent itself, in the foreground."""

import argparse
import logging
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

DEFAULT_CONFIG = "/etc/homeport/config.yaml"


def add(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Declares the subcommand."""
    parser = commands.add_parser("serve", parents=[shared], help="run the agent in the foreground")
    parser.add_argument(
        "--config", metavar="FILE", default=DEFAULT_CONFIG, help=f"by default {DEFAULT_CONFIG}"
    )
    parser.add_argument("--log-format", choices=("text", "json"), default="text", help="by default text")
    parser.add_argument(
        "--log-level",
        choices=("DEBUG", "INFO", "WARNING", "ERROR"),
        default="INFO",
        help="what is told; by default INFO",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs until SIGTERM or SIGINT."""
    import os

    from agent.cli.configuration import load, of_programs
    from agent.system import logs, tls

    with tls.without_authorities():
        from agent.foreground import serve

    file = Path(os.path.abspath(options.config))  # noqa: PTH100 - a link to the file stays what it is
    settings, secrets = load(file, os.environ)
    logs.set_up(secrets.redact, level=options.log_level, as_json=options.log_format == "json")
    for warning in of_programs(settings):
        log.warning("%s %s (%s)", warning.path, warning.message, warning.hint)
    try:
        return serve(settings, secrets, lambda: load(file, os.environ), file)
    except OSError:  # not foreseen: the sentence for the person is not enough to find it
        log.exception("the agent has ended")
        raise
