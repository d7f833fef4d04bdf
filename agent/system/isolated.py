"""What homeport-build@.service and homeport-migrate@.service run: a service's commands, as a user who is not the agent.

`python -I -m agent.system.isolated build|migrate|give-back NAME`. Rules:
- The commands are those of /etc/homeport-build/NAME.json, which only root can write. The agent names a release (by the
  link `.building` in the service's directory) and, once, an act (`.building-request`); neither makes anything else run.
- The release is opened below the directory of that file, by its name, and no link is followed on the way.
- What the commands print goes to /run, the end of it: `output-N` for the N-th. How they ended: `result`.
- Whoever is left in the unit when the commands are over is ended.
- `give-back` comes last, in any case: what programs made without rights for others gets rights for the agent, which
  inherited access lists name, but a mask hides. As an act it empties the release instead, which the agent could
  not remove.

Only the standard library, and little of it: it starts with each build.
"""

import hashlib
import json
import os
import re
import resource
import select
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

RECIPES = "/etc/homeport-build"
"""Elsewhere if HOMEPORT_RECIPES says so: what stands in the unit's environment says root, too."""
LINK = ".building"
REQUEST = ".building-request"
RESULT = "result"
RUN = "run"
"""Which of the agent's requests the other files are about."""
OUTPUT = "output-"
LIMIT = 65536
"""Bytes of a command's output that are kept at least; the file may hold twice as many for a while."""
FAILED, REFUSED, STOPPED = 1, 78, 143
GRACE = 2.0

_NAME = re.compile(r"[0-9]{1,18}-[0-9a-f]{7,64}")
_REVISION = re.compile(r"[0-9a-f]{40,64}")
_SERVICE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_OWN_GROUP = re.compile(rb"/homeport-(build|migrate)@")
_MOST = 1 << 20


class Refused(Exception):
    """What was asked for is not what root allowed."""


def main(arguments: list[str]) -> int:
    """The exit status: 0, FAILED if a command failed, REFUSED."""
    try:
        act, service = arguments
        if not _SERVICE.fullmatch(service):
            raise Refused("this is no service's name")
        text = Path(os.environ.get("HOMEPORT_RECIPES", RECIPES), f"{service}.json").read_bytes()
        recipe = json.loads(text)
        release = _open_release(recipe["directory"])
        if act == "give-back":
            _end_others()
            give_back(release)
            return 0
        request = _request(recipe["directory"])
        os.fchdir(release)
        if request["act"] == "give-back":
            _clear(".")
            return 0
        _check(request, text)
        return _carry_out(act, recipe, request)
    except (OSError, ValueError, KeyError, Refused) as error:
        print(f"refused: {error}", file=sys.stderr)
        return REFUSED


# --- what is asked for


def _open_release(directory: str) -> int:
    """A handle of the release that is being built. Raises Refused, OSError."""
    above, _, name = os.readlink(os.path.join(directory, LINK)).partition("/")  # noqa: PTH115, PTH118
    if above != "releases" or not _NAME.fullmatch(name):
        raise Refused("this is no release's name")
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for step in ("releases", name):
        below = os.open(step, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=handle)
        os.close(handle)
        handle = below
    return handle


def _request(directory: str) -> dict[str, str]:
    handle = os.open(os.path.join(directory, REQUEST), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)  # noqa: PTH118
    with os.fdopen(handle, "rb") as file:
        found: dict[str, str] = json.loads(file.read(_MOST))
    return found


def _check(request: dict[str, str], recipe: bytes) -> None:
    """Raises Refused if the agent thinks of another recipe."""
    if request["recipe"] != hashlib.sha256(recipe).hexdigest():
        raise Refused("the agent has another configuration than `homeport install` has read")
    if not _REVISION.fullmatch(request["revision"]):
        raise Refused("this is no revision")


# --- the commands


STEPS: dict[str, dict[str, tuple[str, ...]]] = {
    "build": {"build": ("commands", "always"), "reused": ("always",)},
    "migrate": {"migrate": ("migrate",)},
}
"""Of each unit: what the agent may ask for -> which commands of the recipe."""


