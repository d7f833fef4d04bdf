"""`homeport install --wheel`: prepares an upgrade beside what runs, hands it to a unit of its own, tells its end.

Until it is handed over nothing is changed for the agent that runs, and whatever is wrong is told. What is done
afterwards stands in `cli.upgrader`.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import msgspec

from agent import __version__
from agent.cli.installation import demand_place, demand_root, settings_of_file
from agent.cli.show import emit
from agent.cli.upgrader import nobody_else, of_the_state, told
from agent.core.errors import Refused, StepFailed
from agent.core.installing import CONFIG, CREDENTIALS, PREFIX, SERVICE, UNITS
from agent.core.settings import Settings
from agent.core.uninstalling import WRITTEN
from agent.core.upgrading import NOT_STARTED, UNIT, UNIT_FILE, VERSIONS, Mark, Phase, unit
from agent.store.copies import STATE
from agent.system import commands, files, versions
from agent.system.upgrades import Upgrades

ROOM = 64 << 20
"""Bytes that a disk must have beside what is put there."""
FOLLOW_SECONDS = 900.0


def run(options: argparse.Namespace) -> int:
    """Raises HomeportError for whatever keeps the new version from running."""
    demand_root("install")
    demand_place()
    os.umask(0o022)
    wheel = Path(options.wheel)
    version, digest = versions.wheel(wheel)
    settings = settings_of_file()
    if version == __version__:
        return _told(
            options, "Nothing had to be changed.", f"homeport {version} is the one that is installed."
        )
    upgrades = Upgrades()
    if not Path(f"{UNITS}/{SERVICE}").exists():
        hint = "`sudo homeport install` first"
        raise Refused(409, "not-installable", "homeport is not installed yet", hint=hint)
    _demand_room(settings)
    if options.dry_run:
        plan = (
            f"homeport {version} would be installed into {VERSIONS}/{version}, tried, and take the place of"
        )
        return _told(options, f"{plan} {__version__}.", "Nothing was changed.")
    with nobody_else(upgrades):
        mark = _prepared(options, upgrades, settings, wheel, version, digest)
    return _followed(options, upgrades, mark)


def _demand_room(settings: Settings) -> None:
    state = Path(settings.state_dir)
    needs = {Path(PREFIX).parent: versions.size(Path(PREFIX).resolve()) + ROOM}
    if (state / STATE).exists():
        needs[state] = 2 * (state / STATE).lstat().st_size + ROOM
    for place, needed in needs.items():
        if files.free(place).bytes < needed:
            raise StepFailed(
                "disk-full", f"{place} has less than the {needed >> 20} MiB that an upgrade needs"
            )


# --- before it is handed over


def _prepared(
    options: argparse.Namespace,
    upgrades: Upgrades,
    settings: Settings,
    wheel: Path,
    version: str,
    digest: str,
) -> Mark:
    old = versions.adopt(Path(PREFIX), Path(VERSIONS), __version__)
    if Path(sys.prefix) != old:
        _begin_again(old, options)
    new = Path(VERSIONS) / version
    if new == old:  # pip was used in it by hand: it holds another version than its name says
        hint = f"`{PREFIX}/bin/pip install` the wheel there, too, then `sudo homeport install`"
        raise Refused(409, "version-refused", f"{__version__} runs from {new} itself", hint=hint)
    Path(VERSIONS).mkdir(mode=0o755, exist_ok=True)
    versions.sweep(Path(VERSIONS), old)
    _progress(options, f"Installing homeport {version} into {new}; {__version__} goes on meanwhile.")
    built = versions.build(new, wheel, digest, _environment())
    try:
        changed = _tried(old, new, version)
    except StepFailed:
        if built:
            versions.remove(new)
        raise
    mark = Mark(
        id=versions.unique(),
        old=__version__,
        new=version,
        old_directory=str(old),
        new_directory=str(new),
        state_dir=settings.state_dir,
        socket=settings.listen.socket,
        built=built,
    )
    of_the_state(str(old), "make", mark.state_dir, mark.copy)
    upgrades.save([*changed, *WRITTEN])
    _hand_over(upgrades, mark)
    return mark


def _begin_again(old: Path, options: argparse.Namespace) -> None:
    """As the program in its own directory: under the link's name another version will be found in a moment."""
    sys.stdout.flush()
    words = ["-I", "-m", "agent", *(["--json"] if options.json else []), "install", "--wheel", options.wheel]
    os.execv(versions.python(old), [str(versions.python(old)), *words])  # noqa: S606 - no shell is meant


