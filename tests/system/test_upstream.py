"""The program that swaps nginx's upstream, run as its unit runs it, with an nginx and a systemctl that say what they
are told to say. The real ones are asked on a virtual Pi."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.core import upstreams
from agent.core.colours import Colour
from tests.meta.sources import ROOT
from tests.world import wait_for

PORTS = (9101, 9102)
BLUE, GREEN = (upstreams.text_of("app", colour, PORTS) for colour in Colour)
NGINX = """#!/bin/sh
[ ! -e {here}/slow ] || {{ echo $$ >{here}/trying; exec sleep 60; }}
[ ! -e {here}/refuses ] || {{ echo 'nginx: [emerg] no such word'; exit 1; }}
cat {here}/conf.d/*.conf
[ -e {here}/siteless ] || echo '    proxy_pass http://homeport-app;'
"""
SYSTEMCTL = """#!/bin/sh
echo "$@" >>{here}/asked
case $1 in
    show) echo MainPID=$(cat {here}/main) ;;
    reload)
        [ ! -e {here}/hangs ] || [ "$(grep -c reload {here}/asked)" = 1 ] || {{ touch {here}/again; sleep 2; }}
        [ -e {here}/deaf ] || kill -HUP $(cat {here}/main)
        echo done >>{here}/asked ;;
esac
"""
MASTER = """
import os, signal, time
def work(*_):
    if os.fork() == 0:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        time.sleep(600)
        os._exit(0)
signal.signal(signal.SIGHUP, work)
work()
print("ready", flush=True)
while True:
    time.sleep(600)
"""
PROGRAM = """
import sys
from pathlib import Path
from agent.core import upstreams
from agent.system import commands, upstream
here = Path({here!r})
commands.PATH = f"{{here}}:{{commands.PATH}}"
upstreams.TABLE = str(here / "table")
upstream.LOCK = here / "lock"
upstream.TAKE_UP_SECONDS = 0.5
upstream.swap.__defaults__ = (here / "conf.d",)
sys.exit(upstream.main(sys.argv[1:]))
"""


class Machine:
    """Where the program thinks that it is."""

    def __init__(self, here: Path, main: int) -> None:
        self.here = here
        self.file = here / "conf.d" / "homeport-upstream-app.conf"
        (here / "conf.d").mkdir()
        (here / "main").write_text(str(main))
        (here / "table").write_text(upstreams.table_of({"app": PORTS}))
        for name, text in (("nginx", NGINX), ("systemctl", SYSTEMCTL)):
            (here / name).write_text(text.format(here=here))
            (here / name).chmod(0o755)

    def begin(self, instance: str) -> subprocess.Popen[str]:
        """As systemd starts it."""
        command = [sys.executable, "-c", PROGRAM.format(here=str(self.here)), instance]
        return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)

    def swap(self, instance: str) -> tuple[int, str]:
        """To its end: the exit status, and what it says of why not."""
        with self.begin(instance) as program:
            _, said = program.communicate(timeout=60)
        return program.returncode, said

    def is_(self, mood: str) -> None:
        """From now on."""
        (self.here / mood).touch()

    def asked(self) -> list[str]:
        """What systemctl was."""
        return (self.here / "asked").read_text().splitlines() if (self.here / "asked").exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    command = [sys.executable, "-c", MASTER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as main:
        assert main.stdout is not None
        main.stdout.readline()
        try:
            yield Machine(tmp_path, main.pid)
        finally:
            os.killpg(main.pid, signal.SIGKILL)


def test_the_file_is_written_tried_and_taken_up(machine: Machine) -> None:
    assert machine.swap("app-green") == (0, "")
    assert machine.file.read_text() == GREEN
    assert machine.file.stat().st_mode & 0o777 == 0o644
    assert machine.swap("app-blue") == (0, "")
    assert machine.file.read_text() == BLUE
    assert machine.asked().count("reload nginx.service") == 2


@pytest.mark.parametrize(
    ("mood", "why", "reloads"),
    [
        ("refuses", "no such word", 0),
        ("siteless", "no site of nginx passes requests to http://homeport-app", 0),
        ("deaf", "nginx goes on with its configuration from before", 2),
    ],
)
@pytest.mark.parametrize("before", [BLUE, BLUE[:-30], None])
def test_what_is_not_taken_up_is_taken_back(
    machine: Machine, before: str | None, mood: str, why: str, reloads: int
) -> None:
    """Whatever was there; and an nginx that was told already is told once more."""
    if before is not None:
        machine.file.write_text(before)
    machine.is_(mood)
    status, said = machine.swap("app-green")
    assert status == 1
    assert f"<3>refused: {why}" in said
    assert (machine.file.read_text() if machine.file.exists() else None) == before
    assert machine.asked().count("reload nginx.service") == reloads
    assert [path for path in machine.file.parent.iterdir() if path != machine.file] == []


def test_a_swap_that_systemd_ends_is_taken_back(machine: Machine) -> None:
    """TimeoutStartSec=, or a shutdown."""
    machine.file.write_text(BLUE)
    machine.is_("slow")
    with machine.begin("app-green") as program:
        wait_for("nginx to be asked", (machine.here / "trying").exists)
        assert machine.file.read_text() == GREEN
        program.terminate()
        _, said = program.communicate(timeout=60)
    assert program.returncode == 1
    assert "<3>refused: it took too long" in said
    assert machine.file.read_text() == BLUE
    assert machine.asked() == []


def test_what_takes_a_swap_back_is_not_broken_off(machine: Machine) -> None:
    """nginx was slow, and so is what tells it of the old file: TimeoutStartSec= is over meanwhile."""
    machine.file.write_text(BLUE)
    machine.is_("deaf")
    machine.is_("hangs")
    with machine.begin("app-green") as program:
        wait_for("nginx to be told of the old file", (machine.here / "again").exists)
        program.terminate()
        _, said = program.communicate(timeout=60)
    assert program.returncode == 1
    assert "<3>refused: nginx goes on with its configuration from before" in said
    assert machine.asked()[-1] == "done"
    assert machine.file.read_text() == BLUE


def test_one_that_waits_for_another_changes_nothing_when_it_is_ended(machine: Machine) -> None:
    machine.file.write_text(BLUE)
    with (machine.here / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with machine.begin("app-green") as program:
            wait_for("it to wait", lambda: waits(program.pid))
            program.terminate()
            program.communicate(timeout=60)
    assert program.returncode == 1
    assert machine.file.read_text() == BLUE


def waits(pid: int) -> bool:
    """Whether it waits for a lock."""
    return f" {pid} " in "".join(
        line for line in Path("/proc/locks").read_text().splitlines(True) if "->" in line
    )


@pytest.mark.parametrize("instance", ["other-blue", "app-red", "..-..-etc-blue", ""])
def test_what_the_table_does_not_have_is_not_written(machine: Machine, instance: str) -> None:
    status, said = machine.swap(instance)
    assert status == 2
    assert "has nothing of that name" in said
    assert list(machine.file.parent.iterdir()) == []
