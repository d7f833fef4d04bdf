"""`homeport uninstall`: the agent is stopped, and what `install` made is taken away. The services go on running."""

import argparse

from agent.cli.installation import changes_of, demand_root, recipes_of, settings_of_file, told
from agent.cli.proxy import leftovers, remove_agents
from agent.cli.show import emit
from agent.core import isolation
from agent.core.errors import ConfigError, Refused, StepFailed
from agent.core.installing import JOURNAL, SERVICE, USER, Change, Kind, Wanted, reloads_systemd
from agent.core.settings import Settings
from agent.core.uninstalling import removals, stays
from agent.core.upgrading import UNIT
from agent.system import commands
from agent.system.machine import Machine

USERS = (USER, isolation.USER)
"""The first is a member of the second's group, which would stay."""


def run(options: argparse.Namespace) -> int:
    """Tells, and does it."""
    demand_root("uninstall")
    machine = Machine()
    settings = _settings()
    recipes = sorted(recipes_of(machine))
    changes = changes_of(removals(purge=options.purge, recipes=recipes), machine.look)
    left = [*stays(settings, purge=options.purge), *leftovers()]
    users = [change for change in map(_removal, USERS) if options.purge and machine.look(change.what).kind]
    changes += users
    if not options.dry_run:
        _stop()
        for change in [change for change in changes if change not in users]:
            machine.carry_out(change)
        _settle(changes)
        left += remove_agents()
        for user in users:
            try:
                machine.carry_out(user)
            except Refused as error:  # a service that runs as it, say
                changes.remove(user)
                left.append(error.message)
    _report(options, changes, left)
    return 0


def _removal(user: str) -> Change:
    return Change("remove", Wanted(kind=Kind.USER, name=user, why="a user of the agent's, and its group"))


def _settings() -> Settings | None:
    try:
        return settings_of_file()
    except ConfigError:
        return None  # what cannot be read must not keep it from being removed


def _stop() -> None:
    """Raises StepFailed if the agent does not end: what it works with is not taken from it. An upgrade, which would
    start it, ends first."""
    commands.run("systemctl", "disable", "--quiet", "--now", UNIT)
    if commands.properties(SERVICE, ["LoadState"]).get("LoadState") != "loaded":
        return
    done = commands.run("systemctl", "disable", "--quiet", "--now", SERVICE, patience=200)
    if done.status:
        raise StepFailed("not-installable", f"the agent cannot be stopped: {done.text}")


def _settle(changes: list[Change]) -> None:
    if reloads_systemd(changes):
        commands.run("systemctl", "daemon-reload")
        commands.run("systemctl", "reset-failed", SERVICE)
    if any(change.what.name == JOURNAL for change in changes):
        commands.run("systemctl", "restart", "systemd-journald.service")


def _report(options: argparse.Namespace, changes: list[Change], left: list[str]) -> None:
    document = {
        "dry_run": options.dry_run,
        "removed": [change.what.name for change in changes],
        "stays": left,
    }
    lines = [told(change) for change in changes] or ["There was nothing to remove."]
    lines += ["What stays:", *(f"  {line}" for line in left)]
    if options.dry_run:
        lines.append("Nothing was removed.")
    emit(options, document, "\n".join(lines))
