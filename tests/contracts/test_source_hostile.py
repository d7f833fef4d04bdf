"""Hostile repositories, played through to a sealed release: nothing of them runs, nothing is written outside.

Real git, a real file system. What a release is built with comes only after all of this.
"""

import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.adapters import tree
from agent.adapters.releases import ReleaseDirectory
from agent.adapters.source import GitSource
from agent.core.errors import StepFailed
from agent.core.model import Release
from agent.core.settings import Source
from agent.system import process
from agent.system.secrets import Secrets
from tests import hostile
from tests.gitrepo import Remote, files_of

CAPS = tree.Caps(files=2000, bytes=20 << 20)


@dataclass
class Yard:
    """A machine with a service and a repository by somebody else."""

    remote: Remote
    home: Path
    traps: Path

    def source(self, *, submodules: bool = False) -> GitSource:
        options = Source(repository=str(self.remote.path), submodules=submodules)
        return GitSource(options, self.home, Secrets({}), caps=CAPS)

    async def release(self, *, submodules: bool = False) -> Path:
        """Fetches the tip and makes a release of it, as a deployment does, without any build."""
        source, releases = self.source(submodules=submodules), ReleaseDirectory(self.home, (), "app")
        await releases.ready()
        tip = await source.fetch()
        name = f"1-{tip[:7]}"
        await releases.begin(name)
        await source.lay_out(tip, releases.path(name))
        await releases.snapshot(name)
        await releases.share(name)
        await releases.seal(Release(name=name, service="app", revision=tip))
        await releases.verify(name)
        return releases.path(name)


@pytest.fixture
async def yard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Yard]:
    """In the end no trap was sprung, nobody is at work, and outside of the service's directory all is as it was."""
    remote = Remote(tmp_path / "host" / "app")
    remote.commit({"app.py": "print(1)\n"})
    made = Yard(remote, tmp_path / "srv", tmp_path / "traps")
    for directory in (made.home, made.traps, tmp_path / "user", tmp_path / "bin"):
        directory.mkdir()
    for program in ("git", "env"):  # the agent needs no other one
        (tmp_path / "bin" / program).symlink_to(str(shutil.which(program)))
    (tmp_path / "outside").write_text("untouched")
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.chdir(tmp_path / "user")
    monkeypatch.setattr(tree, "Caps", lambda: CAPS)
    yield made
    for trap in made.traps.iterdir():  # the pusher's own git may have run its own hooks: see `play`
        pytest.fail(f"sprung: {trap.name}")
    assert process._family(-1, process.mark_of(made.home / "mirror.git")) == []
    assert (tmp_path / "outside").read_text() == "untouched"
    assert list((tmp_path / "user").iterdir()) == []
    kept = {"mirror.git", "modules", "releases", "shared", "known_hosts"}
    assert {path.name for path in made.home.iterdir()} <= kept
    assert links_out_of(made.home / "releases") == []


def links_out_of(directory: Path) -> list[Path]:
    """By the kernel's own answer; a ring leads nowhere."""
    return [
        path
        for path in directory.rglob("*")
        if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(directory)
    ]


def play(yard: Yard, *tricks: hostile.Trick) -> None:
    """The tricks, and a commit if they did not make one; what the pusher's own git has run is none of ours."""
    before = yard.remote.git("rev-parse", "HEAD")
    for trick in tricks:
        trick(yard.remote, yard.traps)
    if yard.remote.git("rev-parse", "HEAD") == before:
        yard.remote.commit({})
    for trap in yard.traps.iterdir():
        trap.unlink()


