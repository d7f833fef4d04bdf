"""Writing so that a power cut finds the old or the new, never a half.

The rules (measured on ext4): a file is written aside, fsynced, renamed, and its directory fsynced; a tree
is followed by one `syncfs`, because nothing that made it (git, a build) fsyncs. An fsync that failed is never
tried again: the kernel has dropped the pages (fsyncgate), so what was written counts as lost.
All functions block: call them through `threads.in_thread`.
"""

import ctypes
import errno
import os
import secrets
import shutil
import stat
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from agent.core.errors import StepFailed
from agent.core.text import clean

_SPECIAL = stat.S_ISUID | stat.S_ISGID
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_STEPS = 1000
"""Parts of a path and of the links on it that are looked at."""
_TOO_DEEP = (errno.EMFILE, errno.ENAMETOOLONG)


@dataclass(frozen=True)
class Free:
    """What an unprivileged user may still write. `inodes` is None where the file system counts none."""

    bytes: int
    inodes: int | None


def free(path: Path) -> Free:
    """Free space on the file system that holds `path`."""
    figures = os.statvfs(path)
    return Free(figures.f_bavail * figures.f_frsize, figures.f_favail if figures.f_files else None)


def stamp(path: Path) -> tuple[int, ...] | None:
    """Another value whenever the file was written or replaced; None where there is no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def fsync_directory(path: Path) -> None:
    """Makes the names in a directory durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def syncfs(path: Path) -> None:
    """Writes out everything of the file system that holds `path` (Python has no os.syncfs)."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc().syncfs(handle) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(handle)


def write_atomic(path: Path, data: bytes, *, mode: int = 0o600, owner: tuple[int, int] | None = None) -> None:
    """Puts `data` at `path`, durable when it returns; a reader sees the old file or the new one. With `owner` (user and
    group) it is theirs, and has exactly this mode, before anybody sees it."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            if owner is not None:
                os.fchown(handle, *owner)
                os.fchmod(handle, mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    fsync_directory(path.parent)


def link_atomic(target: str, link: Path) -> None:
    """Makes the symlink `link` name `target`, durable when it returns; readers never see it missing."""
    aside = link.with_name(f".{link.name}.{secrets.token_hex(4)}.partial")
    aside.symlink_to(target)
    try:
        aside.replace(link)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    fsync_directory(link.parent)


def remove_asides(path: Path) -> None:
    """Removes what a power cut left of `write_atomic` and `link_atomic` to this path. None of them is going on."""
    for aside in path.parent.glob(f".{path.name}.*.partial"):
        aside.unlink(missing_ok=True)


def read_plain(path: Path, most: int) -> bytes | None:
    """What a plain file says. None for whatever else is under that name (a link, a FIFO, which would hang us), for a
    file of more than `most` bytes or that is closed to us, and if there is nothing."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.EACCES):
            return None
        raise
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode) or found.st_size > most:
        os.close(handle)
        return None
    with os.fdopen(handle, "rb") as file:
        return file.read()


def strangers_link(path: Path) -> str | None:
    """The first link on the way to a path that neither root nor our user has made: whoever may write there could lead
    us to what only we may read, or replace. Raises OSError."""
    way, todo = "/", str(path).split("/")[::-1]
    for _ in range(_STEPS):
        if not todo:
            return None
        part = todo.pop()
        here = os.path.normpath(os.path.join(way, part))  # noqa: PTH118 - text; `way` has no link in it
        try:
            status = os.lstat(here)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not stat.S_ISLNK(status.st_mode):
            way = here
        elif status.st_uid not in (0, os.geteuid()):
            return here
        else:
            todo += os.readlink(here).split("/")[::-1]  # noqa: PTH115 - as it stands there
            way = "/" if todo[-1] == "" else way
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


def copy_plain(source: Path, target: Path) -> None:
    """Copies a file, a link or a directory: contents, and what is executable. Who may do what with the copy says the
    place where it is made, and not the original. Others may write in that place: what they put in the copy's way is
    neither followed nor overwritten."""
    above = os.open(target.parent, _DIRECTORY & ~os.O_NOFOLLOW)
    try:
        _copy(source, above, target.name)
    finally:
        os.close(above)


def _copy(source: Path, above: int, name: str) -> None:
    if source.is_symlink():
        os.symlink(source.readlink(), name, dir_fd=above)
    elif source.is_dir():
        os.mkdir(name, dir_fd=above)
        below = os.open(name, _DIRECTORY, dir_fd=above)
        try:
            for entry in source.iterdir():
                _copy(entry, below, entry.name)
        finally:
            os.close(below)
    else:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with source.open("rb") as had, os.fdopen(os.open(name, flags, 0o666, dir_fd=above), "wb") as made:
            shutil.copyfileobj(had, made)
            if os.fstat(had.fileno()).st_mode & stat.S_IXUSR:
                mode = os.fstat(made.fileno()).st_mode
                os.fchmod(made.fileno(), stat.S_IMODE(mode) | (mode & 0o444) >> 2)


def remove_tree(path: Path) -> None:
    """Removes a directory, a file or a link, also where a build took the write permission away, or nested directories
    as deep as it could."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    try:
        _remove_directory(path)
    except PermissionError:
        _unlock(path)
        _remove_directory(path)


def _remove_directory(path: Path) -> None:
    try:
        shutil.rmtree(path)
    except (RecursionError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _TOO_DEEP:
            raise
        # rm(1) goes down as far as there is anything, with few open files.
        done = subprocess.run(["rm", "-rf", "--", path], capture_output=True, check=False)
        if done.returncode:
            said = clean(done.stderr.decode("utf-8", "replace"), 200)
            raise PermissionError(errno.EACCES, said, str(path)) from error


def unlock(place: Path) -> None:
    """Gives the owner every right on a directory that is to be removed."""
    mode = place.stat().st_mode
    if mode & stat.S_IRWXU != stat.S_IRWXU:
        place.chmod(mode & 0o777 | stat.S_IRWXU)  # without setgid: see `set_mode`


def set_mode(path: Path, mode: int) -> None:
    """As `chmod`. Where nobody may set a setuid or setgid bit (RestrictSUIDSGID= of the shipped unit refuses the call),
    what has inherited it keeps it if nothing else differs; else the rest of the mode is set without it."""
    if stat.S_IMODE(path.stat().st_mode) == mode:
        return
    try:
        path.chmod(mode)
    except PermissionError:
        if not mode & _SPECIAL:
            raise
        path.chmod(mode & ~_SPECIAL)


def _unlock(path: Path) -> None:
    """Gives the owner every right on every directory of a tree, from the top down."""
    ahead = [path]
    while ahead:
        place = ahead.pop()
        unlock(place)
        with os.scandir(place) as entries:
            ahead += [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]


def translate(error: OSError, what: str) -> StepFailed:
    """A system error as what a person must know. `what` names the file or the act."""
    text = f"{what}: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StepFailed("disk-full", text + _lacking_inodes(error))
    if error.errno in (errno.EACCES, errno.EPERM):
        return StepFailed("not-writable", text)
    return StepFailed("disk-failed", text)


def _lacking_inodes(error: OSError) -> str:
    """The system says "no space" of bytes and inodes alike; `df` then shows plenty."""
    if not isinstance(error.filename, str):
        return ""
    place = Path(error.filename).absolute()
    try:
        inodes = free(next(parent for parent in place.parents if parent.is_dir())).inodes
    except OSError:
        return ""
    return " (no inodes are left: remove files, however small)" if inodes == 0 else ""
