"""Accepted deliveries per second, how long the slowest percent waits, and what it weighs meanwhile."""

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import webhook
from bench.options import Options
from bench.processes import MIB, memory
from bench.report import Goal, Report, Table, goal, middle, ratio, show
from tests.world import SECRET, Home, a_home, wait_for

NAME = "deliveries"
CONNECTIONS = (1, 16, 64)
BAD_CONNECTIONS = 16
ROOT = Path(__file__).resolve().parent.parent

Key = tuple[str, int, bool]
"""Whose figure, at how many connections, with bad signatures."""


@dataclass(frozen=True)
class Target:
    """Where the load goes, and what answers count as the right ones."""

    who: str
    port: int
    path: str
    good: frozenset[str]
    bad: frozenset[str]


class Figures:
    """What the rounds brought."""

    def __init__(self) -> None:
        self.rates: dict[Key, list[float]] = defaultdict(list)
        self.p50: dict[Key, list[float]] = defaultdict(list)
        self.p99: dict[Key, list[float]] = defaultdict(list)
        self.peaks: dict[str, list[float]] = defaultdict(list)
        self.wrong: dict[str, int] = defaultdict(int)

    def rate(self, who: str, connections: int, bad: bool = False) -> float | None:
        """Right answers per second."""
        return middle(self.rates[who, connections, bad])

    def slowest(self, who: str, connections: int, bad: bool = False) -> float | None:
        """The 99th percentile, in milliseconds."""
        return middle(self.p99[who, connections, bad])

    def median(self, who: str, connections: int, bad: bool = False) -> float | None:
        """The 50th percentile, in milliseconds."""
        return middle(self.p50[who, connections, bad])


def run(options: Options) -> Report:
    """In turns: the agent, then the peer, each started afresh, so many rounds."""
    figures = Figures()
    for _ in range(options.rounds):
        _ours(figures, options.seconds)
        if webhook.installed():
            _theirs(figures, options.seconds)
    return _report(figures, options)


def _ours(figures: Figures, seconds: float) -> None:
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, a_home(Path(directory) / "home") as home:
        # one deployment is being built all the time, as in a real burst: what comes meanwhile is queued
        service = home.settings["services"]["app"]
        service["deploy"] = {"shared": ["data"], "build": {"commands": ["sleep 600"], "timeout": "20m"}}
        del home.settings["monitor"]
        home.save()
        home.start()
        identity = home.push("v1")
        wait_for("the build to begin", lambda: home.deployment(identity)["state"] == "building")
        assert home.process is not None
        accepted, refused = frozenset({"202"}), frozenset({"401", "429"})
        target = Target("homeport", home.port, "/webhook", accepted, refused)
        _attack(figures, target, home.directory / "secret", home.process.pid, seconds)
        _check(home)


def _check(home: Home) -> None:
    """After the load the agent still works, and its first deployment was not disturbed."""
    assert home.get("/health").status == 200, "the agent is not well after the load"


def _theirs(figures: Figures, seconds: float) -> None:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        secret = directory / "secret"
        secret.write_text(SECRET)
        peer = stack.enter_context(webhook.a_webhook(directory, ["/bin/true"]))
        # it answers a bad signature with 500
        target = Target("webhook", peer.port, webhook.PATH, frozenset({"200"}), frozenset({"500"}))
        _attack(figures, target, secret, peer.pid, seconds, peer)


def _attack(
    figures: Figures, target: Target, secret: Path, pid: int, seconds: float, peer: webhook.Peer | None = None
) -> None:
    for connections, bad in [*((number, False) for number in CONNECTIONS), (BAD_CONNECTIONS, True)]:
        command = [
            sys.executable, "-m", "bench.load", "--port", str(target.port), "--path", target.path,
            "--secret", str(secret), "--connections", str(connections), "--seconds", str(seconds),
        ]  # fmt: skip
        command += ["--bad"] if bad else []
        done = subprocess.run(
            command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, timeout=seconds + 60
        )
        _note(figures, target, connections, bad, json.loads(done.stdout))
        if peer is not None:
            peer.settle()
    figures.peaks[target.who].append(memory(pid, "VmHWM") / MIB)


