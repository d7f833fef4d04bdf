"""The embedded mode with `listen`: the addresses stay open from one version to the next; and `drain`."""

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from agent.adapters.runtimes import doors
from agent.adapters.runtimes.process import ProcessRuntime
from agent.core import settings
from agent.core.errors import StepFailed
from agent.core.model import Fault
from agent.system import listening
from tests.contracts.test_runtime import environment_of, open_files
from tests.system.services import a_launch, alive, end_all_below, eventually, python, shell
from tests.world import free_port

SERVER = """
    import os, signal, socket, sys, time
    assert os.environ["LISTEN_PID"] == str(os.getpid()), "it is meant for this very process"
    time.sleep(float(sys.argv[1]))
    server = socket.socket(fileno=3)
    over = []
    signal.signal(signal.SIGTERM, lambda *_: over.append(1))
    server.settimeout(0.05)
    print("serving", os.environ["LISTEN_FDS"], os.environ["LISTEN_FDNAMES"], flush=True)
    while not over:
        try:
            client, _ = server.accept()
        except TimeoutError:
            continue
        client.settimeout(5)
        client.recv(100)
        client.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\n" + os.environ["HOMEPORT_REVISION"].encode())
        client.close()
"""


@pytest.fixture(autouse=True)
def _nothing_left(tmp_path: Path) -> Iterator[None]:
    yield
    end_all_below(tmp_path)


@pytest.fixture
def port() -> int:
    return free_port()


def runtime(tmp_path: Path, command: tuple[str, ...], **options: object) -> ProcessRuntime:
    """As an agent makes it at its start."""
    made = settings.ProcessRuntime(command=command, stop_timeout=settings.Seconds(5), **options)  # type: ignore[arg-type]
    return ProcessRuntime(made, service="scraper", state=tmp_path / "run")


def serving(tmp_path: Path, port: int, delay: float = 0.0) -> ProcessRuntime:
    return runtime(tmp_path, python(SERVER, str(delay)), listen=(f"127.0.0.1:{port}",))


class Users:
    """Eight of them, who ask all the time."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answers: list[bytes] = []
        self.lost: list[str] = []
        self.over = threading.Event()

    def ask(self) -> None:
        while not self.over.is_set():
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=20) as client:
                    client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    answer = b"".join(iter(lambda: client.recv(1000), b""))
                assert answer.startswith(b"HTTP/1.0 200"), answer
                self.answers.append(answer)
            except (OSError, AssertionError) as error:
                self.lost.append(repr(error))
            time.sleep(0.005)


@contextmanager
def users(port: int) -> Iterator[Users]:
    crowd = Users(port)
    threads = [threading.Thread(target=crowd.ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        yield crowd
    finally:
        crowd.over.set()
        for thread in threads:
            thread.join()


async def switch(before: ProcessRuntime, after: ProcessRuntime, tmp_path: Path, release: str) -> None:
    await before.stop()
    await after.start(a_launch(tmp_path, release, revision=release[2:] * 4))


async def answered(crowd: Users, text: bytes) -> None:
    await eventually(lambda: any(answer.endswith(text) for answer in crowd.answers[-8:]))


async def test_no_request_is_lost_while_a_version_gives_way_to_the_next(tmp_path: Path, port: int) -> None:
    service = serving(tmp_path, port, delay=0.3)
    await service.start(a_launch(tmp_path, "1-aaaaaaa", revision="aaaaaaa" * 4))
    with users(port) as crowd:
        await answered(crowd, b"aaaaaaa")
        for release in ("2-bbbbbbb", "3-ccccccc", "4-ddddddd"):
            await switch(service, service, tmp_path, release)
            await answered(crowd, release[2:].encode())
    assert crowd.lost == []
    await service.stop()


async def test_nor_by_an_agent_that_found_the_service_running(tmp_path: Path, port: int) -> None:
    """It takes a copy of the socket from the service."""
    first = serving(tmp_path, port)
    await first.start(a_launch(tmp_path, "1-aaaaaaa", revision="aaaaaaa" * 4))
    del first  # that agent is gone, and what it held is closed
    service = serving(tmp_path, port, delay=0.3)
    with users(port) as crowd:
        await answered(crowd, b"aaaaaaa")
        await switch(service, service, tmp_path, "2-bbbbbbb")
        await answered(crowd, b"bbbbbbb")
    assert crowd.lost == []
    await service.stop()


async def test_the_service_is_told_as_systemd_does(tmp_path: Path, port: int) -> None:
    service = runtime(tmp_path, python(SERVER, "0"), listen=(f"127.0.0.1:{port}", f"[::1]:{port}"))
    running = await service.start(a_launch(tmp_path))
    await eventually(lambda: "serving" in (tmp_path / "run" / "output").read_text())
    assert f"serving 2 {port}:{port}\n" in await service.output() + "\n"
    handles = open_files(running.pid or 0)
    assert sorted(handles) == [0, 1, 2, 3, 4], "nothing else of the agent's"
    assert all(handles[number].startswith("socket:[") for number in (3, 4)), handles
    assert await service.listens("127.0.0.1", port) is True
    assert await service.listens("::1", port) is True
    await service.stop()


async def test_without_listen_nothing_of_it_is_in_the_environment(tmp_path: Path) -> None:
    service = runtime(tmp_path, shell("exec sleep 600"))
    running = await service.start(a_launch(tmp_path))
    assert not [name for name in environment_of(running.pid or 0) if name.startswith("LISTEN_")]
    await service.stop()


async def test_an_address_that_somebody_else_has_is_the_worlds_fault(tmp_path: Path, port: int) -> None:
    with closing(socket.create_server(("127.0.0.1", port))), pytest.raises(StepFailed) as caught:
        await serving(tmp_path, port).start(a_launch(tmp_path))
    assert caught.value.code == "runtime-failed"
    assert caught.value.fault is Fault.WORLD
    assert f"127.0.0.1:{port}" in caught.value.message
    assert "in use" in caught.value.message


async def test_a_program_that_is_not_there_is_told_with_sockets_as_well(tmp_path: Path, port: int) -> None:
    service = runtime(tmp_path, ("./nowhere",), listen=(f"127.0.0.1:{port}",))
    with pytest.raises(StepFailed, match="No such file") as caught:
        await service.start(a_launch(tmp_path))
    assert caught.value.code == "start-failed"


def test_what_a_busy_service_closes_meanwhile_is_no_reason_to_take_nothing(
    monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    listed = os.listdir
    gone = "999999"
    monkeypatch.setattr(os, "listdir", lambda path: [gone, *listed(path)])
    with socket.create_server(("127.0.0.1", port)):
        taken = listening.taken_from([os.getpid()], "127.0.0.1", port)
    assert taken is not None
    with taken, socket.create_connection(("127.0.0.1", port), timeout=5):
        pass


async def test_who_does_not_come_back_is_not_waited_for(
    tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Users wait for a switch, and not for ever for a service that is down."""
    service = serving(tmp_path, port)
    await service.start(a_launch(tmp_path))
    await service.stop()
    await service.look()
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        pass
    monkeypatch.setattr(doors, "HOLD_SECONDS", 0.0)
    await asyncio.sleep(0.01)
    await service.look()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    await service.start(a_launch(tmp_path))
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        pass
    await service.stop()


