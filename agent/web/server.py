"""Every route in one table, and the listeners in front of it.

The table is data: the guard reads scopes from it, and what describes the API is made from it. Below it is
aiohttp's low-level server, not its Application: one dictionary look-up leads a delivery to its handler.

Deadlines are in `web.protocol` (heads) and `web.intake` (bodies): aiohttp has none of its own.
"""

import asyncio
import errno
import re
import stat
from contextlib import suppress
from pathlib import Path

from aiohttp import web

from agent.core.access import Principal
from agent.core.errors import Unavailable
from agent.core.model import Scope
from agent.web import page, session
from agent.web.api import backups, configuration, deliveries, deployments, events, services, status
from agent.web.context import Context
from agent.web.exchange import Call
from agent.web.hooks import Webhook
from agent.web.middleware import Guard, Match, Route
from agent.web.protocol import (
    ANSWER_SECONDS,
    DEADLINE_SECONDS,
    MOST_CONNECTIONS,
    Protocols,
    take_beginning,
)

READ, DEPLOY, ADMIN = Scope.READ, Scope.DEPLOY, Scope.ADMIN

API = "/api/v1"


def routes(webhook: Webhook) -> tuple[Route, ...]:
    """Everything that the agent answers. `{...}` in a path is one segment of it."""
    return (
        Route("POST", "/webhook", webhook.receive, None, any_host=True, guarded=False),
        Route("GET", "/health", status.health, None, any_host=True),
        Route("GET", "/", page.show, READ, login=page.login),
        Route("GET", "/status", status.status, READ),
        Route("POST", "/deploy", deployments.deploy, DEPLOY),
        Route("POST", f"{API}/session", session.begin, None),
        Route("GET", f"{API}/session", session.show, READ),
        Route("DELETE", f"{API}/session", session.end, READ),
        Route("GET", f"{API}/services", services.index, READ),
        Route("GET", f"{API}/services/{{name}}", services.show, READ),
        Route("POST", f"{API}/services/{{name}}/hold", services.hold, DEPLOY),
        Route("POST", f"{API}/services/{{name}}/resume", services.resume, DEPLOY),
        Route("POST", f"{API}/services/{{name}}/rollback", services.rollback, DEPLOY),
        Route("GET", f"{API}/deployments", deployments.index, READ),
        Route("GET", f"{API}/deployments/{{id}}", deployments.show, READ),
        Route("GET", f"{API}/deployments/{{id}}/log", deployments.log, READ),
        Route("GET", f"{API}/deliveries", deliveries.index, READ),
        Route("GET", f"{API}/deliveries/{{id}}", deliveries.show, READ),
        Route("GET", f"{API}/backups", backups.index, READ),
        Route("POST", f"{API}/backups", backups.create, DEPLOY),
        Route("GET", f"{API}/backups/{{id}}", backups.show, READ),
        Route("POST", f"{API}/backups/{{id}}/verify", backups.verify, DEPLOY),
        Route(
            "GET", f"{API}/backups/{{id}}/content", backups.content, ADMIN
        ),  # it holds all of the service's data
        Route("POST", f"{API}/backups/{{id}}/restore", backups.restore, ADMIN),
        Route("POST", f"{API}/backups/prune", backups.prune, ADMIN),
        Route("POST", f"{API}/services/{{name}}/drill", backups.drill, DEPLOY),
        Route("GET", f"{API}/events", events.index, READ),
        Route("POST", f"{API}/reload", configuration.reload, ADMIN),
    )


class Router:
    """Finds the route of a request. HEAD goes where GET goes; aiohttp leaves the body out."""

    def __init__(self, table: tuple[Route, ...]) -> None:
        self._fixed: dict[tuple[str, str], Match] = {}
        self._patterns: list[tuple[re.Pattern[str], dict[str, Route]]] = []
        self._others: dict[str, Match] = {}
        by_path: dict[str, dict[str, Route]] = {}
        for route in table:
            methods = by_path.setdefault(route.path, {})
            methods[route.method] = route
            if route.method == "GET":
                methods["HEAD"] = route
        for path, methods in by_path.items():
            if "{" in path:
                self._patterns.append((_pattern(path), methods))
                continue
            self._others[path] = _match(None, methods, {})
            for method, route in methods.items():
                self._fixed[method, path] = _match(route, methods, {})

    def find(self, method: str, path: str) -> Match:
        """Where this leads."""
        found = self._fixed.get((method, path))
        if found is not None:
            return found
        if path in self._others:
            return self._others[path]
        for pattern, methods in self._patterns:
            fits = pattern.match(path)
            if fits is not None:
                return _match(methods.get(method), methods, fits.groupdict())
        return Match()


