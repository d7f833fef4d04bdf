"""The main job as its user sees it: the installed command, real git, a real service, HTTP from outside."""

import hashlib
import hmac
import json
from collections.abc import Callable

import pytest

from tests.world import SECRET, Home, wait_for

pytestmark = pytest.mark.outside


def _state(deployment: dict[str, object]) -> tuple[object, object]:
    return deployment["state"], deployment["reason"]


def test_before_the_first_deployment_the_agent_is_healthy_and_the_service_none(home: Home) -> None:
    wait_for("the monitor", lambda: home.get("/health").document["services"]["app"] == "none")
    answer = home.get("/health")
    assert (answer.status, answer.document["status"]) == (200, "healthy")
    assert home.get("/status").document["services"]["app"]["live"] is None


def test_a_push_lands(home: Home) -> None:
    """F1 without the cut: delivery, backup, build, switch, health, live."""
    deployment = home.deploy("one")
    assert _state(deployment) == ("succeeded", "")
    assert [step["name"] for step in deployment["steps"]] == [
        "queued", "fetching", "building", "backing_up", "switching", "verifying",
    ]  # fmt: skip
    service = home.service()
    assert service is not None
    assert (service["version"], service["revision"]) == ("one", deployment["revision"])
    status = home.get("/status").document["services"]["app"]
    assert status["live"]["revision"] == deployment["revision"]
    assert status["live"]["release"] == home.current() == deployment["release"]
    assert status["last"]["id"] == deployment["id"]
    assert status["last_backup"]["id"] == deployment["backup"]
    wait_for("the monitor", lambda: home.get("/health").document["services"]["app"] == "healthy")


def test_the_service_gets_nothing_of_the_agents_environment(home: Home) -> None:
    home.deploy("one")
    service = home.service()
    assert service is not None
    mine = {"PATH", "HOME", "LANG", "HOMEPORT_SERVICE", "HOMEPORT_REVISION", "PORT"}
    assert set(service["environ"]) <= mine | {"LC_CTYPE", "PWD", "SHLVL", "_", "OLDPWD"}
    assert "CI_TOKEN" not in service["environ"]


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("sick", "health-timeout"),
        ("hang", "health-timeout"),
        ("silent", "health-timeout"),
        ("crash", "process-died"),
        ("late", "soak-failed"),
    ],
)
def test_a_broken_push_bounces_back(make_home: Callable[..., Home], mode: str, reason: str) -> None:
    """R-RB-1, F62, F63: the old version serves again, with its data, and the revision is quarantined."""
    home = make_home()
    health = home.settings["services"]["app"]["health"]
    health |= {"timeout": "2s", "soak": "1s"}
    if mode == "hang":
        health["probes"][0]["timeout"] = "1s"
    home.save()
    home.start()
    good = home.deploy("one")
    bad = home.deploy("two", mode)
    assert _state(bad) == ("rolled_back", reason)
    assert bad["hint"]
    service = home.service()
    assert service is not None
    assert service["version"] == "one"
    assert home.current() == good["release"]
    status = home.get("/status").document["services"]["app"]
    assert status["live"]["release"] == good["release"]
    assert [item["revision"] for item in status["quarantine"]] == [bad["revision"]]
    assert home.starts()[0] == "one"
    again = home.deliver(bad["revision"], body=home.push_body(bad["revision"]) + b" ")
    assert (again.status, again.document["reason"]) == (200, "quarantined")


def test_a_first_push_that_fails_has_nothing_to_go_back_to(home: Home) -> None:
    """F69."""
    deployment = home.deploy("one", "crash")
    assert _state(deployment) == ("failed", "no-fallback")
    assert home.service() is None
    assert home.get("/status").document["services"]["app"]["live"] is None
    assert home.deploy("two")["state"] == "succeeded"


def test_a_failing_build_touches_nothing(make_home: Callable[..., Home]) -> None:
    home = make_home()
    home.settings["services"]["app"]["deploy"]["build"] = {
        "commands": ["test ! -e broken || (echo no such thing; exit 3)"]
    }
    home.save()
    home.start()
    home.deploy("one")
    before = home.service()
    bad = home.deploy("two", broken="yes")
    assert _state(bad) == ("failed", "build-failed")
    assert home.service() == before, "the very same process"


def test_a_redelivery_changes_nothing(home: Home) -> None:
    """R-RX-13, R-RX-14: the same body is the same delivery, whatever its headers say."""
    revision = home.remotes["app"].commit("one")
    body = home.push_body(revision)
    first = home.deliver(revision, body=body)
    assert (first.status, first.document["decision"]) == (202, "deploy")
    placed = first.document["deployments"]
    home.ended(placed[0]["id"])
    process = home.service()
    for headers in ({}, {"X_GitHub_Delivery": "another"}, {"X_GitHub_Hook_ID": "99"}):
        again = home.deliver(revision, body=body, **headers)
        assert (again.status, again.document["decision"]) == (200, "duplicate")
        assert again.document["deployments"] == placed
    assert len(home.get("/api/v1/deployments").document["items"]) == 1
    assert home.service() == process


