"""What a deployment's change entails, as parts of transactions: `store.journal` and `store.inbox` put them together.

Each function runs inside the caller's transaction and commits nothing itself.
"""

import sqlite3
from datetime import datetime

import msgspec
from msgspec import Struct

from agent.core import guard, order
from agent.core.codes import CODES
from agent.core.errors import Conflict
from agent.core.model import Deployment, Fault, Outage, Release, State
from agent.core.pipeline import ENDS, quarantines
from agent.store import events
from agent.store.rows import deployment_of, micros, moment, moment_or_none


class Reset(Struct, frozen=True):
    """A branch whose history was changed: `old` is the live revision, `new` the branch's tip."""

    branch: str
    old: str
    new: str


class Change(Struct, frozen=True, kw_only=True):
    """What a step found out and the next state's row must hold. None: as it was."""

    reason: str | None = None
    hint: str | None = None
    fault: Fault | None = None
    detail: str = ""
    """One sentence for the step that ends."""
    output: str = ""
    """What programs printed in the step that ends."""
    revision: str | None = None
    backup: str | None = None
    live: Release | None = None
    """What serves from now on (on the way to an end); it is confirmed by the same act."""
    overtaken: tuple[order.End, ...] = ()
    """What waits in the queue and ends superseded by the same act."""
    outage: Outage | None = None
    """What the switch cost the service's users."""
    reset: Reset | None = None
    """The branch does not stand on what is live any more."""


class Limits(Struct, frozen=True):
    """What the guard needs to know of the configuration."""

    max_per_hour: int


def with_steps(connection: sqlite3.Connection, row: sqlite3.Row) -> Deployment:
    """A deployment's row together with its steps."""
    steps = connection.execute(
        "SELECT * FROM steps WHERE deployment = ? ORDER BY position", (row["number"],)
    ).fetchall()
    return deployment_of(row, steps)


def find(connection: sqlite3.Connection, column: str, value: str) -> Deployment | None:
    row = connection.execute(
        f"SELECT * FROM deployments WHERE {column} = ?",  # noqa: S608 - the column is ours
        (value,),
    ).fetchone()
    return None if row is None else with_steps(connection, row)


def get(connection: sqlite3.Connection, identity: str) -> Deployment:
    found = find(connection, "id", identity)
    if found is None:
        raise Conflict("stale", f"deployment {identity} is not there any more")
    return found


def move(
    connection: sqlite3.Connection, deployment: Deployment, to: State, change: Change, now: datetime
) -> None:
    """The compare-and-set, the step that ends and the one that begins, and the event of the new state."""
    changed = connection.execute(
        "UPDATE deployments SET state = ?, reason = coalesce(?, reason), hint = coalesce(?, hint),"
        " fault = coalesce(?, fault), revision = coalesce(?, revision), backup = coalesce(?, backup),"
        " outage = coalesce(?, outage), finished_at = ? WHERE id = ? AND state = ?",
        (
            to, change.reason, change.hint, change.fault, change.revision, change.backup,
            None if change.outage is None else msgspec.json.encode(change.outage).decode(),
            micros(now) if to in ENDS else None, deployment.id, deployment.state,
        ),
    ).rowcount  # fmt: skip
    if not changed:
        raise conflict(deployment)
    bounced = to is State.ROLLING_BACK and deployment.state is not State.QUEUED
    worked = to not in (State.FAILED, State.BROKEN) and not bounced
    end_step(connection, deployment, "done" if worked else "failed", change, now)
    if to not in ENDS:
        begin_step(connection, deployment, to, now)
    data = {
        "from": deployment.state,
        "reason": change.reason,
        "revision": change.revision or deployment.revision,
    }
    events.append(
        connection, f"deployment.{to}", now, service=deployment.service, deployment=deployment.id,
        data={name: value for name, value in data.items() if value},
    )  # fmt: skip


def begin_step(connection: sqlite3.Connection, deployment: Deployment, state: State, now: datetime) -> None:
    connection.execute(
        "INSERT INTO steps(deployment, position, name, state, started_at)"
        " SELECT number, (SELECT count(*) FROM steps WHERE deployment = number), ?, 'running', ?"
        " FROM deployments WHERE id = ?",
        (state, micros(now), deployment.id),
    )


def end_step(
    connection: sqlite3.Connection, deployment: Deployment, state: str, change: Change, now: datetime
) -> None:
    connection.execute(
        "UPDATE steps SET state = ?, finished_at = ?, detail = ?, output = ?"
        " WHERE deployment = (SELECT number FROM deployments WHERE id = ?) AND finished_at IS NULL",
        (state, micros(now), change.detail, change.output, deployment.id),
    )


def name_release(connection: sqlite3.Connection, deployment: Deployment, now: datetime) -> None:
    """The next sequence number becomes this deployment's release, before its directory is made."""
    made = get(connection, deployment.id)
    assert made.revision is not None, "a deployment is not built before its revision is known"
    name = next_release(connection, made, made.revision, now)
    connection.execute("UPDATE deployments SET release = ? WHERE id = ?", (name, made.id))


def next_release(
    connection: sqlite3.Connection,
    deployment: Deployment,
    revision: str,
    now: datetime,
    *,
    spare: bool = False,
) -> str:
    """A release of the service's next sequence number. `spare`: it is built on the deployment's way back."""
    service = deployment.service
    connection.execute("INSERT OR IGNORE INTO services(name) VALUES(?)", (service,))
    connection.execute("UPDATE services SET sequence = sequence + 1 WHERE name = ?", (service,))
    (sequence,) = connection.execute("SELECT sequence FROM services WHERE name = ?", (service,)).fetchone()
    name = f"{sequence}-{revision[:7]}"
    connection.execute(
        "INSERT INTO releases(service, name, revision, config_hash, created_at, spare_of)"
        " VALUES(?, ?, ?, ?, ?, ?)",
        (service, name, revision, deployment.config_hash, micros(now), deployment.id if spare else None),
    )
    return name


