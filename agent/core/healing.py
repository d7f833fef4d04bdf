"""When a service that is unwell between deployments is started again, and when nobody tries any more. Pure.

A restart helps against what passes: a memory leak, a lost connection, a crash at night. It is tried a few times within
an hour, each time after a longer pause; what is unwell all the same needs a person, and the service is held. Where that
many tries take longer than an hour, with their pauses, they count for as long: else nobody would ever be told.
"""

from dataclasses import dataclass

WITHIN = 3600.0
"""Seconds for which a restart counts, at least."""
KEPT = 100
"""Restarts that are remembered: as many as `health.restarts` can be."""
PAUSES = (0.0, 30.0, 120.0, 600.0)
"""Seconds after the last restart before the next one; the last pause stands for all further ones."""
GIVEN_UP = "still unwell after"
"""How the reason of a hold by this rule begins."""


@dataclass(frozen=True)
class Restarts:
    """Those of one service, as monotonic seconds, the oldest first."""

    at: tuple[float, ...] = ()

    def after(self, now: float) -> "Restarts":
        """With one more."""
        return Restarts((*self.at, now)[-KEPT:])

    def due(self, now: float, limit: int, settling: float) -> float | None:
        """Seconds until the next one may be, 0 for now; None: `limit` of them were in vain.

        A service that was just started has `settling` seconds to become well: that is no failure of the restart yet.
        """
        span = max(
            WITHIN, 2 * limit * max(PAUSES[-1], settling)
        )  # twice: the monitor looks only now and then
        counted = tuple(at for at in self.at if now - at < span)
        pause = max(PAUSES[min(len(counted), len(PAUSES) - 1)], settling) if counted else 0.0
        rest = max(0.0, counted[-1] + pause - now) if counted else 0.0
        if rest == 0.0 and len(counted) >= limit:
            return None
        return rest
