"""One service's directory: `releases/<sequence>-<sha7>`, `shared/`, the link `current`. Answers `Releases`.

Rules:
- A release exists from the instant its marker stands in it, and no longer from the instant the marker is gone.
  What has no marker is a leftover: the next `begin` removes it, and with it who still works in it.
- `current` and a shared path are swapped in by one rename. What stands at `current` and was not made here is
  never touched.
- What is shared is data: it is made once, whole or not at all, and never removed.
- One caller at a time: the service's lane.
"""

import os
import re
import stat
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

from agent.adapters import marker, reuse
from agent.adapters.hands import Hands, OwnHands
from agent.core.errors import StepFailed
from agent.core.model import Fault, Release
from agent.core.settings import Reuse
from agent.core.text import clean
from agent.system import files
from agent.system.threads import to_its_end

P = ParamSpec("P")
T = TypeVar("T")

FLOOR_BYTES = 64 << 20
FLOOR_INODES = 1000
"""Below these no work begins: the journal and the service that runs need the rest."""

_NAME = re.compile(r"([0-9]{1,18})-[0-9a-f]{7,64}")
_TOMBSTONE = ".homeport-release.removed"
_SEED = ".seed.partial"


class ReleaseDirectory:
    """`directory` is the service's; `shared` are paths relative to a release, `saved` those that its backups hold."""

    def __init__(
        self,
        directory: Path,
        shared: tuple[str, ...],
        service: str,
        *,
        saved: Collection[str] = (),
        hands: Hands | None = None,
        floor_bytes: int = FLOOR_BYTES,
        floor_inodes: int = FLOOR_INODES,
    ) -> None:
        self._directory = directory.absolute()
        self._releases = self._directory / "releases"
        self._shared_root = self._directory / "shared"
        self._current = self._directory / "current"
        self._shared = tuple(os.path.normpath(path) for path in shared)
        self._saved = frozenset(os.path.normpath(path) for path in saved)
        self._service = service
        self._hands = hands or OwnHands()
        self._floor_bytes = floor_bytes
        self._floor_inodes = floor_inodes
        self._snapshots: dict[str, dict[str, int]] = {}
        self._links: dict[str, tuple[str, ...]] = {}

    def path(self, name: str) -> Path:
        """See `core.ports.Releases`. Raises no-release for what cannot be a release's name."""
        if not _NAME.fullmatch(name):
            raise StepFailed("no-release", f"{clean(name, 80)} is no name of a release")
        return self._releases / name

    async def ready(self) -> None:
        """See `core.ports.Releases`. Also removes what a kill has left of a swap or a seed."""
        await self._do("the service's directory", self._make_ready)

    async def begin(self, name: str) -> bool:
        """See `core.ports.Releases`. Other leftovers, and who still works in one, go as well."""
        place = self.path(name)
        for leftover in await self._do("the releases", self._leftovers):
            # A build that an agent left behind when it was killed would write into the new release.
            await self._hands.end(leftover)
            await self._take_away(leftover.name, files.remove_tree, leftover)
        return await self._do(name, self._begin, place)

    async def snapshot(self, name: str) -> None:
        """See `core.ports.Releases`."""
        self._snapshots = {name: await self._do(name, marker.modes, self.path(name))}
        self._links = {}

    async def share(self, name: str) -> None:
        """See `core.ports.Releases`. Raises tree-refused if the repository has a link or a file in the way."""
        for path in self._shared:
            await self._do(f"the shared path {path}", self._share, self.path(name), path)

    async def ingredients(self, name: str, wanted: Reuse) -> Mapping[str, str]:
        """See `core.ports.Releases`."""
        return await self._do(name, reuse.ingredients, self.path(name), wanted.key, wanted.paths)

    async def offers(self, name: str, paths: Sequence[str]) -> bool:
        """See `core.ports.Releases`."""
        return await self._do(name, reuse.offers, self.path(name), paths)

    async def take_over(self, name: str, builder: str, paths: Sequence[str]) -> None:
        """See `core.ports.Releases`."""
        await self._do(name, reuse.link, self.path(name), self.path(builder), paths)
        await self._do(builder, self._hands.show, self.path(builder))
        self._links = {name: tuple(paths)}

    async def seal(self, release: Release) -> None:
        """See `core.ports.Releases`. What the build rewrote (npm its lock file) is sealed as it is now."""
        await self._do(release.name, self._seal, release)

    async def verify(self, name: str) -> None:
        """See `core.ports.Releases`."""
        await self._do(name, self._verify, self.path(name))

    async def point(self, name: str) -> None:
        """See `core.ports.Releases`. Raises no-release for what has no marker."""
        await self._do("current", self._point, self.path(name))

    async def clear(self) -> None:
        """See `core.ports.Releases`."""
        await self._do("current", self._clear)

    async def current(self) -> str | None:
        """See `core.ports.Releases`. A link into `releases/` that leads to nothing counts as none."""
        return await self._do("current", self._look_at_current)

    async def names(self) -> Sequence[str]:
        """See `core.ports.Releases`."""
        return await self._do("the releases", self._names)

    async def remove(self, name: str) -> None:
        """See `core.ports.Releases`."""
        place = self.path(name)
        await self._hands.end(place)
        await self._take_away(name, self._remove, place)

    async def _take_away(self, name: str, remove: Callable[[Path], None], place: Path) -> None:
        try:
            await self._do(name, remove, place)
        except StepFailed as error:
            if error.code != "not-writable" or not await self._hands.give_back(place):
                raise
            await self._do(name, remove, place)

    async def _do(self, what: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await to_its_end(function, *args, **kwargs)
        except OSError as error:
            raise files.translate(error, f"{self._service}, {what}") from error

    # --- what blocks

    def _make_ready(self) -> None:
        for place in (self._directory, self._releases, self._shared_root):
            if not place.is_dir():
                place.mkdir(parents=True, exist_ok=True)
                files.fsync_directory(place.parent)
            if not os.access(place, os.W_OK | os.X_OK):
                raise StepFailed("not-writable", f"{place} is not writable")
        self._look_at_current()
        files.remove_asides(self._current)
        files.remove_tree(self._shared_root / _SEED)
        free = files.free(self._directory)
        if free.bytes < self._floor_bytes:
            message = (
                f"{free.bytes >> 20} MiB are free at {self._directory}, {self._floor_bytes >> 20} are needed"
            )
            raise StepFailed("disk-full", message)
        if free.inodes is not None and free.inodes < self._floor_inodes:
            message = f"{free.inodes} inodes are free at {self._directory}, {self._floor_inodes} are needed"
            raise StepFailed("disk-full", message)

    def _begin(self, place: Path) -> bool:
        if os.path.lexists(place / marker.NAME):
            try:
                self._verify(place)
            except StepFailed:
                if self._look_at_current() == place.name:
                    raise
                self._remove(place)
            else:
                return False
        place.mkdir()  # the umask, or a default access list, says who else may build here
        return True

    def _leftovers(self) -> list[Path]:
        current = self._look_at_current()
        return [
            place
            for place in self._releases.iterdir()
            if _NAME.fullmatch(place.name)
            and place.name != current
            and not os.path.lexists(place / marker.NAME)
        ]

    def _share(self, release: Path, path: str) -> None:
        source, target = release / path, self._shared_root / path
        link = os.path.relpath(target, source.parent)
        if source.is_symlink() and os.readlink(source) == link:  # noqa: PTH115 - as it stands there
            return
        _make_parents(release, source)
        if source.is_symlink():
            raise StepFailed("tree-refused", f"the shared path {clean(path)} is a link in the repository")
        if not os.path.lexists(target):
            self._refuse_loss(path, link)
            self._seed(source, target)
        files.remove_tree(source)
        source.symlink_to(link)

    def _refuse_loss(self, path: str, link: str) -> None:
        """What is live has a link to it, so it was there: made anew, it would pass the backup as data that is whole."""
        lives = self._current / path
        if path in self._saved and lives.is_symlink() and os.readlink(lives) == link:  # noqa: PTH115 - as above
            raise StepFailed("backup-source-gone", f"shared/{clean(path)} is saved in backups, and is gone")

    def _seed(self, source: Path, target: Path) -> None:
        """Makes a shared path: what the repository has, else an empty directory."""
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = self._shared_root / _SEED
        files.remove_tree(aside)
        if source.exists():
            files.copy_plain(source, aside)
        else:
            aside.mkdir()  # the umask, or a default access list, says who else may write here
        files.syncfs(self._shared_root)
        aside.rename(target)
        files.fsync_directory(target.parent)

    def _seal(self, release: Release) -> None:
        place = self.path(release.name)
        before = self._snapshots.get(release.name)
        if before is None:
            if not os.path.lexists(place / marker.NAME):
                raise ValueError("seal comes after snapshot")
            return self._verify(place)
        # neither believed nor read: who built may have put anything there
        if os.path.lexists(place / marker.NAME):
            files.remove_tree(place / marker.NAME)
            raise marker.damaged(marker.NAME, "was made by the build", Fault.COMMIT)
        kept = {path: mode for path, mode in before.items() if not self._is_shared(path)}
        links = self._links.get(release.name, ())
        marker.compare(place, kept.items())
        reuse.check(place, release.built_by, links, Fault.COMMIT)
        rows = [marker.describe(place, path) for path, mode in kept.items() if not stat.S_ISDIR(mode)]
        self._hands.close(place)
        files.syncfs(place)
        files.write_atomic(place / marker.NAME, marker.encode(release, sorted(rows), links))
        del self._snapshots[release.name]
        return None

    def _verify(self, place: Path) -> None:
        builder, links = marker.check(place, self._service)
        reuse.check(place, builder, links)

    def _is_shared(self, path: str) -> bool:
        return any(path == shared or path.startswith(f"{shared}/") for shared in self._shared)

    def _point(self, place: Path) -> None:
        self._look_at_current()
        if not (place / marker.NAME).exists():
            raise StepFailed("no-release", f"{place.name} is no complete release")
        files.link_atomic(f"releases/{place.name}", self._current)

    def _clear(self) -> None:
        self._look_at_current()
        self._current.unlink(missing_ok=True)
        files.fsync_directory(self._directory)

    def _look_at_current(self) -> str | None:
        if not os.path.lexists(self._current):
            return None
        if not self._current.is_symlink():
            raise StepFailed("current-not-a-link", f"{self._current} is no link")
        target = self._directory / self._current.readlink()
        if target.parent.resolve() != self._releases.resolve() or not _NAME.fullmatch(target.name):
            message = f"{self._current} leads to {clean(str(target))}, which is no release"
            raise StepFailed("current-not-a-link", message)
        return target.name if target.is_dir() else None

    def _names(self) -> list[str]:
        if not self._releases.is_dir():
            return []
        found = [place.name for place in self._releases.iterdir() if _NAME.fullmatch(place.name)]
        return sorted(
            (name for name in found if (self._releases / name / marker.NAME).is_file()), key=_sequence
        )

    def _remove(self, place: Path) -> None:
        if not os.path.lexists(place) or self._look_at_current() == place.name:
            return
        if (place / marker.NAME).exists():
            files.unlock(place)  # a build may have taken the right
            (place / marker.NAME).rename(place / _TOMBSTONE)
            files.fsync_directory(place)
        files.remove_tree(place)
        files.fsync_directory(self._releases)


def _make_parents(release: Path, place: Path) -> None:
    """Makes the directories between; a link among them would lead the shared path out of the release."""
    for parent in reversed(place.relative_to(release).parents):
        step = release / parent
        if step.is_symlink() or (step.exists() and not step.is_dir()):
            path = clean(str(place.relative_to(release)))
            raise StepFailed(
                "tree-refused", f"{clean(str(parent))} stands in the way of the shared path {path}"
            )
        step.mkdir(exist_ok=True)


def _sequence(name: str) -> tuple[int, str]:
    return int(name.partition("-")[0]), name
