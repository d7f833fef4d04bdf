"""How long each piece of work may take before whoever does it counts as stuck: seconds, from the configuration.

What has a deadline of its own ends by it, and long before this: these are bounds for work that does not even do that.
So they are generous; where nothing bounds the work but the amount of data, they are hours.
"""

from agent.core import backoff
from agent.core.settings import (
    DAY,
    HOUR,
    MINUTE,
    BlueGreen,
    Deploy,
    Health,
    ProcessRuntime,
    Source,
    SystemdRuntime,
)

MARGIN = 2.0 * MINUTE
"""What a busy machine and a slow disk may add to everything."""
FILES = HOUR / 2 + MARGIN
"""Files of our own: a release is hashed, synced or removed. Some gigabytes, on the slowest of cards."""
PROMOTING = 10.0 * MINUTE
"""nginx is told, at most twice, and asked a few times; a swap that somebody began before is waited for."""
DATA = DAY + MARGIN
"""Other people's data, as much as there is: a backup, a restore; or to wait for somebody who does that."""

_GIT_CALLS = 8
"""At most, one after the other, where a mirror is corrupt and is made anew."""
_STARTING = 5.0 * MINUTE
"""Until a process that was killed is gone, the link is on the disk and the next one has been started; beside
`stop_timeout`."""
_UNIT = 4.0 * HOUR
"""A unit's own TimeoutStopSec= and TimeoutStartSec= bound its stop and start, and are not known here; none counts as an
hour of both (`system.units`), each time."""


def fetching(source: Source) -> float:
    """The mirror is refreshed, the queue is looked through; and the pause before it is tried again."""
    return _GIT_CALLS * source.timeout + backoff.PATIENCE + FILES


def polling(source: Source) -> float:
    """One question to the remote."""
    return source.timeout + MARGIN


def laying_out(source: Source) -> float:
    """The files of a revision are written. How many submodules and LFS objects there are says the repository."""
    return DATA if source.submodules or source.lfs else 2 * source.timeout + FILES


def commands(deploy: Deploy) -> float:
    """Those that build, or those that migrate; and what they made is synced."""
    return deploy.build.timeout + FILES


def switching(runtime: ProcessRuntime | SystemdRuntime) -> float:
    """The old version ends, the new one starts."""
    if not isinstance(runtime, ProcessRuntime):
        return _UNIT + _STARTING + MARGIN
    draining = runtime.drain.timeout if runtime.drain is not None else 0.0
    return draining + runtime.stop_timeout + _STARTING + MARGIN


def draining(rules: BlueGreen | None) -> float:
    """What served before is let go on for a while, then it ends; nginx may have to be told once more."""
    return (rules.drain if rules is not None else 0.0) + _UNIT + PROMOTING


def asking(health: Health) -> float:
    """All probes are asked once, together."""
    return max((probe.timeout for probe in health.probes), default=0.0) + MARGIN


def proving(health: Health) -> float:
    """From the switch to the end of the soak; the last answers of both may come late."""
    return health.timeout + health.soak + 2 * health.every + 2 * asking(health)
