"""What `install`, `uninstall` and `doctor` share: the configuration as root sees it, and what the machine is."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import agent
from agent.cli.configuration import Loaded, look
from agent.core import configuration, installing, isolation
from agent.core.errors import ConfigError, Refused
from agent.core.installing import CONFIG, CREDENTIALS, Change, Facts, Seen, Wanted
from agent.core.settings import Settings
from agent.core.uninstalling import TEMPLATES
from agent.core.unitfiles import STARTER, sets_journal_limit
from agent.core.upgrading import VERSIONS
from agent.system import commands, configfile
from agent.system.machine import Machine
from agent.system.systemctl import SYSTEMCTL
from agent.system.units import Verb

_POLKIT = ("/usr/lib/polkit-1/polkitd", "/usr/libexec/polkitd")
_JOURNAL_PLACES = ("/usr/lib/systemd", "/run/systemd", "/etc/systemd")


def demand_root(command: str) -> None:
    """Raises Refused for anybody else."""
    if os.geteuid() != 0:
        raise Refused(403, "not-installable", "only root can do this", hint=f"`sudo homeport {command}`")


def demand_place(*, only_look: bool = False) -> None:
    """The unit starts the program where it lies for everybody. Raises Refused for another installation; one that lies
    beside it may look."""
    if not Path("/run/systemd/system").is_dir():
        raise Refused(409, "not-installable", "this machine has not been started by systemd", hint="")
    here = Path(sys.prefix).resolve()
    if here != Path(installing.PREFIX).resolve() and not (only_look and here.parent == Path(VERSIONS)):
        hint = f"`python3 -m venv {installing.PREFIX}`, install homeport there, and run that one"
        raise Refused(409, "not-installable", f"this homeport lies in {sys.prefix}", hint=hint)


def settings_of_file() -> Settings:
    """The configuration's, or those of the one that will be made. Its secrets are not looked at.

    Raises ConfigError with every problem."""
    there = Path(CONFIG).exists()
    document = configfile.read(Path(CONFIG)) if there else configfile.parse(STARTER.encode())
    base = str(Path(CONFIG).parent)
    examined = configuration.examine(document.value, lines=document.lines, base=base, known=document.problems)
    if examined.problems:
        raise ConfigError(examined.problems, file=CONFIG)
    return examined.settings


def as_the_unit_sees_it() -> Loaded:
    """The configuration with its secrets, as the agent will find it: root reads what systemd hands over. What stands
    in the unit's environment nobody can look up here. Raises ConfigError if the file cannot be read."""
    environ = {**os.environ, "CREDENTIALS_DIRECTORY": CREDENTIALS}
    loaded = look(Path(CONFIG), environ, credentials_required=True)
    of_environment = {
        path
        for path, reference in configuration.needs_secrets(loaded.settings)
        if getattr(reference, "env", None)
    }
    known = [problem for problem in loaded.problems if problem.path not in of_environment]
    return Loaded(loaded.settings, loaded.secrets, known, loaded.warnings)


def facts_of(machine: Machine, settings: Settings) -> Facts:
    """What has to be known of this machine."""
    found = [f"{place}/journald.conf" for place in _JOURNAL_PLACES]
    for place in _JOURNAL_PLACES:
        found += [f"{place}/journald.conf.d/{name}" for name in machine.names(f"{place}/journald.conf.d")]
    return Facts(
        units={name: _shipped(name) for name in (*installing.SHIPPED, *TEMPLATES)},
        verbs=tuple(str(verb) for verb in Verb),
        systemctl=SYSTEMCTL,
        polkit=any(Path(program).is_file() for program in _POLKIT),
        journal_limited=sets_journal_limit(
            [machine.read(name) for name in found if name != installing.JOURNAL]
        ),
        credentials=frozenset(machine.names(CREDENTIALS)),
        users={
            unit: commands.properties(unit, ["User"]).get("User", "")
            for unit in installing.units_of(settings)
        },
        recipes=recipes_of(machine),
    )


def starts_with_the_machine() -> bool:
    """Whether systemd is told to start the agent."""
    return commands.run("systemctl", "is-enabled", "--quiet", installing.SERVICE).status == 0


def recipes_of(machine: Machine) -> frozenset[str]:
    """The services for which `install` has written down what builds may run."""
    names = machine.names(isolation.RECIPES)
    return frozenset(name.removesuffix(".json") for name in names if name.endswith(".json"))


def changes_of(parts: list[Wanted], look_at: Callable[[Wanted], Seen]) -> list[Change]:
    """What is to be done, in order."""
    found = (installing.compare(want, look_at(want)) for want in parts)
    return [change for change in found if change is not None]


def told(change: Change) -> str:
    """A line for a person."""
    want = change.what
    about = {"user": f"user {want.name}", "member": f"{want.name} in group {want.content}"}
    about["access"] = f"{want.name} for user {want.content}"
    about["workplace"] = f"{want.name} for user {want.content}"
    what = about.get(str(want.kind), want.name)
    if change.act in ("make", "set") and want.kind not in (*about, "link"):
        what += f" ({want.owner}:{want.group} {want.mode:04o})"
    return f"{change.act:<7}{what}: {change.say or want.why}"


def _shipped(name: str) -> str:
    """In the wheel the units lie in the package; in a checkout beside it."""
    package = Path(agent.__file__).parent
    places = (package / "systemd" / name, package.parent / "systemd" / name)
    return next(place for place in places if place.is_file()).read_text(encoding="utf-8")
