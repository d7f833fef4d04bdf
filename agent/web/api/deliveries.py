"""/api/v1/deliveries: what GitHub sent, and what was answered."""

from aiohttp import web

from agent.core.errors import Refused
from agent.web.exchange import Call, answer, listing


async def index(call: Call) -> web.Response:
    """GET ?limit=&before=: newest first."""
    page = await call.context.inbox.deliveries(call.limit(), call.request.query.get("before"))
    return listing(page.items, page.next)


async def show(call: Call) -> web.Response:
    """GET /{id}: by GUID (the newest, if several claim it) or by digest."""
    found = await call.context.inbox.delivery(call.parameters["id"])
    if found is None:
        raise Refused(
            404, "not-found", "there is no such delivery", hint="`homeport deliveries` shows what there is."
        )
    return answer(found)
