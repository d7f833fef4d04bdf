"""Requests over real sockets that no client of ours would send: each is answered, and never with 500."""

import asyncio
import json
import random
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from agent.core.github import FORM, JSON
from agent.store.database import Database
from tests.fuzz import case_of, chance_of, numbers
from tests.fuzz.mutation import INTERESTING, INTERESTING_BYTES, bytes_of, document_of, json_of, text_of
from tests.fuzz.test_deliveries import DOCUMENTS, EVENTS
from tests.web.conftest import ADMIN, House, open_house, sign, some_settings

ANSWERS = {200, 202, 204, 303, 400, 401, 403, 404, 405, 408, 409, 411, 413, 415, 417, 421, 429}
"""What these requests may be answered with; 500 is a defect."""

PATHS = ("/webhook", "/health", "/", "/status", "/deploy", "/api/v1/services", "/api/v1/services/scraper",
         "/api/v1/services/scraper/hold", "/api/v1/services/scraper/resume", "/api/v1/services/scraper/rollback",
         "/api/v1/deployments", "/api/v1/deployments/x/log", "/api/v1/deliveries", "/api/v1/backups/b1/verify",
         "/api/v1/backups/prune", "/api/v1/services/scraper/drill", "/api/v1/events", "/api/v1/session",
         "/static/../../etc/passwd", "//", "/api/v1/deployments/" + "x" * 3000)  # fmt: skip
METHODS = ("GET", "POST", "POST", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "get", "X" * 40)
QUERIES = ("", "limit=1", "limit=-1", "limit=" + "9" * 400, "limit=1&limit=2", "before=x", "after=0", "service=scraper",
           "service=%00", "state=%ff%fe", "%", "a" * 5000, "limit=%D9%A3", "since=2026-99-99")  # fmt: skip
BODIES: tuple[Any, ...] = (
    {"service": "scraper", "revision": "a" * 40, "force": True, "reason": "x"}, {"to": "1-aaaaaaa"}, {"token": "x"}, {},
    {"service": "scraper", "dry_run": True}, {"without_backup": False},
)  # fmt: skip
HEADERS = ("X-Forwarded-For", "Idempotency-Key", "Origin", "Sec-Fetch-Site", "Cookie", "Accept", "Host",
           "Content-Encoding", "Expect",
           "X-GitHub-Delivery", "X-GitHub-Event", "Authorization", "If-None-Match", "Range",
           "Transfer-Encoding", "X")  # fmt: skip
VALUES = (b"", b"x", b"127.0.0.1", b"evil.example", b"*", b"gzip", b"chunked", b"100-continue",
          b"homeport_session=a.1.b", b"Bearer",
          b"Basic eDp5", b"bytes=0-1", b"text/html", b"cross-site", b"a" * 3000, b"\xff\xfe", b"\xc3\xa9", b'"',
          b";", b"\t")  # fmt: skip


def a_request(chance: random.Random, port: int) -> bytes:
    """A request as bytes: a delivery, or a call of the API."""
    if chance.random() < 0.5:
        event = chance.choice(tuple(DOCUMENTS)).strip()
        body = json_of(chance, document_of(chance, DOCUMENTS[event]))
        form = chance.random() < 0.2
        body = b"payload=" + quote(body).encode() if form else body
        body = bytes_of(chance, body) if chance.random() < 0.3 else body
        method, path = "POST", "/webhook"
        headers = {
            b"Content-Type": (FORM if form else JSON).encode(), b"X-Hub-Signature-256": sign(body).encode(),
            b"X-GitHub-Event": chance.choice((event, event, *EVENTS[:8])).strip().encode(),
        }  # fmt: skip
    else:
        method, path = chance.choice(METHODS), chance.choice(PATHS)
        body = json_of(chance, document_of(chance, chance.choice(BODIES), INTERESTING))
        body = bytes_of(chance, body) if chance.random() < 0.3 else body
        headers = {b"Content-Type": b"application/json", b"Authorization": b"Bearer " + ADMIN}
    if chance.random() < 0.4:
        path += "?" + quote(text_of(chance, QUERIES, most=3).encode("utf-8", "replace"), safe="=&%")
    if chance.random() < 0.4:
        headers[chance.choice(HEADERS).encode()] = chance.choice(VALUES)
    headers.setdefault(b"Host", b"127.0.0.1:%d" % port)
    headers.setdefault(b"Content-Length", b"%d" % len(body))
    head = b"".join(name + b": " + value + b"\r\n" for name, value in headers.items())
    whole = f"{method} {path} HTTP/1.1\r\n".encode() + head + b"Connection: close\r\n\r\n" + body
    if chance.random() < 0.15:
        at = chance.randrange(len(whole) + 1)
        whole = whole[:at] + chance.choice(INTERESTING_BYTES) + whole[at:]
    return whole


async def status_of(port: int, request: bytes) -> int | None:
    """What is answered; None if the connection is closed without a word, which is for what is no HTTP."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        answer = await reader.read()
    except ConnectionError:
        return None
    finally:
        writer.close()
    line = answer.partition(b"\r\n")[0].split(b" ")
    return int(line[1]) if len(line) > 1 else None


async def still_answers(house: House) -> None:
    answer = await house.get("/status")
    assert answer.status == 200
    assert json.loads(answer.body)["services"]


async def test_no_request_is_answered_with_500(
    tmp_path: Path, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """R-RX-4, R-RX-15, R-UI-4, R-UI-8: deliveries and calls of the API, with faults in all of their parts."""
    seen: dict[int | None, int] = {}
    async for house in open_house(tmp_path, database, some_settings(tmp_path), deadline=0.3):
        for number in numbers(900):
            request = a_request(chance_of("requests", number), house.server.port or 0)
            with case_of("requests", number, request):
                status = await status_of(house.server.port or 0, request)
                assert status is None or status in ANSWERS, status
                seen[status] = seen.get(status, 0) + 1
        await still_answers(house)
    print(f"requests: {sum(seen.values())} cases: {seen}")
    assert not [
        record for record in caplog.records if record.exc_info or record.levelname in ("ERROR", "CRITICAL")
    ]
    assert {200, 202, 400, 404} <= seen.keys()
