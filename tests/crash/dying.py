"""The real agent, which dies at a chosen point: run as `python tests/crash/dying.py serve ...`.

Every act of a deployment (a call of a port, a commit) is a point, named `state/object.method/occurrence`. The
environment says what to do: DYING_RECORD=FILE writes the names of all points that are passed; DYING_AT=NAME@PHASE
dies there, PHASE being before, mid (a moment after the act began) or after; DYING_COUNT=N dies before the N-th act.
DYING_HOW is kill (SIGKILL to itself), term (SIGTERM, and the act goes on) or power (the file systems of DYING_MOUNT,
colons between them, are cut off first, without flushing their logs, and then SIGKILL: M1).

DYING_ORDERS=FILE gives the same orders to an agent that runs already: whenever the file was replaced (JSON:
at, count, how, mid_seconds), the points are counted from there on, DYING_RECORD begins anew, and the acts of whatever
else writes are points too, not only those of a deployment.

Only reading acts are left out. Nothing in the agent knows of this.
"""

import asyncio
import json
import os
import signal
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
from agent.services.reloading import Reloading
from agent.services.site import Site
from agent.store.backups import BackupRows
from agent.store.inbox import Inbox
from agent.store.journal import Journal
from agent.store.restores import RestoreRows
from agent.store.rollbacks import Rollbacks
from agent.store.services import ServiceRows
from tests.crash.cut import pull

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

state = "queued"
seen: Counter[str] = Counter()
record = os.environ.get("DYING_RECORD")
orders_file = os.environ.get("DYING_ORDERS")


class Orders:
    """What to do, and where."""

    def __init__(self, at: str = "", count: int = 0, how: str = "", mid_seconds: float = MID_SECONDS) -> None:
        self.place, _, self.phase = at.partition("@")
        self.count = count
        self.how = how
        self.mid_seconds = mid_seconds


orders = Orders(
    os.environ.get("DYING_AT", ""), int(os.environ.get("DYING_COUNT", "0")), os.environ.get("DYING_HOW", "")
)
taken: object = None


def take_orders() -> None:
    global orders, taken, state  # noqa: PLW0603 - this module is the process
    if orders_file is None or not Path(orders_file).exists():
        return
    found = Path(orders_file).stat()
    if (found.st_ino, found.st_mtime_ns) == taken:
        return
    taken = (found.st_ino, found.st_mtime_ns)
    orders = Orders(**json.loads(Path(orders_file).read_text(encoding="utf-8")))
    state = "queued"
    seen.clear()
    if record:
        Path(record).unlink(missing_ok=True)


def die() -> None:
    if orders.how == "term":
        os.kill(os.getpid(), signal.SIGTERM)
        return
    if orders.how == "power":
        pull(os.environ["DYING_MOUNT"])
    os.kill(os.getpid(), signal.SIGKILL)


def point(name: str) -> str:
    take_orders()
    label = f"{state}/{name}"
    seen[label] += 1
    if seen.total() == orders.count:
        die()
    label = f"{label}/{seen[label]}"
    if record:
        with Path(record).open("a", encoding="utf-8") as file:
            file.write(label + "\n")
    return label


async def watched(name: str, act: Callable[[], Awaitable[Any]]) -> Any:
    here, phase = point(name) == orders.place, orders.phase
    if here and phase == "before":
        die()
    task = asyncio.ensure_future(act())
    if here and phase == "mid":
        try:
            await asyncio.wait({task}, timeout=orders.mid_seconds)
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
if orders_file is not None:
    spy(Journal, "request")
    spy(Journal, "interrupted")
    spy(Journal, "forget_release")
    spy(ServiceRows, "hold")
    spy(ServiceRows, "resume")
    spy(RestoreRows, "prove")
    for method in ("record", "forget"):
        spy(BackupRows, method)
    for method in ("create", "rehearse", "forget", "reclaim", "sweep"):
        spy(ArchiveStore, method)
    for method in ("reload", "_record"):
        spy(Reloading, method)

main()
