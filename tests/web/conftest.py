"""A real server over real sockets, with the real store behind it."""

import hashlib
import hmac
import io
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from agent.core.access import Key
from agent.core.errors import StepFailed, Unavailable
from agent.core.model import Backup, Proof, Scope
from agent.core.restores import Counted, Preview, Replaced, Restore, Standing
from agent.core.settings import Listen, Service, Settings
from agent.services.backup import Backups
from agent.services.drill import Drills
from agent.services.pruning import Pruned, Pruning
from agent.services.restore import Restores
from agent.store.database import Database
from agent.store.events import EventLog
from agent.store.inbox import Inbox
from agent.store.journal import Journal
from agent.store.rollbacks import Rollbacks
from agent.store.services import ServiceRows
from agent.web.context import Context
from agent.web.server import Server
from tests.build import a_service
from tests.fakes import START, FakeClock

SECRET = b"canary-webhook-secret-4711"
OLD_SECRET = b"canary-rotated-secret-0815"
READER = b"canary-token-of-the-reader"
DEPLOYER = b"canary-token-of-the-deployer"
ADMIN = b"canary-token-of-the-admin"
CANARIES = (SECRET, OLD_SECRET, READER, DEPLOYER, ADMIN)
SHA = "6113728f27ae82c7b1a177c8d03f9e96e0adf246"
SOON = int(START.timestamp()) + 3600
"""When a session of the tests ends."""
KEYS = (
    Key("reader", READER, frozenset({Scope.READ})),
    Key("ci", DEPLOYER, frozenset({Scope.DEPLOY})),
    Key("owner", ADMIN, frozenset({Scope.ADMIN})),
)


def bearer(token: bytes) -> dict[str, str]:
    return {"Authorization": f"Bearer {token.decode()}"}


def sign(body: bytes, secret: bytes = SECRET) -> str:
    return "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()


def a_body(**differences: Any) -> bytes:
    """A push as GitHub writes it."""
    document: dict[str, Any] = {
        "ref": "refs/heads/main",
        "before": "59b20b8d5c6ff8d09518454d4dd8b7b30f095ab5",
        "after": SHA,
        "deleted": False,
        "commits": [],
        "repository": {"id": 1, "full_name": "me/scraper"},
        "sender": {"login": "me"},
    }
    return json.dumps(document | differences, indent=2).encode() + b"\n"


def headers_of(body: bytes, secret: bytes = SECRET, **differences: str | None) -> dict[str, str]:
    """The headers of a delivery; underscores stand for dashes, None leaves one out."""
    headers: dict[str, str | None] = {
        "Content-Type": "application/json",
        "X-GitHub-Event": "push",
        "X-GitHub-Delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        "X-Hub-Signature-256": sign(body, secret),
        "User-Agent": "GitHub-Hookshot/044aadd",
    }
    headers |= {name.replace("_", "-"): value for name, value in differences.items()}
    return {name: value for name, value in headers.items() if value is not None}


class ShelfOfBackups(Backups):
    """What the API asks of the backups, kept in memory. The real ones are tested with the archive."""

    def __init__(self) -> None:
        self.kept: dict[str, Backup] = {}
        self.pieces: list[bytes] = [b"first ", b"second"]
        self.breaks = False

    def put(self, identity: str, service: str = "scraper", state: str = "ok") -> Backup:
        self.kept[identity] = Backup(
            id=identity, service=service, at=START, state=state, bytes=4096, stored_bytes=100
        )
        return self.kept[identity]

    async def create(
        self, service: str, *, deployment: str | None = None, revision: str | None = None
    ) -> Backup:
        if self.breaks:
            raise Unavailable("backup-busy", f"{service} is being deployed")
        return self.put(f"b{len(self.kept) + 1}", service)

    async def list(self, service: str | None = None) -> Sequence[Backup]:
        every = reversed(self.kept.values())
        return [backup for backup in every if service in (None, backup.service)]

    async def verify(self, id: str) -> Backup:
        return self.kept[id]

    async def stream(self, id: str) -> AsyncGenerator[bytes, None]:
        for piece in self.pieces:
            yield piece
        if self.breaks:
            raise StepFailed("backup-bad", f"{id} does not read back")


class ShelfOfRestores(Restores):
    """What the API asks of restores: it says what it was asked for."""

    def __init__(self) -> None:
        self.ends = Standing.DONE

    async def preview(self, id: str) -> Preview:
        part = Replaced(path="shared/data", files=2, bytes=4096, files_now=1, bytes_now=100)
        rows = Counted(path="shared/data/app.db", then={"t": 3}, now=None)
        return Preview(backup=id, service="scraper", at=START, paths=(part,), databases=(rows,))

    async def restore(self, id: str, *, actor: str, without_backup: bool = False) -> Restore:
        return Restore(
            id="r1", service="scraper", backup=id, state=self.ends, at=START, actor=actor,
            saved=None if without_backup else "b0",
        )  # fmt: skip


class ShelfOfOld(Pruning):
    """What the API asks of retention."""

    def __init__(self) -> None:
        pass

    async def prune(self, service: str, *, dry_run: bool = False) -> Pruned:
        return Pruned(
            service=service, backups=(), copies=(), freed_bytes=0 if dry_run else 7, dry_run=dry_run
        )


