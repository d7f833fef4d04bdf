"""The program's versions side by side, each in a virtual environment of its own, and the link that names the one that
the unit starts. All functions block. Only root calls them: whatever is here belongs to root.

A virtual environment does not survive a rename, so one is made in its place, and counts when its marker is written. The
first installation made a real directory where the link belongs: both change places in one step of the kernel, so that
there is a program under that name at every instant.
"""

import ctypes
import hashlib
import os
import secrets
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

from agent.core.errors import Refused, StepFailed
from agent.core.upgrading import version_of_wheel
from agent.system import commands, files

COMPLETE = ".homeport-complete"
"""Holds the SHA-256 of the wheel; nothing where it was installed by hand."""
_EXCHANGE = 2  # RENAME_EXCHANGE of renameat2(2)
_AT_FDCWD = -100
_PATIENCE = 1800.0
_METADATA = 1 << 20


def wheel(path: Path) -> tuple[str, str]:
    """The version and the SHA-256 of a wheel of homeport. Raises Refused(wheel-refused)."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        with zipfile.ZipFile(path) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            if archive.getinfo(name).file_size > _METADATA:
                raise ValueError("its metadata is too long")
            version = version_of_wheel(archive.read(name).decode("utf-8", "replace"))
    except OSError as error:
        raise Refused(400, "wheel-refused", f"{path}: {error.strerror or error}") from error
    except (ValueError, zipfile.BadZipFile) as error:
        raise Refused(400, "wheel-refused", f"{path} is no wheel") from error
    if not version:
        raise Refused(400, "wheel-refused", f"{path} is a wheel, but not one of homeport")
    return version, digest


def adopt(prefix: Path, versions: Path, version: str) -> Path:
    """The directory that `prefix` leads to; where it is a real one it becomes a link before. Raises StepFailed."""
    if prefix.is_symlink():
        return prefix.resolve()
    place = versions / version
    versions.mkdir(mode=0o755, exist_ok=True)
    files.remove_tree(place)
    files.write_atomic(prefix / COMPLETE, b"", mode=0o644)
    place.symlink_to(place)  # until they have changed places it leads nowhere
    files.fsync_directory(versions)
    exchange(prefix, place)
    files.fsync_directory(prefix.parent)
    files.fsync_directory(versions)
    return place


def exchange(one: Path, other: Path) -> None:
    """Both names change places, at once or not at all. Raises StepFailed where the file system cannot."""
    rename = ctypes.CDLL(None, use_errno=True).renameat2
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE) != 0:
        raise StepFailed("not-installable", f"{one} cannot become a link: {os.strerror(ctypes.get_errno())}")


def build(directory: Path, wheel: Path, digest: str, environ: Mapping[str, str]) -> bool:
    """Installs the wheel with what it needs, by pip and as pip is configured; False: it was there already. Raises
    StepFailed(wheel-not-installed)."""
    if complete(directory) in ("", digest):
        return False
    remove(directory)
    pip = [str(python(directory)), "-I", "-m", "pip", "install", "--no-cache-dir", "--no-input"]
    try:
        _demand([sys.executable, "-I", "-m", "venv", str(directory)], environ)
        _demand([*pip, "--disable-pip-version-check", str(wheel.absolute())], environ)
    except StepFailed:
        remove(directory)
        raise
    files.syncfs(directory)
    files.write_atomic(directory / COMPLETE, digest.encode(), mode=0o644)
    return True


def complete(directory: Path) -> str | None:
    """What a directory was installed from: a digest, "" by hand; None if it is not whole."""
    try:
        return (directory / COMPLETE).read_text(encoding="ascii")
    except (FileNotFoundError, NotADirectoryError):
        return None


def python(directory: Path) -> Path:
    """A version's interpreter. As `python -I -m agent` it is that version, wherever the link leads."""
    return directory / "bin" / "python"


def switch(prefix: Path, directory: Path) -> None:
    """The link leads there, durable when it returns."""
    files.remove_asides(prefix)
    if not prefix.is_symlink() or str(prefix.readlink()) != str(directory):
        files.link_atomic(str(directory), prefix)


def remove(directory: Path) -> None:
    """Takes a version away; what is left of it by a power cut is no whole one."""
    (directory / COMPLETE).unlink(missing_ok=True)
    files.remove_tree(directory)


def sweep(versions: Path, running: Path) -> None:
    """Takes away what a power cut has left of an installation; never what runs, whoever put it there."""
    for directory in versions.iterdir():  # `adopt` may have left a link that leads nowhere
        if directory != running and (not directory.exists() or complete(directory) is None):
            files.remove_tree(directory)


def size(directory: Path) -> int:
    """Bytes of everything in it."""
    return sum(
        (Path(place) / name).lstat().st_size for place, _, names in os.walk(directory) for name in names
    )


def unique() -> str:
    """Names one upgrade."""
    return secrets.token_hex(4)


def _demand(argv: list[str], environ: Mapping[str, str]) -> None:
    done = commands.run(*argv, patience=_PATIENCE, environ=environ)
    if done.status:
        last = "\n".join(done.text.splitlines()[-15:])
        raise StepFailed("wheel-not-installed", f"{' '.join(argv[2:5])} failed:\n{last}")
