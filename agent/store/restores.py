"""Restores in place and the last drill that succeeded. A restore's state is committed before its work begins."""

import sqlite3
from collections.abc import Sequence
from datetime import datetime

import msgspec

from agent.core.errors import Conflict
from agent.core.model import Proof
from agent.core.ports import Clock
from agent.core.restores import RESTORED, Restore
from agent.store import events
from agent.store.database import Database


class RestoreRows:
    """One row a restore, one row a service for its proof. Every write is durable when it returns."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def begin(self, restore: Restore) -> Restore:
        """A new one, with its event."""
        now = self._clock.now()

        def act(connection: sqlite3.Connection) -> Restore:
            connection.execute(
                "INSERT INTO restores(id, service, state, deployment, body) VALUES(?, ?, ?, ?, ?)",
                (restore.id, restore.service, restore.state, restore.deployment, _body(restore)),
            )
            _tell(connection, restore, now)
            return restore

        return await self._database.write(act)

    async def advance(self, was: Restore, restore: Restore) -> Restore:
        """From the row that the caller read to another state, with its event. Raises Conflict if it has moved on."""
        now = self._clock.now()

        def act(connection: sqlite3.Connection) -> Restore:
            changed = connection.execute(
                "UPDATE restores SET state = ?, body = ? WHERE id = ? AND state = ?",
                (restore.state, _body(restore), was.id, was.state),
            ).rowcount
            if not changed:
                raise Conflict("stale", f"restore {was.id} is no longer {was.state}")
            if restore.state is not was.state:
                _tell(connection, restore, now)
            return restore

        return await self._database.write(act)

    async def find(self, id: str) -> Restore | None:
        """One restore, or None."""
        found = await self._read("id = ?", id)
        return found[0] if found else None

    async def unfinished(self, service: str) -> Sequence[Restore]:
        """What was going on when the agent ended."""
        return [restore for restore in await self.of(service) if restore.state not in RESTORED]

    async def of(self, service: str) -> Sequence[Restore]:
        """A service's restores, newest first."""
        return await self._read("service = ?", service)

    async def of_deployment(self, deployment: str) -> Restore | None:
        """The last restore of a deployment's rollback."""
        found = await self._read("deployment = ?", deployment)
        return found[0] if found else None

    async def prove(self, service: str, proof: Proof) -> None:
        """The last drill that succeeded, with its event."""
        now = self._clock.now()

        def act(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO proofs(service, body) VALUES(?, ?)"
                " ON CONFLICT(service) DO UPDATE SET body = excluded.body",
                (service, msgspec.json.encode(proof).decode()),
            )
            data = {"backup": proof.id, "seconds": proof.seconds, "files": proof.files}
            events.append(connection, "backup.proven", now, service=service, data=data)

        await self._database.write(act)

    async def _read(self, where: str, value: str) -> Sequence[Restore]:
        rows = await self._database.read(
            lambda connection: connection.execute(
                f"SELECT body FROM restores WHERE {where} ORDER BY number DESC",  # noqa: S608 - the rest is ours
                (value,),
            ).fetchall()
        )
        return [msgspec.json.decode(row["body"], type=Restore) for row in rows]


def _body(restore: Restore) -> str:
    return msgspec.json.encode(restore).decode()


def _tell(connection: sqlite3.Connection, restore: Restore, now: datetime) -> None:
    data = {"restore": restore.id, "backup": restore.backup, "reason": restore.reason, "actor": restore.actor}
    events.append(
        connection, f"restore.{restore.state}", now, service=restore.service, deployment=restore.deployment,
        data={name: value for name, value in data.items() if value},
    )  # fmt: skip
