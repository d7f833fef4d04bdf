"""A service's directory as the place of a restore: what is swapped there, by renames alone.

Of each swap `staged` tells how far it got: while something stands there, the swap is not complete; once it is gone,
what the backup had is in place. So both directions can be run again after a cut at any instant:

    swap       what stands at `path` goes to `kept`, with what belongs to it; then `staged` goes to `path`
    put back   first `path` goes to `staged` again; then `kept` goes back to `path`

A swap of a path for which the backup has nothing has an empty file as `staged`, which goes aside instead.
"""

import os
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from agent.adapters.backup.files import sizes
from agent.adapters.backup.stopping import Stopped
from agent.core.errors import StepFailed
from agent.core.restores import Part, Swap
from agent.system import sqlite
from agent.system.files import fsync_directory, remove_tree, strangers_link, translate
from agent.system.threads import in_thread, to_its_end, until_stopped

_OVER = ".over"
_MADE = ".made"
_SECOND = timedelta(seconds=1)


class Place:
    """Answers `core.ports.Place` for the service that lives in `directory`."""

    def __init__(self, directory: Path) -> None:
        """Touches nothing."""
        self._directory = directory

    async def plan(
        self, paths: Mapping[str, bool], *, databases: Collection[str], id: str, at: datetime
    ) -> tuple[Swap, ...]:
        """See the port."""
        return await in_thread(self._plan, paths, databases, id, at)

    async def prepare(self, swaps: Sequence[Swap]) -> None:
        """See the port."""
        await to_its_end(_translated, _prepare, swaps)

    async def swap(self, swaps: Sequence[Swap]) -> bool:
        """See the port."""
        await to_its_end(_translated, _swap, swaps)
        return await in_thread(_is_kept, swaps)

    async def put_back(self, swaps: Sequence[Swap]) -> None:
        """See the port."""
        await to_its_end(_translated, _put_back, swaps)

    async def discard(self, swaps: Sequence[Swap]) -> None:
        """See the port."""
        await to_its_end(_translated, _discard, swaps)

    async def forget(self, swaps: Sequence[Swap]) -> None:
        """See the port."""
        await to_its_end(_translated, _forget, swaps)

    async def sizes(self, paths: Sequence[str]) -> Sequence[Part]:
        """See the port."""
        return await in_thread(self._sizes, paths)

    async def rows(self, database: str) -> dict[str, int] | None:
        """See the port."""
        stop = threading.Event()
        return await until_stopped(stop, self._rows, database, stop.is_set)

    # ------------------------------------------------------------------ in a thread

    def _plan(
        self, paths: Mapping[str, bool], databases: Collection[str], id: str, at: datetime
    ) -> tuple[Swap, ...]:
        swaps = [self._swap_of(name, present, name in databases, id, at) for name, present in paths.items()]
        if len({swap.path for swap in swaps}) != len(swaps):
            raise StepFailed("restore-place", "two of the backup's paths are links to the same place by now")
        return tuple(swaps)

    def _swap_of(self, name: str, present: bool, database: bool, id: str, at: datetime) -> Swap:
        if (link := strangers_link(self._directory / name)) is not None:
            raise StepFailed("restore-place", f"{link} is a link that another user has made")
        path = Path(os.path.realpath(self._directory / name))
        if path.is_mount():
            raise StepFailed("restore-place", f"{path} is a mount point: it cannot be replaced whole")
        linked = path != Path(os.path.realpath(self._directory)) / name
        if not path.exists() and (
            (self._directory / name).is_symlink() or (linked and not path.parent.exists())
        ):
            raise StepFailed("restore-place", f"{self._directory / name} leads to {path}, which is not there")
        while os.path.lexists(kept := path.with_name(f"{path.name}.pre-restore-{at:%Y%m%dT%H%M%SZ}")):
            at += _SECOND
        return Swap(
            path=str(path),
            staged=str(path.parent / f".{path.name}.{id}.partial" / path.name),
            kept=str(kept),
            present=present,
            beside=sqlite.SIDECARS if database or sqlite.is_database(_start(path)) else (),
        )

    def _sizes(self, paths: Sequence[str]) -> Sequence[Part]:
        held = {name: [size for _, size in sizes(os.path.realpath(self._directory / name))] for name in paths}
        return [Part(path=name, files=len(found), bytes=sum(found)) for name, found in held.items()]

    def _rows(self, database: str, stopped: Stopped) -> dict[str, int] | None:
        return sqlite.rows(self._directory / database, stopped)


