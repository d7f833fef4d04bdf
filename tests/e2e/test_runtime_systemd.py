"""The runtime `systemd`, a way to systemd after the other, against the systemd of a virtual Pi.

The runtime runs here and asks over the Pi's own bus; the unit runs in the Pi. A directory is the same on both sides.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from agent.adapters.probes import PROBES
from agent.adapters.runtimes.systemd import SystemdRuntime
from agent.core import settings
from agent.core.errors import StepFailed
from agent.core.model import RELEASE_ENVIRONMENT, Fault, Launch, Running
from agent.system.bus import BusUnits
from agent.system.systemctl import CommandUnits
from agent.system.systemd import Systemd
from agent.system.units import UnitError, Units, Verb, Why
from tests.contracts.probes import a_launch as a_question
from tests.contracts.probes import around
from tests.contracts.test_runtime import (  # noqa: F401 - the contract, over this runtime
    Elsewhere,
    ended,
    test_a_new_process_is_a_new_instance,
    test_a_process_that_died_is_not_found,
    test_a_release_that_is_gone_cannot_be_started_and_is_not_to_blame,
    test_after_stop_nothing_runs_and_stopping_again_does_nothing,
    test_another_release_is_not_started_beside_one_that_runs,
    test_nothing_runs_before_the_first_start,
    test_starting_the_same_release_twice_leaves_the_process_alone,
    test_starts_that_come_together_start_one_process,
    test_what_can_be_started_passes_the_check_and_nothing_is_changed,
    test_what_died_can_be_started_again,
    test_what_was_started_is_found,
)
from tests.e2e.pi import Pi
from tests.system.services import a_launch
from tests.world import wait_for

pytestmark = pytest.mark.root

SHARED = Path(f"/srv/homeport-runtime-{os.getpid()}")
PI = ("--docker-arg", "-v", "--docker-arg", f"{SHARED}:{SHARED}")
UNIT = "tried.service"
PLAIN = "[Service]\nExecStart=/bin/sleep 600\n"
PATIENCE = 60.0
"""Seconds for what systemd and journald do by themselves, also on a busy machine."""
NOISE = """
import socket, time
while True:
    try:
        socket.create_connection(("127.0.0.1", 9345), 1).close()
    except OSError:
        pass
    time.sleep(0.01)
"""
"""Somebody who connects all the time."""


@pytest.fixture(scope="module", autouse=True)
def _shared_directory() -> Iterator[None]:
    """Before the Pi, which mounts it."""
    SHARED.mkdir(exist_ok=True)
    yield
    shutil.rmtree(SHARED)


@pytest.fixture
def put(pi: Pi) -> Iterator[Callable[..., None]]:
    """Writes a unit; at the end of the test none is left."""
    units: set[str] = set()

    def write(text: str, unit: str = UNIT) -> None:
        units.add(unit)
        pi.put(f"/etc/systemd/system/{unit}", text)
        pi.run("systemctl", "daemon-reload")

    yield write
    for unit in units:
        pi.run("systemctl", "kill", "--signal=KILL", unit, check=False)
        pi.run("systemctl", "stop", unit, check=False)
        pi.run("systemctl", "reset-failed", unit, check=False)
        pi.run("rm", "-f", f"/etc/systemd/system/{unit}")
    pi.run("systemctl", "daemon-reload")


class OnPi(SystemdRuntime, Elsewhere):
    """The runtime, whose unit is the Pi's."""

    def __init__(self, pi: Pi, options: settings.SystemdRuntime, directory: Path, units: Units) -> None:
        journal = ("docker", "exec", pi.name, "journalctl")
        super().__init__(
            options, state=directory / "state", directory=directory, units=units, journal=journal
        )
        self._pi = pi

    def die(self) -> None:
        """The main process is killed."""
        self._pi.run("systemctl", "kill", "--kill-who=main", "--signal=KILL", UNIT)

    def lives(self, running: Running | None) -> bool:
        """Asked by the Pi's own program."""
        shown = self._pi.run("systemctl", "show", "--property=InvocationID,ActiveState", UNIT).stdout
        return running is not None and f"InvocationID={running.instance}\nActiveState=active" in "\n".join(
            sorted(shown.split(), reverse=True)
        )


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest) -> Path:
    """On both sides the same."""
    place = SHARED / str(request.node.name)[:60].replace("[", "-").replace("]", "")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    return place


