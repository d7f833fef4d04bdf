"""Which release a unit runs: what the agent writes down, since nobody can read it off a process of another user.

A unit runs what `current` names when it is started. The agent notes with which invocation it started which release.
Another invocation, of systemd's own restart or of a boot, runs what `current` names *now* if that is what the agent
started last: `look` is asked before `current` is changed, so nothing else was named meanwhile. Else nobody knows, and
that is noted as well: that `current` names the old release again later does not make it known.
"""

import json
import threading
from collections.abc import Collection, Iterable
from pathlib import Path

from msgspec import Struct, structs

from agent.core.errors import StepFailed
from agent.core.text import clean
from agent.system import files
from agent.system.threads import in_thread
from agent.system.units import UnitError, Units


class Note(Struct, frozen=True, kw_only=True):
    """`invocation` of `unit` runs `release`; of `unknown` nobody knows what it runs."""

    unit: str = ""
    release: str = ""
    invocation: str = ""
    unknown: str = ""


class Started:
    """The note of one service, in the file `path`. Methods block, may be called in any thread, and raise OSError."""

    def __init__(self, path: Path, unit: str, current: Path) -> None:
        self._path = path
        self._unit = unit
        self._current = current
        self._lock = threading.Lock()

    def release_of(self, invocation: str) -> str:
        """What this invocation runs; "" if nobody knows."""
        with self._lock:
            note = self._read()
            if note.invocation == invocation:
                return note.release
            if not note.release or note.unknown == invocation:
                return ""
            if self.names(note.release):
                self._write(structs.replace(note, invocation=invocation))
                return note.release
            self._write(structs.replace(note, unknown=invocation))
            return ""

    def note(self, release: str, invocation: str) -> None:
        """This release is being started ("": its invocation is not known yet)."""
        with self._lock:
            self._write(Note(unit=self._unit, release=release, invocation=invocation))

    def names(self, release: str) -> bool:
        """Whether `current` names this release."""
        try:
            return str(self._current.readlink()) == f"releases/{release}"
        except OSError:
            return False

    def _read(self) -> Note:
        """An empty one where there is none, or where it is of another unit."""
        note = _note_in(self._path)
        return note if note.unit == self._unit else Note()

    def _write(self, note: Note) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        files.remove_asides(self._path)
        files.write_atomic(self._path, json.dumps(structs.asdict(note)).encode("ascii"))


async def demand_no_other(notes: Iterable[Path], own: Collection[str], units: Units) -> None:
    """That no unit runs which the agent started the service as under an earlier configuration: these are its notes.
    One that has ended is forgotten: it may be somebody else's by now. Raises unit-left-running, systemd-unreachable."""
    for path in notes:
        try:
            unit = (await in_thread(_note_in, path)).unit
            if unit and unit not in own:
                await _demand_end(unit, units)
                await in_thread(path.unlink, missing_ok=True)
        except OSError as error:
            raise files.translate(error, str(path)) from error


async def _demand_end(unit: str, units: Units) -> None:
    try:
        state = await units.look(unit)
    except UnitError as error:
        raise StepFailed(error.code, clean(f"{unit}: {error}", 512)) from error
    if state.active not in ("inactive", "failed"):
        raise StepFailed("unit-left-running", f"{unit}, which the service was before, is {state.active}")


def _note_in(path: Path) -> Note:
    """An empty one where none can be read."""
    try:
        found = json.loads(path.read_bytes())
        return Note(**{name: str(found[name]) for name in Note.__struct_fields__})
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError):
        return Note()
