"""Deployments: admitted, claimed, advanced, found again after a power cut.

Each method is one transaction, durable when it returns. A state changes by compare-and-set together with its
event, its step and all that the change entails (live, quarantine, hold), so that no reader and no crash sees a
part of it. A state is committed before its work begins: what is in the journal may or may not have been done,
what is not in it was never begun.
"""

import sqlite3
from typing import NamedTuple

from agent.core import guard
from agent.core.errors import Refused
from agent.core.model import Deployment, Release, State, Trigger
from agent.core.pipeline import ENDS
from agent.core.ports import Clock
from agent.store import events
from agent.store.admission import Wish, deployment_of_key, place, standing_of
from agent.store.database import Database
from agent.store.rollbacks import claim_rollback, releases_of
from agent.store.rows import Page, cursor_of, deployment_of, page_of
from agent.store.transitions import (
    Change,
    Limits,
    because,
    begin_step,
    conclude,
    conflict,
    end_step,
    find,
    get,
    move,
    name_release,
    with_steps,
)
from agent.store.waiting import joined, note_reset, overtake, pick, supersede_same


class Queued(NamedTuple):
    """A deployment in the queue; a greater number came later."""

    number: int
    deployment: Deployment


class Journal:
    """The deployments of all services."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    # --- in

    async def request(
        self,
        service: str,
        *,
        requested: str | None,
        revision: str | None,
        force: bool,
        actor: str,
        reason: str = "",
        config_hash: str,
        key: str | None = None,
    ) -> Deployment:
        """A person's wish. Raises Refused(409): held, quarantined; Unavailable(space-low). The same `key` again: the
        same deployment."""
        now = self._clock.now()

        def act(connection: sqlite3.Connection) -> Deployment:
            if (known := deployment_of_key(connection, key, service)) is not None:
                return known
            standing = standing_of(connection, service, revision, config_hash, requested=requested)
            answer = guard.admit(standing, revision, requested=requested, force=force)
            if isinstance(answer, guard.Ignore):
                raise Refused(409, answer.reason, f"{service}: {because(answer.reason, revision)}")
            if isinstance(answer, guard.Join):
                made = joined(connection, answer.deployment, actor, reason, now).id
            else:
                trigger = Trigger(kind="manual", actor=actor)
                wish = Wish(service=service, revision=revision, requested=requested, config_hash=config_hash)
                made = place(connection, wish, trigger, now, force=force, note=reason)
            if key is not None:
                connection.execute("INSERT INTO keys(key, deployment) VALUES(?, ?)", (key, made))
            return get(connection, made)

        return await self._database.promise(act)

    # --- on

    async def claim(
        self, service: str, config_hash: str, *, frozen: bool = False, short: bool = False
    ) -> Deployment | None:
        """One of the queued ones (see `pick`), now FETCHING, or a rollback, now ROLLING_BACK. None:
        nothing to do, held, or frozen. While the disk is `short` of space only a rollback is taken.

        Those that were queued before it and want the very same (the branch's tip) end SUPERSEDED. What wants something
        else waits until the revisions are known: a request for a tag that does not exist must not cost an accepted
        delivery. While `frozen`, only what a person asked for is taken. It runs with the configuration of now,
        whatever held when it was asked for."""
        now = self._clock.now()

        def act(connection: sqlite3.Connection) -> Deployment | None:
            if (back := claim_rollback(connection, service, config_hash, now)) is not None:
                return back
            if short:
                return None
            rows = connection.execute(
                "SELECT * FROM deployments WHERE service = ?1 AND finished_at IS NULL AND state = 'queued'"
                " AND target IS NULL"
                " AND (force OR NOT EXISTS(SELECT 1 FROM services WHERE name = ?1 AND held_since IS NOT NULL))"
                " AND (person OR NOT ?2) ORDER BY number",
                (service, frozen),
            ).fetchall()
            if not rows:
                return None
            taken = pick(rows)
            supersede_same(connection, taken, now)
            connection.execute(
                "UPDATE deployments SET previous = (SELECT live_revision FROM services WHERE name = ?),"
                " config_hash = ? WHERE id = ?",
                (service, config_hash, taken["id"]),
            )
            move(connection, deployment_of(taken), State.FETCHING, Change(), now)
            return get(connection, taken["id"])

        return await self._database.write(act)

    async def contest(self, deployment: Deployment) -> list[Queued]:
        """The one that was claimed, and what waits behind it; as they stand now, oldest first."""
        rows = await self._database.read(
            lambda connection: connection.execute(
                "SELECT * FROM deployments WHERE service = ? AND finished_at IS NULL AND target IS NULL"
                " AND (state = 'queued' OR id = ?) ORDER BY number",
                (deployment.service, deployment.id),
            ).fetchall()
        )
        return [Queued(row["number"], deployment_of(row)) for row in rows]

    async def advance(
        self, deployment: Deployment, to: State, change: Change, limits: Limits | None = None
    ) -> Deployment:
        """From the state that the caller read to `to`, with all that this entails. Raises Conflict if the row
        has another state by now. `limits` is needed where `to` is an end that the guard counts.

        With the switch the interruptions are counted anew: those before it say nothing about the new version.
        What a person has joined since the caller read it is not superseded: it is returned as it is now, and the same
        step decides anew."""
        now = self._clock.now()

        def act(connection: sqlite3.Connection) -> Deployment:
            if to is State.SUPERSEDED and not deployment.person:
                found = get(connection, deployment.id)
                if found.person and found.state is deployment.state:
                    return found
            move(connection, deployment, to, change, now)
            overtake(connection, change.overtaken, now)
            note_reset(connection, deployment, change.reset, now)
            if to is State.BUILDING:
                name_release(connection, deployment, now)
            if to is State.SWITCHING:
                connection.execute("UPDATE deployments SET interruptions = 0 WHERE id = ?", (deployment.id,))
            if to in ENDS:
                conclude(connection, get(connection, deployment.id), change, limits, now)
            return get(connection, deployment.id)

        return await self._database.write(act)

    async def made_from(self, release: Release) -> None:
        """Records what a release is built from (`recipe`), and who built what it will link to (`built_by`): before the
        link is made, so that pruning knows of it. What stands there already costs no write."""
        values = (release.recipe, release.built_by, release.service, release.name)
        await self._database.write(
            lambda connection: connection.execute(
                "UPDATE releases SET recipe = ?1, built_by = ?2 WHERE service = ?3 AND name = ?4"
                " AND (recipe <> ?1 OR built_by <> ?2)",
                values,
            )
        )

    async def migrating(self, deployment: Deployment) -> None:
        """Records that the data is about to be migrated, before the first command. Raises Conflict if the row has
        another state by now."""
        now = self._clock.now()

        def act(connection: sqlite3.Connection) -> None:
            changed = connection.execute(
                "UPDATE deployments SET migrated = 1 WHERE id = ? AND state = ?",
                (deployment.id, deployment.state),
            ).rowcount
            if not changed:
                raise conflict(deployment)
            events.append(
                connection, "deployment.migrating", now, service=deployment.service, deployment=deployment.id,
                data={"revision": deployment.revision, "backup": deployment.backup},
            )  # fmt: skip

        await self._database.write(act)

    # --- again

    async def unfinished(self) -> list[Deployment]:
        """What was being worked on when the agent ended, oldest first (queued ones were not)."""

        def act(connection: sqlite3.Connection) -> list[Deployment]:
            rows = connection.execute(
                "SELECT * FROM deployments WHERE finished_at IS NULL AND state <> 'queued' ORDER BY number"
            ).fetchall()
            return [with_steps(connection, row) for row in rows]

        return await self._database.read(act)

    async def interrupted(self, deployment: Deployment) -> Deployment:
        """Records that it was cut off, and counts it, unless the agent had been stopped in order."""
        now = self._clock.now()

        def act(connection: sqlite3.Connection) -> Deployment:
            changed = connection.execute(
                "UPDATE deployments SET interruptions = interruptions + (NOT orderly), orderly = 0"
                " WHERE id = ? AND state = ?",
                (deployment.id, deployment.state),
            ).rowcount
            if not changed:
                raise conflict(deployment)
            end_step(connection, deployment, "interrupted", Change(detail="the agent was stopped"), now)
            begin_step(connection, deployment, deployment.state, now)
            found = get(connection, deployment.id)
            events.append(
                connection, "deployment.interrupted", now, service=found.service, deployment=found.id,
                data={"state": found.state, "interruptions": found.interruptions},
            )  # fmt: skip
            return found

        return await self._database.write(act)

    async def stop_in_order(self) -> None:
        """Marks what is unfinished: the next start goes on with it without counting an interruption."""
        await self._database.write(
            lambda connection: connection.execute(
                "UPDATE deployments SET orderly = 1 WHERE finished_at IS NULL AND state <> 'queued'"
            )
        )

    # --- out

    async def deployment(self, id: str) -> Deployment | None:
        """One deployment with its steps, or None."""
        return await self._database.read(lambda connection: find(connection, "id", id))

    async def deployments(
        self, service: str | None = None, limit: int = 50, before: str | None = None
    ) -> Page[Deployment]:
        """Newest first, with their steps."""
        below = cursor_of(before)

        def act(connection: sqlite3.Connection) -> Page[Deployment]:
            rows = connection.execute(
                "SELECT * FROM deployments WHERE (?1 IS NULL OR service = ?1) AND number < ?2"
                " ORDER BY number DESC LIMIT ?3"
                if service is None
                else "SELECT * FROM deployments WHERE service = ?1 AND number < ?2"
                " ORDER BY number DESC LIMIT ?3",
                (service, below, limit + 1),
            ).fetchall()
            return page_of(rows, limit, "number", lambda row: with_steps(connection, row))

        return await self._database.read(act)

    async def output(self, id: str, running: tuple[State, str] | None = None) -> str | None:
        """All that the programs of a deployment printed, step by step; None if there is no such deployment.

        `running` is what the step that has not ended printed so far: it counts as long as that step is the one."""

        def act(connection: sqlite3.Connection) -> str | None:
            if find(connection, "id", id) is None:
                return None
            name, text = running or (None, "")
            rows = connection.execute(
                "SELECT * FROM (SELECT steps.name, position, CASE WHEN steps.finished_at IS NULL AND steps.name = ?2"
                " THEN ?3 ELSE steps.output END AS output FROM steps JOIN deployments ON number = deployment"
                " WHERE deployments.id = ?1) WHERE output <> '' ORDER BY position",
                (id, name, text),
            ).fetchall()
            return "".join(f"--- {row['name']}\n{row['output'].rstrip()}\n" for row in rows)

        return await self._database.read(act)

    async def releases(self, service: str, config_hash: str = "") -> list[Release]:
        """Every release that was begun and not pruned, oldest first: see `releases_of`."""
        return await self._database.read(lambda connection: releases_of(connection, service, config_hash))

    async def forget_release(self, service: str, name: str) -> None:
        """A release that was removed from the disk."""
        await self._database.write(
            lambda connection: connection.execute(
                "DELETE FROM releases WHERE service = ? AND name = ?", (service, name)
            )
        )