@pytest.fixture(params=["bus", "systemctl"])
async def units(
    request: pytest.FixtureRequest, pi: Pi, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Units]:
    """Both ways to the Pi's systemd."""
    way: Units
    if request.param == "bus":
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={pi.root}/run/dbus/system_bus_socket")
        way = BusUnits()
    else:
        way = OnPiByCommand(pi)
    yield way
    await way.close()


class OnPiByCommand(CommandUnits):
    """systemctl, in the Pi."""

    def __init__(self, pi: Pi, *before: str, user: str = "root") -> None:
        super().__init__(before)
        self._in = ("docker", "exec", "--user", user, "--env", "LC_ALL=C", pi.name)

    async def _run(self, command: Sequence[str], patience: float) -> str:
        return await super()._run([*self._in, *command], patience)


@pytest.fixture
def runtime(pi: Pi, put: Callable[..., None], tmp_path: Path, units: Units) -> OnPi:
    """A unit that sleeps."""
    put(PLAIN)
    return OnPi(pi, settings.SystemdRuntime(unit=UNIT), tmp_path, units)


async def named(runtime: OnPi) -> str:
    """Which release is said to run."""
    running = await runtime.look()
    assert running is not None
    return running.release


def released(tmp_path: Path, name: str = "1-aaaaaaa") -> Launch:
    """A release that `current` names."""
    place = tmp_path / "releases" / name
    place.mkdir(parents=True, exist_ok=True)
    link = tmp_path / "current"
    link.unlink(missing_ok=True)
    link.symlink_to(f"releases/{name}")
    return a_launch(tmp_path, name, directory=str(place))


# --- what is particular to systemd


async def test_a_restart_by_systemd_is_another_instance_of_the_same_release(
    runtime: OnPi, put: Callable[..., None], tmp_path: Path
) -> None:
    """R-SD-10: the success of a start proves nothing; another invocation than before is a restart."""
    put(f"{PLAIN}Restart=always\nRestartSec=100ms\n")
    first = await runtime.start(released(tmp_path))
    runtime.die()
    async with asyncio.timeout(PATIENCE):
        while (second := await runtime.look()) in (None, first):  # noqa: ASYNC110 - the event is systemd's
            await asyncio.sleep(0.05)
    assert second is not None
    assert second.release == first.release
    assert await runtime.look() == second


async def test_who_was_started_while_current_named_another_release_is_not_taken_for_it(
    runtime: OnPi, pi: Pi, tmp_path: Path
) -> None:
    """F10: a power cut between the link and the start; the boot then starts what the link names."""
    await runtime.start(released(tmp_path))
    released(tmp_path, "2-bbbbbbb")
    assert await named(runtime) == "1-aaaaaaa"
    pi.run("systemctl", "restart", UNIT)
    assert await named(runtime) == ""
    released(tmp_path)  # and only then back
    assert await named(runtime) == "", "that it is named again does not make it known"
    with pytest.raises(StepFailed, match="another release"):
        await runtime.start(released(tmp_path, "2-bbbbbbb"))


