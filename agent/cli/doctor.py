"""`homeport doctor`: looks at everything that homeport relies on here, and says what to do. It changes nothing.

Some of it only root can look at; for anybody else those checks say so.
"""

import argparse
import os
import pwd
import stat
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from agent import __version__
from agent.cli import doorway
from agent.cli.client import Client
from agent.cli.installation import (
    as_the_unit_sees_it,
    changes_of,
    facts_of,
    settings_of_file,
    starts_with_the_machine,
    told,
)
from agent.cli.show import emit
from agent.core import checkup, configuration, installing
from agent.core.checkup import Check, Level
from agent.core.errors import ConfigError, HomeportError, Problem
from agent.core.gitversion import is_before_the_fixes
from agent.core.installing import Facts
from agent.core.settings import KeyRef, Settings
from agent.core.text import clean
from agent.system import commands, files, memory, programs, wear
from agent.system.machine import Machine
from agent.system.systemctl import SYSTEMCTL
from agent.system.upgrades import Upgrades

UNIT_PROPERTIES = (
    *("LoadState", "Id", "ActiveState", "NeedDaemonReload"),
    *("TriggeredBy", "StartLimitIntervalUSec", "StartLimitBurst"),
)


def run(options: argparse.Namespace) -> int:
    """Prints a line for each check."""
    checks = list(_all(options))
    good = not any(check.level is Level.ERROR for check in checks)
    document = {"ok": good, "checks": [asdict(check) for check in checks]}
    emit(options, document, "\n".join(map(_line, checks)))
    return 0 if good else 1


def _line(check: Check) -> str:
    hint = f"\n         {check.hint}" if check.hint and check.level is not Level.OK else ""
    return f"{check.level:<8} " + clean(f"{check.name}: {check.says}", 500) + hint


def _all(options: argparse.Namespace) -> Iterator[Check]:
    settings, about = _configuration()
    yield from about
    yield from _programs(settings)
    status, about = _agent(options)
    yield from about
    yield from _own_writes(status)
    yield _upgrade()
    if settings is not None:
        for unit in installing.units_of(settings):
            yield checkup.of_unit(unit, commands.properties(unit, UNIT_PROPERTIES))
        yield from doorway.looked_at(settings)
        yield from _installation(settings)
        yield from _secrets(settings)
        yield from _disks(settings)
        yield from _writes(settings)
    yield _clock()
    yield from _memory()


# --- the configuration and what it needs


def _configuration() -> tuple[Settings | None, list[Check]]:
    """The settings, unless the file itself is wrong; what is wrong with a secret does not keep the rest from being
    looked at."""
    try:
        with Path(installing.CONFIG).open("rb"):
            settings = settings_of_file()
    except PermissionError:
        return None, [_only_root("configuration", installing.CONFIG)]
    except OSError as error:
        says = f"{installing.CONFIG}: {error.strerror}"
        return None, [checkup.error("configuration", says, "`sudo homeport install` makes one to begin with")]
    except ConfigError as error:
        return None, [_problem(problem) for problem in error.problems]
    loaded = as_the_unit_sees_it()
    needs = {path for path, _ in configuration.needs_secrets(loaded.settings)}
    # who is not root cannot look at secrets, and the agent can
    problems = [problem for problem in loaded.problems if os.geteuid() == 0 or problem.path not in needs]
    about = [_problem(problem) for problem in problems]
    about += [
        checkup.warning("configuration", f"{item.path}: {item.message}", item.hint)
        for item in loaded.warnings
    ]
    return settings, about or [checkup.ok("configuration", f"{installing.CONFIG} is right")]


def _problem(problem: Problem) -> Check:
    says = f"{problem.path}: {problem.message}" if problem.path else problem.message
    return checkup.error("configuration", says, problem.hint or f"`homeport check {installing.CONFIG}`")


def _programs(settings: Settings | None) -> Iterator[Check]:
    yield checkup.ok("python", ".".join(map(str, sys.version_info[:3])))
    git = programs.version_of("git")
    submodules = settings is not None and any(item.source.submodules for item in settings.services.values())
    if not git:
        yield checkup.error("git", "is not there", "`apt install git`")
    elif submodules and is_before_the_fixes(git):
        yield checkup.warning("git", f"{git} is old for submodules", "`apt upgrade git`")
    else:
        yield checkup.ok("git", git.removeprefix("git version "))


def _agent(options: argparse.Namespace) -> tuple[dict[str, Any], list[Check]]:
    """What /status says, empty if nobody answers; and what it means."""
    try:
        document = Client(options).get("/status")
    except HomeportError as error:
        hint = "`systemctl status homeport`, `journalctl -u homeport`"
        return {}, [checkup.error("agent", error.message, hint)]
    agent = document["agent"]
    if agent["version"] != __version__:
        says = f"{agent['version']} runs, {__version__} is installed"
        about = checkup.warning("agent", says, "`sudo homeport install` restarts it")
    elif agent["config"] and agent["config"]["stale"]:
        about = checkup.error("agent", "its configuration was changed and is invalid", "`homeport check`")
    elif agent.get("trouble"):
        about = checkup.error("agent", str(agent["trouble"]))
    else:
        about = checkup.ok("agent", f"{agent['version']} answers")
    return document, [about, *checkup.of_status(document["services"])]


def _upgrade() -> Check:
    upgrades = Upgrades()
    try:
        return checkup.of_upgrade(upgrades.pending(), upgrades.last(), __version__)
    except HomeportError as error:
        return checkup.error("upgrade", error.message, error.hint)


