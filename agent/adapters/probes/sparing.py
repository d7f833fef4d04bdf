"""A probe at rest that is not asked at every look."""

from agent.core.model import Launch, Probed
from agent.core.ports import Clock, Probe


class Sparing:
    """Gives the last good answer again until it is `every` seconds old.

    A bad answer is never given again: the next look asks, so that one accident stays one. Neither is one that
    another release gave.
    """

    def __init__(self, probe: Probe, every: float, clock: Clock) -> None:
        self._probe = probe
        self._every = every
        self._clock = clock
        self._kept: tuple[Launch, float, Probed] | None = None
        self.address = probe.address

    async def ask(self, launch: Launch) -> Probed:
        """See `core.ports.Probe`."""
        began = self._clock.monotonic()
        if self._kept is not None:
            asked, at, probed = self._kept
            if asked == launch and began - at < self._every:
                return probed
        probed = await self._probe.ask(launch)
        self._kept = (launch, began, probed) if probed.healthy else None
        return probed
