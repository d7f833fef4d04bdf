"""`state.db`: one writing connection in one thread, whole transactions as functions, readers that only read.

- A write is a function that gets the connection and returns a value. Writes that wait together share one
  transaction (each under its own savepoint) and one fsync: group commit. When `write` returns, the value is on
  the device: WAL with synchronous=FULL (with NORMAL a power cut lost 20 of 20 commits).
- One writer only: SQLite 3.7.0 to 3.51.2 can corrupt a WAL that two connections checkpoint at once.
- An error of one function rolls back that function alone; an error of the disk fails everybody who waited. After
  one nothing is taken for granted: the file is opened, checked and rewritten anew before the next transaction.
- On a full disk a reserve is spent for what was begun; what would be a new promise is refused.
"""

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from agent.core.errors import Unavailable
from agent.core.ports import Reserve
from agent.store.opening import Gone, broken, connect, identity, open_to_write, ran_out, unreadable
from agent.store.schema import MIGRATIONS

T = TypeVar("T")
Act = Callable[[sqlite3.Connection], T]

log = logging.getLogger(__name__)

SOON_SECONDS = 2.0
"""How long a write that nobody waits for may stay in memory."""

BATCH_LIMIT = 256
"""So many writes share one transaction at most: the first of them must not wait for ever."""

REOPEN_SECONDS = 5.0
"""How long a file that failed is left alone: to open it reads all of it."""


class NoReserve:
    """A disk on which nothing was put aside."""

    short = False
    why = ""

    def spend(self) -> bool:
        """There is nothing."""
        return False

    def restore(self) -> bool:
        """Nothing is missing."""
        return True

    def ensure(self) -> None:
        """It is as it is."""


@dataclass
class _Job:
    act: Act[Any]
    future: asyncio.Future[Any] | None
    """None: nobody waits for it."""
    promise: bool = False
    """It begins something: the reserve is not for it."""
    result: Any = None
    error: BaseException | None = field(default=None)