async def test_the_unit_finds_its_release_and_its_environment(
    pi: Pi, put: Callable[..., None], tmp_path: Path, units: Units
) -> None:
    """CONTRACT: HOMEPORT_SERVICE, HOMEPORT_REVISION and runtime.environment, whatever they hold."""
    odd = "a\"b\\c`d$e f'g#h;i%j"
    current = tmp_path / "current"
    put(
        f"[Service]\nType=notify\nNotifyAccess=all\nWorkingDirectory={current}\n"
        f"EnvironmentFile={current}/{RELEASE_ENVIRONMENT}\n"
        "ExecStart=/bin/sh -c 'pwd -P; env -0 > env; systemd-notify --ready; exec sleep 600'\n"
    )
    options = settings.SystemdRuntime(unit=UNIT, environment={"ODD": odd})
    runtime = OnPi(pi, options, tmp_path, units)
    launch = released(tmp_path)
    await runtime.check(launch)
    await runtime.start(launch)
    place = Path(launch.directory)
    found = dict(entry.split("=", 1) for entry in (place / "env").read_text().split("\0") if entry)
    assert found["ODD"] == odd
    assert (found["HOMEPORT_SERVICE"], found["HOMEPORT_REVISION"]) == (launch.service, launch.revision)
    assert "HOMEPORT_TOKEN" not in found
    async with asyncio.timeout(PATIENCE):
        while str(place) not in await runtime.output():  # noqa: ASYNC110 - the event is journald's
            await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("unit", "code", "fault"),
    [
        (
            "[Service]\nType=exec\nExecStart=/bin/true\nUser=nobody-of-that-name\n",
            "runtime-failed",
            Fault.WORLD,
        ),
        ("[Service]\nType=exec\nExecStart=/nonexistent\n", "start-failed", Fault.COMMIT),
        ("[Unit]\nConditionPathExists=/no\n" + PLAIN, "start-failed", Fault.COMMIT),
        ("[Service]\nType=oneshot\nExecStart=/bin/true\n", "start-failed", Fault.COMMIT),
        (
            "[Service]\nType=notify\nExecStart=/bin/sh -c 'echo oh no; sleep 0.3; exit 3'\n",
            "start-failed",
            Fault.COMMIT,
        ),
        (
            "[Service]\nType=notify\nTimeoutStartSec=1\nExecStart=/bin/sleep 60\n",
            "start-failed",
            Fault.COMMIT,
        ),
        ("[Unit]\nRequires=nope.service\nAfter=nope.service\n" + PLAIN, "unit-unknown", Fault.WORLD),
    ],
)
async def test_whose_fault_a_failed_start_is(
    runtime: OnPi, put: Callable[..., None], tmp_path: Path, unit: str, code: str, fault: Fault
) -> None:
    put(unit)
    with pytest.raises(StepFailed) as failure:
        await runtime.start(released(tmp_path))
    assert (failure.value.code, failure.value.fault) == (code, fault), failure.value
    if "oh no" in unit:
        assert "status=3" in failure.value.output
        async with asyncio.timeout(PATIENCE):  # the journal is slow on a busy machine
            while "oh no" not in await runtime.output():  # noqa: ASYNC110 - the event is journald's
                await asyncio.sleep(0.1)


async def test_the_last_words_of_a_version_that_ends_at_once_are_there(
    runtime: OnPi, put: Callable[..., None], tmp_path: Path
) -> None:
    """Of most of them journald does not know the invocation: it looks at a process that is gone."""
    put("[Service]\nType=exec\nExecStart=/bin/sh -c 'echo oh no $$$$; exit 3'\n")
    for number in range(5):
        with suppress(StepFailed):  # whether it is still seen alive is chance
            await runtime.start(released(tmp_path, f"{number}-aaaaaaa"))
        async with asyncio.timeout(PATIENCE):
            while not (said := await runtime.output()).count("oh no"):  # noqa: ASYNC110 - the event is journald's
                await asyncio.sleep(0.1)
        assert said.count("oh no") == 1, "and nothing of the one before"
        await runtime.stop()


async def test_what_the_first_start_said_is_there_when_systemd_has_started_it_again(
    runtime: OnPi, put: Callable[..., None], tmp_path: Path
) -> None:
    """R-SD-10: a restart is a failure, and whoever reads why wants to know what happened before it."""
    again = tmp_path / "again"
    script = f"test -e {again} && exec sleep 600; echo the first one dies; touch {again}; sleep 0.3; exit 3"
    put(f"[Service]\nType=exec\nRestart=always\nRestartSec=10ms\nExecStart=/bin/sh -c '{script}'\n")
    first = await runtime.start(released(tmp_path))
    async with asyncio.timeout(PATIENCE):
        while await runtime.look() in (None, first):  # noqa: ASYNC110 - the event is systemd's
            await asyncio.sleep(0.05)
        while "the first one dies" not in await runtime.output():  # noqa: ASYNC110 - the event is journald's
            await asyncio.sleep(0.1)


