"""The repository of the demo: the example scraper, committed and really pushed to a bare repository beside it.

git runs with an environment of its own: whoever starts the demo has hooks, signing keys and templates that are
none of its business.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import as_file, files
from pathlib import Path

from agent.cli.demo.failure import DemoFailed
from agent.core.text import clean
from agent.system.process import run
from agent.system.threads import in_thread

AUTHOR, EMAIL = "Demo", "demo@homeport.invalid"
GIT_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Push:
    """One commit that was pushed to main. `before` is forty zeros for the first."""

    before: str
    after: str
    tree: str
    message: str
    modified: tuple[str, ...]
    at: str
    author: str = AUTHOR
    email: str = EMAIL


@dataclass(frozen=True)
class Edit:
    """Replaces `old`, which must stand in `file` exactly once."""

    file: str
    old: str
    new: str


class Repository:
    """`bare` is what the agent fetches from; `work` is where the commits are made."""

    def __init__(self, root: Path) -> None:
        self.bare = root / "scraper.git"
        self.work = root / "work"
        self._environment = _environment(root)
        self._tip = "0" * 40

    async def create(self) -> Push:
        """Makes both, with the example scraper as the first commit."""
        await in_thread(_lay_out_example, self.work)
        await self._git("init", "--quiet", "--bare", "--template=", str(self.bare))
        await self._git("init", "--quiet", "--template=", str(self.work))
        for repository in (self.bare, self.work):
            await self._git(
                "--git-dir", str(_git_directory(repository)), "symbolic-ref", "HEAD", "refs/heads/main"
            )
        await self._git("remote", "add", "origin", str(self.bare), cwd=self.work)
        return await self._push("The example scraper", ())

    async def change(self, message: str, *edits: Edit) -> Push:
        """Commits the edits and pushes them."""
        for edit in edits:
            await in_thread(_apply, self.work, edit)
        return await self._push(message, tuple(edit.file for edit in edits))

    async def _push(self, message: str, modified: tuple[str, ...]) -> Push:
        await self._git("add", "--all", cwd=self.work)
        await self._git("commit", "--quiet", "--message", message, cwd=self.work)
        await self._git("push", "--quiet", "origin", "main", cwd=self.work)
        after, tree = (await self._git("rev-parse", "HEAD", "HEAD^{tree}", cwd=self.work)).split()
        before, self._tip = self._tip, after
        at = datetime.now(UTC).isoformat(timespec="seconds")
        return Push(before=before, after=after, tree=tree, message=message, modified=modified, at=at)

    async def _git(self, *arguments: str, cwd: Path | None = None) -> str:
        try:
            finished = await run(
                ["git", *arguments], cwd=cwd or self.work, env=self._environment, deadline=GIT_SECONDS
            )
        except FileNotFoundError as error:
            raise DemoFailed("git is not installed: the demo needs it") from error
        if finished.status != 0:
            raise DemoFailed(f"git {arguments[0]} failed: {clean(finished.text)}")
        return finished.text


def _git_directory(repository: Path) -> Path:
    return repository if repository.suffix == ".git" else repository / ".git"


def _environment(home: Path) -> Mapping[str, str]:
    people = {
        f"GIT_{role}_{part}": value
        for role in ("AUTHOR", "COMMITTER")
        for part, value in (("NAME", AUTHOR), ("EMAIL", EMAIL))
    }
    return people | {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
    }


def _lay_out_example(target: Path) -> None:
    """Copies the example: out of the installed package, or out of the checkout that this runs in."""
    package = files("agent")
    with as_file(package) as directory:
        places = (directory / "examples" / "scraper", directory.parent / "examples" / "scraper")
        for place in places:
            if (place / "scraper" / "__main__.py").is_file():
                ignored = shutil.ignore_patterns("__pycache__", ".*_cache", "data", ".venv")
                shutil.copytree(place, target, ignore=ignored)
                return
    raise DemoFailed(f"the example scraper is missing: neither {places[0]} nor {places[1]} has it")


def _apply(work: Path, edit: Edit) -> None:
    file = work / edit.file
    text = file.read_text(encoding="utf-8")
    if text.count(edit.old) != 1:
        raise DemoFailed(f"the example scraper is not the one that this demo knows: {edit.file}")
    file.write_text(text.replace(edit.old, edit.new), encoding="utf-8")
