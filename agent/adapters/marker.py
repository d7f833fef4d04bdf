"""The marker of a release: what came from git, as it was when the release was sealed.

It is what makes a directory a release: it is written last, after everything else is on the device. It covers the
files that came from git and nothing that a build or a running service adds. All functions block.
"""

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from agent.core.errors import StepFailed
from agent.core.model import RELEASE_MARKER, Fault, Release
from agent.core.text import clean
from agent.system import files

NAME = RELEASE_MARKER
FORMAT = 1

_CHUNK = 1 << 20
_MOST = 64 << 20
"""Bytes of a marker: about 200,000 files."""
_HASHED = 8 << 30
"""Bytes of what came from git, as a build left it: a hole of exabytes would be read for ever."""

Row = tuple[str, str, int, str]
"""A path below the release, its mode in octal, its size in bytes, the SHA-256 of its content (or link's target)."""


def encode(release: Release, rows: list[Row], links: Sequence[str] = ()) -> bytes:
    """The marker's bytes; they hold a digest over themselves. `links` are the paths at which the release links to
    what `release.built_by` has built."""
    body = {
        "format": FORMAT,
        "name": release.name,
        "service": release.service,
        "revision": release.revision,
        "config_hash": release.config_hash,
        "files": rows,
        "built_by": release.built_by,
        "links": list(links),
    }
    return json.dumps(body | {"digest": _digest(body)}, separators=(",", ":")).encode("ascii")


def check(root: Path, service: str) -> tuple[str, list[str]]:
    """Reads the release at `root` back and compares it with its marker. Returns `built_by` and `links` as they were
    sealed, for `adapters.reuse` to check.

    Raises no-release; release-damaged if a file is gone or unreadable; release-changed if all are there, but not as
    they came from git: somebody edited them, or the service writes into its own files.
    """
    changed = ""
    body = _read(root, service)
    for row in body["files"]:
        path, *was = row
        try:
            _, *now = describe(root, path)
        except OSError as error:
            raise damaged(path, f"cannot be read: {error.strerror}") from error
        if now != was:
            changed = changed or path
    if changed:
        raise StepFailed("release-changed", f"{clean(changed)} is not what came from git")
    return body["built_by"], body["links"]


def describe(root: Path, path: str) -> Row:
    """One row of a marker. Follows no link on the way, and opens nothing but plain files. Raises OSError."""
    _refuse_links(root, path)
    place = root / path
    found = place.lstat()
    mode = f"{found.st_mode:o}"
    if stat.S_ISLNK(found.st_mode):
        target = os.fsencode(place.readlink())
        return path, mode, len(target), hashlib.sha256(target).hexdigest()
    if not stat.S_ISREG(found.st_mode):
        raise FileNotFoundError(2, "no plain file", path)
    digest, size = hashlib.sha256(), 0
    handle = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb", buffering=0) as file:
        while data := file.read(_CHUNK):
            digest.update(data)
            size += len(data)
    return path, mode, size, digest.hexdigest()


def modes(root: Path) -> dict[str, int]:
    """Every file and directory below `root`, and `.`, with its mode; links are not followed."""
    found = {".": root.lstat().st_mode}
    ahead = [root]
    while ahead:
        with os.scandir(ahead.pop()) as entries:
            for entry in entries:
                found[os.path.relpath(entry.path, root)] = entry.stat(follow_symlinks=False).st_mode
                if entry.is_dir(follow_symlinks=False):
                    ahead.append(Path(entry.path))
    return found


def compare(root: Path, expected: Iterable[tuple[str, int]]) -> None:
    """Raises release-damaged, the commit's fault, if one of these is gone or has another kind or mode, or if all
    of them have become too large."""
    size = 0
    for path, mode in expected:
        try:
            _refuse_links(root, path)
            found = (root / path).lstat()
        except OSError as error:
            raise damaged(path, "was removed by the build", Fault.COMMIT) from error
        now, size = found.st_mode, size + (found.st_size if stat.S_ISREG(found.st_mode) else 0)
        if size > _HASHED:
            raise damaged(path, f"was made too large: more than {_HASHED >> 30} GiB came of it", Fault.COMMIT)
        if now != mode:
            raise damaged(path, f"was changed by the build: mode {mode:o} became {now:o}", Fault.COMMIT)


def damaged(path: str, what: str, fault: Fault = Fault.WORLD) -> StepFailed:
    """Somebody's hand or a bad disk is the world's fault; only a build's is the commit's."""
    return StepFailed("release-damaged", f"{clean(path)} {what}", fault=fault)


def _read(root: Path, service: str) -> dict[str, Any]:
    if not os.path.lexists(root / NAME):
        raise StepFailed("no-release", f"{root.name} is no complete release")
    try:
        body = json.loads(files.read_plain(root / NAME, _MOST) or b"")
        told = body.pop("digest")
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError) as error:
        raise damaged(NAME, "does not read") from error
    if told != _digest(body):
        raise damaged(NAME, "was changed")
    if (body["format"], body["name"], body["service"]) != (FORMAT, root.name, service):
        raise damaged(NAME, "belongs to another release")
    found: dict[str, Any] = body
    return found


def _digest(body: object) -> str:
    text = json.dumps(body, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _refuse_links(root: Path, path: str) -> None:
    """A directory on the way that became a link would show us files from elsewhere."""
    for parent in Path(path).parents:
        if (root / parent).is_symlink():
            raise NotADirectoryError(20, "a link stands in its way", path)
