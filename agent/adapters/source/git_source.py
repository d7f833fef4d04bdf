"""One service's repository, as `core.ports.Source` has it."""

import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

from agent.adapters import tree
from agent.adapters.source.door import Door
from agent.adapters.source.layout import Layout
from agent.adapters.source.mirror import Mirror
from agent.adapters.source.program import Git
from agent.adapters.source.room import FLOOR, Room
from agent.core import settings
from agent.core.errors import StepFailed
from agent.core.gitwords import tip_of
from agent.core.ports import Secrets
from agent.core.repository import is_path, refusal
from agent.core.text import clean
from agent.system import files, process
from agent.system.threads import in_thread, to_its_end

_HEX = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SHORT = re.compile(r"[0-9a-f]{7,63}")
# git-check-ref-format(1); a leading dash is no danger here, but no branch that a person made has one.
_BAD_NAME = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|\.lock(/|$)|(^|/)\.|^/|/$|\.$|^@$|^$")


class GitSource:
    """One service's repository. `directory` is the service's; `secrets` lets it in, and hides what git repeats."""

    def __init__(
        self,
        options: settings.Source,
        directory: Path,
        secrets: Secrets,
        *,
        caps: tree.Caps | None = None,
        floor: int = FLOOR,
    ) -> None:
        local = is_path(options.repository)
        remote = os.path.normpath(directory / options.repository) if local else options.repository
        door = Door(options, directory, secrets)
        self._git = Git(directory, door, secrets.redact, local=local, deadline=options.timeout)
        self._mirror = Mirror(self._git, directory / "mirror.git", remote, Room(options.max_size, floor))
        self._layout = Layout(options, directory, caps or tree.Caps())
        self._directory = directory
        self._refusal = refusal(options.repository)
        self._branch = options.branch
        self._refs = (
            f"+refs/heads/{self._branch}:refs/remotes/origin/{self._branch}", "+refs/tags/*:refs/tags/*",
        )  # fmt: skip
        self._tidied = False

    async def fetch(self) -> str:
        """See `core.ports.Source`."""
        self._check_options()
        async with self._git.limits("fetching"):
            await self._tidy()
            if not await self._mirror.looks_whole():
                await self._renew()
                return await self._tip()
            try:
                await self._mirror.fetch(self._refs, "--prune")
                tip = await self._tip()
            except StepFailed as failure:
                await self._heal(failure)
                tip = await self._tip()
            await to_its_end(files.syncfs, self._mirror.path)
            return tip

    async def peek(self) -> str:
        """See `core.ports.Source`. git is told a repository that does not exist: it finds no other one either."""
        self._check_options()
        async with self._git.limits("asking for the branch"):
            await in_thread(partial(self._directory.mkdir, parents=True, exist_ok=True))
            ref = f"refs/heads/{self._branch}"
            arguments = ("ls-remote", "--quiet", "--refs", "--end-of-options", self._mirror.remote, ref)
            done = await self._git.call_remote(self._directory / "no.git", *arguments)
            if done.status != 0:
                raise self._git.failure(done)
            tip = tip_of(done.text, ref)
            if tip is None:
                raise StepFailed("branch-missing", f"the remote has no branch {self._branch}")
            return tip

    async def resolve(self, wanted: str) -> str:
        """See `core.ports.Source`. A sha may be cut down to seven digits; a tag may be annotated."""
        async with self._git.limits("resolving a revision"):
            tip = await self._healed_tip()
            revision = await self._find(wanted, tip)
            if not await self._mirror.is_ancestor(revision, tip):
                raise StepFailed("not-on-branch", f"{revision} does not lie on the branch {self._branch}")
            return revision

    async def parent(self, revision: str) -> str | None:
        """See `core.ports.Source`."""
        async with self._git.limits("looking for the parent"):
            commit = await self._mirror.look_up(_whole(revision))
            return await self._mirror.look_up(f"{commit}^1") if commit else None

    async def descends(self, revision: str, ancestor: str) -> bool:
        """See `core.ports.Source`."""
        look_up = self._mirror.look_up
        async with self._git.limits("comparing commits"):
            if not (await look_up(_whole(revision)) and await look_up(_whole(ancestor))):
                return False
            return await self._mirror.is_ancestor(ancestor, revision)

    async def changes(self, old: str, new: str) -> Sequence[str]:
        """See `core.ports.Source`. A name that is no UTF-8 is shown with replacements."""
        async with self._git.limits("comparing commits"):
            for revision in (old, new):
                await self._require(revision)
            options = ("-r", "-z", "--name-only", "--no-renames", "--end-of-options")
            return await self._mirror.read(_names, "diff-tree", *options, old, new)

    async def message(self, revision: str) -> str:
        """See `core.ports.Source`."""
        async with self._git.limits("reading a commit"):
            commit = await self._require(revision)
            done = await self._git.call(self._mirror.path, "cat-file", "commit", commit)
            if done.status != 0:
                raise self._git.failure(done)
            return done.text.partition("\n\n")[2]

    async def lay_out(self, revision: str, directory: Path) -> None:
        """See `core.ports.Source`. It becomes durable with the release: `Releases.seal` syncs the tree."""
        async with self._git.limits("writing the files"):
            await self._tidy()
            try:
                await self._layout.write(self._mirror, _whole(revision), directory)
            except StepFailed as failure:
                if failure.code != "mirror-corrupt":
                    raise
                await to_its_end(_empty, directory)
                await self._layout.forget()
                await self._renew()
                await self._layout.write(self._mirror, revision, directory)

    # --- the work

    def _check_options(self) -> None:
        if self._refusal is not None:
            raise StepFailed("git-refused", f"the repository's address {self._refusal[0]}")
        if _BAD_NAME.search(self._branch):
            raise StepFailed("branch-missing", "the configured branch has a name that git does not allow")

    async def _heal(self, failure: StepFailed) -> None:
        """Makes the mirror anew if that may help after a fetch that failed; else raises."""
        if failure.code == "repository-too-big":
            if not await self._mirror.is_half_full():
                await self._mirror.drop_unused()
                raise failure
            # what the branch has left behind goes; if it is too big even so, this raises
        elif failure.code not in ("git-failed", "mirror-corrupt"):
            raise failure
        elif await self._mirror.is_sound():
            raise StepFailed("git-failed", failure.message) from failure
        await self._renew()

    async def _renew(self) -> None:
        await self._mirror.renew(self._refs, "--prune")

    async def _tip(self) -> str:
        tip = await self._mirror.look_up(f"refs/remotes/origin/{self._branch}")
        if tip is None:
            raise StepFailed("mirror-corrupt", f"the mirror has no branch {self._branch}")
        return tip

    async def _healed_tip(self) -> str:
        try:
            return await self._tip()
        except StepFailed as failure:
            if failure.code != "mirror-corrupt":
                raise
        await self._renew()
        return await self._tip()

    async def _find(self, wanted: str, tip: str) -> str:
        """A full sha; the branch; a tag; a short sha: the first that there is."""
        look_up = self._mirror.look_up
        if _HEX.fullmatch(wanted):
            found = await look_up(wanted)
        elif wanted.removeprefix("refs/heads/") == self._branch:
            found = tip
        elif _BAD_NAME.search(wanted):
            found = None
        else:
            found = await look_up(f"refs/tags/{wanted.removeprefix('refs/tags/')}")
            if found is None and _SHORT.fullmatch(wanted):
                found = await look_up(wanted)
        if found is None:
            message = (
                f"neither a commit nor a tag on the branch {self._branch} is called {clean(wanted, 100)}"
            )
            raise StepFailed("revision-unknown", message)
        return found

    async def _require(self, revision: str) -> str:
        commit = await self._mirror.look_up(_whole(revision))
        if commit is None:
            raise StepFailed("revision-unknown", f"the mirror has no commit {revision}")
        return commit

    async def _tidy(self) -> None:
        """Ends what a killed agent left at work here, once; removes locks and scraps, which then are nobody's."""
        if not self._tidied:
            await process.end_orphans(self._git.mark)
            self._tidied = True
        await self._mirror.claim()
        await self._mirror.remove_scraps()


def _names(listing: BinaryIO) -> list[str]:
    return [name.decode("utf-8", "replace") for name in listing.read().split(b"\0") if name]


def _whole(revision: str) -> str:
    if not _HEX.fullmatch(revision):
        raise StepFailed("revision-unknown", f"{clean(revision, 100)} is no full commit hash")
    return revision


def _empty(directory: Path) -> None:
    for entry in directory.iterdir():
        files.remove_tree(entry)
