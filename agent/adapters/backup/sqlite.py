"""One SQLite database as a backup source: copied by SQLite, checked, and cut at its pages."""

import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from secrets import token_hex

from agent.adapters.backup import content, names
from agent.adapters.backup.content import Content
from agent.adapters.backup.presence import look
from agent.adapters.backup.stopping import Stopped
from agent.core.errors import StepFailed
from agent.core.model import BackupFile, BackupMember, Need
from agent.core.ports import BlobSink
from agent.system import files as disk
from agent.system import sqlite

_SMALLEST = 4096
_MOST_PIECES = 1 << 16
_LARGEST = 1024 * 1024


def piece_size(size: int, page: int) -> int:
    """How a database of `size` bytes is cut: 4 KiB pieces (or its page, if that is larger) up to 256 MiB.

    Each further factor of four in size makes the pieces four times as large, so that the addresses of a database
    fit into a Pi's memory. A database that grows across such a step is stored anew, once.
    """
    piece = max(_SMALLEST, page)
    while size > piece * _MOST_PIECES and piece < _LARGEST:
        piece *= 4
    return piece


def need(path: Path) -> Need:
    """What a copy of this database takes."""
    size = 0
    for suffix in ("", "-wal"):
        try:
            size += Path(f"{path}{suffix}").stat().st_size
        except OSError:
            continue
    return Need(bytes=size, scratch=size)


def save(sink: BlobSink, path: Path, *, name: str, source: str) -> BackupFile:
    """Stores a database as it is at this instant, and describes it. `name`: its path in the backup, not encoded.

    Raises backup-source-unreadable, -damaged, backup-failed, disk-full.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise StepFailed("backup-source-unreadable", f"{path}: {error.strerror}") from error
    copy = sink.scratch / f"copy-{token_hex(8)}.partial"
    try:
        sqlite.copy(path, copy, stopped=sink.stopped)
        stored, examined = _store_examined(sink, copy)
    except OSError as error:
        raise disk.translate(error, str(path)) from error
    finally:
        for suffix in ("", *sqlite.SIDECARS):
            Path(f"{copy}{suffix}").unlink(missing_ok=True)
    if examined.problem:
        raise StepFailed("backup-source-damaged", f"{path}: {examined.problem}")
    return BackupFile(
        path=names.encode(name),
        source=source,
        kind="sqlite",
        mode=status.st_mode & 0o7777,
        mtime=status.st_mtime_ns,
        uid=status.st_uid,
        gid=status.st_gid,
        size=stored.size,
        sha256=stored.sha256,
        chunks=stored.chunks,
        listed=stored.listed,
        tables=examined.tables,
    )


def _store_examined(sink: BlobSink, copy: Path) -> tuple[Content, sqlite.Examined]:
    """SQLite checks the copy while it is cut and stored: two cores, and neither waits for the other."""
    failed = threading.Event()
    with (
        copy.open("rb", buffering=0) as file,
        ThreadPoolExecutor(1, thread_name_prefix="homeport-check") as checker,
    ):
        examining = checker.submit(sqlite.examine, copy, lambda: failed.is_set() or sink.stopped())
        try:
            piece = piece_size(os.fstat(file.fileno()).st_size, sqlite.page_size(file.read(sqlite.START)))
            file.seek(0)
            blocks = iter(lambda: file.read(max(piece, content.FILE_PIECE)), b"")
            stored = content.store(sink, blocks, piece)
        except BaseException:
            failed.set()
            raise
        return stored, examining.result()


class SqliteDatabase:
    """A database that the configuration names."""

    def __init__(self, directory: Path, path: str) -> None:
        """`directory`: the service's, absolute. `path`: as configured, relative to it or absolute."""
        self.source = path
        self.path = Path(os.path.normpath(directory / path))
        self._directory = directory

    def estimate(self, stopped: Stopped) -> Need:  # noqa: ARG002 - the port's
        """Twice its size: the temporary copy, and what is new in it."""
        return need(self.path)

    def collect(self, sink: BlobSink, known: frozenset[str]) -> BackupMember:
        """The database, or `absent` if it never was there."""
        status = look(self.path, self.source, known)
        if status is None:
            return BackupMember(source=self.source, kind="sqlite", state="absent")
        if not stat.S_ISREG(status.st_mode):
            raise StepFailed("backup-source-unreadable", f"{self.path} is not a file")
        name = names.inside(self.path, self._directory)
        file = save(sink, self.path, name=name, source=self.source)
        sink.record(file)
        return BackupMember(source=self.source, kind="sqlite", state="ok", files=1, bytes=file.size)
