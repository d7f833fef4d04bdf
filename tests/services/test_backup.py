"""Backups as the agent uses them, over real files, the real store and the real journal."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from agent.adapters.backup import a_store, archive, home
from agent.adapters.backup.files import Tree
from agent.core.errors import StepFailed, Unavailable
from agent.core.model import Backup, BackupMember, Need
from agent.core.ports import BackupSource, BackupStore, BlobSink
from agent.services.backup import STREAMS, VERIFICATIONS, WRITERS, Backups
from agent.services.drill import DRILLS
from agent.services.pruning import PRUNINGS
from agent.services.restore import RESTORES
from agent.store.backups import BackupRows
from agent.store.database import Database
from agent.store.events import EventLog
from agent.system.threads import LONG, in_thread, until_stopped
from tests.fakes import FakeClock


class World:
    """One service with one shared directory, and everything that its backups need."""

    def __init__(self, base: Path, database: Database, clock: FakeClock) -> None:
        self.data = base / "service" / "shared" / "data"
        self.data.mkdir(parents=True)
        (self.data / "f").write_bytes(b"hello" * 1000)
        self.root = base / "backups"
        self.rows = BackupRows(database, clock)
        self.events = EventLog(database)
        self.clock = clock
        self.locks = {"scraper": asyncio.Lock()}
        self.sources: Sequence[BackupSource] = [Tree(base / "service", "shared/data")]
        self.backups = self.make()

    def make(self) -> Backups:
        """The service, as a start of the agent makes it."""
        return Backups(
            store=a_store(self.root),
            sources={"scraper": self.sources},
            rows=self.rows,
            locks=self.locks,
            clock=self.clock,
        )

    def manifests(self) -> list[Path]:
        return sorted((self.root / "scraper" / "manifests").iterdir())

    def break_pack(self) -> None:
        for path in (self.root / "scraper" / "packs").glob("*.pack"):
            data = bytearray(path.read_bytes())
            data[90] ^= 0x41
            path.write_bytes(data)


@pytest.fixture
def world(tmp_path: Path, database: Database, clock: FakeClock) -> World:
    """A world that is ready."""
    return World(tmp_path, database, clock)


class Changing:
    """A source that never holds still."""

    source = "x"

    def estimate(self, stopped: Callable[[], bool]) -> Need:
        return Need()

    def collect(self, sink: BlobSink, known: frozenset[str]) -> BackupMember:
        return BackupMember(source="x", kind="files", state="partial", files=1)


async def taken(backups: Backups, id: str) -> bytes:
    return b"".join([piece async for piece in backups.stream(id)])


async def test_a_backup_is_read_back_before_it_counts(world: World) -> None:
    """R-BK-1: the row comes last, and says when it was verified."""
    made = await world.backups.create("scraper", revision="a" * 40)
    assert (made.state, made.verified_at, made.revision) == ("ok", world.clock.now(), "a" * 40)
    assert await world.backups.list() == [made]
    assert await world.backups.list("other") == []
    assert b"hello" in await taken(world.backups, made.id)


async def test_backups_are_listed_newest_first(world: World) -> None:
    ids = []
    for _ in range(3):
        ids.append((await world.backups.create("scraper")).id)
        world.clock.advance(1)
    assert [backup.id for backup in await world.backups.list("scraper")] == ids[::-1]
    assert sorted(ids) == ids


async def test_a_backup_and_a_deployment_of_one_service_exclude_each_other(world: World) -> None:
    """R-BK-12."""
    async with world.locks["scraper"]:
        with pytest.raises(Unavailable) as caught:
            await world.backups.create("scraper")
        assert caught.value.code == "backup-busy"
        assert (await world.backups.create_locked("scraper", deployment="d1")).deployment == "d1"
    assert not world.locks["scraper"].locked()


async def test_two_people_who_ask_at_once_make_one_backup(world: World) -> None:
    results: Sequence[object] = await asyncio.gather(
        world.backups.create("scraper"), world.backups.create("scraper"), return_exceptions=True
    )
    assert [isinstance(result, Backup) for result in results] == [True, False]
    assert isinstance(results[1], Unavailable)


async def test_a_partial_backup_stops_a_deployment_and_is_shown_to_a_person(world: World) -> None:
    """R-BK-5, R-BK-15."""
    world.sources = [Changing()]
    backups = world.make()
    with pytest.raises(StepFailed) as caught:
        await backups.create("scraper", deployment="d1")
    assert caught.value.code == "backup-partial"
    assert (await backups.create("scraper")).state == "partial"
    assert [backup.state for backup in await backups.list()] == ["partial", "partial"]


async def test_a_source_that_is_gone_stops_the_deployment_and_keeps_the_old_backup(world: World) -> None:
    """R-BK-15, F83."""
    made = await world.backups.create("scraper")
    (world.data / "f").unlink()
    world.data.rmdir()
    with pytest.raises(StepFailed) as caught:
        await world.backups.create("scraper", deployment="d1")
    assert caught.value.code == "backup-source-gone"
    assert await world.backups.list() == [made]


async def test_a_backup_that_does_not_read_back_fails_and_is_recorded_as_bad(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-BK-6, F82: the disk spoils it between writing and reading."""
    store = a_store(world.root)
    really = store.verify

    async def spoiled(id: str, digest: str = "") -> Backup:
        world.break_pack()
        return await really(id, digest)

    monkeypatch.setattr(store, "verify", spoiled)
    backups = Backups(
        store=store, sources={"scraper": world.sources}, rows=world.rows, locks=world.locks, clock=world.clock
    )
    with pytest.raises(StepFailed) as caught:
        await backups.create("scraper", deployment="d1")
    assert caught.value.code == "backup-bad"
    (bad,) = await backups.list()
    assert bad.state == "bad"
    with pytest.raises(StepFailed) as refused:
        await taken(backups, bad.id)
    assert refused.value.code == "backup-bad"
    assert (await world.backups.create("scraper")).state == "ok", "the next one does not build on what is bad"


