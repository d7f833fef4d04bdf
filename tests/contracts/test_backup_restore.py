"""What every BackupStore promises of restores and of the space of what nobody needs, over the agent's own archive."""

import hashlib
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from agent.adapters.backup import a_store, packing, reclaim
from agent.adapters.backup.archive import ArchiveStore
from agent.adapters.backup.codec import Damaged
from agent.adapters.backup.files import Tree
from agent.adapters.backup.sqlite import SqliteDatabase
from agent.core.errors import StepFailed, Unavailable
from agent.core.ports import BackupSource, BackupStore
from agent.system.files import Free
from tests.contracts.test_backup_store import contents, files_of, flip, listed, save, sources, tar_of
from tests.fakes import START
from tests.services.workshop import Killed

PARTS = ("shared/data.db", "shared/data")


def targets(base: Path) -> dict[str, Path]:
    base.mkdir()
    return {"shared/data.db": base / "data.db", "shared/data": base / "data"}


def described(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything below a path: kind, mode, time, content."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted([root, *root.rglob("*")]):
        status = path.lstat()
        content: object = path.readlink() if path.is_symlink() else None
        if path.is_file() and not path.is_symlink():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        mode = 0 if path.is_symlink() else status.st_mode
        found[str(path.relative_to(root))] = (mode, status.st_mtime_ns, content)
    return found


def counts(database: Path) -> int:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM t").fetchone()[0])


# ---------------------------------------------------------------------- laid out


async def test_what_is_laid_out_is_what_was_saved(store: BackupStore, service: Path, tmp_path: Path) -> None:
    """R-BK-7: also modes, times, links and empty directories."""
    (service / "shared/data/a.txt").chmod(0o640)
    (service / "shared/data/empty").chmod(0o2770)
    os.utime(service / "shared/data/a.txt", ns=(1, 123456789012345678))
    made = await save(store, service)
    held = await store.lay_out("one", made.digest, targets(tmp_path / "to"))
    assert described(tmp_path / "to" / "data") == described(service / "shared/data")
    assert counts(tmp_path / "to" / "data.db") == 3000
    assert [(part.path, part.files) for part in held.parts] == [("shared/data.db", 1), ("shared/data", 3)]
    assert held.tables == {"shared/data.db": {"t": 3000}}
    assert held.bytes == made.bytes
    assert await store.contents("one", made.digest, PARTS) == held


async def test_a_link_that_leads_out_stays_a_link_and_is_never_written_through(
    store: BackupStore,
    service: Path,
    tmp_path: Path,
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (service / "shared/data/out").symlink_to(outside)
    (service / "shared/data/up").symlink_to("../../..")
    made = await save(store, service)
    await store.lay_out("one", made.digest, targets(tmp_path / "to"))
    assert (tmp_path / "to/data/out").readlink() == outside
    assert list(outside.iterdir()) == []


async def test_a_linked_database_that_a_source_names_is_in_the_backup_once(
    store: BackupStore,
    service: Path,
    tmp_path: Path,
) -> None:
    """Its name in the tree is a link; a restore must not meet it twice."""
    (service / "shared/data.db").rename(tmp_path / "elsewhere.db")
    (service / "shared/data/app.db").symlink_to(tmp_path / "elsewhere.db")
    app = service / "shared/data/app.db"
    wish: list[BackupSource] = [
        SqliteDatabase(service, "shared/data/app.db"), Tree(service, "shared/data", [app]),
    ]  # fmt: skip
    made = await save(store, service, sources=wish)
    assert list(contents(await tar_of(store))).count("shared/data/app.db") == 1
    (tmp_path / "to").mkdir()
    await store.lay_out("one", made.digest, {"shared/data": tmp_path / "to" / "data"})
    assert counts(tmp_path / "to/data/app.db") == 3000


async def test_what_is_written_wrongly_is_found_before_it_counts(
    store: BackupStore,
    service: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """R-BK-7: it is read back from the device, whatever the write said."""
    made = await save(store, service)
    really = os.utime

    def spoil(path: Path, *, ns: tuple[int, int], follow_symlinks: bool) -> None:
        if path.name == "large":
            flip(path, 1000)
        really(path, ns=ns, follow_symlinks=follow_symlinks)

    monkeypatch.setattr("agent.adapters.backup.layout.os.utime", spoil)
    with pytest.raises(StepFailed) as caught:
        await store.lay_out("one", made.digest, targets(tmp_path / "to"))
    assert caught.value.code == "backup-bad"
    assert "read back" in caught.value.message


async def test_a_damaged_or_exchanged_backup_is_not_laid_out(
    store: BackupStore,
    service: Path,
    root: Path,
    tmp_path: Path,
) -> None:
    made = await save(store, service)
    with pytest.raises(StepFailed) as caught:
        await store.lay_out("one", "0" * 64, targets(tmp_path / "other"))
    assert caught.value.code == "backup-bad"
    (pack,) = (root / "scraper" / "packs").iterdir()
    flip(pack, 5000)
    with pytest.raises(StepFailed) as caught:
        await store.lay_out("one", made.digest, targets(tmp_path / "to"))
    assert caught.value.code == "backup-bad"


async def test_too_little_room_is_found_before_a_byte_is_written(
    service: Path, root: Path, tmp_path: Path
) -> None:
    """F87."""
    store = a_store(root)
    made = await save(store, service)
    for room in (Free(2 * 1024 * 1024, None), Free(1 << 40, 10)):
        small = ArchiveStore(root, space=lambda _, room=room: room)  # type: ignore[misc]
        base = tmp_path / str(room.bytes)
        with pytest.raises(StepFailed) as caught:
            await small.lay_out("one", made.digest, targets(base))
        assert caught.value.code == "restore-place"
        assert list(base.iterdir()) == []


async def test_a_rehearsal_proves_and_leaves_nothing(store: BackupStore, service: Path, root: Path) -> None:
    """R-BK-8."""
    made = await save(store, service)
    before = files_of(root)
    held = await store.rehearse("one", made.digest)
    assert (held.files, held.tables) == (4, {"shared/data.db": {"t": 3000}})
    assert files_of(root) == before
    (root / "scraper/rehearsals/left/by/a/cut").mkdir(parents=True)
    await store.sweep()
    assert list((root / "scraper/rehearsals").iterdir()) == []


async def test_a_backup_that_was_moved_under_another_service_is_bad(
    store: BackupStore,
    service: Path,
    root: Path,
) -> None:
    """R-BK-6, F86."""
    made = await save(store, service)
    (root / "scraper").rename(root / "other")
    found = await store.verify("one", made.digest)
    assert (found.state, found.reason) == ("bad", "it is a backup of scraper")


async def test_a_backup_of_a_newer_format_is_refused_with_the_reason(
    store: BackupStore,
    service: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """F86."""
    monkeypatch.setattr("agent.adapters.backup.archive.manifest.FORMAT", 2)
    made = await save(store, service)
    monkeypatch.undo()
    found = await store.verify("one", made.digest)
    assert found.state == "bad"
    assert "newer than this version" in found.reason
    with pytest.raises(StepFailed) as caught:
        await store.contents("one", made.digest, PARTS)
    assert "newer than this version" in caught.value.message


# ---------------------------------------------------------------------- space


def used(root: Path) -> int:
    return sum(path.stat().st_size for path in files_of(root))


@pytest.fixture
def small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several packs a backup, without writing 32 MiB for each."""
    monkeypatch.setattr(packing, "PACK_BYTES", 200_000)
    monkeypatch.setattr(packing, "FRAME_BYTES", 20_000)


async def generations(store: BackupStore, service: Path, count: int) -> list[str]:
    """Backups of files of which each time some change."""
    digests = []
    for number in range(count):
        for name in ("large", *(f"f{n}" for n in range(number % 3 + 1))):
            (service / "shared/data" / name).write_bytes(os.urandom(300_000 if name == "large" else 60_000))
        digests.append(
            (await save(store, service, id=f"g{number}", at=START + timedelta(hours=number))).digest
        )
    return digests


async def test_space_comes_back_and_what_is_listed_stays_whole(
    store: BackupStore,
    service: Path,
    root: Path,
    small_packs: None,
) -> None:
    """R-BK-10, F14."""
    digests = await generations(store, service, 6)
    before = used(root)
    assert await store.reclaim("scraper") == 0, "nothing was forgotten"
    await store.forget(["g0", "g1", "g3", "nobody"])
    freed = await store.reclaim("scraper")
    assert {backup.id for backup in await listed(store)} == {"g2", "g4", "g5"}
    assert before - used(root) >= freed > 900_000
    for number in (2, 4, 5):
        assert (await store.verify(f"g{number}", digests[number])).state == "ok"
    assert await store.reclaim("scraper") == 0
    assert (await save(store, service, id="next")).stored_bytes < 8000, (
        "and the next one builds on what is left"
    )


async def test_a_pack_that_is_mostly_dead_is_written_anew(
    store: BackupStore,
    service: Path,
    root: Path,
) -> None:
    """One living file in a pack of dead ones: the pack goes, the file stays."""
    (service / "shared/data/large").write_bytes(os.urandom(3_000_000))
    await save(store, service)
    (service / "shared/data/large").write_bytes(os.urandom(1000))
    second = await save(store, service, id="two")
    before = used(root)
    await store.forget(["one"])
    freed = await store.reclaim("scraper")
    assert freed > 2_500_000
    assert before - used(root) > 2_500_000
    assert (await store.verify("two", second.digest)).state == "ok"
    assert contents(await tar_of(store, "two"))["shared/data/a.txt"] == b"hello"


async def test_a_run_rewrites_a_bounded_amount_and_the_next_one_goes_on(
    store: BackupStore,
    service: Path,
    root: Path,
    small_packs: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reclaim, "REWRITTEN_AT_ONCE", 1)
    data = service / "shared/data"
    for name in range(20):
        (data / f"{name:02}-keep").write_bytes(os.urandom(8_000))
        (data / f"{name:02}-lose").write_bytes(os.urandom(60_000))
    await save(store, service)
    for name in range(20):
        (data / f"{name:02}-lose").unlink()
    second = await save(store, service, id="two")
    await store.forget(["one"])
    runs = 0
    while (root / "scraper/untidy").exists():
        await store.reclaim("scraper")
        assert (await store.verify("two", second.digest)).state == "ok"
        runs += 1
        assert runs < 20
    assert runs > 2
    assert used(root / "scraper/packs") < 1_100_000


def at_each(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Killed at the n-th file that is removed or renamed."""
    left = [number]

    def deadly(really: Callable[..., object]) -> Callable[..., object]:
        def act(path: Path, *rest: object, **options: object) -> object:
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            return really(path, *rest, **options)

        return act

    for name in ("unlink", "replace", "rename"):
        monkeypatch.setattr(Path, name, deadly(getattr(Path, name)))


async def test_cut_off_at_any_file_no_listed_backup_lacks_data_and_the_space_comes_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_packs: None
) -> None:
    """F14: a power cut during pruning."""
    number, died = 0, True
    sizes = set()
    while died:
        number += 1
        base = tmp_path / str(number)
        data = base / "service/shared/data"
        data.mkdir(parents=True)
        one = a_store(base / "backups")
        wish: list[BackupSource] = [Tree(base / "service", "shared/data")]
        digests = {}
        for generation in range(3):
            for name in range(8):
                if name >= generation:
                    (data / f"f{name}").write_bytes(bytes([generation, name]) + os.urandom(20_000))
            made = await save(one, base / "service", id=f"g{generation}", sources=wish)
            digests[f"g{generation}"] = made.digest
        died = False
        with monkeypatch.context() as patched:
            at_each(patched, number)
            try:
                await one.forget(["g0", "g1"])
                await one.reclaim("scraper")
            except Killed:
                died = True
        again = a_store(base / "backups")
        await again.sweep()
        for known in await again.ids():
            assert (await again.verify(known, digests[known])).state == "ok", (number, known)
        await again.forget(["g0", "g1"])
        await again.reclaim("scraper")
        assert await again.ids() == {"g2"}
        assert (await again.verify("g2", digests["g2"])).state == "ok"
        sizes.add(used(base / "backups") // 30_000)
        assert not [path for path in files_of(base / "backups") if path.name.endswith(".partial")]
    assert number > 5
    assert len(sizes) <= 2, "whatever was cut off, the same is left in the end"


async def test_while_a_manifest_does_not_read_no_pack_is_removed(
    store: BackupStore,
    service: Path,
    root: Path,
) -> None:
    """Nobody knows what it needs: its bytes may yet be repaired by hand."""
    await generations(store, service, 3)
    (path,) = (root / "scraper/manifests").glob("*-g1.*")
    whole = path.read_bytes()
    flip(path, 100)
    packs = files_of(root / "scraper/packs")
    await store.forget(["g0"])
    with pytest.raises(StepFailed) as caught:
        await store.reclaim("scraper")
    assert caught.value.code == "backup-bad"
    assert files_of(root / "scraper/packs") == packs
    path.write_bytes(whole)
    assert await store.reclaim("scraper") > 0
    assert (await store.verify("g1")).state == "ok"


async def test_a_pack_whose_living_pieces_do_not_read_stays(
    store: BackupStore,
    service: Path,
    root: Path,
) -> None:
    (service / "shared/data/large").write_bytes(os.urandom(3_000_000))
    await save(store, service)
    (service / "shared/data/large").write_bytes(b"small")
    await save(store, service, id="two")
    (largest,) = [path for path in files_of(root / "scraper/packs") if path.stat().st_size > 2_000_000]
    flip(largest, 100)  # where the database's first pages lie, which both need
    await store.forget(["one"])
    await store.reclaim("scraper")
    assert largest.exists()


async def test_what_was_rewritten_is_read_back_before_the_old_goes(
    store: BackupStore,
    service: Path,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (service / "shared/data/large").write_bytes(os.urandom(3_000_000))
    await save(store, service)
    (service / "shared/data/large").write_bytes(b"small")
    second = await save(store, service, id="two")
    await store.forget(["one"])

    def torn(path: Path, stopped: object) -> None:
        raise Damaged(f"{path.name} is torn")

    with monkeypatch.context() as patched:
        patched.setattr(reclaim, "_read_back", torn)
        with pytest.raises(StepFailed):
            await store.reclaim("scraper")
    assert not list((root / "scraper/packs").glob("tidy-*"))
    assert (await store.verify("two", second.digest)).state == "ok"
    assert await store.reclaim("scraper") > 2_500_000
    assert (await store.verify("two", second.digest)).state == "ok"


async def test_nothing_is_rewritten_where_there_is_no_room_for_it(service: Path, root: Path) -> None:
    store = ArchiveStore(root)
    (service / "shared/data/large").write_bytes(os.urandom(3_000_000))
    await save(store, service)
    (service / "shared/data/large").write_bytes(b"small")
    second = await save(store, service, id="two")
    full = ArchiveStore(root, space=lambda _: Free(1000, None))
    await full.forget(["one"])
    assert await full.reclaim("scraper") == 0
    assert (await store.verify("two", second.digest)).state == "ok"
    assert await store.reclaim("scraper") > 2_500_000, "it is done when there is room again"


async def test_another_process_that_writes_keeps_pruning_out(
    store: BackupStore,
    service: Path,
    root: Path,
) -> None:
    """R-BK-12."""
    import fcntl

    await save(store, service)
    with (root / "scraper/lock").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Unavailable) as caught:
            await store.forget(["one"])
        assert caught.value.code == "backup-busy"
    await store.forget(["one"])
    assert await store.ids() == frozenset()
    assert sources(service)
