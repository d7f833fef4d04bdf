"""From a repository to a release on the disk. Its rules: `core.ports`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from agent.core.model import Launch, Release
from agent.core.settings import Reuse


class Source(Protocol):
    """One service's repository: a bare mirror beside the releases, refreshed from the configured remote."""

    async def fetch(self) -> str:
        """Brings the mirror up to date and returns the configured branch's tip (hex).

        Raises git-unreachable, git-refused, git-timeout, key-unusable, branch-missing, disk-full. A corrupt mirror is
        moved aside and cloned anew before anything is said.
        """

    async def peek(self) -> str:
        """The configured branch's tip (hex) as the remote names it now: one question, no objects.

        Neither reads nor writes the mirror: it may be asked while any other method runs. Raises git-unreachable,
        git-refused, git-timeout, branch-missing.
        """

    async def resolve(self, wanted: str) -> str:
        """The full hash of a sha, branch or tag, from the mirror as it was last fetched.

        Raises revision-unknown; not-on-branch if it is not an ancestor of, or equal to, the branch's tip.
        """

    async def lay_out(self, revision: str, directory: Path) -> None:
        """Writes the files of `revision` into the empty `directory`: no `.git`, no hooks, no filters run.

        Submodules and LFS objects are fetched here, if they are configured. Raises tree-refused for a symlink that
        leaves the directory, submodule-refused, submodule-missing, lfs-failed, mirror-corrupt, git-timeout, disk-full,
        and for what it fetches whatever `fetch` raises. It is `Releases.seal` that makes it durable: without a marker
        it does not count.
        """

    async def parent(self, revision: str) -> str | None:
        """The first parent of a commit, or None."""

    async def descends(self, revision: str, ancestor: str) -> bool:
        """Whether `ancestor` is `revision` or one that it stands on. False for a commit that the mirror lacks."""

    async def changes(self, old: str, new: str) -> Sequence[str]:
        """The paths that differ between two commits. Raises revision-unknown for one that the mirror lacks."""

    async def message(self, revision: str) -> str:
        """What the commit's author wrote, as it was written. Raises revision-unknown."""


class Releases(Protocol):
    """One service's directory: `releases/<name>`, `shared/`, the `current` link."""

    def path(self, name: str) -> Path:
        """Where the release of this name lies, absolute. (Not a coroutine: no I/O.)"""

    async def ready(self) -> None:
        """Checks what must hold before work begins: writable, `current` is a link or absent. Makes directories.

        Raises current-not-a-link, not-writable, disk-full (below the floor of free bytes or inodes).
        """

    async def begin(self, name: str) -> bool:
        """Makes `releases/<name>` as an empty directory; what was left there without a marker is removed.

        False: it stands there complete (its marker verifies): nothing more to build.
        """

    async def share(self, name: str) -> None:
        """Makes each shared path (seeded from this release if it is tracked there, else an empty directory)
        and puts a link to it into the release. The seed appears whole or not at all. Raises backup-source-gone for one
        that backups hold and that what is live had: data that was lost is not made anew, empty."""

    async def seal(self, release: Release) -> None:
        """The point at which a release exists: hash of the files that came from git, syncfs, marker, fsync.

        `begin`, `Source.lay_out`, `snapshot`, `share`, perhaps `ingredients` and `take_over`, the build commands and
        `seal` are called in this order. Raises release-damaged if the build removed or changed the mode of files that
        came from git, or replaced what was linked.
        """

    async def snapshot(self, name: str) -> None:
        """Remembers (in memory) which files came from git, before the build adds its own."""

    async def ingredients(self, name: str, wanted: Reuse) -> Mapping[str, str]:
        """SHA-256 (hex) of each key file of a release that was laid out and not built yet, or `core.reuse.ABSENT`.

        Raises tree-refused for a key that is no plain file or lies behind a link, and for a path to be reused that
        came from git: only what a build makes can be linked.
        """

    async def offers(self, name: str, paths: Sequence[str]) -> bool:
        """Whether a complete release has all these paths as its own build made them: none is a link."""

    async def take_over(self, name: str, builder: str, paths: Sequence[str]) -> None:
        """Makes each path a link to what the release `builder` has there. Raises tree-refused as `ingredients`."""

    async def verify(self, name: str) -> None:
        """Reads the release back and compares it with its marker. Raises no-release, release-damaged (files, or
        what was linked in another release, are gone) or release-changed (all are there, some were edited)."""

    async def point(self, name: str) -> None:
        """`current` names this release: one rename, one directory fsync. Readers never see it missing."""

    async def clear(self) -> None:
        """Removes `current`: nothing is live. Raises current-not-a-link."""

    async def current(self) -> str | None:
        """Which release `current` names; None if there is none. Raises current-not-a-link."""

    async def names(self) -> Sequence[str]:
        """The complete releases on the disk, oldest first (by sequence number)."""

    async def remove(self, name: str) -> None:
        """Removes a release, also an unfinished one: its marker first, then its files. What is not there is
        fine; what `current` names stays."""


Heard = Callable[[str], None]
"""Is told now and then what a program has printed so far: cleaned and redacted, whole lines only."""


def unheard(text: str) -> None:
    """Nobody listens."""
    del text


class Builder(Protocol):
    """Runs one service's commands in a release: those that build it, and those that migrate its data.

    They run one after the other, and their output is returned (the last 64 KiB, cleaned and redacted); `heard` is told
    of it while they run, at most every half second. A failure is raised with that output; disk-full if the disk filled
    meanwhile. Nothing that they started is left running, also not when cancelled.
    """

    async def build(self, launch: Launch, heard: Heard = unheard, *, reused: bool = False) -> str:
        """`deploy.build.commands` unless what they make is `reused`, then `deploy.build.always`.

        Raises build-failed, build-timeout; limit-unavailable, before anything is run.
        """

    async def migrate(self, launch: Launch, heard: Heard = unheard) -> str:
        """`deploy.migrate`, with the service's own environment and without the build's limits.

        Raises migrate-failed, migrate-timeout.
        """
