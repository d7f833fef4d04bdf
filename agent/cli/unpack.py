"""Unpacks a backup's tar stream into a directory: what `homeport backup restore --to` writes with.

The archive is not trusted, wherever it came from. The stdlib's tarfile is not used: its filters are missing in
Debian 12's Python and were bypassed in others (CVE-2025-4517, -4330, -4138), and it takes an archive that is cut
off at a member's end for whole. The rules here:
- Only what homeport writes is read (`pax`): PAX headers, files, directories, symlinks. Anything else is refused: hard
  links, devices, FIFOs, set-id bits, absolute paths, `..`, duplicates, too many or too long members.
- Everything is made below a staging directory beside the target, by directory descriptors that follow no link.
- Links come last, and only if all of them together lead nowhere outside.
- The archive must end as one, with as many members and bytes as it announced. Only then does the staging directory
  get the target's name. Until then the target is untouched; afterwards it is durable.
"""

import contextlib
import errno
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex

from agent.adapters.backup.names import leaves
from agent.cli.pax import Archive, Member, refuse
from agent.core.errors import StepFailed
from agent.core.text import clean
from agent.system.files import free, fsync_directory, remove_tree, syncfs, translate

_PATH_LIMIT = 4096
_PART_LIMIT = 255
_DEPTH_LIMIT = 300
_INODE_FLOOR = 1024
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Limits:
    """What an archive may at most hold."""

    members: int = 1_000_000
    bytes: int = 1 << 40


@dataclass(frozen=True)
class Unpacked:
    """What was written. `left_out`: links that lead out of the tree, which a backup keeps but a copy must not have."""

    backup: str
    files: int
    directories: int
    links: int
    bytes: int
    left_out: tuple[str, ...]


def unpack(pieces: Iterable[bytes], target: Path, limits: Limits | None = None) -> Unpacked:
    """Writes the archive to `target`, which is new or an empty directory.

    Raises restore-target (not empty, no space, a mount point), archive-refused, disk-full, disk-failed. Whatever
    happens, the target is what it was or holds all of it.
    """
    target = target.absolute()
    try:
        _check_target(target)
        staging = target.parent / f".{target.name}.{token_hex(4)}.partial"
        staging.mkdir(mode=0o700)
        try:
            done = _Unpacking(Archive(pieces), staging, limits or Limits()).run()
            if target.is_dir():
                staging.chmod(target.stat().st_mode & 0o777)
            syncfs(staging)
            staging.rename(target)
        except BaseException:
            remove_tree(staging)
            raise
        fsync_directory(target.parent)
    except OSError as error:
        raise _explain(error, target) from error
    return done


def _check_target(target: Path) -> None:
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise StepFailed("restore-target", f"{target} is not a directory")
    if target.is_dir() and next(target.iterdir(), None) is not None:
        raise StepFailed("restore-target", f"{target} is not empty")
    if target.is_mount():
        raise StepFailed("restore-target", f"{target} is a mount point: name a new directory below it")
    if not target.parent.is_dir():
        raise StepFailed("restore-target", f"{target.parent} does not exist")


def _explain(error: OSError, target: Path) -> StepFailed:
    if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY):
        return StepFailed("restore-target", f"{target}: {error.strerror}")
    return translate(error, str(error.filename or target))


