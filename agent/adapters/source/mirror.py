"""One bare repository beside the releases: fetched, asked, healed. It can be lost at any time."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

from agent.adapters import tree
from agent.adapters.source.program import Git
from agent.adapters.source.room import Room, size_of
from agent.core.errors import StepFailed
from agent.system import files, process
from agent.system.threads import in_thread, to_its_end

T = TypeVar("T")

_NO_MORE = (
    "--quiet",
    "--no-tags",
    "--no-write-fetch-head",
    "--no-auto-maintenance",
    "--no-recurse-submodules",
)
_CONFIG = b"[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n"
_NOT_OURS = ("hooks", "config.worktree", "info/attributes", "info/grafts", "objects/info/alternates")
"""What a mirror never has by itself, and git would heed."""


class Mirror:
    """`path` is where it lies, in a directory whose `mirror.*` are its own; `remote` is an address that is allowed.

    `within`: a directory whose whole content shares the `room`; without it the mirror has it for itself.
    """

    def __init__(self, git: Git, path: Path, remote: str, room: Room, *, within: Path | None = None) -> None:
        self.git = git
        self.path = path
        self.remote = remote
        self.room = room
        self.within = within

    async def claim(self) -> None:
        """Makes sure that nobody else has a say in it, before git works there. What its own configuration names is run
        (`core.alternateRefsCommand`), and a mirror needs none of it. Raises mirror-foreign if it is another user's:
        git itself does not look at the owner of a directory that it is told (F40)."""
        await to_its_end(_claim, self.path)

    async def looks_whole(self) -> bool:
        """Whether there is one at all; whether it is sound, only git can tell."""
        return await in_thread(_looks_whole, self.path)

    async def is_sound(self) -> bool:
        """Whether every object is there that another one names."""
        done = await self.git.call(self.path, "fsck", "--connectivity-only", "--no-dangling", "--no-progress")
        return done.status == 0

    async def fetch(self, refs: Sequence[str], *options: str, into: Path | None = None) -> None:
        """Fetches exactly these refspecs, whatever the remote has."""
        done = await self.call_remote(
            "fetch", *_NO_MORE, *options, "--end-of-options", self.remote, *refs, into=into
        )
        if done.status != 0:
            raise self.git.failure(done)

    async def call_remote(self, *arguments: str, into: Path | None = None) -> process.Finished:
        """Runs git for what brings something here; it is ended when that is too much, and its scraps are removed."""
        mirror = into or self.path
        try:
            return await self.room.watch(self.within or mirror, self.git.call_remote(mirror, *arguments))
        except StepFailed as failure:
            if failure.code == "repository-too-big":
                await to_its_end(_remove_scraps, mirror)
            raise

    async def is_half_full(self) -> bool:
        """Whether it takes more than half of its room."""
        return await in_thread(size_of, self.path) > self.room.limit // 2

    async def drop_unused(self) -> None:
        """Removes what a fetch that was ended has brought and nothing names."""
        done = await self.git.call(self.path, "prune", "--expire=now")
        if done.status != 0:
            raise self.git.failure(done)

    async def renew(self, refs: Sequence[str], *options: str) -> None:
        """Makes the mirror anew, aside, and swaps it in when it is whole."""
        aside = self.path.with_name("mirror.partial")
        await to_its_end(files.remove_tree, aside)
        await in_thread(partial(aside.parent.mkdir, parents=True, exist_ok=True))
        done = await self.git.call(aside, "init", "--bare", "--quiet", "--template=")
        if done.status != 0:
            raise self.git.failure(done)
        try:
            await self.fetch(refs, *options, into=aside)
        except StepFailed as failure:
            await to_its_end(files.remove_tree, aside)
            if failure.code == "mirror-corrupt":  # there was nothing before: it is what was sent
                raise StepFailed("git-failed", failure.message) from failure
            raise
        await to_its_end(_swap_in, aside, self.path)

    async def remove_scraps(self) -> None:
        """Removes locks and temporary packs, which are nobody's: the caller knows that no git is at work here."""
        await to_its_end(_remove_scraps, self.path)

    async def look_up(self, name: str) -> str | None:
        """The commit that a name means, or None. The name goes in by standard input: it cannot be an option."""
        arguments = ("cat-file", "--batch-check")
        done = await self.git.call(self.path, *arguments, stdin=f"{name}^{{commit}}\n".encode())
        if done.status != 0:
            raise self.git.failure(done)
        found = done.text.split()
        return found[0] if len(found) == 3 and found[1] == "commit" else None

    async def is_ancestor(self, one: str, other: str) -> bool:
        """Whether `other` is `one` or stands on it. Both are commits of the mirror."""
        done = await self.git.call(self.path, "merge-base", "--is-ancestor", one, other)
        if done.status not in (0, 1):
            raise self.git.failure(done)
        return done.status == 0

    async def read(self, consume: Callable[[BinaryIO], T], *arguments: str, stdin: bytes | None = None) -> T:
        """Hands git's output to `consume`. Raises mirror-corrupt if git fails."""
        return await self.git.stream(self.path, consume, *arguments, stdin=stdin)

    async def entries(self, revision: str, tally: tree.Tally) -> list[tree.Entry]:
        """What a commit holds. Raises mirror-corrupt if the mirror lacks it, tree-refused."""
        if await self.look_up(revision) is None:
            raise tree.Damaged(f"the mirror has no commit {revision}")
        listing = ("ls-tree", "-r", "-z", "-l", "--full-tree", "--end-of-options", revision)
        return await self.read(partial(tree.read_entries, tally=tally), *listing)

    async def write(self, entries: Sequence[tree.Entry], directory: Path) -> dict[bytes, bytes]:
        """Writes these files and directories; returns the links, which come last of all."""
        names = b"".join(entry.name + b"\n" for entry in tree.order(entries))
        write = partial(tree.write, entries=entries, directory=directory)
        return await self.read(write, "cat-file", "--batch", "--buffer", stdin=names)


def _claim(mirror: Path) -> None:
    try:
        owner = mirror.stat().st_uid
    except FileNotFoundError:
        return
    if owner != os.geteuid():
        raise StepFailed("mirror-foreign", f"{mirror} belongs to the user {owner} and not to the agent's")
    if not mirror.is_dir():
        return  # it is made anew
    config = mirror / "config"
    if config.is_symlink() or (config.is_file() and config.read_bytes() != _CONFIG):
        files.write_atomic(config, _CONFIG)
    for name in _NOT_OURS:
        files.remove_tree(mirror / name)


def _looks_whole(mirror: Path) -> bool:
    return (mirror / "HEAD").is_file() and (mirror / "objects").is_dir() and (mirror / "refs").is_dir()


def _remove_scraps(mirror: Path) -> None:
    """R-GIT-7."""
    for place, _, names in os.walk(mirror):
        for name in names:
            if name.endswith(".lock") or (name.startswith("tmp_") and "objects" in Path(place).parts):
                Path(place, name).unlink(missing_ok=True)
    files.remove_asides(mirror / "config")


def _swap_in(aside: Path, mirror: Path) -> None:
    """Cut off between the renames there is no mirror: the next fetch makes one."""
    files.syncfs(aside)
    old = mirror.with_name("mirror.corrupt")
    files.remove_tree(old)
    if os.path.lexists(mirror):
        mirror.rename(old)
    aside.rename(mirror)
    files.fsync_directory(mirror.parent)
    files.remove_tree(old)
