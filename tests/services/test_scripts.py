"""Whatever happens in whatever order, what must hold holds: random scripts of pushes, troubles, kills and holds."""

import asyncio
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.errors import Refused, StepFailed, Unavailable
from agent.core.model import Deployment, Fault, State
from agent.core.pipeline import ENDS
from tests.services.test_every_point import PHASES, STORE, part_of
from tests.services.workshop import SERVICE, Killed, Workshop, a_workshop

LIMIT = 2

MOODS = st.sampled_from(["good", "good", "good", "sick", "crash", "unstartable"])
ACTS = st.tuples(
    st.integers(1, 50),
    st.sampled_from(PHASES),
    st.sampled_from(["killed", "defect", "full", "refused", "stop"]),
)
STEPS = st.one_of(
    st.tuples(st.just("push"), MOODS),
    st.tuples(st.just("push"), MOODS),
    st.tuples(st.just("unbuilt"), st.none()),
    st.tuples(st.just("force"), st.none()),
    st.tuples(st.just("ask"), st.none()),
    st.tuples(st.just("again"), st.integers(0, 5)),
    st.tuples(st.just("trouble"), ACTS),
    st.tuples(st.just("trouble"), ACTS),
    st.tuples(st.just("hold"), st.none()),
    st.tuples(st.just("resume"), st.none()),
    st.tuples(st.just("reboot"), st.none()),
    st.tuples(st.just("later"), st.integers(1, 90)),
    st.tuples(st.just("work"), st.none()),
    st.tuples(st.just("work"), st.none()),
)


class Script:
    """Carries out the steps of a script and looks after each rest whether everything is as it must be."""

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop
        self._planned: list[tuple[int, str, str]] = []
        self._count = 0
        self._pushed: list[str] = []
        self._task: asyncio.Task[None] | None = None
        shop.wire.watch = self._watch

    async def step(self, what: str, value: object) -> None:  # noqa: C901 - a table of steps
        shop = self._shop
        match what, value:
            case "push", str(mood):
                self._pushed.append(await shop.push(mood))
            case "unbuilt", _:
                self._pushed.append(await shop.push(build="fail"))
            case (("force" | "ask"), _):
                await self._ask(force=what == "force")
            case "again", int(number) if self._pushed:
                await shop.deliver(self._pushed[number % len(self._pushed)])
            case "trouble", tuple(trouble):
                self._planned.append(trouble)
            case "hold", _:
                await shop.services.hold(SERVICE, actor="me")
            case "resume", _:
                await shop.resume()
            case "reboot", _:
                shop.runtime.reboot()
            case "later", int(minutes):
                shop.clock.advance(minutes * 60)
            case "work", _:
                await self.work()

    async def work(self) -> None:
        """Agents, one after the other, until there is nothing to do."""
        shop = self._shop
        held = await shop.held()
        known = {item.id for item in await shop.all() if item.state is not State.QUEUED}
        for _ in range(len(self._planned) + 2):
            self._count = 0
            async with shop.agent() as self._task:
                if await shop.idle(self._task):
                    break
        else:
            raise AssertionError("it never came to rest")
        await self._check(held=held, known=known)

    async def _ask(self, *, force: bool) -> None:
        if await self._shop.held() and not force:
            with pytest.raises(Refused, match="held"):
                await self._shop.ask()
        else:
            await self._shop.ask(force=force)

    async def _check(self, *, held: bool, known: set[str]) -> None:
        shop = self._shop
        await shop.check()
        every = await shop.all()
        new = [item for item in every if item.id not in known and item.state is not State.QUEUED]
        if held:
            assert [item for item in new if not item.force and item.state is not State.SUPERSEDED] == []
        for item in every:
            if item.state in ENDS and item.fault is Fault.COMMIT and not item.force:
                await self._quarantined(item, every)
        await self._holds(every)
        assert len(await shop.releases.names()) <= 2 + shop.settings.deploy.keep_releases

    async def _quarantined(self, item: Deployment, every: list[Deployment]) -> None:
        """What failed by its own fault stays out, unless a person forced it through since."""
        revision = item.revision or ""
        lifted = any(
            other.force and other.state is State.SUCCEEDED and other.revision == revision for other in every
        )
        assert lifted or await self._shop.quarantined(revision), item

    async def _holds(self, every: list[Deployment]) -> None:
        """R-RB-4: more than the limit of bounces within an hour can only be, if a person resumed in between."""
        resumed = [
            event.at for event in await self._shop.events.after(0, 10000) if event.name == "service.resumed"
        ]
        ends = sorted(
            item.finished_at
            for item in every
            if item.finished_at and item.fault is Fault.COMMIT and not item.force
            and item.state in (State.ROLLED_BACK, State.BROKEN)
        )  # fmt: skip
        for first, last in zip(ends, ends[LIMIT:], strict=False):
            if last - first < timedelta(hours=1):
                assert any(first <= at <= last for at in resumed), ends

    def _watch(self, phase: str) -> None:
        self._count += phase == "before"
        for trouble in list(self._planned):
            if self._count >= trouble[0] and phase == trouble[1]:
                self._planned.remove(trouble)
                self._cause(trouble[2])

    def _cause(self, kind: str) -> None:
        place = self._shop.wire.passed[-1]
        match kind:
            case "killed":
                raise Killed
            case "defect":
                raise RuntimeError("a defect of homeport")
            case "full" if part_of(place) in STORE:
                raise Unavailable("store-unavailable", "database or disk is full")
            case "refused" if part_of(place) in ("source", "releases", "builder", "saves"):
                if not place.startswith("rolling_back/"):  # three refusals in a row there: a test of its own
                    raise StepFailed("disk-failed", "the disk refuses")
            case "stop" if self._task is not None:
                self._task.cancel()


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, min_size=4, max_size=20))
async def test_any_script_ends_as_it_must(script: list[tuple[str, object]]) -> None:
    """R-RB-1, R-RB-2, R-RB-4: one process, which is live, confirmed and current; one end each; no loop."""
    async with a_workshop(deploy={"keep_releases": 2}, rollback={"max_per_hour": LIMIT}) as shop:
        play = Script(shop)
        for what, value in script:
            await play.step(what, value)
        await play.work()
