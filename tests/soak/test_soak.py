"""R-MO-1: a day of work in minutes: everything at once, first with the agent killed under it, then in one long life.

SOAK_MINUTES says how long (1 in `make e2e`, 20 in `make e2e-long`), SOAK_SEED repeats one. Random: the seed is printed.
"""

import json
import os
import random
import signal
import sqlite3
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent.store.trimming import DEPLOYMENTS
from bench.processes import MIB, children, memory, proportional
from tests.crash.sweep import partial_files
from tests.soak.load import Work, descriptors, digest
from tests.world import ENDS, Home, a_home, wait_for

pytestmark = [pytest.mark.root, pytest.mark.timeout(7200)]

SECONDS = float(os.environ.get("SOAK_MINUTES", "1")) * 60
SEED = int(os.environ.get("SOAK_SEED", "20261129"))
ENTRY = (str(Path(__file__).with_name("watched.py")),)
STORM, WARM = 0.35, 0.25
"""Parts of the time: the agent is killed now and then; one agent runs until it has seen everything."""
MOST = 64.0
"""MB, with everything on."""
PATIENCE = 300.0
GROWTH = 3.0
"""MB between the rest after the warm-up and the one at the end. A leak of 1 KB in each of 10,000 deliveries is 10."""


@dataclass
class Rest:
    """What the agent holds while nothing happens."""

    resident: float
    proportional: float
    threads: int
    files: list[str]
    programs: list[int]
    tasks: dict[str, int]


@dataclass
class Course:
    """What was measured, one a second."""

    resident: list[tuple[float, float]] = field(default_factory=list)

    @property
    def slope(self) -> float:
        """MB an hour, by least squares."""
        times, sizes = zip(*self.resident, strict=True)
        return statistics.linear_regression(times, sizes).slope * 3600


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """Fast, with a build, polls, a retention that is at work from the fifth backup on, and no guard in the way."""
    with a_home(tmp_path / "home") as made:
        app = made.settings["services"]["app"]
        app["source"]["poll"] = "10s"
        app["health"] |= {"soak": "100ms", "every": "30ms", "timeout": "3s"}
        app["rollback"] = {"max_per_hour": 1000}
        app["deploy"] |= {"build": {"commands": ["! grep unbuilt mode"]}, "keep_releases": 3}
        app["backup"]["keep"] = {"last": 3, "daily": 1, "weekly": 0}
        made.save()
        (tmp_path / "tmp").mkdir()
        yield made


def start(home: Home) -> None:
    """Waits as long as a busy machine needs."""
    more = {"WATCHED_FILE": str(home.directory / "watched"), "TMPDIR": str(home.directory.parent / "tmp")}
    home.start(entry=ENTRY, wait=False, more=more)
    wait_for("the agent to answer", home.answers, PATIENCE)
    assert home.process is not None
    assert home.process.poll() is None, home.log.read_text()[-3000:]


def storm(home: Home, seconds: float, chance: random.Random) -> Counter[str]:
    """Ends the agent again and again, by every signal, at any instant."""
    ends: Counter[str] = Counter()
    over = time.monotonic() + seconds
    while time.monotonic() < over:
        time.sleep(chance.uniform(0.3, 5))
        how = chance.choices(["SIGKILL", "SIGTERM", "SIGHUP"], [5, 3, 2])[0]
        ends[how] += 1
        assert home.process is not None
        home.process.send_signal(signal.Signals[how])
        if how != "SIGHUP":
            status = home.died(PATIENCE)
            assert status == (-signal.SIGKILL if how == "SIGKILL" else 0), home.log.read_text()[-3000:]
            start(home)
    return ends


def watched(home: Home) -> list[dict[str, Any]]:
    """What the agent of now wrote down about itself."""
    return [json.loads(line) for line in (home.directory / "watched").read_text().splitlines()]