@dataclass
class _Unpacking:
    """One run."""

    archive: Archive
    staging: Path
    limits: Limits
    files: int = 0
    bytes: int = 0
    directories: dict[str, Member] = field(default_factory=dict)
    links: dict[str, Member] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)

    def run(self) -> Unpacked:
        """Everything into the staging directory."""
        root = os.open(self.staging, _DIRECTORY)
        try:
            for number, member in enumerate(self.archive.members()):
                if number == 0:
                    self._announced()
                if number >= self.limits.members:
                    raise refuse("too many members")
                self._take(root, member)
            self._compare()
            self._make_links(root)
            self._finish_directories(root)
        finally:
            os.close(root)
        return Unpacked(
            backup=clean(self.archive.facts.get("HOMEPORT.backup", b"").decode("utf-8", "replace")),
            files=self.files,
            directories=len(self.directories),
            links=len(self.links),
            bytes=self.bytes,
            left_out=self._left_out(),
        )

    def _announced(self) -> None:
        """Refuses what cannot fit before a byte of it is written."""
        announced = self._fact("HOMEPORT.bytes")
        room = free(self.staging)
        if announced > self.limits.bytes:
            raise refuse("it holds too many bytes")
        if announced > room.bytes:
            raise StepFailed(
                "restore-target", f"{self.staging.parent} has {room.bytes} bytes free, {announced} are needed"
            )
        members = self._fact("HOMEPORT.members")
        if room.inodes is not None and members + _INODE_FLOOR > room.inodes > 0:
            raise StepFailed("restore-target", f"{self.staging.parent} has {room.inodes} inodes free")

    def _take(self, root: int, member: Member) -> None:
        parts = self._checked(member)
        if member.kind == "2":
            if member.size or not member.target or len(os.fsencode(member.target)) >= _PATH_LIMIT:
                raise refuse(f"{member.name}: not a link as homeport writes it")
            self.links[member.name] = member
            self.seen.add(member.name)
            return
        if member.kind == "5":
            if member.size:
                raise refuse(f"{member.name}: a directory with content")
            os.close(self._open(root, parts))
            self.directories[member.name] = member
        else:
            parent = self._open(root, parts[:-1])
            try:
                self._write(parent, parts[-1], member)
            finally:
                os.close(parent)
        self.seen.add(member.name)

    def _checked(self, member: Member) -> list[str]:
        """The parts of a member's name, if everything about it is as it must be."""
        member.name = member.name.removesuffix("/") if member.kind == "5" else member.name
        parts = member.name.split("/")
        raw = os.fsencode(member.name)
        if len(raw) >= _PATH_LIMIT or b"\0" in raw or any(part in ("", ".", "..") for part in parts):
            raise refuse(f"{member.name}: not a path below the target")
        if len(parts) > _DEPTH_LIMIT or any(len(os.fsencode(part)) > _PART_LIMIT for part in parts):
            raise refuse(f"{member.name}: too deep, or a name is too long")
        if member.kind not in ("0", "2", "5"):
            raise refuse(f"{member.name}: neither file, directory nor symlink")
        if member.mode & ~0o777:
            raise refuse(f"{member.name}: with set-id or sticky bits")
        if member.name in self.seen:
            raise refuse(f"{member.name}: twice")
        if any("/".join(parts[:depth]) in self.links for depth in range(1, len(parts))):
            raise refuse(f"{member.name}: lies below a link")
        return parts

    def _open(self, root: int, parts: list[str]) -> int:
        """A directory below the staging directory, made where it is missing; no link is followed on the way."""
        handle = os.dup(root)
        for part in parts:
            try:
                with contextlib.suppress(FileExistsError):  # what it is shows when it is opened
                    os.mkdir(part, 0o700, dir_fd=handle)
                onward = os.open(part, _DIRECTORY, dir_fd=handle)
            except OSError as error:
                if error.errno in (errno.ENOTDIR, errno.ELOOP):
                    raise refuse(f"{part}: a directory and something else") from error
                raise
            finally:
                os.close(handle)
            handle = onward
        return handle

    def _write(self, parent: int, name: str, member: Member) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            handle = os.open(name, flags, 0o600, dir_fd=parent)
        except FileExistsError as error:
            raise refuse(f"{member.name}: twice") from error
        with os.fdopen(handle, "wb") as file:
            for piece in self.archive.content(member.size):
                self.bytes += len(piece)
                if self.bytes > min(self.limits.bytes, self._fact("HOMEPORT.bytes")):
                    raise refuse("it holds more bytes than it announced")
                file.write(piece)
            file.flush()
            os.fchmod(file.fileno(), member.mode)
            os.utime(file.fileno(), ns=(member.mtime, member.mtime))
        self.files += 1

    def _compare(self) -> None:
        if len(self.seen) != self._fact("HOMEPORT.members") or self.bytes != self._fact("HOMEPORT.bytes"):
            raise refuse("it does not hold what it announced: members are missing")

    def _make_links(self, root: int) -> None:
        """All of them, once it is certain that none leads out, whichever others lie on its way."""
        targets = {name: member.target for name, member in self.links.items()}
        for name, member in self.links.items():
            if leaves(name, targets):
                raise refuse(f"{name}: leads out of the target")
            *above, last = name.split("/")
            parent = self._open(root, above)
            try:
                os.symlink(member.target, last, dir_fd=parent)
                os.utime(last, ns=(member.mtime, member.mtime), dir_fd=parent, follow_symlinks=False)
            except FileExistsError as error:
                raise refuse(f"{name}: twice") from error
            finally:
                os.close(parent)

    def _finish_directories(self, root: int) -> None:
        """Modes and times, the deepest first: writing into a directory changes its time and needs its bits."""
        for name in sorted(self.directories, key=lambda name: name.count("/"), reverse=True):
            member = self.directories[name]
            handle = self._open(root, name.split("/"))
            try:
                os.fchmod(handle, member.mode)
                os.utime(handle, ns=(member.mtime, member.mtime))
            finally:
                os.close(handle)

    def _fact(self, key: str) -> int:
        value = self.archive.facts.get(key, b"")
        if not value.isdigit() or len(value) > 18:
            raise refuse("it is not a backup's archive: it announces nothing")
        return int(value)

    def _left_out(self) -> tuple[str, ...]:
        try:
            names = json.loads(self.archive.facts.get("HOMEPORT.left_out", b"[]"))
        except (ValueError, RecursionError):
            return ()
        return tuple(clean(str(name)) for name in names) if isinstance(names, list) else ()
