"""What is known of each service: what is live, whether it is held, and a person's hold and resume."""

import sqlite3

import msgspec
from msgspec import Struct

from agent.core.model import Backup, Deployment, Hold, Live, Proof, Quarantine
from agent.core.ports import Clock
from agent.store import events
from agent.store.database import Database
from agent.store.inbox import admit_held
from agent.store.rows import hold_of, live_of, quarantine_of
from agent.store.transitions import get, set_hold, with_steps


class Overview(Struct, frozen=True, kw_only=True):
    """One service at a glance. `last` is the newest deployment that ended, `current` the one going on."""

    live: Live | None
    last: Deployment | None
    current: Deployment | None
    hold: Hold | None
    quarantine: tuple[Quarantine, ...]
    last_backup: Backup | None
    last_proven_restore: Proof | None


class ServiceRows:
    """The services."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def overview(self, service: str) -> Overview:
        """All of it in one read; a service that nothing happened to is all None."""

        def act(connection: sqlite3.Connection) -> Overview:
            row = connection.execute("SELECT * FROM services WHERE name = ?", (service,)).fetchone()
            quarantine = connection.execute(
                "SELECT quarantine.* FROM quarantine JOIN deployments ON id = deployment"
                " WHERE quarantine.service = ? ORDER BY number DESC LIMIT 20",
                (service,),
            ).fetchall()
            backup = connection.execute(
                "SELECT body FROM backups WHERE service = ? ORDER BY number DESC LIMIT 1", (service,)
            ).fetchone()
            proof = connection.execute("SELECT body FROM proofs WHERE service = ?", (service,)).fetchone()
            return Overview(
                live=live_of(row) if row else None,
                last=_one(connection, service, "finished_at IS NOT NULL ORDER BY number DESC"),
                current=_one(
                    connection, service, "finished_at IS NULL ORDER BY state = 'queued', number DESC"
                ),
                hold=hold_of(row) if row else None,
                quarantine=tuple(quarantine_of(item) for item in quarantine),
                last_backup=msgspec.json.decode(backup["body"], type=Backup) if backup else None,
                last_proven_restore=msgspec.json.decode(proof["body"], type=Proof) if proof else None,
            )

        return await self._database.read(act)

    async def live(self, service: str) -> Live | None:
        """What the service serves, as the journal knows it."""
        row = await self._row(service)
        return live_of(row) if row else None

    async def hold_of(self, service: str) -> Hold | None:
        """The service's hold, if it is held."""
        row = await self._row(service)
        return hold_of(row) if row else None

    async def quarantined(self, service: str, revision: str, config_hash: str) -> bool:
        """Whether this revision failed before, through its own fault, with this configuration."""
        row = await self._database.read(
            lambda connection: connection.execute(
                "SELECT 1 FROM quarantine WHERE service = ? AND revision = ? AND config_hash = ?",
                (service, revision, config_hash),
            ).fetchone()
        )
        return row is not None

    async def hold(self, service: str, *, actor: str, reason: str = "") -> None:
        """Stops automatic deployments. Holding what is held changes nothing."""
        now = self._clock.now()

        def act(connection: sqlite3.Connection) -> None:
            held = connection.execute(
                "SELECT 1 FROM services WHERE name = ? AND held_since IS NOT NULL", (service,)
            ).fetchone()
            if held is None:
                set_hold(connection, service, reason=reason or "held by a person", actor=actor, now=now)

        await self._database.write(act)

    async def resume(self, service: str, *, actor: str, config_hash: str) -> Deployment | None:
        """Lets automatic deployments go on and starts the guard's count anew; resuming what is not held changes
        nothing. Returns the deployment of the newest delivery that was ignored for the hold, if there is one."""
        now = self._clock.now()

        def act(connection: sqlite3.Connection) -> Deployment | None:
            changed = connection.execute(
                "UPDATE services SET held_since = NULL, held_reason = NULL, held_by = NULL,"
                " counted_from = (SELECT coalesce(max(number), 0) FROM deployments WHERE service = ?1)"
                " WHERE name = ?1 AND held_since IS NOT NULL",
                (service,),
            ).rowcount
            if not changed:
                return None
            events.append(connection, "service.resumed", now, service=service, data={"actor": actor})
            made = admit_held(connection, service, config_hash, now)
            return None if made is None else get(connection, made)

        return await self._database.write(act)

    async def _row(self, service: str) -> sqlite3.Row | None:
        def act(connection: sqlite3.Connection) -> sqlite3.Row | None:
            row: sqlite3.Row | None = connection.execute(
                "SELECT * FROM services WHERE name = ?", (service,)
            ).fetchone()
            return row

        return await self._database.read(act)


def _one(connection: sqlite3.Connection, service: str, rest: str) -> Deployment | None:
    row = connection.execute(
        f"SELECT * FROM deployments WHERE service = ? AND {rest} LIMIT 1",  # noqa: S608 - the rest is ours
        (service,),
    ).fetchone()
    return None if row is None else with_steps(connection, row)
