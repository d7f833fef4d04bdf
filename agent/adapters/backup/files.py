"""Files and directories as a backup source. The rules:

- Links are kept as links and never followed, except the source's own path; directories are entered by descriptor,
  so that nobody swaps one for a link meanwhile. Sockets, FIFOs and devices are counted, not stored.
- A SQLite database, known by its first 16 bytes, is copied by SQLite; what lies beside it (-wal, -shm, -journal) is
  then part of that copy. What another source of the service covers is skipped.
- A file that only grew while it was read is stored up to its size at opening: an honest prefix. One that changed
  otherwise is read again, once; a directory from which something vanished is listed again, once. What still does
  not hold makes the source `partial`.
- What may not be read fails the backup: half a backup that calls itself one is worse than none.
"""

import errno
import hashlib
import os
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.adapters.backup import content, names, sqlite
from agent.adapters.backup.content import FILE_PIECE, Content
from agent.adapters.backup.presence import look
from agent.adapters.backup.stopping import Stopped, heed
from agent.core.errors import StepFailed
from agent.core.model import BackupFile, BackupMember, Need
from agent.core.ports import BlobSink
from agent.system import sqlite as databases
from agent.system.files import translate

_DEEPEST = 200
_PROBE_FROM = 1024 * 1024
_TICK = 50_000_000
"""Nanoseconds: two changes within one tick of the kernel's clock leave the same time on a file."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # NONBLOCK: a FIFO put there would hang us


class _Vanished(Exception):
    """What was listed is not there any more, or is another thing."""


class Tree:
    """One configured path: a directory with all below it, or a file."""

    def __init__(self, directory: Path, path: str, covered: Sequence[Path] = ()) -> None:
        """`directory`: the service's, absolute. `path`: as configured, relative to it or absolute.

        `covered`: absolute paths that other sources save: databases and trees inside of this one.
        """
        self.source = path
        self.path = Path(os.path.normpath(directory / path))
        self._directory = directory
        self._covered = tuple(covered)

    def estimate(self, stopped: Stopped) -> Need:
        """The sizes of all files, and the largest database among them."""
        total = scratch = 0
        covered = _real(self._covered)
        for path, size in sizes(os.path.realpath(self.path)):
            heed(stopped)
            if path in covered:
                continue
            total += size
            if size >= _PROBE_FROM and size > scratch and databases.is_database(_start(path)):
                scratch = size
        return Need(bytes=total, scratch=scratch)

    def collect(self, sink: BlobSink, known: frozenset[str]) -> BackupMember:
        """All of it, or `absent` if it never was there."""
        status = look(self.path, self.source, known)
        if status is None:
            return BackupMember(source=self.source, kind="files", state="absent")
        walk = _Walk(sink, self.source, names.inside(self.path, self._directory), self.path, self._covered)
        try:
            walk.root(stat.S_ISDIR(status.st_mode))
        except _Vanished as error:
            raise StepFailed("backup-source-gone", f"{self.path} vanished while it was read") from error
        except PermissionError as error:
            raise StepFailed("backup-source-unreadable", f"{error.filename}: {error.strerror}") from error
        except OSError as error:
            raise translate(error, str(error.filename or self.path)) from error
        tally = walk.tally
        state = "partial" if tally.unsteady else "ok"
        return BackupMember(
            source=self.source,
            kind="files",
            state=state,
            files=tally.files,
            bytes=tally.bytes,
            skipped=tally.skipped,
        )


@dataclass
class _Tally:
    files: int = 0
    bytes: int = 0
    skipped: int = 0
    unsteady: int = 0


class _Walk:
    """One pass over one tree."""

    def __init__(self, sink: BlobSink, source: str, name: str, path: Path, covered: Sequence[Path]) -> None:
        self.tally = _Tally()
        self._sink = sink
        self._source = source
        self._name = name
        self._real = os.path.realpath(path)
        self._covered = _real(covered)

    def root(self, directory: bool) -> None:
        """Begins at the source's own path, whose links are followed."""
        if directory:
            handle = _open(self._real, _DIRECTORY, None)
            _demand_place(handle, self._real)
            self._directory(handle, "", 0)
        elif self._real not in self._covered:
            parent, _, name = self._real.rpartition("/")
            handle = _open(parent or "/", _DIRECTORY, None)
            try:
                _demand_place(handle, parent or "/")
                self._file(handle, name, "")
            finally:
                os.close(handle)

    def _directory(self, handle: int, below: str, depth: int) -> None:
        """Records a directory and all in it; takes over `handle`. `below`: its path in the tree, "" for the root."""
        try:
            if depth > _DEEPEST:
                raise StepFailed("backup-failed", f"{self._at(below)}: nested too deeply")
            self._record("directory", os.fstat(handle), below)
            done: set[str] = set()
            if not self._entries(handle, below, depth, done) and not self._entries(
                handle, below, depth, done
            ):
                self.tally.unsteady += 1
        finally:
            os.close(handle)

    def _entries(self, handle: int, below: str, depth: int, done: set[str]) -> bool:
        """Records what is new since the last call; whether everything listed was still there."""
        steady = True
        with os.scandir(handle) as listing:
            entries = sorted(entry.name for entry in listing)
        for name in entries:
            if name not in done:
                try:
                    self._entry(handle, name, f"{below}/{name}" if below else name, depth)
                    done.add(name)
                except _Vanished:
                    steady = False
        return steady

    def _entry(self, parent: int, name: str, below: str, depth: int) -> None:
        if self._at(below) in self._covered:
            return
        try:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                self._record("symlink", status, below, target=os.readlink(name, dir_fd=parent))
                return
        except FileNotFoundError as error:
            raise _Vanished from error
        if stat.S_ISDIR(status.st_mode):
            self._directory(_open(name, _DIRECTORY, parent, self._at(below)), below, depth + 1)
        elif not stat.S_ISREG(status.st_mode):
            self.tally.skipped += 1
        elif not _beside_database(parent, name):
            self._file(parent, name, below)

    def _file(self, parent: int, name: str, below: str) -> None:
        """Stores a file; one that changed meanwhile once more."""
        found = self._read_once(parent, name, below)
        if found is not None and not found[2]:
            found = self._read_once(parent, name, below)
        if found is None:
            self._save_database(below)
            return
        status, stored, steady = found
        self.tally.unsteady += not steady
        self._record("file", status, below, stored=stored, changed=not steady)

    def _read_once(self, parent: int, name: str, below: str) -> tuple[os.stat_result, Content, bool] | None:
        """A file as it was at opening, its bytes, and whether they are of one instant; None: it is a database."""
        handle = _open(name, _FILE, parent, self._at(below))
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise _Vanished
            if databases.is_database(os.pread(handle, databases.START, 0)):
                return None
            return status, *self._store(handle, status)
        finally:
            os.close(handle)

    def _store(self, handle: int, status: os.stat_result) -> tuple[Content, bool]:
        """Stores a file's bytes up to the size it had; whether they are what was there at one instant."""
        opened = time.time_ns()
        stored = content.store(self._sink, _read(handle, status.st_size))
        after = os.fstat(handle)
        same = (after.st_size, after.st_mtime_ns) == (status.st_size, status.st_mtime_ns)
        if same and opened - status.st_mtime_ns > _TICK:
            return stored, True
        if stored.size != status.st_size or after.st_size < status.st_size:
            return stored, False
        again = hashlib.sha256()
        for piece in _read(handle, status.st_size):
            heed(self._sink.stopped)
            again.update(piece)
        return stored, again.hexdigest() == stored.sha256

    def _save_database(self, below: str) -> None:
        path = Path(self._at(below))
        file = sqlite.save(self._sink, path, name=self._named(below), source=self._source)
        self._sink.record(file)
        self.tally.files += 1
        self.tally.bytes += file.size

    def _record(
        self,
        kind: str,
        status: os.stat_result,
        below: str,
        *,
        stored: Content | None = None,
        target: str = "",
        changed: bool = False,
    ) -> None:
        self._sink.record(
            BackupFile(
                path=names.encode(self._named(below)),
                source=self._source,
                kind=kind,
                mode=stat.S_IMODE(status.st_mode),
                mtime=status.st_mtime_ns,
                uid=status.st_uid,
                gid=status.st_gid,
                size=stored.size if stored else 0,
                sha256=stored.sha256 if stored else "",
                chunks=stored.chunks if stored else (),
                listed=stored.listed if stored else False,
                target=names.encode(target),
                changed=changed,
            )
        )
        if kind != "directory":
            self.tally.files += 1
            self.tally.bytes += stored.size if stored else 0

    def _at(self, below: str) -> str:
        return f"{self._real}/{below}" if below else self._real

    def _named(self, below: str) -> str:
        return f"{self._name}/{below}" if below else self._name


