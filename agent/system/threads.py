"""Blocking work, off the loop, in few threads: short work in one pool, long work in another, what may hang beside them.

Few, because each thread costs memory on a Pi and none of the work is parallel for its speed. Two pools, because a
switch is made of short calls and must never wait behind something that reads gigabytes. A thread cannot be
stopped: short work ends by itself, long work asks a `stop` event now and then.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Any, ParamSpec, TypeVar

SHORT, LONG = 4, 8
"""Threads. The long ones are as many as `services.backup`, `restore`, `pruning` and `drill` let begin at once, so none
of these waits for another."""

P = ParamSpec("P")
T = TypeVar("T")


@cache
def _short() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=SHORT, thread_name_prefix="homeport")


@cache
def _long() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=LONG, thread_name_prefix="homeport-long")


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls a blocking function that ends soon. A cancelled caller leaves it to its end."""
    return await asyncio.get_running_loop().run_in_executor(_short(), lambda: function(*args, **kwargs))


async def to_its_end(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Like `in_thread`, but a cancelled caller waits for the end as well: nothing goes on behind its back."""
    return await to_its_end_of(in_thread(function, *args, **kwargs))


async def to_its_end_of(act: Coroutine[Any, Any, T]) -> T:
    """The same for what is no blocking function."""
    work = asyncio.ensure_future(act)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await _ended(work)
        raise


async def until_stopped(
    stop: threading.Event, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Calls a blocking function that may take long, and that asks `stop` several times a second.

    A cancelled caller sets `stop` and waits for the end; what had not begun yet never does.
    """
    handed = _long().submit(function, *args, **kwargs)
    work = asyncio.wrap_future(handed)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        stop.set()
        handed.cancel()
        await _ended(work)
        raise


async def aside(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls a blocking function that may hang with somebody's disk: in a thread of its own, so that it takes no
    place in a pool and nothing waits for it at the agent's end. A cancelled caller leaves it behind."""
    handed: Future[T] = Future()
    handed.set_running_or_notify_cancel()

    def work() -> None:
        try:
            result = function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            handed.set_exception(error)
        else:
            handed.set_result(result)

    threading.Thread(target=work, name="homeport-aside", daemon=True).start()
    return await asyncio.wrap_future(handed)


async def _ended(work: "asyncio.Future[Any]") -> None:
    """Waits for the end, however often the caller is cancelled meanwhile. What was raised is taken."""
    while not work.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([work])
    if not work.cancelled():
        work.exception()
