"""Git LFS: pointer files become the objects that they name. The program git-lfs fetches them into the mirror.

Nothing of the pushed repository's own settings counts: no filter is run, .lfsconfig is not read (a mirror has neither
a work tree nor a HEAD), and what was fetched is written only if its size and its SHA-256 are the pointer's.
"""

import os
import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from agent.adapters import tree
from agent.adapters.source.mirror import Mirror
from agent.core.errors import StepFailed
from agent.core.gitwords import essence
from agent.core.text import clean
from agent.system import process
from agent.system.threads import in_thread, to_its_end

MAX_POINTER = 1024
"""Bytes; the specification wants less."""
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(ext-.*\n)*oid sha256:([0-9a-f]{64})\nsize (\d{1,15})\n?"
)
_CHUNK = 4 << 20


@dataclass(frozen=True)
class Pointer:
    """A file of the release whose content lies elsewhere."""

    place: Path
    name: str
    mode: int
    oid: str
    size: int


async def fill(
    mirror: Mirror, revision: str, entries: Sequence[tree.Entry], directory: Path, tally: tree.Tally
) -> None:
    """Replaces every pointer of a commit that was just written into `directory`. Raises lfs-failed, tree-refused.

    No link was made there yet: nothing is written through one.
    """
    pointers = await in_thread(_find, entries, directory, tally)
    store = mirror.path / "lfs" / "objects"
    left = pointers
    for _ in range(2):  # an object that a power cut damaged is fetched once more
        if await in_thread(_lacking, left, store):
            await _fetch(mirror, revision)
        left = await _replace(left, store)
    if left:
        message = f"the server does not have the object of {left[0].name}"
        raise StepFailed("lfs-failed", f"{message}, and of {len(left) - 1} more" if left[1:] else message)
    await to_its_end(_keep_only, store, {pointer.oid for pointer in pointers})


async def _fetch(mirror: Mirror, revision: str) -> None:
    options = ("-c", f"remote.origin.url={mirror.remote}", "-c", "lfs.transfer.maxretries=2")
    done = await mirror.call_remote(*options, "lfs", "fetch", "origin", revision)
    if done.status != 0:
        raise StepFailed("lfs-failed", _said(mirror, done))


def _said(mirror: Mirror, done: process.Finished) -> str:
    complaint = mirror.git.complaint(done)
    if "is not a git command" in complaint:
        return "the program git-lfs is not installed"
    return clean(essence(complaint), 300) or f"git lfs ended with status {done.status}"


def _find(entries: Sequence[tree.Entry], directory: Path, tally: tree.Tally) -> list[Pointer]:
    found = []
    for entry in entries:
        if entry.mode in (tree.LINK, tree.SUBMODULE) or not 0 < entry.size < MAX_POINTER:
            continue
        place = directory / os.fsdecode(entry.path)
        if pointer := _POINTER.fullmatch(place.read_bytes()):
            name, mode = tree.shown(entry.path), tree.mode_of(entry)
            if pointer[1]:
                raise StepFailed(
                    "lfs-failed", f"{name} needs an extension of Git LFS: that would be one more program"
                )
            if (size := int(pointer[3])) == 0:
                os.truncate(place, 0)  # git-lfs keeps no object for nothing
                continue
            tally.count(size, files=0)
            found.append(Pointer(place, name, mode, pointer[2].decode(), size))
    return found


def _object(store: Path, pointer: Pointer) -> Path:
    return store / pointer.oid[:2] / pointer.oid[2:4] / pointer.oid


def _lacking(pointers: Sequence[Pointer], store: Path) -> bool:
    return any(not _object(store, pointer).is_file() for pointer in pointers)


async def _replace(pointers: Sequence[Pointer], store: Path) -> list[Pointer]:
    """Writes the objects in the place of their pointers; returns those that are not there or not sound."""
    left: list[Pointer] = []
    with closing(_replacing(pointers, store, left)) as work:
        while await to_its_end(
            _goes_on, work
        ):  # step by step: others need the threads, too, and it can be cancelled
            continue
    return left


def _goes_on(work: Iterator[bool]) -> bool:
    return next(work, False)


def _replacing(pointers: Sequence[Pointer], store: Path, left: list[Pointer]) -> Generator[bool]:
    """`_replace`, in steps of _CHUNK bytes."""
    for pointer in pointers:
        source = _object(store, pointer)
        is_sound = source.is_file() and (yield from _copying(source, pointer))
        if not is_sound:
            source.unlink(missing_ok=True)
            left.append(pointer)


def _copying(source: Path, pointer: Pointer) -> Generator[bool, None, bool]:
    """Returns whether the object is sound, and so whether it stands in its place now."""
    digest, left = sha256(), pointer.size
    pointer.place.unlink(missing_ok=True)
    made = tree.make_file(pointer.place, pointer.mode)
    with source.open("rb") as content, os.fdopen(made, "wb", buffering=0) as file:
        while left >= 0 and (data := content.read(_CHUNK)):
            digest.update(data)
            tree.write_all(file.fileno(), data)
            left -= len(data)
            yield True
    return left == 0 and digest.hexdigest() == pointer.oid


def _keep_only(store: Path, used: set[str]) -> None:
    """Removes the objects that this commit does not have: they can be had again."""
    for place, _, names in os.walk(store):
        for name in names:
            if name not in used:
                Path(place, name).unlink(missing_ok=True)
