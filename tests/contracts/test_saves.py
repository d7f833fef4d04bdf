"""What the backups that a deployment stands on answer: `services.deployer.Saves`, the real ones and the fake."""

import asyncio
from pathlib import Path

import pytest

from agent.services.step import Saves
from agent.store.database import Database
from tests.build import a_deployment
from tests.fakes import FakeClock, FakeSaves
from tests.services.vault import Vault


@pytest.fixture(params=["archive", "fake"])
async def saves(
    request: pytest.FixtureRequest, tmp_path: Path, database: Database, clock: FakeClock
) -> Saves:
    """Each of them, for a service whose lock the caller holds."""
    if request.param == "archive":
        vault = Vault(tmp_path, database, clock)
        await vault.shop.lock.acquire()
        return vault.restores
    lock = asyncio.Lock()
    await lock.acquire()
    return FakeSaves(lock, clock)


async def test_a_backup_is_whole_was_read_back_and_says_what_it_is_for(
    saves: Saves, clock: FakeClock
) -> None:
    made = await saves.create_locked("scraper", deployment="d1", revision="a" * 40)
    assert (made.service, made.deployment, made.revision) == ("scraper", "d1", "a" * 40)
    assert (made.state, made.verified_at) == ("ok", clock.now())
    assert made.bytes > 0


async def test_each_backup_is_another_one(saves: Saves) -> None:
    """A deployment that goes on after a cut makes a fresh one."""
    ids = {(await saves.create_locked("scraper", deployment="d1")).id for _ in range(3)}
    assert len(ids) == 3


async def test_the_backup_from_before_a_migration_is_told(saves: Saves) -> None:
    """R-RB-9: by default the data stays as it is; a person may choose."""
    made = await saves.create_locked("scraper", deployment="d1")
    told = await saves.restore_locked(a_deployment(backup=made.id, migrated=True))
    assert "migrated" in told
    assert made.id in told