def _real(covered: Sequence[Path]) -> frozenset[str]:
    """Where covered paths really lie, with what belongs to a database."""
    real = [os.path.realpath(path) for path in covered]
    # a link to a covered database is covered as well: under its name the database itself is in the backup
    real += [os.path.join(os.path.realpath(path.parent), path.name) for path in covered]  # noqa: PTH118 - text
    return frozenset(path + suffix for path in real for suffix in ("", *databases.SIDECARS))


def _demand_place(handle: int, path: str) -> None:
    """That nobody has put a link in the way since the path was looked at."""
    if os.readlink(f"/proc/self/fd/{handle}") != path:  # noqa: PTH115 - no path of files
        raise _Vanished


def _open(name: str, flags: int, parent: int | None, path: str = "") -> int:
    try:
        return os.open(name, flags, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
            raise _Vanished from error
        error.filename = path or name
        raise


def _read(handle: int, size: int) -> Iterator[bytes]:
    """The first `size` bytes, or what there is of them."""
    at = 0
    while at < size and (piece := os.pread(handle, min(FILE_PIECE, size - at), at)):
        at += len(piece)
        yield piece


def _beside_database(parent: int, name: str) -> bool:
    """Whether this is the journal, log or shared memory of a database in the same directory."""
    for suffix in databases.SIDECARS:
        if name.endswith(suffix) and (base := name.removesuffix(suffix)):
            try:
                handle = os.open(base, _FILE, dir_fd=parent)
            except OSError:
                continue
            try:
                return databases.is_database(os.pread(handle, databases.START, 0))
            finally:
                os.close(handle)
    return False


def _start(path: str) -> bytes:
    try:
        handle = os.open(path, _FILE)
    except OSError:
        return b""
    try:
        return os.pread(handle, databases.START, 0)
    finally:
        os.close(handle)


def sizes(path: str) -> Iterator[tuple[str, int]]:
    """Every regular file below a path, and its size; what cannot be read is left out."""
    try:
        status = os.lstat(path)
    except OSError:
        return
    if stat.S_ISREG(status.st_mode):
        yield path, status.st_size
    if not stat.S_ISDIR(status.st_mode):
        return
    for top, _, files in os.walk(path):
        for name in files:
            file = f"{top}/{name}"
            try:
                status = os.lstat(file)
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode):
                yield file, status.st_size
