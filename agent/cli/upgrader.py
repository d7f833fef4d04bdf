"""Carries an upgrade out that `homeport install --wheel` has prepared: what homeport-upgrade.service runs, as the old
version's program. It depends on nobody's terminal, and goes on after a power cut: `core.upgrading` says how.
"""

import os
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from agent.cli.client import Client
from agent.core.errors import HomeportError, Refused, StepFailed, Unavailable
from agent.core.installing import PREFIX, SERVICE, USER
from agent.core.upgrading import (
    ATTEMPTS,
    ENDS,
    NEXT,
    NOT_STARTED,
    UNIT,
    UNIT_FILE,
    VERSIONS,
    Contents,
    Look,
    Mark,
    Phase,
    Watch,
    decided,
    judge,
    superfluous,
    time_to_come_up,
    way_back,
)
from agent.store.copies import STATE
from agent.system import commands, notify, versions
from agent.system.lock import StateLock
from agent.system.upgrades import Upgrades

STOP_SECONDS = 200.0
"""A stop in order: the unit's own TimeoutStopSec= comes before it."""
KILL_SECONDS = 5.0
"""So long a version that did not come up has to end by itself."""
OLD_SECONDS = 60.0
"""So long the old version has to answer again. It is waited for only to be told."""
_PROPERTIES = ("ActiveState", "InvocationID", "NRestarts")


def run() -> int:
    """From the phase that is written down to an end. Without one there is nothing to do. Raises Refused for anybody but
    the unit: it must not be done by two."""
    if "NOTIFY_SOCKET" not in os.environ:
        hint = f"`systemctl start {UNIT}`"
        raise Refused(409, "upgrade-pending", f"only {UNIT} goes on with an upgrade", hint=hint)
    upgrades = Upgrades()
    mark = upgrades.pending()
    if mark is None:
        notify.ready("no upgrade is pending")
    else:
        _say(told(Upgrader(upgrades, mark).run()))
    let_go_of_unit()
    return 0


def told(mark: Mark) -> str:
    """How it ended, as a sentence."""
    match mark.phase:
        case Phase.CONFIRMED:
            return f"homeport {mark.new} runs instead of {mark.old}."
        case Phase.RETURNED:
            return f"homeport {mark.new} did not come up, {mark.old} runs again: {mark.reason}."
        case Phase.STAYED:
            return f"homeport {mark.new} fails ({mark.reason}), and has accepted what {mark.old} cannot read: it stays."
        case _:
            return f"Neither homeport {mark.new} ({mark.reason}) nor {mark.old} comes up."


class Upgrader:
    """One upgrade."""

    def __init__(self, upgrades: Upgrades, mark: Mark) -> None:
        self._upgrades = upgrades
        self._mark = mark
        self._began = time.monotonic()
        self._steps: dict[Phase, Callable[[], str]] = {
            Phase.PREPARED: self._stop_and_copy,
            Phase.SWITCHING: self._switch,
            Phase.STARTING: self._start_and_watch,
            Phase.RETURNING: self._return,
        }

    def run(self) -> Mark:
        """Returns how it ended. Raises OSError, HomeportError: then systemd has it tried again."""
        while (phase := self._mark.phase) not in ENDS:
            _say(f"{self._mark.old} to {self._mark.new}: {phase}")
            done, failed = NEXT[phase]
            reason = self._attempt(phase)
            if self._mark.phase is phase:
                self._note(phase=failed if reason else done, reason=self._mark.reason or reason)
        notify.ready(told(self._mark))
        self._clear()
        return self._mark

    def _attempt(self, phase: Phase) -> str:
        """Why it could not be done. A return has no way back of its own: what it fails with goes up."""
        try:
            return self._steps[phase]()
        except (HomeportError, OSError) as error:
            if phase is Phase.RETURNING:
                raise
            return str(error)

    # --- the phases; each says why it could not be done

    def _stop_and_copy(self) -> str:
        done = commands.run("systemctl", "stop", SERVICE, patience=STOP_SECONDS)
        if done.status:
            return f"the agent cannot be stopped: {done.text}"
        self._began = time.monotonic()
        self._state("make", self._mark.state_dir, self._mark.copy)
        self._note(copied=True)
        return ""

    def _switch(self) -> str:
        _stop_at_once()
        versions.switch(Path(PREFIX), Path(self._mark.new_directory))
        done = commands.run(f"{PREFIX}/bin/python", "-I", "-m", "agent", "install", "--no-start")
        return f"its `install` failed: {_why(done)}" if done.status else ""

    def _start_and_watch(self) -> str:
        if self._mark.attempts >= ATTEMPTS:
            return f"it was started {ATTEMPTS} times, and never for long"
        self._note(attempts=self._mark.attempts + 1)
        began = self._start()
        limit = time_to_come_up(began - self._began)
        watch, judgement, reason = Watch(), "wait", ""
        while judgement == "wait":
            watch, judgement, reason = judge(watch, self._look(began), self._mark.new, limit)
            time.sleep(0.5)
        return reason

    def _return(self) -> str:
        _stop_at_once()
        way = self._way_back()
        if way == "stay":
            self._start()
            self._note(phase=Phase.STAYED)
            return ""
        if way == "put-back":
            self._note(putting_back=True)
            self._state("put-back", self._mark.state_dir, self._mark.copy)
            self._note(putting_back=False, copied=False)  # what the old version writes from here on is kept
        versions.switch(Path(PREFIX), Path(self._mark.old_directory))
        self._upgrades.put_back()
        commands.run("systemctl", "daemon-reload")
        began = self._start()
        while (look := self._look(began)).version != self._mark.old:
            if look.elapsed > OLD_SECONDS or look.active == "failed":
                return f"{self._mark.old} does not answer"
            time.sleep(0.2)
        return ""

    # --- its parts

    def _start(self) -> float:
        """From here on the agent may run. systemd is not waited for: a start may take TimeoutStartSec=."""
        notify.ready(f"{self._mark.phase}: {self._mark.old} to {self._mark.new}")
        commands.run("systemctl", "reset-failed", SERVICE)
        commands.run("systemctl", "start", "--no-block", SERVICE)
        return time.monotonic()

    def _look(self, began: float) -> Look:
        found = commands.properties(SERVICE, _PROPERTIES)
        return Look(
            elapsed=time.monotonic() - began,
            active=found.get("ActiveState", ""),
            invocation=found.get("InvocationID", ""),
            restarts=int(found.get("NRestarts", "0") or "0"),
            version=running_version(self._mark.socket),
        )

    def _way_back(self) -> str:
        """Raises StepFailed if the state cannot be looked at: that is no reason to take another one."""
        return decided(self._mark) or way_back(self._contents(self._mark.copy), self._contents(STATE))

    def _contents(self, name: str) -> Contents | None:
        found = self._state("look", f"{self._mark.state_dir}/{name}")
        return msgspec.json.decode(found, type=Contents | None)

    def _state(self, *words: str) -> str:
        return of_the_state(self._mark.old_directory, *words)

    def _clear(self) -> None:
        """The end is written down before anything is taken away."""
        self._note(
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - self._began, 1),
        )
        place = Path(VERSIONS)
        for name in superfluous([str(path) for path in sorted(place.iterdir())], self._mark):
            versions.remove(Path(name))
        self._upgrades.end(self._mark)

    def _note(self, **changes: object) -> None:
        self._mark = msgspec.structs.replace(self._mark, **changes)
        self._upgrades.write(self._mark)


