"""The `command` probe: real shells, in a release, with nothing left of them."""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from agent.adapters.probes.command import CommandProbe
from agent.core import settings
from agent.core.model import Probed
from agent.system import process
from tests.contracts.probes import SECRET, a_launch, around, until


def a_probe(
    directory: Path, command: str, *, timeout: float = 10, status: int = 0, **known: Any
) -> CommandProbe:
    options = settings.CommandProbe(command=command, status=status, timeout=settings.Seconds(timeout))
    return CommandProbe(options, around(directory, **known))


async def ask(directory: Path, command: str, **options: Any) -> Probed:
    return await a_probe(directory, command, **options).ask(a_launch(directory))


def said(probed: Probed) -> str:
    return probed.detail.partition("`: ")[2]


def alive(pid: int) -> bool:
    found = process.stat_of(pid)
    return found is not None and found.alive


@pytest.mark.parametrize(
    ("command", "status", "healthy", "detail"),
    [
        ("true", 0, True, "exit status 0"),
        ("exit 3", 0, False, "exit status 3 instead of 0"),
        ("exit 3", 3, True, "exit status 3"),
        ("true", 3, False, "exit status 0 instead of 3"),
        ("kill -9 $$", 0, False, "ended by signal 9 instead of 0"),
        ("no-such-program 2>/dev/null", 0, False, "exit status 127 instead of 0"),
        ("echo fine; exit 0", 0, True, "exit status 0: fine"),
        ("echo one; echo two >&2; exit 1", 0, False, "exit status 1 instead of 0: one two"),
    ],
)
async def test_the_exit_status_decides(
    tmp_path: Path, command: str, status: int, healthy: bool, detail: str
) -> None:
    probed = await ask(tmp_path, command, status=status)
    assert (probed.healthy, said(probed)) == (healthy, detail)


async def test_it_runs_in_the_release_with_the_services_environment_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI_TOKEN", "the agent's own")
    release = tmp_path / "releases" / "7-abcdef0"
    release.mkdir(parents=True)
    probe = a_probe(tmp_path, "pwd > told; env >> told", environment={"PORT": "9100"})
    assert (await probe.ask(a_launch(release))).healthy
    place, *variables = (release / "told").read_text().splitlines()
    assert place == str(release)
    seen = dict(line.split("=", 1) for line in variables)
    assert seen["PORT"] == "9100"
    assert (seen["HOMEPORT_SERVICE"], seen["HOMEPORT_REVISION"]) == ("scraper", "a" * 40)
    assert seen.keys() <= {"PATH", "HOME", "LANG", "PORT", "HOMEPORT_SERVICE", "HOMEPORT_REVISION", "HOMEPORT_PROBE",
                           "PWD", "SHLVL", "_", "OLDPWD"}  # fmt: skip


async def test_what_takes_too_long_is_ended_with_everybody_it_started(tmp_path: Path) -> None:
    began = time.monotonic()
    command = "(setsid sleep 600 & echo $! > stray); sleep 600 & echo $! > child; wait"
    probed = await ask(tmp_path, command, timeout=1.5)
    assert not probed.healthy
    assert said(probed) == "not done within 1.5 s"
    assert time.monotonic() - began < 60
    for name in ("stray", "child"):
        assert not alive(int((tmp_path / name).read_text())), name


async def test_what_it_leaves_behind_is_ended_also_when_it_is_well(tmp_path: Path) -> None:
    """A daemon that a probe starts every 15 s would fill the machine."""
    probed = await ask(tmp_path, "setsid sleep 600 >/dev/null 2>&1 & echo $! > stray")
    assert probed.healthy, probed.detail
    assert not alive(int((tmp_path / "stray").read_text()))


async def test_cancelled_it_leaves_nothing_running(tmp_path: Path) -> None:
    probe = a_probe(tmp_path, "echo $$ > pid; exec sleep 600")
    asking = asyncio.create_task(probe.ask(a_launch(tmp_path)))
    await until("the process to begin", lambda: written(tmp_path / "pid"))
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert not alive(int((tmp_path / "pid").read_text()))


