"""A service whose data is real: files and a SQLite database in a directory, the real store of backups and the real
journal, under the workshop's fakes of what runs. The service is well only with the data that it can read."""

import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from agent.adapters.backup import Place, a_store
from agent.adapters.backup.files import Tree
from agent.adapters.backup.sqlite import SqliteDatabase
from agent.core.model import Launch, Running
from agent.core.ports import BackupSource
from agent.core.settings import Keep
from agent.services.backup import Backups, Readers
from agent.services.drill import Drills
from agent.services.pruning import Pruning
from agent.services.restore import Restores
from agent.store.backups import BackupRows
from agent.store.database import Database
from agent.store.restores import RestoreRows
from tests.fakes import FakeClock, FakeDisk, FakeRuntime
from tests.services.workshop import SERVICE, Workshop


class Reading(FakeRuntime):
    """A process that dies at its start if its data is not what it understands, and that writes when it starts."""

    def __init__(self, disk: FakeDisk, database: Path) -> None:
        super().__init__(disk)
        self._database = database
        self.understands = {1, 2}
        """The `user_version`s of databases with which it can live."""
        self.writes = True

    async def start(self, launch: Launch) -> Running:
        running = await super().start(launch)
        if not self._database.exists() or version(self._database) not in self.understands:
            self.moods[launch.release] = "crash"
        else:
            self.moods.pop(launch.release, None)
            if self.writes:
                add(self._database, f"started as {running.instance}")
        return running


def version(database: Path) -> int:
    with closing(sqlite3.connect(database)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def add(database: Path, text: str) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("INSERT INTO t(text) VALUES(?)", (text,))


def migrate(database: Path, to: int) -> None:
    """What a bad version does to the data: the old one cannot read it any more."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("DELETE FROM t")
        connection.execute(f"PRAGMA user_version = {to}")


def texts(database: Path) -> list[str]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return [row[0] for row in connection.execute("SELECT text FROM t ORDER BY id")]


class Vault:
    """The workshop and its data. `hire` makes the parts anew, as a start of the agent does."""

    def __init__(self, base: Path, database: Database, clock: FakeClock, **settings: Any) -> None:
        self.directory = base / "service"
        self.data = self.directory / "shared" / "data"
        self.app = self.data / "app.db"
        (self.data / "files").mkdir(parents=True)
        (self.data / "files" / "a").write_bytes(b"first\n" * 3000)
        (self.data / "link").symlink_to("files/a")
        with closing(sqlite3.connect(self.app)) as connection, connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT)")
            connection.execute("PRAGMA user_version = 1")
        add(self.app, "first")
        self.root = base / "backups"
        self.clock = clock
        self.sources: list[BackupSource] = [
            SqliteDatabase(self.directory, "shared/data/app.db"),
            Tree(self.directory, "shared/data", [self.app]),
        ]
        self.keep = Keep()
        self.shop = Workshop(database, clock, **settings)
        self.runtime = self.shop.runtime = Reading(self.shop.disk, self.app)
        self.rows, self.restores_rows = BackupRows(database, clock), RestoreRows(database, clock)
        self.shop.data = self.hire
        self.shop.settle = lambda: self.restores.recover(SERVICE)
        self.shop.hire()

    def hire(self) -> Restores:
        """The data floor of a new agent, everything wired."""
        shop, wired = self.shop, self.shop._wired
        readers, locks = Readers(), {SERVICE: shop.lock}
        store = wired("store", a_store(self.root))
        places = {SERVICE: wired("place", Place(self.directory))}
        restores, rows = wired("restores", self.restores_rows), wired("rows", self.rows)
        self.pruning = Pruning(
            store=store, rows=rows, restores=restores, journal=shop.journal, services=shop.services,
            keep={SERVICE: self.keep}, places=places, locks=locks, readers=readers, clock=self.clock,
        )  # fmt: skip
        self.backups = Backups(
            store=store, sources={SERVICE: self.sources}, rows=rows, locks=locks, clock=self.clock,
            readers=readers, tidy=self.pruning.tidy,
        )  # fmt: skip
        self.restores = Restores(
            sites={SERVICE: shop.site}, places=places, store=store, backups=self.backups, pruning=self.pruning,
            sources={SERVICE: tuple(source.source for source in self.sources)}, rows=restores,
            services=shop.services, locks=locks, clock=self.clock,
        )  # fmt: skip
        self.drills = Drills(
            store=store, backups=self.backups, rows=restores, readers=readers, clock=self.clock
        )
        return self.restores

    def leftovers(self) -> list[str]:
        """What no finished restore leaves beside the data."""
        return [str(path) for path in self.directory.rglob("*") if ".partial" in path.name]

    def copies(self) -> list[Path]:
        """What restores replaced."""
        return sorted(self.directory.rglob("*.pre-restore-*"))

    def state(self) -> dict[str, object]:
        """The data as the service sees it."""
        found: dict[str, object] = {}
        for path in sorted(self.data.rglob("*")):
            if path.is_symlink():
                found[path.name] = str(path.readlink())
            elif path.is_file() and not path.name.startswith("app.db"):
                found[path.name] = path.read_bytes()
        return found | {"texts": [text for text in texts(self.app) if not text.startswith("started")]}


@asynccontextmanager
async def a_vault(base: Path, clock: FakeClock | None = None, **settings: Any) -> AsyncIterator[Vault]:
    """A vault with a state.db of its own."""
    os.makedirs(base, exist_ok=True)  # noqa: PTH103 - pathlib's is refused in coroutines
    database = Database(base / "state.db")
    await database.open()
    try:
        yield Vault(base, database, clock or FakeClock(), **settings)
    finally:
        await database.close()


def shake(data: Path) -> None:
    """Other data than before: a file gone, one new, one changed."""
    (data / "files" / "a").write_bytes(b"second")
    (data / "files" / "b").write_bytes(os.urandom(10))
    (data / "link").unlink()
