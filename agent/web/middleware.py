"""What every request to the API and the page passes, in this order; the first "no" is the answer.

    request id -> Host -> who asks -> is there such a route -> same origin -> scope -> the work -> headers

- The Host check is the guard against DNS rebinding (R-UI-1); /health is open and skips it.
- Over TCP a bearer token or a session says who asks; on the unix socket the peer's credentials do.
- What changes something must say `application/json`, which no HTML form of another page can, and must not come
  from another origin. A session, which browsers send by themselves, needs an Origin that is ours (R-UI-2, 3).
  So does what asks for another protocol on the connection (a WebSocket), whatever its method.
- Wrong tokens are counted per client, as at the login: after ten within a minute the next ones are 429.
- Here stands one of the two `except Exception` of the house: a defect is logged once and answered `internal`.

/webhook passes none of this: it has its own, shorter way in `web.hooks`.
"""

import logging
import secrets
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web

from agent.core import access, github
from agent.core.errors import HomeportError, Refused
from agent.core.model import Scope
from agent.core.text import clean
from agent.web.context import Context
from agent.web.exchange import Call, is_local, own_address, remote
from agent.web.problems import problem, problem_of

log = logging.getLogger(__name__)

Handler = Callable[[Call], Awaitable[web.StreamResponse]]

COOKIE = "homeport_session"

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Server": "homeport",
}

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_NOBODY = access.Principal("", frozenset())


@dataclass(frozen=True)
class Route:
    """One line of the table in `web.server`. `scope` None: open to everybody."""

    method: str
    path: str
    handler: Handler
    scope: Scope | None
    any_host: bool = False
    """Answers under every Host name."""
    guarded: bool = True
    """False: the handler stands on its own and passes nothing of this module."""
    login: Handler | None = None
    """What a browser without a session gets to see instead of a problem document."""


@dataclass(frozen=True)
class Match:
    """Where a request leads. `route` None: the path has no such method; no `methods`: there is no such path."""

    route: Route | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    methods: tuple[str, ...] = ()
    open: bool = False
    """Nothing below this path needs a principal, or a Host."""


