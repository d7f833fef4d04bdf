"""/api/v1/services: what runs here, hold and resume."""

import re

import msgspec
from aiohttp import web

from agent.core.errors import Refused
from agent.core.text import clean
from agent.web.api.deployments import key_of
from agent.web.api.status import service_status
from agent.web.exchange import Call, answer, listing

_RELEASE = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")


class Reason(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a hold; all of it may be left out."""

    reason: str = ""


class Back(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a rollback; without `to` it goes to the release before what is live."""

    to: str | None = None
    reason: str = ""


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a request that says everything by its path."""


async def index(call: Call) -> web.Response:
    """GET: every configured service."""
    names = call.context.settings.services
    return listing([await service_status(call.context, name, named=True) for name in names])


async def show(call: Call) -> web.Response:
    """GET /{name}: one service."""
    return answer(await service_status(call.context, call.service(), named=True))


async def hold(call: Call) -> web.Response:
    """POST /{name}/hold: no automatic deployment until a person resumes it. Holding twice changes nothing."""
    name = call.service()
    wish = await call.json(Reason)
    await call.context.services.hold(name, actor=call.principal.name, reason=clean(wish.reason))
    await call.context.regard(name)
    return answer(await service_status(call.context, name, named=True))


async def resume(call: Call) -> web.Response:
    """POST /{name}/resume: automatic deployments go on; the newest delivery ignored for the hold comes now."""
    name = call.service()
    await call.json(Nothing)
    context = call.context
    await context.services.resume(
        name, actor=call.principal.name, config_hash=context.config_hash.get(name, "")
    )
    await context.regard(name)
    context.wake(name)
    return answer(await service_status(context, name, named=True))


async def rollback(call: Call) -> web.Response:
    """POST /{name}/rollback: 202 with the deployment that goes back, also while the service is held."""
    name = call.service()
    wish = await call.json(Back)
    if wish.to is not None and not _RELEASE.match(wish.to):
        raise Refused(400, "request-invalid", "`to` must be the name of a release")
    context = call.context
    made = await context.rollbacks.request(
        name,
        to=wish.to,
        actor=call.principal.name,
        reason=clean(wish.reason),
        config_hash=context.config_hash.get(name, ""),
        key=key_of(call),
    )
    context.wake(name)
    return answer(made, status=202, headers={"Location": f"/api/v1/deployments/{made.id}"})