def at_rest(home: Home) -> Rest:
    """Once everything that was asked for has ended, and the connections of the readers are closed."""
    assert home.process is not None
    pid = home.process.pid

    waiting = -1

    def quiet() -> bool:
        nonlocal waiting
        with closing(sqlite3.connect(f"file:{home.state / 'state.db'}?mode=ro", uri=True)) as state:
            (waiting,) = state.execute(
                "SELECT count(*) FROM deployments WHERE finished_at IS NULL"
            ).fetchone()
        return not waiting and not _busy(home)

    try:
        wait_for("the agent to come to rest", quiet, PATIENCE)
    except AssertionError as error:
        log = home.log.read_text()[-2000:]
        raise AssertionError(
            f"{error}: {waiting} waiting, {programs(home)}, {descriptors(pid)}\n{log}"
        ) from None
    time.sleep(2.5)  # what is written with the next batch, and one line of its own
    wait_for("a moment between two looks", lambda: not _busy(home), PATIENCE)
    return Rest(
        memory(pid) / MIB, proportional(pid) / MIB, len(list(Path(f"/proc/{pid}/task").iterdir())),
        descriptors(pid), programs(home), watched(home)[-1]["tasks"],
    )  # fmt: skip


def programs(home: Home) -> list[int]:
    """The agent's children but for the service, which is one if this agent has started it; zombies count."""
    assert home.process is not None
    releases = (home.srv / "app" / "releases").resolve()
    found = []
    for child in children(home.process.pid):
        try:
            serves = Path(f"/proc/{child}/cwd").readlink().is_relative_to(releases)
        except OSError:
            serves = False
        found += [] if serves else [child]
    return found


def _busy(home: Home) -> bool:
    """A program runs for it (git, for a poll), or a connection is open."""
    assert home.process is not None
    sockets = sum(name.startswith("socket:") for name in descriptors(home.process.pid))
    return programs(home) != [] or sockets > SOCKETS


SOCKETS = 4
"""Two listeners, and the pair by which a signal wakes the loop."""


def live_on(home: Home, seconds: float, course: Course) -> None:
    """One agent under the same load; its memory is looked at every second."""
    assert home.process is not None
    over = time.monotonic() + seconds
    while time.monotonic() < over:
        course.resident.append((time.monotonic(), memory(home.process.pid) / MIB))
        time.sleep(1)
        assert home.process.poll() is None, home.log.read_text()[-3000:]


def test_a_day_of_work_in_minutes_loses_nothing_doubles_nothing_and_leaks_nothing(home: Home) -> None:
    """R-MO-1; F16, F46, F70, R-RX-12, R-RX-13, R-RX-25 and R-BK-10 under load."""
    print(f"\nseed {SEED}, {SECONDS:.0f} s")
    work, course = Work(home, SEED, rate=16.0, pause=1.5 if SECONDS > 300 else 0.5), Course()
    start(home)
    work.start()
    try:
        ends = storm(home, SECONDS * STORM, random.Random(SEED))
        home.stop(PATIENCE)
        (home.directory / "watched").unlink()
        start(home)
        live_on(home, SECONDS * WARM, Course())
        work.rest()
        before = at_rest(home)
        work.go_on()
        live_on(home, SECONDS * (1 - STORM - WARM), course)
        work.rest()
        after = at_rest(home)
    finally:
        work.end()
    _tell(home, work, course, ends, before, after)
    assert work.ledger.wrong == []
    check_books(home, work)
    check_disk(home)
    check_flat(home, before, after)
    assert home.stop(PATIENCE) == 0
    assert list((home.directory.parent / "tmp").iterdir()) == []
    assert len(home.sessions()) == 1, "the service, and nothing else that was started"


