"""`homeport install`: makes this machine run the agent under systemd, with the rights that its configuration needs.

Run again it changes only what differs; after a change of the configuration, and after a new version was put into its
place, it is run again.
"""

import argparse
import os
import time
from collections.abc import Iterator
from pathlib import Path

from agent import __version__
from agent.cli.client import Client
from agent.cli.installation import (
    as_the_unit_sees_it,
    changes_of,
    demand_place,
    demand_root,
    facts_of,
    settings_of_file,
    starts_with_the_machine,
    told,
)
from agent.cli.proxy import Proxy
from agent.cli.show import emit
from agent.cli.upgrader import let_go_of_unit, nobody_else, running_version
from agent.core import installing
from agent.core.errors import ConfigError, HomeportError, Refused, StepFailed
from agent.core.installing import SERVICE, Change, Facts, Kind
from agent.core.score import overall
from agent.core.settings import Settings
from agent.core.upgrading import UNIT_FILE
from agent.system import commands
from agent.system.machine import Machine
from agent.system.upgrades import Upgrades

HEALTH_SECONDS = 30.0
RESTART_SECONDS = 300.0
"""The unit's TimeoutStopSec= and TimeoutStartSec= come before them."""


def run(options: argparse.Namespace) -> int:
    """Plans, tells, and does it; one at a time, but for an upgrade that has the new version's done (`--no-start`)."""
    demand_root("install")
    demand_place(only_look=options.dry_run)
    os.umask(0o022)
    if options.dry_run or options.no_start:
        return _install(options, [])
    with nobody_else(Upgrades()):
        return _install(options, _without_leftover())


def _install(options: argparse.Namespace, acts: list[str]) -> int:
    machine, settings = Machine(), settings_of_file()
    facts = facts_of(machine, settings)
    _demand_sudo(facts, settings)
    changes = changes_of(installing.wanted(settings, facts), machine.look)
    _refuse(machine, changes)
    notes = _notes(settings, facts)
    nginx = Proxy(settings, options) if options.nginx else None
    if options.dry_run:
        notes += _would(options, changes, settings)
        notes += [f"{path} would be written for nginx." for path in (nginx.paths if nginx else ())]
        _report(options, changes, [*notes, "Nothing was changed."], {})
        return 0
    done: list[Change] = []
    failed: HomeportError | None = None
    try:
        for change in changes:
            machine.carry_out(change)
            done.append(change)
        acts.extend(_acts(options, changes, settings, nginx))  # those before one that fails are in it, too
        notes += nginx.notes() if nginx else []
        if not changes and not acts:
            notes.append("Nothing had to be changed.")
    except HomeportError as error:
        failed = error
        raise
    finally:  # whatever comes between: a secret that was made is shown this once
        notes += _public_half(machine)
        made = {name.rpartition("/")[2]: secret for name, secret in machine.made.items()}
        _report(options, done, [*acts, *notes], made, failed)
    return 0


def _acts(
    options: argparse.Namespace, changes: list[Change], settings: Settings, nginx: Proxy | None
) -> Iterator[str]:
    """What has to be done besides the changes; told when it was."""
    yield from _systemd(changes)
    if not options.no_start:
        yield from _started(changes, settings)
    if nginx is not None:
        yield from nginx.apply()


def _would(options: argparse.Namespace, changes: list[Change], settings: Settings) -> list[str]:
    """What of it somebody would notice."""
    said = ["journald would be restarted."] if _touches_journald(changes) else []
    if not starts_with_the_machine():
        said.append("The agent would start with the machine.")
    if not options.no_start and (act := _due(changes, settings)):
        said.append(f"The agent would be {act}ed.")
    return said


def _without_leftover() -> list[str]:
    """A power cut just before an upgrade was handed over leaves its unit, which nothing runs any more."""
    if not Path(UNIT_FILE).exists():
        return []
    let_go_of_unit()
    _demand("systemctl", "daemon-reload")
    return ["The unit of an upgrade that was never begun was removed."]


def _refuse(machine: Machine, changes: list[Change]) -> None:
    """Before anything is changed: what a person must look at first, and what is lacking for the rest."""
    if lines := [f"{change.what.name} {change.say}" for change in changes if change.act == "refuse"]:
        raise Refused(409, "not-installable", f"nothing was changed: {'; '.join(lines)}")
    for change in changes:
        machine.demand(change)
    given = [change for change in changes if change.what.kind in (Kind.ACCESS, Kind.WORKPLACE)]
    if given and commands.run("setfacl", "--version").status:
        raise Refused(
            409, "not-installable", "nothing was changed: setfacl is not there", hint="`apt install acl`"
        )


def _demand_sudo(facts: Facts, settings: Settings) -> None:
    if not facts.polkit and installing.rights_of(settings, facts) and commands.run("visudo", "-V").status:
        hint = "`apt install polkitd`, or sudo"
        raise Refused(409, "not-installable", "there is neither polkit nor sudo", hint=hint)