@pytest.mark.parametrize("trick", [*hostile.INERT, "all"])
async def test_what_was_committed_has_no_effect(
    yard: Yard, trick: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-GIT-4, R-GIT-9, R-GIT-10"""
    play(yard, *([hostile.INERT[trick]] if trick != "all" else hostile.INERT.values()))
    expected = {
        os.fsencode(path.relative_to(yard.remote.path)): path.read_bytes()
        for path in yard.remote.path.rglob("*")
        if path.is_file() and not path.is_symlink() and ".git" not in path.relative_to(yard.remote.path).parts
    }
    monkeypatch.setenv("PATH", str(yard.home.parent / "bin"))
    release = await yard.release()
    written = {
        os.fsencode(path.relative_to(release)): path.read_bytes()
        for path in release.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    del written[b".homeport-release.json"]
    assert written == expected


async def test_what_stands_beside_the_commits_has_no_effect(yard: Yard) -> None:
    """R-GIT-1, R-GIT-3, R-GIT-4: refs named like options, and a repository whose own directory is full of traps."""
    play(yard, *hostile.INERT.values())
    for trick in hostile.BESIDE.values():
        trick(yard.remote, yard.traps)
    for trap in yard.traps.iterdir():
        trap.unlink()
    source = yard.source()
    tip = await source.fetch()
    assert await source.peek() == tip
    for wanted in (hostile.OPTION.format(yard.traps / "ref"), "-h", "refs/tags/HEAD"):
        assert await source.resolve(wanted) == tip  # a tag like any other
    for wanted in ("--all", "a-blob", "a-tree", "refs/tags/a-blob"):
        with pytest.raises(StepFailed) as caught:
            await source.resolve(wanted)
        assert caught.value.code == "revision-unknown"
    assert files_of(await yard.release())["app.py"] == "print(1)\n"


async def test_a_mirror_that_somebody_furnished_is_cleared(yard: Yard) -> None:
    """R-GIT-4: what its configuration, hooks and alternates name is not run, and does not stay."""
    await yard.source().fetch()
    mirror = yard.home / "mirror.git"
    hostile.poison(mirror, yard.traps, "of-the-mirror")
    shutil.move(yard.home / "of-the-mirror-alternates", yard.home.parent / "elsewhere")
    alternates = mirror / "objects/info/alternates"
    alternates.write_text(f"{yard.home.parent}/elsewhere/.git/objects\n")
    play(yard)
    await yard.release()
    assert not alternates.exists()
    assert not (mirror / "hooks").exists()
    assert "touch" not in (mirror / "config").read_text()


@pytest.mark.parametrize("trick", hostile.REFUSED)
async def test_what_no_release_may_hold_is_refused_as_a_whole(yard: Yard, trick: str) -> None:
    """R-GIT-9, R-GIT-10, F35: by git on the way in, or by us; and no link of it was made."""
    play(yard, hostile.REFUSED[trick])
    with pytest.raises(StepFailed) as caught:
        await yard.release()
    assert caught.value.code in ("tree-refused", "git-failed"), caught.value
    assert not [path for path in (yard.home / "releases").rglob("*") if path.is_symlink()]
    assert not list((yard.home / "releases").rglob(".homeport-release.json"))


@pytest.mark.parametrize("trick", hostile.REFUSED)
async def test_it_is_refused_also_where_git_let_it_in(yard: Yard, trick: str) -> None:
    """R-GIT-10: a mirror from before, or a git that checks less."""
    play(yard, hostile.REFUSED[trick])
    yard.remote.git("clone", "--quiet", "--bare", "--no-local", ".", str(yard.home / "mirror.git"))
    tip = yard.remote.git("rev-parse", "refs/heads/main")
    (yard.home / "releases/out").mkdir(parents=True)
    with pytest.raises(StepFailed) as caught:
        await yard.source().lay_out(tip, yard.home / "releases/out")
    assert caught.value.code == "tree-refused", caught.value
    assert not [path for path in (yard.home / "releases").rglob("*") if path.is_symlink()]


async def test_there_are_no_devices(yard: Yard) -> None:
    """R-GIT-10"""
    play(yard, hostile.a_mode_of_a_device)
    release = await yard.release()
    assert [path for path in release.rglob("*") if not path.is_file() and not path.is_dir()] == []


@pytest.mark.parametrize("trick", hostile.MODULES)
async def test_a_submodule_leads_nowhere_else_and_runs_nothing(yard: Yard, trick: str) -> None:
    """R-GIT-1, R-GIT-4, R-GIT-5: also where submodules are filled."""
    library = Remote(yard.remote.path.with_name("library"))
    library.commit({"lib.py": "x = 1\n"})
    play(yard, hostile.MODULES[trick])
    with pytest.raises(StepFailed) as caught:
        await yard.release(submodules=True)
    assert caught.value.code in ("submodule-refused", "git-failed"), caught.value
    assert not list((yard.home / "releases").rglob(".homeport-release.json"))


async def test_a_link_of_a_submodule_does_not_leave_the_release(yard: Yard) -> None:
    """R-GIT-9"""
    library = Remote(yard.remote.path.with_name("library"))
    (library.path / "out").symlink_to("../../../../outside")
    tip = library.commit({"lib.py": "x = 1\n"})
    yard.remote.link(tip, "m", "../library")
    yard.remote.commit_index()
    with pytest.raises(StepFailed) as caught:
        await yard.release(submodules=True)
    assert caught.value.code == "tree-refused"
