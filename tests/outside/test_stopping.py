"""The agent is told to stop while much is waiting: nothing that it answered for is lost."""

import secrets
import socket
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from tests.world import ENDS, SERVE, Home, wait_for

pytestmark = [pytest.mark.outside, pytest.mark.timeout(600)]

WAITING = 50
STUBBORN = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SERVE
"""It has to be killed, so that a switch takes as long as `stop_timeout`."""
PATIENCE = 120.0
ASKED_SECONDS = 30.0
"""Well below systemd's 90 s of grace, and above the 5 s that the switch needs."""


def waiting(home: Home) -> tuple[int, int]:
    """What is on the disk: deliveries, and deployments that wait."""
    with closing(sqlite3.connect(f"file:{home.state / 'state.db'}?mode=ro", uri=True)) as state:
        (deliveries,) = state.execute("SELECT count(*) FROM deliveries").fetchone()
        (queued,) = state.execute("SELECT count(*) FROM deployments WHERE state = 'queued'").fetchone()
    return deliveries, queued


def listens(home: Home) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", home.port)) == 0


def test_stopped_with_fifty_deliveries_waiting_it_loses_none(make_home: Callable[..., Home]) -> None:
    """F19, F18, R-SD-7: the listener goes first, the switch that was begun is finished, all the rest is on the disk."""
    home = make_home()
    gate = home.directory / "gate"
    app = home.settings["services"]["app"]
    app["deploy"]["build"] = {"commands": [f"while [ -e {gate} ]; do sleep 0.05; done"]}
    app["runtime"]["stop_timeout"] = "5s"
    home.save()
    home.remotes["app"].write("serve.py", STUBBORN)
    home.start()
    assert home.ended(home.push("one"), PATIENCE)["state"] == "succeeded"
    gate.touch()
    switched = home.push("two")
    wait_for("the build", lambda: home.deployment(switched)["state"] == "building", PATIENCE)
    with ThreadPoolExecutor(10) as senders:
        answers = list(senders.map(home.deliver, [secrets.token_hex(20) for _ in range(WAITING)]))
    assert {answer.status for answer in answers} == {202}
    gate.unlink()
    wait_for("the switch", lambda: home.deployment(switched)["state"] == "switching", PATIENCE)
    assert home.process is not None
    home.process.terminate()
    wait_for("the listener to be gone", lambda: not listens(home))
    still = home.service()
    assert still is not None, "nobody is let in any more, and the old version is still being ended"
    assert still["version"] == "one"
    assert home.process.wait(ASKED_SECONDS) == 0
    assert waiting(home) == (2 + WAITING, WAITING)
    home.start()
    ids = [switched, *(answer.document["deployments"][0]["id"] for answer in answers)]
    assert len(set(ids)) == 1 + WAITING
    ended = [home.ended(identity, PATIENCE)["state"] for identity in ids]
    assert ended[0] == "succeeded"
    assert set(ended) <= {"succeeded", "superseded"} <= ENDS
    service = home.service()
    assert service is not None
    assert service["version"] == "two"
