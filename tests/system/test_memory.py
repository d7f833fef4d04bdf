"""What is freed goes back to the system."""

import subprocess
import sys
from pathlib import Path

import pytest

from agent.system import memory, units
from agent.system.memory import cached

PROGRAM = """
import sys
from agent.system.memory import return_large_blocks

if sys.argv[1] == "told":
    assert return_large_blocks()

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

block = bytearray(16_000_000)
del block
before = resident()
blocks, small = [], []
for _ in range(60):
    blocks.append(bytearray(600_000))
    for page in range(0, 600_000, 4096):
        blocks[-1][page] = 1
    small.append(bytearray(4000))
del blocks
print(resident() - before)
"""


def kept(how: str) -> int:
    """Bytes that a process keeps after it freed 36 MB between small things that stay."""
    ended = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    return int(ended.stdout)


def test_large_blocks_are_given_back() -> None:
    assert kept("told") < 4_000_000


def test_without_being_told_the_library_keeps_them() -> None:
    """The guard itself; should this fail one day, `agent.system.memory` is not needed any more."""
    assert kept("untold") > 15_000_000


ARENAS = """
import ctypes, sys, threading
from agent.system.memory import give_back, share_one_heap

if sys.argv[1] == "told":
    assert share_one_heap()
barrier = threading.Barrier(8)

def work():
    barrier.wait()
    ctypes.CDLL(None).malloc(100)
    barrier.wait()

threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
with open(sys.argv[2], "w"):
    pass
stream = libc.fopen(sys.argv[2].encode(), b"w")
libc.malloc_info(0, ctypes.c_void_p(stream))
libc.fclose(ctypes.c_void_p(stream))
give_back()
print(open(sys.argv[2]).read().count("<heap nr="))
"""


def heaps(how: str, file: Path) -> int:
    """How many heaps eight threads have taken from."""
    ended = subprocess.run(
        [sys.executable, "-c", ARENAS, how, str(file)], capture_output=True, text=True, check=True
    )
    return int(ended.stdout)


def test_all_threads_take_from_one_heap_once_that_was_said(tmp_path: Path) -> None:
    assert heaps("told", tmp_path / "info") == 1
    assert heaps("untold", tmp_path / "info") > 1, "the guard itself"


@pytest.mark.parametrize("version", ["", "memory"])
def test_what_only_lies_in_the_page_cache_is_no_memory_of_a_service(tmp_path: Path, version: str) -> None:
    """A small service that has read a large database still fits twice."""
    place = tmp_path / version / "system.slice" / "app@blue.service"
    place.mkdir(parents=True)
    (place / "memory.stat").write_text("anon 5000\nfile 3000\ninactive_file 1000\nactive_file 2000\n")
    assert cached("/system.slice/app@blue.service", tmp_path) == 3000
    assert cached("/system.slice/other.service", tmp_path) == 0


@pytest.mark.parametrize(
    ("current", "expected"),
    [(9000, 6000), ("9000", 6000), (2000, 1), ((1 << 64) - 1, None), ("[not set]", None), (None, None)],
)
def test_a_units_memory_is_what_systemd_counts_without_it(
    monkeypatch: pytest.MonkeyPatch, current: object, expected: int | None
) -> None:
    monkeypatch.setattr(memory, "cached", lambda group: 3000)
    assert units.bytes_of(current, "/system.slice/app@blue.service") == expected


@pytest.mark.parametrize(
    ("file", "text", "counted"),
    [
        ("cgroup.controllers", "cpuset cpu io memory pids\n", True),
        ("cgroup.controllers", "cpuset cpu io pids\n", False),  # as a Raspberry Pi's firmware has it
        ("memory/memory.stat", "cache 0\n", True),
        ("cpu/cpu.stat", "", False),
    ],
)
def test_whether_the_kernel_counts_what_a_unit_takes(
    tmp_path: Path, file: str, text: str, counted: bool
) -> None:
    place = tmp_path / file
    place.parent.mkdir(exist_ok=True)
    place.write_text(text)
    assert memory.counted(tmp_path) is counted