def _note(figures: Figures, target: Target, connections: int, bad: bool, found: dict[str, object]) -> None:
    statuses = found["statuses"]
    assert isinstance(statuses, dict)
    right = sum(count for status, count in statuses.items() if status in (target.bad if bad else target.good))
    seconds, p50, p99 = found["seconds"], found["p50"], found["p99"]
    assert isinstance(seconds, float)
    key = (target.who, connections, bad)
    figures.rates[key].append(right / seconds)
    if isinstance(p50, float) and isinstance(p99, float):
        figures.p50[key].append(p50 * 1000)
        figures.p99[key].append(p99 * 1000)
    broken = found["broken"]
    figures.wrong[target.who] += sum(statuses.values()) - right + (broken if isinstance(broken, int) else 0)


def _report(figures: Figures, options: Options) -> Report:
    cells = [*((number, False) for number in CONNECTIONS), (BAD_CONNECTIONS, True)]
    rows = [_row(figures, connections, bad) for connections, bad in cells]
    columns = (
        "load", "homeport /s", "webhook /s", "ratio", "homeport p50 / p99 ms", "webhook p50 / p99 ms", "p99 ratio"
    )  # fmt: skip
    ours, theirs = middle(figures.peaks["homeport"]), middle(figures.peaks["webhook"])
    peaks = Table(
        "Peak memory of the process under this load (MB)",
        ("homeport", "webhook", "ratio"),
        [(show(ours), show(theirs), show(ratio(ours, theirs), "{:.2f}"))],
    )
    notes = [
        (
            "homeport's 202 means verified, de-duplicated, queued and synced to the disk; webhook's 200 means that"
            " /bin/true was started. The load generator runs on the same cores."
        ),
        (
            "The limit: one Python process takes a delivery in, about 0.2 ms of the processor for the request and as"
            " much in the thread that writes it, half of that in the kernel; the answer waits for the disk. `webhook`"
            " is compiled, uses every core and writes nothing. Tried and of no use here: uvloop (no more answers, 2 MB"
            " more). A Pi gets a few deliveries a day; what counts is that the slowest of a burst is answered in time"
            " (GitHub waits 10 s)."
        ),
        f"Wrong or broken answers: homeport {figures.wrong['homeport']}, webhook {figures.wrong['webhook']}.",
    ]
    return Report(
        NAME, "Deliveries",
        [
            (f"Unique signed pushes of 6.9 KB over kept-alive loopback connections, {options.seconds:g} s each, "
            f"median of {options.rounds} rounds in turns; a build of the service is under way meanwhile."),
            "Peer: Debian's `webhook`, checking signature and branch, running /bin/true.",
        ],
        [Table("Answers", columns, rows), peaks],
        _goals(figures, ours),
        notes if webhook.installed() else [*notes, webhook.MISSING],
    )  # fmt: skip


def _row(figures: Figures, connections: int, bad: bool) -> list[str]:
    ours, theirs = (figures.rate(who, connections, bad) for who in ("homeport", "webhook"))
    slow, slower = (figures.slowest(who, connections, bad) for who in ("homeport", "webhook"))
    half, other = (figures.median(who, connections, bad) for who in ("homeport", "webhook"))
    return [
        f"{connections} connection{'s' if connections > 1 else ''}{', bad signatures' if bad else ''}",
        show(ours), show(theirs), show(ratio(ours, theirs), "{:.2f}"),
        f"{show(half, '{:.1f}')} / {show(slow, '{:.1f}')}", f"{show(other, '{:.1f}')} / {show(slower, '{:.1f}')}",
        show(ratio(slow, slower), "{:.2f}"),
    ]  # fmt: skip


def _goals(figures: Figures, peak: float | None) -> list[Goal]:
    goals = []
    for connections, least in ((1, 0.8), (16, 1.0), (64, 1.0)):
        found = ratio(figures.rate("homeport", connections), figures.rate("webhook", connections))
        goals.append(goal(f"rate at {connections}", f"≥ {least:g} × webhook", found, "{:.2f} ×", least=least))
    for connections in (16, 64):
        found = ratio(figures.slowest("homeport", connections), figures.slowest("webhook", connections))
        goals.append(goal(f"p99 at {connections}", "≤ 0.25 × webhook", found, "{:.2f} ×", most=0.25))
    bad = ratio(
        figures.rate("homeport", BAD_CONNECTIONS, True), figures.rate("webhook", BAD_CONNECTIONS, True)
    )
    goals.append(goal("bad signatures", "≥ 2.5 × webhook", bad, "{:.2f} ×", least=2.5))
    goals.append(goal("peak memory", "< 64 MB", peak, "{:.0f} MB", most=64.0))
    return goals
