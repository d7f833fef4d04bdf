"""One service's part of the archive: its directories, its lock, what is in them, and what does not belong there."""

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from agent.adapters.backup import manifest, packs
from agent.adapters.backup.codec import Damaged
from agent.adapters.backup.descriptors import entries
from agent.adapters.backup.manifest import Manifest, Name
from agent.adapters.backup.sink import TOKEN
from agent.adapters.backup.stopping import Stopped
from agent.core.errors import Unavailable
from agent.core.model import Backup
from agent.system.files import fsync_directory, remove_tree


class Home:
    """`<root>/<service>`. Methods raise OSError."""

    def __init__(self, path: Path) -> None:
        """Touches nothing."""
        self.path = path
        self.packs = path / "packs"
        self.manifests = path / "manifests"
        self.scratch = path / "scratch"
        self.rehearsals = path / "rehearsals"
        self._untidy = path / "untidy"

    def make(self) -> None:
        """Its directories, durable."""
        if not (self.packs.is_dir() and self.manifests.is_dir() and self.scratch.is_dir()):
            for path in (self.path, self.packs, self.manifests, self.scratch):
                path.mkdir(mode=0o700, exist_ok=True)
            for path in (self.path, self.path.parent):
                fsync_directory(path)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps every other writer out, also in another process; it ends with the process. Raises backup-busy."""
        handle = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Unavailable("backup-busy", f"a backup of {self.path.name} is being written") from error
            yield
        finally:
            os.close(handle)

    def _named(self) -> list[tuple[Name, Path]]:
        found = ((manifest.named(path), path) for path in entries(self.manifests))
        return [(name, path) for name, path in found if name is not None]

    def backups(self) -> dict[str, Path]:
        """Every backup's manifest by its id, the last one first."""
        found = sorted(((name, path) for name, path in self._named() if not name.mark), reverse=True)
        return {name.id: path for name, path in found}

    def next_number(self) -> int:
        """One more than any manifest's, whatever the clock says. The lock is held."""
        return max((name.number for name, _ in self._named()), default=0) + 1

    def last(self, stopped: Stopped) -> Backup | None:
        """The last backup whose manifest reads."""
        for path in self.backups().values():
            with contextlib.suppress(Damaged):
                return Manifest(path, stopped=stopped).backup()
        return None

    @property
    def untidy(self) -> bool:
        """Whether there may be packs that nobody needs. Asks the disk."""
        return self._untidy.exists()

    def note_untidy(self) -> None:
        """Writes it down, durably, before the first manifest goes."""
        if not self.untidy:
            self._untidy.touch(
                mode=0o600
            )  # it has no content: it is there or not, so it needs no file beside it
            fsync_directory(self.path)

    def note_tidy(self) -> None:
        """They are all gone."""
        self._untidy.unlink(missing_ok=True)

    def sweep_rehearsals(self) -> int:
        """Removes what rehearsals left that were cut off. None is going on."""
        left = entries(self.rehearsals)
        for path in left:
            remove_tree(path)
        return len(left)

    def sweep(self) -> int:
        """Removes what an interrupted backup left: all that is unfinished, and the packs of those with a mark.

        The lock is held, so nothing of it is in use; and since each backup sweeps before it begins, none ever
        builds on such a pack. The marks go last, so that a sweep may be cut off, too.
        """
        leftovers = [path for path in entries(self.scratch) if not path.is_dir()]
        leftovers += [path for path in entries(self.packs) if path.name.endswith(packs.PARTIAL)]
        leftovers += self._orphans()
        marks = [path for path in entries(self.manifests) if path.name.endswith(packs.PARTIAL)]
        self._remove(leftovers, self.packs)
        self._remove(marks, self.manifests)
        return len(leftovers) + len(marks)

    def _orphans(self) -> Sequence[Path]:
        """The packs of backups that were never finished."""
        marked = {name.id for name, _ in self._named() if name.mark} - self.backups().keys()
        begun = "|".join(map(re.escape, marked))
        if not begun:
            return []
        theirs = re.compile(rf"(?:{begun})-[0-9a-f]{{{2 * TOKEN}}}-[0-9]+{re.escape(packs.PACK)}")
        return [path for path in entries(self.packs) if theirs.fullmatch(path.name)]

    def _remove(self, paths: Sequence[Path], directory: Path) -> None:
        for path in paths:
            packs.remove(path)
        if paths:
            fsync_directory(directory)
