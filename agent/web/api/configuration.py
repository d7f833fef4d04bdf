"""/api/v1/reload: the configuration file as it is now."""

from aiohttp import web

from agent.web.api.services import Nothing
from agent.web.exchange import Call, answer


async def reload(call: Call) -> web.Response:
    """POST: takes up the file, and says what changed. Raises ConfigError (422): nothing did, and why."""
    await call.json(Nothing)
    return answer(await call.context.reload(call.principal.name))
