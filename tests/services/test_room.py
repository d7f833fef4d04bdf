"""F23: what follows from a disk that was too full, by itself."""

from pathlib import Path

from agent.core.model import State
from agent.services.room import Room
from agent.store.database import Database, NoReserve
from agent.store.events import EventLog
from agent.store.journal import Journal
from agent.store.rollbacks import Rollbacks
from agent.store.transitions import Change, Limits
from tests.build import REVISION
from tests.fakes import FakeClock

HASH = "0123456789abcdef"


class Scarce(NoReserve):
    """A reserve of which some was needed."""

    short = True
    why = "3 MiB are free, 72 are needed"


class Watched:
    """A room, and what it asked for."""

    def __init__(self, database: Database, clock: FakeClock) -> None:
        self.events = EventLog(database)
        self.there = False
        self.asked = self.woken = 0
        self.room = Room(
            database, self.events, clock, why=lambda: "" if self.there else Scarce.why,
            restore=self._restore, wake=self._wake,
        )  # fmt: skip

    async def _restore(self) -> bool:
        self.asked += 1
        return self.there

    def _wake(self) -> None:
        self.woken += 1

    async def names(self) -> list[str]:
        return [event.name for event in reversed((await self.events.page(50)).items)]


async def test_it_is_told_once_and_everybody_is_woken_when_there_is_room(
    tmp_path: Path, clock: FakeClock
) -> None:
    database = Database(tmp_path / "state.db", reserve=Scarce())
    await database.open()
    watched = Watched(database, clock)
    for _ in range(3):
        await watched.room.look()
    assert watched.room.trouble() == (
        "3 MiB are free, 72 are needed: deliveries are refused and automatic deployments wait until there are"
    )
    assert (await watched.names(), watched.asked, watched.woken) == (["space.low"], 3, 0)
    watched.there = True
    await watched.room.look()
    assert (await watched.names(), watched.woken) == (["space.low", "space.back"], 1)
    assert watched.room.trouble() == ""
    await database.close()


async def test_while_all_is_well_nothing_is_asked_and_nothing_written(
    database: Database, clock: FakeClock
) -> None:
    watched = Watched(database, clock)
    watched.there = True
    for _ in range(3):
        await watched.room.look()
    assert (await watched.names(), watched.asked, watched.woken) == ([], 0, 0)


async def test_while_the_disk_is_short_only_a_rollback_is_begun(database: Database, clock: FakeClock) -> None:
    """F23: also what a person asked for waits; going back needs no new space, and may be what helps."""
    journal, rollbacks = Journal(database, clock), Rollbacks(database, clock)
    asked = await journal.request(
        "scraper", requested=None, revision=REVISION, force=True, actor="me", config_hash=HASH
    )
    assert await journal.claim("scraper", HASH, short=True) is None
    back = await rollbacks.request("scraper", to="1-abcdef0", actor="me", config_hash=HASH)
    claimed = await journal.claim("scraper", HASH, short=True)
    assert claimed is not None
    assert (claimed.id, claimed.state) == (back.id, State.ROLLING_BACK)
    await journal.advance(claimed, State.FAILED, Change(reason="no-release"), Limits(2))
    assert await journal.claim("scraper", HASH, short=True) is None
    claimed = await journal.claim("scraper", HASH)
    assert claimed is not None
    assert claimed.id == asked.id
