"""How a deployment comes to be: what the guard is shown of a service, and the row that waits in its queue.

Each function runs inside the caller's transaction and commits nothing itself, as in `store.transitions`.
"""

import secrets
import sqlite3
from collections.abc import Iterator
from datetime import datetime

from msgspec import Struct

from agent.core import guard
from agent.core.errors import Refused
from agent.core.model import Deployment, Trigger
from agent.store import events
from agent.store.rows import deployment_of, micros
from agent.store.transitions import find
from agent.store.trimming import trim_deployments


class Wish(Struct, frozen=True, kw_only=True):
    """What a deployment is asked for."""

    service: str
    revision: str | None
    config_hash: str
    requested: str | None = None
    previous: str | None = None
    target: str | None = None
    before: str | None = None


def _open(
    connection: sqlite3.Connection, service: str, revision: str | None, requested: str | None
) -> Iterator[sqlite3.Row]:
    """What has not ended and may be the same wish: of this revision, of this ref; of the tip, if a person waits for it.
    Each by its own index: an OR would read every deployment that there ever was."""
    has = "SELECT * FROM deployments WHERE service = ? AND finished_at IS NULL AND target IS NULL AND "
    if revision is not None:
        yield from connection.execute(has + "revision = ?", (service, revision))
    if requested is not None:
        yield from connection.execute(has + "requested = ?", (service, requested))
    if revision is None and requested is None:
        yield from connection.execute(has + "person AND requested IS NULL AND state = 'queued'", (service,))


def standing_of(
    connection: sqlite3.Connection,
    service: str,
    revision: str | None,
    config_hash: str,
    *,
    requested: str | None = None,
) -> guard.Standing:
    """What the guard decides an admission on, as this transaction sees it."""
    held, quarantined = connection.execute(
        "SELECT EXISTS(SELECT 1 FROM services WHERE name = ?1 AND held_since IS NOT NULL),"
        " EXISTS(SELECT 1 FROM quarantine WHERE service = ?1 AND revision = ?2 AND config_hash = ?3)",
        (service, revision, config_hash),
    ).fetchone()
    open_ = {row["number"]: row for row in _open(connection, service, revision, requested)}
    return guard.Standing(
        held=bool(held),
        quarantined=bool(quarantined),
        open=tuple(deployment_of(open_[number]) for number in sorted(open_)),
    )


def place(
    connection: sqlite3.Connection,
    wish: Wish,
    trigger: Trigger,
    now: datetime,
    *,
    force: bool = False,
    note: str = "",
) -> str:
    """Queues a new deployment and returns its id."""
    identity = secrets.token_hex(6)
    number = connection.execute(
        "INSERT INTO deployments(id, service, state, revision, requested, previous, target, before, force, person,"
        " config_hash, kind, event, delivery, actor, created_at)"
        " VALUES(?, ?, 'queued', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            identity, wish.service, wish.revision, wish.requested, wish.previous, wish.target, wish.before, force,
            trigger.kind == "manual", wish.config_hash, trigger.kind, trigger.event, trigger.delivery, trigger.actor,
            micros(now),
        ),
    ).lastrowid  # fmt: skip
    connection.execute(
        "INSERT INTO steps(deployment, position, name, state, started_at) VALUES(?, 0, 'queued', 'running', ?)",
        (number, micros(now)),
    )
    assert number is not None
    trim_deployments(connection, number)
    data = {"trigger": trigger.kind, "actor": trigger.actor, "revision": wish.revision, "force": force}
    events.append(
        connection, "deployment.queued", now, service=wish.service, deployment=identity,
        data=data | ({"reason": note} if note else {}),
    )  # fmt: skip
    return identity


def deployment_of_key(
    connection: sqlite3.Connection, key: str | None, service: str, *, back: bool = False
) -> Deployment | None:
    """What the same Idempotency-Key led to before. Raises Refused(422) if that was for another service, or the other
    one of deploying and going back: else a key that is used twice by mistake would swallow a wish."""
    row = connection.execute("SELECT deployment FROM keys WHERE key = ?", (key,)).fetchone()
    known = None if row is None else find(connection, "id", row["deployment"])
    if known is not None and (known.service, known.target is not None) != (service, back):
        detail = f"this Idempotency-Key was used for {known.service} {known.id}"
        raise Refused(422, "request-invalid", detail, hint="Make a new key for each wish.")
    return known
