"""A git repository as somebody pushes to it, for tests of the source."""

import os
import subprocess
from pathlib import Path

ENV = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.org",
}


class Remote:
    """A repository with a work tree, as somebody pushes to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str, data: bytes | None = None) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=self.path, env=ENV, input=data, capture_output=True, check=True
        )
        return done.stdout.decode().strip()

    def commit(self, changed: dict[str, str], message: str = "change") -> str:
        """Writes files, commits, and returns the commit."""
        for name, text in changed.items():
            place = self.path / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", f"--message={message}")
        return self.git("rev-parse", "HEAD")

    def commit_tree(self, *lines: bytes) -> str:
        """Commits a tree that `git add` would never make; lines are as `git mktree` takes them."""
        made = self.git("mktree", "--missing", data=b"".join(line + b"\n" for line in lines))
        commit = self.git("commit-tree", "-m", "forged", made)
        self.git("update-ref", "refs/heads/main", commit)
        return commit

    def blob(self, content: bytes) -> bytes:
        return self.git("hash-object", "-w", "--stdin", data=content).encode()

    def link(self, revision: str, path: str, url: str | None = None) -> None:
        """Puts a submodule into the index; `commit` comes next. Without a URL .gitmodules stays as it is."""
        self.git("update-index", "--add", "--cacheinfo", f"160000,{revision},{path}")
        if url is not None:
            for option, value in (("path", path), ("url", url)):
                self.git("config", "--file", ".gitmodules", f"submodule.{path}.{option}", value)

    def commit_index(self) -> str:
        """Commits what `link` put into the index, with .gitmodules; `git add` would take the links out again."""
        if (self.path / ".gitmodules").exists():
            self.git("add", ".gitmodules")
        self.git("commit", "--quiet", "--message=submodules")
        return self.git("rev-parse", "HEAD")


def files_of(directory: Path) -> dict[str, str]:
    """Every file by its path below `directory`, with its text."""
    return {
        str(path.relative_to(directory)): path.read_text()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def files_with(text: str, directory: Path) -> list[Path]:
    """Every file that holds the text."""
    return [path for path in directory.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]
