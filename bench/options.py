"""How long a run may take."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """The same for every benchmark."""

    rounds: int
    """How often each figure is taken; medians are made of them."""
    seconds: float
    """Of load, in each cell."""
    rest: float
    """Seconds for which the idle agent is watched."""
