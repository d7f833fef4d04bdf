"""One figure for the whole agent, from what the monitor says of each service. Pure."""

from collections.abc import Mapping

_POINTS = {"healthy": 100, "none": 100, "held": 75, "unknown": 50, "unhealthy": 0}


def overall(services: Mapping[str, str], *, ailing: bool = False) -> tuple[str, int]:
    """(status, score): healthy, degraded or unhealthy, and 0 to 100, the mean over the services.

    A service before its first deployment (`none`) is no fault. One that is unhealthy makes all of it so. While the
    agent itself is `ailing` (its configuration file is invalid, its state cannot be written) it is not healthy.
    """
    states = list(services.values())
    score = sum(_POINTS.get(state, 0) for state in states) // len(states) if states else 100
    if "unhealthy" in states:
        return "unhealthy", score
    if ailing:
        return "degraded", min(score, 75)
    if any(state not in ("healthy", "none") for state in states):
        return "degraded", score
    return "healthy", score
