"""A commit's files, from git's plumbing into an empty directory, without git's checkout.

A checkout would run filters and hooks, obey .gitattributes of the pushed tree, and follow what it finds on the
way. Here every name is looked at first, every file is made anew (O_EXCL, O_NOFOLLOW), links come last, and the
content is hashed against the name that git gave it. What would leave the directory is refused as a whole.
All functions block: they run in a thread.
"""

# Names out of git are bytes, which pathlib does not take.
# ruff: noqa: PTH102, PTH118, PTH120, PTH211

import errno
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from agent.core.errors import StepFailed
from agent.core.model import RELEASE_ENVIRONMENT, RELEASE_MARKER
from agent.core.text import clean

_CHUNK = 1 << 20
LINK, SUBMODULE = 0o120000, 0o160000
_MODES = frozenset({0o100644, 0o100755, 0o100664, LINK, SUBMODULE})
# What HFS+ leaves out of a name when it compares: ".g<U+200C>it" is ".git" there (CVE-2014-9390).
_IGNORED = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")


class Damaged(StepFailed):
    """Git did not give what it had announced: the mirror is corrupt."""

    def __init__(self, message: str) -> None:
        super().__init__("mirror-corrupt", clean(message))


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a commit. `size` is in bytes; 0 for a submodule."""

    mode: int
    name: bytes
    size: int
    path: bytes


@dataclass(frozen=True)
class Caps:
    """How much one commit may hold."""

    files: int = 200_000
    bytes: int = 2 << 30
    names: int = 32 << 20
    """Bytes of all paths together: they are held in memory."""
    path: int = 2048
    """Bytes of one path."""
    depth: int = 200
    """Directories in one another."""


class Tally:
    """Counts what one commit holds, with everything that belongs to it elsewhere."""

    def __init__(self, caps: Caps) -> None:
        self._caps = caps
        self._files = 0
        self._bytes = 0
        self._names = 0

    def name(self, path: bytes) -> None:
        """One more path. Raises tree-refused if it is too long, too deep, or all of them are too much."""
        self._names += len(path)
        if len(path) > self._caps.path or path.count(b"/") > self._caps.depth:
            limits = f"{self._caps.path} bytes and {self._caps.depth} directories"
            raise StepFailed("tree-refused", f"{shown(path)} is a longer path than the allowed {limits}")
        if self._names > self._caps.names:
            raise StepFailed(
                "tree-refused", f"the paths of the commit are longer than {self._caps.names >> 20} MiB"
            )

    def count(self, size: int, *, files: int = 1) -> None:
        """One more file of this size. Raises tree-refused when it is too much."""
        self._files += files
        self._bytes += size
        if self._files > self._caps.files or self._bytes > self._caps.bytes:
            limits = f"{self._caps.files} files and {self._caps.bytes >> 20} MiB"
            raise StepFailed("tree-refused", f"the commit holds more than the allowed {limits}")


def read_entries(listing: BinaryIO, tally: Tally) -> list[Entry]:
    """Reads the output of `git ls-tree -r -z -l`. Raises tree-refused, mirror-corrupt."""
    entries: list[Entry] = []
    for record in _records(listing):
        entry = _entry(record)
        tally.name(entry.path)
        _check(entry)
        tally.count(entry.size)
        entries.append(entry)
    return entries


def order(entries: Sequence[Entry]) -> list[Entry]:
    """In which order the contents are asked for and written: links after files. Submodules have none."""
    files = [entry for entry in entries if entry.mode not in (LINK, SUBMODULE)]
    return files + [entry for entry in entries if entry.mode == LINK]


def write(blobs: BinaryIO, entries: Sequence[Entry], directory: Path) -> dict[bytes, bytes]:
    """Makes the files from the output of `git cat-file --batch`, which was asked in the order of `order`.

    Returns the links, each with where it leads: they are made when all files are there, also those of submodules.
    Raises tree-refused, mirror-corrupt, OSError.
    """
    root = os.fsencode(directory)
    made: set[bytes] = {b""}
    for entry in entries:
        _make_directory(root, entry.path if entry.mode == SUBMODULE else os.path.dirname(entry.path), made)
    links: dict[bytes, bytes] = {}
    for entry in order(entries):
        _expect(blobs, entry)
        if entry.mode == LINK:
            links[entry.path] = _content(blobs, entry)
        else:
            _write_file(blobs, entry, os.path.join(root, entry.path))
        if blobs.read(1) != b"\n":
            raise Damaged(f"the object {entry.name.decode()} has no end")
    return links


def make_links(links: dict[bytes, bytes], directory: Path) -> None:
    """Makes the links of a whole release. Raises tree-refused if one of them leaves it, before it makes any."""
    root = os.fsencode(directory)
    for path, target in links.items():
        if leaves(path, links):
            what = f"{shown(path)} -> {shown(target)}"
            raise StepFailed("tree-refused", f"the link {what} leaves the release's directory")
    for path, target in links.items():
        with _refusing(path):
            os.symlink(target, os.path.join(root, path))


def leaves(path: bytes, links: dict[bytes, bytes]) -> bool:
    """Whether the link at `path` leads out of the tree, also by way of other links of `links`.

    A ring of links leads nowhere: it does not leave.
    """
    place = path.split(b"/")[:-1]
    ahead = links[path].split(b"/")
    if links[path].startswith(b"/"):
        return True
    followed = 0
    while ahead and followed < 40:  # the kernel follows no more: path_resolution(7)
        part = ahead.pop(0)
        if part in (b"", b"."):
            continue
        if part == b"..":
            if not place:
                return True
            place.pop()
            continue
        place.append(part)
        target = links.get(b"/".join(place))
        if target is not None:
            if target.startswith(b"/"):
                return True
            followed += 1
            place.pop()
            ahead[:0] = target.split(b"/")
    return False


def _records(listing: BinaryIO) -> Iterator[bytes]:
    rest = b""
    while data := listing.read(_CHUNK):
        *whole, rest = (rest + data).split(b"\0")
        yield from whole
    if rest:
        raise Damaged("the listing of the tree has no end")


def _entry(record: bytes) -> Entry:
    head, _, path = record.partition(b"\t")
    fields = head.split()
    if len(fields) != 4:
        raise Damaged("the listing of the tree is not what it should be")
    mode, _, name, size = fields
    if size == b"BAD":  # what git prints when the object cannot be read
        raise Damaged(f"the object {name.decode()} is missing")
    return Entry(int(mode, 8), name, 0 if size == b"-" else int(size), path)


def _check(entry: Entry) -> None:
    parts = entry.path.split(b"/")
    for part in parts:
        if part in (b"", b".", b"..") or _is_git(part):
            raise StepFailed("tree-refused", f"the name {shown(entry.path)} is not allowed in a release")
    # These are the agent's own files: a repository must not bring them.
    ours = (RELEASE_MARKER.encode(), RELEASE_ENVIRONMENT.encode())
    if entry.mode not in _MODES or entry.path in ours:
        raise StepFailed("tree-refused", f"{shown(entry.path)} is nothing that a release may hold")


def _is_git(part: bytes) -> bool:
    """Whether some file system takes this name for .git."""
    text = _IGNORED.sub("", part.decode("utf-8", "replace")).lower().replace("\\", "/")
    return any(piece.split(":")[0].rstrip(" .") in {".git", "git~1"} for piece in text.split("/"))


def _make_directory(root: bytes, path: bytes, made: set[bytes]) -> None:
    if path in made:
        return
    _make_directory(root, os.path.dirname(path), made)
    with _refusing(path):
        os.mkdir(os.path.join(root, path))
    made.add(path)


def _expect(blobs: BinaryIO, entry: Entry) -> None:
    head = blobs.readline(256).split()
    if head != [entry.name, b"blob", str(entry.size).encode()]:
        raise Damaged(f"the object {entry.name.decode()} cannot be read")


def _digest(entry: Entry) -> "hashlib._Hash":
    kind = hashlib.sha1 if len(entry.name) == 40 else hashlib.sha256
    return kind(b"blob %d\0" % entry.size)  # how git names a blob


def _content(blobs: BinaryIO, entry: Entry) -> bytes:
    if not 0 < entry.size < 4096:  # PATH_MAX
        raise StepFailed("tree-refused", f"{shown(entry.path)} is no usable link")
    content = blobs.read(entry.size)
    digest = _digest(entry)
    digest.update(content)
    if digest.hexdigest().encode() != entry.name:
        raise Damaged(f"the object {entry.name.decode()} is not what its name says")
    if b"\0" in content:
        raise StepFailed("tree-refused", f"{shown(entry.path)} is no usable link")
    return content


def _write_file(blobs: BinaryIO, entry: Entry, place: bytes) -> None:
    digest = _digest(entry)
    with _refusing(entry.path):
        handle = make_file(place, mode_of(entry))
    with os.fdopen(handle, "wb", buffering=0) as file:
        left = entry.size
        while left:
            data = blobs.read(min(left, _CHUNK))
            if not data:
                raise Damaged(f"the object {entry.name.decode()} is cut off")
            digest.update(data)
            write_all(file.fileno(), data)
            left -= len(data)
    if digest.hexdigest().encode() != entry.name:
        raise Damaged(f"the object {entry.name.decode()} is not what its name says")


def mode_of(entry: Entry) -> int:
    """The mode of a file in the release. The umask, or a default access list, says what others may."""
    return 0o777 if entry.mode & 0o111 else 0o666


def make_file(place: bytes | Path, mode: int) -> int:
    """A new file, open for writing: what is there already is neither overwritten nor followed."""
    return os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)


def write_all(handle: int, data: bytes) -> None:
    """Every byte of it."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


@contextmanager
def _refusing(path: bytes) -> Iterator[None]:
    """Two entries in one place, or a name that the file system does not take: the commit's fault."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EILSEQ):
            raise
        message = f"{shown(path)} cannot be written: {error.strerror}"
        raise StepFailed("tree-refused", message) from error


def shown(path: bytes) -> str:
    """A name out of git, for people."""
    return clean(path.decode("utf-8", "replace"))