def _match(route: Route | None, methods: dict[str, Route], parameters: dict[str, str]) -> Match:
    is_open = all(other.scope is None and other.any_host for other in methods.values())
    return Match(route, parameters, tuple(sorted({*methods, "OPTIONS"})), is_open)


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", path)
    names = [
        f"(?P<{part}>[A-Za-z0-9._-]{{1,128}})" if index % 2 else re.escape(part)
        for index, part in enumerate(parts)
    ]
    return re.compile(rf"\A{''.join(names)}\Z")


_NOBODY = Principal("", frozenset())


class Server:
    """The agent's face on the network. `start` binds; `stop` ends in order, and does nothing a second time."""

    def __init__(
        self,
        context: Context,
        *,
        deadline: float = DEADLINE_SECONDS,
        patience: float = 5.0,
        connections: int = MOST_CONNECTIONS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        """`deadline`: seconds for a request, head and body; `answer_seconds`: for a client that takes nothing of its
        answer. `patience`: for requests that run at the end. `connections`: at most, at the same time."""
        self.context = context
        """What a request that begins now gets to see; a reload puts another one here."""
        self._deadline = deadline
        self._connections = connections
        self._answer_seconds = answer_seconds
        self._patience = patience
        self._runner: web.ServerRunner | None = None
        self._socket: Path | None = None
        self.port = 0
        """The TCP port, once started."""

    async def start(self) -> None:
        """Listens on TCP and on the unix socket. Raises Unavailable: port-taken, already-running."""
        self._router = Router(routes(Webhook()))
        protocols = Protocols(
            self._dispatch,
            deadline=self._deadline,
            most=self._connections,
            answer_seconds=self._answer_seconds,
        )
        self._runner = web.ServerRunner(protocols, shutdown_timeout=self._patience)
        await self._runner.setup()
        try:
            await self._listen_on_port(self._runner)
            await self._listen_on_socket(self._runner)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Closes the listeners, then lets running requests finish, then closes what is left."""
        self.context.stopping = True
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self._socket is not None:
            _remove(self._socket)
            self._socket = None

    async def _dispatch(self, request: web.BaseRequest) -> web.StreamResponse:
        deadline = take_beginning(request) + self._deadline
        match = self._router.find(request.method, request.path)
        route = match.route
        if route is not None and not route.guarded:
            call = Call(request=request, context=self.context, principal=_NOBODY, deadline=deadline)
            return await route.handler(call)
        return await Guard(self.context).pass_through(request, match, deadline)

    async def _listen_on_port(self, runner: web.ServerRunner) -> None:
        listen = self.context.settings.listen
        # asyncio takes in so many in each round of the loop, and it is five rounds until one too many has gone again
        site = web.TCPSite(runner, listen.host, listen.port, backlog=64)
        try:
            await site.start()
        except OSError as error:
            raise Unavailable(
                "port-taken", f"cannot listen on {listen.host} port {listen.port}: {error.strerror or error}"
            ) from error
        self.port = site.port
        self.context.listening.update({"host": listen.host, "port": site.port})

    async def _listen_on_socket(self, runner: web.ServerRunner) -> None:
        path = Path(self.context.settings.listen.socket)
        try:
            if _is_socket(path) and await _is_answered(path):
                raise Unavailable("already-running", f"another agent answers on {path}")
            _make_way(path)
            await web.UnixSite(runner, path, backlog=128).start()
            self._socket = path
            _open_to_all(path)
        except OSError as error:
            raise Unavailable(
                "port-taken",
                f"cannot listen on {path}: {error.strerror or error}",
                hint="Choose another path under `listen.socket`, at most 107 bytes long, in a directory of ours.",
            ) from error
        self.context.listening["socket"] = str(path)


def _is_socket(path: Path) -> bool:
    return path.exists() and stat.S_ISSOCK(path.lstat().st_mode)


async def _is_answered(path: Path) -> bool:
    """Whether somebody listens behind a socket file; it outlives the process that made it."""
    try:
        _, writer = await asyncio.wait_for(asyncio.open_unix_connection(path), 2.0)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True


def _make_way(path: Path) -> None:
    """Makes the directory, and removes the socket file of an agent that is dead."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    if _is_socket(path):
        path.unlink(missing_ok=True)
    elif path.exists():
        raise FileExistsError(errno.EEXIST, "it is there, and it is no socket", str(path))


def _open_to_all(path: Path) -> None:
    """Everybody may connect: who may do what is decided by the peer's credentials, not by the file."""
    path.chmod(0o666)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
