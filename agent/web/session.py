"""Logging a browser in and out: a token is exchanged for a cookie that no script can read.

Nothing is stored: the cookie is signed with its token's own secret (`core.access`), so it ends with its time or
when the token is changed. SameSite=Strict keeps other pages from using it; `web.middleware` checks the Origin.
"""

from datetime import UTC, datetime

import msgspec
from aiohttp import web

from agent.core import access
from agent.core.errors import Refused
from agent.web.exchange import Call, answer, remote
from agent.web.middleware import COOKIE, strike


class Login(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /api/v1/session`."""

    token: str


async def begin(call: Call) -> web.Response:
    """POST /api/v1/session: the cookie. Raises Refused: 401, or 429 after too many wrong tokens."""
    wanted = await call.json(Login)
    context = call.context
    principal = access.authenticate(wanted.token.encode(), context.keys)
    key = next((key for key in context.keys if principal is not None and key.name == principal.name), None)
    if principal is None or key is None:
        raise _refuse(call)
    expires = int(context.clock.now().timestamp()) + access.SESSION_SECONDS
    response = answer(_described(principal, expires))
    response.set_cookie(
        COOKIE,
        access.seal(key, expires),
        max_age=access.SESSION_SECONDS,
        path="/",
        httponly=True,
        samesite="Strict",
        secure=_came_by_https(call),
    )
    return response


async def show(call: Call) -> web.Response:
    """GET /api/v1/session: who asks, and what it may do."""
    return answer(_described(call.principal, None))


async def end(call: Call) -> web.Response:
    """DELETE /api/v1/session: the browser forgets the cookie."""
    response = web.Response(status=204)
    response.del_cookie(COOKIE, path="/", httponly=True, samesite="Strict", secure=_came_by_https(call))
    return response


def _described(principal: access.Principal, expires: int | None) -> dict[str, object]:
    return {
        "name": principal.name,
        "scopes": sorted(principal.scopes),
        "expires_at": None if expires is None else datetime.fromtimestamp(expires, UTC),
    }


def _refuse(call: Call) -> Refused:
    wait = strike(call.request, call.context)
    if wait:
        return Refused(429, "too-many-requests", "too many wrong tokens", headers={"Retry-After": str(wait)})
    return Refused(401, "unauthorized", "this token is not known")


def _came_by_https(call: Call) -> bool:
    """Whether the browser spoke TLS with the proxy in front of us; only a trusted proxy is believed."""
    request = call.request
    if not access.trusts(remote(request), call.context.proxies):
        return False
    return request.headers.get("X-Forwarded-Proto", "").strip().lower() == "https"
