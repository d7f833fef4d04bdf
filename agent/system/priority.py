"""How much a program may take from others, given without root: by the programs nice, ionice and prlimit before it.

They run the program in their own place, so that nothing between the agent and the program stays: the pid, the session
and the exit status are the program's own.
"""

import os
import resource
import shutil
from dataclasses import dataclass

from agent.system.environment import PATH

_IO = {"idle": ("-c", "3"), "low": ("-c", "2", "-n", "7")}
"""ionice(1): idle, or the last among equals (best-effort 7)."""


@dataclass(frozen=True)
class Prefix:
    """What to put before a command, and which programs for it are not there."""

    argv: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def prefix(*, nice: int = 0, io: str = "normal", memory: int | None = None) -> Prefix:
    """`nice` adds to the agent's own; `io` is idle, low or normal; `memory` is the address space of each process."""
    wanted: list[tuple[str, ...]] = []
    if nice:
        wanted.append(("nice", "-n", str(nice)))
    if io in _IO:
        wanted.append(
            ("ionice", "-t", *_IO[io])
        )  # -t: where the system does not let it, it runs all the same
    if memory is not None:
        _, most = resource.getrlimit(resource.RLIMIT_AS)  # nobody but root gets beyond its own
        limit = memory if most == resource.RLIM_INFINITY else min(memory, most)
        wanted.append(("prlimit", f"--as={limit}:{limit}"))
    found = {program: shutil.which(program, path=os.environ.get("PATH", PATH)) for program, *_ in wanted}
    argv = [word for program, *rest in wanted if (place := found[program]) for word in (place, *rest)]
    return Prefix(tuple(argv), tuple(program for program, *_ in wanted if found[program] is None))
