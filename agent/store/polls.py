"""What a poll asks of the journal, and what it queues. A poll that finds nothing new writes nothing."""

import sqlite3

from agent.core import polling
from agent.core.model import Trigger
from agent.core.ports import Clock
from agent.store.admission import Wish, place
from agent.store.database import Database
from agent.store.rows import deployment_of

SHORT = "not queued: the disk of the state is too full"

_ENDED = 20
"""So many of a tip's deployments decide about it: more than are ever tried."""


class Polls:
    """The polls of all services."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def found(self, service: str, tip: str, config_hash: str) -> str:
        """Queues the tip, unless something speaks against it; returns what that is, as a sentence, or "". A transaction
        that changes nothing costs the disk nothing."""
        now = self._clock.now()
        if self._database.short:
            return SHORT

        def act(connection: sqlite3.Connection) -> str:
            reason = polling.reason_against(tip, _known(connection, service, tip, config_hash))
            if not reason:
                wish = Wish(service=service, revision=tip, config_hash=config_hash)
                place(connection, wish, Trigger(kind="poll"), now)
            return reason

        return await self._database.promise(act)


def _known(connection: sqlite3.Connection, service: str, tip: str, config_hash: str) -> polling.Known:
    def one(query: str, *values: object) -> sqlite3.Row | None:
        row: sqlite3.Row | None = connection.execute(f"{query} LIMIT 1", values).fetchone()
        return row

    row = one("SELECT live_revision, held_since FROM services WHERE name = ?", service)
    quarantined = one(
        "SELECT 1 FROM quarantine WHERE service = ? AND revision = ? AND config_hash = ?",
        service, tip, config_hash,
    )  # fmt: skip
    coming = one(
        "SELECT 1 FROM deployments WHERE service = ? AND finished_at IS NULL"
        " AND (revision = ? OR (state = 'queued' AND requested IS NULL AND target IS NULL))",
        service, tip,
    )  # fmt: skip
    last = one(
        "SELECT kind, requested, target FROM deployments WHERE service = ? AND state = 'succeeded' AND reason = ''"
        " ORDER BY number DESC",
        service,
    )
    ended = connection.execute(
        "SELECT * FROM deployments WHERE service = ? AND revision = ? AND config_hash = ?"
        " AND target IS NULL AND finished_at IS NOT NULL ORDER BY number DESC LIMIT ?",
        (service, tip, config_hash, _ENDED),
    ).fetchall()
    return polling.Known(
        live=row["live_revision"] if row else None,
        held=row is not None and row["held_since"] is not None,
        quarantined=quarantined is not None,
        coming=coming is not None,
        chosen=last is not None
        and last["kind"] == "manual"
        and (last["requested"] or last["target"]) is not None,
        ended=[deployment_of(item) for item in ended],
    )