class ShelfOfDrills(Drills):
    """What the API asks of drills."""

    def __init__(self) -> None:
        pass

    async def drill(self, service: str) -> Proof:
        return Proof(id="b1", at=START, seconds=1.5, files=2, bytes=4096, tables={"shared/app.db": {"t": 3}})


@dataclass
class House:
    """A running server and what is behind it."""

    server: Server
    context: Context
    database: Database
    clock: FakeClock
    backups: ShelfOfBackups
    http: aiohttp.ClientSession
    woken: list[str] = field(default_factory=list)
    states: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    @property
    def socket(self) -> str:
        return self.context.settings.listen.socket

    async def get(self, path: str, token: bytes | None = READER, **headers: Any) -> "Answer":
        return await self.call("GET", path, token=token, **headers)

    async def post(
        self, path: str, document: object = None, token: bytes | None = DEPLOYER, **headers: Any
    ) -> "Answer":
        body = json.dumps({} if document is None else document).encode()
        return await self.call(
            "POST", path, body, token=token, **({"Content_Type": "application/json"} | headers)
        )

    async def call(
        self, method: str, path: str, body: bytes | None = None, *, token: bytes | None = None, **headers: Any
    ) -> "Answer":
        every = (bearer(token) if token else {}) | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        async with self.http.request(method, self.url + path, data=body, headers=every) as response:
            return await Answer.of(response)

    async def deliver(self, body: bytes, headers: dict[str, str] | None = None) -> "Answer":
        every = headers_of(body) if headers is None else headers
        async with self.http.post(self.url + "/webhook", data=io.BytesIO(body), headers=every) as response:
            return await Answer.of(response)

    async def count(self, table: str) -> int:
        return await self.database.read(
            lambda connection: int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
        )


@dataclass
class Answer:
    """A response, read. No answer of any test may hold a secret (R-RX-31)."""

    status: int
    headers: Any
    body: bytes

    @classmethod
    async def of(cls, response: aiohttp.ClientResponse) -> "Answer":
        answer = cls(response.status, response.headers, await response.read())
        everything = answer.body + repr(answer.headers).encode()
        assert not any(canary in everything for canary in CANARIES), "a secret got out"
        return answer

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> Any:
        assert self.headers["Content-Type"] == "application/problem+json"
        assert self.json["status"] == self.status
        assert self.json["hint"]
        assert self.json["docs"] == f"docs/troubleshooting.md#{self.json['code']}"
        return self.json["code"]


def some_settings(directory: Path, **differences: Any) -> Settings:
    values: dict[str, Any] = {
        "listen": Listen(host="127.0.0.1", port=0, socket=str(directory / "agent.sock")),
        "services": {"scraper": a_scraper()},
        "hosts": ("pi.local",),
        "public_url": "https://pi.example.org",
        "state_dir": str(directory),
    }
    return Settings(**(values | differences))


def a_scraper(**source: Any) -> Service:
    return a_service(source={"repository": "git@github.com:me/scraper.git"} | source)


async def open_house(
    directory: Path,
    database: Database,
    settings: Settings,
    *,
    deadline: float = 10.0,
    connections: int = 512,
    answer_seconds: float = 30.0,
    **differences: Any,
) -> AsyncIterator[House]:
    clock = FakeClock()
    backups = ShelfOfBackups()
    woken: list[str] = []
    states: dict[str, tuple[str, str]] = {}
    context = Context(
        settings=settings,
        journal=Journal(database, clock),
        inbox=Inbox(database, clock),
        services=ServiceRows(database, clock),
        rollbacks=Rollbacks(database, clock),
        events=EventLog(database),
        backups=backups,
        restores=ShelfOfRestores(),
        pruning=ShelfOfOld(),
        drills=ShelfOfDrills(),
        clock=clock,
        version="9.9.9",
        started=clock.monotonic(),
        webhook_secrets=(SECRET, OLD_SECRET),
        keys=KEYS,
        config_hash=dict.fromkeys(settings.services, "c0ffee"),
        wake=woken.append,
        health=lambda: states,
        host=_figures,
    )
    for name, value in differences.items():
        setattr(context, name, value)
    server = Server(
        context, deadline=deadline, patience=2.0, connections=connections, answer_seconds=answer_seconds
    )
    await server.start()
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False) as http:
        try:
            yield House(server, context, database, clock, backups, http, woken, states)
        finally:
            await server.stop()


@pytest.fixture
async def house(tmp_path: Path, database: Database) -> AsyncIterator[House]:
    """One service `scraper`, three tokens, two webhook secrets."""
    async for opened in open_house(tmp_path, database, some_settings(tmp_path)):
        yield opened


@pytest.fixture
async def quick(tmp_path: Path, database: Database) -> AsyncIterator[House]:
    """The same with short deadlines, and a proxy on loopback that is trusted."""
    settings = some_settings(tmp_path, trusted_proxies=("127.0.0.1",))
    async for opened in open_house(tmp_path, database, settings, deadline=0.4):
        yield opened


async def _figures() -> dict[str, object]:
    return {"disk_free_bytes": 5 * 2**30}
