"""What is let go of, so that the state stays small: the oldest of what has ended, and never what is still owed.

Each function runs inside the caller's transaction, and looks only now and then: when the number of a new row says so.
A delivery that is let go of is no duplicate any more; what it asked for is live, or was overtaken, long ago.
"""

import sqlite3

DELIVERIES = 10_000
EVENTS = 20_000
DEPLOYMENTS = 1_000
"""Of each service. With them go what their programs printed, and the keys of who asked for them."""

EVERY, AT_ONCE = 256, 4096
"""So many new rows are added between two looks, and so many go at once at most: nobody waits long for it."""


def trim_deliveries(connection: sqlite3.Connection, newest: int) -> None:
    """Keeps those whose deployment has not ended, and of each service the one that a resume would admit."""
    if newest % EVERY == 0:
        connection.execute(
            "DELETE FROM deliveries WHERE number IN (SELECT number FROM deliveries WHERE number <= ? AND NOT EXISTS("
            " SELECT 1 FROM outcomes LEFT JOIN deployments ON deployments.id = outcomes.deployment"
            " WHERE outcomes.delivery = deliveries.number"
            " AND ((deployments.id IS NOT NULL AND deployments.finished_at IS NULL) OR outcomes.delivery ="
            " (SELECT max(delivery) FROM outcomes AS held WHERE reason = 'held' AND service = outcomes.service)"
            ")) ORDER BY number LIMIT ?)",
            (newest - DELIVERIES, AT_ONCE),
        )


def trim_events(connection: sqlite3.Connection, newest: int) -> None:
    """The beginning of the event log."""
    if newest % EVERY == 0:
        connection.execute(
            "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE id <= ? ORDER BY id LIMIT ?)",
            (newest - EVENTS, AT_ONCE),
        )


def trim_deployments(connection: sqlite3.Connection, newest: int) -> None:
    """Keeps those that have not ended. What is live, what is quarantined and which releases there are stand in rows of
    their own."""
    if newest % EVERY:
        return
    for (service,) in connection.execute("SELECT name FROM services").fetchall():
        connection.execute(
            "DELETE FROM deployments WHERE number IN (SELECT number FROM deployments WHERE service = ?1"
            " AND finished_at IS NOT NULL AND number <= (SELECT number FROM deployments WHERE service = ?1"
            " ORDER BY number DESC LIMIT 1 OFFSET ?2) ORDER BY number LIMIT ?3)",
            (service, DEPLOYMENTS, AT_ONCE),
        )
    connection.execute("DELETE FROM keys WHERE deployment NOT IN (SELECT id FROM deployments)")
