"""The queue of a service, as parts of transactions: which one is taken up, and which ones it makes idle.

Like `store.transitions`, each function runs inside the caller's transaction and commits nothing itself.
"""

import sqlite3
from collections.abc import Sequence
from datetime import datetime

from agent.core import order
from agent.core.codes import CODES
from agent.core.model import Deployment, State
from agent.store import events
from agent.store.transitions import Change, Reset, find, get, move


def joined(connection: sqlite3.Connection, identity: str, actor: str, note: str, now: datetime) -> Deployment:
    """A person asked for what is on its way already: from now on it is a person's wish as well."""
    connection.execute("UPDATE deployments SET person = 1 WHERE id = ?", (identity,))
    found = get(connection, identity)
    events.append(
        connection, "deployment.joined", now, service=found.service, deployment=identity,
        data={"actor": actor} | ({"reason": note} if note else {}),
    )  # fmt: skip
    return found


def pick(rows: Sequence[sqlite3.Row]) -> sqlite3.Row:
    """Which of the queued ones (oldest first) is taken up first. Persons are served in turn, and before what came by
    itself; of that the newest. Of those that want the very same, the newest stands for all. What each of them turns
    out to be is compared after the fetch, by `services.gate`."""
    persons = [row for row in rows if row["person"]]
    first = persons[0] if persons else rows[-1]
    if first["force"]:
        return first
    same = [row for row in persons or rows if row["requested"] == first["requested"] and not row["force"]]
    return same[-1]


def supersede_same(connection: sqlite3.Connection, taken: sqlite3.Row, now: datetime) -> None:
    """Ends what was queued before `taken` and wants the very same: until the revisions are known, nothing else. What
    a person forced gives way to a forced one only."""
    rows = connection.execute(
        "SELECT * FROM deployments WHERE service = ?1 AND finished_at IS NULL AND state = 'queued' AND number < ?2"
        " AND target IS NULL AND (NOT force OR ?3) AND requested IS ?4 ORDER BY number",
        (taken["service"], taken["number"], taken["force"], taken["requested"]),
    ).fetchall()
    overtake(connection, [order.End(row["id"], "newer-queued", taken["id"]) for row in rows], now)


def overtake(connection: sqlite3.Connection, ends: Sequence[order.End], now: datetime) -> None:
    """Ends these as superseded, as far as they still wait in the queue. A reason of its own is none any more for what a
    person has asked for meanwhile."""
    for end in ends:
        waiting = find(connection, "id", end.id)
        if waiting is None or waiting.state is not State.QUEUED or (waiting.person and not end.by):
            continue
        detail = f"superseded by {end.by}" if end.by else end.reason
        change = Change(reason=end.reason, hint=CODES[end.reason].hint, detail=detail)
        move(connection, waiting, State.SUPERSEDED, change, now)


def note_reset(
    connection: sqlite3.Connection, deployment: Deployment, reset: Reset | None, now: datetime
) -> None:
    """Says in the event log that the branch was reset, with both revisions (R-RX-24)."""
    if reset is not None:
        events.append(
            connection, "branch.reset", now, service=deployment.service, deployment=deployment.id,
            data={"branch": reset.branch, "old": reset.old, "new": reset.new},
        )  # fmt: skip
