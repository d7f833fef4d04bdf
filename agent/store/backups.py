"""The list of backups, for quick answers. The manifests on the disk are the truth; `adopt` at start aligns it."""

import sqlite3
from collections.abc import Collection

import msgspec

from agent.core.model import Backup
from agent.core.ports import Clock
from agent.store import events
from agent.store.database import Database
from agent.store.rows import micros


class BackupRows:
    """One row a backup."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def record(self, backup: Backup) -> None:
        """Inserts or replaces the row, with an event `backup.<state>`; durable when it returns."""

        def act(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO backups(id, service, at, body) VALUES(?, ?, ?, ?)"
                " ON CONFLICT(id) DO UPDATE SET body = excluded.body",
                (backup.id, backup.service, micros(backup.at), msgspec.json.encode(backup).decode()),
            )
            events.append(
                connection,
                f"backup.{backup.state}",
                self._clock.now(),
                service=backup.service,
                deployment=backup.deployment,
                data={"backup": backup.id, "bytes": backup.bytes, "stored_bytes": backup.stored_bytes},
            )

        await self._database.write(act)

    async def forget(self, id: str) -> None:
        """Removes the row of a backup that is no longer there, with an event."""
        now = self._clock.now()

        def act(connection: sqlite3.Connection) -> None:
            row = connection.execute("DELETE FROM backups WHERE id = ? RETURNING service", (id,)).fetchone()
            if row is not None:
                events.append(connection, "backup.gone", now, service=row["service"], data={"backup": id})

        await self._database.write(act)

    async def needed(self, service: str, releases: Collection[str]) -> frozenset[str]:
        """The backups that stay whatever the rules say: those made before one of these releases went live, and those
        that an unfinished deployment or restore rests on."""

        def act(connection: sqlite3.Connection) -> frozenset[str]:
            deployed = connection.execute(
                "SELECT backup FROM deployments WHERE service = ? AND backup IS NOT NULL"
                " AND (finished_at IS NULL OR release IN (SELECT value FROM json_each(?)))",
                (service, msgspec.json.encode(sorted(releases)).decode()),
            ).fetchall()
            restoring = connection.execute(
                "SELECT json_extract(body, '$.backup') FROM restores WHERE service = ?"
                " AND state NOT IN ('done', 'put_back', 'failed')",
                (service,),
            ).fetchall()
            return frozenset(row[0] for row in (*deployed, *restoring))

        return await self._database.read(act)

    async def find(self, id: str) -> Backup | None:
        """One backup, or None."""
        row = await self._database.read(
            lambda connection: connection.execute("SELECT body FROM backups WHERE id = ?", (id,)).fetchone()
        )
        return None if row is None else msgspec.json.decode(row["body"], type=Backup)

    async def rows(self, service: str | None = None) -> list[Backup]:
        """All of them, or one service's, newest first: in the order in which they were made, not by their dates."""
        where, values = ("WHERE service = ?", (service,)) if service else ("", ())
        rows = await self._database.read(
            lambda connection: connection.execute(
                f"SELECT body FROM backups {where} ORDER BY number DESC",  # noqa: S608 - no outside text
                values,
            ).fetchall()
        )
        return [msgspec.json.decode(row["body"], type=Backup) for row in rows]
