"""`homeport status`: every service at a glance. Exit status 1 if the agent is unhealthy."""

import argparse
from datetime import datetime
from typing import Any

from agent.cli.client import Client
from agent.cli.show import ago, coloured, deployment_line, emit, outage, size, span

DETAIL = 200
"""So many characters of what a failed step said are shown."""


def add(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Declares the subcommand."""
    parser = commands.add_parser("status", parents=[shared], help="what runs, and how it is")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Asks and prints."""
    document = Client(options).get("/status")
    emit(options, document, _text(document))
    unhealthy = any(service["health"] == "unhealthy" for service in document["services"].values())
    return 1 if unhealthy else 0


def _text(document: dict[str, Any]) -> str:
    agent, host = document["agent"], document["host"]
    lines = [f"homeport {agent['version']}, up {span(agent['uptime_seconds'])}, pid {agent['pid']}"]
    if "disk_free_bytes" in host:
        lines[0] += f", {size(host['disk_free_bytes'])} free"
    if agent["config"] and agent["config"]["stale"]:
        file = agent["config"]["file"]
        lines.append(
            f"  {file} is invalid, the settings before it are in force: `homeport check {file}` says why"
        )
    if trouble := agent.get("trouble"):
        lines.append(f"  {trouble}")
    for name, service in document["services"].items():
        lines += ["", *_service_lines(name, service)]
    return "\n".join(lines)


def _failure(deployment: dict[str, Any]) -> list[str]:
    """What the step that failed said at its end: what a probe saw, say."""
    told = [step for step in deployment["steps"] if step["state"] == "failed" and step["detail"]]
    return [f"{step['name']}: {step['detail'].splitlines()[0][:DETAIL]}" for step in told[:1]]


def _service_lines(name: str, service: dict[str, Any]) -> list[str]:
    live = service["live"]
    detail = f", {service['health_detail']}" if service["health"] == "unhealthy" else ""
    lines = [f"{name}: {coloured(service['health'])}{detail}"]
    lines.append(
        f"  live     {live['revision'][:7]} ({live['release']}), {ago(live['since'])}"
        if live
        else "  live     nothing yet; `homeport deploy` begins"
    )
    if service["current"]:
        lines.append(f"  now      {deployment_line(service['current'])}")
    if service["last"]:
        cost = f", outage {seen}" if (seen := outage(service["last"])) else ""
        lines.append(
            f"  last     {deployment_line(service['last'])}, {ago(service['last']['finished_at'])}{cost}"
        )
        if service["last"]["state"] not in ("succeeded", "superseded") and service["last"]["hint"]:
            lines += [f"           {line}" for line in (*_failure(service["last"]), service["last"]["hint"])]
    if service["hold"]:
        lines.append(f"  held     {service['hold']['reason']}; `homeport resume {name}` lets it go on")
    if service["frozen_until"]:
        until = datetime.fromisoformat(service["frozen_until"]).astimezone()
        lines.append(
            f"  frozen   until {until:%a %d %b %H:%M %Z}; `homeport deploy {name}` deploys all the same"
        )
    if service["poll"]:
        poll = service["poll"]
        tip = f"{poll['tip'][:7]}, " if poll["tip"] else ""
        lines.append(f"  poll     {tip}{ago(poll['at'])}: {poll['note']}")
    if service["last_backup"]:
        backup = service["last_backup"]
        lines.append(f"  backup   {backup['id']} {coloured(backup['state'])}, {ago(backup['at'])}")
        proof = service["last_proven_restore"]
        lines.append(
            f"  proven   {proof['id']} was restored in a drill {ago(proof['at'])}"
            if proof
            else f"  proven   never; `homeport backup drill {name}` restores the newest one elsewhere"
        )
    return lines