def check_books(home: Home, work: Work) -> None:
    """Every promise was kept once."""
    with closing(sqlite3.connect(f"file:{home.state / 'state.db'}?mode=ro", uri=True)) as state:
        states = dict(state.execute("SELECT id, state FROM deployments"))
        known = {row[0] for row in state.execute("SELECT digest FROM deliveries WHERE decision = 'deploy'")}
        told = Counter(
            row[0]
            for row in state.execute("SELECT deployment, name FROM events WHERE deployment IS NOT NULL")
            if row[1].removeprefix("deployment.") in ENDS
        )
        doubled = state.execute(
            "SELECT revision, count(*) FROM deployments WHERE target IS NULL AND reason <> 'already-live'"
            " AND NOT force AND (state = 'succeeded' OR fault = 'commit') GROUP BY revision, config_hash, state"
            " HAVING count(*) > 1"
        ).fetchall()
    promised = set().union(*work.ledger.accepted.values())
    assert {digest(body) for body in work.ledger.accepted} <= known, "a delivery was lost"
    let_go = told.keys() - states.keys()
    assert not let_go or len(states) >= DEPLOYMENTS, "only the oldest of very many are let go of"
    assert promised <= states.keys() | let_go, "a deployment was lost"
    assert set(states.values()) <= ENDS, "one has not ended"
    assert states.keys() <= told.keys(), "each end is told"
    assert set(told.values()) == {1}, "and once"
    assert doubled == [], "one was carried out twice"


def check_disk(home: Home) -> None:
    """What is kept is bounded, and nothing half is left."""
    assert partial_files(home) == []
    releases = [path for path in (home.srv / "app" / "releases").iterdir() if path.is_dir()]
    assert len(releases) <= 3 + 4, (
        releases
    )  # live, the way back, one that failed, what the tip was built into
    backups = home.get("/api/v1/backups?limit=100").document["items"]
    assert len(backups) <= 4 + 5, "`last`, and what the releases that are kept rest on"
    with closing(sqlite3.connect(f"file:{home.state / 'state.db'}?mode=ro", uri=True)) as state:
        (deliveries,) = state.execute("SELECT count(*) FROM deliveries").fetchone()
        (deployments,) = state.execute("SELECT count(*) FROM deployments").fetchone()
        assert state.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    limit = MIB + 3000 * deliveries + 30_000 * deployments
    assert (home.state / "state.db").stat().st_size < limit, (deliveries, deployments)
    assert (home.state / "state.db-wal").stat().st_size <= 5 * MIB


def check_flat(home: Home, before: Rest, after: Rest) -> None:
    """Under the same load for longer, the agent holds no more."""
    assert after.resident <= MOST
    assert after.resident - before.resident <= GROWTH
    assert len(after.files) <= len(before.files) + 2, (before.files, after.files)
    assert after.threads <= max(before.threads + 2, 18), (
        "the pools hold 4, 8 and 1, then come the store's two"
    )
    assert sum(after.tasks.values()) <= sum(before.tasks.values()) + 2, (before.tasks, after.tasks)
    assert after.programs == []


def _tell(home: Home, work: Work, course: Course, ends: Counter[str], before: Rest, after: Rest) -> None:
    lags = sorted(lag for line in watched(home) for lag in line["lags"])
    store = sum(path.stat().st_size for path in home.state.rglob("*") if path.is_file()) / MIB
    print(f"ended by {dict(ends)}; one life of {len(course.resident)} s, {course.slope:+.1f} MB an hour")
    for name, rest in (("before", before), ("after", after)):
        print(
            f"{name}: RSS {rest.resident:.1f} MB, PSS {rest.proportional:.1f} MB, {rest.threads} threads,"
            f" {len(rest.files)} files, {sum(rest.tasks.values())} tasks {rest.tasks}"
        )
    print(f"under load: RSS at most {max(size for _, size in course.resident):.1f} MB")
    print(
        f"lag of the loop: p50 {lags[len(lags) // 2]} ms, p99 {lags[len(lags) * 99 // 100]} ms, worst {lags[-1]} ms"
    )
    print(
        f"state and backups: {store:.1f} MB, state.db {(home.state / 'state.db').stat().st_size / MIB:.1f} MB"
    )
    for counter in (work.ledger.answers, work.ledger.ends):
        print(*(f"  {key} x {count}" for key, count in sorted(counter.items())), sep="\n")
