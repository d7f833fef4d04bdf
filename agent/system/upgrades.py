"""What is written down of an upgrade: the mark of the one that is pending, how the last one ended, and the files that
`install` wrote, as they were before. Only root writes here; marks and ends anybody can read, and they hold no secret.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from agent.core.errors import StepFailed
from agent.core.upgrading import LAST, MARK, PLACE, SAVED, Mark
from agent.system import files


class Saved(msgspec.Struct, frozen=True):
    """A file as it was; `content` is None where there was none."""

    name: str
    content: bytes | None = None
    mode: int = 0
    owner: tuple[int, int] = (0, 0)


class Upgrades:
    """Below `root`, which is / but in tests."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    @property
    def place(self) -> Path:
        """The directory, made if it is not there."""
        place = self._at(PLACE)
        place.mkdir(mode=0o755, parents=True, exist_ok=True)
        return place

    def pending(self) -> Mark | None:
        """The upgrade that was begun and has not ended. Raises StepFailed if its mark cannot be read."""
        return self._mark(MARK)

    def last(self) -> Mark | None:
        """How the last upgrade ended. Raises StepFailed as `pending` does."""
        return self._mark(LAST)

    def write(self, mark: Mark) -> None:
        """The mark, durable when it returns."""
        self._put(MARK, msgspec.json.encode(mark), 0o644)

    def end(self, mark: Mark) -> None:
        """It is pending no more, and this is how it ended."""
        self._put(LAST, msgspec.json.encode(mark), 0o644)
        self._at(MARK).unlink(missing_ok=True)
        files.fsync_directory(self.place)

    def save(self, names: Iterable[str]) -> None:
        """Remembers these files as they are now, whole or not at all."""
        self._put(SAVED, msgspec.json.encode([self._look(name) for name in sorted(set(names))]), 0o600)

    def put_back(self) -> None:
        """Makes them what they were."""
        for saved in msgspec.json.decode(self._at(SAVED).read_bytes(), type=list[Saved]):
            path = self._at(saved.name)
            if saved == self._look(saved.name):
                continue
            if saved.content is None:
                path.unlink()
                files.fsync_directory(path.parent)
            else:
                path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                files.write_atomic(path, saved.content, mode=saved.mode, owner=saved.owner)

    def _look(self, name: str) -> Saved:
        try:
            with self._at(name).open("rb") as file:
                status = os.fstat(file.fileno())
                return Saved(name, file.read(), status.st_mode & 0o7777, (status.st_uid, status.st_gid))
        except (FileNotFoundError, NotADirectoryError):
            return Saved(name)

    def _mark(self, name: str) -> Mark | None:
        try:
            return msgspec.json.decode(self._at(name).read_bytes(), type=Mark)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except msgspec.MsgspecError as error:
            raise StepFailed("upgrade-unfinished", f"{name} cannot be read: {error}") from error

    def _put(self, name: str, data: bytes, mode: int) -> None:
        path = self.place / Path(name).name
        files.remove_asides(path)
        files.write_atomic(path, data, mode=mode)

    def _at(self, name: str) -> Path:
        return self._root / name.lstrip("/")
