"""`homeport check`: says whether a configuration can be used, and everything that is wrong with it."""

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from agent.core.errors import ConfigError, Problem
from agent.core.settings import Settings
from agent.core.text import clean

DEFAULT_CONFIG = "/etc/homeport/config.yaml"
EXIT_CONFIG = 78


def add(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Declares the subcommand."""
    parser = commands.add_parser("check", parents=[shared], help="look for mistakes in the configuration")
    parser.add_argument(
        "file", nargs="?", metavar="FILE", default=DEFAULT_CONFIG, help=f"by default {DEFAULT_CONFIG}"
    )
    parser.set_defaults(run=check)


def check(options: argparse.Namespace) -> int:
    """Prints the problems, or a summary; exit status 78 or 0. A warning is printed and changes nothing."""
    from agent.cli.configuration import look

    settings: Settings | None = None
    try:
        loaded = look(Path(options.file), os.environ, credentials_required=False)
        settings, problems, warnings = loaded.settings, loaded.problems, loaded.warnings
    except ConfigError as error:
        problems, warnings = error.problems, []
    if options.json:
        print(json.dumps(_document(options.file, settings, problems, warnings), indent=2, ensure_ascii=False))
        return EXIT_CONFIG if problems else 0
    for problem in problems:
        print(_sentence(options.file, problem))
    for warning in warnings:
        print(_sentence(options.file, warning, "warning: "))
    if problems or settings is None:
        print(_counted(len(problems), "problem"))
        return EXIT_CONFIG
    print(_summary(options.file, settings))
    return 0


def print_problems(error: ConfigError, stream: TextIO) -> None:
    """Every problem as `file:line: path: message (hint)`."""
    for problem in error.problems:
        print(_sentence(error.file, problem), file=stream)


def _sentence(file: str, problem: Problem, kind: str = "") -> str:
    place = ":".join(str(part) for part in (file, problem.line) if part)
    words = f"{problem.path}: {problem.message}" if problem.path else problem.message
    hint = f" ({problem.hint.rstrip('.')})" if problem.hint else ""
    return clean(f"{place}: {kind}{words}{hint}" if place else f"{kind}{words}{hint}", 1024)


def _summary(file: str, settings: Settings) -> str:
    listen = settings.listen
    names = ", ".join(settings.services)
    services = _counted(len(settings.services), "service") + (f" ({names})" if names else "")
    return (
        f"{file} is right: {services}, listens on {listen.host}:{listen.port}, state in {settings.state_dir}"
    )


def _document(
    file: str, settings: Settings | None, problems: list[Problem], warnings: list[Problem]
) -> dict[str, Any]:
    return {
        "ok": not problems,
        "file": file,
        "services": list(settings.services) if settings and not problems else [],
        "problems": [asdict(problem) for problem in problems],
        "warnings": [asdict(warning) for warning in warnings],
    }


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
