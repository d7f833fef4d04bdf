"""Programs: their output, their deadline, and that nothing of them is left."""

import asyncio
import os
import resource
import signal
import sys
import time
from pathlib import Path

import pytest

from agent.system import process

ENV = {"PATH": os.environ["PATH"]}


async def gone(pid: int) -> bool:
    """Whether a process ends within twenty seconds."""
    for _ in range(2000):
        stat = process.stat_of(pid)
        if stat is None or not stat.alive:
            return True
        await asyncio.sleep(0.01)
    return False


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


async def wait_for_file(path: Path) -> str:
    """What a file holds as soon as it holds a whole line."""
    for _ in range(1000):
        if (text := read(path)).endswith("\n"):
            return text.strip()
        await asyncio.sleep(0.01)
    raise AssertionError(f"{path} was not written")


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


DAEMON = (
    "setsid sh -c 'echo $$ > child; exec sleep 60' {} & while ! [ -s child ]; do sleep 0.02; done; echo done"
)


async def shell(
    command: str, tmp_path: Path, *, deadline: float = 20, limit: int = 65536
) -> process.Finished:
    return await process.run(
        ["/bin/sh", "-c", command], cwd=tmp_path, env=ENV, deadline=deadline, limit=limit
    )


async def test_output_and_errors_are_merged_and_the_status_is_told(tmp_path: Path) -> None:
    done = await shell("echo one; echo two >&2; exit 3", tmp_path)
    assert done == process.Finished(3, b"one\ntwo\n", timed_out=False)
    assert done.text == "one\ntwo\n"


async def test_a_program_ended_by_a_signal_says_so(tmp_path: Path) -> None:
    assert (await shell("kill -9 $$", tmp_path)).status == -signal.SIGKILL


