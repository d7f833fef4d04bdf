"""The agent's own store of backups: what did not change costs no new space.

    <root>/format                       "homeport backups 1"
    <root>/<service>/packs/             every piece of every backup once         (packs.py)
    <root>/<service>/manifests/         one file a backup: it exists if this does (manifest.py)
    <root>/<service>/scratch/           temporary copies of databases
    <root>/<service>/rehearsals/        backups that are being restored to see whether they can be (layout.py)
    <root>/<service>/untidy             stands there while there may be packs that nobody needs (reclaim.py)
    <root>/<service>/lock               held (flock) while something is written or swept

Each service is for itself, so that one's backup never waits for another's. Directories are 0700 and files 0600.
Everything is written as `.partial`, fsynced, renamed, and its directory fsynced: packs before the manifest.

This is the store's edge: an OSError becomes a StepFailed here, and long work ends within a second of being told to
(what the kernel itself is at, an fsync or one read, is waited for).
"""

import contextlib
import re
import stat
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from secrets import token_hex

import msgspec

from agent.adapters.backup import layout, manifest, proving, reclaim, room, tar
from agent.adapters.backup.codec import Damaged
from agent.adapters.backup.descriptors import entries
from agent.adapters.backup.home import Home
from agent.adapters.backup.manifest import Head, Manifest
from agent.adapters.backup.packs import Packs
from agent.adapters.backup.sink import Sink
from agent.adapters.backup.stopping import Stopped, heed
from agent.core.errors import StepFailed, Unavailable
from agent.core.model import Backup
from agent.core.ports import BackupSource
from agent.core.restores import Contents
from agent.core.text import clean
from agent.system import sqlite
from agent.system.files import (
    Free,
    free,
    fsync_directory,
    remove_asides,
    remove_tree,
    translate,
    write_atomic,
)
from agent.system.threads import in_thread, to_its_end, until_stopped

_FORMAT = b"homeport backups 1\n"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_HOP = 512 * 1024


