"""Writes nginx's upstream file of one service, as root, and has nginx take it up: `homeport-upstream@.service`.

    python -I -m agent.system.upstream scraper-green

The instance's name is all that the agent can say. What it may mean stands in a table that only root writes. The file is
there whole or as it was before: nginx tries it, and what it refuses goes, as does what takes too long
(TimeoutStartSec=). Blocking, and one at a time.
"""

import fcntl
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from agent.core import upstreams
from agent.core.colours import Colour
from agent.system import commands, files

LOCK = Path("/run/homeport-upstream.lock")
NGINX = "nginx.service"
TRY_SECONDS = 15.0
TAKE_UP_SECONDS = 15.0
"""nginx itself tries for 2.5 s to get a port that is taken."""
LOOK_SECONDS = 0.05
REFUSED = "refused: "
"""How the line begins that says why it did not go; the agent looks for it in the journal."""


class NotSwappedError(Exception):
    """Why everything is as it was before."""


def swap(service: str, colour: Colour, ports: upstreams.Ports, place: Path = Path(upstreams.PLACE)) -> None:
    """nginx sends the users of a service to this colour. Raises NotSwappedError, OSError."""
    path = place / Path(upstreams.path_of(service)).name
    before = _read(path)
    told = False
    try:
        files.remove_asides(path)
        files.write_atomic(path, upstreams.text_of(service, colour, ports).encode(), mode=0o644)
        _try(service)
        told = True
        _take_up()
    except NotSwappedError:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # systemd waits for it (TimeoutStopSec=)
        _put_back(path, before)
        if told:  # nginx may be slow, and take it up yet
            commands.run("systemctl", "reload", NGINX)
        raise


def _try(service: str) -> None:
    """nginx reads the whole configuration, and prints it."""
    done = commands.run("nginx", "-T", patience=TRY_SECONDS)
    if done.status:
        raise NotSwappedError(
            _emergency(done.text) or f"nginx -T ended with {done.status}: {done.text[-300:]}"
        )
    if not upstreams.is_used(done.text, service):
        name = upstreams.name_of(service)
        raise NotSwappedError(
            f"no site of nginx passes requests to http://{name}: users would not be sent there"
        )


def _take_up() -> None:
    """A reload that fails is not told by nginx but by its log: whether it was taken up is seen by its new workers."""
    first = int(commands.properties(NGINX, ["MainPID"]).get("MainPID", "0") or 0)
    if not first:
        raise NotSwappedError(f"{NGINX} does not run")
    old = _children(first)
    done = commands.run("systemctl", "reload", NGINX, patience=TRY_SECONDS)
    if done.status:
        raise NotSwappedError(f"nginx cannot be reloaded: {done.text}")
    limit = time.monotonic() + TAKE_UP_SECONDS
    while not _children(first) - old:
        if time.monotonic() > limit:
            raise NotSwappedError(f"nginx goes on with its configuration from before: {_last_words()}")
        time.sleep(LOOK_SECONDS)


def _put_back(path: Path, before: bytes | None) -> None:
    if before is None:
        path.unlink(missing_ok=True)
        files.fsync_directory(path.parent)
    else:
        files.write_atomic(path, before, mode=0o644)


def _children(parent: int) -> set[int]:
    found = set()
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError, IndexError):
            if int((entry / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[1]) == parent:
                found.add(int(entry.name))
    return found


def _last_words() -> str:
    """The last of its errors."""
    with suppress(OSError):
        with Path("/var/log/nginx/error.log").open("rb") as log:
            log.seek(max(0, log.seek(0, 2) - 65536))
            text = log.read().decode("utf-8", "replace")
        return _emergency(text) or "its error log says why"
    return "its error log says why"


def _emergency(text: str) -> str:
    """What nginx says last of why it cannot go on; "" if it says nothing of the kind."""
    told = [line.partition("[emerg] ")[2] for line in text.splitlines() if "[emerg] " in line]
    told = [line for line in told if "still could not bind" not in line] or told
    return told[-1][:300] if told else ""


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


@contextmanager
def _alone() -> Iterator[None]:
    """While nginx tries one file no other is half done."""
    with LOCK.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _give_up(number: int, frame: FrameType | None) -> None:
    """As if nginx had refused it: what is done then is not broken off again."""
    del number, frame
    raise NotSwappedError("it took too long: systemd ended it")


def main(arguments: list[str]) -> int:
    """0 done, 1 not done, 2 asked for what there is not."""
    signal.signal(signal.SIGTERM, _give_up)
    asked = upstreams.asked(arguments[0]) if len(arguments) == 1 else None
    try:
        ports = upstreams.ports_in(Path(upstreams.TABLE).read_text("utf-8"), asked[0]) if asked else None
        if asked is None or ports is None:
            print(f"<3>{REFUSED}{upstreams.TABLE} has nothing of that name", file=sys.stderr)
            return 2
        with _alone():
            swap(*asked, ports)
    except (NotSwappedError, OSError) as error:
        print(f"<3>{REFUSED}{error}", file=sys.stderr)
        return 1
    print(f"{asked[0]} is served by {asked[1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
