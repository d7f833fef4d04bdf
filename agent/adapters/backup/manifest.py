"""Manifests: what one backup consists of. A backup exists when its manifest does.

`manifests/<number>-<id>.json.zst` (or .gz) holds lines of JSON, so that any tool reads it and no size of backup
needs more memory than a line of it: the head, one line per file, the tail, and last the SHA-256 of all lines before
it. The same digest stands in the agent's journal: who edits a manifest and its last line is found out there.

The number is one more than the highest before it: which backup is a service's last one does not depend on clocks.
While a backup is being written, `<number>-<id>.partial` marks it, durable before the first pack and removed after
the last: only what bears the id of such a mark has to be tidied up after a power cut.
"""

import contextlib
import hashlib
import os
import re
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import IO, NamedTuple, TypeVar

import msgspec

from agent.adapters.backup import codec
from agent.adapters.backup.codec import Damaged
from agent.adapters.backup.descriptors import is_damage
from agent.adapters.backup.stopping import Stopped, heed, never
from agent.core.model import Backup, BackupFile, BackupMember
from agent.system.files import fsync_directory

FORMAT = 1
_LINE_LIMIT = 16 * 1024 * 1024
_CODECS = {"json.zst": "zstd", "json.gz": "zlib"}
_MARK = "partial"
_KINDS = frozenset({"file", "sqlite", "directory", "symlink"})
_STATES = frozenset({"ok", "partial"})
_NAME = re.compile(r"([0-9]{8,18})-(.+)\.(json\.zst|json\.gz|partial)", re.DOTALL)


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The first line: what was known before the first byte."""

    format: int
    number: int
    """Of the service's backups, in the order in which they were begun."""
    id: str
    service: str
    at: datetime
    deployment: str | None
    revision: str | None
    tools: dict[str, str]


class Tail(msgspec.Struct, frozen=True, kw_only=True):
    """The last line but one: what was known after the last byte. `packs` may not be swept while this backup is."""

    state: str
    files: int
    bytes: int
    packed_bytes: int
    members: tuple[BackupMember, ...]
    packs: tuple[str, ...]


class _Digest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sha256: str


