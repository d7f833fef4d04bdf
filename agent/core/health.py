"""Probe results in, verdict out: when a new version has proved itself, and whether a live one is well.

A trial begins with the switch and is fed one `Observation` after the other:

    WAITING   `successes` good observations in a row are wanted, the last one within `timeout` of the switch; a bad
              one in between begins the row anew, so a flapping version ends at the deadline  -> health-timeout
    SOAKING   begins with the last of `successes` and lasts `soak`; `timeout` is over. One bad observation, or
              another process than before, ends it                                            -> soak-failed
    HEALTHY   the first good observation at or after the end of the soak (with `soak` 0: the last of `successes`)
    FAILED    also at once when the process has died                                          -> process-died

Good is an observation in which every probe is healthy; without probes, one of a living process. A runtime that
restarts by itself shows a death as another instance: before the soak that is process-died as well. Time alone never
makes a version healthy: only an observation does. HEALTHY and FAILED are final.

At rest (after a deployment, for the monitor) one bad observation is an accident and two in a row are a state.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from agent.core.model import Probed
from agent.core.settings import Health
from agent.core.text import clean

BAD_IN_A_ROW = 2
"""So many bad observations in a row make a live service unhealthy."""


class Phase(StrEnum):
    """How far a trial is."""

    WAITING = "waiting"
    SOAKING = "soaking"
    HEALTHY = "healthy"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What was seen at one time. `instance` is the runtime's, None if nothing is alive; `at` is monotonic seconds,
    read after the last probe has answered."""

    at: float
    instance: str | None
    probes: Sequence[Probed] = ()

    @property
    def good(self) -> bool:
        """Whether everything answered well."""
        return self.instance is not None and all(probed.healthy for probed in self.probes)

    @property
    def complaint(self) -> str:
        """What the unhealthy probes said, for people."""
        return "; ".join(clean(probed.detail) for probed in self.probes if not probed.healthy)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A new version on its way to a verdict. `code` is one of `core.codes` once it is FAILED."""

    rules: Health
    began: float
    instance: str
    phase: Phase = Phase.WAITING
    row: int = 0
    soaking_since: float = 0.0
    code: str = ""
    detail: str = ""
    """What was wrong with the newest bad observation; of a verdict, the reason for people."""

    @property
    def decided(self) -> bool:
        """Whether there is a verdict."""
        return self.phase in (Phase.HEALTHY, Phase.FAILED)

    def judge(self, seen: Observation) -> "Trial":
        """The trial after one more observation. Times must not run backwards."""
        if self.decided:
            return self
        if seen.instance is None:
            return self._failed("process-died", "the process ended")
        if seen.instance != self.instance:
            if self.phase is Phase.SOAKING:
                return self._failed("soak-failed", "the process was started anew during the soak")
            return self._failed("process-died", "the process ended and was started anew")
        return self._wait(seen) if self.phase is Phase.WAITING else self._soak(seen)

    def pause(self, now: float) -> float:
        """Seconds until the next observation is due: `every`, or less if a deadline or the soak's end comes first."""
        return max(0.0, min(self.rules.every, self._end - now))

    @property
    def _end(self) -> float:
        """When an observation decides: never later than at this time."""
        if self.phase is Phase.WAITING:
            return self.began + self.rules.timeout
        return self.soaking_since + self.rules.soak

    def _wait(self, seen: Observation) -> "Trial":
        row = self.row + 1 if seen.good else 0
        if row >= self.rules.successes and seen.at <= self._end:
            soaking = replace(self, phase=Phase.SOAKING, row=row, soaking_since=seen.at, detail="")
            return soaking._soak(seen)
        detail = seen.complaint or self.detail
        if seen.at >= self._end:
            return self._failed("health-timeout", self._late(row, detail))
        return replace(self, row=row, detail=detail)

    def _soak(self, seen: Observation) -> "Trial":
        if not seen.good:
            after = seen.at - self.soaking_since
            return self._failed("soak-failed", f"healthy, but {after:.1f} s later: {seen.complaint}")
        return replace(self, phase=Phase.HEALTHY) if seen.at >= self._end else self

    def _late(self, row: int, detail: str) -> str:
        """Why time is up; `detail` is what the newest bad observation said, perhaps some good ones ago."""
        text = f"not healthy within {self.rules.timeout:g} s"
        if row:
            text += f" ({row} of {self.rules.successes} in a row at its end)"
        return f"{text}; last: {detail}" if detail else text

    def _failed(self, code: str, detail: str) -> "Trial":
        return replace(self, phase=Phase.FAILED, code=code, detail=detail)


def begin(rules: Health, *, at: float, instance: str) -> Trial:
    """A trial of the process `instance` that the switch at `at` (monotonic seconds) brought up."""
    return Trial(rules=rules, began=at, instance=instance)


def confirm(probed: Probed, listens: bool | None) -> Probed:
    """A probe's result, once the runtime has said whose socket answered. Not ours: not healthy, whatever it said."""
    if probed.healthy and listens is False:
        return Probed(
            healthy=False, detail=f"another process answers ({probed.detail})", seconds=probed.seconds
        )
    return probed


@dataclass(frozen=True, kw_only=True)
class AtRest:
    """A live service's health from one look to the next: `status` is unknown, healthy or unhealthy."""

    status: str = "unknown"
    bad: int = 0
    detail: str = ""

    def after(self, seen: Observation) -> "AtRest":
        """The health after one more observation. Death counts at once; one good observation makes it well again."""
        if seen.instance is None:
            return AtRest(status="unhealthy", bad=self.bad + 1, detail="the process is not running")
        if seen.good:
            return AtRest(status="healthy")
        bad = self.bad + 1
        status = "unhealthy" if bad >= BAD_IN_A_ROW else self.status
        return AtRest(status=status, bad=bad, detail=seen.complaint)
