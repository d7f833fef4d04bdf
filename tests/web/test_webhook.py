"""POST /webhook, from outside: what is answered, and what is on the disk then."""

import asyncio
import gzip
import hashlib
import json
import logging
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.core import github
from agent.core.errors import Unavailable
from agent.store.database import Database
from tests.conftest import Later
from tests.web.conftest import (
    OLD_SECRET,
    SECRET,
    SHA,
    House,
    a_body,
    a_scraper,
    headers_of,
    open_house,
    sign,
    some_settings,
)

PUSH = a_body()
PING = json.dumps({"zen": "Design for failure.", "hook_id": 1, "hook": {}}).encode()


async def raw(house: House, *pieces: bytes, pause: float = 0.0, later: Later | None = None) -> bytes:
    """What the server answers to these bytes, until it closes the connection. With `later` the pauses are the loop's
    clock put on. Raises TimeoutError if it is silent for 30 s."""
    reader, writer = await asyncio.open_connection("127.0.0.1", house.server.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.05 if later else pause)
            if later:
                later.by(pause)
        return await asyncio.wait_for(reader.read(), 30)
    except ConnectionError:
        return b""
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def head(*lines: str) -> bytes:
    return "\r\n".join(
        ["POST /webhook HTTP/1.1", "Host: x", "Content-Type: application/json", *lines, "", ""]
    ).encode("utf-8", "surrogateescape")


def raw_delivery(body: bytes, *lines: str) -> bytes:
    fixed = [f"{name}: {value}" for name, value in headers_of(body, Content_Type=None).items()]
    return head(*fixed, f"Content-Length: {len(body)}", "Connection: close", *lines) + body


# --- good deliveries


async def test_a_push_is_on_the_disk_when_it_is_answered(house: House, tmp_path: Path) -> None:
    """R-RX-12: another reader of the file sees both rows."""
    answer = await house.deliver(PUSH)
    assert answer.status == 202
    (placed,) = answer.json["deployments"]
    assert answer.json == {
        "decision": "deploy",
        "delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        "deployments": [{"service": "scraper", "id": placed["id"]}],
    }
    with closing(sqlite3.connect(f"file:{tmp_path}/state.db?mode=ro", uri=True)) as other:
        assert other.execute("SELECT id, revision, state FROM deployments").fetchall() == [
            (placed["id"], SHA, "queued")
        ]
        assert other.execute("SELECT digest, decision FROM deliveries").fetchall() == [
            (hashlib.sha256(PUSH).hexdigest(), "deploy")
        ]
    assert house.woken == ["scraper"]


async def test_a_redelivery_returns_the_deployment_it_already_made(house: House) -> None:
    """R-RX-13."""
    first = await house.deliver(PUSH)
    again = await house.deliver(PUSH)
    assert (again.status, again.json["decision"]) == (200, "duplicate")
    assert again.json["deployments"] == first.json["deployments"]
    assert await house.count("deployments") == 1


@pytest.mark.parametrize(
    "differences",
    [
        {"X_GitHub_Delivery": "00000000-0000-0000-0000-000000000000"},
        {"X_GitHub_Delivery": None},
        {"X_GitHub_Hook_ID": "77"},
        {"User_Agent": "curl/8"},
    ],
)
async def test_a_replay_under_other_headers_is_the_same_delivery(
    house: House, differences: dict[str, Any]
) -> None:
    """R-RX-13, R-RX-14: the signature covers the body alone."""
    first = await house.deliver(PUSH)
    again = await house.deliver(PUSH, headers_of(PUSH, **differences))
    assert (again.status, again.json["decision"]) == (200, "duplicate")
    assert again.json["deployments"] == first.json["deployments"]


async def test_ten_at_once_make_one_deployment(house: House) -> None:
    """R-RX-13."""
    answers = await asyncio.gather(*(house.deliver(PUSH) for _ in range(10)))
    assert sorted(answer.status for answer in answers) == [200] * 9 + [202]
    assert len({json.dumps(answer.json["deployments"]) for answer in answers}) == 1
    assert await house.count("deployments") == 1
    assert await house.count("deliveries") == 1