async def test_the_environment_is_exactly_what_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-SD-4"""
    monkeypatch.setenv("HOMEPORT_CANARY", "secret")
    done = await process.run(["/usr/bin/env"], cwd=tmp_path, env={"A": "1"}, deadline=20)
    assert done.output == b"A=1\n"


async def test_it_runs_where_it_is_told_with_what_it_is_given(tmp_path: Path) -> None:
    done = await process.run(
        ["/bin/sh", "-c", "pwd; wc -c"], cwd=tmp_path, env=ENV, deadline=20, stdin=b"x" * 200_000
    )
    assert done.text.split() == [str(tmp_path), "200000"]


async def test_no_input_is_an_end_of_file(tmp_path: Path) -> None:
    assert (await shell("cat", tmp_path)).output == b""


async def test_a_program_that_is_not_there_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await process.run(["./nothing"], cwd=tmp_path, env=ENV, deadline=1)


async def test_a_flood_of_output_keeps_only_its_end_and_little_memory(tmp_path: Path) -> None:
    """F72"""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    done = await shell("head -c 200000000 /dev/zero; echo the end", tmp_path, limit=1000)
    assert len(done.output) == 1000
    assert done.output.endswith(b"\0the end\n")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8192  # kB


async def test_the_deadline_ends_the_whole_family(tmp_path: Path) -> None:
    """F72"""
    command = "echo begun; sleep 60 & echo $! > child; sleep 60"
    child = process.start(["/bin/sh", "-c", command], cwd=tmp_path, env=ENV)
    pid = int(await wait_for_file(tmp_path / "child"))
    begun = time.monotonic()
    done = await process.finish(child, deadline=0.2)
    assert done.timed_out
    assert done.output == b"begun\n"
    assert time.monotonic() - begun < 40
    assert await gone(pid)


async def test_who_ignores_the_term_signal_is_killed_after_the_grace(tmp_path: Path) -> None:
    stubborn = "trap '' TERM; echo ready > ready; while :; do sleep 0.05; done"
    child = process.start(["/bin/sh", "-c", stubborn], cwd=tmp_path, env=ENV)
    await wait_for_file(tmp_path / "ready")
    done = await process.finish(child, deadline=0.2, grace=0.2)
    assert done.timed_out
    assert done.status == -signal.SIGKILL
    assert process.members(child.pid) == []


async def test_who_leaves_the_group_but_not_the_session_is_found(tmp_path: Path) -> None:
    """F72"""
    script = "import os, time; os.setpgid(0, 0); open('child', 'w').write(str(os.getpid())); time.sleep(60)"
    (tmp_path / "script.py").write_text(script)
    await shell(f"{sys.executable} script.py & while ! [ -s child ]; do sleep 0.02; done", tmp_path)
    assert await gone(int((tmp_path / "child").read_text()))


async def test_a_daemon_that_holds_the_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """F72"""
    begun = time.monotonic()
    done = await shell(DAEMON.format(""), tmp_path)
    pid = int(await wait_for_file(tmp_path / "child"))
    assert done.output == b"done\n"
    assert time.monotonic() - begun < 40
    os.kill(pid, signal.SIGKILL)


async def test_a_daemon_is_found_by_its_mark(tmp_path: Path) -> None:
    """F72"""
    command = DAEMON.format(">/dev/null 2>&1")
    done = await process.run(
        ["/bin/sh", "-c", command], cwd=tmp_path, env={**ENV, "MARK": "m1"}, deadline=20, mark="MARK=m1"
    )
    assert done.status == 0
    assert await gone(int((tmp_path / "child").read_text()))


async def test_another_mark_is_left_alone(tmp_path: Path) -> None:
    other = process.start(["sleep", "60"], cwd=tmp_path, env={**ENV, "MARK": "m11"})
    try:
        await process.run(["true"], cwd=tmp_path, env={**ENV, "MARK": "m1"}, deadline=20, mark="MARK=m1")
        assert process.members(other.pid) == [other.pid]
    finally:
        await process.end(other.pid)
        other.wait()
        assert other.stdout
        other.stdout.close()


async def test_what_a_killed_agent_left_at_work_is_ended_and_our_own_work_is_not(tmp_path: Path) -> None:
    """R-SD-12"""
    mark = process.mark_of(tmp_path)
    env = {**ENV, **dict([mark.split("=", 1)])}
    ours = process.start(["sleep", "60"], cwd=tmp_path, env=env)
    orphan = process.start(["/bin/sh", "-c", "setsid sleep 60 & echo $! > child"], cwd=tmp_path, env=env)
    pid = int(await wait_for_file(tmp_path / "child"))
    orphan.wait()
    await process.end_orphans(mark)
    assert await gone(pid)
    assert process.members(ours.pid) == [ours.pid]
    assert (await process.finish(ours, deadline=0.01)).timed_out
    assert orphan.stdout
    orphan.stdout.close()


async def test_cancelling_ends_the_family_first(tmp_path: Path) -> None:
    task = asyncio.create_task(shell("sleep 60 & echo $! > child; wait", tmp_path))
    pid = int(await wait_for_file(tmp_path / "child"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await gone(pid)


async def test_cancelling_twice_kills_at_once(tmp_path: Path) -> None:
    stubborn = "trap '' TERM; echo $$ > child; while :; do sleep 0.05; done"
    task = asyncio.create_task(
        process.run(["/bin/sh", "-c", stubborn], cwd=tmp_path, env=ENV, deadline=90, grace=60)
    )
    pid = int(await wait_for_file(tmp_path / "child"))
    task.cancel()
    await asyncio.sleep(0.05)
    begun = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await gone(pid)
    assert time.monotonic() - begun < 30  # the grace is 60 s


async def test_a_stopped_program_is_killed_too(tmp_path: Path) -> None:
    done = await process.run(
        ["/bin/sh", "-c", "kill -STOP $$"], cwd=tmp_path, env=ENV, deadline=0.3, grace=0.1
    )
    assert done.timed_out


async def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    await shell("true", tmp_path)
    before = open_descriptors()
    for _ in range(5):
        await shell("echo x", tmp_path)
        await shell("sleep 9", tmp_path, deadline=0.01)
    assert open_descriptors() == before


def test_the_kernel_tells_of_this_process() -> None:
    stat = process.stat_of(os.getpid())
    assert stat
    assert (stat.pid, stat.parent, stat.session) == (os.getpid(), os.getppid(), os.getsid(0))
    assert stat.group == os.getpgid(0)
    assert stat.alive
    seconds = stat.started / os.sysconf("SC_CLK_TCK")
    assert 0 < seconds <= time.clock_gettime(time.CLOCK_BOOTTIME)
    assert os.getpid() in process.members(os.getsid(0))


def test_a_process_that_is_not_there_is_none() -> None:
    assert process.stat_of(2**22 + 1) is None


async def test_a_name_with_parentheses_and_spaces_is_read_right(tmp_path: Path) -> None:
    program = tmp_path / ") R 1 2 (x"
    program.symlink_to("/bin/sleep")
    child = process.start([program, "60"], cwd=tmp_path, env=ENV)
    stat = process.stat_of(child.pid)
    assert stat
    assert (stat.parent, stat.session) == (os.getpid(), child.pid)
    await process.end(child.pid)
    assert await gone(child.pid)
    zombie = process.stat_of(child.pid)
    assert zombie
    assert zombie.state == "Z"
    assert process.members(child.pid) == []
    child.wait()
    assert child.stdout
    child.stdout.close()


def test_the_boot_has_a_name() -> None:
    assert len(process.boot_id()) == 36


async def test_what_is_printed_is_heard_as_it_comes(tmp_path: Path) -> None:
    heard: list[bytes] = []

    def listen(output: bytes) -> None:
        heard.append(output)
        (tmp_path / "go").touch()

    command = "echo one; while ! [ -e go ]; do sleep 0.01; done; echo two"
    done = await process.run(
        ["/bin/sh", "-c", command], cwd=tmp_path, env=ENV, deadline=20, limit=6, heard=listen
    )
    assert heard[0] == b"one\n"
    assert heard[-1] == done.output == b"e\ntwo\n"
