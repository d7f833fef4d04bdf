"""`homeport deliveries`: what GitHub sent, what was answered, and why."""

import argparse
from typing import Any

from agent.cli.client import Client, segment
from agent.cli.show import deployment_line, emit, local, pages, table
from agent.core.codes import CODES


def add(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Declares the subcommand."""
    parser = commands.add_parser(
        "deliveries", parents=[shared], help="what GitHub sent, newest first, and what became of it"
    )
    parser.add_argument(
        "id",
        metavar="ID",
        nargs="?",
        help="only this one, by the GUID that GitHub shows, with what it led to",
    )
    parser.add_argument("--limit", metavar="N", type=int, default=20, help="how many; by default 20")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Asks and prints."""
    client = Client(options)
    if options.id is not None:
        found = client.get(f"/api/v1/deliveries/{segment(options.id, 'the delivery')}")
        emit(options, found, "" if options.json else "\n".join(_lines(client, found)))
        return 0
    document = pages(client, "/api/v1/deliveries", options.limit)
    rows = [
        (
            local(item["received_at"]),
            item["event"],
            item["decision"],
            item["reason"],
            ", ".join(item["deployments"]),
            item["id"],
        )
        for item in document["items"]
    ]
    none = "No signed delivery has come yet. GitHub shows what it sent under Settings, Webhooks, Recent Deliveries."
    head = ("RECEIVED", "EVENT", "DECISION", "REASON", "DEPLOYMENTS", "DELIVERY")
    emit(options, document, table(rows, head) if rows else none)
    return 0


def _lines(client: Client, delivery: dict[str, Any]) -> list[str]:
    """One delivery, and how the deployments that it led to stand now."""
    about = " ".join(part for part in (delivery["ref"], (delivery["revision"] or "")[:7]) if part)
    sender = f", by {delivery['sender']}" if delivery["sender"] else ""
    reason = f" ({delivery['reason']})" if delivery["reason"] else ""
    lines = [f"{delivery['event']} {delivery['id']}, {local(delivery['received_at'])}"]
    lines.append(f"  from     {delivery['repository'] or '-'}{sender}")
    lines += [f"  about    {about}"] if about else []
    lines.append(f"  decision {delivery['decision']}{reason}")
    if delivery["reason"] in CODES:
        lines.append(f"           {CODES[delivery['reason']].hint}")
    for identity in delivery["deployments"]:
        deployment = client.get(f"/api/v1/deployments/{segment(identity, 'the deployment')}")
        lines.append(f"  led to   {deployment['service']} {deployment_line(deployment)}")
    return lines
