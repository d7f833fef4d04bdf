"""One SQLite database, one connection in one thread; every gallery page is one transaction.

WAL lets readers (a backup, a probe) in while it writes. `synchronous=NORMAL` may lose the last pages in a
power cut, never the database: they are scraped again. An ETag is stored with its record, so that "not
modified" always means that the record is here.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from scraper.records import Workflow

SCHEMA = """
create table if not exists workflows (
    id text primary key,
    name text not null check (name <> ''),
    author text not null check (author <> ''),
    nodes integer not null check (nodes >= 0),
    views integer not null check (views >= 0),
    modified text not null check (length(modified) = 10),
    description text not null,
    url text not null,
    etag text,
    first_seen_at real not null,
    scraped_at real not null  -- seconds since 1970, UTC; grows whenever the page was seen again
);
create index if not exists workflows_scraped_at on workflows (scraped_at);
create index if not exists workflows_url on workflows (url);
"""

_UPSERT = """
insert into workflows
    (id, name, author, nodes, views, modified, description, url, etag, first_seen_at, scraped_at)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
on conflict (id) do update set
    name = excluded.name, author = excluded.author, nodes = excluded.nodes, views = excluded.views,
    modified = excluded.modified, description = excluded.description, url = excluded.url,
    etag = excluded.etag,
    scraped_at = excluded.scraped_at
"""

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, kw_only=True)
class Found:
    """A valid record, where it stood, and the ETag of that page."""

    workflow: Workflow
    url: str
    etag: str | None


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one gallery page brought: what was read, and the addresses of what had not changed."""

    found: list[Found] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """`newest` in seconds since 1970; None without records."""

    records: int
    newest: float | None


class Store:
    """The database in `directory`/scraper.db. Opened by `async with`, which also makes the schema."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "scraper.db"
        self.problem: str | None = None
        """Why the last write failed; None when it succeeded."""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite")
        self._connection: sqlite3.Connection | None = None

    async def __aenter__(self) -> Self:
        try:
            self._connection = await self._run(self._open)
        except BaseException:
            self._thread.shutdown()
            raise
        return self

    async def __aexit__(self, *problem: object) -> None:
        await self._run(self._open_connection().close)
        self._thread.shutdown()

    async def save(self, batch: Batch) -> None:
        """All of a gallery page or nothing of it. Raises sqlite3.Error."""
        try:
            await self._run(self._save, batch)
        except sqlite3.Error as error:
            self.problem = str(error)
            raise
        self.problem = None

    async def etags(self) -> dict[str, str]:
        """The ETags of the pages whose records are here, by address."""
        rows = await self._rows("select url, etag from workflows where etag is not null")
        return {row["url"]: row["etag"] for row in rows}

    async def newest(self, limit: int) -> list[dict[str, Any]]:
        """The records that were modified last."""
        rows = await self._rows(
            "select id, name, author, nodes, views, modified, description, url, scraped_at"
            " from workflows order by modified desc, id limit ?",
            limit,
        )
        return [dict(row) for row in rows]

    async def summary(self) -> Summary:
        """How many records there are, and when the newest was seen."""
        (row,) = await self._rows("select count(*) as records, max(scraped_at) as newest from workflows")
        return Summary(records=row["records"], newest=row["newest"])

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=5, isolation_level=None)
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = normal")
            connection.executescript(f"begin immediate; {SCHEMA} commit;")
        except BaseException:
            connection.close()
            raise
        return connection

    def _save(self, batch: Batch) -> None:
        connection, now = self._open_connection(), time.time()
        connection.execute("begin immediate")
        try:
            connection.executemany(_UPSERT, _rows_of(batch, now))
            connection.executemany(
                "update workflows set scraped_at = ? where url = ?", [(now, url) for url in batch.unchanged]
            )
            connection.execute("commit")
        except BaseException:
            if connection.in_transaction:
                connection.execute("rollback")
            raise

    async def _rows(self, statement: str, *values: object) -> list[sqlite3.Row]:
        return await self._run(lambda: self._open_connection().execute(statement, values).fetchall())

    def _open_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            raise RuntimeError("the store is not open: use `async with`")
        return self._connection

    async def _run(self, function: Callable[..., _Answer], *arguments: object) -> _Answer:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)


def _rows_of(batch: Batch, now: float) -> Iterable[tuple[object, ...]]:
    return [(*astuple(found.workflow), found.url, found.etag, now, now) for found in batch.found]
