"""Builds that reuse, builds that are heard, and migrations, as a user has them: the installed command, from outside."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.world import Home, wait_for

pytestmark = pytest.mark.outside

COUNTED = "echo $HOMEPORT_REVISION >> $COUNT"
MIGRATE = """
import os, pathlib, sqlite3, time
here = pathlib.Path(os.environ["HOME"])
(here / "migrating").write_text(str(os.getpid()))
while (here / "wait-unlocked").exists():
    time.sleep(0.01)
data = sqlite3.connect("data/app.db", timeout=10)
data.execute("CREATE TABLE IF NOT EXISTS notes(text TEXT)")
data.execute("INSERT INTO notes VALUES('half')")
while (here / "wait").exists():
    time.sleep(0.01)
if pathlib.Path("broken").exists():
    raise SystemExit("no such column")
data.execute("UPDATE notes SET text = 'whole'")
data.commit()
print("migrated")
"""


@pytest.fixture
def reusing(make_home: Callable[..., Home]) -> Home:
    """An agent whose builds are counted in a file, and whose service runs from what was built."""
    home = make_home()
    app = home.settings["services"]["app"]
    app["deploy"] |= {
        "build": {
            "commands": [COUNTED, f"mkdir -p deps/bin && ln -s {sys.executable} deps/bin/python"],
            "always": ["cat version > dist"],
            "environment": {"COUNT": str(home.directory / "builds")},
            "reuse": {"key": ["requirements.txt"], "paths": ["deps"]},
        },
        "keep_releases": 1,
    }
    app["runtime"]["command"] = ["deps/bin/python", "-S", "-E", "serve.py"]
    home.save()
    home.remotes["app"].write("requirements.txt", "one")
    home.start()
    return home


def builds(home: Home) -> list[str]:
    return (home.directory / "builds").read_text().split()


def test_an_unchanged_requirements_file_is_not_installed_again(reusing: Home) -> None:
    """R-RB-11: counted, not timed; after pruning the builder still stands, and a rollback to who links works."""
    home = reusing
    first = home.deploy("1")
    *_, before, last = [home.deploy(str(number)) for number in range(2, 6)]
    assert last["state"] == "succeeded"
    assert builds(home) == [first["revision"]]
    current = home.srv / "app" / "current"
    assert str((current / "deps").readlink()) == f"../{first['release']}/deps"
    assert (current / "dist").read_text() == "5"
    kept = {first["release"], before["release"], last["release"]}
    wait_for("the pruning", lambda: {path.name for path in (home.srv / "app/releases").iterdir()} == kept)
    bad = home.deploy("6", "crash")
    assert (bad["state"], home.service()["version"]) == ("rolled_back", "5")  # type: ignore[index]
    changed = home.deploy("7", requirements__txt="two")
    assert changed["state"] == "succeeded"
    assert builds(home) == [first["revision"], changed["revision"]]
    home.kill()
    home.start()
    assert home.service()["version"] == "7"  # type: ignore[index]


def test_what_a_build_prints_can_be_read_while_it_runs(make_home: Callable[..., Home]) -> None:
    home = make_home()
    home.settings["services"]["app"]["deploy"]["build"] = {
        "commands": ["echo installing; while ! [ -e $HOME/go ]; do sleep 0.05; done; echo done"]
    }
    home.save()
    home.start()
    identity = home.push("one")
    path = f"/api/v1/deployments/{identity}/log"
    wait_for("the build's first line", lambda: b"\ninstalling\n" in bytes(home.get(path).document))
    assert home.deployment(identity)["state"] == "building"
    (home.directory / "go").touch()
    assert home.ended(identity)["state"] == "succeeded"
    assert bytes(home.get(path).document).endswith(b"\ninstalling\ndone\n")


@pytest.fixture
def migrating(make_home: Callable[..., Home]) -> Home:
    """An agent whose service has a database to migrate."""
    home = make_home()
    app: dict[str, Any] = home.settings["services"]["app"]
    app["deploy"]["migrate"] = [f"{sys.executable} -S -E migrate.py"]
    app["health"]["timeout"] = "20s"
    home.save()
    home.remotes["app"].write("migrate.py", MIGRATE)
    home.start()
    return home


def notes(home: Home) -> list[str]:
    with closing(sqlite3.connect(home.srv / "app/shared/data/app.db")) as data:
        return [row[0] for row in data.execute("SELECT text FROM notes")]


def test_a_migration_that_fails_keeps_the_old_process_and_its_data(migrating: Home) -> None:
    """R-RB-9"""
    home = migrating
    good = home.deploy("one")
    assert (good["state"], notes(home)) == ("succeeded", ["whole"])
    before = home.service()
    bad = home.deploy("two", broken="yes")
    assert (bad["state"], bad["reason"]) == ("failed", "migrate-failed")
    assert bad["hint"].endswith(f"The schema was migrated; pre-deploy backup {bad['backup']}.")
    assert home.service() == before, "the very same process"
    assert home.current() == good["release"]
    assert notes(home) == ["whole"], "what was not committed is gone"
    log = bytes(home.get(f"/api/v1/deployments/{bad['id']}/log").document)
    assert log.endswith(b"no such column\n")
    status = home.get("/status").document["services"]["app"]
    assert [item["reason"] for item in status["quarantine"]] == ["migrate-failed"]
    assert home.get(f"/api/v1/backups/{bad['backup']}").document["state"] == "ok"


def test_an_agent_that_is_killed_in_the_middle_of_a_migration_goes_on_with_it(migrating: Home) -> None:
    """F8: the old version serves meanwhile, what was left migrating is ended, and one new version comes of it."""
    home = migrating
    home.deploy("one")
    before = home.service()
    (home.directory / "wait").touch()
    (home.directory / "migrating").unlink()
    identity = home.push("two")
    left = int(wait_for("the migration", lambda: text_of(home.directory / "migrating")))
    assert home.service() == before
    home.kill()
    assert home.service() == before
    assert alive(left), "it outlives the agent"
    (home.directory / "migrating").unlink()
    home.start()
    again = int(wait_for("the migration again", lambda: text_of(home.directory / "migrating")))
    assert not alive(left), "two of them would write into the same data"
    assert again != left
    assert home.service() == before
    (home.directory / "wait").unlink()
    ended = home.ended(identity)
    assert (ended["state"], ended["reason"]) == ("succeeded", "")
    assert [step["state"] for step in ended["steps"] if step["name"] == "switching"] == [
        "interrupted",
        "done",
    ]
    assert home.service()["version"] == "two"  # type: ignore[index]
    assert notes(home) == ["whole", "whole"]


def test_after_a_power_cut_in_a_migration_the_old_version_serves_before_it_goes_on(migrating: Home) -> None:
    """F8"""
    home = migrating
    home.deploy("one")
    (home.directory / "wait-unlocked").touch()
    (home.directory / "migrating").unlink()
    identity = home.push("two")
    wait_for("the migration", lambda: text_of(home.directory / "migrating"))
    home.kill()
    for session in home.sessions():  # as a reboot does
        os.killpg(session, signal.SIGKILL)
    wait_for("the end of everything", lambda: not home.sessions())
    home.start()
    wait_for("the old version", lambda: (home.service() or {}).get("version") == "one")
    assert home.deployment(identity)["state"] == "switching"
    (home.directory / "wait-unlocked").unlink()
    assert home.ended(identity)["state"] == "succeeded"
    assert home.service()["version"] == "two"  # type: ignore[index]


def text_of(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def alive(pid: int) -> bool:
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return bool(done.stdout.strip()) and not done.stdout.startswith("Z")


@pytest.mark.parametrize("killed", [False, True], ids=["undisturbed", "killed"])
@pytest.mark.parametrize("choice", ["never", "if-migrated"])
def test_after_a_migration_a_rollback_brings_the_data_back_if_it_is_told_to(
    migrating: Home, choice: str, killed: bool
) -> None:
    """R-RB-9: the choice decides, also when the agent is killed on the way back; what was replaced is kept."""
    home = migrating
    home.settings["services"]["app"]["rollback"] = {"restore_data": choice}
    home.settings["services"]["app"]["health"]["timeout"] = "2s"
    home.save()
    assert home.command("reload").returncode == 0
    assert (home.deploy("one")["state"], notes(home)) == ("succeeded", ["whole"])
    identity = home.push("two", "sick")
    if killed:
        wait_for("the way back", lambda: home.deployment(identity)["state"] == "rolling_back")
        home.kill()
        home.start()
    bad = home.ended(identity)
    assert (bad["state"], bad["reason"]) == ("rolled_back", "health-timeout")
    service = home.service()
    assert service is not None
    assert service["version"] == "one"
    kept = list((home.srv / "app/shared").rglob("*.pre-restore-*"))
    if choice == "never":
        assert (notes(home), kept) == (["whole", "whole"], [])
        assert bad["backup"] in bad["hint"]
    else:
        assert (notes(home), len(kept)) == (["whole"], 1)
        assert bad["steps"][-1]["detail"].endswith(f"the data of backup {bad['backup']} was restored")