async def test_verify_finds_damage_and_keeps_what_was_known(world: World) -> None:
    """R-BK-6, F82: other backups are still offered."""
    made = await world.backups.create("scraper")
    path = world.manifests()[0]
    path.write_bytes(path.read_bytes()[:-9])
    world.clock.advance(60)
    found = await world.backups.verify(made.id)
    assert (found.state, found.bytes, found.at) == ("bad", made.bytes, made.at)
    assert found.verified_at == world.clock.now()
    second = await world.backups.create("scraper")
    assert b"hello" in await taken(world.backups, second.id)


async def test_an_unknown_backup_is_refused_before_the_first_byte(world: World) -> None:
    for unknown in ("nothing", "../x"):
        with pytest.raises(StepFailed) as caught:
            await world.backups.verify(unknown)
        assert caught.value.code == "backup-unknown"
        with pytest.raises(StepFailed):
            await taken(world.backups, unknown)


async def test_a_manifest_that_was_replaced_is_found_by_the_journals_digest(world: World) -> None:
    """R-BK-6: an edited manifest with a fitting digest of its own."""
    made = await world.backups.create("scraper")
    await world.rows.record(
        Backup(
            id=made.id, service="scraper", at=made.at, state="ok", bytes=1, stored_bytes=1, digest="0" * 64
        )
    )
    with pytest.raises(StepFailed):
        await taken(world.backups, made.id)
    assert (await world.backups.verify(made.id)).state == "bad"


# ---------------------------------------------------------------------- at start


async def test_a_backup_without_a_row_is_adopted_and_proven_by_the_next_verification(world: World) -> None:
    """F4: the power went between the manifest's rename and the row. The start does not wait for gigabytes."""
    made = await world.backups.create("scraper", deployment="d1")
    await world.rows.forget(made.id)
    await world.make().adopt()
    (adopted,) = await world.backups.list()
    assert (adopted.id, adopted.state, adopted.deployment) == (made.id, "unverified", "d1")
    assert (adopted.digest, adopted.verified_at) == (made.digest, None)
    assert (await world.backups.verify(made.id)).state == "ok"
    assert [backup.state for backup in await world.backups.list()] == ["ok"]


async def test_a_damaged_backup_without_a_row_is_found_by_the_next_verification(world: World) -> None:
    made = await world.backups.create("scraper")
    await world.rows.forget(made.id)
    world.break_pack()
    await world.make().adopt()
    assert [backup.state for backup in await world.backups.list()] == ["unverified"]
    assert (await world.backups.verify(made.id)).state == "bad"


@pytest.mark.parametrize(("spoilt", "state"), [(False, "ok"), (True, "bad")])
async def test_what_was_taken_in_is_read_back_soon_after_the_start(
    world: World, spoilt: bool, state: str
) -> None:
    """F4."""
    made = await world.backups.create("scraper")
    await world.rows.forget(made.id)
    if spoilt:
        world.break_pack()
    backups = world.make()
    await backups.adopt()
    await backups.settle()
    (found,) = await backups.list()
    assert (found.state, found.verified_at) == (state, world.clock.now())


