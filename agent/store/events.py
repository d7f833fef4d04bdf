"""The append-only event log that the API and the page tail. An event is written in its change's transaction."""

import sqlite3
from collections.abc import Mapping
from datetime import datetime

import msgspec

from agent.core.model import Event
from agent.store.database import Database
from agent.store.rows import Page, cursor_of, event_of, micros, page_of
from agent.store.trimming import trim_events


def append(
    connection: sqlite3.Connection,
    name: str,
    at: datetime,
    *,
    service: str | None = None,
    deployment: str | None = None,
    data: Mapping[str, object] | None = None,
) -> None:
    """Adds an event inside the caller's transaction."""
    number = connection.execute(
        "INSERT INTO events(at, name, service, deployment, data) VALUES(?, ?, ?, ?, ?)",
        (micros(at), name, service, deployment, msgspec.json.encode(data or {}).decode()),
    ).lastrowid
    assert number is not None
    trim_events(connection, number)


class EventLog:
    """Reads the events."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(
        self, name: str, at: datetime, *, service: str | None = None, data: Mapping[str, object]
    ) -> None:
        """Adds an event that belongs to no other change; durable when it returns."""
        await self._database.write(
            lambda connection: append(connection, name, at, service=service, data=data)
        )

    async def page(self, limit: int, before: str | None = None) -> Page[Event]:
        """Newest first; `before` is the `next` of the page before it."""

        below = cursor_of(before)

        def act(connection: sqlite3.Connection) -> Page[Event]:
            rows = connection.execute(
                "SELECT * FROM events WHERE id < ? ORDER BY id DESC LIMIT ?", (below, limit + 1)
            ).fetchall()
            return page_of(rows, limit, "id", event_of)

        return await self._database.read(act)

    async def after(self, number: int, limit: int) -> tuple[Event, ...]:
        """Oldest first, those with a greater id: how a follower goes on from the last one that it saw."""
        rows = await self._database.read(
            lambda connection: connection.execute(
                "SELECT * FROM events WHERE id > ? ORDER BY id LIMIT ?", (number, limit)
            ).fetchall()
        )
        return tuple(event_of(row) for row in rows)
