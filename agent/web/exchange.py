"""One request and its answer: strict JSON in, the model's JSON out."""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec
from aiohttp import web

from agent.core.access import Principal
from agent.core.errors import Refused
from agent.web.context import Context
from agent.web.problems import PLAIN

T = TypeVar("T")

MAX_BODY = 64 * 1024
"""Bytes of a body for the API. Webhooks have their own bound."""


@dataclass(kw_only=True)
class Call:
    """A request that passed the guard, with everything that it may touch."""

    request: web.BaseRequest
    context: Context
    principal: Principal
    deadline: float
    """When the body must be here, by the loop's clock."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """What stands in the places of the route's path."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """What every answer carries. The guard adds it, unless the handler has begun to answer by itself."""

    def number(self, name: str, default: int, lowest: int, highest: int) -> int:
        """A whole number of the query. Raises Refused(400) if it is none, or out of bounds."""
        text = self.request.query.get(name)
        if text is None:
            return default
        number = int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else -1
        if not lowest <= number <= highest:
            raise Refused(400, "request-invalid", f"`{name}` must be a whole number, {lowest} to {highest}")
        return number

    def limit(self) -> int:
        """How many items a list is to have: 1 to 200, by default 50."""
        return self.number("limit", 50, 1, 200)

    def service(self) -> str:
        """The path's service. Raises Refused(404) if there is no such service."""
        return known_service(self.context, self.parameters["name"])

    async def json(self, shape: type[T]) -> T:
        """The body as `shape`; no body counts as `{}`. Raises Refused(400, 408, 413), Unavailable intake-busy."""
        try:
            async with self.context.intake.body(self.request, MAX_BODY, self.deadline) as body:
                return msgspec.json.decode(body or b"{}", type=shape)
        except msgspec.ValidationError as error:
            raise Refused(400, "request-invalid", str(error)) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Refused(400, "request-invalid", "the body is not JSON") from error


def known_service(context: Context, name: str) -> str:
    """The name, if a service is configured under it. Raises Refused(404)."""
    if name not in context.settings.services:
        raise Refused(404, "unknown-service", f"there is no service {name!r}", hint=names_hint(context))
    return name


def names_hint(context: Context) -> str:
    """What to do where a service must be named."""
    names = ", ".join(context.settings.services)
    if not names:
        return "Add a service to the configuration file, then `homeport reload`."
    return f"Name one of the configured services: {names}."


def answer(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """The value as JSON, as msgspec writes it: times are RFC 3339 UTC."""
    return web.Response(
        status=status,
        body=msgspec.json.encode(value),
        headers={**PLAIN, "Content-Type": "application/json", **(headers or {})},
    )


def listing(items: Sequence[object], more: str | None = None) -> web.Response:
    """A list; `more` is the cursor of its next part."""
    return answer({"items": items, "next": more})


def remote(request: web.BaseRequest) -> str:
    """The address at the other end of a TCP connection; "" for the unix socket."""
    name = request.protocol.peername
    return str(name[0]) if isinstance(name, tuple) else ""


def is_local(request: web.BaseRequest) -> bool:
    """Whether the request came through the unix socket. A connection that is gone already is not local."""
    name: object = request.protocol.sockname
    return isinstance(name, str | bytes)


def own_address(request: web.BaseRequest) -> str:
    """The address of ours that the connection was made to: asking under it is no rebinding of a name."""
    name = request.protocol.sockname
    return ipaddress.ip_address(name[0].partition("%")[0]).compressed if isinstance(name, tuple) else ""