def test_a_signed_body_under_another_event_is_refused(home: Home) -> None:
    """R-RX-15."""
    revision = home.remotes["app"].commit("one")
    assert home.deliver(revision, event="ping").status == 400
    assert home.get("/api/v1/deployments").document["items"] == []


def test_a_wrong_signature_is_refused_and_leaves_no_trace(home: Home) -> None:
    """R-RX-3, R-RX-4."""
    revision = home.remotes["app"].commit("one")
    body = home.push_body(revision)
    good = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    wrong = "sha256=" + hmac.new(b"another secret, quite long", body, hashlib.sha256).hexdigest()
    for signature in (wrong, "", "sha1=abc", good.upper(), good + "0", good[:-1]):
        answer = home.deliver(revision, body=body, X_Hub_Signature_256=signature)
        assert answer.status == 401, signature
    assert home.get("/api/v1/deliveries").document["items"] == []
    assert home.get("/api/v1/deployments").document["items"] == []


def test_a_ping_is_answered_and_other_events_are_ignored(home: Home) -> None:
    """R-RX-17."""
    ping = home.deliver("", body=json.dumps({"zen": "x", "hook_id": 1, "hook": {}}).encode(), event="ping")
    assert (ping.status, ping.document["decision"]) == (200, "pong")
    star = home.deliver("", body=json.dumps({"action": "created"}).encode(), event="star")
    assert (star.status, star.document["decision"]) == (200, "ignored")
    assert star.document["reason"]


def test_two_bad_revisions_hold_the_service_until_a_person_resumes(make_home: Callable[..., Home]) -> None:
    """R-RB-4, F71."""
    home = make_home()
    home.start()
    good = home.deploy("one")
    for version in ("two", "three"):
        assert home.deploy(version, "crash")["state"] == "rolled_back"
    status = home.get("/status").document["services"]["app"]
    assert status["hold"] is not None
    wait_for("degraded", lambda: home.get("/health").document["status"] == "degraded")
    fix = home.remotes["app"].commit("four")
    held = home.deliver(fix)
    assert (held.status, held.document["decision"], held.document["reason"]) == (200, "ignored", "held")
    refused = home.post("/deploy")
    assert (refused.status, refused.document["code"]) == (409, "held")
    assert refused.document["hint"]
    home.kill()
    home.start()
    assert home.get("/status").document["services"]["app"]["hold"] is not None, "it survives a restart"
    service = home.service()
    assert service is not None
    assert service["version"] == "one"
    assert home.current() == good["release"]
    resumed = home.command("resume", "app")
    assert resumed.returncode == 0, resumed.stderr
    wait_for("the ignored fix to go live", lambda: (home.service() or {}).get("version") == "four")
    assert home.command("resume", "app").returncode == 0, "resuming what is not held is fine"


def test_a_person_deploys_by_command(home: Home) -> None:
    home.remotes["app"].commit("one")
    done = home.command("deploy", "--wait")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verifying" in done.stdout
    second = home.remotes["app"].commit("two")
    done = home.command("--json", "deploy", "app", "--revision", second, "--wait")
    assert json.loads(done.stdout)["deployment"]["state"] == "succeeded"
    again = home.command("deploy", "app", "--wait", "--json")
    assert json.loads(again.stdout)["deployment"]["reason"] == "already-live"
    process = home.service()
    forced = home.command("deploy", "app", "--wait", "--force")
    assert forced.returncode == 0
    assert home.service() != process
    unknown = home.command("deploy", "--revision", "f" * 40, "--wait")
    assert unknown.returncode == 1
    assert "revision-unknown" in unknown.stdout
    assert home.command("deploy", "nobody").returncode == 2
    status = home.command("status")
    assert status.returncode == 0
    assert "app: " in status.stdout


def test_without_an_agent_a_command_says_so(make_home: Callable[..., Home]) -> None:
    done = make_home().command("status")
    assert done.returncode == 69
    assert "homeport serve" in done.stderr


@pytest.mark.parametrize("how", ["gone", "damaged"])
def test_an_unreadable_backup_source_stops_the_deployment(home: Home, how: str) -> None:
    """R-BK-15, F83: nothing is deployed without a verified backup, and nothing is touched for it."""
    home.deploy("one")
    assert home.command("backup", "create", "app").returncode == 0, "the last backup has the file"
    before = home.service()
    data = home.directory / "srv/app/shared/data"
    for file in data.iterdir():
        file.unlink()
    if how == "damaged":
        (data / "app.db").write_bytes(b"this is no database any more" * 1000)
    bad = home.deploy("two")
    assert bad["state"] == "failed"
    assert str(bad["reason"]).startswith("backup-")
    assert bad["hint"]
    assert home.service() == before, "the very same process"
    assert home.get("/status").document["services"]["app"]["quarantine"] == []


