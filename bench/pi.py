"""What homeport costs and how fast it is as it is installed: on a virtual Pi, its service a unit of systemd."""

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from bench import webhook
from bench.board import HEAVY, Board, Way, pause
from bench.deploy import POLL_SECONDS, Figures
from bench.options import Options
from bench.processes import MIB, memory, processor_seconds, proportional
from bench.report import Goal, Report, Table, goal, ratio, show
from tests.e2e import wheelhouse
from tests.e2e.documented import UNIT
from tests.e2e.installed import PORT
from tests.e2e.pi import Pi, a_pi
from tests.world import SERVE, wait_for

NAME = "pi"
OPTIONS = ("--docker-arg", "--network=none")
SETTLE_SECONDS = 10.0
SERVICES = {"light": SERVE, "heavier": HEAVY}
FIRST, OUTAGE = "first healthy answer", "outage"
NEEDED = ("docker", "dockerd", "debootstrap", "mkfs.ext4")
BY_HAND = "systemctl restart"

# By the installed agent's own adapter, in the installed agent's own environment.
_RESTARTS = """
import asyncio, json, subprocess, sys, time
from agent.system.bus import BusUnits
from agent.system.units import Verb

async def measure(unit, rounds):
    taken = {"bus": [], "systemctl": []}
    units = BusUnits()
    for _ in range(rounds + 1):
        await units.call(Verb.RESET_FAILED, unit, patience=30)
        begun = time.perf_counter()
        assert await units.call(Verb.RESTART, unit, patience=30) == "done"
        taken["bus"].append(time.perf_counter() - begun)
        begun = time.perf_counter()
        subprocess.run(["systemctl", "restart", unit], check=True)
        taken["systemctl"].append(time.perf_counter() - begun)
    await units.close()
    print(json.dumps({name: values[1:] for name, values in taken.items()}))

asyncio.run(measure(sys.argv[1], int(sys.argv[2])))
"""


def run(options: Options) -> Report:
    """Deployments in turns, restarts in turns, the agent at rest, and boots; all on one Pi."""
    missing = [
        name for name in NEEDED if shutil.which(name, path="/usr/sbin:/usr/bin:/bin:/usr/local/bin") is None
    ]
    if missing:
        why = f"Not measured: a virtual Pi needs root, {', '.join(NEEDED)}."
        return Report(NAME, "On a virtual Pi", [why])
    figures, times = Figures(), options.rounds + 2
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, a_pi(*OPTIONS) as pi:
        board = Board(pi, wheelhouse.build(Path(directory)))
        if webhook.installed():
            board.add_peer()
        for service, text in SERVICES.items():
            _deployments(figures, board, service, text, times)
        _restarts(figures, pi, 4 * times)
        rest = _rest(board, options.rest)
        _boots(figures, board, times)
    return _report(figures, options, times, rest)


# --- deployments


def _deployments(figures: Figures, board: Board, service: str, text: str, times: int) -> None:
    ways = board.ways()
    for number in range(times + 1):
        for way in ways:
            version = f"{service}-{number}-{way.name.replace(' ', '-')}"
            taken = _deployed(board, way, version, text)
            for what, value in taken.items():
                if number:  # the first of each is not like the others: another service was there
                    figures.add(f"{way.name}, {service}", what, value)
        if number:
            figures.add(f"{BY_HAND}, {service}", OUTAGE, _restarted_by_hand(board))


def _deployed(board: Board, way: Way, version: str, text: str) -> dict[str, float]:
    revision = board.app.commit(version, serve__py=text)
    with board.polling(way.port, POLL_SECONDS) as poller:
        begun = board.deliver(way.url, revision)
        first = wait_for(f"{version} to answer", lambda: poller.first(version))
        pause()
        way.settle()
    outage, failed = poller.outage()
    return {FIRST: first - begun, OUTAGE: outage, "failed polls": failed}


def _restarted_by_hand(board: Board) -> float:
    """What the service's users see of `systemctl restart`, the least that a deployment can cost a unit."""
    with board.polling(PORT, POLL_SECONDS) as poller:
        board.pi.run("systemctl", "restart", UNIT)
        wait_for("the service", board.app.service)
        pause()
    return poller.outage()[0]


def _restarts(figures: Figures, pi: Pi, times: int) -> None:
    """Of a unit that does nothing, so that systemd and the way to it are what takes the time."""
    pi.put("/etc/systemd/system/idle.service", "[Service]\nType=exec\nExecStart=/bin/sleep infinity\n")
    pi.run("systemctl", "daemon-reload")
    pi.run("systemctl", "start", "idle.service")
    told = pi.run("/opt/homeport/bin/python", "-c", _RESTARTS, "idle.service", str(times)).stdout
    for name, values in json.loads(told).items():
        for value in values:
            figures.add("restart", name, value)


# --- at rest


def _rest(board: Board, seconds: float) -> dict[str, float]:
    """The agent's own process, after all those deployments, with the default settings of monitor and polls."""
    (inside,) = board.app.shown("homeport", "MainPID")
    pid = _seen_from_here(board.pi, int(inside))
    time.sleep(SETTLE_SECONDS)
    before, begun = processor_seconds(pid), time.monotonic()
    time.sleep(seconds)
    taken = time.monotonic() - begun
    return {
        "memory": memory(pid) / MIB,
        "proportional": proportional(pid) / MIB,
        "processor": (processor_seconds(pid) - before) / taken * 3600,
    }


