"""Going back as a deployment of its own: asked for, claimed, aimed; and the spare releases of any way back.

What is asked for is a release by its name, or "" for the one before what was live when it was asked: if something
else is live by its turn, what was to be left was left already, and it ends SUPERSEDED. Where it goes is written down
(`aim`) after that release was read back and before anything is touched.
"""

import sqlite3
from datetime import datetime

from agent.core import guard
from agent.core.codes import CODES
from agent.core.model import Deployment, Fault, Release, State, Trigger
from agent.core.ports import Clock
from agent.store.admission import Wish, deployment_of_key, place
from agent.store.database import Database
from agent.store.rows import deployment_of, moment, moment_or_none
from agent.store.transitions import Change, conflict, get, move, next_release

PROBATION = Trigger(kind="poll", event="probation", actor="homeport")
"""Nobody asked for it: the agent looked by itself."""


class Rollbacks:
    """The rollbacks of all services that somebody asked for."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def request(
        self,
        service: str,
        *,
        to: str | None,
        actor: str,
        reason: str = "",
        config_hash: str,
        key: str | None = None,
    ) -> Deployment:
        """A person's wish, held or not. One for the same release that waits or is under way already is answered with
        that deployment; so is the same `key`."""
        now = self._clock.now()

        def act(connection: sqlite3.Connection) -> Deployment:
            if (known := deployment_of_key(connection, key, service, back=True)) is not None:
                return known
            made = _open(connection, service, to or "")
            if made is None:
                wish = Wish(
                    service=service, revision=_revision_of(connection, service, to), config_hash=config_hash,
                    previous=_to_leave(connection, service), target=to or "",
                )  # fmt: skip
                made = place(connection, wish, Trigger(kind="manual", actor=actor), now, note=reason)
            if key is not None:
                connection.execute("INSERT INTO keys(key, deployment) VALUES(?, ?)", (key, made))
            return get(connection, made)

        return await self._database.write(act)

    async def leave(
        self, service: str, release: str, *, within: float, detail: str, config_hash: str
    ) -> Deployment | None:
        """The rollback from a release that fell ill within so many seconds after its deployment, queued; one that is
        on its way already is answered as it is. None: it is not on probation any more (also what was gone back to
        never is), the service is held, or there is nothing to go back to."""
        now = self._clock.now()

        def act(connection: sqlite3.Connection) -> Deployment | None:
            revision = _on_probation(connection, service, release, within, now)
            if revision is None:
                return None
            match admit_rollback(connection, service, revision, config_hash):
                case guard.Join(deployment):
                    return get(connection, deployment)
                case guard.Ignore():
                    return None
                case guard.Admit():
                    wish = Wish(service=service, revision=revision, config_hash=config_hash, target="")
                    made = place_rollback(connection, wish, PROBATION, "probation-failed", now, note=detail)
                    return get(connection, made)

        return await self._database.write(act)

    async def aim(self, deployment: Deployment, release: Release) -> None:
        """Writes down where a rollback goes. Raises Conflict if the row has another state by now."""
        by_hand = deployment.trigger.kind == "manual"
        column = "revision" if by_hand else "previous"  # the other one is what it leaves

        def act(connection: sqlite3.Connection) -> None:
            changed = connection.execute(
                f"UPDATE deployments SET release = ?, {column} = ? WHERE id = ? AND state = ?",  # noqa: S608 - ours
                (release.name, release.revision, deployment.id, State.ROLLING_BACK),
            ).rowcount
            if not changed:
                raise conflict(deployment)

        await self._database.write(act)

    async def spare(self, deployment: Deployment, revision: str) -> Release:
        """The release that a deployment builds of `revision` on its way back: named once, before it is laid out."""
        now = self._clock.now()

        def act(connection: sqlite3.Connection) -> str:
            row = connection.execute(
                "SELECT name FROM releases WHERE service = ? AND spare_of = ? AND revision = ?",
                (deployment.service, deployment.id, revision),
            ).fetchone()
            return str(row[0]) if row else next_release(connection, deployment, revision, now, spare=True)

        return Release(
            name=await self._database.write(act),
            service=deployment.service,
            revision=revision,
            config_hash=deployment.config_hash,
        )

    async def waits(self, service: str) -> bool:
        """Whether one waits that can be claimed; claiming may still find that what it would leave was left."""
        row = await self._database.read(
            lambda connection: connection.execute(
                "SELECT 1 FROM deployments WHERE service = ?1 AND finished_at IS NULL AND state = 'queued'"
                " AND target IS NOT NULL AND (kind = 'manual' OR NOT EXISTS("
                "SELECT 1 FROM services WHERE name = ?1 AND held_since IS NOT NULL)) LIMIT 1",
                (service,),
            ).fetchone()
        )
        return row is not None

    async def needed(self, service: str) -> set[str]:
        """Releases that deployments which have not ended were asked to go to, or build on their way back."""
        rows = await self._database.read(
            lambda connection: connection.execute(
                "SELECT target FROM deployments WHERE service = ?1 AND finished_at IS NULL AND target <> ''"
                " UNION SELECT name FROM releases WHERE service = ?1 AND spare_of IN"
                " (SELECT id FROM deployments WHERE service = ?1 AND finished_at IS NULL)",
                (service,),
            ).fetchall()
        )
        return {row[0] for row in rows}


def claim_rollback(
    connection: sqlite3.Connection, service: str, config_hash: str, now: datetime
) -> Deployment | None:
    """The rollback whose turn it is, now ROLLING_BACK; it goes before every deployment that waits. None: there is none.

    A person's goes first, the newest of them: older ones end SUPERSEDED, as do those that would leave what is not live
    any more. An automatic one waits while the service is held."""
    live = connection.execute(
        "SELECT live_revision, held_since FROM services WHERE name = ?", (service,)
    ).fetchone()
    revision, held = (live["live_revision"], live["held_since"] is not None) if live else (None, False)
    rows = connection.execute(
        "SELECT * FROM deployments WHERE service = ? AND finished_at IS NULL AND state = 'queued'"
        " AND target IS NOT NULL AND (kind = 'manual' OR NOT ?) ORDER BY kind <> 'manual', number DESC",
        (service, held),
    ).fetchall()
    chosen: Deployment | None = None
    for row in rows:
        waiting = deployment_of(row)
        by_hand = waiting.trigger.kind == "manual"
        if not waiting.target and (waiting.previous if by_hand else waiting.revision) != revision:
            _pass_over(connection, waiting, "not-live", now)
        elif chosen is None:
            chosen = waiting
        elif by_hand:
            _pass_over(connection, waiting, "newer-queued", now)
    if chosen is None:
        return None
    connection.execute("UPDATE deployments SET config_hash = ? WHERE id = ?", (config_hash, chosen.id))
    if chosen.trigger.kind == "manual":
        connection.execute("UPDATE deployments SET previous = ? WHERE id = ?", (revision, chosen.id))
    move(connection, chosen, State.ROLLING_BACK, Change(), now)
    return get(connection, chosen.id)


def admit_rollback(
    connection: sqlite3.Connection, service: str, revision: str | None, config_hash: str
) -> guard.Admit | guard.Join | guard.Ignore:
    """Whether what was found at fault in `revision` becomes a rollback."""
    row = connection.execute(
        "SELECT id FROM deployments WHERE service = ? AND revision = ? AND finished_at IS NULL"
        " AND target IS NOT NULL AND kind <> 'manual'",
        (service, revision),
    ).fetchone()
    if row is not None:
        return guard.Join(row["id"])
    row = connection.execute("SELECT * FROM services WHERE name = ?", (service,)).fetchone()
    release, live, held = (
        (row["live_release"], row["live_revision"], row["held_since"] is not None)
        if row
        else (None, None, False)
    )
    ways = guard.fallbacks(releases_of(connection, service, config_hash), release, unlike=revision)
    return guard.retreat(revision, live=live, held=held, ways=ways)


def place_rollback(
    connection: sqlite3.Connection,
    wish: Wish,
    trigger: Trigger,
    reason: str,
    now: datetime,
    *,
    note: str = "",
) -> str:
    """Queues a rollback by itself: its revision is the one that is left, through its own fault. `note` goes into the
    event."""
    identity = place(connection, wish, trigger, now, note=note)
    connection.execute(
        "UPDATE deployments SET reason = ?, hint = ?, fault = ? WHERE id = ?",
        (reason, CODES[reason].hint, Fault.COMMIT, identity),
    )
    return identity


def releases_of(connection: sqlite3.Connection, service: str, config_hash: str) -> list[Release]:
    """Every release that was begun and not pruned, oldest first, by its number: clocks jump. A quarantine counts with
    the configuration that a release was built for and with the one that is named."""
    rows = connection.execute(
        "SELECT *, EXISTS(SELECT 1 FROM quarantine WHERE quarantine.service = releases.service"
        " AND quarantine.revision = releases.revision"
        " AND quarantine.config_hash IN (releases.config_hash, ?)) AS quarantined"
        " FROM releases WHERE service = ? ORDER BY CAST(name AS INTEGER)",  # `<sequence>-<sha7>`
        (config_hash, service),
    ).fetchall()
    return [
        Release(
            name=row["name"],
            service=service,
            revision=row["revision"],
            config_hash=row["config_hash"],
            confirmed_at=moment_or_none(row["confirmed_at"]),
            confirmation=row["confirmation"],
            quarantined=bool(row["quarantined"]),
            recipe=row["recipe"],
            built_by=row["built_by"],
        )
        for row in rows
    ]


def _on_probation(
    connection: sqlite3.Connection, service: str, release: str, within: float, now: datetime
) -> str | None:
    """The revision of this release, if the last change of what is live was its own deployment, and not long ago. A held
    service is not on probation, also if its rollback waits already: that waits for a person, the service must not. By a
    clock that was set back since it is over: to wait for it would be to go back from what served for weeks."""
    row = connection.execute(
        "SELECT live_revision, live_since FROM services WHERE name = ?1 AND live_release = ?2"
        " AND held_since IS NULL AND EXISTS("
        "SELECT 1 FROM deployments WHERE service = ?1 AND release = ?2 AND target IS NULL"
        " AND state = 'succeeded' AND finished_at = live_since)",
        (service, release),
    ).fetchone()
    if row is None or not 0 <= (now - moment(row["live_since"])).total_seconds() < within:
        return None
    return str(row["live_revision"])


def _pass_over(connection: sqlite3.Connection, waiting: Deployment, reason: str, now: datetime) -> None:
    move(connection, waiting, State.SUPERSEDED, Change(reason=reason, hint=CODES[reason].hint), now)


def _open(connection: sqlite3.Connection, service: str, target: str) -> str | None:
    """A person's rollback with this target that has not ended."""
    row = connection.execute(
        "SELECT id FROM deployments WHERE service = ? AND finished_at IS NULL AND kind = 'manual' AND target = ?"
        " ORDER BY number DESC LIMIT 1",
        (service, target),
    ).fetchone()
    return None if row is None else str(row[0])


def _revision_of(connection: sqlite3.Connection, service: str, release: str | None) -> str | None:
    row = connection.execute(
        "SELECT revision FROM releases WHERE service = ? AND name = ?", (service, release)
    ).fetchone()
    return None if row is None else str(row[0])


def _to_leave(connection: sqlite3.Connection, service: str) -> str | None:
    """What a person sees running when they ask to go back: what was switched to just now, else what is live."""
    row = (
        connection.execute(
            "SELECT revision FROM deployments WHERE service = ? AND finished_at IS NULL AND release IS NOT NULL"
            " AND state IN ('switching', 'verifying', 'rolling_back')",
            (service,),
        ).fetchone()
        or connection.execute("SELECT live_revision FROM services WHERE name = ?", (service,)).fetchone()
    )
    return None if row is None else row[0]
