"""Deliveries: what GitHub sent, what became of it, and what it is answered when it comes again.

A delivery is the same as another one if the signed bytes are (`digest`), whatever its headers say. An accepted
one and its deployments are written in one transaction before the answer; one that was ignored may be written
with the next batch, and does not keep the same bytes from being accepted later.
"""

import sqlite3
from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct, structs

from agent.core import guard
from agent.core.model import Delivery, Trigger
from agent.core.ports import Clock
from agent.store import events
from agent.store.admission import Wish, place, standing_of
from agent.store.database import Database
from agent.store.rollbacks import admit_rollback, place_rollback
from agent.store.rows import Page, cursor_of, delivery_of, micros, page_of
from agent.store.transitions import find
from agent.store.trimming import trim_deliveries


class Wanted(Struct, frozen=True):
    """What a delivery asks of one service: exactly what `requested` names, a commit or a ref. Without it `revision`
    is a hint, and the branch's tip is what runs. `revision` is null where only the fetch will tell."""

    service: str
    revision: str | None
    config_hash: str
    requested: str | None = None
    before: str | None = None
    """The commit that the branch named before a push."""
    back: bool = False
    """It found a fault in `revision`: the service is to leave it, if it is what is live."""


class Placed(Struct, frozen=True):
    """A deployment that a delivery led to."""

    service: str
    id: str


class Admission(Struct, frozen=True):
    """The answer: `decision` is deploy, ignored or duplicate."""

    decision: str
    reason: str
    deployments: tuple[Placed, ...]


class Inbox:
    """The deliveries."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def admit(self, delivery: Delivery, wanted: Sequence[Wanted]) -> Admission:
        """Decides and records; durable when it returns. Raises Unavailable(store-unavailable, space-low)."""
        return await self._database.promise(lambda connection: _admit(connection, delivery, wanted))

    def note(self, delivery: Delivery) -> None:
        """Records an ignored delivery with the next batch: a power cut may lose it."""
        self._database.write_soon(lambda connection: _record(connection, delivery))

    async def delivery(self, id: str) -> Delivery | None:
        """By its GUID (the newest, if several claim it) or its digest."""

        def act(connection: sqlite3.Connection) -> Delivery | None:
            row = connection.execute(
                "SELECT * FROM deliveries WHERE digest = ?1 OR id = ?1 ORDER BY number DESC LIMIT 1", (id,)
            ).fetchone()
            return None if row is None else _with_deployments(connection, row)

        return await self._database.read(act)

    async def deliveries(self, limit: int = 50, before: str | None = None) -> Page[Delivery]:
        """Newest first."""
        below = cursor_of(before)

        def act(connection: sqlite3.Connection) -> Page[Delivery]:
            rows = connection.execute(
                "SELECT * FROM deliveries WHERE number < ? ORDER BY number DESC LIMIT ?", (below, limit + 1)
            ).fetchall()
            return page_of(rows, limit, "number", lambda row: _with_deployments(connection, row))

        return await self._database.read(act)


def admit_held(connection: sqlite3.Connection, service: str, config_hash: str, now: datetime) -> str | None:
    """At a resume: the newest delivery that was ignored for the hold is admitted as if it came now."""
    row = connection.execute(
        "SELECT deliveries.*, outcomes.revision AS wanted, outcomes.requested FROM outcomes"
        " JOIN deliveries ON number = outcomes.delivery"
        " WHERE outcomes.service = ? AND outcomes.reason = 'held' ORDER BY number DESC LIMIT 1",
        (service,),
    ).fetchone()
    connection.execute(
        "UPDATE outcomes SET reason = 'held-earlier' WHERE service = ? AND reason = 'held'", (service,)
    )
    if row is None:
        return None
    delivery = delivery_of(row)
    wanted = Wanted(service, row["wanted"], config_hash, requested=row["requested"])
    made = _place(connection, row["number"], delivery, wanted, now)
    if isinstance(made, str):
        return None
    connection.execute(
        "UPDATE deliveries SET decision = 'deploy', reason = '' WHERE number = ?", (row["number"],)
    )
    return made.id


def _admit(connection: sqlite3.Connection, delivery: Delivery, wanted: Sequence[Wanted]) -> Admission:
    row = connection.execute("SELECT * FROM deliveries WHERE digest = ?", (delivery.digest,)).fetchone()
    if row is not None and row["decision"] == "deploy":
        return _again(connection, row["number"], delivery, wanted)
    number = _record(connection, structs.replace(delivery, decision="deploy"), new=row is None)
    outcomes = [_place(connection, number, delivery, wish, delivery.received_at) for wish in wanted]
    placed = tuple(outcome for outcome in outcomes if isinstance(outcome, Placed))
    reasons = [outcome for outcome in outcomes if isinstance(outcome, str)]
    decision, reason = ("deploy", "") if placed else ("ignored", reasons[0] if reasons else delivery.reason)
    if not placed:
        connection.execute(
            "UPDATE deliveries SET decision = ?, reason = ? WHERE number = ?", (decision, reason, number)
        )
    events.append(
        connection, f"delivery.{'accepted' if placed else 'ignored'}", delivery.received_at,
        service=wanted[0].service if len(wanted) == 1 else None,
        data={"delivery": delivery.id, "digest": delivery.digest, "event": delivery.event, "reason": reason},
    )  # fmt: skip
    return Admission(decision, reason, placed)


def _again(
    connection: sqlite3.Connection, number: int, delivery: Delivery, wanted: Sequence[Wanted]
) -> Admission:
    """The same signed bytes once more: the same answer, unless the world was at fault before the switch."""
    before = connection.execute(
        "SELECT service, deployment FROM outcomes WHERE delivery = ? AND deployment IS NOT NULL"
        " ORDER BY service",
        (number,),
    ).fetchall()
    hashes = {wish.service: wish for wish in wanted}
    placed: list[Placed] = []
    renewed = False
    for row in before:
        deployment = find(connection, "id", row["deployment"])
        wish = hashes.get(row["service"])
        outcome: Placed | str = ""
        if wish is not None and deployment is not None and guard.redeploys(deployment):
            outcome = _place(connection, number, delivery, wish, delivery.received_at)
        renewed = renewed or isinstance(outcome, Placed)
        placed.append(outcome if isinstance(outcome, Placed) else Placed(row["service"], row["deployment"]))
    return Admission("deploy" if renewed else "duplicate", "", tuple(placed))


def _place(
    connection: sqlite3.Connection, number: int, delivery: Delivery, wish: Wanted, now: datetime
) -> Placed | str:
    """One service's part of a delivery: a deployment (new or joined), or the reason why not."""
    trigger = Trigger(
        kind="webhook", event=delivery.event, delivery=delivery.id, actor=delivery.sender or None
    )
    placed, reason = (_go_back if wish.back else _deploy)(connection, wish, trigger, now)
    if wish.back and reason == "held":
        return reason  # no outcome: who resumes the service has looked, and nothing goes back behind them
    connection.execute(
        "INSERT INTO outcomes(delivery, service, revision, requested, deployment, reason)"
        " VALUES(?, ?, ?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET deployment = coalesce(excluded.deployment, deployment),"
        " revision = excluded.revision, requested = excluded.requested, reason = excluded.reason",
        (number, wish.service, wish.revision, wish.requested, placed, reason),
    )
    return Placed(wish.service, placed) if placed is not None else reason