def _installation(settings: Settings) -> Iterator[Check]:
    """Units, rights, drop-ins, owners and modes: whatever `homeport install` would change."""
    if os.geteuid() != 0:
        yield _only_root("rights", "the rules of polkit and the credentials")
        return
    machine = Machine()
    facts = facts_of(machine, settings)
    changes = changes_of(installing.wanted(settings, facts), machine.look)
    for change in changes:
        yield checkup.error("installed", " ".join(told(change).split()), "`sudo homeport install` mends it")
    if not changes:
        yield checkup.ok("installed", "units, rights, owners and modes are as `homeport install` makes them")
    yield checkup.of_boot(enabled=starts_with_the_machine())
    yield _rights(settings, facts)


def _rights(settings: Settings, facts: Facts) -> Check:
    """Asks whoever is asked when the running agent starts or stops a unit; none is."""
    needed = [("restart", unit) for unit in installing.rights_of(settings, facts)]
    needed += [("start", unit) for unit in installing.swaps_of(settings)]
    way, ask = "sudo", _of_sudo
    if facts.polkit:
        pid = commands.properties(installing.SERVICE, ["MainPID"]).get("MainPID", "0")
        if pid == "0":
            return checkup.warning("rights", "polkit was not asked: the agent does not run")
        way, ask = "polkit", partial(_of_polkit, pid)
    answers = {f"{verb} {unit}": commands.run(*ask(verb, unit)) for verb, unit in needed}
    refused = [words for words, done in answers.items() if done.status]
    failures = [done.text for done in answers.values() if done.status == commands.NOT_THERE]
    return checkup.of_rights(way, refused, failures[0] if failures else "")


def _of_sudo(verb: str, unit: str) -> tuple[str, ...]:
    return "sudo", "-n", "-l", "-U", installing.USER, SYSTEMCTL, verb, unit


def _of_polkit(pid: str, verb: str, unit: str) -> tuple[str, ...]:
    action = ("--action-id", "org.freedesktop.systemd1.manage-units", "--process", pid)
    return "pkcheck", *action, "--detail", "verb", verb, "--detail", "unit", unit


def _secrets(settings: Settings) -> Iterator[Check]:
    """The modes of all files with secrets: a world-readable one is told even where the agent would refuse it."""
    for path, key in sorted(_secret_files(settings).items()):
        try:
            found = Path(path).stat()
        except PermissionError:
            yield _only_root("key" if key else "secret", path)
        except OSError as error:
            yield checkup.error(
                f"secret {path}", str(error.strerror), "put it there, then `sudo homeport install`"
            )
        else:
            yield checkup.of_secret_file(path, _owner(found), stat.S_IMODE(found.st_mode), key=key)


def _secret_files(settings: Settings) -> dict[str, bool]:
    found: dict[str, bool] = {}
    for _, reference in configuration.needs_secrets(settings):
        path = reference.file or (reference.credential and f"{installing.CREDENTIALS}/{reference.credential}")
        if path:
            found[path] = isinstance(reference, KeyRef) or found.get(path, False)
    return found


# --- the machine


def _disks(settings: Settings) -> Iterator[Check]:
    state = Path(settings.state_dir)
    places = {settings.state_dir, *(service.directory for service in settings.services.values())}
    devices: dict[int, str] = {}
    for place in sorted(places):
        if not Path(place).is_dir():
            yield checkup.warning(f"space {place}", "is not there yet")
        elif devices.setdefault(Path(place).stat().st_dev, place) == place:
            free = files.free(Path(place))
            yield checkup.of_space(place, free.bytes, free.inodes)
    for name, service in settings.services.items():
        if service.backup.before_deploy != "off" and state.is_dir() and Path(service.directory).is_dir():
            same = state.stat().st_dev == Path(service.directory).stat().st_dev
            yield checkup.of_backups(name, same_disk=same)


def _own_writes(status: dict[str, Any]) -> Iterator[Check]:
    if not status:
        return
    pid = int(commands.properties(installing.SERVICE, ["MainPID"]).get("MainPID", 0))
    seconds = float(status["agent"]["uptime_seconds"])
    began = datetime.now(UTC) - timedelta(seconds=seconds)
    ends = [service["last"]["finished_at"] for service in status["services"].values() if service["last"]]
    deployed = any(datetime.fromisoformat(end) > began for end in ends)
    try:
        yield checkup.of_own_writes(wear.written_by(pid), seconds, deployed=deployed)
    except PermissionError:
        yield _only_root("writes of the agent", "what another user's process writes")
    except OSError:
        yield checkup.of_own_writes(None, seconds, deployed=deployed)


def _writes(settings: Settings) -> Iterator[Check]:
    """To the disk that takes the state: the one that everything of the agent's goes to."""
    place = Path(settings.state_dir)
    if not place.is_dir():
        return  # that was said already
    try:
        written: int | None = wear.written_to(place)
    except OSError:
        written = None
    yield checkup.of_disk_writes(settings.state_dir, written, wear.since_boot())


def _clock() -> Check:
    done = commands.run("timedatectl", "show", "--property=NTPSynchronized", "--value", patience=10)
    return checkup.of_clock("" if done.status else done.text)


def _memory() -> Iterator[Check]:
    if (left := memory.available()) is not None:
        yield checkup.of_memory(left)
    yield checkup.of_counting(counted=memory.counted())


def _only_root(name: str, what: str) -> Check:
    return checkup.warning(name, f"only root can look at {what}", "`sudo homeport doctor` does")


def _owner(found: os.stat_result) -> str:
    try:
        return pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        return str(found.st_uid)
