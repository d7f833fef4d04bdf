"""/api/v1/events: the log of everything that happened, to look back or to follow."""

from aiohttp import web

from agent.web.exchange import Call, listing


async def index(call: Call) -> web.Response:
    """GET ?limit=&before=: newest first. GET ?after=ID&limit=: oldest first, what came after that event; then
    `next` is what to ask `after` with at once, or null if there is nothing more by now."""
    limit = call.limit()
    if "after" in call.request.query:
        events = await call.context.events.after(call.number("after", 0, 0, 2**53), limit)
        return listing(events, str(events[-1].id) if len(events) == limit else None)
    page = await call.context.events.page(limit, call.request.query.get("before"))
    return listing(page.items, page.next)