class Database:
    """Owns the file. `open` it in the running loop before anything else, and `close` it at the end."""

    def __init__(
        self,
        path: Path,
        migrations: Sequence[Sequence[str]] = MIGRATIONS,
        reserve: Reserve | None = None,
    ) -> None:
        self._path = path
        self._migrations = migrations
        self._reserve: Reserve = reserve or NoReserve()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._writing: sqlite3.Connection | None = None
        self._identity: tuple[tuple[int, int], ...] = ()
        self._open_again = 0.0
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store-reader")
        self._reading: sqlite3.Connection | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._trouble = ""
        self._unreadable = ""

    @property
    def trouble(self) -> str:
        """Why the last transaction could not be written, or why the disk could not be read; "" if all is well. Answers
        at once."""
        return self._trouble or self._unreadable

    @property
    def short(self) -> bool:
        """Whether the reserve was needed: nothing new is promised. Answers at once."""
        return self._reserve.short

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
        return await self._put(act, promise=False)

    async def promise(self, act: Act[T]) -> T:
        """Like `write`, for what begins something: while the disk is short of space it raises Unavailable(space-low),
        so that what was begun before can be brought to its end."""
        if self._reserve.short:
            raise _short(self._reserve)
        return await self._put(act, promise=True)

    def write_soon(self, act: Act[Any]) -> None:
        """Runs `act` with the next transaction, at the latest after SOON_SECONDS; a power cut may lose it, and so does
        a disk that is short of space."""
        if not self._reserve.short:
            self._jobs.put(_Job(act, None, promise=True))

    async def _put(self, act: Act[T], *, promise: bool) -> T:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._jobs.put(_Job(act, future, promise))
        return await future

    async def read(self, act: Act[T]) -> T:
        """Runs `act` on a connection that cannot write. Raises Unavailable(store-unavailable)."""
        return await asyncio.get_running_loop().run_in_executor(self._reader, self._read, act)

    # --- the reader's thread

    def _read(self, act: Act[T]) -> T:
        try:
            if self._reading is None:
                self._reading = connect(self._path, mode="ro")
            found = act(self._reading)
        except sqlite3.Error as error:
            if unreadable(error):
                self._unreadable = str(error)
                self._close_reading()
            raise _unavailable(error) from error
        self._unreadable = ""
        return found

    def _close_reading(self) -> None:
        if self._reading is not None:
            self._reading.close()
            self._reading = None

    # --- the writer's thread

    def _work(self, opened: asyncio.Future[None]) -> None:
        try:
            self._open_first()
        except (sqlite3.Error, OSError, Unavailable, Gone) as error:
            problem = error if isinstance(error, Unavailable) else _unavailable(error)
            self._call(_fail, opened, problem)
            return
        self._call(_succeed, opened, None)
        while (batch := self._next_batch()) is not None:
            self._commit(batch)
            self._call(_settle, batch)
        if self._writing is not None:
            try:
                self._writing.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            except sqlite3.Error as error:
                log.warning("the write-ahead log stays as it is: %s", error)
            self._let_go()

    def _open_first(self) -> None:
        while True:
            try:
                self._path.touch(mode=0o600, exist_ok=True)
                self._open()
            except (sqlite3.Error, OSError) as error:
                if not (ran_out(error, opening=True) and self._reserve.spend()):
                    raise
            else:
                return

    def _open(self) -> None:
        connection = open_to_write(self._path, self._migrations)
        try:
            found = identity(self._path)
            if self._identity and found[0] != self._identity[0]:
                raise Gone(f"{self._path} was replaced while the agent was running")
        except BaseException:
            connection.close()
            raise
        self._writing, self._identity = connection, found

    def _let_go(self) -> None:
        """Closes the file; the next transaction opens it anew, after a while."""
        if self._writing is not None:
            with suppress(sqlite3.Error):  # the disk fails: there is nothing that could still be saved
                self._writing.close()
            self._writing = None
        self._open_again = time.monotonic() + REOPEN_SECONDS

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

    def _commit(self, batch: list[_Job]) -> None:
        waiting = batch
        while waiting:
            try:
                self._attempt(waiting)
            except (sqlite3.Error, OSError, Unavailable, Gone) as error:
                waiting = self._after(error, waiting)
            else:
                self._tell("")
                return

    def _attempt(self, batch: list[_Job]) -> None:
        if self._writing is None:
            if time.monotonic() < self._open_again:
                raise Unavailable("store-unavailable", self._trouble)
            self._open()
        connection = self._writing
        assert connection is not None
        connection.execute("BEGIN IMMEDIATE")
        for job in batch:
            _carry_out(connection, job)
        connection.execute("COMMIT")
        if identity(self._path) != self._identity:
            raise Gone(f"{self._path} or its log was replaced while the agent was running")

    def _after(self, error: Exception, waiting: list[_Job]) -> list[_Job]:
        """What is to be tried once more: with space from the reserve, what is no new promise."""
        if self._writing is not None and self._writing.in_transaction:
            with suppress(sqlite3.Error):  # what cannot be rolled back is let go of below
                self._writing.execute("ROLLBACK")
        if ran_out(error) and self._reserve.spend():
            for job in waiting:
                job.error = _short(self._reserve) if job.promise else None
            return [job for job in waiting if not job.promise]
        problem = error if isinstance(error, Unavailable) else _unavailable(error)
        for job in waiting:
            job.error = job.error or problem
        if not isinstance(error, Unavailable):
            if broken(error):
                self._let_go()
            self._tell(str(error))
        return []

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
    job.result, job.error = None, None
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
    unheard = [job.error for job in batch if job.future is None and job.error is not None]
    if unheard:
        log.warning("records that nobody waits for were not written (%d): %s", len(unheard), unheard[0])
    for job in batch:
        if job.future is None:
            continue
        if job.error is not None:
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


def _short(reserve: Reserve) -> Unavailable:
    return Unavailable("space-low", reserve.why)
