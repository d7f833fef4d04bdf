"""Much at once, against the real agent: what is bad costs little, what is good is answered, and the newest is live.

The loads end by themselves and stay on loopback. `FLOOD_SECONDS` makes them longer (`make e2e-long`: 60).
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from bench.processes import processor_seconds
from tests.wire import delivery, exchange, request, statuses
from tests.world import Home, Remote, wait_for

pytestmark = pytest.mark.outside

SECONDS = float(os.environ.get("FLOOD_SECONDS", "3"))
ROOT = Path(__file__).resolve().parent.parent.parent
LAST = request("GET /health HTTP/1.1", "Host: x", "Connection: close")


def bad_signatures(home: Home, connections: int) -> subprocess.Popen[str]:
    """A process that delivers as fast as it is answered, with signatures that are none."""
    command = [
        sys.executable, "-m", "bench.load", "--port", str(home.port), "--path", "/webhook", "--secret",
        str(home.directory / "secret"), "--connections", str(connections), "--seconds", str(SECONDS), "--bad",
    ]  # fmt: skip
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_a_flood_of_bad_signatures_costs_little_and_good_deliveries_land(home: Home) -> None:
    """F45, R-RX-28: 401, then 429; a good delivery from the same address is taken; the log has ten lines a minute.

    What a bad request costs is compared with what it costs to make it: that holds on a busy machine, too."""
    assert home.deploy("one")["state"] == "succeeded"
    assert home.process is not None
    before, log_before = processor_seconds(home.process.pid), home.log.stat().st_size
    revision = home.remotes["app"].commit("two")
    made, slowest, count = 0.0, 0.0, 0
    with bad_signatures(home, 16) as flood:
        while flood.poll() is None:
            count += 1
            started = time.monotonic()
            answer = home.deliver(revision, body=home.push_body(revision) + b" " * count)
            slowest = max(slowest, time.monotonic() - started)
            assert answer.status in (200, 202), answer
            with suppress(OSError):
                made = processor_seconds(flood.pid)
            with suppress(subprocess.TimeoutExpired):
                flood.wait(0.1)
        assert flood.stdout is not None
        found = json.loads(flood.stdout.read())
    used = processor_seconds(home.process.pid) - before
    bad = sum(found["statuses"].values())
    print(
        f"{bad / SECONDS:.0f} bad signatures/s; at 1000/s they would take {used / bad * 1000:.0%} of a core;"
        f" {used / made:.1f} times what the sender needs; slowest of {count} good deliveries {slowest * 1000:.0f} ms"
    )
    assert set(found["statuses"]) <= {"401", "429"}
    assert found["broken"] == 0
    assert count > 1
    assert slowest < 5.0, "GitHub waits for ten seconds"
    assert used < 20 * made, "about four times; a signature's check must not cost much more than its making"
    log = home.log.read_text()[log_before:]
    assert log.count("no good signature") <= 20
    assert len(log.splitlines()) < 10 * count + 100, "nothing is logged for each of them, but for good ones"
    identity = home.get("/api/v1/deployments").document["items"][0]["id"]
    assert home.ended(identity)["revision"] == revision


def a_chain(remote: Remote, count: int) -> list[str]:
    """So many further commits on main, which the remote has but does not show yet; oldest first."""
    tip = remote.commit("0")
    stream = "".join(
        f"commit refs/heads/chain\ncommitter a <a@example.org> {1_700_000_000 + number} +0000\n"
        f"data 1\nx{f'{chr(10)}from {tip}' if number == 1 else ''}\nM 100644 inline version\n"
        f"data {len(str(number))}\n{number}\n"
        for number in range(1, count + 1)
    )
    git = ["git", "--git-dir", str(remote.path)]
    subprocess.run(
        [*git, "fast-import", "--quiet"], input=stream, text=True, check=True, env=remote.environment
    )
    log = subprocess.run(
        [*git, "rev-list", "--reverse", f"{tip}..chain"],
        capture_output=True,
        text=True,
        check=True,
        env=remote.environment,
    )
    return log.stdout.split()


def test_500_pushes_in_a_few_seconds_are_two_deployments_and_the_last_one_is_live(
    make_home: Callable[..., Home],
) -> None:
    """F48, R-RX-25: 500 real commits, the branch moves along; everything is in the inbox, and /health answers."""
    home = make_home()
    go = home.directory / "go"
    build = f"while [ ! -e {go} ]; do sleep 0.05; done"
    home.settings["services"]["app"]["deploy"] |= {"build": {"commands": [build], "timeout": "5m"}}
    home.save()
    remote = home.remotes["app"]
    chain = a_chain(remote, 500)
    home.start()
    slowest = Slowest(home)

    def push(number: int) -> int:
        revision = chain[number]
        if number % 50 == 49:
            (remote.path / "refs" / "heads" / "main").write_text(f"{revision}\n")
        return home.deliver(revision).status

    started = time.monotonic()
    with slowest, ThreadPoolExecutor(8) as pool:
        answers = Counter(pool.map(push, range(500)))
        took = time.monotonic() - started
        go.touch()
        wait_for(
            "the queue to be empty",
            lambda: home.get("/status").document["services"]["app"]["current"] is None,
            60,
        )
    print(f"500 pushes in {took:.1f} s; slowest /health {slowest.seconds * 1000:.0f} ms")
    assert answers == {202: 500}
    every = pages(home, "deployments")
    built = [one for one in every if any(step["name"] == "building" for step in one["steps"])]
    assert 1 <= len(built) <= 2
    assert Counter(one["state"] for one in every) == {"succeeded": len(built), "superseded": 500 - len(built)}
    live = home.get("/status").document["services"]["app"]["live"]
    assert live["revision"] == chain[-1]
    assert home.service()["version"] == "500"  # type: ignore[index]
    assert len(pages(home, "deliveries")) == 500
    assert slowest.seconds < 5.0, "the queue is decided without keeping the loop for long"
    assert "Traceback" not in home.log.read_text()


def pages(home: Home, what: str) -> list[dict[str, Any]]:
    """All items of a list."""
    found, after = [], ""
    while True:
        page = home.get(f"/api/v1/{what}?limit=200{after}").document
        found += page["items"]
        if page["next"] is None:
            return found
        after = f"&before={page['next']}"


class Slowest:
    """Asks for /health all the time; how long the longest answer took."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.seconds = 0.0

    def _ask(self) -> None:
        while not self._ended.wait(0.01):
            started = time.monotonic()
            assert self._home.get("/health").status in (200, 503)
            self.seconds = max(self.seconds, time.monotonic() - started)

    def __enter__(self) -> "Slowest":
        self._thread.start()
        return self

    def __exit__(self, *gone: object) -> None:
        self._ended.set()
        self._thread.join()


def test_the_same_delivery_many_times_at_once_is_one_deployment(home: Home) -> None:
    """F46, R-RX-13: fifty connections that wait for each other."""
    body = home.push_body(home.remotes["app"].commit("one"))
    together = threading.Barrier(50)

    def send(number: int) -> list[int]:
        together.wait(30)
        return statuses(exchange(home.port, delivery(body, f"X-Number: {number}"), LAST))

    with ThreadPoolExecutor(50) as pool:
        answers = Counter(said[0] for said in pool.map(send, range(50)))
    assert answers == {202: 1, 200: 49}
    (known,) = home.get("/api/v1/deliveries").document["items"]
    (made,) = known["deployments"]
    assert home.ended(made)["state"] == "succeeded"
    assert len(home.get("/api/v1/deployments").document["items"]) == 1
