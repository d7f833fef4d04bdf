"""Restores in place, over real files, databases, the real store and the real journal."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from agent.core.errors import StepFailed, Unavailable
from agent.core.model import State
from agent.core.restores import Standing
from agent.services.restore import Restores
from agent.store.database import Database
from tests.fakes import FakeClock
from tests.services.vault import Vault, a_vault, add, migrate, shake, texts
from tests.services.workshop import SERVICE, Killed


@pytest.fixture
async def vault(tmp_path: Path, database: Database, clock: FakeClock) -> Vault:
    """One good version is live, and there is a backup `first` of its data."""
    made = Vault(tmp_path, database, clock)
    await made.shop.deploy()
    return made


async def saved(vault: Vault) -> str:
    """A backup of now; then the data is ruined as a bad version does it."""
    made = await vault.backups.create(SERVICE)
    vault.clock.advance(60)
    shake(vault.data)
    add(vault.app, "second")
    return made.id


FIRST = {"a": b"first\n" * 3000, "link": "files/a", "texts": ["first"]}


def now(vault: Vault) -> dict[str, object]:
    return {"a": b"second", "b": (vault.data / "files/b").read_bytes(), "texts": ["first", "second"]}


def reached(vault: Vault, act: str) -> asyncio.Event:
    """Set as soon as this act begins."""
    event, wire = asyncio.Event(), vault.shop.wire
    wire.watch = lambda _: event.set() if act in wire.passed[-1] else None
    return event


async def refused(vault: Vault, id: str, **options: bool) -> str:
    with pytest.raises((StepFailed, Unavailable)) as caught:
        await vault.restores.restore(id, actor="me", **options)
    return str(caught.value.code)


async def test_a_restore_brings_back_the_old_data_and_keeps_what_it_replaced(vault: Vault) -> None:
    """R-BK-7."""
    old = await saved(vault)
    ruined = now(vault)
    acts = len(vault.runtime.acts)
    done = await vault.restores.restore(old, actor="me")
    assert (done.state, done.reason, done.backup, done.actor) == (Standing.DONE, "", old, "me")
    assert vault.state() == FIRST
    release = await vault.shop.live()
    assert vault.runtime.acts[acts:] == [f"stop {release}", f"start {release}"]
    (kept,) = vault.copies()
    assert str(kept) == done.swaps[0].kept
    assert (kept / "files" / "a").read_bytes() == ruined["a"]
    assert [text for text in texts(kept / "app.db") if not text.startswith("started")] == ruined["texts"]
    assert vault.leftovers() == []
    newest = (await vault.backups.list(SERVICE))[0]
    assert (newest.id, newest.state) == (done.saved, "ok")
    events = [
        event.name for event in await vault.shop.events.after(0, 1000) if event.name.startswith("restore.")
    ]
    assert events == ["restore.staging", "restore.swapping", "restore.starting", "restore.done"]


async def test_the_backup_of_what_was_replaced_can_itself_be_restored(vault: Vault) -> None:
    old = await saved(vault)
    ruined = now(vault)
    done = await vault.restores.restore(old, actor="me")
    vault.clock.advance(60)
    assert done.saved is not None
    assert (await vault.restores.restore(done.saved, actor="me")).state is Standing.DONE
    assert vault.state() == ruined
    assert len(vault.copies()) == 1, "only the last copy stays"


async def test_data_with_which_the_service_does_not_come_up_is_put_back(vault: Vault) -> None:
    """R-BK-7."""
    old = await saved(vault)
    ruined = now(vault)
    migrate_to_two(vault)
    ruined["texts"] = ["second"]
    vault.runtime.understands = {2}
    back = await vault.restores.restore(old, actor="me")
    assert (back.state, back.reason) == (Standing.PUT_BACK, "restore-put-back")
    assert "process" in back.detail
    assert vault.state() == ruined
    assert vault.runtime.running is not None
    assert vault.copies() == []
    assert vault.leftovers() == []
    events = [
        event.name for event in await vault.shop.events.after(0, 1000) if event.name.startswith("restore.")
    ]
    assert events[-2:] == ["restore.putting_back", "restore.put_back"]


def migrate_to_two(vault: Vault) -> None:
    migrate(vault.app, 2)
    add(vault.app, "second")


async def test_a_service_that_does_not_come_up_either_way_is_said_to_need_a_person(vault: Vault) -> None:
    old = await saved(vault)
    ruined = now(vault)
    vault.runtime.understands = set()
    back = await vault.restores.restore(old, actor="me")
    assert (back.state, back.reason) == (Standing.PUT_BACK, "restore-failed")
    assert vault.state() == ruined


async def test_without_a_live_release_the_data_is_swapped_and_nothing_is_started(
    tmp_path: Path, database: Database, clock: FakeClock
) -> None:
    vault = Vault(tmp_path, database, clock)
    old = await saved(vault)
    assert (await vault.restores.restore(old, actor="me")).state is Standing.DONE
    assert vault.state() == FIRST
    assert vault.runtime.acts == []


async def test_a_write_ahead_log_of_the_replaced_database_does_not_reach_the_restored_one(
    tmp_path: Path, database: Database, clock: FakeClock
) -> None:
    """A log beside another database than its own would corrupt it; with its own it holds committed rows."""
    vault = Vault(tmp_path, database, clock)
    vault.sources = vault.sources[:1]
    vault.shop.hire()
    old = (await vault.backups.create(SERVICE)).id
    open_still = sqlite3.connect(vault.app)
    open_still.execute("INSERT INTO t(text) VALUES('only in the log')")
    open_still.commit()
    assert vault.app.with_name("app.db-wal").stat().st_size > 0
    done = await vault.restores.restore(old, actor="me")
    assert texts(vault.app) == ["first"]
    assert texts(Path(done.swaps[0].kept)) == ["first", "only in the log"]
    assert (vault.data / "files" / "a").exists(), "only what the backup names is swapped"
    open_still.close()


async def test_what_was_absent_when_the_backup_was_made_goes_aside(
    tmp_path: Path, database: Database, clock: FakeClock
) -> None:
    vault = Vault(tmp_path, database, clock)
    vault.sources = vault.sources[:1]
    aside = vault.app.rename(vault.app.with_name("aside"))
    vault.shop.hire()
    old = (await vault.backups.create(SERVICE)).id
    aside.rename(vault.app)
    done = await vault.restores.restore(old, actor="me")
    assert done.state is Standing.DONE
    assert not vault.app.exists()
    assert texts(Path(done.swaps[0].kept)) == ["first"]
    assert vault.leftovers() == []


async def test_a_dry_run_tells_what_would_be_written_and_changes_nothing(vault: Vault) -> None:
    """R-BK-7."""
    old = await saved(vault)
    ruined, acts = now(vault), list(vault.runtime.acts)
    told = await vault.restores.preview(old)
    (path,) = told.paths
    assert (path.path, path.files) == ("shared/data", 3)
    assert path.files_now >= 3
    (rows,) = told.databases
    assert rows.path == "shared/data/app.db"
    assert rows.now is not None
    assert rows.now["t"] == rows.then["t"] + 1
    assert vault.state() == ruined
    assert vault.runtime.acts == acts
    assert [*vault.leftovers(), *vault.copies()] == []
    assert await vault.restores_rows.of(SERVICE) == []


# --- what is refused, and touches nothing


async def test_a_restore_and_whatever_else_touches_the_service_exclude_each_other(vault: Vault) -> None:
    """R-BK-12."""
    old = await saved(vault)
    async with vault.shop.lock:
        assert await refused(vault, old) == "backup-busy"
    going_on = reached(vault, "store.verify")
    first = asyncio.create_task(vault.restores.restore(old, actor="me"))
    await going_on.wait()
    assert vault.shop.lock.locked()
    assert await refused(vault, old) == "backup-busy"
    with pytest.raises(Unavailable):
        await vault.backups.create(SERVICE)
    with pytest.raises(Unavailable):
        await vault.pruning.prune(SERVICE)
    assert (await first).state is Standing.DONE


async def test_a_damaged_backup_is_found_before_anything_is_touched(vault: Vault) -> None:
    """R-BK-7, F82."""
    old = await saved(vault)
    ruined, acts = now(vault), list(vault.runtime.acts)
    for path in (vault.root / SERVICE / "packs").glob("*.pack"):
        data = bytearray(path.read_bytes())
        data[150] ^= 0x41
        path.write_bytes(data)
    assert await refused(vault, old) == "backup-bad"
    assert vault.state() == ruined
    assert vault.runtime.acts == acts
    assert [*vault.leftovers(), *vault.copies()] == []


async def test_a_backup_whose_source_was_taken_out_of_the_configuration_is_refused(vault: Vault) -> None:
    """F86."""
    old = await saved(vault)
    ruined = now(vault)
    vault.sources = vault.sources[:1]
    vault.shop.hire()
    assert await refused(vault, old) == "restore-refused"
    assert vault.state() == ruined


async def test_a_backup_of_a_service_that_is_not_configured_is_refused(vault: Vault) -> None:
    """F86."""
    old = await saved(vault)
    restores: Restores = vault.restores
    restores._sites = {}
    assert await refused(vault, old) == "restore-refused"


async def test_a_backup_that_came_from_another_services_directory_is_refused(vault: Vault) -> None:
    """F86, R-BK-6: whoever moves the files of a backup under another service is found out."""
    old = await saved(vault)
    (vault.root / SERVICE).rename(vault.root / "other")
    assert await refused(vault, old) == "backup-bad"
    (found,) = [backup for backup in await vault.backups.list() if backup.id == old]
    assert (found.state, found.service) == ("bad", SERVICE)


async def test_present_data_that_cannot_be_backed_up_needs_a_word(vault: Vault) -> None:
    """The most likely reason for a restore is that the data is gone."""
    old = await saved(vault)
    vault.app.write_bytes(b"SQLite format 3\0 and then nothing that SQLite would know")
    assert await refused(vault, old) == "restore-not-backed-up"
    assert vault.leftovers() == []
    done = await vault.restores.restore(old, actor="me", without_backup=True)
    assert (done.state, done.saved) == (Standing.DONE, None)
    assert vault.state() == FIRST
    (kept,) = vault.copies()
    assert (kept / "app.db").read_bytes().endswith(b"would know"), "what is damaged is kept as it was"


async def test_data_that_is_gone_comes_back(vault: Vault) -> None:
    old = await saved(vault)
    vault.data.rename(vault.data.with_name("elsewhere"))
    assert await refused(vault, old) == "restore-not-backed-up"
    done = await vault.restores.restore(old, actor="me", without_backup=True)
    assert done.state is Standing.DONE
    assert vault.state() == FIRST
    assert vault.copies() == []
    assert not done.kept


async def test_too_little_space_is_found_before_a_byte_is_written(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F87."""
    from agent.system.files import Free

    old = await saved(vault)
    ruined, acts = now(vault), list(vault.runtime.acts)
    for room in (Free(1000, None), Free(1 << 40, 2)):
        monkeypatch.setattr("agent.adapters.backup.archive.free", lambda path, room=room: room)
        vault.shop.hire()
        store = vault.restores._store._inner  # type: ignore[attr-defined]
        store._space = lambda path, room=room: room
        assert await refused(vault, old) == "restore-place"
    assert vault.state() == ruined
    assert vault.runtime.acts == acts
    assert vault.leftovers() == []