@contextmanager
def nobody_else(upgrades: Upgrades) -> Iterator[None]:
    """One at a time installs, and nobody while an upgrade goes on. Raises Refused(upgrade-pending)."""
    try:
        lock = StateLock(upgrades.place)
    except Unavailable as error:
        hint = "Wait for its end; then run this again."
        raise Refused(409, "upgrade-pending", f"`homeport install` is {error.message}", hint=hint) from error
    with lock:
        if (mark := upgrades.pending()) is not None:
            says = f"the upgrade from {mark.old} to {mark.new} has not ended yet"
            raise Refused(409, "upgrade-pending", says)
        yield


def let_go_of_unit() -> None:
    """systemd is not told to read anew: where the unit itself does this, it knows what it runs, and that it ends."""
    commands.run("systemctl", "disable", "--quiet", "--no-reload", UNIT)
    Path(UNIT_FILE).unlink(missing_ok=True)


def of_the_state(directory: str, *words: str) -> str:
    """What `store.copies` says, run as the agent's user. Raises StepFailed."""
    program = (str(versions.python(Path(directory))), "-I", "-m", "agent.store.copies")
    try:
        done = commands.run(*program, *words, user=USER, patience=300)
    except KeyError as error:
        raise StepFailed("not-installable", f"there is no user {USER}") from error
    if done.status:
        raise StepFailed("store-unavailable", f"the state's copy: {done.text[-500:]}")
    return done.text


def running_version(socket: str) -> str:
    """Of the agent that answers there; "" if none does."""
    try:
        status = Client(Namespace(socket=socket, url=None)).get("/status", timeout=5)
        return str(status["agent"]["version"])
    except (HomeportError, KeyError, TypeError):
        return ""


def _stop_at_once() -> None:
    """What does not come up must not take TimeoutStopSec=. Raises OSError if it goes on all the same."""
    commands.run("systemctl", "stop", "--no-block", SERVICE)
    limit = time.monotonic() + KILL_SECONDS
    while not _ended():
        if time.monotonic() > limit:
            commands.run("systemctl", "kill", "--signal=SIGKILL", SERVICE)
        if time.monotonic() > limit + KILL_SECONDS:
            raise OSError(f"{SERVICE} does not end")
        time.sleep(0.2)


def _ended() -> bool:
    return commands.properties(SERVICE, ["ActiveState"]).get("ActiveState") in NOT_STARTED


def _why(done: commands.Done) -> str:
    """The command's own sentence. Nothing else that it prints is repeated: a new secret may be among it."""
    said = [line for line in done.text.splitlines() if line.startswith("homeport: ")]
    return said[-1].removeprefix("homeport: ") if said else f"exit status {done.status}"


def _say(line: str) -> None:
    print(line, flush=True)
