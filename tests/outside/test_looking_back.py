"""What was deployed, what it printed, what GitHub sent: the commands that look back, and the one that makes secrets."""

import json
import os
import pty
import stat
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.world import Home, wait_for

pytestmark = pytest.mark.outside


def test_the_history_tells_each_deployment_newest_first(make_home: Callable[..., Home]) -> None:
    home = make_home("app", "other")
    home.start()
    empty = home.command("history")
    assert (empty.returncode, empty.stdout.count("\n")) == (0, 1)
    assert "homeport deploy" in empty.stdout
    good, bad = home.deploy("one"), home.deploy("two", "crash")
    other = home.deploy("eins", name="other")
    home.command("deploy", "app", "--wait")
    told = home.command("history")
    assert told.returncode == 0, told.stderr
    head, *lines = told.stdout.splitlines()
    assert head.split() == [
        "DEPLOYMENT",
        "BEGUN",
        "SERVICE",
        "REVISION",
        "ASKED",
        "BY",
        "STATE",
        "TOOK",
        "OUTAGE",
        "REASON",
    ]
    assert [line.split()[0] for line in lines][1:] == [other["id"], bad["id"], good["id"]]
    row = next(line for line in lines if bad["id"] in line)
    for word in ("app", bad["revision"][:7], "push by me", "rolled_back", "process-died", " s  "):
        assert word in row
    assert "already-live" not in lines[1]
    only = home.command("history", "other").stdout.splitlines()
    assert [line.split()[0] for line in only[1:]] == [other["id"]]
    limited = json.loads(home.command("history", "--limit", "2", "--json").stdout)
    assert len(limited["items"]) == 2
    assert limited["next"]
    assert limited["items"][1] == other
    assert "\x1b" not in told.stdout, "colour only on a terminal"
    for words in (("history", "nobody"), ("history", "--limit", "0"), ("history", "--limit", "many")):
        assert home.command(*words).returncode == 2


def test_on_a_terminal_a_state_has_its_colour(home: Home) -> None:
    home.deploy("one")
    master, slave = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "agent", "history"], env=home.environment(), stdout=slave, cwd=home.directory,
            timeout=60, check=True,
        )  # fmt: skip
        os.close(slave)
        assert b"\x1b[32msucceeded\x1b[0m" in os.read(master, 65536)
        assert done.returncode == 0
    finally:
        os.close(master)


def test_logs_finds_a_deployment_by_every_name_that_a_person_has_for_it(
    make_home: Callable[..., Home],
) -> None:
    home = make_home("app", "other")
    for name in ("app", "other"):
        home.settings["services"][name]["deploy"]["build"] = {
            "commands": [f"echo this is $(cat version) of {name}"]
        }
    home.save()
    home.start()
    assert home.command("logs", "latest").returncode == 2
    assert home.command("logs", "app").returncode == 2
    first, second = home.deploy("one"), home.deploy("two")
    other = home.deploy("eins", name="other")
    names = {
        first["id"]: "one of app", second["id"]: "two of app", second["id"][:7]: "two of app",
        "app": "two of app", "other": "eins of other", "latest": "eins of other",
    }  # fmt: skip
    for name, words in names.items():
        done = home.command("logs", name)
        assert done.returncode == 0, done.stderr
        assert f"this is {words}" in done.stdout, name
        assert done.stdout.startswith("--- building\n")
    document = json.loads(home.command("logs", other["id"], "--json").stdout)
    assert document["id"] == other["id"]
    assert "eins of other" in document["log"]
    for name in ("f" * 12, "zzz", "", "../../x"):
        done = home.command("logs", name)
        assert done.returncode == 2, name
        assert done.stderr.count("\n") == 2, "a sentence, and what to do"


def test_logs_follows_a_deployment_to_its_end(home: Home) -> None:
    home.settings["services"]["app"]["deploy"]["build"] = {
        "commands": ["echo begins; while test ! -e ../../go; do sleep 0.05; done; echo ends"]
    }
    home.save()
    assert home.command("reload").returncode == 0
    identity = home.push("one")
    wait_for("the build", lambda: home.deployment(identity)["state"] == "building")
    with subprocess.Popen(
        [sys.executable, "-m", "agent", "logs", "latest", "--follow"], env=home.environment(), cwd=home.directory,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as following:  # fmt: skip
        assert following.poll() is None
        (home.srv / "app" / "go").touch()
        printed, told = following.communicate(timeout=60)
    assert following.returncode == 0
    assert [line for line in printed.splitlines() if not line.startswith("$")][:3] == [
        "--- building",
        "begins",
        "ends",
    ]
    assert "succeeded" in told
    assert home.command("logs", identity, "--follow").stdout == printed, "of what has ended, all at once"


def test_deliveries_tells_what_came_and_why_nothing_was_done(home: Home) -> None:
    assert "Recent Deliveries" in home.command("deliveries").stdout
    deployment = home.deploy("one")
    star = home.deliver("", body=b'{"action": "created"}', event="star").document
    ping = home.deliver("", body=b'{"zen": "x", "hook_id": 1, "hook": {}}', event="ping").document
    wait_for("the batch", lambda: len(home.get("/api/v1/deliveries").document["items"]) == 3)
    told = home.command("deliveries").stdout
    rows: list[tuple[str, ...]] = [
        ("push", "deploy", deployment["id"]),
        ("star", "event-ignored"),
        ("ping", "pong"),
    ]
    for row in rows:
        assert any(all(word in line for word in row) for line in told.splitlines()), row
    one = home.command("deliveries", deployment["trigger"]["delivery"]).stdout
    for word in (
        "push",
        "me/app",
        "refs/heads/main",
        deployment["revision"][:7],
        "decision deploy",
        "succeeded",
    ):
        assert word in one
    assert "choose others in GitHub's webhook" in home.command("deliveries", star["delivery"]).stdout
    document = json.loads(home.command("deliveries", ping["delivery"], "--json").stdout)
    assert document["decision"] == "pong"
    assert len(json.loads(home.command("deliveries", "--limit", "1", "--json").stdout)["items"]) == 1
    assert home.command("deliveries", "no-such-guid").returncode == 2


def test_a_secret_is_made_and_none_is_overwritten(make_home: Callable[..., Home]) -> None:
    home = make_home()
    printed = [home.command("secret").stdout.strip() for _ in range(2)]
    assert all(len(bytes.fromhex(secret)) == 32 for secret in printed)
    assert len(set(printed)) == 2
    path = home.directory / "webhook"
    made = home.command("secret", "--bytes", "48", "--out", str(path))
    assert made.returncode == 0
    assert made.stdout == f"{path} holds a new secret, which only you may read.\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    secret = path.read_text()
    assert len(bytes.fromhex(secret.strip())) == 48
    again = home.command("secret", "--out", str(path))
    assert (again.returncode, path.read_text()) == (1, secret)
    assert "never overwritten" in again.stderr
    (home.directory / "link").symlink_to(home.directory / "nowhere")
    assert home.command("secret", "--out", str(home.directory / "link")).returncode == 1
    assert home.command("secret", "--out", str(home.directory / "no" / "such")).returncode == 1
    for wrong in ("15", "1025", "-1", "many"):
        assert home.command("secret", "--bytes", wrong).returncode == 2
    home.settings["github"]["webhook_secrets"] = [{"file": str(path)}]
    home.save()
    assert home.command("check", str(home.config)).returncode == 0, "it is one that the agent takes"
