"""Gives the user that a service runs as access to its directory: lists of acl(5), which what is made later inherits.

`python -I -m agent.system.entrust DIRECTORY USER`, run by `homeport install` as the agent's user: reading everywhere,
writing in `shared/`. The service may write there, and move things about meanwhile: so no name is looked up twice. Each
thing is opened first, no link is followed, and what was opened is handed to setfacl.
"""

import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SHARED = "shared"
_MANY = 200
"""Handles that are open at the same time."""
_HANDLE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def entrust(directory: Path, user: str) -> None:
    """What belongs to others (the service, who builds) only they could change. Raises OSError, CalledProcessError."""
    shared = directory / SHARED
    shared.mkdir(exist_ok=True)
    me = pwd.getpwuid(os.geteuid()).pw_name
    # not everything to read and then some to write: a service that runs would be refused its data in between
    _give(directory, [f"u:{user}:rX"], without=SHARED)
    _give(shared, [f"u:{user}:rwX", f"u:{me}:rwX"])


def _give(top: Path, rules: list[str], without: str = "") -> None:
    inherited = [f"d:{rule}" for rule in rules] + ["d:o::-"]
    found: dict[bool, list[int]] = {True: [], False: []}
    for handle, is_directory in _walk(top, without):
        found[is_directory].append(handle)
        if len(found[True]) + len(found[False]) >= _MANY:
            _set(found, rules, inherited)
    _set(found, rules, inherited)
    # the directory itself comes last: `install` sees by it that all of it was done
    if (itself := _ours(str(top))) is not None:
        _set({itself[1]: [itself[0]]}, rules, inherited)


def _walk(top: Path, without: str) -> Iterator[tuple[int, bool]]:
    """A handle of each directory and file of ours below `top`, and whether it is a directory."""
    for place, directories, others, above in os.fwalk(top, onerror=_unless_closed):
        if place == str(top) and without in directories:
            directories.remove(without)
        for name in others if place == str(top) else [".", *others]:
            if (found := _ours(name, above)) is not None:
                yield found


def _ours(name: str, above: int | None = None) -> tuple[int, bool] | None:
    """A handle, and whether it is a directory's; None for what is not ours, a link, and what is gone meanwhile."""
    try:
        handle = os.open(name, _HANDLE, dir_fd=above)
    except FileNotFoundError:
        return None
    status = os.fstat(handle)
    if status.st_uid == os.geteuid() and not stat.S_ISLNK(status.st_mode):
        return handle, stat.S_ISDIR(status.st_mode)
    os.close(handle)
    return None


def _unless_closed(error: OSError) -> None:
    """What is not ours may be closed to us."""
    if not isinstance(error, PermissionError | FileNotFoundError):
        raise error


def _set(found: dict[bool, list[int]], rules: list[str], inherited: list[str]) -> None:
    for is_directory, handles in found.items():
        if handles:
            rule = ",".join(rules + inherited if is_directory else rules)
            names = [f"/proc/self/fd/{handle}" for handle in handles]
            subprocess.run(["setfacl", "-m", rule, "--", *names], pass_fds=handles, check=True)
        for handle in handles:
            os.close(handle)
        handles.clear()


def main(arguments: list[str]) -> int:
    """`DIRECTORY USER`."""
    directory, user = arguments
    try:
        entrust(Path(directory), user)
    except (OSError, RecursionError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