def _seen_from_here(pi: Pi, inside: int) -> int:
    """The number here of a process in the Pi."""
    namespace = (pi.root.parent / "ns" / "pid").readlink()
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdecimal() and (entry / "ns" / "pid").readlink() == namespace:
                numbers = next(
                    line.split()[1:]
                    for line in (entry / "status").read_text().splitlines()
                    if line.startswith("NSpid:")
                )
                if int(numbers[-1]) == inside:
                    return int(entry.name)
    raise AssertionError(f"no process {inside} in the Pi")


# --- boots


def _boots(figures: Figures, board: Board, times: int) -> None:
    for _ in range(times):
        board.pi.reboot()
        board.app.healthy()
        for name, seconds in _since_the_boot(board.pi):
            figures.add("boot", name, seconds)


def _since_the_boot(pi: Pi) -> Iterator[tuple[str, float]]:
    """From the first instant of systemd to each unit's being active; and the agent's own part of it."""
    boot = int(pi.run("systemctl", "show", "--property=UserspaceTimestampMonotonic", "--value").stdout)
    for unit in ("homeport.service", UNIT):
        names = ("InactiveExitTimestampMonotonic", "ActiveEnterTimestampMonotonic")
        told = pi.run("systemctl", "show", unit, f"--property={','.join(names)}").stdout
        found = dict(line.split("=") for line in told.splitlines())
        begun, active = (int(found[name]) for name in names)
        yield f"{unit} active", (active - boot) / 1e6
        if unit == "homeport.service":
            yield "its own start", (active - begun) / 1e6


# --- the report


def _report(figures: Figures, options: Options, times: int, rest: dict[str, float]) -> Report:
    names = ["homeport", "script", "script with pip"]
    seen = [
        [
            f"{who}, {service}",
            show(figures.milliseconds(f"{who}, {service}", FIRST)),
            show(_beside(figures, f"{who}, {service}", service), "{:.2f}"),
            show(figures.milliseconds(f"{who}, {service}", OUTAGE)),
            show(figures.middle(f"{who}, {service}", "failed polls"), "{:g}"),
        ]
        for service in SERVICES
        for who in names
    ]
    for service in SERVICES:
        alone = show(figures.milliseconds(f"{BY_HAND}, {service}", OUTAGE))
        seen.append([f"`{BY_HAND}` by hand, {service}", "–", "–", alone, "–"])
    restarts = [
        [name, show(figures.milliseconds("restart", name), "{:.1f}")] for name in ("bus", "systemctl")
    ]
    idle = [
        ("memory (RSS)", f"{rest['memory']:.0f} MB"),
        ("the same, shared pages by their share (PSS)", f"{rest['proportional']:.0f} MB"),
        ("processor", f"{rest['processor']:.1f} s an hour"),
    ]
    boots = [[name, f"{show(figures.milliseconds('boot', name))} ms"] for name in figures.kinds("boot")]
    head = (
        "",
        "delivery to first healthy answer (ms)",
        "homeport's ratio to it",
        "outage seen (ms)",
        "failed polls",
    )
    return Report(
        NAME, "On a virtual Pi",
        [
            ("A container that boots a real systemd, with all of this machine's cores; homeport installed by `homeport"
            " install`, under its own closed unit; the service is a unit with a user of its own."),
            ("Peer: Debian's `webhook` on the same Pi with a script (fetch, reset, with or without a `pip install -r`"
            " that has nothing to do, `systemctl restart`, curl loop)."),
            ("The heavier service is busy for 0.4 s of the processor before it listens. A poller in the Pi asks every"
            f" {POLL_SECONDS * 1000:.0f} ms over a new connection. Medians of {times} deployments each, in turns."),
        ],
        [
            Table("Deployments, seen from outside", head, seen),
            Table(f"A restart and the end of systemd's job (ms), median of {4 * times} in turns", ("", ""), restarts),
            Table(f"The agent at rest, over {options.rest:.0f} s", ("", ""), idle),
            Table(f"From the first instant of systemd, median of {times} boots", ("", ""), boots),
        ],
        _goals(figures, rest),
        _notes(),
    )  # fmt: skip


def _beside(figures: Figures, who: str, service: str) -> float | None:
    ours = figures.milliseconds(f"homeport, {service}", FIRST)
    return ratio(ours, figures.milliseconds(who, FIRST))


def _goals(figures: Figures, rest: dict[str, float]) -> list[Goal]:
    found = []
    for service in SERVICES:
        with_pip = _beside(figures, f"script with pip, {service}", service)
        found.append(goal(f"{FIRST}, {service}", "≤ 0.5 × script with pip", with_pip, "{:.2f} ×", most=0.5))
        alone = figures.milliseconds(f"{BY_HAND}, {service}", OUTAGE)
        outage = ratio(figures.milliseconds(f"homeport, {service}", OUTAGE), alone)
        found.append(goal(f"outage, {service}", f"≤ 1 × `{BY_HAND}`", outage, "{:.2f} ×", most=1.0))
    bus, command = (figures.milliseconds("restart", name) for name in ("bus", "systemctl"))
    found.append(goal("restart by the bus", "≤ 1 × systemctl", ratio(bus, command), "{:.2f} ×", most=1.0))
    found.append(goal("memory at rest", "≤ 48 MB", rest["memory"], "{:.0f} MB", most=48))
    return found


def _notes() -> list[str]:
    notes = [
        "The limit of the heavier one is its own start, which everybody waits for; homeport adds about 0.1 s to it.",
        (
            "piku is not beside it: Debian has no package of it, and the `piku` on PyPI is another program. Measured"
            " once on such a Pi, with a push over ssh: 3,663 ms and an outage of 1,150 ms."
        ),
    ]
    return notes if webhook.installed() else [*notes, webhook.MISSING]
