"""The real agent, which dies at a chosen point: run as `python tests/crash/dying.py serve ...`.

Every act of a deployment (a call of a port, a commit) is a point, named `state/object.method/occurrence`. The
environment says what to do: DYING_RECORD=FILE writes the names of all points that are passed; DYING_AT=NAME@PHASE
dies there, PHASE being before, mid (a moment after the act began) or after; DYING_COUNT=N dies before the N-th act.
DYING_HOW is kill (SIGKILL to itself), term (SIGTERM, and the act goes on) or power (the file system of DYING_MOUNT is
cut off first, without flushing its log, and then SIGKILL: M1).

Only reading acts are left out. Nothing in the agent knows of this.
"""

import asyncio
import fcntl
import os
import signal
import struct
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from agent import app, parts
from agent.__main__ import main
from agent.adapters.backup import Place
from agent.adapters.backup.archive import ArchiveStore
from agent.core.model import Deployment
from agent.services.backup import Backups
from agent.services.deployer import Deployer
from agent.services.site import Site
from agent.store.inbox import Inbox
from agent.store.journal import Journal
from agent.store.restores import RestoreRows
from agent.store.rollbacks import Rollbacks

READING = {
    "look",
    "listens",
    "output",
    "path",
    "current",
    "names",
    "verify",
    "resolve",
    "parent",
    "peek",
    "descends",
    "changes",
    "message",
    "ingredients",
    "offers",
}
MID_SECONDS = 0.004
FS_IOC_GOINGDOWN = 0x8004587D
WITHOUT_LOG_FLUSH = 2

state = "queued"
seen: Counter[str] = Counter()
chosen, _, phase = os.environ.get("DYING_AT", "").partition("@")
record = os.environ.get("DYING_RECORD")
dying_count = int(os.environ.get("DYING_COUNT", "0"))


def die() -> None:
    how = os.environ.get("DYING_HOW")
    if how == "term":
        os.kill(os.getpid(), signal.SIGTERM)
        return
    if how == "power":
        handle = os.open(os.environ["DYING_MOUNT"], os.O_RDONLY)
        fcntl.ioctl(handle, FS_IOC_GOINGDOWN, struct.pack("I", WITHOUT_LOG_FLUSH))
    os.kill(os.getpid(), signal.SIGKILL)


def point(name: str) -> str:
    label = f"{state}/{name}"
    seen[label] += 1
    if seen.total() == dying_count:
        die()
    label = f"{label}/{seen[label]}"
    if record:
        with Path(record).open("a", encoding="utf-8") as file:
            file.write(label + "\n")
    return label


async def watched(name: str, act: Callable[[], Awaitable[Any]]) -> Any:
    here = point(name) == chosen
    if here and phase == "before":
        die()
    task = asyncio.ensure_future(act())
    if here and phase == "mid":
        try:
            await asyncio.wait({task}, timeout=MID_SECONDS)
            die()
        except asyncio.CancelledError:
            task.cancel()
            raise
    try:
        result = await task
    except asyncio.CancelledError:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
        raise
    if here and phase == "after":
        die()
    return result


class Watched:
    """Stands before a port and lets every act pass through `watched`."""

    def __init__(self, name: str, inner: Any) -> None:
        self._name = name
        self._inner = inner

    def __getattr__(self, method: str) -> Any:
        found = getattr(self._inner, method)
        if method in READING or not callable(found):
            return found
        return lambda *args, **kwargs: watched(f"{self._name}.{method}", lambda: found(*args, **kwargs))


def spy(owner: type, method: str) -> None:
    inner = getattr(owner, method)

    async def passing(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await watched(f"{owner.__name__.lower()}.{method}", lambda: inner(self, *args, **kwargs))

    setattr(owner, method, passing)


def site_of(*args: Any) -> Site:
    site = plain_site_of(*args)
    ports = {
        name: Watched(name, getattr(site, name)) for name in ("source", "releases", "builder", "runtime")
    }
    return replace(site, **ports)  # type: ignore[arg-type]  # each stands in for its port


async def work(self: Deployer, deployment: Deployment) -> Any:
    global state  # noqa: PLW0603 - this module is the process
    state = deployment.state
    return await plain_work(self, deployment)


plain_site_of = parts.site_of
setattr(app, "site_of", site_of)  # noqa: B010 - the name that the agent calls
plain_work, Deployer._work = Deployer._work, work  # type: ignore[method-assign]
spy(Inbox, "admit")
spy(Journal, "claim")
spy(Journal, "advance")
spy(Journal, "made_from")
spy(Journal, "migrating")
spy(Backups, "create_locked")
spy(ArchiveStore, "lay_out")
for method in ("prepare", "swap", "put_back", "discard", "forget"):
    spy(Place, method)
for method in ("begin", "advance"):
    spy(RestoreRows, method)
spy(Rollbacks, "request")
spy(Rollbacks, "aim")
spy(Rollbacks, "spare")

main()
