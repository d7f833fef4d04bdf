"""The end of `fetching`: whether a claimed deployment runs, and what in the queue it has made idle.

One fetch; then every wish in the queue is resolved in the mirror and asked what speaks against it, and `core.order`
decides. What it decides is recorded with the deployment's next state in one transaction, so that a cut before it
costs nothing but asking again. A wish that does not resolve decides nothing: it fails when its own turn comes.
"""

import logging
from collections.abc import Sequence

from agent.core import order, paths
from agent.core.codes import CODES
from agent.core.errors import StepFailed
from agent.core.model import Deployment, Live
from agent.core.order import Pair, Wish
from agent.core.pipeline import Outcome
from agent.core.ports import Clock
from agent.services.site import Site
from agent.store.journal import Journal, Queued
from agent.store.services import ServiceRows
from agent.store.transitions import Change, Reset

log = logging.getLogger(__name__)


class Gate:
    """One service's gate. Used by its deployer, one deployment at a time."""

    def __init__(self, site: Site, journal: Journal, services: ServiceRows, clock: Clock) -> None:
        self._site = site
        self._journal = journal
        self._services = services
        self._clock = clock

    async def ask(self, deployment: Deployment) -> tuple[Outcome, Change]:
        """How `fetching` ends for it. Raises StepFailed: what git refuses, revision-unknown, not-on-branch,
        quarantined. Changes nothing but the mirror."""
        tip = await self._site.source.fetch()
        look = _Look(self._site, self._services, tip, await self._services.live(self._site.name))
        claimed, waiting = await self._wishes(deployment, look)
        every = (claimed, *waiting)
        decision = order.decide(claimed, waiting, await look.lineage(every))
        revision = claimed.revision
        if decision.claimed is not None:
            reason, by = decision.claimed.reason, decision.claimed.by
            detail = f"{revision} gives way to {by}" if by else f"{revision}: {reason}"
            return Outcome.CANCELLED, _change(revision, reason, detail, decision)
        if claimed.bar == "quarantined":
            raise StepFailed(
                "quarantined",
                f"{revision} failed before with this configuration, or a person went back from it",
            )
        if claimed.bar == "already-live":
            return Outcome.ALREADY_LIVE, _change(revision, claimed.bar, "", decision)
        reset = await look.reset()
        if reset is not None:
            log.warning("%s: %s was reset from %s to %s", self._site.name, reset.branch, reset.old, reset.new)
        return Outcome.OK, Change(revision=revision, detail=revision, overtaken=decision.waiting, reset=reset)

    async def _wishes(self, deployment: Deployment, look: "_Look") -> tuple[Wish, list[Wish]]:
        """The claimed one, which must resolve, and those in the queue that do."""
        held = await self._services.hold_of(self._site.name) is not None
        frozen = self._site.freeze.until(self._clock.now()) is not None
        claimed: Wish | None = None
        waiting: list[Wish] = []
        for queued in await self._journal.contest(deployment):
            item = queued.deployment
            if item.id == deployment.id:
                claimed = await look.wish(queued, waits=False)
                continue
            try:
                waits = (held and not item.force) or (frozen and not item.person)
                waiting.append(await look.wish(queued, waits=waits))
            except StepFailed as failure:
                log.info("%s %s decides nothing yet: %s", item.service, item.id, failure)
        assert claimed is not None, "it is this lane's, so it is still in its state"
        return claimed, waiting


def _change(revision: str, reason: str, detail: str, decision: order.Decision) -> Change:
    return Change(
        revision=revision, reason=reason, hint=CODES[reason].hint, detail=detail, overtaken=decision.waiting
    )


class _Look:
    """What is asked of git and the journal for one decision; each question once."""

    def __init__(self, site: Site, services: ServiceRows, tip: str, live: Live | None) -> None:
        self._site = site
        self._services = services
        self._tip = tip
        self._live = live
        self._resolved: dict[str | None, str] = {None: tip}
        self._bars: dict[tuple[str, bool, bool], str] = {}
        self._ancestry: dict[Pair, bool] = {}

    async def wish(self, queued: Queued, *, waits: bool) -> Wish:
        """A deployment as `core.order` sees it. Raises StepFailed if it does not resolve."""
        number, item = queued
        if item.requested not in self._resolved:
            assert item.requested is not None
            self._resolved[item.requested] = await self._site.source.resolve(item.requested)
        revision = self._resolved[item.requested]
        bar = ""
        if not item.force and not waits:
            kind = (revision, item.person, item.requested is not None)
            if kind not in self._bars:
                self._bars[kind] = await self._bar(*kind)
            bar = self._bars[kind]
        return Wish(
            id=item.id, number=number, revision=revision, person=item.person, forced=item.force,
            waits=waits, bar=bar,
        )  # fmt: skip

    async def lineage(self, wishes: Sequence[Wish]) -> frozenset[Pair]:
        """Which revision stands on which, as far as it decides: the newest of those that may run, compared with all
        others. (Several, where a merge brought lines together that know nothing of each other.)"""
        tops: list[str] = []
        for revision in dict.fromkeys(wish.revision for wish in wishes if not wish.bar and not wish.waits):
            if not [top for top in tops if await self._stands_on(top, revision)]:
                tops = [top for top in tops if not await self._stands_on(revision, top)] + [revision]
        every = {wish.revision for wish in wishes}
        return frozenset(
            [(top, other) for top in tops for other in every if await self._stands_on(top, other)]
        )

    async def reset(self) -> Reset | None:
        """Whether the branch has left what is live (F36)."""
        if self._live is None or self._tip == self._live.revision:
            return None
        if await self._site.source.descends(self._tip, self._live.revision):
            return None
        return Reset(self._site.settings.source.branch, self._live.revision, self._tip)

    async def _stands_on(self, revision: str, ancestor: str) -> bool:
        """The tip stands on everything that resolved: that costs no question."""
        pair = (revision, ancestor)
        if ancestor in (revision, self._tip):
            return False
        if pair not in self._ancestry:
            self._ancestry[pair] = revision == self._tip or await self._site.source.descends(*pair)
        return self._ancestry[pair]

    async def _bar(self, revision: str, person: bool, exact: bool) -> str:
        """What speaks against a revision that nobody forces; "" if nothing does."""
        live = self._live
        if await self._serves(revision):
            return "already-live"
        if await self._services.quarantined(self._site.name, revision, self._site.config_hash):
            return "quarantined"
        if person:
            return ""
        if exact and live is not None and revision != live.revision and await self._site.source.descends(
            live.revision, revision
        ):  # fmt: skip
            return "newer-live"
        if order.skips(await self._site.source.message(revision)):
            return "skip-deploy"
        return "" if await self._changes_matter(revision) else "paths-unchanged"

    async def _serves(self, revision: str) -> bool:
        """Whether this revision is live, has proved itself, and really runs."""
        live = self._live
        if live is None or live.revision != revision or not live.proven:
            return False
        running = await self._site.runtime.look()
        return running is not None and running.release == live.release

    async def _changes_matter(self, revision: str) -> bool:
        """Compared with what is live, not with the last push: what several skipped pushes left out is not lost."""
        patterns, live = self._site.settings.source.paths, self._live
        if not patterns or live is None or not live.proven or live.revision == revision:
            return True
        try:
            changed: Sequence[str] = await self._site.source.changes(live.revision, revision)
        except StepFailed as failure:
            if failure.code != "revision-unknown":
                raise
            return True
        return paths.touches(patterns, changed)
