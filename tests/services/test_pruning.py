"""Old backups and drills, over the real store and the real journal."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from agent.core.errors import StepFailed, Unavailable
from agent.core.settings import DAY, Keep, Seconds
from agent.services.pruning import COPY_AGE
from agent.store.database import Database
from tests.fakes import FakeClock
from tests.services.vault import Vault, add, shake, texts
from tests.services.workshop import SERVICE

TIGHT = Keep(last=1, daily=0, weekly=0)


@pytest.fixture
async def vault(tmp_path: Path, database: Database, clock: FakeClock) -> Vault:
    """Keeps the last backup only."""
    made = Vault(tmp_path, database, clock)
    made.keep = TIGHT
    made.shop.hire()
    return made


async def ids(vault: Vault) -> list[str]:
    """Newest first, and the disk says the same."""
    rows = [backup.id for backup in await vault.backups.list(SERVICE)]
    assert set(rows) == await vault.restores._store.ids()
    return rows


async def test_each_new_backup_lets_the_old_ones_go_and_their_space_comes_back(vault: Vault) -> None:
    """R-BK-10."""
    sizes = []
    for number in range(5):
        shake(vault.data) if number == 0 else (vault.data / "files/b").write_bytes(bytes([number]) * 200_000)
        made = await vault.backups.create(SERVICE)
        vault.clock.advance(60)
        assert await ids(vault) == [made.id]
        sizes.append(sum(path.stat().st_size for path in (vault.root / SERVICE).rglob("*") if path.is_file()))
    assert max(sizes) < 2 * min(sizes)
    events = [event.name for event in await vault.shop.events.after(0, 1000)]
    assert events.count("backup.gone") == 4


async def test_the_backups_before_the_live_release_and_before_the_one_to_go_back_to_stay(
    tmp_path: Path, database: Database, clock: FakeClock
) -> None:
    """R-BK-10: whatever the rules say."""
    vault = Vault(tmp_path, database, clock)
    vault.keep = TIGHT
    deployed = []
    for number in range(4):
        deployed.append(await vault.shop.deploy())
        vault.clock.advance(60)
        add(vault.app, f"{number}")
    by_hand = await vault.backups.create(SERVICE)
    assert await ids(vault) == [by_hand.id, deployed[3].backup, deployed[2].backup]
    vault.clock.advance(60)
    second = await vault.backups.create(SERVICE)
    assert set(await ids(vault)) == {second.id, deployed[3].backup, deployed[2].backup}


async def test_a_dry_run_tells_what_would_go(vault: Vault) -> None:
    vault.keep = Keep(last=9)
    vault.shop.hire()
    made = []
    for _ in range(3):
        made.append((await vault.backups.create(SERVICE)).id)
        vault.clock.advance(60)
    vault.keep = TIGHT
    vault.shop.hire()
    told = await vault.pruning.prune(SERVICE, dry_run=True)
    assert [backup.id for backup in told.backups] == made[:2]
    assert (told.freed_bytes, told.dry_run) == (0, True)
    assert await ids(vault) == made[::-1]
    done = await vault.pruning.prune(SERVICE)
    assert [backup.id for backup in done.backups] == made[:2]
    assert await ids(vault) == made[2:]


@pytest.mark.parametrize("years", [-10, 10])
async def test_a_clock_that_jumps_removes_nothing(vault: Vault, years: int) -> None:
    """R-PL-7."""
    vault.keep = Keep(last=1, daily=9, weekly=0, max_age=Seconds(10 * DAY))
    vault.shop.hire()
    for _ in range(4):
        await vault.backups.create(SERVICE)
        vault.clock.advance(DAY)
    before = await ids(vault)
    vault.clock.set_wall(vault.clock.now() + timedelta(days=365 * years))
    if years < 0:
        with pytest.raises(StepFailed) as caught:
            await vault.pruning.prune(SERVICE)
        assert caught.value.code == "prune-refused"
    else:
        assert (await vault.pruning.prune(SERVICE)).backups == ()
    assert await ids(vault) == before
    await vault.backups.create(SERVICE)
    assert len(await ids(vault)) == len(before) + 1, "a backup is made all the same, and none goes for it"


async def test_who_reads_and_who_removes_keep_out_of_each_others_way(vault: Vault) -> None:
    made = await vault.backups.create(SERVICE)
    under_way = vault.backups.stream(made.id)
    await anext(under_way)
    with pytest.raises(Unavailable) as caught:
        await vault.pruning.prune(SERVICE)
    assert caught.value.code == "backup-busy"
    vault.clock.advance(60)
    await vault.backups.create(SERVICE)
    assert made.id in await ids(vault), "what is being read is removed another time"
    await under_way.aclose()
    await vault.pruning.prune(SERVICE)
    assert made.id not in await ids(vault)


async def test_nobody_reads_what_is_being_removed(vault: Vault) -> None:
    made = await vault.backups.create(SERVICE)
    vault.shop.wire.forget()
    begun, go_on = asyncio.Event(), asyncio.Event()
    really = vault.pruning._store.reclaim

    async def slow(service: str) -> int:
        begun.set()
        await go_on.wait()
        return await really(service)

    vault.pruning._store = _With(vault.pruning._store, slow)  # type: ignore[assignment]
    task = asyncio.create_task(vault.pruning.prune(SERVICE))
    await begun.wait()
    for act in (vault.backups.verify(made.id), vault.drills.drill(SERVICE), vault.backups.create(SERVICE)):
        with pytest.raises(Unavailable) as caught:
            await act
        assert caught.value.code == "backup-busy"
    go_on.set()
    await task
    assert (await vault.backups.verify(made.id)).state == "ok"


class _With:
    def __init__(self, inner: object, reclaim: object) -> None:
        self._inner = inner
        self.reclaim = reclaim

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)


async def test_a_store_whose_disk_is_missing_loses_no_row(vault: Vault) -> None:
    """F85."""
    vault.keep = Keep()
    vault.shop.hire()
    for _ in range(3):
        await vault.backups.create(SERVICE)
        vault.clock.advance(60)
    vault.keep = TIGHT
    vault.shop.hire()
    vault.root.rename(vault.root.with_name("disk"))
    await vault.pruning.tidy(SERVICE)
    assert len(await vault.backups.list(SERVICE)) == 3


async def test_what_a_restore_replaced_goes_a_day_later_when_somebody_prunes(vault: Vault) -> None:
    made = await vault.backups.create(SERVICE)
    add(vault.app, "second")
    await vault.restores.restore(made.id, actor="me")
    (kept,) = vault.copies()
    await vault.pruning.prune(SERVICE)
    assert vault.copies() == [kept]
    vault.clock.advance(COPY_AGE.total_seconds() + 1)
    assert (await vault.pruning.prune(SERVICE, dry_run=True)).copies == (str(kept),)
    assert vault.copies() == [kept]
    assert (await vault.pruning.prune(SERVICE)).copies == (str(kept),)
    assert vault.copies() == []
    assert (await vault.pruning.prune(SERVICE)).copies == ()
    assert texts(vault.app) == ["first"]


async def test_what_a_restore_replaced_does_not_go_because_the_clock_jumped(vault: Vault) -> None:
    """F53: the restore was made before the Pi had found its time server; nor after a restart under another clock."""
    made = await vault.backups.create(SERVICE)
    add(vault.app, "second")
    await vault.restores.restore(made.id, actor="me")
    (kept,) = vault.copies()
    vault.clock.set_wall(vault.clock.now() + timedelta(days=365))
    assert (await vault.pruning.prune(SERVICE)).copies == ()
    vault.pruning._seen.clear()  # as another agent, which has just begun
    assert (await vault.pruning.prune(SERVICE)).copies == ()
    assert vault.copies() == [kept]
    vault.clock.advance(COPY_AGE.total_seconds() + 1)
    assert (await vault.pruning.prune(SERVICE)).copies == (str(kept),)


# ---------------------------------------------------------------------- drills


async def test_a_drill_proves_the_newest_good_backup_and_the_status_shows_it(vault: Vault) -> None:
    """R-BK-8."""
    assert (await vault.shop.services.overview(SERVICE)).last_proven_restore is None
    made = await vault.backups.create(SERVICE)
    add(vault.app, "later")
    proof = await vault.drills.drill(SERVICE)
    assert (proof.id, proof.files, proof.at) == (made.id, 3, vault.clock.now())
    assert proof.tables == {"shared/data/app.db": {"t": 1}}
    assert proof.bytes == made.bytes
    assert (await vault.shop.services.overview(SERVICE)).last_proven_restore == proof
    assert texts(vault.app) == ["first", "later"]
    assert list((vault.root / SERVICE / "rehearsals").iterdir()) == []
    assert [event.name for event in await vault.shop.events.after(0, 1000)][-1] == "backup.proven"


async def test_a_drill_of_a_damaged_backup_fails_and_keeps_the_last_proof(vault: Vault) -> None:
    await vault.backups.create(SERVICE)
    proof = await vault.drills.drill(SERVICE)
    for path in (vault.root / SERVICE / "packs").glob("*.pack"):
        data = bytearray(path.read_bytes())
        data[150] ^= 0x41
        path.write_bytes(data)
    with pytest.raises(StepFailed) as caught:
        await vault.drills.drill(SERVICE)
    assert caught.value.code == "backup-bad"
    assert [backup.state for backup in await vault.backups.list(SERVICE)] == ["bad"]
    with pytest.raises(StepFailed) as caught:
        await vault.drills.drill(SERVICE)
    assert caught.value.code == "backup-unknown"
    assert (await vault.shop.services.overview(SERVICE)).last_proven_restore == proof


async def test_one_drill_goes_on_at_a_time(vault: Vault) -> None:
    await vault.backups.create(SERVICE)
    first = asyncio.create_task(vault.drills.drill(SERVICE))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable) as caught:
        await vault.drills.drill(SERVICE)
    assert caught.value.code == "backup-busy"
    await first
    await vault.drills.drill(SERVICE)
