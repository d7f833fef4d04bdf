"""`homeport secret`: a new random secret, for a webhook or a token."""

import argparse
import os
import secrets
from pathlib import Path
from typing import Any

from agent.cli.show import emit
from agent.core.errors import Refused

FEWEST, MOST = 16, 1024
"""Bytes. Fewer than the least the agent refuses; nobody needs more."""


def add(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Declares the subcommand."""
    parser = commands.add_parser("secret", parents=[shared], help="make a new random secret")
    parser.add_argument(
        "--bytes",
        metavar="N",
        type=int,
        default=32,
        help="how many random bytes; by default 32, printed as hex",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="write it into this new file, which only you may read; nothing is overwritten",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints it, or writes it and says where."""
    if not FEWEST <= options.bytes <= MOST:
        raise Refused(400, "request-invalid", f"--bytes must be a whole number, {FEWEST} to {MOST}")
    secret = secrets.token_hex(options.bytes)
    if options.out is None:
        emit(options, {"secret": secret}, secret)
        return 0
    path = Path(options.out)
    _write(path, secret)
    emit(options, {"file": str(path)}, f"{path} holds a new secret, which only you may read.")
    return 0


def _write(path: Path, secret: str) -> None:
    """A new file, durable when this returns. Raises Refused if there is something under this name."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise Refused(409, "file-exists", f"{path} is there already") from error
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(f"{secret}\n")
        file.flush()
        os.fsync(file.fileno())