def conclude(
    connection: sqlite3.Connection, ended: Deployment, change: Change, limits: Limits | None, now: datetime
) -> None:
    """What an end entails: what is live, what is quarantined, whether the service is held."""
    if change.live is not None:
        _set_live(connection, change.live, now, confirmed=ended.state is not State.BROKEN)
    elif ended.state is State.FAILED and ended.reason == "no-fallback" and ended.target is None:
        connection.execute(
            "UPDATE services SET live_release = NULL, live_revision = NULL, live_since = NULL WHERE name = ?",
            (ended.service,),
        )
    if ended.state is State.SUCCEEDED and (ended.force or ended.target is not None):
        connection.execute(
            "DELETE FROM quarantine WHERE service = ? AND revision = ? AND config_hash = ?",
            (ended.service, ended.revision, ended.config_hash),
        )
    if ended.target is not None and change.live is not None:
        _leave(connection, ended, change.live, now)
    if quarantines(ended.state, ended.fault) and ended.revision is not None:
        _quarantine(connection, ended, ended.revision, ended.reason, now)
    if ended.state in (State.ROLLED_BACK, State.BROKEN) and ended.fault is Fault.COMMIT:
        assert limits is not None, "an end that the guard counts needs its limits"
        _hold_if_too_many(connection, ended.service, limits, now)


def _leave(connection: sqlite3.Connection, ended: Deployment, target: Release, now: datetime) -> None:
    """What a rollback that was asked for has left does not come again by itself, also if it waits already. What a
    failed workflow was about is quarantined as the commit's fault."""
    by_hand = ended.trigger.kind == "manual"
    left = ended.previous if by_hand else ended.revision
    if left is None or left == target.revision:
        return
    if by_hand:
        _quarantine(connection, ended, left, "left-by-hand", now)
    rows = connection.execute(
        "SELECT * FROM deployments WHERE service = ? AND revision = ? AND state = 'queued' AND NOT force"
        " AND target IS NULL ORDER BY number",
        (ended.service, left),
    ).fetchall()
    for row in rows:
        change = Change(
            reason="quarantined", hint=CODES["quarantined"].hint, detail=f"{ended.id} went back from it"
        )
        move(connection, deployment_of(row), State.SUPERSEDED, change, now)


def _quarantine(
    connection: sqlite3.Connection, ended: Deployment, revision: str, reason: str, now: datetime
) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO quarantine(service, revision, config_hash, reason, deployment, at)"
        " VALUES(?, ?, ?, ?, ?, ?)",
        (ended.service, revision, ended.config_hash, reason, ended.id, micros(now)),
    )


def _set_live(connection: sqlite3.Connection, release: Release, now: datetime, *, confirmed: bool) -> None:
    connection.execute("INSERT OR IGNORE INTO services(name) VALUES(?)", (release.service,))
    connection.execute(
        "UPDATE services SET live_release = ?, live_revision = ?, live_since = ?, live_proven = ? WHERE name = ?",
        (release.name, release.revision, micros(now), confirmed, release.service),
    )
    if confirmed:
        connection.execute(
            "UPDATE releases SET confirmed_at = ?1, confirmation ="
            " (SELECT max(confirmation) + 1 FROM releases WHERE service = ?2) WHERE service = ?2 AND name = ?3",
            (micros(now), release.service, release.name),
        )


def _hold_if_too_many(connection: sqlite3.Connection, service: str, limits: Limits, now: datetime) -> None:
    row = connection.execute(
        "SELECT counted_from, held_since FROM services WHERE name = ?", (service,)
    ).fetchone()
    ends = connection.execute(
        "SELECT finished_at, (SELECT min(created_at) FROM deployments AS behind"
        " WHERE behind.number > deployments.number AND behind.created_at <= ?)"
        " FROM deployments WHERE service = ? AND number > ? AND fault = 'commit'"
        " AND state IN ('rolled_back', 'broken') ORDER BY number DESC LIMIT ?",
        (micros(now), service, row["counted_from"] if row else 0, limits.max_per_hour),
    ).fetchall()
    bounced = [guard.dated(moment(end), moment_or_none(after), now) for end, after in ends]
    already = row is not None and row["held_since"] is not None
    if already or not guard.holds(bounced, now, limits.max_per_hour):
        return
    reason = f"{len(bounced)} rollbacks within an hour"
    set_hold(connection, service, reason=reason, actor=None, now=now)


def set_hold(
    connection: sqlite3.Connection, service: str, *, reason: str, actor: str | None, now: datetime
) -> None:
    """Holds a service and says so in the event log."""
    connection.execute("INSERT OR IGNORE INTO services(name) VALUES(?)", (service,))
    connection.execute(
        "UPDATE services SET held_since = ?, held_reason = ?, held_by = ? WHERE name = ?",
        (micros(now), reason, actor, service),
    )
    events.append(connection, "service.held", now, service=service, data={"reason": reason, "actor": actor})


def conflict(deployment: Deployment) -> Conflict:
    return Conflict("stale", f"deployment {deployment.id} is no longer {deployment.state}")


def because(reason: str, revision: str | None) -> str:
    if reason == "held":
        return "automatic deployments are held until a person resumes the service"
    return f"revision {revision} failed before with this configuration, or a person went back from it"
