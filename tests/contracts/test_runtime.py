"""What every runtime answers to `core.ports.Runtime`, and what is particular to `process`."""

import asyncio
import os
import shlex
import signal
import socket
import stat
import sys
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters.runtimes import RUNTIMES, Place, demand_no_other, notes_in
from agent.adapters.runtimes.process import ProcessRuntime
from agent.adapters.runtimes.started import Started
from agent.core import settings
from agent.core.errors import StepFailed
from agent.core.model import RELEASE_ENVIRONMENT, Fault, Running
from agent.core.ports import Runtime
from agent.system import daemon
from agent.system.process import boot_id, members, stat_of
from agent.system.units import UnitError, Verb, Why
from tests.fakes import FakeDisk, FakeRuntime, FakeUnits
from tests.system.services import (
    FAMILY,
    LISTENER,
    REVISION,
    SLEEPER,
    STUBBORN,
    a_launch,
    a_runtime,
    alive,
    at_work_below,
    end_all_below,
    eventually,
    python,
    shell,
)
from tests.world import free_port


@pytest.fixture(autouse=True)
def _nothing_left(tmp_path: Path) -> Iterator[None]:
    """Every process that a test started is gone at its end."""
    yield
    end_all_below(tmp_path)


@pytest.fixture(params=["process", "fake"])
def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> Runtime:
    """Each runtime with a service that sleeps, and the fake that the tests of the services use."""
    if request.param == "fake":
        directories = [Path(a_launch(tmp_path, name).directory) for name in ("1-aaaaaaa", "2-bbbbbbb")]
        return FakeRuntime(FakeDisk({directory: {} for directory in directories}))
    assert request.param == "process"
    return a_runtime(tmp_path, shell(SLEEPER))


class Elsewhere(ABC):
    """A runtime whose processes are not this machine's: it is asked for what the contract's tests look at and do."""

    @abstractmethod
    async def look(self) -> Running | None:
        """As the port says."""

    @abstractmethod
    def die(self) -> None:
        """The service's process dies by itself."""

    @abstractmethod
    def lives(self, running: Running | None) -> bool:
        """Whether this very process is alive, whatever the runtime says."""


async def ended(runtime: Runtime, running: Running | None) -> None:
    """The service's process dies by itself."""
    if isinstance(runtime, FakeRuntime):
        runtime.die()
    elif isinstance(runtime, Elsewhere):
        runtime.die()
        async with asyncio.timeout(60):
            while await runtime.look() is not None:  # noqa: ASYNC110 - the event is another process's
                await asyncio.sleep(0.01)
    else:
        pid = pid_of(running)
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: not alive(pid))


def lives(runtime: Runtime, running: Running | None) -> bool:
    """Whether this very process is alive, whatever the runtime says."""
    if isinstance(runtime, FakeRuntime):
        return runtime.running == running
    if isinstance(runtime, Elsewhere):
        return runtime.lives(running)
    return alive(pid_of(running))


async def printed(runtime: ProcessRuntime, text: str) -> None:
    """Waits until the service has printed this."""
    async with asyncio.timeout(60):
        while text not in await runtime.output():  # noqa: ASYNC110 - the event is another process's
            await asyncio.sleep(0.01)


def pid_of(running: Running | None) -> int:
    assert running is not None
    assert running.pid is not None
    return running.pid