class ArchiveStore:
    """Answers `core.ports.BackupStore`."""

    def __init__(self, root: Path, *, version: str = "", space: Callable[[Path], Free] = free) -> None:
        """`root`: made when it is first needed. `version`: homeport's own, for the manifests."""
        self._root = root
        self._space = space
        self._tools = {"homeport": version, "sqlite": sqlite.VERSION, "python": sys.version.split()[0]}

    async def create(
        self,
        *,
        id: str,
        service: str,
        at: datetime,
        sources: Sequence[BackupSource],
        deployment: str | None,
        revision: str | None,
    ) -> Backup:
        """See the port."""
        head = Head(
            format=manifest.FORMAT,
            number=0,
            id=id,
            service=service,
            at=at,
            deployment=deployment,
            revision=revision,
            tools=self._tools,
        )
        stop = threading.Event()
        return await until_stopped(stop, self._create, head, sources, stop.is_set)

    async def verify(self, id: str, digest: str = "") -> Backup:
        """See the port."""
        stop = threading.Event()
        return await until_stopped(stop, self._verify, id, digest, stop.is_set)

    async def begun(self) -> bool:
        """See the port."""
        return await in_thread(self._begun)

    async def ids(self) -> frozenset[str]:
        """See the port."""
        return await in_thread(self._ids)

    async def look(self, id: str) -> Backup:
        """See the port."""
        stop = threading.Event()
        return await until_stopped(stop, self._look, id, stop.is_set)

    async def stream(self, id: str, digest: str = "") -> AsyncGenerator[bytes, None]:
        """See the port."""
        stop = threading.Event()
        pieces = self._stream(id, digest, stop.is_set)
        try:
            while (piece := await until_stopped(stop, next, pieces, None)) is not None:
                yield piece
        finally:
            pieces.close()

    async def contents(self, id: str, digest: str, parts: Sequence[str]) -> Contents:
        """See the port."""
        stop = threading.Event()
        return await until_stopped(stop, self._contents, id, digest, parts, stop.is_set)

    async def lay_out(self, id: str, digest: str, targets: Mapping[str, Path]) -> Contents:
        """See the port."""
        stop = threading.Event()
        return await until_stopped(stop, self._lay_out, id, digest, targets, stop.is_set)

    async def rehearse(self, id: str, digest: str) -> Contents:
        """See the port."""
        stop = threading.Event()
        return await until_stopped(stop, self._rehearse, id, digest, stop.is_set)

    async def forget(self, ids: Sequence[str]) -> None:
        """See the port."""
        await to_its_end(self._forget, ids)

    async def reclaim(self, service: str) -> int:
        """See the port."""
        stop = threading.Event()
        return await until_stopped(stop, self._reclaim, service, stop.is_set)

    async def sweep(self) -> int:
        """See the port."""
        return await in_thread(self._sweep)

    # ------------------------------------------------------------------ in a thread

    def _create(self, head: Head, sources: Sequence[BackupSource], stopped: Stopped) -> Backup:
        with _translated(self._root):
            home = self._made(head.service)
            with home.lock():
                home.sweep()
                if head.id in home.backups():
                    raise StepFailed("backup-failed", f"there is a backup {head.id} already")
                last = home.last(stopped)
                needs = [source.estimate(stopped) for source in sources]
                room.require(self._space(home.path), needs, last)
                head = msgspec.structs.replace(head, number=home.next_number())
                backup = self._write(home, head, sources, last, stopped)
        return _with(backup, state="unverified") if backup.state == "ok" else backup

    def _write(
        self,
        home: Home,
        head: Head,
        sources: Sequence[BackupSource],
        last: Backup | None,
        stopped: Stopped,
    ) -> Backup:
        """The backup itself. Whatever fails, nothing of it stays."""
        members = last.members if last else ()
        known = frozenset(member.source for member in members if member.state != "absent")
        sink = Sink(home.packs, home.manifests, home.scratch, head, stopped)
        try:
            return sink.commit(tuple(source.collect(sink, known) for source in sources))
        except BaseException:
            sink.discard()
            raise
        finally:
            sink.close()

    def _verify(self, id: str, digest: str, stopped: Stopped) -> Backup:
        with _translated(self._root):
            home, path = self._locate(id)
            try:
                read = Manifest(path, device=True, stopped=stopped)
                backup = read.backup()
                if digest and digest != read.digest:
                    return _with(backup, state="bad", reason="the manifest is not the one that was written")
                if backup.service != home.path.name:
                    return _with(backup, state="bad", reason=f"it is a backup of {clean(backup.service)}")
                problems = proving.problems(read, home, stopped)
            except (Damaged, OSError) as error:
                return proving.unreadable(home, id, path, error)
        if problems:
            return _with(backup, state="bad", reason=clean("; ".join(problems[:3]), 512))
        return backup

    def _begun(self) -> bool:
        with _translated(self._root):
            return any(path.name == "format" for path in entries(self._root))

    def _ids(self) -> frozenset[str]:
        with _translated(self._root):
            return frozenset(known for home in self._homes() for known in home.backups())

    def _look(self, id: str, stopped: Stopped) -> Backup:
        with _translated(self._root):
            home, path = self._locate(id)
            try:
                backup = Manifest(path, stopped=stopped).backup()
            except (Damaged, OSError) as error:
                return proving.unreadable(home, id, path, error)
        return _with(backup, state="unverified") if backup.state == "ok" else backup

    def _stream(self, id: str, digest: str, stopped: Stopped) -> Generator[bytes, None, None]:
        with self._reading(id, digest, stopped) as (home, read), Packs(home.packs) as pieces:
            yield from _gathered(tar.pieces(read, pieces), stopped)

    def _contents(self, id: str, digest: str, parts: Sequence[str], stopped: Stopped) -> Contents:
        with self._reading(id, digest, stopped) as (_, read):
            return layout.contents(read, parts, stopped)

    def _lay_out(self, id: str, digest: str, targets: Mapping[str, Path], stopped: Stopped) -> Contents:
        with self._reading(id, digest, stopped) as (home, read):
            held = layout.contents(read, tuple(targets), stopped)
            layout.require_room(held, targets, self._space)
            with Packs(home.packs) as pieces:
                layout.lay_out(read, pieces, targets, stopped)
            return held

    def _rehearse(self, id: str, digest: str, stopped: Stopped) -> Contents:
        with _translated(self._root):
            home, _ = self._locate(id)
            home.rehearsals.mkdir(mode=0o700, exist_ok=True)
            aside = home.rehearsals / token_hex(8)
            aside.mkdir(mode=0o700)
            try:
                return self._lay_out(id, digest, {"": aside / "content"}, stopped)
            finally:
                remove_tree(aside)

    @contextlib.contextmanager
    def _reading(self, id: str, digest: str, stopped: Stopped) -> Iterator[tuple[Home, Manifest]]:
        """A backup's manifest, if it is the one that was written; what turns out damaged is backup-bad."""
        with _translated(self._root):
            home, path = self._locate(id)
            try:
                read = Manifest(path, stopped=stopped)
                if digest and digest != read.digest:
                    raise Damaged("the manifest is not the one that was written")
                yield home, read
            except Damaged as error:
                raise StepFailed("backup-bad", clean(f"backup {id}: {error}", 512)) from error

    def _forget(self, ids: Sequence[str]) -> None:
        with _translated(self._root):
            for home in self._homes():
                if set(ids) & home.backups().keys():
                    with home.lock():
                        reclaim.forget(home, ids)

    def _reclaim(self, service: str, stopped: Stopped) -> int:
        with _translated(self._root):
            for home in self._homes():
                if home.path.name == service and home.untidy:
                    with home.lock():
                        return self._tidied(home, stopped)
        return 0

    def _tidied(self, home: Home, stopped: Stopped) -> int:
        try:
            home.sweep()
            return reclaim.reclaim(home, self._space, stopped)
        except Damaged as error:
            text = f"no space is given back while a backup does not read: {error}"
            raise StepFailed("backup-bad", clean(text, 512)) from error

    def _sweep(self) -> int:
        count = 0
        with _translated(self._root):
            for home in self._homes():
                count += home.sweep_rehearsals()
                try:
                    with home.lock():
                        count += home.sweep()
                except Unavailable:
                    continue  # what is being written now is swept another time
        return count

    def _made(self, service: str) -> Home:
        """A service's home, with its directories."""
        if not _NAME.fullmatch(service):
            raise StepFailed("backup-failed", f"{clean(service)} cannot name a directory")
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (self._root / "format").exists():
            remove_asides(self._root / "format")
            write_atomic(self._root / "format", _FORMAT)
            fsync_directory(self._root.parent)
        _check_format(self._root)
        home = Home(self._root / service)
        home.make()
        return home

    def _homes(self) -> Iterator[Home]:
        found = [path for path in entries(self._root) if _NAME.fullmatch(path.name)]
        if found:
            _check_format(self._root)
        for path in found:
            if stat.S_ISDIR(path.stat().st_mode):  # is_dir() would take what cannot be asked for a file
                yield Home(path)

    def _locate(self, id: str) -> tuple[Home, Path]:
        for home in self._homes():
            if (path := home.backups().get(id)) is not None:
                return home, path
        raise StepFailed("backup-unknown", f"there is no backup {clean(id)}")


def _check_format(root: Path) -> None:
    try:
        found = (root / "format").read_bytes()
    except FileNotFoundError:
        found = b""
    if found != _FORMAT:
        raise StepFailed(
            "backup-failed", f"{root} is not a backup store of this version: its file `format` says so"
        )


def _with(backup: Backup, *, state: str, reason: str = "") -> Backup:
    return msgspec.structs.replace(backup, state=state, reason=reason)


def _gathered(pieces: Iterator[bytes], stopped: Stopped) -> Iterator[bytes]:
    """The same bytes in larger pieces: each one costs a hop between threads."""
    buffer = bytearray()
    for piece in pieces:
        heed(stopped)
        buffer += piece
        if len(buffer) >= _HOP:
            yield bytes(buffer)
            buffer.clear()
    if buffer:
        yield bytes(buffer)


@contextlib.contextmanager
def _translated(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise translate(error, str(error.filename or root)) from error
