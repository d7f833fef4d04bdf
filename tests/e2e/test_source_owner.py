"""Repositories that belong to somebody else: only root can make them."""

import os
from pathlib import Path

import pytest

from agent.adapters.source import GitSource
from agent.core.errors import StepFailed
from agent.core.settings import Source
from agent.system.secrets import Secrets
from tests.gitrepo import Remote

pytestmark = pytest.mark.root

SOMEBODY = 12345


def give_away(directory: Path) -> None:
    for path in (directory, *directory.rglob("*")):
        os.chown(path, SOMEBODY, SOMEBODY, follow_symlinks=False)


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    made = Remote(tmp_path / "host" / "app")
    made.commit({"app.py": "print(1)\n"})
    return made


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "srv").mkdir()
    return tmp_path / "srv"


def source_of(remote: Remote, home: Path, *, submodules: bool = False) -> GitSource:
    options = Source(repository=str(remote.path), submodules=submodules)
    return GitSource(options, home, Secrets({}))


async def test_a_mirror_of_another_user_is_not_worked_in(remote: Remote, home: Path) -> None:
    """F40: told with the way out; what its configuration names is not run."""
    tip = await source_of(remote, home).fetch()
    mirror = home / "mirror.git"
    with (mirror / "config").open("a") as config:
        config.write(f'[core]\n\talternateRefsCommand = "touch {home}/pwned"\n')
    give_away(mirror)
    source = source_of(remote, home)
    (home / "out").mkdir()
    for call in (source.fetch(), source.lay_out(tip, home / "out")):
        with pytest.raises(StepFailed) as caught:
            await call
        assert caught.value.code == "mirror-foreign"
        assert str(mirror) in caught.value.message
        assert str(SOMEBODY) in caught.value.message
        assert "chown" in caught.value.hint
    assert not (home / "pwned").exists()
    assert await source.peek() == tip
    mirror.rename(home.parent / "away")  # one of the two ways out
    assert await source.fetch() == tip


async def test_the_mirror_of_a_submodule_as_well(remote: Remote, home: Path) -> None:
    """F40"""
    library = Remote(remote.path.with_name("library"))
    remote.link(library.commit({"lib.py": "x = 1\n"}), "lib", "../library")
    remote.commit_index()
    source = source_of(remote, home, submodules=True)
    tip = await source.fetch()
    for name in ("a", "b"):
        (home / name).mkdir()
    await source.lay_out(tip, home / "a")
    give_away(home / "modules")
    with pytest.raises(StepFailed) as caught:
        await source.lay_out(tip, home / "b")
    assert caught.value.code == "mirror-foreign"


async def test_a_repository_of_another_user_is_gits_own_refusal(remote: Remote, home: Path) -> None:
    """F40: the configured repository is a path, and not the agent's."""
    give_away(remote.path)
    with pytest.raises(StepFailed) as caught:
        await source_of(remote, home).fetch()
    assert caught.value.code == "git-refused"
    assert "dubious ownership" in caught.value.message
    assert "own the repository" in caught.value.hint
