"""The agent's backup store as a process of its own, one act per start: what `bench.backup` measures.

    python -m bench.keeper create|verify|restore --root DIRECTORY --service DIRECTORY --id ID [--to DIRECTORY]   -> JSON

`seconds` is the act alone, as inside the running agent; `rest` and `peak` are bytes before the act and at most.
"""

import argparse
import asyncio
import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from agent.adapters.backup import a_store, sources_of
from agent.cli.unpack import unpack
from agent.core.ports import BackupStore
from agent.core.settings import Service
from bench.processes import memory

FILES = "data"
DATABASE = "data/app.db"
SERVICE = "app"


def _create(store: BackupStore, identity: str, directory: Path) -> int:
    """Returns the bytes that it added."""
    document = {
        "source": {"repository": str(directory)}, "directory": str(directory),
        "runtime": {"kind": "process", "command": ["true"]},
        "backup": {"sources": [{"kind": "sqlite", "path": DATABASE}, {"kind": "files", "paths": [FILES]}]},
    }  # fmt: skip
    sources = sources_of(msgspec.convert(document, Service))
    made = asyncio.run(
        store.create(
            id=identity,
            service=SERVICE,
            at=datetime.now(UTC),
            sources=sources,
            deployment=None,
            revision=None,
        )
    )
    assert made.state in ("ok", "unverified"), made
    return made.stored_bytes


def _verify(store: BackupStore, identity: str) -> int:
    found = asyncio.run(store.verify(identity))
    assert found.state == "ok", found
    return 0


def _restore(store: BackupStore, identity: str, target: Path) -> int:
    with asyncio.Runner() as runner:
        pieces = aiter(store.stream(identity))

        async def piece() -> bytes | None:
            return await anext(pieces, None)

        def everything() -> Iterator[bytes]:
            while (data := runner.run(piece())) is not None:
                yield data

        return unpack(everything(), target).bytes


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("act", choices=["create", "verify", "restore"])
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--service", type=Path, required=True)
    parser.add_argument("--id", required=True)
    parser.add_argument("--to", type=Path)
    options = parser.parse_args()
    store = a_store(options.root)
    rest = memory(os.getpid())
    begun = time.perf_counter()
    if options.act == "create":
        stored = _create(store, options.id, options.service)
    elif options.act == "verify":
        stored = _verify(store, options.id)
    else:
        stored = _restore(store, options.id, options.to)
    seconds = time.perf_counter() - begun
    peak = memory(os.getpid(), "VmHWM")
    print(json.dumps({"seconds": seconds, "stored": stored, "rest": rest, "peak": peak}))


if __name__ == "__main__":
    main()
