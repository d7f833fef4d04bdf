"""Rows as values and back. Only the modules of the store use it."""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

import msgspec

from agent.core.errors import Refused
from agent.core.model import (
    Delivery,
    Deployment,
    Event,
    Fault,
    Hold,
    Live,
    Outage,
    Quarantine,
    State,
    Step,
    Trigger,
)

T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Page(msgspec.Struct, Generic[T], frozen=True):
    """A part of a list, newest first, and where the rest begins."""

    items: tuple[T, ...]
    next: str | None


def micros(at: datetime) -> int:
    """An aware time as whole microseconds since 1970."""
    return (at - _EPOCH) // _MICROSECOND


def moment(number: int) -> datetime:
    """Microseconds since 1970 as an aware time, UTC."""
    return _EPOCH + timedelta(microseconds=number)


def moment_or_none(number: int | None) -> datetime | None:
    """Like `moment`, for a column that may be null."""
    return None if number is None else moment(number)


def cursor_of(text: str | None) -> int:
    """The number behind a page's `next`; without one, a number above all. Raises Refused(request-invalid)."""
    if text is None:
        return 2**62
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise Refused(400, "request-invalid", "`before` is not what a page's `next` said")
    return int(text)


def page_of(rows: Sequence[sqlite3.Row], limit: int, key: str, make: Callable[[sqlite3.Row], T]) -> Page[T]:
    """A page from one row more than was asked for, which tells whether there is a next one."""
    more = str(rows[limit - 1][key]) if len(rows) > limit else None
    return Page(tuple(make(row) for row in rows[:limit]), more)


def deployment_of(row: sqlite3.Row, steps: Iterable[sqlite3.Row] = ()) -> Deployment:
    """A row of `deployments` with its steps in order."""
    return Deployment(
        id=row["id"],
        service=row["service"],
        revision=row["revision"],
        previous=row["previous"],
        state=State(row["state"]),
        reason=row["reason"],
        hint=row["hint"],
        trigger=Trigger(kind=row["kind"], event=row["event"], delivery=row["delivery"], actor=row["actor"]),
        steps=tuple(_step_of(step) for step in steps),
        created_at=moment(row["created_at"]),
        finished_at=moment_or_none(row["finished_at"]),
        requested=row["requested"],
        target=row["target"],
        before=row["before"],
        release=row["release"],
        backup=row["backup"],
        force=bool(row["force"]),
        person=bool(row["person"]),
        fault=None if row["fault"] is None else Fault(row["fault"]),
        interruptions=row["interruptions"],
        config_hash=row["config_hash"],
        migrated=bool(row["migrated"]),
        outage=None if row["outage"] is None else msgspec.json.decode(row["outage"], type=Outage),
    )


def _step_of(row: sqlite3.Row) -> Step:
    return Step(
        name=State(row["name"]),
        state=row["state"],
        started_at=moment(row["started_at"]),
        finished_at=moment_or_none(row["finished_at"]),
        detail=row["detail"],
    )


def delivery_of(row: sqlite3.Row, deployments: Iterable[str] = ()) -> Delivery:
    """A row of `deliveries` with the ids of what it deployed."""
    return Delivery(
        digest=row["digest"],
        id=row["id"],
        event=row["event"],
        received_at=moment(row["received_at"]),
        secret=row["secret"],
        repository=row["repository"],
        ref=row["ref"],
        revision=row["revision"],
        sender=row["sender"],
        decision=row["decision"],
        reason=row["reason"],
        deployments=tuple(deployments),
    )


def event_of(row: sqlite3.Row) -> Event:
    """A row of `events`."""
    return Event(
        id=row["id"],
        at=moment(row["at"]),
        name=row["name"],
        service=row["service"],
        deployment=row["deployment"],
        data=msgspec.json.decode(row["data"]),
    )


def live_of(row: sqlite3.Row) -> Live | None:
    """What a row of `services` says is live."""
    if row["live_release"] is None:
        return None
    return Live(
        revision=row["live_revision"],
        release=row["live_release"],
        since=moment(row["live_since"]),
        proven=bool(row["live_proven"]),
    )


def hold_of(row: sqlite3.Row) -> Hold | None:
    """The hold in a row of `services`."""
    if row["held_since"] is None:
        return None
    return Hold(since=moment(row["held_since"]), reason=row["held_reason"], actor=row["held_by"])


def quarantine_of(row: sqlite3.Row) -> Quarantine:
    """A row of `quarantine`."""
    return Quarantine(
        revision=row["revision"],
        config_hash=row["config_hash"],
        reason=row["reason"],
        deployment=row["deployment"],
        at=moment(row["at"]),
    )