class ManifestWriter:
    """Writes one manifest aside, line by line; `finish` puts it in place."""

    def __init__(self, directory: Path, head: Head) -> None:
        self._codec = codec.best()
        stem = f"{head.number:08d}-{head.id}"
        self.path = directory / f"{stem}.json.{codec.suffix(self._codec)}"
        self._aside = directory / f"{stem}.{_MARK}"
        handle = os.open(self._aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(handle, "wb")
        self._lines: IO[bytes] = codec.writer(self._codec, self._file)
        self._hash = hashlib.sha256()
        self._closed = self._finished = False
        self.files = 0
        try:
            fsync_directory(directory)
            self._line(head)
        except BaseException:
            self.close()
            raise

    def _line(self, value: object) -> None:
        line = msgspec.json.encode(value) + b"\n"
        self._hash.update(line)
        self._lines.write(line)

    def record(self, file: BackupFile) -> None:
        """Adds a file."""
        self.files += 1
        self._line(file)

    def finish(self, tail: Tail) -> str:
        """Makes the manifest durable under its name, but for the directory's fsync. Returns its digest."""
        self._line(tail)
        digest = self._hash.hexdigest()
        self._line(_Digest(digest))
        self._lines.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._closed = True
        self._aside.replace(self.path)
        self._finished = True
        return digest

    def withdraw(self) -> None:
        """Makes a finished manifest a mark again, so that its packs may go; `close` then removes the mark."""
        if self._finished:
            self.path.replace(self._aside)
            self._finished = False

    def close(self) -> None:
        """Drops a manifest that is not finished."""
        if not self._closed:
            self._closed = True
            with contextlib.suppress(OSError):  # the full disk that ended it says so once more
                self._lines.close()
            with contextlib.suppress(OSError):
                self._file.close()
        if not self._finished:
            self._aside.unlink(missing_ok=True)


class Manifest:
    """A manifest that was read once, whole, and fits its own digest."""

    def __init__(self, path: Path, *, device: bool = False, stopped: Stopped = never) -> None:
        """`device`: read it from the medium, not from the page cache.

        Raises Damaged; OSError if it may be whole all the same; backup-failed when it is stopped.
        """
        self.path = path
        name = named(path)
        if name is None or name.mark:
            raise Damaged(f"{path.name} is not the name of a manifest")
        if device:
            drop_cache(path)
        hashed = hashlib.sha256()
        held: deque[bytes] = deque()
        first, count = b"", 0
        for line in _lines(path):
            heed(stopped)
            if held:
                hashed.update(held[-1])
            held.append(line)
            first = first or line
            if len(held) > 2:
                held.popleft()
                count += 1
        if count == 0:
            raise Damaged(f"{path.name}: cut off")
        self.head = _decode(first, Head, path)
        self.tail = _decode(held[0], Tail, path)
        self.digest = _decode(held[1], _Digest, path).sha256
        told = (self.head.number, self.head.id)
        if self.digest != hashed.hexdigest() or told != name[:2] or self.tail.files != count - 1:
            raise Damaged(f"{path.name}: it is not what was written")
        if self.head.format != FORMAT:
            raise Damaged(f"{path.name}: format {self.head.format} is newer than this version of homeport")
        if self.tail.state not in _STATES or min(self.tail.bytes, self.tail.packed_bytes) < 0:
            raise Damaged(f"{path.name}: its end says what no backup says")
        self._count = count - 1

    def files(self) -> Iterator[BackupFile]:
        """Its files in the order of a restore, read anew, one in memory at a time. Raises Damaged."""
        lines = _lines(self.path)
        with closing(lines):
            next(lines, None)
            for number, line in enumerate(lines):
                if number == self._count:
                    return
                file = _decode(line, BackupFile, self.path)
                if not _can_be(file):
                    raise Damaged(f"{self.path.name}: an entry says what no file system says")
                yield file

    def backup(self) -> Backup:
        """What the rest of the agent sees of it."""
        return described(self.head, self.tail, self.digest, self.path)


def _can_be(file: BackupFile) -> bool:
    """Whether the system's calls would take what an entry says: who can write here can also sign it."""
    numbers = (
        (file.size, 0, 2**63), (file.mode, 0, 0o10000), (file.mtime, -(2**63), 2**63), (file.uid, 0, 2**32 - 1),
        (file.gid, 0, 2**32 - 1),
    )  # fmt: skip
    return (
        file.kind in _KINDS
        and all(least <= number < beyond for number, least, beyond in numbers)
        and "\0" not in file.path + file.target
    )


def described(head: Head, tail: Tail, digest: str, path: Path) -> Backup:
    """A backup as its manifest at `path` tells it. The manifest itself counts among the stored bytes."""
    return Backup(
        id=head.id,
        service=head.service,
        at=head.at,
        state=tail.state,
        bytes=tail.bytes,
        stored_bytes=tail.packed_bytes + path.stat().st_size,
        deployment=head.deployment,
        revision=head.revision,
        members=tail.members,
        digest=digest,
    )


class Name(NamedTuple):
    """What a manifest's file name says. `mark`: it is not a manifest yet."""

    number: int
    id: str
    mark: bool


def named(path: Path) -> Name | None:
    """What the name of a manifest, or of a mark, says; None for any other file."""
    found = _NAME.fullmatch(path.name)
    return None if found is None else Name(int(found[1]), found[2], found[3] == _MARK)


def drop_cache(path: Path) -> None:
    """Writes a file out and takes it from the page cache, so that the next reader asks the device."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


T = TypeVar("T")


def _decode(line: bytes, kind: type[T], path: Path) -> T:
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Damaged(f"{path.name}: a line does not read: {error}") from error


def _lines(path: Path) -> Generator[bytes]:
    kind = next(kind for suffix, kind in _CODECS.items() if path.name.endswith(suffix))
    try:
        with path.open("rb") as file, codec.reader(kind, file) as stream:
            while line := stream.readline(_LINE_LIMIT):
                if not line.endswith(b"\n"):
                    raise Damaged(f"{path.name}: cut off")
                yield line
    except codec.damages() as error:
        if isinstance(error, OSError) and not is_damage(error):
            raise
        raise Damaged(f"{path.name}: {error}") from error
