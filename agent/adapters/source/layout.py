"""A commit's files with everything that belongs to it: its submodules, and the objects behind LFS pointers.

git's own `submodule` would clone with a work tree, follow .gitmodules to wherever it leads, and check out, which is
where its holes were (CVE-2024-32002, CVE-2025-48384). Here a submodule is one more bare mirror of an address that was
looked at first, and its files are written like all others. Links come last of all, so that nothing is ever written
through one, and are judged together.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from agent.adapters import tree
from agent.adapters.source import lfs
from agent.adapters.source.mirror import Mirror
from agent.core import settings
from agent.core.errors import StepFailed
from agent.core.repository import is_path
from agent.core.submodules import MAX_DEPTH, address_of, is_near, urls
from agent.system import files
from agent.system.threads import in_thread, to_its_end

_GITMODULES = b".gitmodules"
_MAX_GITMODULES = 1 << 20


@dataclass
class _Whole:
    """One release while it is written: `links` of all its parts, and the modules that it `used`."""

    directory: Path
    tally: tree.Tally
    links: dict[bytes, bytes] = field(default_factory=dict)
    used: set[Path] = field(default_factory=set)


@dataclass(frozen=True)
class _Part:
    """The commit itself, or a submodule at `path`, which is `depth` deep."""

    mirror: Mirror
    revision: str
    path: bytes = b""
    depth: int = 0


class Layout:
    """Writes releases of one service. `directory` is the service's: mirrors of submodules lie in its `modules`."""

    def __init__(self, options: settings.Source, directory: Path, caps: tree.Caps) -> None:
        self._options = options
        self._modules = directory / "modules"
        self._caps = caps

    async def write(self, mirror: Mirror, revision: str, directory: Path) -> None:
        """See `core.ports.Source.lay_out`. `mirror` holds the commit."""
        whole = _Whole(directory, tree.Tally(self._caps))
        await self._write(_Part(mirror, revision), whole, repository=mirror.remote)
        await to_its_end(tree.make_links, whole.links, directory)
        await to_its_end(_keep_only, self._modules, whole.used)

    async def forget(self) -> None:
        """Removes the mirrors of submodules: one of them may be corrupt."""
        await to_its_end(files.remove_tree, self._modules)

    async def _write(self, part: _Part, whole: _Whole, *, repository: str) -> None:
        place = whole.directory / os.fsdecode(part.path)
        entries = await part.mirror.entries(part.revision, whole.tally)
        links = await part.mirror.write(entries, place)
        whole.links |= {os.path.join(part.path, path): target for path, target in links.items()}  # noqa: PTH118 - bytes
        if self._options.lfs:
            await lfs.fill(part.mirror, part.revision, entries, place, whole.tally)
        gitlinks = [entry for entry in entries if entry.mode == tree.SUBMODULE]
        if not self._options.submodules or not gitlinks:
            return
        if part.depth == MAX_DEPTH:
            message = f"{tree.shown(part.path)} has submodules of its own: that is deeper than {MAX_DEPTH}"
            raise StepFailed("submodule-refused", message)
        named = await _read_gitmodules(part.mirror, entries)
        for entry in gitlinks:
            path = os.path.join(part.path, entry.path)  # noqa: PTH118 - bytes
            address = await in_thread(_address, named.get(entry.path), path, part.mirror.remote, repository)
            module = Mirror(
                part.mirror.git, self._place_of(address), address, part.mirror.room, within=self._modules
            )
            whole.used.add(module.path.parent)
            commit = entry.name.decode()
            await _obtain(module, commit, path)
            await self._write(_Part(module, commit, path, part.depth + 1), whole, repository=repository)

    def _place_of(self, address: str) -> Path:
        return self._modules / sha256(address.encode()).hexdigest()[:32] / "mirror.git"


async def _read_gitmodules(mirror: Mirror, entries: Sequence[tree.Entry]) -> dict[bytes, str]:
    """The addresses as they stand in the commit, by path; git reads its own format."""
    found = [entry for entry in entries if entry.path == _GITMODULES and entry.mode != tree.LINK]
    if not found:
        raise StepFailed("submodule-refused", "the commit has submodules, and no .gitmodules that names them")
    blob = found[0].name.decode()
    done = await mirror.git.call(mirror.path, "config", "--blob", blob, "-z", "--list", limit=_MAX_GITMODULES)
    if done.status != 0 or len(done.output) >= _MAX_GITMODULES:
        raise StepFailed("submodule-refused", ".gitmodules cannot be read, or is far too long")
    return urls(done.output)


def _address(url: str | None, path: bytes, base: str, repository: str) -> str:
    """Where the submodule at `path` lies. Raises submodule-refused."""
    name = f"the submodule {tree.shown(path)}"
    if url is None:
        raise StepFailed("submodule-refused", f"{name} has no URL in .gitmodules")
    try:
        address = address_of(url, base, repository)
    except StepFailed as refused:
        raise StepFailed("submodule-refused", f"{name}: {refused.message}") from refused
    # a link in the file system may lead elsewhere
    if is_path(address) and not is_near(os.path.realpath(address), os.path.realpath(repository)):
        raise StepFailed("submodule-refused", f"{name}: its address is a link that leads elsewhere")
    return address


async def _obtain(module: Mirror, commit: str, path: bytes) -> None:
    """Brings exactly this commit, without its history where the server allows that."""
    await module.claim()
    await module.remove_scraps()
    if await _has(module, commit):
        return
    for refs, options in (
        ((f"+{commit}:refs/commits/{commit}",), ("--depth=1",)),
        (("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"), ()),
    ):
        try:
            await _bring(module, refs, options)
        except StepFailed as failure:
            if failure.code != "revision-unknown":
                message = f"the submodule {tree.shown(path)}: {failure.message}"
                raise StepFailed(failure.code, message, hint=failure.hint) from failure
        if await _has(module, commit):
            return
    message = f"the submodule {tree.shown(path)} is at {commit}, which its repository does not have"
    raise StepFailed("submodule-missing", message)


async def _has(module: Mirror, commit: str) -> bool:
    return await module.looks_whole() and await module.look_up(commit) is not None


async def _bring(module: Mirror, refs: Sequence[str], options: Sequence[str]) -> None:
    if await module.looks_whole():
        try:
            await module.fetch(refs, *options)
        except StepFailed as failure:
            if failure.code not in ("git-failed", "mirror-corrupt"):
                raise
        else:
            return
    await module.renew(refs, *options)


def _keep_only(modules: Path, used: set[Path]) -> None:
    """Removes the mirrors that the release did not need: they can be had again."""
    if modules.is_dir():
        for place in modules.iterdir():
            if place not in used:
                files.remove_tree(place)
        if not used:
            modules.rmdir()