async def test_a_path_that_cannot_be_replaced_whole_is_refused(vault: Vault, tmp_path: Path) -> None:
    old = await saved(vault)
    vault.data.rename(tmp_path / "disk")
    vault.data.symlink_to(tmp_path / "not-mounted")
    assert await refused(vault, old) == "restore-place"


async def test_data_behind_a_link_is_restored_where_it_lies(vault: Vault, tmp_path: Path) -> None:
    old = await saved(vault)
    vault.data.rename(tmp_path / "disk")
    vault.data.symlink_to(tmp_path / "disk")
    assert (await vault.restores.restore(old, actor="me")).state is Standing.DONE
    assert vault.data.is_symlink()
    assert vault.state() == FIRST
    (restore,) = await vault.restores_rows.of(SERVICE)
    assert [Path(swap.kept).parent for swap in restore.swaps] == [tmp_path]


# --- cut off


PHASES = ("before", "after")


async def cut_off(vault: Vault, old: str, place: str, phase: str, error: Callable[[], BaseException]) -> None:
    vault.shop.wire.forget()
    vault.shop.wire.raises(place, phase, error)
    with suppress(Killed):
        await vault.restores.restore(old, actor="me")
    vault.shop.wire.forget()  # some acts belong to the other way only


async def recorded(base: Path) -> list[str]:
    """Every act of a restore that is put back: it passes all that one that succeeds passes, and more."""
    async with a_vault(base) as vault:
        await vault.shop.deploy()
        old = await saved(vault)
        migrate_to_two(vault)
        vault.runtime.understands = {2}
        vault.shop.wire.forget()
        await vault.restores.restore(old, actor="me")
        return list(vault.shop.wire.passed)


