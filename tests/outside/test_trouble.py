"""The world in the agent's way, seen from outside."""

import sqlite3
from contextlib import closing

import pytest

from tests.world import Home, wait_for

pytestmark = pytest.mark.outside


def test_while_somebody_else_locks_the_state_a_delivery_is_503_and_nothing_is_lost(home: Home) -> None:
    """F30: a person with the sqlite3 shell; the answer comes within GitHub's ten seconds."""
    assert home.deploy("one")["state"] == "succeeded"
    revision = home.remotes["app"].commit("two")
    body = home.push_body(revision)
    with closing(sqlite3.connect(home.state / "state.db", isolation_level=None)) as stranger:
        stranger.execute("BEGIN IMMEDIATE")
        answer = home.deliver(revision, body=body)
        assert (answer.status, answer.document["code"]) == (503, "store-unavailable")
        assert home.get("/health").status == 200
        assert home.get("/status").document["services"]["app"]["live"] is not None
    answer = home.deliver(revision, body=body)
    assert (answer.status, answer.document["decision"]) == (202, "deploy")
    assert home.ended(answer.document["deployments"][0]["id"])["state"] == "succeeded"
    assert home.service()["version"] == "two"  # type: ignore[index]
    assert "Traceback" not in home.log.read_text()


def test_a_remote_that_comes_back_in_time_is_all_that_a_deployment_needs(home: Home) -> None:
    """F33, F94, R-RB-6: it is tried again by itself, which can be read meanwhile; an agent that is killed in between
    goes on as well."""
    assert home.deploy("one")["state"] == "succeeded"
    remote = home.remotes["app"]
    revision, away = remote.commit("two"), remote.path.with_name("away.git")
    body = home.push_body(revision)
    remote.path.rename(away)
    identity = home.deliver(revision, body=body).document["deployments"][0]["id"]
    said = "git-unreachable); tried again in"
    wait_for("the first try", lambda: said in home.command("logs", identity).stdout)
    assert home.deployment(identity)["state"] == "fetching"
    home.kill()
    home.start()
    wait_for("the next agent's try", lambda: said in home.command("logs", identity).stdout)
    away.rename(remote.path)
    assert home.ended(identity, 60)["state"] == "succeeded"
    assert said in home.command("logs", identity).stdout
    assert home.service()["version"] == "two"  # type: ignore[index]
    assert "Traceback" not in home.log.read_text()