def open_files(pid: int) -> dict[int, str]:
    """Descriptors of a process and what they lead to. One may be closed while they are being read."""
    try:
        return {int(entry.name): str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    except FileNotFoundError:
        return {}


def numbers_in(path: Path) -> list[int]:
    return [int(word) for word in path.read_text().split()] if path.exists() else []


def environment_of(pid: int) -> dict[str, str]:
    entries = Path(f"/proc/{pid}/environ").read_text().rstrip("\0").split("\0")
    return dict(entry.split("=", 1) for entry in entries)


def status_of(pid: int) -> dict[str, str]:
    """The fields of /proc/<pid>/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def put(directory: str, name: str, text: str, *, mode: int = 0o755) -> Path:
    """A file in a release."""
    path = Path(directory, name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


# --- the contract


async def test_nothing_runs_before_the_first_start(runtime: Runtime) -> None:
    assert await runtime.look() is None
    assert await runtime.output() == ""
    assert await runtime.listens("127.0.0.1", 1) is False


async def test_what_was_started_is_found(runtime: Runtime, tmp_path: Path) -> None:
    running = await runtime.start(a_launch(tmp_path))
    assert await runtime.look() == running
    assert running.release == "1-aaaaaaa"
    assert lives(runtime, running)


async def test_starting_the_same_release_twice_leaves_the_process_alone(
    runtime: Runtime, tmp_path: Path
) -> None:
    first = await runtime.start(a_launch(tmp_path))
    assert await runtime.start(a_launch(tmp_path)) == first


async def test_another_release_is_not_started_beside_one_that_runs(runtime: Runtime, tmp_path: Path) -> None:
    first = await runtime.start(a_launch(tmp_path))
    with pytest.raises(StepFailed) as failure:
        await runtime.start(a_launch(tmp_path, "2-bbbbbbb"))
    assert (failure.value.code, failure.value.fault) == ("runtime-failed", Fault.WORLD)
    assert await runtime.look() == first


async def test_after_stop_nothing_runs_and_stopping_again_does_nothing(
    runtime: Runtime, tmp_path: Path
) -> None:
    running = await runtime.start(a_launch(tmp_path))
    await runtime.stop()
    assert not lives(runtime, running)
    assert await runtime.look() is None
    await runtime.stop()


async def test_a_new_process_is_a_new_instance(runtime: Runtime, tmp_path: Path) -> None:
    first = await runtime.start(a_launch(tmp_path))
    await runtime.stop()
    second = await runtime.start(a_launch(tmp_path))
    assert second.instance != first.instance


async def test_a_process_that_died_is_not_found(runtime: Runtime, tmp_path: Path) -> None:
    await ended(runtime, await runtime.start(a_launch(tmp_path)))
    assert await runtime.look() is None


async def test_what_died_can_be_started_again(runtime: Runtime, tmp_path: Path) -> None:
    first = await runtime.start(a_launch(tmp_path))
    await ended(runtime, first)
    second = await runtime.start(a_launch(tmp_path))
    assert second.instance != first.instance
    assert lives(runtime, second)


async def test_a_release_that_is_gone_cannot_be_started_and_is_not_to_blame(
    runtime: Runtime, tmp_path: Path
) -> None:
    with pytest.raises(StepFailed) as failure:
        await runtime.start(a_launch(tmp_path, directory=str(tmp_path / "gone")))
    assert (failure.value.code, failure.value.fault) == ("runtime-failed", Fault.WORLD)
    assert await runtime.look() is None


async def test_what_can_be_started_passes_the_check_and_nothing_is_changed(
    runtime: Runtime, tmp_path: Path
) -> None:
    await runtime.check(a_launch(tmp_path))
    assert await runtime.look() is None
    running = await runtime.start(a_launch(tmp_path))
    await runtime.check(a_launch(tmp_path, "2-bbbbbbb"))
    assert await runtime.look() == running


@pytest.mark.parametrize("kind", ["process", "fake"])
async def test_what_is_not_there_is_told_by_the_check(kind: str, tmp_path: Path) -> None:
    launch = a_launch(tmp_path)
    fake = FakeRuntime(FakeDisk({Path(launch.directory): {"app": "missing"}}))
    runtime: Runtime = fake if kind == "fake" else a_runtime(tmp_path, ("./missing",))
    with pytest.raises(StepFailed) as failure:
        await runtime.check(launch)
    assert (failure.value.code, failure.value.fault) == ("start-failed", Fault.COMMIT)


async def test_starts_that_come_together_start_one_process(runtime: Runtime, tmp_path: Path) -> None:
    launch = a_launch(tmp_path)
    one, two, three = await asyncio.gather(*(runtime.start(launch) for _ in range(3)))
    assert one == two == three


# --- what the service finds


async def test_the_environment_is_exactly_what_is_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CONTRACT: PATH, HOME, LANG, HOMEPORT_SERVICE, HOMEPORT_REVISION and runtime.environment, nothing else."""
    monkeypatch.setenv("HOMEPORT_TOKEN", "very-secret")
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    runtime = a_runtime(
        tmp_path, ("sleep", "600"), environment={"not.a-name": "a=b c", "HOMEPORT_SERVICE": "lie"}
    )
    running = await runtime.start(a_launch(tmp_path))
    assert environment_of(pid_of(running)) == {
        "PATH": os.environ["PATH"],
        "HOME": "/home/me",
        "LANG": "de_DE.UTF-8",
        "HOMEPORT_SERVICE": "scraper",
        "HOMEPORT_REVISION": REVISION,
        "not.a-name": "a=b c",
    }


async def test_it_runs_in_the_release_in_a_session_of_its_own_with_three_open_files(tmp_path: Path) -> None:
    launch = a_launch(tmp_path)
    pid = pid_of(await a_runtime(tmp_path, ("sleep", "600")).start(launch))
    stat = stat_of(pid)
    assert stat is not None
    assert stat.session == stat.group == pid
    assert at_work_below(Path(launch.directory)) == [pid]
    output = str(tmp_path / "run" / "scraper" / "output")
    await eventually(
        lambda: open_files(pid) == {0: "/dev/null", 1: output, 2: output}
    )  # its libraries are loaded


async def test_no_signal_is_ignored_or_blocked(tmp_path: Path) -> None:
    pid = pid_of(await a_runtime(tmp_path, ("sleep", "600")).start(a_launch(tmp_path)))
    fields = status_of(pid)
    usual = sum(1 << (number - 1) for number in signal.valid_signals())  # 32 and 33 are the C library's own
    assert int(fields["SigBlk"], 16) & usual == 0
    assert int(fields["SigIgn"], 16) & usual == 0


async def test_a_relative_program_lies_in_the_release(tmp_path: Path) -> None:
    launch = a_launch(tmp_path)
    program = put(launch.directory, "bin/serve", "#!/bin/sh\necho I am $0 $1\nexec sleep 600\n")
    runtime = a_runtime(tmp_path, ("bin/serve", "here"))
    await runtime.start(launch)
    await printed(runtime, f"I am {program} here")


async def test_output_is_cleaned_and_redacted_and_is_that_of_the_newest_instance(tmp_path: Path) -> None:
    runtime = a_runtime(
        tmp_path,
        shell(r"printf '\033[31mred\033[0m hunter2\n' >&2; echo $$; exec sleep 600"),
        redact=lambda text: text.replace("hunter2", "***"),
    )
    first = pid_of(await runtime.start(a_launch(tmp_path)))
    await printed(runtime, str(first))
    assert await runtime.output() == f"red ***\n{first}"
    await runtime.stop()
    second = pid_of(await runtime.start(a_launch(tmp_path)))
    await printed(runtime, str(second))
    assert str(first) not in await runtime.output()
    adopted = a_runtime(tmp_path, ("true",))
    await adopted.look()
    assert str(first) not in await adopted.output()


async def test_a_long_output_is_put_aside_at_the_next_start_and_shown_from_its_end(tmp_path: Path) -> None:
    runtime = a_runtime(
        tmp_path, shell("head -c 1200000 /dev/zero | tr '\\0' x; echo; echo end; exec sleep 600")
    )
    await runtime.start(a_launch(tmp_path))
    await printed(runtime, "end")
    assert len(await runtime.output()) <= 8192
    await runtime.stop()
    await runtime.start(a_launch(tmp_path))
    state = tmp_path / "run" / "scraper"
    assert (state / "output.1").stat().st_size > 1200000
    await printed(runtime, "end")


# --- what cannot be started


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("homeport-no-such-program",), "No such file"),
        (("bin/nothing",), "No such file"),
        (("./readme",), "Permission denied"),
        (("/",), "Permission denied"),
        (("./interpreted",), "interpreter"),
        (("./noise",), "Exec format error"),
    ],
)
async def test_a_command_that_cannot_be_run_is_the_commits_fault(
    tmp_path: Path, command: tuple[str, ...], said: str
) -> None:
    launch = a_launch(tmp_path)
    put(launch.directory, "interpreted", "#!/no/such/interpreter\n")
    put(launch.directory, "noise", "\x01\x02\x03")
    put(launch.directory, "readme", "no program", mode=0o644)
    runtime = a_runtime(tmp_path, command)
    with pytest.raises(StepFailed, match=said) as failure:
        await runtime.start(launch)
    assert (failure.value.code, failure.value.fault) == ("start-failed", Fault.COMMIT)
    assert await runtime.look() is None
    assert at_work_below(tmp_path) == []


