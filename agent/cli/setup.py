"""`homeport install`, `uninstall` and `doctor`, as the command line declares them.

What they do is imported when it is asked for: no other command has to pay for it.
"""

import argparse
from typing import Any

from agent.core.errors import Refused


def add(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Declares the three subcommands."""
    _add_install(commands, shared)
    _add_uninstall(commands, shared)
    _add_doctor(commands, shared)


def _add_install(commands: Any, shared: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "install",
        parents=[shared],
        help="make this machine run the agent under systemd",
        description="Makes user, directories, units, rights and secrets as /etc/homeport/config.yaml needs them, and"
        " starts the agent. What is there already stays; a second run changes nothing.",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be changed, and change nothing"
    )
    parser.add_argument(
        "--no-start", action="store_true", help="leave the agent as it is: neither start nor restart it"
    )
    parser.add_argument(
        "--nginx",
        action="store_true",
        help="also write nginx's sites for the agent and for services that change over side by side",
    )
    parser.add_argument(
        "--certificate", metavar="FILE", help="with --nginx: the certificate's chain, if it is not certbot's"
    )
    parser.add_argument("--certificate-key", metavar="FILE", help="with --nginx: its key")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--wheel",
        metavar="FILE",
        help="upgrade to the version in this wheel; if that does not come up, the present one returns by itself",
    )
    which.add_argument(
        "--go-on",
        action="store_true",
        help="carry out the upgrade that was begun: what homeport-upgrade.service runs",
    )
    parser.set_defaults(run=_install)


def _add_uninstall(commands: Any, shared: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "uninstall",
        parents=[shared],
        help="take the agent off this machine; services and their data stay",
        description="Stops the agent and takes away its units and rights. Configuration, state and backups stay unless"
        " --purge is given; the services and their directories always do.",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be removed, and remove nothing"
    )
    parser.add_argument(
        "--purge",
        action="store_true",
        help="also the configuration, secrets, state, backups and user homeport",
    )
    parser.set_defaults(run=_uninstall)


def _add_doctor(commands: Any, shared: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "doctor",
        parents=[shared],
        help="look for everything that is wrong on this machine",
        description="Looks at configuration, programs, units, rights, secrets, disks, clock and deployments, and says"
        " what to do. It changes nothing. Exit status 1: there is an error.",
    )
    parser.set_defaults(run=_doctor)


def _install(options: argparse.Namespace) -> int:
    if options.wheel:
        from agent.cli import upgrade

        if options.nginx or options.no_start:
            says = "--wheel goes with neither --nginx nor --no-start"
            raise Refused(
                400, "not-installable", says, hint="Upgrade first, then run `homeport install` again."
            )
        return upgrade.run(options)
    if options.go_on:
        from agent.cli import upgrader

        return upgrader.run()
    from agent.cli import install

    return install.run(options)


def _uninstall(options: argparse.Namespace) -> int:
    from agent.cli import uninstall

    return uninstall.run(options)


def _doctor(options: argparse.Namespace) -> int:
    from agent.cli import doctor

    return doctor.run(options)
