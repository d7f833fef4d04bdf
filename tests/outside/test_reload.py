"""The configuration file changes under a running agent: the installed command, signals, and deliveries meanwhile."""

import copy
import hashlib
import hmac
import json
import os
import secrets
import signal
import threading
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from tests.world import SECRET, Home, free_port, wait_for

pytestmark = pytest.mark.outside

Make = Callable[..., Home]


def reload(home: Home) -> dict[str, Any]:
    home.save()
    done = home.command("reload", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def config(home: Home) -> dict[str, Any]:
    found: dict[str, Any] = home.get("/status").document["agent"]["config"]
    return found


def events(home: Home) -> list[str]:
    return [event["name"] for event in home.get("/api/v1/events?limit=200").document["items"]]


def test_an_invalid_file_keeps_the_old_settings_and_is_told_everywhere(home: Home) -> None:
    """R-SD-8, F79: the answer has every problem, /health and /status say so until a good reload."""
    good = copy.deepcopy(home.settings)
    begun = config(home)
    assert begun["file"] == str(home.config)
    assert (begun["stale"], begun["problems"]) == (False, [])
    home.settings["services"]["app"]["helth"] = {}
    home.settings["monitor"]["every"] = "often"
    home.settings["access"]["tokens"][0]["secret"] = {"env": "NO_SUCH_VARIABLE"}
    home.save()
    done = home.command("reload")
    assert done.returncode == 78
    checked = home.command("check", str(home.config))
    assert done.stderr == checked.stdout.rpartition("3 problems\n")[0], "printed like `check`"
    answer = home.post("/api/v1/reload")
    assert (answer.status, answer.document["code"]) == (422, "config-invalid")
    assert {problem["path"] for problem in answer.document["problems"]} == {
        "services.app.helth", "monitor.every", "access.tokens[0].secret",
    }  # fmt: skip
    assert home.get("/health").document["status"] == "degraded"
    told = config(home)
    assert (told["stale"], told["loaded_at"]) == (True, begun["loaded_at"])
    assert len(told["problems"]) == 3
    assert "is invalid" in home.command("status").stdout
    assert "config.invalid" in events(home)
    assert home.deploy("one")["state"] == "succeeded", "the old settings are in force"
    home.settings = good
    answer_of_good = reload(home)
    assert answer_of_good["changed"] == []
    told = config(home)
    assert (told["stale"], told["problems"]) == (False, [])
    assert told["loaded_at"] == answer_of_good["loaded_at"] > begun["loaded_at"]
    wait_for("health", lambda: home.get("/health").document["status"] == "healthy")


@pytest.mark.parametrize("content", ["", "services: {app: {source: {repo", "services: [", None])
def test_what_an_editor_left_half_written_is_not_taken_up(home: Home, content: str | None) -> None:
    """F79."""
    whole = home.config.read_text()
    if content is None:
        home.config.unlink()
    else:
        home.config.write_text(content)
    assert home.command("reload").returncode == 78
    assert config(home)["stale"] is True
    home.config.write_text(whole)
    assert home.command("reload").returncode == 0
    assert config(home)["stale"] is False


def test_a_signal_reloads(home: Home) -> None:
    """R-SD-8: SIGHUP."""
    assert home.process is not None
    home.settings["hosts"] = ["another.name"]
    home.save()
    assert home.ask("GET", "/status", headers={"Host": "another.name"}).status == 421
    home.process.send_signal(signal.SIGHUP)
    wait_for("the reload", lambda: home.ask("GET", "/status", headers={"Host": "another.name"}).status == 200)
    home.config.write_text("services: {app: {}}")
    home.process.send_signal(signal.SIGHUP)
    wait_for("the refusal", lambda: config(home)["stale"])
    assert home.get("/health").document["status"] == "degraded"
    home.save()
    home.process.send_signal(signal.SIGHUP)
    wait_for("the reload", lambda: not config(home)["stale"])
    assert home.process.poll() is None


def test_only_an_admin_reloads(home: Home) -> None:
    home.settings["access"]["tokens"].append(
        {"name": "ci2", "secret": {"file": str(home.directory / "second")}, "scopes": ["deploy"]}
    )
    (home.directory / "second").write_text("another token, quite long\n")
    (home.directory / "second").chmod(0o600)
    reload(home)
    second = {"Authorization": "Bearer another token, quite long"}
    assert home.ask("GET", "/status", headers=second).status == 200, "a new token counts at once"
    refused = home.ask("POST", "/api/v1/reload", b"{}", second)
    assert (refused.status, refused.document["code"]) == (403, "forbidden")
    home.settings["access"]["tokens"].pop()
    reload(home)
    assert home.ask("GET", "/status", headers=second).status == 401


def test_services_come_change_and_go(make_home: Make) -> None:
    home = make_home("app", "other")
    both = copy.deepcopy(home.settings)
    del home.settings["services"]["other"]
    home.save()
    home.start()
    first = home.deploy("one")
    process = home.service()
    # one comes
    home.settings = copy.deepcopy(both)
    answer = reload(home)
    assert (answer["added"], answer["changed"], answer["removed"]) == (["other"], [], [])
    assert home.get("/health").document["services"]["other"] == "none"
    assert home.deploy("eins", name="other")["state"] == "succeeded"
    # one changes: it is not touched until its next deployment
    home.settings["services"]["app"]["runtime"]["environment"]["MORE"] = "yes"
    answer = reload(home)
    assert (answer["changed"], answer["older_runtime"]) == (["app"], ["app"])
    assert home.service() == process
    assert reload(home)["older_runtime"] == ["app"], "also the next time, nothing having changed"
    assert "homeport deploy app --force" in home.command("reload").stdout
    second = home.deploy("two")
    assert (second["state"], second["config_hash"] != first["config_hash"]) == ("succeeded", True)
    after = home.service()
    assert after is not None
    assert "MORE" in after["environ"]
    assert reload(home)["older_runtime"] == []
    # one goes: its process and its rows stay
    other = home.service("other")
    del home.settings["services"]["other"]
    answer = reload(home)
    assert answer["removed"] == ["other"]
    assert home.service("other") == other
    assert set(home.get("/status").document["services"]) == {"app"}
    assert home.post("/deploy", {"service": "other"}).status == 404
    late = home.deliver(home.remotes["other"].commit("zwei"), name="other")
    assert (late.status, late.document["reason"]) == (200, "other-repository")
    rows = home.get("/api/v1/deployments").document["items"]
    assert {row["service"] for row in rows} == {"app", "other"}
    # and comes back, as it was
    home.settings["services"]["other"] = both["services"]["other"]
    assert reload(home)["added"] == ["other"]
    wait_for("the monitor", lambda: home.get("/health").document["services"]["other"] == "healthy")
    assert home.service("other") == other
    assert home.deploy("drei", name="other")["state"] == "succeeded"


def test_what_needs_a_restart_is_said_and_the_rest_is_applied(home: Home) -> None:
    port, state = home.port, home.settings["state_dir"]
    home.settings["listen"]["port"] = free_port()
    home.settings["state_dir"] = str(home.directory / "elsewhere")
    home.settings["hosts"] = ["another.name"]
    answer = reload(home)
    assert answer["restart_needed"] == ["listen.port", "state_dir"]
    assert "listen.port counts from the next start" in home.command("reload").stdout
    assert home.ask("GET", "/status", headers={"Host": "another.name"}).status == 200
    assert not (home.directory / "elsewhere").exists()
    assert home.deploy("one")["state"] == "succeeded"
    home.settings["listen"]["port"], home.settings["state_dir"] = port, state
    assert reload(home)["restart_needed"] == []


def test_a_reload_during_a_deployment_leaves_it_as_it_began(home: Home) -> None:
    home.settings["services"]["app"]["deploy"]["build"] = {
        "commands": ["while test ! -e ../../go; do sleep 0.05; done"]
    }
    reload(home)
    first = home.push("one")
    wait_for("the build", lambda: home.deployment(first)["state"] == "building")
    home.settings["services"]["app"]["deploy"]["build"] = {"commands": ["true"]}
    home.save()
    assert "app changes as soon as what is going on with it has ended" in home.command("reload").stdout
    home.settings["services"]["app"]["deploy"]["keep_releases"] = 3
    answer = reload(home)
    assert (answer["changed"], answer["after_deployment"]) == (["app"], ["app"])
    second = home.push("two")
    (home.srv / "app" / "go").touch()
    ends = home.ended(first), home.ended(second)
    assert [end["state"] for end in ends] == ["succeeded", "succeeded"]
    assert ends[0]["config_hash"] != ends[1]["config_hash"]
    assert [end["interruptions"] for end in ends] == [0, 0]


def signed(home: Home, secret: str, number: int) -> int:
    """One delivery with this secret; its status."""
    body = home.push_body("a" * 40) + b" " * number
    return home.ask(
        "POST", "/webhook", body,
        {
            "X-GitHub-Event": "push", "X-GitHub-Delivery": secrets.token_hex(16),
            "X-Hub-Signature-256": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(),
        },
    ).status  # fmt: skip


@pytest.mark.parametrize("first", ["the agent", "GitHub"])
def test_a_secret_is_rotated_without_losing_a_delivery(home: Home, first: str) -> None:
    """F81: deliveries come all the while; inside the window of two secrets none is refused, in either order."""
    old, new = SECRET, "the-next-secret-of-the-webhook-42"
    (home.directory / "next").write_text(new)
    (home.directory / "next").chmod(0o600)
    references = [{"file": str(home.directory / name)} for name in ("secret", "next")]
    using, statuses, stop = [old], list[int](), threading.Event()

    def github() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            statuses.append(signed(home, using[0], number))

    sender = threading.Thread(target=github)

    def agent_knows(*known: dict[str, str]) -> None:
        home.settings["github"]["webhook_secrets"] = list(known)
        reload(home)

    def more(count: int = 20) -> None:
        at = len(statuses)
        wait_for("more deliveries", lambda: len(statuses) >= at + count)

    if first == "GitHub":  # the next secret was put beside the old one long before
        agent_knows(*references)
    sender.start()
    try:
        more()
        if first == "the agent":
            agent_knows(*references)
            more()
        using[0] = new
        more()
        agent_knows(references[1])
        more()
    finally:
        stop.set()
        sender.join(20)
    assert set(statuses) <= {200, 202}, "nothing was lost"
    assert len(statuses) > 60
    assert signed(home, old, 99_999) == 401, "the old one is over"
    assert new not in home.log.read_text()


def test_a_file_behind_a_reference_is_read_anew(home: Home) -> None:
    (home.directory / "secret").write_text("yet-another-secret-of-the-webhook")
    assert signed(home, SECRET, 1) in (200, 202)
    reload(home)
    assert signed(home, SECRET, 2) == 401
    assert signed(home, "yet-another-secret-of-the-webhook", 3) in (200, 202)


def test_requests_go_on_while_it_is_reloaded_many_times(home: Home) -> None:
    """No request is dropped, and the agent does not grow."""
    home.deploy("one")
    assert home.process is not None
    process, stop, statuses = psutil.Process(home.process.pid), threading.Event(), list[int]()

    def ask() -> None:
        while not stop.is_set():
            statuses.append(home.get("/status").status)

    askers = [threading.Thread(target=ask) for _ in range(2)]
    before = home.service()

    def reload_often(times: int) -> tuple[int, int]:
        for number in range(times):
            home.settings["services"]["app"]["deploy"]["keep_releases"] = 3 + number % 2
            home.settings["monitor"]["every"] = f"{200 + number}ms"
            home.save()
            answer = home.post("/api/v1/reload")
            assert (answer.status, answer.document["changed"]) == (200, ["app"])
        return process.memory_info().rss, process.num_fds()

    home.settings["services"]["app"]["deploy"]["keep_releases"] = 9
    for asker in askers:
        asker.start()
    try:
        reload_often(10)
        rss, handles = reload_often(10)
        after, handles_after = reload_often(40)
    finally:
        stop.set()
        for asker in askers:
            asker.join(20)
    assert set(statuses) == {200}
    assert after - rss < 4 * 1024 * 1024
    assert abs(handles_after - handles) < 10
    assert home.service() == before
    assert home.deploy("two")["state"] == "succeeded"


def test_a_power_cut_in_a_reload_leaves_what_the_file_says(home: Home) -> None:
    """F15, the reload's part: it writes nothing but an event, so the next start has the file, whole."""
    home.deploy("one")
    before = home.service()
    home.settings["hosts"] = ["another.name"]
    home.save()
    assert home.process is not None
    for _ in range(3):
        os.kill(home.process.pid, signal.SIGHUP)
    home.kill()
    home.start()
    assert home.ask("GET", "/status", headers={"Host": "another.name"}).status == 200
    assert home.service() == before
    assert config(home)["stale"] is False