def _translated(act: Callable[[Sequence[Swap]], None], swaps: Sequence[Swap]) -> None:
    try:
        act(swaps)
    except OSError as error:
        raise translate(error, str(error.filename or "the service's data")) from error


def _prepare(swaps: Sequence[Swap]) -> None:
    for swap in swaps:
        staged = Path(swap.staged)
        remove_tree(staged.parent)
        staged.parent.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        staged.parent.mkdir(mode=0o700)
        if not swap.present:
            staged.touch()
        fsync_directory(staged.parent)
        fsync_directory(staged.parent.parent)


def _swap(swaps: Sequence[Swap]) -> None:
    for swap in swaps:
        if os.path.lexists(swap.staged):
            for ending in (*swap.beside, ""):
                _move(swap.path + ending, swap.kept + ending)
            Path(swap.staged).rename(swap.path if swap.present else swap.staged + _OVER)
        _settle(swap)


def _is_kept(swaps: Sequence[Swap]) -> bool:
    return any(os.path.lexists(swap.kept + ending) for swap in swaps for ending in (*swap.beside, ""))


def _put_back(swaps: Sequence[Swap]) -> None:
    for swap in reversed(swaps):
        if not os.path.lexists(swap.staged):
            _take_out(swap)
            _settle(swap)
        for ending in (*swap.beside, ""):
            if os.path.lexists(swap.kept + ending):
                _move(swap.path + ending, swap.kept + _MADE + ending)
                Path(swap.kept + ending).rename(swap.path + ending)
        _settle(swap)


def _take_out(swap: Swap) -> None:
    """What a complete swap put in place, and what the service made of it, goes aside; the mark or data last."""
    if swap.present:
        for ending in swap.beside:
            _move(swap.path + ending, swap.staged + ending)
        if os.path.lexists(swap.path):
            Path(swap.path).rename(swap.staged)
        else:  # the service removed it
            Path(swap.staged).touch()
    else:
        for ending in (*swap.beside, ""):
            _move(swap.path + ending, swap.staged + _MADE + ending)
        Path(swap.staged + _OVER).replace(swap.staged)


def _move(source: str, target: str) -> None:
    """Renames what is there. What stands at the target already is no less worth keeping."""
    if not os.path.lexists(source):
        return
    number, free = 1, target
    while os.path.lexists(free):
        number, free = number + 1, f"{target}-{number}"
    Path(source).rename(free)


def _settle(swap: Swap) -> None:
    """The names of both directories, durable."""
    fsync_directory(Path(swap.path).parent)
    fsync_directory(Path(swap.staged).parent)


def _discard(swaps: Sequence[Swap]) -> None:
    for swap in swaps:
        aside = Path(swap.staged).parent
        if os.path.lexists(aside):
            remove_tree(aside)
            fsync_directory(aside.parent)


def _forget(swaps: Sequence[Swap]) -> None:
    for swap in swaps:
        kept = Path(swap.kept)
        if not kept.parent.is_dir():
            continue
        for path in kept.parent.iterdir():
            if path.name.startswith(kept.name):
                remove_tree(path)
        fsync_directory(kept.parent)


def _start(path: Path) -> bytes:
    """How a file begins; nothing of what is no file, or does not read."""
    try:
        with path.open("rb") as file:
            return file.read(sqlite.START) if path.is_file() else b""
    except OSError:
        return b""
