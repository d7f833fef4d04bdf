"""Backups as their user needs them: the installed command, a real service, a real bad day."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.world import SERVE, Home, wait_for

pytestmark = pytest.mark.outside

OPENED = 'data.execute("CREATE TABLE IF NOT EXISTS starts(version TEXT)")'
FORGETFUL = SERVE.replace(
    OPENED, f'{OPENED}\ndata.execute("DELETE FROM starts")\ndata.execute("CREATE TABLE more(x)")'
)
"""A version that passes every check, and has lost the data."""
NEEDY = SERVE.replace(OPENED, f'{OPENED}\ndata.execute("SELECT x FROM more")')
"""A version that cannot live with the data of before."""


def push(home: Home, version: str, program: str) -> dict[str, Any]:
    home.remotes["app"].write("serve.py", program)
    return home.deploy(version)


def data(home: Home) -> Path:
    return home.srv / "app" / "shared" / "data"


def backups_of(home: Home) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = home.get("/api/v1/backups").document["items"]
    return found


def leftovers(home: Home) -> list[Path]:
    return [path for path in (home.srv / "app" / "shared").rglob("*") if ".partial" in path.name]


@pytest.fixture
def ruined(home: Home) -> tuple[Home, str]:
    """Two good versions and one that lost the data; the backup from before it."""
    home.deploy("one")
    home.deploy("two")
    bad = push(home, "three", FORGETFUL)
    assert bad["state"] == "succeeded"
    assert home.starts() == ["three"]
    return home, bad["backup"]


def test_data_that_a_bad_version_lost_comes_back_in_its_place(ruined: tuple[Home, str]) -> None:
    """R-BK-7."""
    home, backup = ruined
    dry = home.command("backup", "restore", backup, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "shared/data" in dry.stdout
    assert "starts" in dry.stdout
    assert home.starts() == ["three"]
    done = home.command("backup", "restore", backup, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    restore = json.loads(done.stdout)
    assert (restore["state"], restore["backup"]) == ("done", backup)
    service = wait_for("the service", home.service)
    assert service["version"] == "three"
    assert home.starts() in (["three"], ["one", "two", "three"])
    assert home.starts()[-1] == "three"
    (kept,) = [Path(swap["kept"]) for swap in restore["swaps"]]
    with closing(sqlite3.connect(f"file:{kept / 'app.db'}?mode=ro", uri=True)) as connection:
        assert connection.execute("SELECT version FROM starts").fetchall() == [("three",)]
    assert leftovers(home) == []
    saved = home.get(f"/api/v1/backups/{restore['saved']}").document
    assert saved["state"] == "ok"


def test_a_rollback_and_then_the_old_rows(home: Home) -> None:
    """What a person does after a version lost the data: the old version, and its data."""
    home.deploy("one")
    home.deploy("two")
    bad = push(home, "three", FORGETFUL)
    assert push(home, "four", SERVE)["state"] == "succeeded"
    assert home.starts() == ["three", "four"]
    done = home.command("backup", "restore", bad["backup"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "restored" in done.stdout
    assert "kept:" in done.stdout
    assert home.starts() == ["one", "two", "four"]
    assert wait_for("the service", home.service)["version"] == "four"


def test_data_with_which_the_service_is_sick_is_put_back(ruined: tuple[Home, str]) -> None:
    """R-BK-7: exit status 1, and the service answers with what it had."""
    home, backup = ruined
    assert push(home, "four", NEEDY)["state"] == "succeeded"
    rows = home.starts()
    done = home.command("backup", "restore", backup)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "put_back" in done.stdout
    assert "in its place again" in done.stdout
    assert wait_for("the service", home.service)["version"] == "four"
    assert home.starts() == [*rows, "four"]
    assert leftovers(home) == []
    assert not list((home.srv / "app" / "shared").glob("*.pre-restore-*"))
    restores = [item["name"] for item in home.get("/api/v1/events?limit=50").document["items"]]
    assert "restore.put_back" in restores


def test_data_that_is_gone_needs_a_word_and_comes_back(ruined: tuple[Home, str]) -> None:
    home, backup = ruined
    push(home, "four", SERVE)
    data(home).rename(home.directory / "lost")
    refused = home.command("backup", "restore", backup)
    assert refused.returncode == 1
    assert "--without-backup" in refused.stderr
    done = home.command("backup", "restore", backup, "--without-backup")
    assert done.returncode == 0, done.stdout + done.stderr
    assert home.starts() == ["one", "two", "four"]


def test_a_drill_is_shown_by_the_status(home: Home) -> None:
    """R-BK-8."""
    home.deploy("one")
    assert home.command("backup", "create", "app").returncode == 0
    assert "never" in home.command("status").stdout
    done = home.command("backup", "drill", "app", "--json")
    assert done.returncode == 0, done.stderr
    proof = json.loads(done.stdout)
    assert proof["tables"] == {"shared/data/app.db": {"starts": 1}}
    assert home.get("/status").document["services"]["app"]["last_proven_restore"] == proof
    assert f"proven   {proof['id']}" in home.command("status").stdout
    assert "1 row in 1 table" in home.command("backup", "drill", "app").stdout


def test_old_backups_go_by_the_rules_of_the_configuration(make_home: Callable[..., Home]) -> None:
    """R-BK-10: and never the one before what is live."""
    home = make_home()
    home.settings["services"]["app"]["backup"]["keep"] = {"last": 2, "daily": 0, "weekly": 0}
    home.save()
    home.start()
    deployments = [home.deploy(version) for version in ("one", "two", "three", "four")]
    needed = {item["backup"] for item in deployments[2:]}
    wait_for("the lane to tidy", lambda: {item["id"] for item in backups_of(home)} == needed)
    for _ in range(4):
        assert home.command("backup", "create", "app").returncode == 0
    listed = [item["id"] for item in backups_of(home)]
    assert len(listed) == 4
    assert needed <= set(listed)
    assert home.command("backup", "prune", "--dry-run").stdout == "app: 0 backups would go\n"
    pruned = json.loads(home.command("backup", "prune", "app", "--json").stdout)
    assert [item["service"] for item in pruned["items"]] == ["app"]
    assert home.command("backup", "prune", "nobody").returncode == 2
