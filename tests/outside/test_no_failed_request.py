"""A push costs the users of an embedded service nothing: the agent keeps its address open (`runtime.listen`)."""

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.world import SERVE, Home, wait_for

pytestmark = pytest.mark.outside

TAKES = SERVE.replace(
    'server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Answer)',
    "import signal, socket\n"
    'server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer, bind_and_activate=False)\n'
    "server.socket.close()\n"
    "server.socket = socket.socket(fileno=3)\n"
    "signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())",
).replace("server.daemon_threads = True", "server.daemon_threads = False")
"""The service of the tests, which takes its socket from whoever starts it, and ends what it has begun."""
PER_SECOND = 50


@contextmanager
def load(port: int) -> Iterator[tuple[list[str], list[str]]]:
    """Fifty requests a second; the versions that answered, and what failed."""
    versions: list[str] = []
    lost: list[str] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            began = time.monotonic()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
                    versions.append(json.load(answer)["version"])
            except urllib.error.HTTPError:  # a sick version answers 500: it was asked, and it answered
                versions.append("sick")
            except OSError as error:
                lost.append(repr(error))
            time.sleep(max(0.0, 4 / PER_SECOND - (time.monotonic() - began)))

    crowd = [threading.Thread(target=ask) for _ in range(4)]
    for one in crowd:
        one.start()
    try:
        yield versions, lost
    finally:
        over.set()
        for one in crowd:
            one.join()


def test_deployments_rollbacks_and_a_killed_agent_lose_no_request(make_home: Callable[..., Home]) -> None:
    home = make_home()
    port = home.ports["app"]
    home.settings["services"]["app"]["runtime"] |= {"listen": [f"127.0.0.1:{port}"], "stop_timeout": "5s"}
    home.settings["services"]["app"]["rollback"] = {"max_per_hour": 9}
    home.remotes["app"].write("serve.py", TAKES)
    home.save()
    home.start()
    assert home.deploy("one")["state"] == "succeeded"
    with load(port) as (versions, lost):
        deployed = [home.deploy(f"v{number}") for number in range(5)]
        deployed += [home.deploy("sick", "sick"), home.deploy("v5")]
        home.kill()
        home.start()
        deployed += [home.deploy("v6"), home.deploy("worse", "sick")]
        wait_for("the last answers", lambda: versions[-8:] == ["v6"] * 8)
    ends = ["succeeded"] * 5 + ["rolled_back", "succeeded", "succeeded", "rolled_back"]
    assert [item["state"] for item in deployed] == ends
    assert lost == []
    assert {"v0", "v4", "v6"} <= set(versions)
    good = [item for item in deployed if item["state"] == "succeeded"]
    assert all(item["outage"]["failed"] == 0 for item in good), [item["outage"] for item in good]
