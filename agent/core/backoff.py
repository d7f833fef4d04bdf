"""When a step that the world made fail is tried again by itself. Pure: the caller measures the time, draws the chance.

Tried again is only what may be over in a moment: nobody answers, or too slowly. What a person has to mend (a key, a
full disk) is told at once. After the last try the deployment fails without blame, and the next trigger or poll begins
anew.
"""

PAUSES = (2.0, 8.0, 30.0)
"""Seconds before each further try (R-RB-6: at most three)."""
JITTER = 0.2
"""Each pause is up to this part longer or shorter, so that many agents do not come back in the same second."""
PATIENCE = 300.0
"""Seconds after which no further try begins: whoever waits in the queue waits behind this one."""
PASSING = frozenset({"git-unreachable", "git-timeout"})


def pause(
    code: str, failures: int, elapsed: float, chance: float, wanted: float | None = None
) -> float | None:
    """Seconds until the next try, or None: it is over. `failures` counts this one; `elapsed` seconds were spent on all
    of it; `wanted` seconds are what the other side asks to be left alone; `chance` is a random number from 0 to 1."""
    if code not in PASSING or not 0 < failures <= len(PAUSES):
        return None
    seconds = PAUSES[failures - 1] * (1 + JITTER * (2 * chance - 1))
    if wanted is not None:
        seconds = max(seconds, wanted)
    return seconds if elapsed + seconds <= PATIENCE else None
