"""/api/v1/backups: make one, look, verify, take one home, bring one back, and let the old ones go."""

from contextlib import aclosing

import msgspec
from aiohttp import web

from agent.core.errors import Refused
from agent.core.model import Backup
from agent.web.api.services import Nothing
from agent.web.exchange import Call, answer, known_service, listing


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /api/v1/backups`."""

    service: str


class Restoring(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /api/v1/backups/{id}/restore`."""

    dry_run: bool = False
    without_backup: bool = False


class Old(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /api/v1/backups/prune`: without a service, all of them."""

    service: str | None = None
    dry_run: bool = False


async def index(call: Call) -> web.Response:
    """GET ?service=&limit=&before=: newest first; `before` is the id of the last one seen."""
    service = call.request.query.get("service")
    if service is not None:
        known_service(call.context, service)
    limit, before = call.limit(), call.request.query.get("before")
    every = list(await call.context.backups.list(service))
    if before is not None:
        ids = [backup.id for backup in every]
        if before not in ids:
            raise Refused(400, "request-invalid", "`before` is not what a page's `next` said")
        every = every[ids.index(before) + 1 :]
    page = every[:limit]
    return listing(page, page[-1].id if len(every) > limit else None)


async def create(call: Call) -> web.Response:
    """POST {"service": ...}: waits for the end; 201 with the verified backup."""
    wanted = await call.json(Wanted)
    made = await call.context.backups.create(known_service(call.context, wanted.service))
    return answer(made, status=201, headers={"Location": f"/api/v1/backups/{made.id}"})


async def show(call: Call) -> web.Response:
    """GET /{id}: one backup."""
    return answer(await _find(call))


async def verify(call: Call) -> web.Response:
    """POST /{id}/verify: reads every byte back; the backup with what was found."""
    await call.json(Nothing)
    found = await _find(call)
    return answer(await call.context.backups.verify(found.id))


async def content(call: Call) -> web.StreamResponse:
    """GET /{id}/content: all of it as a tar stream. A stream that breaks off ends the connection unfinished, so
    that the client cannot take a part for the whole."""
    found = await _find(call)
    headers = {
        **call.headers,
        "Content-Type": "application/x-tar",
        "Content-Disposition": f'attachment; filename="{found.id}.tar"',
    }
    response = web.StreamResponse(headers=headers)
    if call.request.method == "HEAD":
        return web.Response(headers=headers)
    async with aclosing(call.context.backups.stream(found.id)) as pieces:
        async for piece in pieces:
            if not response.prepared:  # nothing is said before the first piece is there
                await response.prepare(call.request)
            await response.write(piece)
    await response.prepare(call.request)
    await response.write_eof()
    return response


async def restore(call: Call) -> web.Response:
    """POST /{id}/restore {"dry_run", "without_backup"}: waits for the end, `done` or `put_back`."""
    wish = await call.json(Restoring)
    found, restores = await _find(call), call.context.restores
    if wish.dry_run:
        return answer(await restores.preview(found.id))
    actor = call.principal.name
    return answer(await restores.restore(found.id, actor=actor, without_backup=wish.without_backup))


async def prune(call: Call) -> web.Response:
    """POST /prune {"service", "dry_run"}: what went, or would go, of each service."""
    wish = await call.json(Old)
    context = call.context
    names = (
        list(context.settings.services) if wish.service is None else [known_service(context, wish.service)]
    )
    return listing([await context.pruning.prune(name, dry_run=wish.dry_run) for name in names])


async def drill(call: Call) -> web.Response:
    """POST /api/v1/services/{name}/drill: waits for the end; what was proven."""
    name = call.service()
    await call.json(Nothing)
    return answer(await call.context.drills.drill(name))


async def _find(call: Call) -> Backup:
    for backup in await call.context.backups.list():
        if backup.id == call.parameters["id"]:
            return backup
    raise Refused(404, "backup-unknown", "there is no such backup")
