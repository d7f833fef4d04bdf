"""The real agent with a thread beside its loop that looks at it: run as `python tests/soak/watched.py serve ...`.

Every second it appends one JSON line to WATCHED_FILE: `tasks` of the loop by name, and `lags`, milliseconds that the
loop took to get to something that it was handed, asked fifty times a second.
"""

import asyncio
import json
import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from agent.__main__ import main
from agent.system import tls

with tls.without_authorities():
    from agent.app import Agent

EVERY = 0.02
LINE_SECONDS = 1.0


def watch(loop: asyncio.AbstractEventLoop, file: Path) -> None:
    """Until the loop is closed."""
    while True:
        lags: list[float] = []
        end = time.monotonic() + LINE_SECONDS
        try:
            while time.monotonic() < end:
                asked, here = time.monotonic(), threading.Event()
                loop.call_soon_threadsafe(here.set)
                here.wait(5)
                lags.append(round((time.monotonic() - asked) * 1000, 1))
                time.sleep(EVERY)
            tasks = Counter(_name(task) for task in asyncio.all_tasks(loop))
        except RuntimeError:
            return
        with file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({"tasks": dict(tasks), "lags": lags}) + "\n")


def _name(task: "asyncio.Task[Any]") -> str:
    return str(getattr(task.get_coro(), "__qualname__", task))


async def run(self: Agent, *args: Any) -> None:
    """Agent.run, watched."""
    file = Path(os.environ["WATCHED_FILE"])
    threading.Thread(target=watch, args=(asyncio.get_running_loop(), file), daemon=True).start()
    await plain_run(self, *args)


plain_run, Agent.run = Agent.run, run  # type: ignore[method-assign, assignment]

main()
