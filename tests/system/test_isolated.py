"""The program of homeport-build@.service: what it refuses, and how it gives back what was built.

What it runs, and what is told of that, is in contracts/test_builder.py and e2e/test_isolated_builds.py."""

import hashlib
import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from agent.system import isolated
from tests.contracts.runner import RUNNER
from tests.system.test_files import nest

NAME = "1-aaaaaaa"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A service's directory with a release, a recipe and a request."""
    (tmp_path / "releases" / NAME).mkdir(parents=True)
    (tmp_path / "out").mkdir()
    (tmp_path / ".building").symlink_to(f"releases/{NAME}")
    recipe: dict[str, object] = {
        "service": "x", "directory": str(tmp_path), "commands": ["touch ran"], "always": [],
        "migrate": ["touch migrated"], "environment": {}, "build_environment": {}, "memory": None,
    }  # fmt: skip
    (tmp_path / "x.json").write_text(json.dumps(recipe))
    ask(tmp_path)
    return tmp_path


def ask(home: Path, **other: str) -> None:
    digest = hashlib.sha256((home / "x.json").read_bytes()).hexdigest()
    request = {"act": "build", "revision": "a" * 40, "recipe": digest, "run": "1"} | other
    (home / ".building-request").write_text(json.dumps(request))


def run(home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {
        "PATH": os.environ["PATH"],
        "HOMEPORT_RECIPES": str(home),
        "RUNTIME_DIRECTORY": str(home / "out"),
    }
    return subprocess.run(
        [*RUNNER, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def ran(home: Path) -> bool:
    return (home / "releases" / NAME / "ran").exists()


def test_what_root_allowed_is_run_in_the_release(home: Path) -> None:
    done = run(home, "build", "x")
    assert (done.returncode, done.stderr) == (0, "")
    assert ran(home)


def test_a_request_is_carried_out_once(home: Path) -> None:
    assert run(home, "build", "x").returncode == 0
    (home / "releases" / NAME / "ran").unlink()
    assert run(home, "build", "x").returncode == isolated.REFUSED
    assert not ran(home)
    ask(home, run="2")
    assert run(home, "build", "x").returncode == 0


@pytest.mark.parametrize(
    "left",
    [
        "mkdir -p run/in",
        "mkdir -p x/y; chmod 0 x/y x",
        "mkfifo run",
        "mkfifo .run.partial",
        "ln -s /dev/zero run",
    ],
)
def test_whatever_an_earlier_build_left_where_it_prints_is_no_bar(home: Path, left: str) -> None:
    """Else one bad push would keep all that follow from being built."""
    subprocess.run(["/bin/sh", "-c", left], cwd=home / "out", check=True)
    done = run(home, "build", "x")
    assert (done.returncode, done.stderr) == (0, "")
    assert ran(home)


def test_each_unit_does_its_own(home: Path) -> None:
    ask(home, act="migrate")
    assert run(home, "migrate", "x").returncode == 0
    assert (home / "releases" / NAME / "migrated").exists()
    ask(home, run="2")
    assert run(home, "migrate", "x").returncode == isolated.REFUSED
    assert not ran(home)


@pytest.mark.parametrize(
    "other",
    [{"recipe": "0" * 64}, {"revision": "main"}, {"revision": "$(id)"}, {"act": "migrate"}, {"act": "sh"}],
)
def test_another_request_is_refused(home: Path, other: dict[str, str]) -> None:
    ask(home, **other)
    assert run(home, "build", "x").returncode == isolated.REFUSED
    assert not ran(home)


@pytest.mark.parametrize(
    "name",
    [
        "../../etc",
        "/etc",
        "releases/..",
        "releases/x",
        "releases/2-bbbbbbb",
        "current",
        "1-aaaaaaa",
        "./releases/1-aaaaaaa",
    ],
)
def test_what_is_no_release_is_refused(home: Path, name: str) -> None:
    (home / ".building").unlink()
    (home / ".building").symlink_to(name)
    assert run(home, "build", "x").returncode == isolated.REFUSED
    assert not ran(home)


@pytest.mark.parametrize("which", ["releases", f"releases/{NAME}", ".building-request"])
def test_a_link_on_the_way_is_not_followed(home: Path, which: str) -> None:
    (home / which).rename(home / "moved")
    (home / which).symlink_to(home / "moved")
    assert run(home, "build", "x").returncode == isolated.REFUSED
    assert not (home / "moved" / "ran").exists()


@pytest.mark.parametrize(
    "words", [(), ("build",), ("build", "../x"), ("build", "stranger"), ("build", "x", "y")]
)
def test_another_service_is_refused(home: Path, words: tuple[str, ...]) -> None:
    assert run(home, *words).returncode == isolated.REFUSED
    assert not ran(home)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_what_was_closed_is_opened_for_the_group_that_is_the_mask(home: Path) -> None:
    """And nothing beyond the release, where a link leads."""
    release, beyond = home / "releases" / NAME, home / "beyond"
    beyond.write_text("")
    beyond.chmod(0o600)
    (release / "a/b").mkdir(parents=True)
    (release / "a/b/program").write_text("")
    (release / "a/b/program").chmod(0o700)
    (release / "a/b/text").write_text("")
    (release / "a/b/text").chmod(0o600)
    (release / "a/b").chmod(0)
    (release / "link").symlink_to(beyond)
    assert run(home, "give-back", "x").returncode == 0
    assert mode(release / "a/b") == 0o770
    assert (mode(release / "a/b/program"), mode(release / "a/b/text")) == (0o770, 0o660)
    assert mode(beyond) == 0o600


def test_what_the_agent_could_not_remove_is_removed_as_an_act(home: Path) -> None:
    """However deep and closed; and nothing beyond the release, where a link leads."""
    release, beyond = home / "releases" / NAME, home / "beyond"
    beyond.mkdir()
    (beyond / "precious").write_text("")
    (release / "link").symlink_to(beyond)
    (release / "closed/in").mkdir(parents=True)
    (release / "closed").chmod(0)
    nest(release)
    ask(home, act="give-back")
    assert run(home, "build", "x").returncode == 0
    assert list(release.iterdir()) == []
    assert (beyond / "precious").exists()
    assert not ran(home)
