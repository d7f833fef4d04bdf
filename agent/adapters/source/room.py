"""How much of the disk a repository may take: looked at while git fetches, because git itself knows no limit (F35).

A server can send a pack that never ends; what fills up then is the disk that the service writes its data to.
"""

import asyncio
import os
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from agent.core.errors import StepFailed
from agent.core.units import write_size
from agent.system import files
from agent.system.threads import in_thread

T = TypeVar("T")

FLOOR = 64 << 20
"""Bytes of the disk that are left to everybody else."""
_LOOK = 0.25  # seconds; at 10 MB/s, what an SD card takes, 2.5 MB may be written in between
_EASE = (
    10  # a look at a hundred thousand files costs time itself: at most this part of it is spent on looking
)


@dataclass(frozen=True)
class Room:
    """`limit` is how many bytes one place may take, `floor` how many must stay free on its disk."""

    limit: int
    floor: int = FLOOR

    async def watch(self, place: Path, work: Awaitable[T]) -> T:
        """Does the work, and ends it if `place` outgrows its room meanwhile. Raises repository-too-big, disk-full.

        The work is cancelled then, and it is over when this returns or raises; so it is if this is cancelled.
        """
        task, loop, pause = asyncio.ensure_future(work), asyncio.get_running_loop(), _LOOK
        try:
            while not (await asyncio.wait({task}, timeout=pause))[0]:
                begun = loop.time()
                await in_thread(self._require, place)
                await in_thread(self._require_floor, place)
                pause = max(_LOOK, _EASE * (loop.time() - begun))
            result = task.result()
            await in_thread(self._require, place)  # what was quick may be too much as well
            return result
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})

    def _require(self, place: Path) -> None:
        if size_of(place) > self.limit:
            message = f"the repository takes more than {write_size(self.limit)} (`source.max_size`)"
            raise StepFailed("repository-too-big", message)

    def _require_floor(self, place: Path) -> None:
        try:
            left = files.free(place.parent).bytes
        except FileNotFoundError:
            return
        if left < self.floor:
            message = f"fetching would leave less than {write_size(self.floor)} on the disk of {place}"
            raise StepFailed("disk-full", message)


def size_of(place: Path) -> int:
    """What everything below a directory takes on the disk, in bytes. What vanishes meanwhile counts nothing."""
    total, ahead = 0, [str(place)]
    while ahead:
        try:
            with os.scandir(ahead.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        ahead.append(entry.path)
                    else:
                        total += _taken(entry)
        except FileNotFoundError:
            continue
    return total


def _taken(entry: "os.DirEntry[str]") -> int:
    try:
        found = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return 0
    return max(found.st_size, found.st_blocks * 512)