async def test_what_ends_at_once_has_failed_or_is_found_dead_with_its_output(tmp_path: Path) -> None:
    """Whether start still sees it alive is chance; either way the status and the last words are there."""
    runtime = a_runtime(tmp_path, shell("echo last words; exit 3"))
    said = "last words\n[the process ended with exit status 3]"
    failure, pid = None, 0
    try:
        pid = pid_of(await runtime.start(a_launch(tmp_path)))
    except StepFailed as error:
        failure = error
    if failure is not None:
        assert (failure.code, failure.output) == ("start-failed", said)
    else:
        await eventually(lambda: not alive(pid))
        assert await runtime.look() is None
        assert stat_of(pid) is None, "a zombie of ours is reaped"
    assert await runtime.output() == said


async def test_a_start_that_is_cancelled_leaves_nothing_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = a_runtime(tmp_path, ("sleep", "600"))
    spawn, pids = daemon._spawn, list[int]()

    def spawn_frozen(plan: daemon.Plan, lock: int, told: int) -> int:
        pids.append(spawn(plan, lock, told))
        os.kill(pids[0], signal.SIGSTOP)
        return pids[0]

    monkeypatch.setattr(daemon, "_spawn", spawn_frozen)
    starting = asyncio.create_task(runtime.start(a_launch(tmp_path)))
    await eventually(lambda: pids)
    await asyncio.sleep(0.01)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert stat_of(pids[0]) is None
    assert await runtime.look() is None