def _carry_out(unit: str, recipe: dict[str, Any], request: dict[str, str]) -> int:
    """In the release, which is the current directory."""
    place = Path(os.environ["RUNTIME_DIRECTORY"])
    if _has_begun(place / RUN, request["run"]):  # systemd restarts what is bound to the agent
        raise Refused("this was asked for once, and was begun")
    _clear(str(place))
    _write(place / RUN, request["run"].encode())
    commands = [command for step in STEPS[unit][request["act"]] for command in recipe[step]]
    environment = _environment(unit, recipe, request)
    memory = recipe["memory"] if unit == "build" else None
    try:
        for number, command in enumerate(commands):
            status = _run(command, environment, place / f"{OUTPUT}{number}", memory)
            short = bool(status) and _was_short_of_memory()
            ended = {"command": number, "status": status, "out_of_memory": short}
            _write(place / RESULT, json.dumps(ended).encode())
            if status:
                return FAILED
    finally:
        _end_others()
    return 0


def _has_begun(noted: Path, run: str) -> bool:
    """Whoever was here before may have left anything under this name."""
    try:
        handle = os.open(noted, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return stat.S_ISREG(os.fstat(handle).st_mode) and os.read(handle, _MOST) == run.encode()
    finally:
        os.close(handle)


def _clear(place: str) -> None:
    """Removes all in there that can be. Directories by programs, which go down as far as there is anything."""
    for name in os.listdir(place):  # noqa: PTH208 - names are all that is wanted
        with suppress(OSError):
            os.unlink(os.path.join(place, name))  # noqa: PTH108, PTH118 - without pathlib
    if not os.listdir(place):  # noqa: PTH208 - as above
        return
    script = 'cd "$1" && { chmod -R u+rwx . 2>/dev/null; find . -mindepth 1 -delete; }'
    subprocess.run(["/bin/sh", "-c", script, "sh", place], stdin=subprocess.DEVNULL, check=False)


def _environment(unit: str, recipe: dict[str, Any], request: dict[str, str]) -> dict[str, str]:
    own = os.environ
    return {
        "PATH": own.get("PATH", "/usr/local/bin:/usr/bin:/bin"),
        "HOME": own.get("CACHE_DIRECTORY") or own.get("HOME") or "/",
        "LANG": own.get("LANG", "C.UTF-8"),
        **recipe["environment"],
        **(recipe["build_environment"] if unit == "build" else {}),
        "HOMEPORT_SERVICE": recipe["service"],
        "HOMEPORT_REVISION": request["revision"],
    }


def _run(command: str, environment: dict[str, str], output: Path, memory: int | None) -> int:
    """Its status; of a signal, the negative number."""

    def limit() -> None:
        if memory is not None:
            _, most = resource.getrlimit(resource.RLIMIT_AS)
            figure = memory if most == resource.RLIM_INFINITY else min(memory, most)
            resource.setrlimit(resource.RLIMIT_AS, (figure, figure))

    _write(output, b"")
    process = subprocess.Popen(  # a shell: the option is a shell's line
        ["/bin/sh", "-c", command],
        env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True, preexec_fn=limit,  # noqa: PLW1509 - there is one thread
    )  # fmt: skip
    _keep(process, output)
    return process.wait()


def _keep(process: "subprocess.Popen[bytes]", output: Path) -> None:
    """Copies what is printed until the program has ended, whoever else keeps the pipe open."""
    assert process.stdout is not None
    pipe, over = process.stdout.fileno(), os.pidfd_open(process.pid)
    os.set_blocking(pipe, False)
    waiting, page = select.poll(), _Page(output)
    waiting.register(pipe, select.POLLIN)
    waiting.register(over, select.POLLIN)
    ended = False
    while not ended:
        ready = {handle for handle, _ in waiting.poll()}
        ended = over in ready
        data = _read(pipe)
        for _ in range(1 << 20 >> 16):  # at its end, what a pipe holds at most
            if not data:
                break
            page.add(data)
            data = _read(pipe) if ended else None
        if data == b"" and not ended:
            waiting.unregister(pipe)  # its end stays readable for ever
    os.close(over)
    process.stdout.close()


class _Page:
    """A file with the end of what was printed. When it has become too long it is written anew: a reader sees the old
    one or the new one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept = bytearray()

    def add(self, data: bytes) -> None:
        """More of it."""
        self._kept += data
        if len(self._kept) > 2 * LIMIT:
            del self._kept[:-LIMIT]
            _write(self._path, bytes(self._kept))
            return
        with self._path.open("ab", buffering=0) as file:
            file.write(data)


def _read(pipe: int) -> bytes | None:
    """What is there; nothing at its end; None if there is nothing yet."""
    try:
        return os.read(pipe, LIMIT)
    except BlockingIOError:
        return None


def _write(path: Path, data: bytes) -> None:
    """Put in place by a rename. Not synced: /run does not outlive a power cut."""
    aside = path.with_name(f".{path.name}.partial")
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    aside.replace(path)


# --- what is left


def _end_others(*, told: bool = False) -> None:
    """Whoever else is in this unit's group of processes: those that a command left behind. SIGTERM once each, unless
    they were `told`, then SIGKILL. Bounded: what hangs in the kernel is systemd's."""
    began = time.monotonic()
    signalled: set[int] = set()
    while others := set(_others()):
        passed = time.monotonic() - began
        if passed > 2 * GRACE:
            return
        killed = passed > GRACE
        for pid in others if killed else others - signalled:
            if killed or not told:
                with suppress(ProcessLookupError):  # gone meanwhile
                    os.kill(pid, signal.SIGKILL if killed else signal.SIGTERM)
        signalled |= others
        time.sleep(0.02)


def _others() -> Iterator[int]:
    own = Path("/proc/self/cgroup").read_bytes()
    if not _OWN_GROUP.search(own):
        return  # run by hand: then the group is somebody else's
    for entry in os.listdir("/proc"):  # noqa: PTH208 - names are all that is wanted
        if not entry.isdecimal() or int(entry) == os.getpid():
            continue
        try:
            same = Path("/proc", entry, "cgroup").read_bytes() == own
            state = Path("/proc", entry, "stat").read_bytes().rpartition(b")")[2].split()[0]
        except OSError:  # gone, or another user's
            continue
        if same and state not in (b"Z", b"X"):
            yield int(entry)


def _was_short_of_memory() -> bool:
    """Whether the kernel has ended a program of this unit for its limit of memory. systemd itself asks only where all
    controllers are in one tree."""
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        names = {"": ("", "memory.events"), "memory": ("memory", "memory.oom_control")}.get(controllers)
        if names is None or not _OWN_GROUP.search(path.encode()):
            continue
        with suppress(OSError):
            place = Path(f"/sys/fs/cgroup/{names[0]}{path}", names[1])
            for figure in place.read_text(encoding="ascii").splitlines():
                if figure.startswith("oom_kill ") and figure.split()[1] != "0":
                    return True
    return False


def give_back(directory: int) -> None:
    """Everything of ours below gets rights for the agent; what others own is theirs to change. No link is followed."""
    with os.scandir(f"/proc/self/fd/{directory}") as entries:
        names = [entry.name for entry in entries]
    for name in names:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        own = found.st_uid == os.geteuid()
        if stat.S_ISDIR(found.st_mode):
            _give_back_directory(directory, name, found, own=own)
        elif own and stat.S_ISREG(found.st_mode):
            _grant(directory, name, found.st_mode, (found.st_mode & 0o700) >> 3)


def _give_back_directory(above: int, name: str, found: os.stat_result, *, own: bool) -> None:
    if own:
        _grant(above, name, found.st_mode, 0o770)
    try:
        handle = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    except PermissionError:
        if own:
            raise
        return  # somebody else's, closed to us: nothing of ours is in there
    try:
        give_back(handle)
    finally:
        os.close(handle)


def _grant(above: int, name: str, mode: int, rights: int) -> None:
    wanted = stat.S_IMODE(mode) | rights
    if wanted != stat.S_IMODE(mode):
        # Below a directory of ours or the agent's nobody else swaps names; the others of this unit were ended.
        os.chmod(name, wanted & ~(stat.S_ISUID | stat.S_ISGID), dir_fd=above)


def _stop(_: int, __: object) -> None:
    """systemd stops the unit: everybody has its SIGTERM by now."""
    _end_others(told=True)
    raise SystemExit(STOPPED)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    sys.exit(main(sys.argv[1:]))
