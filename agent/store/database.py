"""`state.db`: one writing connection in one thread, whole transactions as functions, readers that only read.

- A write is a function that gets the connection and returns a value. Writes that wait together share one
  transaction (each under its own savepoint) and one fsync: group commit. When `write` returns, the value is on
  the device: WAL with synchronous=FULL (with NORMAL a power cut lost 20 of 20 commits).
- One writer only: SQLite 3.7.0 to 3.51.2 can corrupt a WAL that two connections checkpoint at once.
- An error of one function rolls back that function alone; an error of the disk fails everybody who waited.
"""

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from agent.core.errors import Unavailable
from agent.store.schema import MIGRATIONS

T = TypeVar("T")
Act = Callable[[sqlite3.Connection], T]

log = logging.getLogger(__name__)

SOON_SECONDS = 2.0
"""How long a write that nobody waits for may stay in memory."""

BATCH_LIMIT = 256
"""So many writes share one transaction at most: the first of them must not wait for ever."""

CACHE_KIBIBYTES = 512
"""Of each connection, of which SQLite would take 2 MB. The system keeps the file's pages in its own cache, too."""


@dataclass
class _Job:
    act: Act[Any]
    future: asyncio.Future[Any] | None
    """None: nobody waits for it."""
    result: Any = None
    error: BaseException | None = field(default=None)


