"""Clients that hold on to the agent: it serves the others meanwhile, and has everything back afterwards."""

import hashlib
import resource
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.wire import connected, delivery, everything
from tests.world import Home, a_home, wait_for

pytestmark = pytest.mark.outside

MUCH = 16 * 2**20
"""Bytes that the agent may weigh more afterwards: what Python and malloc keep of many small things."""

DELIVERY = delivery(b"{}")
HEAD, _, _ = DELIVERY.rpartition(b"{}")


def descriptors(home: Home) -> int:
    """How many the agent has open."""
    assert home.process is not None
    return len(list(Path(f"/proc/{home.process.pid}/fd").iterdir()))


def resident(home: Home) -> int:
    """Bytes of memory that the agent occupies."""
    assert home.process is not None
    pages = int(Path(f"/proc/{home.process.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@pytest.fixture(autouse=True)
def many_descriptors() -> Iterator[None]:
    """The test holds both many connections and nothing else; the agent has what a service has by default."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], min(4096, before[1])), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


class Crowd:
    """Connections that do what they should not."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._lines: list[socket.socket] = []
        self._ended = threading.Event()
        self._drips: list[threading.Thread] = []

    def join(self, number: int, sent: bytes = b"") -> None:
        """So many, each of which sends this and then nothing."""
        for _ in range(number):
            line = socket.create_connection(("127.0.0.1", self._home.port), timeout=30)
            self._lines.append(line)
            with suppress(ConnectionError):  # it may have had to give way already
                line.sendall(sent)

    def drip(self, number: int, sent: bytes) -> None:
        """So many, each of which sends this, a byte a second."""
        start = len(self._lines)
        self.join(number)
        mine = self._lines[start:]

        def work() -> None:
            for byte in sent:
                for line in mine:
                    with suppress(OSError):
                        line.sendall(bytes([byte]))
                if self._ended.wait(1.0):
                    return

        self._drips.append(threading.Thread(target=work))
        self._drips[-1].start()

    def ends(self) -> list[bytes]:
        """What each got until the agent closed. Raises TimeoutError if it does not."""
        return [everything(line) for line in self._lines]

    def leave(self) -> None:
        self._ended.set()
        for thread in self._drips:
            thread.join()
        for line in self._lines:
            line.close()


@contextmanager
def a_crowd(home: Home) -> Iterator[Crowd]:
    crowd = Crowd(home)
    try:
        yield crowd
    finally:
        crowd.leave()


def slowest_delivery(home: Home, number: int, first: int) -> float:
    """Seconds; of so many good deliveries one after the other, each over a connection of its own."""
    slowest = 0.0
    for count in range(first, first + number):
        started = time.monotonic()
        answer = home.deliver(f"{count:040x}")
        slowest = max(slowest, time.monotonic() - started)
        assert answer.status == 202, answer
    return slowest


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """An agent that builds all the time: what is delivered meanwhile waits, and costs nothing else."""
    with a_home(tmp_path_factory.mktemp("home")) as home:
        begin_build(home)
        yield home


def begin_build(home: Home) -> None:
    """Starts the agent, and a deployment that goes on until the end."""
    home.settings["services"]["app"]["deploy"] = {"build": {"commands": ["sleep 600"], "timeout": "20m"}}
    home.save()
    home.start()
    identity = home.push("one")
    wait_for("the build to begin", lambda: home.deployment(identity)["state"] == "building")


def test_a_crowd_that_stalls_keeps_nobody_from_being_served_and_leaves_nothing_behind(busy: Home) -> None:
    """R-RX-9, R-MO-3, F50: 600 idle connections, 200 stalled bodies, 100 after their headers, 50 a byte a second."""
    home = busy
    alone = slowest_delivery(home, 20, 1)
    before, weight = descriptors(home), resident(home)
    with a_crowd(home) as crowd:
        crowd.join(600)
        crowd.join(200, HEAD + b"{")
        crowd.join(100, HEAD)
        crowd.drip(30, DELIVERY)
        crowd.drip(20, HEAD.replace(b"Length: 2", b"Length: 20") + b"{" * 20)
        crowded = slowest_delivery(home, 20, 1000)
        open_now = descriptors(home)
        heaviest = resident(home)
        ends = crowd.ends()
    print(
        f"slowest delivery: {alone * 1000:.0f} ms alone, {crowded * 1000:.0f} ms in the crowd; {open_now} descriptors"
    )
    # about 20 ms here; whoever had to wait for the crowd would wait for the deadline of 10 s
    assert crowded < max(1.0, 20 * alone)
    assert open_now <= before + 520, "the number of connections is bounded"
    assert heaviest - weight < 2 * MUCH
    assert {end[9:12] for end in ends} <= {b"", b"408", b"401"}
    wait_for("the descriptors to come back", lambda: descriptors(home) <= before + 2)
    assert resident(home) - weight < MUCH
    log = home.log.read_text()
    assert "Traceback" not in log
    assert " ERROR " not in log


def test_more_connections_than_descriptors_are_no_trouble(home: Home) -> None:
    """F50: a service has 1024 descriptors by default; as many clients used to keep everybody else out for 10 s."""
    assert home.process is not None
    most = resource.prlimit(home.process.pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(home.process.pid, resource.RLIMIT_NOFILE, (1024, most))
    with a_crowd(home) as crowd:
        crowd.join(1100)
        revision = home.remotes["app"].commit("one")
        started = time.monotonic()
        answer = home.deliver(revision)
        took = time.monotonic() - started
        assert answer.status == 202
        identity = answer.document["deployments"][0]["id"]
        assert home.ended(identity)["state"] == "succeeded", (
            "git, the build and the probes have descriptors, too"
        )
    assert took < 5.0, "it does not wait until the idle ones are cut after 10 s"
    assert "Traceback" not in home.log.read_text()


def test_clients_that_leave_are_stored_once_or_not_at_all(busy: Home) -> None:
    """F51: in the middle of the head or the body, or with a reset before the answer; none leaves a trace in the log."""
    home = busy
    before, known = descriptors(home), digests(home)
    bodies = [home.push_body(f"{number:040x}") for number in range(2000, 2030)]
    for body in bodies:
        whole = delivery(body)
        for sent in (whole[:50], whole[: -len(body)], whole[:-1]):
            leave(home, sent)
    assert digests(home) == known, "nothing of a part"
    for body in bodies:
        leave(home, delivery(body))
    answers = [home.deliver("", body=body) for body in bodies]
    assert {(answer.status, answer.document["decision"]) for answer in answers} <= {
        (202, "deploy"),
        (200, "duplicate"),
    }
    assert sorted(digests(home)) == sorted([*known, *(hashlib.sha256(body).hexdigest() for body in bodies)])
    wait_for("the descriptors to come back", lambda: descriptors(home) <= before + 2)
    log = home.log.read_text()
    assert "Traceback" not in log
    assert " ERROR " not in log


def leave(home: Home, sent: bytes) -> None:
    """Sends it, and resets the connection instead of closing it."""
    with connected(home.port) as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        line.sendall(sent)


def digests(home: Home) -> list[str]:
    """Of all deliveries, page by page."""
    found, after = [], ""
    while True:
        page = home.get(f"/api/v1/deliveries?limit=200{after}").document
        found += [one["digest"] for one in page["items"]]
        if page["next"] is None:
            return found
        after = f"&before={page['next']}"


def test_the_inbox_is_read_in_pages(busy: Home) -> None:
    """F52: each is seen once, whatever comes in between."""
    for number in range(3000, 3060):
        assert busy.deliver(f"{number:040x}").status == 202
    known = digests(busy)
    seen, pages, after = [], 0, ""
    while True:
        page = busy.get(f"/api/v1/deliveries?limit=25{after}").document
        seen += [one["digest"] for one in page["items"]]
        pages += 1
        assert busy.deliver(f"{4000 + pages:040x}").status == 202
        if page["next"] is None:
            break
        after = f"&before={page['next']}"
    assert seen == known
    assert pages == -(-len(known) // 25)
    assert busy.get("/api/v1/deliveries?limit=100000").status == 400