def test_saved_data_that_is_gone_stops_the_deployment(make_home: Callable[..., Home]) -> None:
    """F83: with what is saved by default. It is not made anew, empty, to be backed up as if it were whole."""
    home = make_home(backup={})
    home.start()
    home.deploy("one")
    before = home.service()
    data = home.srv / "app/shared/data"
    data.rename(data.with_name("unmounted"))
    bad = home.deploy("two")
    assert (bad["state"], bad["reason"]) == ("failed", "backup-source-gone")
    assert not data.exists()
    assert home.service() == before, "the very same process"
    data.with_name("unmounted").rename(data)
    assert home.command("deploy", "--wait").returncode == 0


def test_two_services_in_one_agent_do_not_touch_each_other(make_home: Callable[..., Home]) -> None:
    home = make_home("app", "other")
    home.start()
    assert home.deploy("one", name="app")["state"] == "succeeded"
    assert home.deploy("eins", name="other")["state"] == "succeeded"
    before = home.service("other")
    assert home.deploy("two", "crash", name="app")["state"] == "rolled_back"
    assert home.service("other") == before
    ambiguous = home.command("deploy")
    assert ambiguous.returncode == 2
    assert home.deploy("zwei", name="other")["state"] == "succeeded"
    assert home.starts("other") == ["eins", "zwei"]
    assert set(home.get("/status").document["services"]) == {"app", "other"}


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_the_service_outlives_the_agent(home: Home, how: str) -> None:
    """R-SD-12 and CONTRACT: the next agent adopts the same process."""
    home.deploy("one")
    process = home.service()
    if how == "stop":
        assert home.stop() == 0
    else:
        home.kill()
    assert home.service() == process
    home.start()
    assert home.service() == process
    wait_for("the monitor", lambda: home.get("/health").document["services"]["app"] == "healthy")
    assert home.deploy("two")["state"] == "succeeded"
    after = home.service()
    assert after is not None
    assert (after["version"], home.starts()) == ("two", ["one", "two"])


def test_a_second_agent_is_refused(home: Home) -> None:
    """R-SD-11, F78."""
    second = home.command("serve", "--config", str(home.config))
    assert second.returncode == 75
    assert "already running" in second.stderr
    assert home.answers()


def test_a_taken_port_is_told(make_home: Callable[..., Home]) -> None:
    """F77."""
    first, second = make_home(), make_home()
    first.start()
    second.settings["listen"]["port"] = first.port
    second.save()
    done = second.command("serve", "--config", str(second.config))
    assert done.returncode == 75
    assert str(first.port) in done.stderr


def test_an_invalid_file_never_starts(make_home: Callable[..., Home]) -> None:
    """F79: every problem at once."""
    home = make_home()
    home.settings["services"]["app"]["helth"] = {}
    home.settings["listen"]["port"] = "many"
    home.save()
    for words in (("serve", "--config", str(home.config)), ("check", str(home.config))):
        done = home.command(*words)
        assert done.returncode == 78
        told = done.stdout + done.stderr
        assert "helth" in told
        assert "health" in told
        assert "port" in told


def test_backups_are_made_listed_verified_and_brought_back(home: Home) -> None:
    home.deploy("one")
    made = home.command("backup", "create", "app", "--json")
    assert made.returncode == 0, made.stderr
    backup = json.loads(made.stdout)
    assert backup["state"] == "ok"
    listed = json.loads(home.command("backup", "list", "--json").stdout)["items"]
    assert listed[0]["id"] == backup["id"]
    assert home.command("backup", "verify", backup["id"]).returncode == 0
    target = home.directory / "back"
    restored = home.command("backup", "restore", backup["id"], "--to", str(target))
    assert restored.returncode == 0, restored.stderr
    (database,) = target.rglob("app.db")
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT version FROM starts").fetchall() == [("one",)]
    assert home.command("backup", "verify", "no-such-backup").returncode in (1, 2)


def test_no_secret_is_ever_told(home: Home) -> None:
    """R-RX-31."""
    home.deploy("one")
    home.deploy("two", "crash")
    home.command("backup", "create", "app")
    told = [home.log.read_text()]
    for path in ("/", "/status", "/health", "/api/v1/deployments", "/api/v1/deliveries", "/api/v1/events",
                 "/api/v1/backups", "/api/v1/services"):  # fmt: skip
        answer = home.get(path)
        assert answer.status == 200, path
        told.append(json.dumps(answer.document, default=repr))
    told += [file.read_bytes().decode("latin-1") for file in home.state.rglob("*") if file.is_file()]
    for text in told:
        assert SECRET not in text
        assert "a-token-of-the-tests" not in text