def _environment() -> dict[str, str]:
    """pip is configured by its own variables and files; nothing may lead Python elsewhere."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
    }


def _tried(old: Path, new: Path, version: str) -> list[str]:
    """Lets the new program look at this machine. Returns the files that its `install` would change. Raises
    StepFailed(version-refused)."""
    said = _asked(new, "--version")
    if said.text != f"homeport {version}":
        raise StepFailed("version-refused", f"the new program does not run: {_end_of(said)}")
    known = _problems(_asked(old, "--json", "check", CONFIG))
    problems = _problems(_asked(new, "--json", "check", CONFIG))
    if wrong := [f"{path}: {message}" for path, message in problems.items() if path not in known]:
        raise StepFailed("version-refused", f"{version} refuses {CONFIG}: {'; '.join(wrong)}")
    planned = _asked(new, "--json", "install", "--dry-run")
    if planned.status:
        raise StepFailed("version-refused", f"{version} cannot be installed: {_end_of(planned)}")
    changes = json.loads(planned.text)["changes"]
    return [change["name"] for change in changes if change["kind"] in ("file", "absent")]


def _asked(directory: Path, *words: str) -> commands.Done:
    program = (str(versions.python(directory)), "-I", "-m", "agent")
    return commands.run(*program, *words, environ={"CREDENTIALS_DIRECTORY": CREDENTIALS})


def _end_of(done: commands.Done) -> str:
    return " / ".join(done.text.splitlines()[-3:])[-1000:]


def _problems(done: commands.Done) -> dict[str, str]:
    """What `check` finds wrong. What is also wrong for the version that runs may come from a secret in its unit's
    environment, which nobody sees here."""
    try:
        return {problem["path"]: problem["message"] for problem in json.loads(done.text)["problems"]}
    except (ValueError, KeyError, TypeError) as error:
        raise StepFailed("version-refused", f"`check` fails: {_end_of(done)}") from error


def _hand_over(upgrades: Upgrades, mark: Mark) -> None:
    """The unit first, since systemd syncs nothing of it: without a mark it has nothing to do. From the mark on the
    upgrade goes on by itself, at the next boot as well."""
    files.write_atomic(Path(UNIT_FILE), unit(mark).encode(), mode=0o644)
    _demand("daemon-reload")
    _demand("enable", "--quiet", UNIT)
    files.syncfs(Path(UNITS))
    upgrades.write(mark)
    _demand("start", "--no-block", UNIT)


def _demand(*words: str) -> None:
    done = commands.run("systemctl", *words)
    if done.status:
        raise StepFailed("upgrade-unfinished", f"`systemctl {' '.join(words)}` failed: {done.text}")


# --- afterwards


def _followed(options: argparse.Namespace, upgrades: Upgrades, mark: Mark) -> int:
    """Tells the phases, and the end. Ctrl-C ends only the telling."""
    _progress(options, f"{UNIT} does the rest, also without this terminal.")
    phase, limit = "", time.monotonic() + FOLLOW_SECONDS
    while (end := upgrades.last()) is None or end.id != mark.id:
        pending = upgrades.pending()
        if pending is not None and pending.phase != phase:
            phase = pending.phase
            _progress(options, f"  {phase}")
        gone = commands.properties(UNIT, ["ActiveState"]).get("ActiveState") == "failed"
        if gone or time.monotonic() > limit:
            raise StepFailed("upgrade-unfinished", f"{UNIT} does not come to an end")
        time.sleep(0.5)
    while commands.properties(UNIT, ["ActiveState"]).get("ActiveState", "") not in ("", *NOT_STARTED):
        time.sleep(0.1)  # it takes itself away, last of all
    commands.run("systemctl", "daemon-reload")
    return _ended(options, end)


def _ended(options: argparse.Namespace, end: Mark) -> int:
    if end.phase is Phase.RETURNED:
        raise StepFailed("upgrade-returned", told(end))
    if end.phase is not Phase.CONFIRMED:
        raise StepFailed("upgrade-unfinished", told(end))
    copy = f"The state as it was before is in {end.state_dir}/{end.copy}."
    kept = f"{end.old} stays in {end.old_directory}: its wheel and this command lead back to it."
    return _told(options, told(end), copy, kept, end=end)


def _progress(options: argparse.Namespace, line: str) -> None:
    if not options.json:
        print(line, flush=True)


def _told(options: argparse.Namespace, *notes: str, end: Mark | None = None) -> int:
    document = {
        "dry_run": options.dry_run,
        "changes": [],
        "notes": list(notes),
        "secrets": {},
        "upgrade": msgspec.to_builtins(end),
    }
    emit(options, document, "\n".join(notes))
    return 0
