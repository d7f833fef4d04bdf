"""The real agent under a clock that jumps: run as `python tests/crash/jumping.py serve ...`.

JUMPING_FILE holds `{"at": STATE, "to": SECONDS, "after": SECONDS}`: so long after a deployment has entered that state
the clock on the wall is so many seconds off; `"at": "boot"` is so from the start. The monotonic clock goes on, as a
kernel's does.
"""

import asyncio
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from agent.__main__ import main
from agent.core.model import Deployment, State
from agent.store.journal import Journal
from agent.system.clock import SystemClock

off = timedelta(0)


def jump(place: str) -> None:
    """If the file says that it is here."""
    wanted = json.loads(Path(os.environ["JUMPING_FILE"]).read_text(encoding="utf-8"))
    if wanted["at"] == place and wanted["after"]:
        asyncio.get_running_loop().call_later(wanted["after"], set_off, wanted["to"])
    elif wanted["at"] == place:
        set_off(wanted["to"])


def set_off(seconds: float) -> None:
    """From now on."""
    global off  # noqa: PLW0603 - this module is the process
    off = timedelta(seconds=seconds)


def now(self: SystemClock) -> datetime:
    """The clock on the wall."""
    return datetime.now(UTC) + off


async def advance(self: Journal, deployment: Deployment, to: State, *args: Any) -> Deployment:
    """Journal.advance, and the jump behind it."""
    advanced = await plain_advance(self, deployment, to, *args)
    jump(advanced.state)
    return advanced


async def claim(self: Journal, *args: Any, **kwargs: Any) -> Deployment | None:
    """Journal.claim, and the jump behind it."""
    claimed = await plain_claim(self, *args, **kwargs)
    if claimed is not None:
        jump(claimed.state)
    return claimed


SystemClock.now = now  # type: ignore[method-assign]
plain_advance, Journal.advance = Journal.advance, advance  # type: ignore[method-assign, assignment]
plain_claim, Journal.claim = Journal.claim, claim  # type: ignore[method-assign]
jump("boot")

main()