async def test_a_delivery_after_a_restart_is_known(house: House, tmp_path: Path) -> None:
    """R-RX-13."""
    first = await house.deliver(PUSH)
    await house.server.stop()
    async for again in open_house(tmp_path, house.database, house.context.settings):
        assert (await again.deliver(PUSH)).json["deployments"] == first.json["deployments"]


async def test_both_secrets_are_taken_and_which_one_is_recorded(house: House) -> None:
    """R-RX-6."""
    await house.deliver(PUSH)
    other = a_body(after="b" * 40)
    assert (await house.deliver(other, headers_of(other, OLD_SECRET))).status == 202
    page = await house.context.inbox.deliveries()
    assert [delivery.secret for delivery in page.items] == [1, 0]


async def test_a_ping_is_answered_pong(house: House) -> None:
    """R-RX-17."""
    answer = await house.deliver(PING, headers_of(PING, X_GitHub_Event="ping"))
    assert (answer.status, answer.json["decision"]) == (200, "pong")
    assert await house.count("deployments") == 0


@pytest.mark.parametrize(
    ("event", "document", "reason"),
    [
        ("issues", {"action": "opened", "issue": {}}, "event-ignored"),
        ("push", {"ref": "refs/heads/main2"}, "other-branch"),
        ("push", {"ref": "refs/tags/main"}, "tag-push"),
        ("push", {"deleted": True, "after": "0" * 40}, "ref-deleted"),
        ("push", {"repository": {"full_name": "me/other"}}, "other-repository"),
    ],
)
async def test_what_deploys_nothing_is_ignored_with_a_reason(
    house: House, event: str, document: dict[str, Any], reason: str
) -> None:
    """R-RX-16, R-RX-17, R-RX-18, R-RX-19: 200, so that GitHub's list stays green."""
    body = a_body(**document) if event == "push" else json.dumps(document).encode()
    answer = await house.deliver(body, headers_of(body, X_GitHub_Event=event))
    assert answer.status == 200
    assert (answer.json["decision"], answer.json["reason"]) == ("ignored", reason)
    assert await house.count("deployments") == 0
    await house.deliver(PUSH)  # a batch is written, and what was noted with it
    noted = await house.context.inbox.delivery(hashlib.sha256(body).hexdigest())
    assert noted is not None
    assert (noted.decision, noted.reason) == ("ignored", reason)


async def test_a_delivery_for_a_held_service_is_ignored(house: House) -> None:
    await house.context.services.hold("scraper", actor="me", reason="")
    answer = await house.deliver(PUSH)
    assert (answer.status, answer.json["decision"], answer.json["reason"]) == (200, "ignored", "held")


async def test_one_delivery_can_deploy_two_services(tmp_path: Path, database: Database) -> None:
    two = {"web": a_scraper(), "worker": a_scraper(), "next": a_scraper(branch="next")}
    async for house in open_house(tmp_path, database, some_settings(tmp_path, services=two)):
        answer = await house.deliver(PUSH)
        assert [placed["service"] for placed in answer.json["deployments"]] == ["web", "worker"]
        assert house.woken == ["web", "worker"]


async def test_a_redelivery_may_concern_a_service_that_is_gone(tmp_path: Path, database: Database) -> None:
    """R-RX-13: the same answer as before; nobody is there to be woken."""
    two = {"web": a_scraper(), "worker": a_scraper()}
    answers, woken = [], []
    for services in (two, {"web": a_scraper()}):
        async for house in open_house(tmp_path, database, some_settings(tmp_path, services=services)):
            answers.append(await house.deliver(PUSH))
            woken.append(house.woken)
    first, again = answers
    assert (again.status, again.json["decision"]) == (200, "duplicate")
    assert again.json["deployments"] == first.json["deployments"]
    assert woken == [["web", "worker"], ["web"]]


# --- who is not GitHub


BAD_SIGNATURES: list[dict[str, Any]] = [
    {"X_Hub_Signature_256": None},
    {"X_Hub_Signature_256": ""},
    {"X_Hub_Signature_256": None, "X_Hub_Signature": "sha1=" + "0" * 40},
    {"X_Hub_Signature_256": sign(PUSH).removeprefix("sha256=")},
    {"X_Hub_Signature_256": sign(PUSH).upper()},
    {"X_Hub_Signature_256": "sha256=" + sign(PUSH)[7:].upper()},
    {"X_Hub_Signature_256": sign(PUSH)[:-1]},
    {"X_Hub_Signature_256": sign(PUSH) + "0"},
    {"X_Hub_Signature_256": sign(PUSH, b"another secret, long enough")},
    {"X_Hub_Signature_256": sign(PUSH, b"")},
]


