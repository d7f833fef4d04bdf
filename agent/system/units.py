"""systemd's units: what one does, and the verbs that the agent may use on it.

Two ways lead there, with the same answers: the system bus (`system.bus`), and the program systemctl
(`system.systemctl`) where no bus answers or polkit does not know the agent. A verb's success proves nothing about the
service: it says that systemd's job ended, and how.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from agent.system import memory

JOB_MARGIN = 60.0
"""Seconds that a job may take beyond the unit's own timeouts before it counts as stuck."""

NO_LIMIT = 3600.0
"""Seconds that stand for a unit's timeout of `infinity`."""


class Verb(StrEnum):
    """What polkit's rule allows the agent, and nothing else."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"
    RESET_FAILED = "reset-failed"


class Why(StrEnum):
    """Why systemd did not do it."""

    UNKNOWN = "no such unit"
    MASKED = "masked"
    REFUSED = "refused"
    UNREACHABLE = "systemd does not answer"
    STUCK = "the job does not end"
    FAILED = "failed"


_CODES = {
    Why.UNKNOWN: "unit-unknown",
    Why.MASKED: "unit-masked",
    Why.REFUSED: "unit-refused",
    Why.UNREACHABLE: "systemd-unreachable",
    Why.STUCK: "unit-stuck",
    Why.FAILED: "runtime-failed",
}


class UnitError(Exception):
    """`why` it was not done, and what systemd said."""

    def __init__(self, why: Why, message: str) -> None:
        super().__init__(message)
        self.why = why

    @property
    def code(self) -> str:
        """What it is called in a deployment."""
        return _CODES[self.why]


@dataclass(frozen=True, kw_only=True)
class UnitState:
    """A unit as systemd describes it; see org.freedesktop.systemd1(5). `invocation` is 32 hex digits, another one with
    each start, "" if it never ran; `status` is the exit status or signal of its last main process."""

    load: str
    active: str
    sub: str
    invocation: str = ""
    pid: int = 0
    result: str = "success"
    status: int = 0
    start_seconds: float = NO_LIMIT
    stop_seconds: float = NO_LIMIT

    @property
    def is_active(self) -> bool:
        """Whether systemd calls it active: a timer that waits is, and a job that has ended well."""
        return self.active in ("active", "reloading")

    @property
    def runs(self) -> bool:
        """Whether its main process is up (R-SD-10)."""
        return self.is_active and self.sub != "exited"


_NOT_COUNTED = (1 << 64) - 1
OF_UNIT = ("LoadState", "ActiveState", "SubState", "InvocationID")
OF_SERVICE = (
    "MainPID", "Result", "ExecMainStatus", "TimeoutStartUSec", "TimeoutStopUSec",
)  # fmt: skip
"""The properties that a state is made of; the second ones only services have."""


def state_of(values: Mapping[str, object]) -> UnitState:
    """Of properties by their names, with the types of the bus or as systemctl prints them."""
    invocation = values.get("InvocationID", "")
    return UnitState(
        load=str(values.get("LoadState", "not-found")),
        active=str(values.get("ActiveState", "inactive")),
        sub=str(values.get("SubState", "dead")),
        invocation=invocation.hex() if isinstance(invocation, bytes) else str(invocation),
        pid=_number(values.get("MainPID")),
        result=str(values.get("Result", "success")),
        status=_number(values.get("ExecMainStatus")),
        start_seconds=_seconds(values.get("TimeoutStartUSec")),
        stop_seconds=_seconds(values.get("TimeoutStopUSec")),
    )


class Units(Protocol):
    """A way to systemd. Everything raises UnitError; a unit is a full name such as `scraper.service`."""

    async def look(self, unit: str) -> UnitState:
        """What it does now. A unit that there is not has `load` not-found; that is no error."""

    async def call(self, verb: Verb, unit: str, *, patience: float) -> str:
        """Does it and waits for the end of systemd's job, `patience` seconds at most. Returns the job's result, such as
        done, failed, timeout, canceled or dependency; done for what needs no job."""

    async def memory(self, unit: str) -> int | None:
        """Bytes that a service takes now, without files in the page cache; None where systemd does not count them."""

    async def close(self) -> None:
        """Lets go of what the way holds."""


def bytes_of(current: object, group: object) -> int | None:
    """Of MemoryCurrent and ControlGroup: what is not counted is the largest number, or `[not set]`. Blocks."""
    number = _number(current)
    return max(1, number - memory.cached(str(group))) if 0 < number < _NOT_COUNTED else None


def _number(value: object) -> int:
    return int(value) if isinstance(value, int) or (isinstance(value, str) and value.isdecimal()) else 0


def _seconds(value: object) -> float:
    """Microseconds on the bus; systemctl prints `1min 30s` or `infinity`."""
    if isinstance(value, int):
        return NO_LIMIT if value >= NO_LIMIT * 1e6 else value / 1e6
    total, units = 0.0, {"us": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800}
    for part in str(value or "infinity").split():
        digits = part.rstrip("abcdefghijklmnopqrstuvwxyz")
        factor = units.get(part[len(digits) :])
        if factor is None or not digits:
            return NO_LIMIT
        total += float(digits) * factor
    return min(total, NO_LIMIT)
