"""/deploy and /api/v1/deployments: a person's wish, and what became of all of them."""

import re

import msgspec
from aiohttp import web

from agent.core.errors import Refused
from agent.core.text import clean, clean_lines
from agent.web.context import Context
from agent.web.exchange import Call, answer, known_service, listing, names_hint
from agent.web.problems import PLAIN

_FULL_HASH = re.compile(r"\A(?:[0-9a-f]{40}|[0-9a-f]{64})\Z")
_REVISION = re.compile(r"\A(?!-)(?!.*(?:\.\.|@\{|//))[^\x00-\x20\x7f~^:?*\[\\]{1,255}\Z")
"""What git allows in the name of a branch or tag (git-check-ref-format), and no option of a program."""

_KEY = re.compile(r"\A[\x21-\x7e]{1,255}\Z")


class Wish(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /deploy`; `service` may be left out where there is one."""

    service: str | None = None
    revision: str | None = None
    force: bool = False
    reason: str = ""


async def deploy(call: Call) -> web.Response:
    """POST /deploy: 202 with the deployment. Raises Refused: 400, 404 unknown service, 409 held, quarantined."""
    wish = await call.json(Wish)
    context = call.context
    service = _service(context, wish.service)
    if wish.revision is not None and not _REVISION.match(wish.revision):
        raise Refused(400, "request-invalid", "`revision` must be a sha, a branch or a tag")
    full = wish.revision if wish.revision is not None and _FULL_HASH.match(wish.revision) else None
    made = await context.journal.request(
        service,
        requested=wish.revision,
        revision=full,
        force=wish.force,
        actor=call.principal.name,
        reason=clean(wish.reason),
        config_hash=context.config_hash.get(service, ""),
        key=key_of(call),
    )
    context.wake(service)
    return answer({"deployment": made}, status=202, headers={"Location": f"/api/v1/deployments/{made.id}"})


def _service(context: Context, name: str | None) -> str:
    if name is not None:
        return known_service(context, name)
    services = list(context.settings.services)
    if len(services) != 1:
        raise Refused(400, "request-invalid", "`service` must say which one", hint=names_hint(context))
    return services[0]


def key_of(call: Call) -> str | None:
    """The Idempotency-Key, told apart by caller: nobody meets the keys of somebody else."""
    keys = call.request.headers.getall("Idempotency-Key", [])
    if not keys:
        return None
    if len(keys) > 1 or not _KEY.match(keys[0]):
        raise Refused(400, "request-invalid", "Idempotency-Key must be 1 to 255 visible ASCII characters")
    return f"{call.principal.name} {keys[0]}"


async def index(call: Call) -> web.Response:
    """GET ?service=&limit=&before=: newest first."""
    service = call.request.query.get("service")
    if service is not None:
        known_service(call.context, service)
    page = await call.context.journal.deployments(service, call.limit(), call.request.query.get("before"))
    return listing(page.items, page.next)


async def show(call: Call) -> web.Response:
    """GET /{id}: one deployment with its steps."""
    found = await call.context.journal.deployment(call.parameters["id"])
    if found is None:
        raise Refused(
            404, "not-found", "there is no such deployment", hint="`homeport history` shows what there is."
        )
    return answer(found)


async def log(call: Call) -> web.Response:
    """GET /{id}/log: what the programs of its steps printed, each part below a line `--- STEP`; of the running step, so
    far. May be empty."""
    identity = call.parameters["id"]
    output = await call.context.journal.output(identity, call.context.progress.of(identity))
    if output is None:
        raise Refused(
            404, "not-found", "there is no such deployment", hint="`homeport history` shows what there is."
        )
    return web.Response(text=clean_lines(output), content_type="text/plain", charset="utf-8", headers=PLAIN)
