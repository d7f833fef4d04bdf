"""Space that is put aside, so that a full disk can be survived: on one SQLite cannot even delete (M9).

`<state_dir>/ballast` holds some files that are really allocated. On a disk that is full one after the other is
removed, each for what is being done at that moment: the journal goes on, what was begun comes to an end that is
recorded. Several files, because whatever filled the disk takes what is freed, too, and because a disk may lack inodes
instead of bytes. They are made again when there is room for all of them and enough for others.

At rest it costs nothing but the space.
"""

import errno
import logging
import os
import threading
from pathlib import Path

from agent.system import files

log = logging.getLogger(__name__)

PIECES = 8
PIECE_BYTES = 1 << 20
MARGIN_BYTES, MARGIN_PART = 64 << 20, 20
"""So much stays free for others when it is made: the bytes below which no deployment begins, on a small disk a
twentieth of it."""
MARGIN_INODES = 1000
START_BYTES, START_INODES = 1 << 20, 8
"""What the start of a service needs: its record, the link `current`, and a little for itself."""


class Ballast:
    """Answers `core.ports.Reserve`."""

    def __init__(self, directory: Path) -> None:
        """Touches nothing: `restore` comes first."""
        self._directory = directory
        self._lock = threading.Lock()
        self._why = ""

    @property
    def short(self) -> bool:
        """See the port."""
        return bool(self._why)

    @property
    def why(self) -> str:
        """See the port. From the last time that it was looked at."""
        return self._why

    def spend(self) -> bool:
        """See the port. What it frees can be written to when this returns."""
        with self._lock:
            self._tell(self._scarce())
            for place in self._pieces():
                try:
                    place.unlink()
                    files.fsync_directory(self._directory)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    log.error("%s cannot be given back: %s", place, error.strerror)
                    return False
                return True
            return False

    def restore(self) -> bool:
        """See the port."""
        with self._lock:
            try:
                self._tell(self._make())
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    self._tell(self._scarce())
                elif not self._why:  # a file system that cannot do it: better none than no work
                    log.warning("nothing can be put aside in %s: %s", self._directory, error.strerror)
            return not self._why

    def ensure(self) -> None:
        """See the port."""
        while self._is_full() and self.spend():
            pass

    def _pieces(self) -> list[Path]:
        return [self._directory / str(number) for number in range(PIECES)]

    def _make(self) -> str:
        """Makes what is missing; returns why it did not."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        missing = [place for place in self._pieces() if _allocated(place) < PIECE_BYTES]
        if not missing:
            return ""
        free, bytes_needed = files.free(self._directory), len(missing) * PIECE_BYTES + self._margin()
        if free.bytes < bytes_needed or (free.inodes is not None and free.inodes < MARGIN_INODES):
            return self._scarce()
        for place in missing:
            handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(handle, 0, PIECE_BYTES)
                os.fsync(handle)
            finally:
                os.close(handle)
        files.fsync_directory(self._directory)
        return ""

    def _margin(self) -> int:
        figures = os.statvfs(self._directory)
        return min(MARGIN_BYTES, figures.f_blocks * figures.f_frsize // MARGIN_PART)

    def _is_full(self) -> bool:
        try:
            free = files.free(self._directory)
        except OSError:
            return False
        return free.bytes < START_BYTES or (free.inodes is not None and free.inodes < START_INODES)

    def _scarce(self) -> str:
        """What is free and what is needed, in the unit of which there is too little."""
        try:
            free, margin = files.free(self._directory), self._margin()
        except OSError as error:
            return f"{self._directory.parent} cannot be looked at: {error.strerror}"
        if free.inodes is not None and free.inodes < MARGIN_INODES:
            found, needed = f"{free.inodes} inodes", f"{MARGIN_INODES}"
        else:
            found, needed = f"{free.bytes >> 20} MiB", f"{(PIECES * PIECE_BYTES + margin) >> 20}"
        return f"{found} are free at {self._directory.parent}, {needed} are needed"

    def _tell(self, why: str) -> None:
        """Once when it begins and once when it is over."""
        if bool(why) != bool(self._why):
            log.warning("the disk of the state %s", f"is too full: {why}" if why else "has room again")
        self._why = why


def _allocated(place: Path) -> int:
    try:
        return place.stat().st_blocks * 512
    except FileNotFoundError:
        return 0