class Guard:
    """Lets a request through to its route, or answers it. Made for one request, which sees one context."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def pass_through(
        self, request: web.BaseRequest, match: Match, deadline: float
    ) -> web.StreamResponse:
        """The answer, whatever happens; only cancellation goes up. `deadline`: for the body, by the loop's clock."""
        identity = secrets.token_hex(8)
        try:
            response = await self._answer(request, match, deadline, identity)
        except HomeportError as error:
            if request.writer.output_size:
                return _break_off(request, error)
            if not isinstance(error, Refused):
                log.warning("%s %s: %s", request.method, clean(request.path), clean(str(error), 512))
            response = problem_of(error, identity, self._context.redact)
        except ConnectionError:
            response = web.Response(status=400)  # nobody is there to read it
        except Exception as error:
            log.exception("request %s: %s %s failed", identity, request.method, clean(request.path))
            if request.writer.output_size:
                return _break_off(request, error)
            response = problem(500, "internal", "something went wrong here", request_id=identity)
        if not response.prepared:
            for name, value in SECURITY_HEADERS.items():
                response.headers.setdefault(name, value)
            response.headers["X-Request-Id"] = identity
        return response

    async def _answer(
        self, request: web.BaseRequest, match: Match, deadline: float, identity: str
    ) -> web.StreamResponse:
        route = match.route
        local = is_local(request)
        if not local and not match.open and not (route and route.any_host):
            self._check_host(request)
        principal, by_cookie = (_peer(request, self._context), False) if local else self._who(request)
        call = Call(
            request=request,
            context=self._context,
            principal=principal or _NOBODY,
            deadline=deadline,
            parameters=match.parameters,
            headers=SECURITY_HEADERS | {"X-Request-Id": identity},
        )
        if principal is None and not match.open and (route is None or route.scope is not None):
            if route is not None and route.login and "text/html" in request.headers.get("Accept", ""):
                return await route.login(call)
            raise self._unknown(request)
        if not match.methods:
            raise Refused(404, "not-found", f"there is nothing at {request.path}")
        if route is None:
            return _other_method(request, match)
        if route.method not in _SAFE:
            self._check_origin(request, by_cookie=by_cookie)
            _check_body(request)
        elif "Upgrade" in request.headers:  # what is open for long can change much (CSWSH)
            self._check_origin(request, by_cookie=by_cookie)
        if route.scope is not None and not call.principal.may(route.scope):
            raise Refused(403, "forbidden", f"this needs the scope {route.scope}")
        return await route.handler(call)

    def _check_host(self, request: web.BaseRequest) -> None:
        hosts = request.headers.getall("Host", [])
        name = access.host_name(hosts[0]) if len(hosts) == 1 else None
        if name is None or (name not in self._context.names and name != own_address(request)):
            raise Refused(421, "wrong-host", "the agent does not answer under this name")

    def _who(self, request: web.BaseRequest) -> tuple[access.Principal | None, bool]:
        """(who asks, whether a cookie says so). An Authorization header decides alone, good or bad."""
        keys = self._context.keys
        authorization = request.headers.get("Authorization")
        if authorization is not None:
            token = access.bearer(authorization)
            return (access.authenticate(token, keys) if token else None), False
        session = request.cookies.get(COOKIE)
        if session is None:
            return None, False
        return access.unseal(session, keys, self._context.clock.now().timestamp()), True

    def _unknown(self, request: web.BaseRequest) -> Refused:
        """The answer to who is not known. A wrong token is counted per client: a good one is never limited."""
        if "Authorization" in request.headers and (wait := strike(request, self._context)):
            return Refused(
                429, "too-many-requests", "too many wrong tokens", headers={"Retry-After": str(wait)}
            )
        return Refused(
            401, "unauthorized", "this needs a token or a session", headers={"WWW-Authenticate": "Bearer"}
        )

    def _check_origin(self, request: web.BaseRequest, *, by_cookie: bool) -> None:
        headers = request.headers
        origin = headers.get("Origin")
        public = self._context.settings.public_url
        if headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
            raise Refused(403, "cross-origin", "another page may not do this")
        if origin is not None and not access.same_origin(origin, headers.get("Host", ""), public):
            raise Refused(403, "cross-origin", "another page may not do this")
        if origin is None and by_cookie:
            raise Refused(403, "cross-origin", "with a session, this needs an Origin header")


def _check_body(request: web.BaseRequest) -> None:
    """What changes something is JSON: no form of another page can send that."""
    headers = request.headers
    if headers.get("Content-Encoding"):
        raise Refused(415, "content-type", "compressed bodies are not taken", hint="Send it uncompressed.")
    if request.method != "DELETE" and not github.is_json(headers.getall("Content-Type", [])):
        raise Refused(
            415, "content-type", "this needs a JSON body", hint="Send `Content-Type: application/json`."
        )


def strike(request: web.BaseRequest, context: Context) -> int:
    """Counts a wrong token of this client: 0, or the seconds that it must wait before the next one."""
    forwarded = request.headers.getall("X-Forwarded-For", [])
    client = access.client(remote(request), forwarded, context.proxies)
    return context.refused_tokens.strike(client, context.clock.monotonic())


def _other_method(request: web.BaseRequest, match: Match) -> web.Response:
    headers = {"Allow": ", ".join(match.methods)}
    if request.method == "OPTIONS":
        return web.Response(status=204, headers=headers)
    raise Refused(405, "method-not-allowed", f"{request.method} is not for {request.path}", headers=headers)


def _break_off(request: web.BaseRequest, error: Exception) -> web.Response:
    """Half an answer is out already: ending the connection is the only way left to say that it failed."""
    log.warning("%s %s broke off: %s", request.method, clean(request.path), clean(str(error), 512))
    request.protocol.force_close()
    return web.Response(status=500)


_CREDENTIALS = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid


def _peer(request: web.BaseRequest, context: Context) -> access.Principal:
    """Who is at the other end of the unix socket. Raises ConnectionError if nobody is any more."""
    connection = request.get_extra_info("socket")
    if connection is None:
        raise ConnectionError("the client has gone")
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, gid = _CREDENTIALS.unpack(raw)
    return context.peer(uid, gid)
