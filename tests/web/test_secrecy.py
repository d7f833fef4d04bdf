"""Secrets go in at every door, and none comes out: not in an answer, not in the log, not in the store."""

import logging
import re
from pathlib import Path
from typing import Any

import pytest

from agent.core import configuration
from agent.core.model import Backup
from agent.store.database import Database
from agent.web.hooks import Webhook
from agent.web.server import routes
from tests.build import a_service
from tests.web.conftest import ADMIN, CANARIES, House, a_body, headers_of, open_house, some_settings

CANARY = "canary-1f0e9d8c"
"""Whatever begins with this is a secret."""

CANARIES_OF_GITHUB = {
    "commits": [{"message": f"{CANARY}-commit-message", "author": {"email": f"{CANARY}@example.org"}}],
    "head_commit": {"message": f"{CANARY}-head-message"},
    "pusher": {"name": "me", "email": f"{CANARY}-pusher@example.org"},
    "repository": {
        "id": 1,
        "full_name": "me/scraper",
        "clone_url": f"https://me:{CANARY}-clone@github.com/me/scraper.git",
    },
    "installation": {"token": f"{CANARY}-installation"},
}
SERVICE = {
    "source": {"repository": "git@github.com:me/scraper.git"},
    "runtime": {
        "kind": "process",
        "command": ["./serve", f"--key={CANARY}-argument"],
        "environment": {"API_KEY": f"{CANARY}-environment"},
    },
    "deploy": {"build": {"commands": [f"TOKEN={CANARY}-build ./build"]}},
}


def readings() -> list[str]:
    """Every path that a GET answers; `%s` stands for an id."""
    table = routes(Webhook.__new__(Webhook))
    paths = [route.path for route in table if route.method == "GET"]
    return [path.replace("{name}", "scraper").replace("{id}", "%s") for path in paths]


def stored(directory: Path) -> list[bytes]:
    """The bytes of the store, its write-ahead log too."""
    return [file.read_bytes() for file in directory.glob("state.db*")]


async def use(house: House) -> dict[str, str]:
    """Sends every kind of secret; returns an id for each kind of thing that is there then."""
    body = a_body(**CANARIES_OF_GITHUB)
    good = headers_of(body, Authorization=f"Bearer {CANARY}-authorization", Cookie=f"a={CANARY}-cookie")
    accepted = await house.deliver(body, good)
    assert accepted.status == 202
    assert (await house.deliver(body, good)).status == 200
    strange = headers_of(body, X_Hub_Signature_256=f"sha256={CANARY}-signature")
    assert (await house.deliver(body, strange)).status == 401
    ignored = a_body(**CANARIES_OF_GITHUB, ref="refs/heads/other")
    assert (await house.deliver(ignored, headers_of(ignored))).status == 200
    broken = body[:-20]
    assert (await house.deliver(broken, headers_of(broken))).status == 400
    unknown = f"{CANARY}-token".encode()
    assert (await house.get("/status", token=unknown)).status == 401
    assert (await house.get("/status", token=None, Cookie=f"homeport_session={CANARY}")).status == 401
    login = await house.post("/api/v1/session", {"token": unknown.decode()}, token=None)
    assert login.status == 401
    login = await house.post("/api/v1/session", {"tokens": unknown.decode()}, token=None)
    assert login.status == 400
    assert CANARY.encode() not in login.body
    kept: Backup = house.backups.put("20261122T120000Z-00000001")
    delivery: str = accepted.json["delivery"]
    return {
        "deployments": accepted.json["deployments"][0]["id"],
        "deliveries": delivery,
        "backups": kept.id,
    }


async def test_no_secret_comes_out_again(
    tmp_path: Path, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """R-RX-31: of the configuration, the headers and the payload; in every answer, the log and the store."""
    caplog.set_level(logging.DEBUG)
    settings = some_settings(tmp_path, services={"scraper": a_service(**SERVICE)})
    read = 0
    async for house in open_house(tmp_path, database, settings):
        ids = await use(house)
        for path in readings():
            kind = path.split("/")[3] if path.startswith("/api/") else ""
            for accept in ("application/json", "text/html"):
                answer = await house.get(path.replace("%s", ids.get(kind, "")), token=ADMIN, Accept=accept)
                assert answer.status == 200, path
                assert CANARY.encode() not in answer.body, path
                assert CANARY not in repr(answer.headers), path
                read += 1
        await database.write(lambda connection: connection.execute("SELECT 1"))
    assert read == 2 * len(readings()) >= 30
    known = [canary.decode() for canary in CANARIES]
    assert not re.search("|".join([CANARY, *known]), caplog.text)
    content = b"".join(stored(tmp_path))
    assert b"me/scraper" in content
    assert not any(canary in content for canary in (CANARY.encode(), *CANARIES))


def test_a_secret_in_a_repositorys_address_is_refused_without_being_repeated() -> None:
    """R-RX-31."""
    for user in (f"{CANARY}-token", f"me:{CANARY}-password"):
        source = {"repository": f"https://{user}@github.com/me/scraper.git"}
        document: Any = {"services": {"app": SERVICE | {"source": source}}}
        problems = configuration.examine(document, lines={}, base="/etc/homeport", known=[]).problems
        assert "services.app.source.repository" in {problem.path for problem in problems}
        assert CANARY not in repr([problem.message + problem.hint for problem in problems])