async def test_who_is_about_to_be_started_again_by_systemd_is_told_apart(
    runtime: OnPi, pi: Pi, put: Callable[..., None], tmp_path: Path
) -> None:
    """`Restart=` waits, or has given up, or was never meant: the healer stays out of the way of the first only."""
    unit = "[Unit]\nStartLimitBurst=2\nStartLimitIntervalSec=1h\n{}Restart=always\nRestartSec={}\n".format
    put(unit(PLAIN, "1h"))  # it waits for as long as somebody looks
    await runtime.start(released(tmp_path))
    assert not await runtime.recovers()
    await ended(runtime, await runtime.look())
    assert await runtime.recovers()
    put(unit("[Service]\nExecStart=/bin/false\n", "100ms"))
    pi.run("systemctl", "stop", UNIT)
    assert not await runtime.recovers()
    pi.run("systemctl", "start", UNIT, check=False)
    wait_for("the limit", lambda: pi.run("systemctl", "is-failed", UNIT, check=False).returncode == 0)
    assert not await runtime.recovers()


async def test_a_socket_that_starts_it_between_stop_and_start_is_no_obstacle(
    pi: Pi, put: Callable[..., None], runtime: OnPi, tmp_path: Path
) -> None:
    """Somebody connects all the time: as soon as the old instance has ended, systemd starts the new one."""
    put("[Socket]\nListenStream=127.0.0.1:9345\n", "tried.socket")
    put(PLAIN)
    pi.run("systemctl", "start", "tried.socket")
    await runtime.start(released(tmp_path))
    pi.run("sh", "-c", f"python3 -S -c '{NOISE}' >/dev/null 2>&1 & echo $! >/tmp/noise")
    try:
        for number, name in enumerate(("2-bbbbbbb", "3-ccccccc", "4-ddddddd")):
            launch = released(tmp_path, name)
            await runtime.look()
            await runtime.stop()
            await asyncio.sleep(0.2 * number)
            assert (await runtime.start(launch)).release == name
            assert await named(runtime) == name
    finally:
        pi.run("sh", "-c", "kill $(cat /tmp/noise)")
        pi.run("systemctl", "stop", "tried.socket", "tried.service", check=False)


async def test_many_starts_do_not_meet_systemds_limit(runtime: OnPi, tmp_path: Path) -> None:
    """R-SD-10: manual starts count for StartLimitBurst, five in ten seconds by default."""
    for _ in range(8):
        await runtime.start(released(tmp_path))
        await runtime.stop()


async def test_a_unit_that_systemd_has_given_up_is_started_again(
    runtime: OnPi, pi: Pi, put: Callable[..., None], tmp_path: Path
) -> None:
    """F61: whoever mended it is not refused because it crashed before."""
    mended = tmp_path / "mended"
    put(
        "[Unit]\nStartLimitBurst=2\nStartLimitIntervalSec=1h\n[Service]\nRestart=on-failure\nRestartSec=10ms\n"
        f"ExecStart=/bin/sh -c 'test -e {mended} && exec sleep 600'\n"
    )
    pi.run("systemctl", "start", UNIT)
    wait_for("the limit", lambda: pi.run("systemctl", "is-failed", UNIT, check=False).returncode == 0)
    mended.touch()
    assert pi.run("systemctl", "start", UNIT, check=False).returncode != 0, "systemd by itself refuses"
    await runtime.start(released(tmp_path))
    assert await named(runtime) == "1-aaaaaaa"


async def test_what_cannot_be_started_is_told_before_the_switch(
    pi: Pi, put: Callable[..., None], tmp_path: Path, units: Units
) -> None:
    """F60."""
    launch = released(tmp_path)
    unknown = OnPi(pi, settings.SystemdRuntime(unit="nope.service"), tmp_path, units)
    masked = OnPi(pi, settings.SystemdRuntime(unit="systemd-udevd.service"), tmp_path, units)
    broken = OnPi(pi, settings.SystemdRuntime(unit=UNIT), tmp_path, units)
    put("[Service]\nType=simple\n")
    for runtime, code in ((unknown, "unit-unknown"), (masked, "unit-masked"), (broken, "unit-unknown")):
        for act in (runtime.check, runtime.start):
            with pytest.raises(StepFailed) as failure:
                await act(launch)
            assert failure.value.code == code, failure.value
    await unknown.stop()