async def test_a_version_that_shuts_the_socket_down_for_all_costs_only_its_own_users(
    tmp_path: Path, port: int
) -> None:
    rude = python(
        "import socket, time; socket.socket(fileno=3).shutdown(2); print('shut', flush=True); time.sleep(600)"
    )
    service = runtime(tmp_path, rude, listen=(f"127.0.0.1:{port}",))
    await service.start(a_launch(tmp_path))
    await eventually(lambda: "shut" in (tmp_path / "run" / "output").read_text())
    await service.stop()
    await service.start(a_launch(tmp_path, "2-bbbbbbb"))
    await service.stop()


# --- drain

WORKER = """
    import os, pathlib, signal, sys, time
    over = []
    for number in (signal.SIGUSR1, signal.SIGTERM):
        signal.signal(number, lambda number, _: over.append(number))
    print("ready", flush=True)
    while not over:
        time.sleep(0.01)
    if over[0] == signal.SIGUSR1:
        time.sleep(float(sys.argv[1]))
        pathlib.Path("done").touch()
"""


def made(tmp_path: Path, name: str) -> bool:
    """Whether the release has this file."""
    return Path(a_launch(tmp_path).directory, name).exists()


async def drained(service: ProcessRuntime, tmp_path: Path) -> bool:
    """Starts it, stops it; whether it has done its job."""
    running = await service.start(a_launch(tmp_path))
    await eventually(lambda: "ready" in (tmp_path / "run" / "output").read_text())
    await service.stop()
    assert running.pid is not None
    assert not alive(running.pid)
    return made(tmp_path, "done")


async def test_a_worker_that_is_told_by_a_signal_ends_its_job_first(tmp_path: Path) -> None:
    drain = settings.Drain(signal="SIGUSR1", timeout=settings.Seconds(30))
    assert await drained(runtime(tmp_path, python(WORKER, "0.5"), drain=drain), tmp_path)


async def test_the_deadline_ends_it_in_the_middle(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    drain = settings.Drain(signal="SIGUSR1", timeout=settings.Seconds(0.3))
    service = runtime(
        tmp_path, shell("trap 'sleep 600' USR1; echo ready; while :; do sleep 0.05; done"), drain=drain
    )
    assert not await drained(service, tmp_path)
    assert "has not ended 0.3 s after SIGUSR1" in caplog.text


async def test_a_command_is_waited_for_and_then_it_is_stopped(tmp_path: Path) -> None:
    drain = settings.Drain(command="sleep 0.3; test $HOMEPORT_SERVICE = scraper && touch done")
    assert await drained(runtime(tmp_path, python(WORKER, "0"), drain=drain), tmp_path)


@pytest.mark.parametrize(
    ("command", "timeout", "said"),
    [("echo no; exit 3", 60, "ended with status 3: no"), ("sleep 600", 0.3, "has not ended within 0.3 s")],
)
async def test_a_command_that_fails_is_told_and_the_service_stopped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, command: str, timeout: float, said: str
) -> None:
    drain = settings.Drain(command=command, timeout=settings.Seconds(timeout))
    assert not await drained(runtime(tmp_path, python(WORKER, "0"), drain=drain), tmp_path)
    assert said in caplog.text


async def test_who_is_dead_already_is_not_told(tmp_path: Path) -> None:
    drain = settings.Drain(command="touch told")
    service = runtime(tmp_path, shell("exec sleep 600"), drain=drain)
    running = await service.start(a_launch(tmp_path))
    assert running.pid is not None
    os.kill(running.pid, signal.SIGKILL)
    await eventually(lambda: not alive(running.pid or 0))
    await service.stop()
    assert not made(tmp_path, "told")
