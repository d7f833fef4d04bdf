"""`homeport demo`: the main job on embedded defaults, played in five acts on this machine.

stage.py      a directory, free ports, secrets, the configuration, the agent; and its end
repository.py the git repository made from the example scraper: commits and pushes
github.py     what GitHub would send: payload, headers, signature
gallery.py    the pages that the scraper reads
watch.py      asks the service all the while: the outage that was really seen
acts.py       the five acts and what must be true after each
telling.py    what the person reads
"""

import argparse
from typing import Any


def add(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Declares the subcommand."""
    parser = commands.add_parser(
        "demo",
        parents=[shared],
        help="show the main job: no root, no network, no configuration",
        description="Makes a git repository from the example scraper, starts an agent on loopback, sends it real"
        " signed deliveries and checks what becomes of them. Exit status 0: every act ended as it must.",
    )
    parser.add_argument("--once", action="store_true", help="end after the last act, and stop everything")
    parser.add_argument(
        "--port", type=_port, metavar="N", help="the agent's port; by default one that is free"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Plays the acts; the exit status."""
    import asyncio

    from agent.system import tls

    with tls.without_authorities():  # all that it speaks to is on loopback
        from agent.cli.demo.show import play

    return asyncio.run(play(once=options.once, port=options.port))


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and 1 <= int(text) <= 65535:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a port from 1 to 65535")
