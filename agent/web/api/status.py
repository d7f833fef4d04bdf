"""/health and /status: how the agent and its services are."""

import os

from aiohttp import web
from msgspec import UNSET

from agent.core.model import ServiceStatus
from agent.core.score import overall
from agent.web.context import Context
from agent.web.exchange import Call, answer


async def health(call: Call) -> web.Response:
    """GET /health, open: from memory, so that it also answers while the disk hangs. 503 if unhealthy."""
    context = call.context
    states = {name: state for name, (state, _) in context.states().items()}
    status, score = overall(states, ailing=context.stale() or bool(context.trouble()))
    document = {
        "status": status,
        "version": context.version,
        "uptime_seconds": context.uptime(),
        "score": score,
        "services": states,
    }
    return answer(document, status=503 if status == "unhealthy" else 200)


async def status(call: Call) -> web.Response:
    """GET /status: everything at a glance."""
    context = call.context
    services = {name: await service_status(context, name) for name in context.settings.services}
    return answer({"services": services, "host": await context.host(), "agent": agent(context)})


def agent(context: Context) -> dict[str, object]:
    """What the agent says of itself."""
    return {
        "version": context.version,
        "pid": os.getpid(),
        "uptime_seconds": context.uptime(),
        "listening": context.listening,
        "config": context.config(),
        "trouble": context.trouble(),
    }


async def service_status(context: Context, name: str, *, named: bool = False) -> ServiceStatus:
    """One service: what the journal knows, and what the monitor saw last. `named` puts its name in."""
    overview = await context.services.overview(name)
    state, detail = context.states()[name]
    if overview.hold is not None and state == "healthy":
        state = "held"
    return ServiceStatus(
        name=name if named else UNSET,
        live=overview.live,
        last=overview.last,
        current=overview.current,
        health=state,
        health_detail=detail,
        hold=overview.hold,
        quarantine=overview.quarantine,
        last_backup=overview.last_backup,
        last_proven_restore=overview.last_proven_restore,
        frozen_until=context.frozen_until(name),
        poll=context.polled(name),
    )