# --- how it ends


async def test_who_ignores_sigterm_is_killed_after_the_timeout(tmp_path: Path) -> None:
    runtime = a_runtime(tmp_path, shell(STUBBORN), stop_timeout=0.3)
    pid = pid_of(await runtime.start(a_launch(tmp_path)))
    await printed(runtime, "ready")
    began = asyncio.get_running_loop().time()
    await runtime.stop()
    assert 0.3 <= asyncio.get_running_loop().time() - began < 30
    assert members(pid) == []


async def test_a_service_that_tidies_up_within_the_timeout_is_not_killed(tmp_path: Path) -> None:
    tidy = "trap 'sleep 0.3; echo tidied; exit 0' TERM; echo ready; while :; do sleep 0.02; done"
    runtime = a_runtime(tmp_path, shell(tidy))
    await runtime.start(a_launch(tmp_path))
    await printed(runtime, "ready")
    await runtime.stop()
    assert (await runtime.output()).endswith("tidied\n[the process ended with exit status 0]")


async def test_children_and_grandchildren_end_with_it(tmp_path: Path) -> None:
    runtime = a_runtime(tmp_path, shell(FAMILY))
    pid = pid_of(await runtime.start(a_launch(tmp_path)))
    await printed(runtime, "ready")
    await eventually(lambda: len(members(pid)) >= 4)
    await runtime.stop()
    assert members(pid) == []
    assert at_work_below(tmp_path) == []


async def test_a_stopped_process_still_ends_by_sigterm(tmp_path: Path) -> None:
    runtime = a_runtime(tmp_path, ("sleep", "600"), stop_timeout=60)
    os.kill(pid_of(await runtime.start(a_launch(tmp_path))), signal.SIGSTOP)
    await asyncio.wait_for(runtime.stop(), 30)


LEAVES_GROUP = """
    import os, signal, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        os.setpgid(0, 0)
        print("ready", flush=True)
    time.sleep(600)
"""

DAEMONISES = """
    import os, sys, time
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.chdir("/")
            null = os.open("/dev/null", os.O_RDWR)
            open(sys.argv[1], "w").write(f"{os.getpid()}\\n")
            for handle in (0, 1, 2):
                os.dup2(null, handle)
            time.sleep(600)
        os._exit(0)
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.01)
    time.sleep(float(sys.argv[2]))
"""


async def test_who_left_the_process_group_is_killed_as_well(tmp_path: Path) -> None:
    runtime = a_runtime(tmp_path, python(LEAVES_GROUP), stop_timeout=0.2)
    pid = pid_of(await runtime.start(a_launch(tmp_path)))
    await printed(runtime, "ready")
    assert len(members(pid)) == 2
    await runtime.stop()
    assert members(pid) == []


@pytest.mark.parametrize("leader_lives", [True, False])
async def test_a_daemon_that_left_the_session_is_found(tmp_path: Path, leader_lives: bool) -> None:
    """Its leader's end is the service's death; the daemon would keep the port from the release after it."""
    note = tmp_path / "daemon"
    runtime = a_runtime(tmp_path, python(DAEMONISES, str(note), "600" if leader_lives else "0"))
    pid = pid_of(await runtime.start(a_launch(tmp_path)))
    await eventually(lambda: note.exists() and note.read_text().endswith("\n"))
    stray = int(note.read_text())
    if not leader_lives:
        await eventually(lambda: not alive(pid))
        assert await runtime.look() is None
    assert alive(stray)
    await runtime.stop()
    assert not alive(stray)