def written(path: Path) -> bool:
    return path.exists() and path.read_text().endswith("\n")


async def test_it_never_runs_twice_at_the_same_time(tmp_path: Path) -> None:
    probe = a_probe(tmp_path, "mkdir busy && sleep 0.1 && rmdir busy")
    answers = await asyncio.gather(*(probe.ask(a_launch(tmp_path)) for _ in range(3)))
    assert [probed.healthy for probed in answers] == [True, True, True], answers


async def test_two_probes_of_a_service_and_two_services_do_not_end_each_other(tmp_path: Path) -> None:
    """Each family is found by its mark, also a daemon's: the marks must differ."""
    (tmp_path / "other").mkdir()
    slow = a_probe(tmp_path, "sleep 0.5; echo done")
    asking = asyncio.create_task(slow.ask(a_launch(tmp_path)))
    for directory, command in ((tmp_path, "true"), (tmp_path / "other", "sleep 0.5; echo done")):
        assert (await ask(directory, command)).healthy
    assert said(await asking) == "exit status 0: done"


def run_for_ever(directory: Path) -> None:
    """An agent in a process of its own, which will be killed while its probe runs."""
    try:
        asyncio.run(a_probe(directory, ENDLESS).ask(a_launch(directory)))
    finally:
        os._exit(1)


ENDLESS = "echo $$ >> pids; exec sleep 600"


async def test_what_a_killed_agent_left_behind_is_ended_before_the_first_run(tmp_path: Path) -> None:
    """SIGKILL of the agent leaves its probe's process; the next agent does not run beside it."""
    if (agent := os.fork()) == 0:
        run_for_ever(tmp_path)
    pids = tmp_path / "pids"
    await until("the process to begin", lambda: written(pids))
    left = int(pids.read_text())
    os.kill(agent, signal.SIGKILL)
    await asyncio.to_thread(os.waitpid, agent, 0)
    assert alive(left)
    assert (await ask(tmp_path, "true")).healthy
    assert alive(left), "another probe's is left alone"
    again = a_probe(tmp_path, ENDLESS)
    asking = asyncio.create_task(again.ask(a_launch(tmp_path)))
    await until("it to run again", lambda: len(pids.read_text().splitlines()) == 2)
    assert not alive(left)
    asking.cancel()
    await asyncio.wait({asking})


async def test_output_without_end_is_cut_and_costs_no_memory(tmp_path: Path) -> None:
    probed = await ask(tmp_path, "head -c 20000000 /dev/zero | tr '\\0' x; echo; echo the end; exit 1")
    assert said(probed).startswith("exit status 1 instead of 0: …")
    assert probed.detail.endswith("x the end")
    assert len(probed.detail) < 400


async def test_the_output_is_shown_cleaned_and_without_secrets(tmp_path: Path) -> None:
    probed = await ask(tmp_path, f"printf '\\033[31mno: {SECRET}\\033[0m\\n\\377\\n'; exit 1")
    assert said(probed).startswith("exit status 1 instead of 0: no: ***")
    assert probed.detail.isprintable()
    half = SECRET[: len(SECRET) // 2]
    hidden = await ask(tmp_path, f"printf '{half}\\a{SECRET[len(half) :]}'; exit 1")
    assert SECRET not in hidden.detail


async def test_a_release_that_is_gone_is_a_failure_and_no_exception(tmp_path: Path) -> None:
    probe = a_probe(tmp_path, "true")
    probed = await probe.ask(a_launch(tmp_path / "gone"))
    assert not probed.healthy
    assert said(probed) == "cannot be started: No such file or directory"


async def test_the_command_is_shown_short_and_without_secrets(tmp_path: Path) -> None:
    probed = await ask(tmp_path, f": {SECRET} " + "x" * 500)
    assert SECRET not in probed.detail
    assert len(probed.detail) < 120
