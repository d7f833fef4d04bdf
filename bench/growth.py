"""Whether a long past makes it slower: the same with a few and with very many deployments in the journal."""

import sqlite3
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack, closing
from pathlib import Path

from agent.store.trimming import DELIVERIES, DEPLOYMENTS, EVENTS
from bench.options import Options
from bench.processes import MIB
from bench.report import Report, Table, goal, middle, ratio, show
from tests.world import Home, a_home

NAME = "growth"
FEW, MANY = 10, 10_000
ASKED = 100
PAST = """
INSERT INTO deployments(id, service, state, revision, previous, kind, event, delivery, actor, release, config_hash,
    created_at, finished_at)
  VALUES(printf('%012x', ?1), 'app', 'succeeded', printf('%040x', ?1), printf('%040x', ?1 - 1), 'webhook', 'push',
    printf('%032x', ?1), 'me', ?1 || '-0000000', 'h', ?1, ?1);
INSERT INTO steps(deployment, position, name, state, started_at, finished_at, output)
  SELECT number, 1, 'building', 'done', ?1, ?1, printf('%0400d', 0) FROM deployments WHERE id = printf('%012x', ?1);
INSERT INTO deliveries(digest, id, event, received_at, secret, repository, ref, revision, sender, decision, reason)
  VALUES(printf('%064x', ?1), printf('%032x', ?1), 'push', ?1, 0, 'me/app', 'refs/heads/main', printf('%040x', ?1),
    'me', 'deploy', '');
INSERT INTO outcomes(delivery, service, revision, deployment)
  SELECT number, 'app', printf('%040x', ?1), printf('%012x', ?1) FROM deliveries WHERE id = printf('%032x', ?1);
INSERT INTO events(at, name, service, deployment, data)
  VALUES(?1, 'deployment.succeeded', 'app', printf('%012x', ?1), '{}')
"""
"""What a deployment by a push leaves, with ?1 as its number and its time."""


def run(options: Options) -> Report:
    """In turns: an agent with a short past and one with a long one."""
    status: dict[int, list[float]] = defaultdict(list)
    taken: dict[int, list[float]] = defaultdict(list)
    size: dict[int, float] = {}
    with ExitStack() as stack:
        homes = {count: _a_home_with(stack, count) for count in (FEW, MANY)}
        for number in range(1, 2 * options.rounds + 5):
            for count, home in homes.items():
                begun = time.perf_counter()
                assert home.deploy(f"v{number}")["state"] == "succeeded"
                taken[count].append(time.perf_counter() - begun)
                status[count] += [_asked(home) for _ in range(ASKED)]
        for count, home in homes.items():
            home.stop()
            size[count] = (home.state / "state.db").stat().st_size / MIB
    return _report(options, status, taken, size)


def _a_home_with(stack: ExitStack, count: int) -> Home:
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
    home = stack.enter_context(a_home(directory / "home"))
    home.start()
    assert home.deploy("v0")["state"] == "succeeded"
    home.stop()
    with closing(sqlite3.connect(home.state / "state.db")) as state, state:
        for number in range(1, count):
            for statement in PAST.split(";"):
                state.execute(statement, (number,))
    home.start()
    return home


def _asked(home: Home) -> float:
    begun = time.perf_counter()
    assert home.get("/status").status == 200
    return time.perf_counter() - begun


def _report(
    options: Options, status: dict[int, list[float]], taken: dict[int, list[float]], size: dict[int, float]
) -> Report:
    medians = {
        "`/status` (ms)": {count: _ms(values) for count, values in status.items()},
        "a deployment (ms)": {count: _ms(values) for count, values in taken.items()},
    }
    rows = [
        (what, show(found[FEW], "{:.1f}"), show(found[MANY], "{:.1f}"),
         show(ratio(found[MANY], found[FEW]), "{:.2f}"))
        for what, found in medians.items()
    ]  # fmt: skip
    sizes = ("`state.db` (MiB)", f"{size[FEW]:.1f}", f"{size[MANY]:.1f}", "")
    return Report(
        NAME, "Growth",
        [
            f"Two agents in turns, one with {FEW} and one with {MANY:,} earlier deployments in its journal, each with",
            "its delivery and its event; medians of",
            f"{2 * options.rounds + 4} deployments and {ASKED} questions after each.",
        ],
        [Table("The same work", ("", f"{FEW} deployments", f"{MANY:,} deployments", "ratio"), [*rows, sizes])],
        [
            goal(what.partition(" (")[0], "≤ 1.1 ×", ratio(found[MANY], found[FEW]), "{:.2f} ×", most=1.1)
            for what, found in medians.items()
        ],
        [
            (
                f"Such a past does not come by itself: the agent keeps {DEPLOYMENTS:,} deployments of each service,"
                f" {DELIVERIES:,} deliveries and {EVENTS:,} events, and lets the rest go a little at a time."
            )
        ],
    )  # fmt: skip


def _ms(seconds: list[float]) -> float | None:
    found = middle(seconds)
    return None if found is None else found * 1000