@pytest.mark.parametrize("differences", BAD_SIGNATURES)
async def test_without_a_good_signature_the_answer_is_always_the_same(
    house: House, differences: dict[str, Any]
) -> None:
    """R-RX-4: and nothing is stored."""
    answer = await house.deliver(PUSH, headers_of(PUSH, **differences))
    assert (answer.status, answer.code) == (401, "signature-invalid")
    reference = await house.deliver(PUSH, headers_of(PUSH, X_Hub_Signature_256=None))
    assert answer.body == reference.body
    assert await house.count("deliveries") == 0


async def test_two_signature_headers_or_other_bytes_are_no_signature(house: House) -> None:
    """R-RX-4: never 500."""
    twice = await raw(house, raw_delivery(PUSH, f"X-Hub-Signature-256: {sign(PUSH)}"))
    assert twice.startswith(b"HTTP/1.1 401 ")
    body = b"{}"
    for value in ("sha256=\udcff" + "0" * 63, "sha256=" + "\u0660" * 64):
        lines = head(f"X-Hub-Signature-256: {value}", "Content-Length: 2", "Connection: close")
        assert (await raw(house, lines + body)).startswith((b"HTTP/1.1 401 ", b"HTTP/1.1 400 "))


async def test_the_same_json_in_other_bytes_is_not_signed(house: House) -> None:
    """R-RX-3."""
    compact = json.dumps(json.loads(PUSH)).encode()
    answer = await house.deliver(compact, headers_of(PUSH))
    assert answer.status == 401
    assert await house.count("deliveries") == 0