def _notes(settings: Settings, facts: Facts) -> list[str]:
    """What a person should know besides the changes."""
    notes = []
    if installing.units_of(settings):
        way = (
            "polkit"
            if facts.polkit
            else "sudo, since there is no polkit: its unit is much less closed (exposure 5.7 instead of 1.4);"
            " `apt install polkitd` and this again mend that"
        )
        notes.append(f"The agent restarts {', '.join(installing.units_of(settings))} by {way}.")
    known = facts.credentials | {installing.WEBHOOK_SECRET, installing.DEPLOY_KEY}
    notes += [
        f"{installing.CREDENTIALS}/{name} is missing, which the configuration names: put it there (root, 0600)"
        " and run this again."
        for name in installing.credentials_of(settings)
        if name not in known
    ]
    hidden = ("/home/", "/root/", "/run/user/", "/tmp/")  # noqa: S108 - where the unit sees nothing
    notes += [
        f"{service.directory} is hidden from the agent (ProtectHome, PrivateTmp): choose one such as /srv/{name}."
        for name, service in settings.services.items()
        if service.directory.startswith(hidden)
    ]
    return notes


def _public_half(machine: Machine) -> list[str]:
    public = machine.read(f"{installing.CREDENTIALS}/{installing.DEPLOY_KEY}.pub").strip()
    return (
        [f"The deploy key's public half, for the repository's settings on GitHub:\n  {public}"]
        if public
        else []
    )


def _systemd(changes: list[Change]) -> Iterator[str]:
    """What systemd has to be told of what was changed; and that the agent starts with the machine."""
    if installing.reloads_systemd(changes) or _property("NeedDaemonReload") == "yes":
        _demand("systemctl", "daemon-reload")
        yield "systemd has read its units again."
    if _touches_journald(changes):
        _demand("systemctl", "restart", "systemd-journald.service")
        yield "journald was restarted."
    if not starts_with_the_machine():
        _demand("systemctl", "enable", "--quiet", SERVICE)
        yield "The agent starts with the machine."


def _touches_journald(changes: list[Change]) -> bool:
    return any(change.what.name == installing.JOURNAL for change in changes)


def _due(changes: list[Change], settings: Settings) -> str:
    """What the agent needs, so that it does not go on without something: start, restart, reload, or nothing."""
    if _property("ActiveState") != "active":
        return "start"
    if installing.restarts_agent(changes) or running_version(settings.listen.socket) != __version__:
        return "restart"
    return "reload" if installing.reloads_agent(changes) else ""


def _started(changes: list[Change], settings: Settings) -> Iterator[str]:
    """Raises ConfigError, StepFailed."""
    due = _due(changes, settings)
    if due == "reload":  # it fails if the agent does not take up what rights were just made of
        _demand("systemctl", "reload", SERVICE)
        yield "The agent has read its configuration again."
    elif due:
        loaded = as_the_unit_sees_it()
        if loaded.problems:
            raise ConfigError(loaded.problems, file=installing.CONFIG)
        commands.run("systemctl", "reset-failed", SERVICE)
        done = commands.run("systemctl", "restart", SERVICE, patience=RESTART_SECONDS)
        if done.status:
            last = commands.run(
                "journalctl", "--unit", SERVICE, "--lines=15", "--no-pager", "--output=cat"
            ).text
            raise StepFailed("not-installable", f"the agent does not start: {done.text}\n{last}")
        health = health_now(Client(argparse.Namespace(socket=settings.listen.socket, url=None)))
        yield f"The agent was {due}ed; it is {health}."


def health_now(client: Client) -> str:
    """Waits until it answers; how it is then, as /health would say. Raises StepFailed."""
    limit = time.monotonic() + HEALTH_SECONDS
    while True:
        try:
            services = client.get("/status")["services"]
            return overall({name: service["health"] for name, service in services.items()})[0]
        except HomeportError as error:
            if time.monotonic() > limit:
                raise StepFailed("not-installable", f"the agent does not answer: {error}") from error
        time.sleep(0.2)


def _property(name: str) -> str:
    return commands.properties(SERVICE, [name]).get(name, "")


def _demand(*argv: str) -> None:
    done = commands.run(*argv)
    if done.status:
        raise StepFailed("not-installable", f"`{' '.join(argv)}` failed: {done.text}")


def _report(
    options: argparse.Namespace,
    changes: list[Change],
    notes: list[str],
    made: dict[str, str],
    failed: HomeportError | None = None,
) -> None:
    """What was done; of what failed then with --json in the error's own object, since a program reads one."""
    document = {
        "dry_run": options.dry_run,
        "changes": [
            {
                "act": change.act,
                "kind": str(change.what.kind),
                "name": change.what.name,
                "why": change.what.why,
            }
            for change in changes
        ],
        "notes": notes,
        "secrets": made,
    }
    if failed is not None and options.json:
        failed.done = document
        return
    lines = [told(change) for change in changes] + notes
    lines += [f"The new {name}, shown this once:\n  {secret}" for name, secret in made.items()]
    emit(options, document, "\n".join(lines))
