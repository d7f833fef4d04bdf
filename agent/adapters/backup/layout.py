"""A backup as files again: written, made durable, read back and compared.

What is written into must be of our own making and nobody else's to enter (0700): then no name of the backup can lead
anywhere else, because links come last. Owners are kept where the agent may give files away; all else always is.
"""

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from agent.adapters.backup import content, manifest, names
from agent.adapters.backup.codec import Damaged
from agent.adapters.backup.manifest import Manifest
from agent.adapters.backup.packs import Packs
from agent.adapters.backup.stopping import Stopped, heed
from agent.core.errors import StepFailed
from agent.core.model import BackupFile
from agent.core.restores import Contents, Part, part_of
from agent.system import sqlite
from agent.system.files import Free, set_mode, syncfs

_PIECE = 1024 * 1024
_FLOOR_BYTES, _FLOOR_INODES = 16 * 1024 * 1024, 64
_PLAIN = ("file", "sqlite")
_CONTRADICTIONS = frozenset(
    {errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.ENOENT, errno.EINVAL}
)
"""What a file system says of names that cannot stand beside each other: in a new directory, the backup is wrong."""


def contents(read: Manifest, parts: Sequence[str], stopped: Stopped) -> Contents:
    """What a backup holds of these paths, "" being all of it. Raises Damaged for what belongs to none."""
    files, sizes = dict.fromkeys(parts, 0), dict.fromkeys(parts, 0)
    tables: dict[str, dict[str, int]] = {}
    for file in read.files():
        heed(stopped)
        part = _part(file, files)
        files[part] += file.kind != "directory"
        sizes[part] += file.size
        if file.kind == "sqlite":
            tables[file.path] = file.tables or {}
    return Contents(
        parts=tuple(Part(path=part, files=files[part], bytes=sizes[part]) for part in parts), tables=tables
    )


def require_room(held: Contents, targets: Mapping[str, Path], space: Callable[[Path], Free]) -> None:
    """Refuses what will not fit on the targets' disks, before a byte is written (F87)."""
    needed: dict[int, tuple[Path, int, int]] = {}
    for part in held.parts:
        if part.path in targets:
            parent = targets[part.path].parent
            device = parent.stat().st_dev
            _, size, count = needed.get(device, (parent, 0, 0))
            needed[device] = (parent, size + part.bytes, count + part.files)
    for parent, size, count in needed.values():
        room = space(parent)
        if room.bytes < size + _FLOOR_BYTES:
            raise StepFailed("restore-place", f"{parent} has {room.bytes} bytes free, {size} are needed")
        if room.inodes is not None and room.inodes < count + _FLOOR_INODES:
            raise StepFailed("restore-place", f"{parent} has {room.inodes} inodes free, {count} are needed")


def lay_out(read: Manifest, packs: Packs, targets: Mapping[str, Path], stopped: Stopped) -> None:
    """Writes each part to its target, which does not exist yet; durable and proven when it returns.

    Raises Damaged: of the backup, or of what was read back.
    """
    layout = _Layout(targets, stopped)
    for file in read.files():
        heed(stopped)
        layout.take(file, packs)
    layout.finish()
    for parent in {target.parent for target in targets.values()}:
        syncfs(parent)
    for file in read.files():
        heed(stopped)
        if file.kind in _PLAIN:
            _compare(file, layout.target(file), stopped)


class _Layout:
    """One run."""

    def __init__(self, targets: Mapping[str, Path], stopped: Stopped) -> None:
        self._targets = targets
        self._stopped = stopped
        self._directories: list[tuple[Path, BackupFile]] = []
        self._links: list[tuple[Path, BackupFile]] = []

    def target(self, file: BackupFile) -> Path:
        """Where a file of the backup comes to lie."""
        part = _part(file, self._targets)
        rest = names.decode(file.path)[len(part) :].strip("/")
        return self._targets[part] / rest if rest else self._targets[part]

    def take(self, file: BackupFile, packs: Packs) -> None:
        """Writes one entry; links and the modes of directories wait for `finish`."""
        path = self.target(file)
        with _consistent(file):
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            if file.kind == "directory":
                path.mkdir(mode=0o700, exist_ok=True)
                self._directories.append((path, file))
            elif file.kind == "symlink":
                self._links.append((path, file))
            else:
                self._write(path, file, packs)

    def _write(self, path: Path, file: BackupFile, packs: Packs) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            handle = os.open(path, flags, 0o600)
        except FileExistsError as error:
            raise Damaged(f"{file.path}: twice") from error
        with os.fdopen(handle, "wb", buffering=0) as target:
            for piece in content.load(packs, file):
                heed(self._stopped)
                rest = memoryview(piece)
                while rest:
                    rest = rest[target.write(rest) :]
        _describe(path, file)

    def finish(self) -> None:
        """Links, then what is known of directories, the deepest first: writing into one changes its time."""
        for path, file in self._links:
            with _consistent(file):
                path.symlink_to(names.decode(file.target))
                _describe(path, file)
        for path, file in sorted(self._directories, key=lambda found: len(found[0].parts), reverse=True):
            _describe(path, file)


@contextlib.contextmanager
def _consistent(file: BackupFile) -> Iterator[None]:
    """Raises Damaged for an entry that no directory can hold beside the others."""
    try:
        yield
    except OSError as error:
        if error.errno not in _CONTRADICTIONS:
            raise
        raise Damaged(f"{file.path}: {error.strerror}") from error


def _part(file: BackupFile, parts: Mapping[str, object]) -> str:
    name = names.decode(file.path)
    part = part_of(name, parts)
    if part is None or name.startswith("/") or {"", ".", ".."} & set(name.split("/")):
        raise Damaged(f"{file.path}: lies in no source of its backup")
    return part


def _describe(path: Path, file: BackupFile) -> None:
    """Owner, mode and times: a change of owner takes bits of the mode away."""
    mode = file.mode & 0o7777
    if (file.uid, file.gid) != (os.geteuid(), os.getegid()):
        try:
            os.chown(path, file.uid, file.gid, follow_symlinks=False)
        except PermissionError:  # only root gives files away
            # Who owned it has his rights by an access list (`homeport install`), up to the group's bits.
            mode |= (mode & stat.S_IRWXU) >> 3
            if file.kind != "directory":
                mode &= ~(stat.S_ISUID | stat.S_ISGID)  # they would be the agent's
    if file.kind != "symlink":
        set_mode(path, mode)
    os.utime(path, ns=(file.mtime, file.mtime), follow_symlinks=False)


def _compare(file: BackupFile, path: Path, stopped: Stopped) -> None:
    """Reads what was written back from the device, and a database by SQLite's own means."""
    manifest.drop_cache(path)
    found = hashlib.sha256()
    for piece in _read(path):
        heed(stopped)
        found.update(piece)
    if found.hexdigest() != file.sha256:
        raise Damaged(f"{file.path}: it does not read back as it was written")
    if file.kind == "sqlite":
        examined = sqlite.examine(path, stopped)
        if examined.problem:
            raise Damaged(f"{file.path}: {examined.problem}")
        if examined.tables != (file.tables or {}):
            raise Damaged(f"{file.path}: its tables have other rows than when it was saved")


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            yield piece
