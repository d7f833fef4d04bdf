"""The moment between the agent and a service: the process that writes down who it is, and then becomes the service.

`daemon.launch` runs this file as `python -I -S launcher.py` (8 ms; only built-in modules) in a session of its own.
exec keeps the pid and the start time, so what it writes about itself stays true of the service. A shell would be
faster, but dash and bash add PWD or `_` to the environment and drop names that are no identifiers.

What it finds open:
    0   the plan: NUL-separated record path, directory, notes, number of sockets, number of variables, variables,
        arguments
    1   the service's output, also 2
    3   the lock: held until exec or death, whichever comes, because both close it
    4   the report: `ready` once the record is there; `stage errno` if it fails; closed by exec or death
    5   and on: the sockets, which the service finds from 3 on, as sd_listen_fds(3) says
"""

import _signal  # type: ignore[import-not-found]  # `signal` itself imports enum: 5 ms more
import posix
import sys

LOCK, REPORT = 3, 4


def _plan() -> tuple[bytes, bytes, bytes, int, dict[bytes, bytes], list[bytes]]:
    pieces = []
    while piece := posix.read(0, 65536):
        pieces.append(piece)
    record, directory, notes, sockets, count, *rest = b"".join(pieces).split(b"\0")
    variables, arguments = rest[: int(count)], rest[int(count) :]
    environment = {name: value for name, _, value in (entry.partition(b"=") for entry in variables)}
    return record, directory, notes, int(sockets), environment, arguments


def _read(path: str) -> bytes:
    handle = posix.open(path, posix.O_RDONLY)
    try:
        return posix.read(handle, 4096)
    finally:
        posix.close(handle)


def _write_record(record: bytes, notes: bytes) -> None:
    """Whole or not at all: written aside and renamed. Not fsynced: after a power cut it means nothing anyway."""
    stat = _read("/proc/self/stat")
    started = stat[stat.rindex(b")") + 2 :].split()[19]
    boot = _read("/proc/sys/kernel/random/boot_id").strip()
    text = b"pid=%d\nstarted=%s\nboot=%s\n%send\n" % (posix.getpid(), started, boot, notes)
    aside = record + b".partial"
    handle = posix.open(aside, posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC, 0o600)
    try:
        if posix.write(handle, text) != len(text):  # a disk that fills takes a part
            raise OSError(28, "No space left on device")
    finally:
        posix.close(handle)
    posix.rename(aside, record)


def _hand_on(sockets: int) -> int:
    """Moves the sockets to where the service looks for them; lock and report make room, and are still closed by exec.
    Returns the report's new number."""
    posix.dup(LOCK)  # behind the sockets; what dup makes is not inherited
    report = posix.dup(REPORT)
    for number in range(sockets):
        posix.dup2(REPORT + 1 + number, LOCK + number)
    posix.closerange(LOCK + sockets, REPORT + 1 + sockets)
    return report


def _become(arguments: list[bytes], environment: dict[bytes, bytes]) -> None:
    program = arguments[0]
    places = [b""] if b"/" in program else [p + b"/" for p in environment.get(b"PATH", b"").split(b":") if p]
    failure: OSError = FileNotFoundError(2, "No such file or directory")
    for place in places:
        try:
            posix.execve(place + program, arguments, environment)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as error:  # execvp(3): go on, but remember
            failure = error
    raise failure


def main() -> None:
    """Records itself and becomes the service; if that fails, says at which stage, and ends with 127."""
    stage, report = "record", REPORT
    try:
        for handle in (LOCK, REPORT):
            posix.set_inheritable(handle, False)
        record, directory, notes, sockets, environment, arguments = _plan()
        posix.closerange(
            REPORT + 1 + sockets, posix.sysconf("SC_OPEN_MAX")
        )  # what the agent was started with
        nothing = posix.open("/dev/null", posix.O_RDONLY)
        posix.dup2(nothing, 0)
        posix.close(nothing)
        for number in (_signal.SIGPIPE, _signal.SIGXFSZ):  # Python ignores these, and exec passes that on
            _signal.signal(number, _signal.SIG_DFL)
        _write_record(record, notes)
        posix.write(
            REPORT, b"ready\n"
        )  # if the agent is gone, SIGPIPE ends it here: nobody wants it any more
        stage = "directory"
        posix.chdir(directory)
        stage = "exec"
        if sockets:
            report = _hand_on(sockets)
            environment[b"LISTEN_PID"] = b"%d" % posix.getpid()
        _become(arguments, environment)
    except OSError as error:
        posix.write(report, b"%s %d\n" % (stage.encode(), error.errno or 0))
    sys.exit(127)


if __name__ == "__main__":
    main()