def _deploy(
    connection: sqlite3.Connection, wish: Wanted, trigger: Trigger, now: datetime
) -> tuple[str | None, str]:
    """The deployment, or why there is none."""
    standing = standing_of(
        connection, wish.service, wish.revision, wish.config_hash, requested=wish.requested
    )
    match guard.admit(standing, wish.revision, requested=wish.requested, force=False):
        case guard.Join(deployment):
            return deployment, ""
        case guard.Ignore(reason):
            return None, reason
        case guard.Admit():
            wanted = Wish(
                service=wish.service,
                revision=wish.revision,
                requested=wish.requested,
                config_hash=wish.config_hash,
                before=wish.before,
            )
            return place(connection, wanted, trigger, now), ""


def _go_back(
    connection: sqlite3.Connection, wish: Wanted, trigger: Trigger, now: datetime
) -> tuple[str | None, str]:
    """The rollback, or why there is none."""
    match admit_rollback(connection, wish.service, wish.revision, wish.config_hash):
        case guard.Join(deployment):
            return deployment, ""
        case guard.Ignore(reason):
            return None, reason
        case guard.Admit():
            wanted = Wish(
                service=wish.service, revision=wish.revision, config_hash=wish.config_hash, target=""
            )
            return place_rollback(connection, wanted, trigger, "workflow-failed", now), ""


def _record(connection: sqlite3.Connection, delivery: Delivery, *, new: bool = False) -> int:
    """The delivery's row; one that was ignored before takes the newer headers' place but keeps its number. `new`: the
    caller has seen that there is none."""
    made = connection.execute(
        "INSERT INTO deliveries(digest, id, event, received_at, secret, repository, ref, revision, sender,"
        " decision, reason) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT(digest) DO UPDATE SET id = excluded.id, event = excluded.event,"
        " received_at = excluded.received_at, decision = excluded.decision, reason = excluded.reason"
        " WHERE decision <> 'deploy'",
        (
            delivery.digest, delivery.id, delivery.event, micros(delivery.received_at), delivery.secret,
            delivery.repository, delivery.ref, delivery.revision, delivery.sender,
            delivery.decision, delivery.reason,
        ),
    )  # fmt: skip
    number = made.lastrowid if new else None
    if number is None:
        row = connection.execute(
            "SELECT number FROM deliveries WHERE digest = ?", (delivery.digest,)
        ).fetchone()
        number = int(row[0])
    trim_deliveries(connection, number)
    return number


def _with_deployments(connection: sqlite3.Connection, row: sqlite3.Row) -> Delivery:
    placed = connection.execute(
        "SELECT deployment FROM outcomes WHERE delivery = ? AND deployment IS NOT NULL ORDER BY service",
        (row["number"],),
    ).fetchall()
    return delivery_of(row, (item[0] for item in placed))