async def test_a_refusal_of_polkit_is_told_before_the_switch(
    pi: Pi, put: Callable[..., None], tmp_path: Path
) -> None:
    """F60: nothing was stopped yet, and nothing runs that could notice it."""
    put(PLAIN)
    launch = released(tmp_path)
    options = settings.SystemdRuntime(unit=UNIT)
    running = await OnPi(pi, options, tmp_path, OnPiByCommand(pi)).start(launch)
    stranger = OnPi(pi, options, tmp_path, OnPiByCommand(pi, user="nobody"))
    with pytest.raises(StepFailed) as failure:
        await stranger.check(launch)
    assert (failure.value.code, failure.value.fault) == ("unit-refused", Fault.WORLD)
    assert await stranger.look() == running


async def test_a_job_that_does_not_end_is_told_as_stuck(
    units: Units, put: Callable[..., None], pi: Pi
) -> None:
    """F59."""
    put("[Service]\nType=notify\nTimeoutStartSec=infinity\nExecStart=/bin/sleep 60\n")
    with pytest.raises(UnitError) as error:
        await units.call(Verb.START, UNIT, patience=1)
    assert error.value.why is Why.STUCK
    pi.run("systemctl", "stop", UNIT)


async def test_both_ways_see_the_same(
    pi: Pi, put: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={pi.root}/run/dbus/system_bus_socket")
    put(f"{PLAIN}TimeoutStopSec=1min 30s\nTimeoutStartSec=infinity\n")
    ways = BusUnits(), OnPiByCommand(pi)
    pi.run("systemctl", "start", UNIT)
    for unit in (UNIT, "nope.service", "systemd-udevd.service", "dbus.socket"):
        one, other = [await way.look(unit) for way in ways]
        assert one == other
    first, second = [await way.memory(UNIT) for way in ways]
    counts = "test -e /sys/fs/cgroup/memory || grep memory /sys/fs/cgroup/cgroup.controllers"
    if pi.run("sh", "-c", counts, check=False).returncode:
        assert (first, second) == (None, None)  # a machine that does not count memory
    else:
        assert 0 < (first or 0) < 64 << 20
        assert abs((first or 0) - (second or 0)) < 1 << 20
    assert [await way.memory("nope.service") for way in ways] == [None, None]
    await ways[0].close()


async def test_a_bus_that_comes_back_is_used_again(
    pi: Pi, put: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """dbus is updated, or dies: the connection is made anew; meanwhile systemctl is asked."""
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={pi.root}/run/dbus/system_bus_socket")
    put(PLAIN)
    way = Systemd(command=OnPiByCommand(pi))
    assert (await way.look(UNIT)).load == "loaded"
    pi.run("systemctl", "stop", "dbus.socket", "dbus.service")
    assert await way.call(Verb.START, UNIT, patience=20) == "done"
    assert (await way.look(UNIT)).runs
    pi.run("systemctl", "start", "dbus.socket")
    assert (await way.look(UNIT)).runs
    assert await way.call(Verb.STOP, UNIT, patience=20) == "done"
    await way.close()


async def test_the_unit_probe_says_what_systemd_knows(
    pi: Pi, put: Callable[..., None], tmp_path: Path, units: Units
) -> None:
    put("[Service]\nExecStart=/bin/false\n")
    surroundings = replace(around(tmp_path), units=units)
    said = {}
    for unit in (UNIT, "nope.service", "dbus.socket"):
        probe = PROBES["unit"](settings.UnitProbe(unit=unit), surroundings)
        if unit == UNIT:
            pi.run("systemctl", "start", UNIT, check=False)
            wait_for("its end", lambda: pi.run("systemctl", "is-failed", UNIT, check=False).returncode == 0)
        probed = await probe.ask(a_question(tmp_path))
        said[unit] = probed.healthy, probed.detail
    assert said == {
        UNIT: (False, f"{UNIT}: failed (failed), exit-code"),
        "nope.service": (False, "nope.service: not-found"),
        "dbus.socket": (True, "dbus.socket: active (running)"),
    }