async def test_the_service_of_another_agent_is_left_alone(tmp_path: Path) -> None:
    """Two demos on one machine: same service name, same revision, same command; other directories."""
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    runtime = a_runtime(mine, ("sleep", "600"))
    await runtime.start(a_launch(mine))
    left = pid_of(await a_runtime(theirs, ("sleep", "600")).start(a_launch(theirs)))
    await runtime.stop()
    assert alive(left)


async def test_what_a_dead_leader_left_is_ended_before_the_next_start(tmp_path: Path) -> None:
    """CONTRACT: the old group is gone before the new one starts."""
    runtime = a_runtime(tmp_path, shell("sleep 601 & echo child $!; exec sleep 600"))
    pid = pid_of(await runtime.start(a_launch(tmp_path)))
    await printed(runtime, "child")
    child = int((await runtime.output()).split()[1])
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: not alive(pid))
    assert await runtime.look() is None
    assert alive(child)
    await runtime.start(a_launch(tmp_path, "2-bbbbbbb"))
    assert not alive(child)


async def test_what_forks_without_end_is_ended(tmp_path: Path) -> None:
    code = "trap '' TERM; f() { sleep 0.01; f & exit; }; f & echo ready; sleep 600"
    runtime = a_runtime(tmp_path, shell(code), stop_timeout=0.1)
    pid = pid_of(await runtime.start(a_launch(tmp_path)))
    await printed(runtime, "ready")
    await runtime.stop()
    assert members(pid) == []


# --- the next agent


AGENT = """
    import asyncio, sys
    from pathlib import Path
    from tests.system.services import a_launch, a_runtime

    async def main():
        root = Path(sys.argv[1])
        runtime = a_runtime(root, tuple(sys.argv[2:]))
        print("starting", flush=True)
        running = await runtime.start(a_launch(root))
        print(running.pid, running.instance, flush=True)
        await asyncio.sleep(600)

    asyncio.run(main())
"""


async def an_agent(tmp_path: Path, *command: str) -> asyncio.subprocess.Process:
    """A real other process that starts a service, as the agent does."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(AGENT), str(tmp_path), *command, stdout=asyncio.subprocess.PIPE
    )


async def line_of(agent: asyncio.subprocess.Process) -> list[str]:
    assert agent.stdout is not None
    return (await asyncio.wait_for(agent.stdout.readline(), 20)).decode().split()


async def killed(agent: asyncio.subprocess.Process, number: int = signal.SIGKILL) -> None:
    if agent.returncode is None:
        agent.send_signal(number)
    await agent.communicate()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
async def test_a_service_survives_its_agent_and_the_next_one_adopts_it(tmp_path: Path, number: int) -> None:
    """CONTRACT: SIGTERM, SIGKILL and restart of the agent leave the service running; same process adopted."""
    agent = await an_agent(tmp_path, "sleep", "600")
    assert await line_of(agent) == ["starting"]
    pid, instance = await line_of(agent)
    await killed(agent, number)
    runtime = a_runtime(tmp_path, ("sleep", "600"))
    found = await runtime.look()
    assert found == Running(release="1-aaaaaaa", instance=instance, pid=int(pid))
    assert await runtime.start(a_launch(tmp_path)) == found
    await runtime.stop()
    assert not alive(int(pid))
    assert not (tmp_path / "run" / "scraper" / "pid").exists()


@pytest.mark.parametrize("delay", [0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 30])
async def test_an_agent_killed_while_it_starts_a_service_never_leaves_two(tmp_path: Path, delay: int) -> None:
    """Whatever the killed agent's launcher still does, the next agent ends up with exactly one process."""
    agent = await an_agent(tmp_path, "sh", "-c", "echo $$ >> starts; exec sleep 600")
    await line_of(agent)
    await asyncio.sleep(delay / 1000)
    await killed(agent)
    runtime = a_runtime(tmp_path, shell("echo $$ >> starts; exec sleep 600"))
    before = await runtime.look()
    running = await runtime.start(a_launch(tmp_path))
    assert before in (None, running)
    starts = Path(a_launch(tmp_path).directory, "starts")
    await eventually(lambda: running.pid in numbers_in(starts))
    assert [pid for pid in numbers_in(starts) if alive(pid)] == [running.pid]