async def test_what_cannot_be_read_back_now_stays_unverified(world: World) -> None:
    """F85: the disk went away after the start."""
    made = await world.backups.create("scraper")
    await world.rows.forget(made.id)
    backups = world.make()
    await backups.adopt()
    world.root.rename(world.root.with_name("disk"))
    await backups.settle()
    assert [backup.state for backup in await backups.list()] == ["unverified"]


async def test_a_backup_without_a_row_and_with_a_damaged_manifest_is_adopted_as_bad(world: World) -> None:
    made = await world.backups.create("scraper")
    await world.rows.forget(made.id)
    world.manifests()[0].write_bytes(b"")
    await world.make().adopt()
    (found,) = await world.backups.list()
    assert (found.id, found.service, found.state) == (made.id, "scraper", "bad")


async def test_a_start_opens_no_manifest_that_has_its_row(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start must not take longer with each backup that there is."""
    for _ in range(3):
        await world.backups.create("scraper")

    def forbidden(*path: object, **options: object) -> None:
        pytest.fail(f"{path} was opened")

    monkeypatch.setattr(archive, "Manifest", forbidden)
    monkeypatch.setattr(home, "Manifest", forbidden)
    await world.make().adopt()
    assert len(await world.backups.list()) == 3


async def test_a_row_without_a_backup_is_dropped(world: World) -> None:
    """F4."""
    made = await world.backups.create("scraper")
    world.manifests()[0].unlink()
    await world.make().adopt()
    assert await world.backups.list() == []
    assert await world.rows.find(made.id) is None


async def test_a_manifest_that_stopped_reading_turns_its_row_bad(world: World) -> None:
    made = await world.backups.create("scraper")
    world.manifests()[0].write_bytes(b"")
    await world.make().adopt()
    await world.backups.verify(made.id)
    (found,) = await world.backups.list()
    assert (found.id, found.state, found.bytes) == (made.id, "bad", made.bytes)
    events = await world.events.after(0, 100)
    assert [event.name for event in events] == ["backup.ok", "backup.bad"]


async def test_leftovers_are_swept_at_start(world: World) -> None:
    """F3, F21."""
    await world.backups.create("scraper")
    left = world.root / "scraper" / "packs" / "x.partial"
    left.write_bytes(b"half")
    await world.make().adopt()
    assert not left.exists()
    assert len(await world.backups.list()) == 1


async def test_a_store_that_cannot_be_used_does_not_keep_the_agent_from_starting(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """R-BK-15: what is lost is the backup, and with it each deployment, not the running services."""
    made = await world.backups.create("scraper")
    (world.root / "format").write_bytes(b"something else\n")
    await world.make().adopt()
    assert "cannot be used" in caplog.text
    assert await world.backups.list() == [made]
    with pytest.raises(StepFailed):
        await world.backups.create("scraper", deployment="d1")


def spoil_lock(world: World) -> None:
    (world.root / "scraper" / "lock").unlink()
    (world.root / "scraper" / "lock").mkdir()


def spoil_manifests(world: World) -> None:
    (world.root / "scraper" / "manifests").rename(world.root / "scraper" / "aside")
    (world.root / "scraper" / "manifests").symlink_to("manifests")


def spoil_root(world: World) -> None:
    world.root.rename(world.root.with_name("aside"))
    world.root.symlink_to(world.root)


@pytest.mark.parametrize("spoil", [spoil_lock, spoil_manifests, spoil_root])
async def test_whatever_the_disk_refuses_is_told_and_keeps_neither_the_agent_nor_a_row(
    world: World, caplog: pytest.LogCaptureFixture, spoil: Callable[[World], None]
) -> None:
    """F28: errors that say nothing about the backups themselves (here EISDIR and ELOOP) cost no row."""
    made = await world.backups.create("scraper")
    spoil(world)
    await world.make().adopt()
    assert "cannot be used" in caplog.text
    assert await world.backups.list() == [made]
    with pytest.raises(StepFailed):
        await world.backups.create("scraper", deployment="d1")
    with pytest.raises(StepFailed):
        await world.backups.create("scraper")


@pytest.mark.parametrize("left", [True, False])
async def test_a_store_whose_disk_is_not_mounted_is_neither_filled_nor_forgotten(
    world: World, caplog: pytest.LogCaptureFixture, left: bool
) -> None:
    """F85: the empty mount point, or not even that."""
    made = await world.backups.create("scraper")
    mounted = world.root.rename(world.root.with_name("disk"))
    if left:
        world.root.mkdir()
    await world.make().adopt()
    assert "cannot be used" in caplog.text
    for act in (world.backups.create("scraper", deployment="d1"), world.backups.verify(made.id)):
        with pytest.raises(StepFailed) as caught:
            await act
        assert caught.value.code == "backup-store-gone"
    assert await world.backups.list() == [made]
    assert not left or not list(world.root.iterdir())
    if left:
        world.root.rmdir()
    mounted.rename(world.root)
    await world.make().adopt()
    assert (await world.backups.create("scraper")).state == "ok"
    assert len(await world.backups.list()) == 2


async def test_a_lost_store_is_begun_anew_when_a_person_says_so(world: World) -> None:
    """The hint of backup-store-gone."""
    await world.backups.create("scraper")
    world.root.rename(world.root.with_name("lost"))
    world.root.mkdir()
    (world.root / "format").write_text("homeport backups 1\n")
    await world.make().adopt()
    assert await world.backups.list() == []
    assert (await world.backups.create("scraper")).state == "ok"


# ---------------------------------------------------------------------- at once


class Slow:
    """A store whose verification takes until it is let go."""

    def __init__(self, store: BackupStore) -> None:
        self.let_go = threading.Event()
        self.begun = asyncio.Event()
        self._verify = store.verify

    async def verify(self, id: str, digest: str = "") -> Backup:
        self.begun.set()
        stop = threading.Event()
        await until_stopped(stop, self._wait, stop)
        return await self._verify(id, digest)

    def _wait(self, stop: threading.Event) -> None:
        while not (self.let_go.is_set() or stop.wait(0.01)):
            pass


async def test_one_verification_goes_on_at_a_time_and_short_work_goes_on_beside_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six clients that verify hold no switch open: five are told to wait, and none takes a thread of short work."""
    made = await world.backups.create("scraper")
    store = a_store(world.root)
    slow = Slow(store)
    monkeypatch.setattr(store, "verify", slow.verify)
    backups = Backups(
        store=store, sources={"scraper": world.sources}, rows=world.rows, locks=world.locks, clock=world.clock
    )
    first = asyncio.create_task(backups.verify(made.id))
    async with asyncio.timeout(60):
        await slow.begun.wait()
        for _ in range(5):
            with pytest.raises(Unavailable) as caught:
                await backups.verify(made.id)
            assert caught.value.code == "backup-busy"
        assert await in_thread(lambda: 7) == 7
        slow.let_go.set()
        assert (await first).state == "ok"
        assert (await backups.verify(made.id)).state == "ok"


async def test_a_third_download_is_told_to_wait(world: World) -> None:
    made = await world.backups.create("scraper")
    under_way = [world.backups.stream(made.id) for _ in range(STREAMS)]
    for pieces in under_way:
        await anext(pieces)
    with pytest.raises(Unavailable) as caught:
        await taken(world.backups, made.id)
    assert caught.value.code == "backup-busy"
    await under_way[0].aclose()
    assert b"hello" in await taken(world.backups, made.id)
    await under_way[1].aclose()


def test_there_is_a_thread_for_each_piece_of_long_work_that_may_begin() -> None:
    assert WRITERS + VERIFICATIONS + STREAMS + RESTORES + PRUNINGS + DRILLS == LONG


async def test_the_first_start_finds_nothing_and_says_nothing(world: World) -> None:
    await world.backups.adopt()
    assert await world.backups.list() == []
    assert not world.root.exists()


def test_the_manifest_is_a_file_that_common_tools_read(world: World) -> None:
    """Whoever has only the disk left reads it with `zstd -dc`."""
    import json

    from backports import zstd

    made = asyncio.run(_one(world))
    with closing(zstd.open(world.manifests()[0])) as lines:
        documents = [json.loads(line) for line in lines]
    assert documents[0]["id"] == made.id
    assert [document.get("path") for document in documents[1:3]] == ["shared/data", "shared/data/f"]
    assert set(documents[-1]) == {"sha256"}


async def _one(world: World) -> Backup:
    return await a_store(world.root).create(
        id="one",
        service="scraper",
        at=world.clock.now(),
        sources=world.sources,
        deployment=None,
        revision=None,
    )
