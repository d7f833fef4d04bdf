"""Everything that a started service has brought into the world, and how all of it ends.

Who belongs to it:
- every process of its session, also those that left the process group. While the leader is there (a zombie is
  enough) its number is nobody else's. The number also stays taken as long as anyone is in the session, so a
  stranger under the leader's number means that the session is over. If the leader is gone without a stranger in its
  place, the environment must confirm that they are ours.
- strays, which left the session (daemons): same user, started later than the leader, with the service's and the
  revision's variable in the environment, and at work in the release or in `/`. The directory is asked for because
  two agents on one machine (two demos) may run a service of the same name and revision. The limit: a daemon that
  changes to another directory, cleans its environment or becomes another user is not found. A service has to
  stay in the foreground anyway: when its leader ends it counts as dead.

Every signal goes through a pidfd whose process was identified again after it was opened, so a number that was given
away meanwhile never hits a stranger.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from agent.system.process import ProcessStat, stat_of

_KILL_PATIENCE = 5.0  # who does not die of SIGKILL hangs in the kernel
_KILL_ROUND = 0.1  # so often who was forked meanwhile is looked for


@dataclass(frozen=True)
class Family:
    """`session` and `started` are the leader's pid and start time; `marks` are `NAME=value` of its environment."""

    session: int
    started: int
    marks: frozenset[bytes]
    directory: Path

    def in_session(self, *, known: bool = False) -> list[ProcessStat]:
        """Who is alive in the session. `known`: the caller has seen without a gap that it is still this one."""
        leader = stat_of(self.session)
        if leader and leader.started != self.started:
            return []
        alive = [stat for stat in _everybody() if stat.session == self.session and stat.alive]
        return alive if leader or known else [stat for stat in alive if self._marked(stat)]

    def strays(self) -> list[ProcessStat]:
        """Who is alive outside of the session and was started by the service."""
        return [
            stat
            for stat in _everybody()
            if stat.alive
            and stat.session != self.session
            and stat.started >= self.started
            and stat.pid != os.getpid()
            and self._marked(stat)
            and self._at_home(stat)
        ]

    def _marked(self, stat: ProcessStat) -> bool:
        with suppress(OSError):  # gone, or another user's
            return self.marks <= set(Path(f"/proc/{stat.pid}/environ").read_bytes().split(b"\0"))
        return False

    def _at_home(self, stat: ProcessStat) -> bool:
        with suppress(OSError):
            place = Path(os.readlink(f"/proc/{stat.pid}/cwd").removesuffix(" (deleted)"))  # noqa: PTH115 - proc's suffix
            return place == Path("/") or place.is_relative_to(self.directory)
        return False


async def end(family: Family, *, grace: float) -> list[int]:
    """SIGTERM to all, `grace` seconds, SIGKILL to who is left. Returns who could not be ended: usually nobody.

    Nothing polls: it waits for the processes' pidfds. Cancelled, it leaves things as they are: call it again.
    """
    known = bool(family.in_session())

    def living() -> list[ProcessStat]:
        return family.in_session(known=known) + family.strays()

    left = await _until_gone(living, signal.SIGTERM, grace, every=grace)
    if left:
        left = await _until_gone(living, signal.SIGKILL, _KILL_PATIENCE, every=_KILL_ROUND)
    return [stat.pid for stat in left]


async def tell(family: Family, number: signal.Signals, *, patience: float) -> bool:
    """A signal to the leader alone, and at most so many seconds for it to end by itself. Whether it did."""
    leader = stat_of(family.session)
    if leader is None or leader.started != family.started or not leader.alive:
        return True
    handle = _hold(leader)
    if handle is None:
        return True
    try:
        with suppress(ProcessLookupError, PermissionError):  # gone; or another user's
            signal.pidfd_send_signal(handle, number)
        await _over([handle], patience)
    finally:
        os.close(handle)
    now = stat_of(family.session)
    return now is None or now.started != family.started or not now.alive


async def _until_gone(
    living: Callable[[], list[ProcessStat]], number: signal.Signals, patience: float, *, every: float
) -> list[ProcessStat]:
    """Signals each member once, waits, and looks again for who is new. Returns who is left at the end."""
    loop = asyncio.get_running_loop()
    limit = loop.time() + patience
    told: set[tuple[int, int]] = set()
    while (alive := living()) and (remaining := limit - loop.time()) > 0:
        with ExitStack() as stack:
            held = [(stat, handle) for stat in alive if (handle := _hold(stat)) is not None]
            for _, handle in held:
                stack.callback(os.close, handle)
            for stat, handle in held:
                # A second SIGTERM would cut short the tidying up that the first one began.
                if number == signal.SIGKILL or (stat.pid, stat.started) not in told:
                    told.add((stat.pid, stat.started))
                    _tell(stat, handle, number)
            await _over([handle for _, handle in held], min(remaining, every))
    return alive


def _hold(stat: ProcessStat) -> int | None:
    """A pidfd of exactly this process, or None if it is gone."""
    try:
        handle = os.pidfd_open(stat.pid)
    except ProcessLookupError:
        return None
    now = stat_of(stat.pid)
    if now is None or now.started != stat.started:
        os.close(handle)
        return None
    return handle


def _tell(stat: ProcessStat, handle: int, number: signal.Signals) -> None:
    with suppress(
        ProcessLookupError, PermissionError
    ):  # gone; or another user's, who then is left and reported
        signal.pidfd_send_signal(handle, number)
        if number == signal.SIGTERM:
            signal.pidfd_send_signal(handle, signal.SIGCONT)  # a stopped process would sleep through it
        elif stat.group == stat.session:
            # All at once, so that nobody forks away between two looks. The leader's group has the session's
            # number, and that is not given away while a member lives, as this one did an instant ago.
            os.killpg(stat.group, number)


async def _over(handles: Sequence[int], patience: float) -> None:
    """Waits until every one of these processes has ended, at most so long."""
    loop = asyncio.get_running_loop()
    waiting = set(handles)
    over = asyncio.Event()

    def ended(handle: int) -> None:
        loop.remove_reader(handle)
        waiting.discard(handle)
        if not waiting:
            over.set()

    for handle in handles:
        loop.add_reader(handle, ended, handle)
    try:
        if waiting:
            async with asyncio.timeout(patience):
                await over.wait()
    except TimeoutError:
        return
    finally:
        for handle in waiting:
            loop.remove_reader(handle)


def _everybody() -> Iterator[ProcessStat]:
    with os.scandir("/proc") as entries:
        names = [entry.name for entry in entries if entry.name.isdigit()]
    for name in names:
        if stat := stat_of(int(name)):
            yield stat