async def test_nothing_is_parsed_before_the_signature_is_good(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-RX-7."""

    def explode(*args: object) -> None:
        raise AssertionError("it was parsed")

    monkeypatch.setattr(github, "parse", explode)
    assert (await house.deliver(PUSH, headers_of(PUSH, X_Hub_Signature_256=None))).status == 401
    assert (await house.deliver(b"[" * 10000, headers_of(b""))).status == 401


async def test_without_a_secret_in_the_configuration_everything_is_refused(
    tmp_path: Path, database: Database
) -> None:
    """R-RX-5."""
    async for house in open_house(tmp_path, database, some_settings(tmp_path), webhook_secrets=()):
        assert (await house.deliver(PUSH)).status == 401
        assert (await house.deliver(PUSH, headers_of(PUSH, b""))).status == 401


async def test_too_many_bad_signatures_are_told_to_wait_and_good_ones_are_not(house: House) -> None:
    """R-RX-28."""
    bad = headers_of(PUSH, b"a wrong secret, long enough")
    statuses = [(await house.deliver(PUSH, bad)).status for _ in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    limited = await house.deliver(PUSH, bad)
    assert limited.code == "too-many-requests"
    assert 1 <= int(limited.headers["Retry-After"]) <= 60
    assert (await house.deliver(PUSH)).status == 202
    house.clock.advance(61)
    assert (await house.deliver(PUSH, bad)).status == 401


async def test_behind_a_trusted_proxy_each_real_client_is_counted_alone(quick: House) -> None:
    """R-RX-28, R-RX-29: what a client writes into the header itself does not count."""

    async def bad(forwarded: str) -> int:
        return (await quick.deliver(PUSH, headers_of(PUSH, b"", X_Forwarded_For=forwarded))).status

    spoofed = [await bad(f"10.9.8.{index}, 198.51.100.1") for index in range(11)]
    assert spoofed == [401] * 10 + [429]
    assert await bad("198.51.100.2") == 401


async def test_without_trusted_proxies_the_header_changes_nothing(house: House) -> None:
    """R-RX-29."""
    statuses = [
        (await house.deliver(PUSH, headers_of(PUSH, b"", X_Forwarded_For=f"198.51.100.{index}"))).status
        for index in range(11)
    ]
    assert statuses == [401] * 10 + [429]


async def test_a_flood_of_bad_signatures_is_logged_in_few_lines(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """F45, R-RX-31."""
    caplog.set_level(logging.DEBUG)
    for _ in range(40):
        await house.deliver(PUSH, headers_of(PUSH, b""))
    assert 1 <= sum("no good signature" in line for line in caplog.messages) <= 10
    assert SECRET.decode() not in caplog.text


# --- bodies and headers that are not what they must be


@pytest.mark.parametrize(
    ("differences", "status"),
    [
        ({"Content_Type": "application/x-www-form-urlencoded"}, 400),
        ({"Content_Type": "application/x-www-form-urlencoded; charset=latin-1"}, 415),
        ({"Content_Type": "multipart/form-data; boundary=x"}, 415),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/json; charset=latin-1"}, 415),
        ({"Content_Type": ""}, 415),
        ({"Content_Encoding": "gzip"}, 415),
        ({"Content_Encoding": "identity"}, 415),
        ({"Content_Encoding": "nonsense"}, 415),
        ({"X_GitHub_Event": None}, 400),
        ({"X_GitHub_Event": ""}, 400),
        ({"X_GitHub_Event": "ping"}, 400),
        ({"X_GitHub_Event": "issues"}, 400),
        ({"X_GitHub_Event": "workflow_run"}, 400),
        ({"X_GitHub_Event": "release"}, 400),
        ({"X_GitHub_Event": "Push!"}, 400),
    ],
)
async def test_a_signed_body_with_wrong_headers_is_refused(
    house: House, differences: dict[str, Any], status: int
) -> None:
    """R-RX-10, R-RX-15."""
    answer = await house.deliver(PUSH, headers_of(PUSH, **differences))
    assert (answer.status, answer.code) == (status, {415: "content-type", 400: "body-invalid"}[status])
    assert await house.count("deliveries") == 0


async def test_a_content_type_that_is_missing_or_there_twice_is_refused(house: House) -> None:
    """R-RX-10."""
    twice = await raw(house, raw_delivery(PUSH, "Content-Type: application/json"))
    assert twice.split()[1] in (b"400", b"415")  # aiohttp itself refuses some headers that are there twice
    none = raw_delivery(PUSH).replace(b"Content-Type: application/json\r\n", b"")
    assert (await raw(house, none)).startswith(b"HTTP/1.1 415 ")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"{",
        b'{"a":1,"a":2}',
        b'{"a":NaN}',
        b'{"a":1e999}',
        b'{"a":"\\ud800"}',
        b"[" * 100_000,
    ],
)
async def test_a_signed_body_that_is_no_delivery_is_400(house: House, body: bytes) -> None:
    """M11: never 500."""
    answer = await house.deliver(body)
    assert (answer.status, answer.code) == (400, "body-invalid")


async def test_a_bomb_is_refused_by_its_header(house: House) -> None:
    """F49."""
    bomb = gzip.compress(b"0" * 10_000_000)
    answer = await house.deliver(bomb, headers_of(bomb, Content_Encoding="gzip"))
    assert answer.status == 415


async def test_a_declared_length_over_the_limit_is_refused_unread(house: House) -> None:
    """R-RX-8, F49."""
    for length in (github.MAX_BODY + 1, 999_999_999_999):
        answer = await raw(house, head(f"Content-Length: {length}"))
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"Connection: close" in answer


async def test_a_client_that_asks_first_gets_its_refusal_before_it_sends(house: House) -> None:
    """R-RX-8."""
    answer = await raw(house, head(f"Content-Length: {github.MAX_BODY + 1}", "Expect: 100-continue"))
    assert answer.startswith(b"HTTP/1.1 413 ")
    fixed = [f"{name}: {value}" for name, value in headers_of(PUSH, Content_Type=None).items()]
    asked = head(*fixed, f"Content-Length: {len(PUSH)}", "Expect: 100-continue", "Connection: close")
    answer = await raw(house, asked, PUSH, pause=0.05)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 ")


async def test_a_chunked_body_over_the_limit_is_refused(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-RX-8."""
    monkeypatch.setattr(github, "MAX_BODY", 200_000)
    chunk = b"10000\r\n" + b"a" * 0x10000 + b"\r\n"
    answer = await raw(house, head("Transfer-Encoding: chunked"), *[chunk] * 5)
    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_a_large_and_a_chunked_delivery_are_taken(house: House) -> None:
    large = a_body(commits=[{"message": "x" * 2_000_000}])
    assert (await house.deliver(large)).status == 202

    async def pieces() -> Any:
        for start in range(0, len(PUSH), 100):
            yield PUSH[start : start + 100]

    async with house.http.post(house.url + "/webhook", data=pieces(), headers=headers_of(PUSH)) as response:
        assert response.status == 202
    assert await house.count("deliveries") == 2
    assert await house.count("deployments") == 1  # the same revision: the second one joined


async def test_one_large_body_is_read_at_a_time(house: House) -> None:
    """R-RX-8: the next one waits for its turn, and small ones do not."""
    large = a_body(commits=[{"message": "x" * 2_000_000}])
    reader, writer = await asyncio.open_connection("127.0.0.1", house.server.port)
    writer.write(raw_delivery(large)[:-1000])
    await writer.drain()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(house.deliver(large))
        assert (await house.deliver(PUSH)).status == 202
        await asyncio.sleep(0.1)
        assert not waiting.done()
        writer.write(large[-1000:])
        assert (await reader.read()).startswith(b"HTTP/1.1 202 ")
    assert waiting.result().json["decision"] == "duplicate"
    writer.close()
    await writer.wait_closed()


async def test_who_never_gets_a_turn_is_told_to_come_again(quick: House) -> None:
    """R-RX-8."""
    large = a_body(commits=[{"message": "x" * 2_000_000}])
    async with quick.context.intake._turn:
        answer = await quick.deliver(large)
    assert (answer.status, answer.code) == (503, "intake-busy")


# --- too slow, or gone


async def test_a_slow_body_is_cut_off(quick: House) -> None:
    """R-RX-9, F50."""
    answer = await raw(quick, head("Content-Length: 100"), b"{", b'"', pause=0.1)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"Connection: close" in answer


async def test_each_request_of_a_connection_has_the_deadline_anew(house: House, later: Later) -> None:
    """R-RX-9: also where its first bytes came with the end of the request before. The deadline is 10 s."""
    bodies = [a_body(after=letter * 40) for letter in "abc"]
    whole = b"".join(raw_delivery(body).replace(b"Connection: close\r\n", b"") for body in bodies[:2])
    last = raw_delivery(bodies[2])
    pieces = (whole[:-50], whole[-50:] + last[:20], last[20:-20], last[-20:])
    answers = await raw(house, *pieces, pause=3.5, later=later)
    assert answers.count(b"HTTP/1.1 202 ") == 3


async def test_slow_headers_are_cut_off(quick: House) -> None:
    """R-RX-9, F50."""
    started = asyncio.get_running_loop().time()
    assert await raw(quick, b"POST /webhook HTTP/1.1\r\n", b"Host: x\r\n", b"X-A: 1\r\n", pause=0.1) == b""
    assert await raw(quick) == b""
    assert asyncio.get_running_loop().time() - started < 9  # the usual deadline is 10 s


async def test_a_good_delivery_is_answered_while_many_connections_stall(house: House) -> None:
    """R-RX-9, F50: 200 of them, half in the headers and half in the body."""
    stalled = []
    for index in range(200):
        _, writer = await asyncio.open_connection("127.0.0.1", house.server.port)
        writer.write(head("Content-Length: 100")[: None if index % 2 else 40])
        stalled.append(writer)
    started = asyncio.get_running_loop().time()
    assert (await house.deliver(PUSH)).status == 202
    assert asyncio.get_running_loop().time() - started < 5.0  # the stalled ones have 10 s
    for writer in stalled:
        writer.close()
        await writer.wait_closed()


async def test_a_client_that_leaves_in_the_body_leaves_nothing_behind(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """F51: nothing stored, no traceback."""
    for length in (len(PUSH), 5_000_000):
        _, writer = await asyncio.open_connection("127.0.0.1", house.server.port)
        writer.write(head(f"Content-Length: {length}") + PUSH[:50])
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.transport.abort()
        await asyncio.sleep(0.05)
    assert await house.count("deliveries") == 0
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert (await house.deliver(PUSH)).status == 202


async def test_a_client_that_does_not_wait_for_the_answer_is_stored_once(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """F51."""
    _, writer = await asyncio.open_connection("127.0.0.1", house.server.port)
    writer.write(raw_delivery(PUSH))
    await writer.drain()
    writer.transport.abort()
    for _ in range(500):
        if await house.count("deliveries"):
            break
        await asyncio.sleep(0.01)
    assert (await house.deliver(PUSH)).json["decision"] == "duplicate"
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


# --- when it cannot be stored


async def test_what_cannot_be_stored_is_503(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-RX-27: it shows as failed at GitHub, and can be redelivered."""

    async def full(*args: object) -> None:
        raise Unavailable("store-unavailable", "database or disk is full")

    monkeypatch.setattr(house.database, "promise", full)
    answer = await house.deliver(PUSH)
    assert (answer.status, answer.code) == (503, "store-unavailable")
    assert answer.headers["Retry-After"]
    assert house.woken == []


async def test_an_agent_that_is_being_stopped_takes_nothing(house: House) -> None:
    """R-RX-27."""
    house.context.stopping = True
    answer = await house.deliver(PUSH)
    assert (answer.status, answer.code) == (503, "stopping")
    assert await house.count("deliveries") == 0


# --- the rest


async def test_other_methods_are_told_which_one_it_is(house: House) -> None:
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        answer = await house.call(method, "/webhook")
        assert answer.status == 405
        assert answer.headers["Allow"] == "OPTIONS, POST"
    assert (await house.call("OPTIONS", "/webhook")).status == 204


async def test_the_name_it_is_asked_under_does_not_matter(house: House) -> None:
    """R-UI-1 leaves /webhook out."""
    assert (await house.deliver(PUSH, headers_of(PUSH, Host="evil.example"))).status == 202


async def test_what_outsiders_wrote_is_stored_without_control_characters(house: House) -> None:
    """R-RX-32."""
    body = a_body(
        ref="refs/heads/\u001b[31mred\n2026 INFO ok\u202e", sender={"login": "<img onerror=x>\u0000"}
    )
    headers = headers_of(body, X_GitHub_Delivery="g" * 5000)
    answer = await house.deliver(body, headers)
    assert answer.status == 200
    assert len(answer.json["delivery"]) == 128
    await house.deliver(PUSH)
    noted = await house.context.inbox.delivery(hashlib.sha256(body).hexdigest())
    assert noted is not None
    assert (noted.ref, noted.sender) == ("refs/heads/ red 2026 INFO ok", "<img onerror=x>")


CLASSES = {200, 202, 400, 401, 408, 413, 415, 429}


@given(
    body=st.binary(max_size=200) | st.sampled_from([PUSH, PING, b"{}", b"[]"]),
    changes=st.dictionaries(
        st.sampled_from(
            ["Content-Type", "Content-Encoding", "X-GitHub-Event", "X-GitHub-Delivery", "X-Hub-Signature-256"]
        ),
        st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=40)
        | st.sampled_from(["push", "ping", "application/json"]),
        max_size=3,
    ),
    signed=st.booleans(),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_whatever_comes_the_answer_is_one_of_the_listed(
    house: House, body: bytes, changes: dict[str, str], *, signed: bool
) -> None:
    """M10, M11, R-RX-31: no answer of another class, no secret in any of them."""
    headers = headers_of(body if signed else b"other") | {
        name: value.strip() for name, value in changes.items()
    }
    answer = await house.deliver(body, headers)
    assert answer.status in CLASSES
    if answer.status >= 400:
        assert answer.code in {
            "body-invalid",
            "signature-invalid",
            "content-type",
            "too-many-requests",
            "request-invalid",
        }


@given(data=st.binary(max_size=300))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_bytes_that_are_no_http_are_answered_400_or_cut(quick: House, data: bytes) -> None:
    """M10."""
    answer = await raw(quick, data + b"\r\n\r\n\r\n")
    assert answer == b"" or answer.split()[1] in (b"400", b"401", b"404", b"405", b"421")