class Database:
    """Owns the file. `open` it in the running loop before anything else, and `close` it at the end."""

    def __init__(self, path: Path, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
        self._path = path
        self._migrations = migrations
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store-reader")
        self._reading: sqlite3.Connection | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._trouble = ""

    @property
    def trouble(self) -> str:
        """Why the last transaction could not be written; "" if it was. Answers at once."""
        return self._trouble

    async def open(self) -> None:
        """Opens and migrates the file. Raises Unavailable: store-unavailable, state-too-new."""
        self._loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = self._loop.create_future()
        self._writer = threading.Thread(target=self._work, args=(opened,), name="store-writer", daemon=True)
        self._writer.start()
        await opened

    async def close(self) -> None:
        """Finishes what waits, folds the WAL into the file, and ends both threads."""
        if self._writer is not None:
            self._jobs.put(None)
            await asyncio.get_running_loop().run_in_executor(self._reader, self._writer.join)
            self._writer = None
        await asyncio.get_running_loop().run_in_executor(self._reader, self._close_reading)
        self._reader.shutdown()

    async def write(self, act: Act[T]) -> T:
        """Runs `act` in a transaction; what it did is durable when this returns. Raises what `act` raised, or
        Unavailable(store-unavailable). It is carried out also if the caller is cancelled meanwhile."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._jobs.put(_Job(act, future))
        return await future

    def write_soon(self, act: Act[Any]) -> None:
        """Runs `act` with the next transaction, at the latest after SOON_SECONDS; a power cut may lose it."""
        self._jobs.put(_Job(act, None))

    async def read(self, act: Act[T]) -> T:
        """Runs `act` on a connection that cannot write. Raises Unavailable(store-unavailable)."""
        return await asyncio.get_running_loop().run_in_executor(self._reader, self._read, act)

    # --- the reader's thread

    def _read(self, act: Act[T]) -> T:
        try:
            if self._reading is None:
                self._reading = _connect(f"{self._path.absolute().as_uri()}?mode=ro", reading=True)
            return act(self._reading)
        except sqlite3.Error as error:
            raise _unavailable(error) from error

    def _close_reading(self) -> None:
        if self._reading is not None:
            self._reading.close()
            self._reading = None

    # --- the writer's thread

    def _work(self, opened: asyncio.Future[None]) -> None:
        try:
            connection = _open(self._path, self._migrations)
        except (sqlite3.Error, OSError, Unavailable) as error:
            problem = error if isinstance(error, Unavailable) else _unavailable(error)
            self._call(_fail, opened, problem)
            return
        self._call(_succeed, opened, None)
        with closing(connection):
            while (batch := self._next_batch()) is not None:
                self._commit(connection, batch)
                self._call(_settle, batch)
            try:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            except sqlite3.Error as error:
                log.warning("the write-ahead log stays as it is: %s", error)

    def _next_batch(self) -> list[_Job] | None:
        """Everything that waits now; a batch of nothing but `write_soon` waits a little for company."""
        job = self._jobs.get()
        batch: list[_Job] = []
        urgent = False
        deadline = time.monotonic() + SOON_SECONDS
        while job is not None:
            batch.append(job)
            urgent = urgent or job.future is not None
            if len(batch) == BATCH_LIMIT:
                return batch
            try:
                patience = 0.0 if urgent else max(0.0, deadline - time.monotonic())
                job = self._jobs.get(timeout=patience) if patience else self._jobs.get_nowait()
            except queue.Empty:
                return batch
        if batch:
            self._jobs.put(None)  # the end was asked for behind this batch
            return batch
        return None

    def _commit(self, connection: sqlite3.Connection, batch: list[_Job]) -> None:
        try:
            connection.execute("BEGIN IMMEDIATE")
            for job in batch:
                _carry_out(connection, job)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            problem = _unavailable(error)
            for job in batch:
                job.error = job.error or problem
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._tell(str(error))
        else:
            self._tell("")

    def _tell(self, trouble: str) -> None:
        """Once when it begins and once when it is over: the log lies on the same disk, perhaps."""
        if bool(trouble) != bool(self._trouble):
            log.warning("the state %s", f"cannot be written: {trouble}" if trouble else "is written again")
        self._trouble = trouble

    def _call(self, function: Callable[..., None], *args: object) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            log.warning("the loop ended before a write was reported; the write itself is durable")


def _carry_out(connection: sqlite3.Connection, job: _Job) -> None:
    """One function under its own savepoint. Errors of the database go up: they concern the whole batch."""
    connection.execute("SAVEPOINT act")
    try:
        job.result = job.act(connection)
    except sqlite3.IntegrityError as error:
        job.error = error
    except sqlite3.Error:
        raise
    except Exception as error:  # noqa: BLE001 - handed to whoever waits for this act, who handles it
        job.error = error
    if job.error is not None:
        connection.execute("ROLLBACK TO act")
    connection.execute("RELEASE act")


def _settle(batch: list[_Job]) -> None:
    for job in batch:
        if job.future is None:
            if job.error is not None:
                log.warning("a record that nobody waits for was not written: %s", job.error)
        elif job.error is not None:
            _fail(job.future, job.error)
        else:
            _succeed(job.future, job.result)


def _succeed(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def _unavailable(error: BaseException) -> Unavailable:
    return Unavailable("store-unavailable", f"the state cannot be read or written: {error}")


def _connect(where: str, *, reading: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(where, uri=True, isolation_level=None, check_same_thread=False, timeout=5.0)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIBIBYTES:d}")
    if reading:
        connection.execute("PRAGMA query_only = ON")
    return connection


def _open(path: Path, migrations: Sequence[Sequence[str]]) -> sqlite3.Connection:
    path.touch(mode=0o600, exist_ok=True)
    connection = _connect(path.absolute().as_uri(), reading=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 1000")
        connection.execute("PRAGMA journal_size_limit = 4194304")
        answer = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if answer != "ok":
            raise sqlite3.DatabaseError(f"{path.name} is damaged: {answer}")
        _migrate(connection, path, migrations)
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[Sequence[str]]) -> None:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > len(migrations):
        raise Unavailable(
            "state-too-new", f"{path} has version {version}; this agent knows up to {len(migrations)}"
        )
    if 0 < version < len(migrations):
        with closing(sqlite3.connect(path.with_name(f"{path.name}.version-{version}"))) as copy:
            connection.backup(copy)
    for number, statements in enumerate(migrations[version:], start=version + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number:d}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