@pytest.mark.parametrize("way", ["done", "put_back"])
@pytest.mark.parametrize("phase", PHASES)
async def test_killed_at_any_act_the_next_start_finds_old_or_new_and_never_a_half(
    tmp_path: Path, way: str, phase: str
) -> None:
    """R-BK-7, F13: before the swap began it is dropped, from then on it is finished."""
    ends = set()
    for number, place in enumerate(await recorded(tmp_path / "record")):
        async with a_vault(tmp_path / f"{way}-{number}") as vault:
            await vault.shop.deploy()
            old = await saved(vault)
            ruined = now(vault)
            if way == "put_back":
                migrate_to_two(vault)
                ruined["texts"] = ["second"]
                vault.runtime.understands = {2}
            await cut_off(vault, old, place, phase, Killed)
            assert await vault.shop.work()
            state = next((restore.state for restore in await vault.restores_rows.of(SERVICE)), None)
            ends.add(state)
            assert vault.state() == (FIRST if state is Standing.DONE else ruined), place
            assert vault.leftovers() == [], place
            assert vault.runtime.running is not None, place
            assert len(vault.copies()) == (1 if state is Standing.DONE else 0), place
    assert ends == {None, Standing.FAILED, Standing(way)}


async def test_swaps_that_are_cut_off_between_two_renames_are_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F13: a power cut at every single rename, in both directions, with several paths."""
    kill_at = 0
    died = True
    while died:
        kill_at += 1
        async with a_vault(tmp_path / str(kill_at)) as vault:
            await vault.shop.deploy()
            old = await saved(vault)
            ruined = now(vault)
            migrate_to_two(vault)
            ruined["texts"] = ["second"]
            vault.runtime.understands = {2}
            with monkeypatch.context() as patched:
                patched.setattr(Path, "rename", Deadly(kill_at).rename)
                died = False
                try:
                    await vault.restores.restore(old, actor="me")
                except Killed:
                    died = True
            assert await vault.shop.work()
            assert vault.state() == ruined, kill_at
            assert vault.leftovers() == []
    assert kill_at > 4


class Deadly:
    """The machine loses its power at the n-th rename of a swap."""

    def __init__(self, number: int) -> None:
        self._left = number
        really = Path.rename

        def rename(path: Path, target: Path) -> Path:
            if ".partial" in f"{path}{target}" or "pre-restore" in f"{path}{target}":
                self._left -= 1
                if self._left == 0:
                    raise Killed
            return really(path, target)

        self.rename = rename


async def test_a_journal_that_fails_for_a_while_costs_only_time(tmp_path: Path) -> None:
    for place in ("restores.advance/1", "restores.advance/2", "restores.advance/3"):
        for phase in PHASES:
            async with a_vault(tmp_path / f"{place.replace('/', '-')}-{phase}") as vault:
                await vault.shop.deploy()
                old = await saved(vault)
                vault.shop.wire.forget()
                vault.shop.wire.raises(
                    f"idle/{place}", phase, lambda: Unavailable("store-unavailable", "full"), times=2
                )
                done = await vault.restores.restore(old, actor="me")
                assert vault.shop.wire.done
                assert done.state is Standing.DONE
                assert vault.state() == FIRST


async def test_a_restore_that_is_cancelled_while_it_lays_out_leaves_nothing(vault: Vault) -> None:
    old = await saved(vault)
    ruined = now(vault)
    vault.shop.wire.forget()
    laying_out = reached(vault, "store.lay_out")
    task = asyncio.create_task(vault.restores.restore(old, actor="me"))
    await laying_out.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert vault.state() == ruined
    assert vault.leftovers() == []
    (restore,) = await vault.restores_rows.of(SERVICE)
    assert (restore.state, restore.reason) == (Standing.FAILED, "interrupted")


async def test_a_disk_that_refuses_the_swap_leaves_the_data_of_before(vault: Vault) -> None:
    old = await saved(vault)
    ruined = now(vault)
    vault.shop.wire.forget()
    vault.shop.wire.raises("idle/place.swap/1", "before", lambda: StepFailed("disk-failed", "no"))
    back = await vault.restores.restore(old, actor="me")
    assert (back.state, back.detail) == (Standing.PUT_BACK, "no")
    assert vault.state() == ruined
    assert vault.runtime.running is not None


async def test_what_cannot_be_put_back_is_left_for_a_person_with_all_that_there_is(vault: Vault) -> None:
    """The disk refuses both ways: neither a start nor a pruning removes what was kept."""
    old = await saved(vault)
    vault.shop.wire.forget()
    refuses = lambda: StepFailed("disk-failed", "no")  # noqa: E731
    vault.shop.wire.raises("idle/place.swap/1", "after", refuses)
    vault.shop.wire.raises("idle/place.put_back/1", "before", refuses, times=9)
    failed = await vault.restores.restore(old, actor="me")
    assert (failed.state, failed.reason) == (Standing.FAILED, "restore-failed")
    (kept,) = vault.copies()
    vault.shop.wire.forget()
    assert await vault.shop.work()
    vault.clock.advance(10 * 86400)
    await vault.pruning.prune(SERVICE)
    assert vault.copies() == [kept]


# --- in a rollback


async def migrated(vault: Vault) -> None:
    """From now on every deployment is one that began its migration."""
    await vault.shop.journal._database.write(
        lambda connection: connection.execute(
            "CREATE TRIGGER migrated AFTER INSERT ON deployments"
            " BEGIN UPDATE deployments SET migrated = 1 WHERE number = new.number; END"
        )
    )


def spoil(vault: Vault) -> None:
    """A migration that only the new version understands, in the moment in which the new version starts."""
    really = vault.runtime.start

    async def start(launch: object) -> object:
        if str(getattr(launch, "release", "")).startswith("2-") and texts(vault.app):
            migrate(vault.app, 7)
        return await really(launch)  # type: ignore[arg-type]

    vault.runtime.start = start  # type: ignore[method-assign,assignment]


@pytest.mark.parametrize("restore_data", ["if-migrated", "never"])
async def test_a_rollback_brings_back_the_data_only_if_the_configuration_says_so(
    tmp_path: Path, database: Database, clock: FakeClock, restore_data: str
) -> None:
    """R-RB-9."""
    vault = Vault(tmp_path, database, clock, rollback={"restore_data": restore_data})
    await vault.shop.deploy()
    await migrated(vault)
    spoil(vault)
    bad = await vault.shop.deploy("sick")
    detail = next(step.detail for step in bad.steps if step.name is State.ROLLING_BACK)
    assert bad.backup is not None
    assert bad.backup in detail
    if restore_data == "never":
        assert bad.state is State.BROKEN, "the old version cannot read what was migrated"
        assert vault.state()["texts"] == []
        assert vault.copies() == []
        return
    assert bad.state is State.ROLLED_BACK
    assert "was restored" in detail
    assert vault.state() == FIRST
    (kept,) = vault.copies()
    assert texts(kept / "app.db") == [], "what was migrated is kept"
    assert vault.leftovers() == []
    await vault.shop.check()


async def test_a_rollback_without_a_migration_leaves_the_data_alone(
    tmp_path: Path, database: Database, clock: FakeClock
) -> None:
    """R-RB-9."""
    vault = Vault(tmp_path, database, clock, rollback={"restore_data": "if-migrated"})
    await vault.shop.deploy()
    add(vault.app, "second")
    assert (await vault.shop.deploy("sick")).state is State.ROLLED_BACK
    assert vault.state()["texts"] == ["first", "second"]
    assert await vault.restores_rows.of(SERVICE) == []


async def test_a_rollback_whose_backup_is_damaged_still_starts_the_old_release(
    tmp_path: Path, database: Database, clock: FakeClock
) -> None:
    vault = Vault(tmp_path, database, clock, rollback={"restore_data": "if-migrated"})
    await vault.shop.deploy()
    await migrated(vault)
    vault.shop.wire.raises("rolling_back/store.lay_out/1", "before", lambda: StepFailed("backup-bad", "torn"))
    bad = await vault.shop.deploy("sick")
    detail = next(step.detail for step in bad.steps if step.name is State.ROLLING_BACK)
    assert bad.state is State.ROLLED_BACK
    assert "torn" in detail
    assert vault.leftovers() == []


async def test_killed_at_any_act_of_a_rollback_the_data_is_restored_once(tmp_path: Path) -> None:
    """R-RB-9, F13: it is the deployment that goes on with it."""
    passed: list[str] = []
    number = -1
    while number < len(passed):
        async with a_vault(tmp_path / str(number), rollback={"restore_data": "if-migrated"}) as vault:
            await vault.shop.deploy()
            await migrated(vault)
            spoil(vault)
            vault.shop.wire.forget()
            if number >= 0:
                vault.shop.wire.raises(passed[number], "before", Killed)
            revision = await vault.shop.push("sick")
            died = not await vault.shop.work()
            if number < 0:
                passed = [act for act in vault.shop.wire.passed if act.startswith("rolling_back/")]
                assert any("place.swap" in act for act in passed)
            else:
                assert died, passed[number]
                assert await vault.shop.work()
            ended = await vault.shop.of(revision)
            assert ended.state is State.ROLLED_BACK, (number, ended)
            assert vault.state() == FIRST
            assert [restore.state for restore in await vault.restores_rows.of(SERVICE)][:1] == [Standing.DONE]
            assert len(vault.copies()) == 1
            assert vault.leftovers() == []
            await vault.shop.check()
        number += 1


def test_the_rows_that_a_database_has_are_those_of_its_tables(tmp_path: Path) -> None:
    from agent.system import sqlite

    path = tmp_path / "x.db"
    assert sqlite.rows(path) is None
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE t(id INTEGER)")
        connection.execute("INSERT INTO t VALUES(1), (2)")
    assert sqlite.rows(path) == {"t": 2}
    path.write_bytes(b"nothing that SQLite knows" * 100)
    assert sqlite.rows(path) is None