async def test_the_next_agent_waits_for_a_late_launcher(tmp_path: Path) -> None:
    """The launcher of a killed agent, frozen at its worst: nobody starts beside it, and it does not start later."""
    state = tmp_path / "run" / "scraper"
    state.mkdir(parents=True)
    output = os.open(state / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    launch = a_launch(tmp_path)
    report, told = os.pipe()
    notes = {"release": launch.release, "revision": REVISION, "directory": launch.directory, "token": "late"}
    plan = daemon.Plan(
        argv=("/bin/sleep", "600"),
        environment={},
        directory=Path(launch.directory),
        output=output,
        record=state / "pid",
        notes=notes | {"output": "0"},
    )
    async with daemon.exclusive(state / "lock", 1) as lock:
        late = daemon._spawn(plan, lock, told)
        os.kill(late, signal.SIGSTOP)
    for handle in (output, report, told):  # as the kernel does for a killed agent
        os.close(handle)
    runtime = a_runtime(tmp_path, ("sleep", "600"))
    starting = asyncio.create_task(runtime.start(launch))
    await asyncio.sleep(0.2)
    assert not starting.done()
    os.kill(late, signal.SIGCONT)
    running = await starting
    assert running.instance != "late"
    await eventually(lambda: not alive(late))


async def test_a_launcher_that_never_ends_is_told_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "run" / "scraper"
    state.mkdir(parents=True)
    monkeypatch.setattr(daemon, "PATIENCE", 0.1)
    async with daemon.exclusive(state / "lock", 1):
        with pytest.raises(StepFailed) as failure:
            await a_runtime(tmp_path, ("true",)).look()
    assert failure.value.code == "runtime-failed"


@pytest.mark.parametrize("wrong", ["started", "boot"])
async def test_a_number_that_is_somebody_elses_by_now_is_neither_adopted_nor_signalled(
    tmp_path: Path, wrong: str
) -> None:
    bystander = await asyncio.create_subprocess_exec("sleep", "600", start_new_session=True)
    stat = stat_of(bystander.pid)
    assert stat is not None
    values = {"pid": str(stat.pid), "started": str(stat.started), "boot": boot_id()}
    values |= {"started": "1"} if wrong == "started" else {"boot": "another"}
    notes = {
        "release": "1-aaaaaaa",
        "revision": REVISION,
        "directory": str(tmp_path),
        "token": "t",
        "output": "0",
    }
    state = tmp_path / "run" / "scraper"
    state.mkdir(parents=True)
    (state / "pid").write_text(
        "".join(f"{key}={value}\n" for key, value in (values | notes).items()) + "end\n"
    )
    runtime = a_runtime(tmp_path, ("sleep", "600"))
    try:
        assert await runtime.look() is None
        await runtime.stop()
        assert alive(bystander.pid)
    finally:
        bystander.kill()
        await bystander.wait()


@pytest.mark.parametrize("torn", ["", "pid=1", "pid=1\nstarted=x\nboot=y\nend\n", "\0\0\0\0", "end\n"])
async def test_a_torn_record_means_that_nothing_runs(tmp_path: Path, torn: str) -> None:
    state = tmp_path / "run" / "scraper"
    state.mkdir(parents=True)
    (state / "pid").write_text(torn)
    runtime = a_runtime(tmp_path, ("sleep", "600"))
    assert await runtime.look() is None
    await runtime.stop()
    await runtime.start(a_launch(tmp_path))


# --- whose socket answers


async def test_the_listening_socket_is_the_services_own(tmp_path: Path) -> None:
    port = free_port()
    runtime = a_runtime(tmp_path, python(LISTENER, str(port)))
    await runtime.start(a_launch(tmp_path))
    await printed(runtime, "ready")
    assert await runtime.listens("127.0.0.1", port) is True
    assert await runtime.listens("localhost", port) is True
    assert await runtime.listens("127.0.0.1", free_port()) is False


async def test_a_socket_of_somebody_else_is_told_apart(tmp_path: Path) -> None:
    """F65: the health endpoint answers from another process."""
    runtime = a_runtime(tmp_path, ("sleep", "600"))
    await runtime.start(a_launch(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert await runtime.listens("127.0.0.1", server.getsockname()[1]) is False


async def test_a_worker_may_hold_the_socket(tmp_path: Path) -> None:
    port = free_port()
    runtime = a_runtime(tmp_path, shell(shlex.join(python(LISTENER, str(port))) + " & wait"))
    await runtime.start(a_launch(tmp_path))
    await printed(runtime, "ready")
    assert await runtime.listens("127.0.0.1", port) is True


# --- from the embedded mode to a unit


async def test_what_the_agent_started_itself_ends_before_its_unit_is_started(tmp_path: Path) -> None:
    """The configuration named a command and now names a unit: the service must not run twice."""
    running = await a_runtime(tmp_path, shell(SLEEPER)).start(a_launch(tmp_path))
    place = Place(
        service="scraper", directory=tmp_path, state=tmp_path / "run" / "scraper",
        units=FakeUnits("inactive", load="not-found"),
    )  # fmt: skip
    unit = RUNTIMES["systemd"](settings.SystemdRuntime(unit="scraper.service"), place)
    assert await unit.look() is None
    assert alive(pid_of(running))
    await unit.stop()
    assert not alive(pid_of(running))


# --- from one unit to another


def a_note(tmp_path: Path, unit: str) -> Path:
    """The agent has started the service as this unit."""
    path = tmp_path / "run" / "scraper" / "unit"
    Started(path, unit, tmp_path / "current").note("1-aaaaaaa", "i1")
    return path


@pytest.mark.parametrize("active", ["active", "activating", "deactivating", "reloading"])
async def test_a_service_is_not_started_beside_the_unit_that_it_was(tmp_path: Path, active: str) -> None:
    """systemd may start it again, and polkit need not let the agent end it any more."""
    note = a_note(tmp_path, "old.service")
    with pytest.raises(StepFailed, match=r"old\.service, which the service was before, is") as failure:
        await demand_no_other(notes_in(note.parent), ["new.service"], FakeUnits(active))
    assert (failure.value.code, failure.value.fault) == ("unit-left-running", Fault.WORLD)
    await demand_no_other(notes_in(note.parent), ["old.service"], FakeUnits(active))


async def test_what_has_ended_is_forgotten_and_may_be_started_as_something_else(tmp_path: Path) -> None:
    note = a_note(tmp_path, "old.service")
    await demand_no_other(notes_in(note.parent), [], FakeUnits("inactive"))
    await demand_no_other(notes_in(note.parent), [], FakeUnits("active"))


async def test_what_nobody_can_be_asked_about_is_not_taken_for_ended(tmp_path: Path) -> None:
    note, units = a_note(tmp_path, "old.service"), FakeUnits("inactive")
    units.errors = [UnitError(Why.UNREACHABLE, "no bus")]
    with pytest.raises(StepFailed) as failure:
        await demand_no_other(notes_in(note.parent), [], units)
    assert failure.value.code == "systemd-unreachable"
    assert note.exists()


# --- what a unit is to know of its release


class WillingUnits(FakeUnits):
    """Every verb is done."""

    async def call(self, verb: Verb, unit: str, *, patience: float) -> str:
        del verb, unit, patience
        return "done"


@pytest.mark.parametrize(
    "left",
    [
        "rm $1; mkfifo $1",
        "mv $1 other; ln -s other $1",
        "rm $1; ln -s nothing $1",
        "rm $1; mkdir -p $1/in",
        "truncate -s 4T $1",
    ],
)
async def test_what_a_build_left_under_the_environments_name_is_replaced(tmp_path: Path, left: str) -> None:
    """systemd reads it as root, through links; and a FIFO would hang the agent."""
    units, launch = WillingUnits("inactive"), a_launch(tmp_path)
    place = Place(service="scraper", directory=tmp_path, state=tmp_path / "state", units=units)
    runtime = RUNTIMES["systemd"](settings.SystemdRuntime(unit="scraper.service"), place)
    await runtime.check(launch)
    await process_of(left, tmp_path)
    await runtime.check(launch)
    made = Path(launch.directory) / RELEASE_ENVIRONMENT
    assert stat.S_ISREG(made.lstat().st_mode)
    assert f'HOMEPORT_REVISION="{launch.revision}"' in made.read_text()


async def process_of(script: str, tmp_path: Path) -> None:
    """A build's commands, in the release."""
    argv = ("/bin/sh", "-ec", script, "sh", RELEASE_ENVIRONMENT)
    done = await asyncio.create_subprocess_exec(*argv, cwd=a_launch(tmp_path).directory)
    assert await done.wait() == 0
