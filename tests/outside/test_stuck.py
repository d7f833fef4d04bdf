"""R-MO-3: /health answers at once, whatever the rest of the agent waits for."""

import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing

import pytest

from tests.world import Answer, Home, wait_for

pytestmark = pytest.mark.outside

STUCK = 2.0
"""Seconds; each of the waits below is longer, so that who waits for it is found out, also on a busy machine."""


def slowest_health(home: Home, seconds: float) -> float:
    """The longest that /health took within this time."""
    slowest, end = 0.0, time.monotonic() + seconds
    while time.monotonic() < end:
        started = time.monotonic()
        assert home.get("/health").status in (200, 503)
        slowest = max(slowest, time.monotonic() - started)
    print(f"slowest /health {slowest * 1000:.0f} ms")
    return slowest


def test_while_a_build_goes_on_and_nobody_can_write_the_state(make_home: Callable[..., Home]) -> None:
    """R-MO-3: the store's writer waits 5 s for a lock that somebody else holds, a build for ever."""
    home = make_home()
    home.settings["services"]["app"]["deploy"] |= {"build": {"commands": ["sleep 600"], "timeout": "20m"}}
    home.save()
    home.start()
    identity = home.push("one")
    wait_for("the build to begin", lambda: home.deployment(identity)["state"] == "building")
    assert slowest_health(home, 0.3) < STUCK
    answers: list[Answer] = []
    with closing(sqlite3.connect(home.state / "state.db", isolation_level=None)) as stranger:
        stranger.execute("BEGIN IMMEDIATE")
        waiting = threading.Thread(target=lambda: answers.append(home.deliver("a" * 40)))
        waiting.start()
        slowest = slowest_health(home, 3.0)
        assert answers == [], "the writer waits all the time"
        stranger.execute("ROLLBACK")
        waiting.join(30)
    assert slowest < STUCK
    assert answers[0].status == 202


def test_while_a_probe_hangs(make_home: Callable[..., Home]) -> None:
    """R-MO-3: the service takes the connection and never answers."""
    home = make_home()
    probe = home.settings["services"]["app"]["health"]["probes"][0]
    home.settings["services"]["app"]["health"] |= {"timeout": "60s", "probes": [probe | {"timeout": "30s"}]}
    home.save()
    home.start()
    identity = home.push("one", "hang")
    wait_for("the probing", lambda: home.deployment(identity)["state"] == "verifying")
    assert slowest_health(home, 2.5) < STUCK
    assert home.deployment(identity)["state"] == "verifying"
