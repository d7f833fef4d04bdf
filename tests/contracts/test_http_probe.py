"""The `http` probe over real sockets: what counts as a right answer, and whose socket gave it."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from agent.adapters.probes.http import HttpProbe
from agent.core import settings
from agent.core.model import Probed
from agent.system import tls as system_tls
from tests.contracts.probes import SECRET, Answer, a_launch, a_response, answering, around, certified

LAUNCH = a_launch(Path("/"))


def a_probe(url: str, **options: Any) -> HttpProbe:
    for name in ("timeout", "latency"):
        if name in options:
            options[name] = settings.Seconds(options[name])
    return HttpProbe(settings.HttpProbe(url=url, **options), around(Path("/")))


async def asked(url: str, **options: Any) -> Probed:
    return await a_probe(url, **options).ask(LAUNCH)


async def ask(answer: Answer | bytes, **options: Any) -> tuple[bool, str]:
    async with answering(answer) as port:
        probed = await asked(f"http://127.0.0.1:{port}/health", **options)
    return probed.healthy, probed.detail.partition("/health: ")[2]


# --- the answer


@pytest.mark.parametrize("status", [204, 301, 404, 500])
async def test_only_the_configured_status_is_healthy(status: int) -> None:
    assert await ask(a_response(f"{status} X", b""), status=status) == (True, str(status))
    assert await ask(a_response(f"{status} X", b"")) == (False, f"{status} instead of 200")


async def test_a_redirect_is_not_followed() -> None:
    """F66: 302 to a login page. R-RB-7"""
    healthy, detail = await ask(a_response("302 Found", b"", Location="/login?next=secret"))
    assert (healthy, detail) == (False, "302 instead of 200, redirected to /login")


async def test_what_the_service_says_is_shown_cleaned_redacted_and_cut() -> None:
    body = f"\x1b[31mdatabase {SECRET} is locked\x1b[0m ".encode() + b"x" * 1000
    healthy, detail = await ask(a_response("503 X", body))
    assert not healthy
    assert detail.startswith("503 instead of 200: database *** is locked x")
    assert len(detail) < 160


async def test_a_slow_answer_within_the_timeout_is_healthy_and_one_after_it_is_not() -> None:
    """F66: slow."""

    async def slow(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.2)
        writer.write(a_response())

    assert await ask(slow, timeout=60) == (True, "200")
    assert await ask(slow, timeout=0.1) == (False, "no answer within 0.1 s")


async def test_the_deadline_also_covers_a_body_that_drips() -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(100):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    assert await ask(drip, timeout=0.2) == (False, "no answer within 0.2 s")


async def test_a_body_that_breaks_off_is_a_failure() -> None:
    healthy, detail = await ask(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
    assert not healthy
    assert detail.startswith("no answer: ")


async def test_a_body_without_end_is_read_to_64_kib_only() -> None:
    sent = 0

    async def endless(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    assert await ask(endless) == (True, "200")
    assert sent < 64 << 20


@pytest.mark.parametrize(
    "answer",
    [b"", b"\0\0\0\0\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200", b"HTTP/1.1 99999 OK\r\n\r\n"],
)
async def test_what_is_not_http_is_a_failure(answer: bytes) -> None:
    healthy, detail = await ask(answer)
    assert not healthy
    assert detail.startswith(("no answer: ", "99999"))


async def test_each_question_has_a_connection_of_its_own() -> None:
    """A kept connection could lead to the old process after the switch."""
    connections = 0

    async def count(writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.write(a_response(Connection="keep-alive"))
        await writer.drain()
        await asyncio.sleep(0.05)

    async with answering(count) as port:
        probe = a_probe(f"http://127.0.0.1:{port}/health")
        assert (await probe.ask(LAUNCH)).healthy
        assert (await probe.ask(LAUNCH)).healthy
    assert connections == 2


async def test_no_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert await ask(a_response()) == (True, "200")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:99999/",
        "http://no such host/",
        "http://[::1",
        "ftp://127.0.0.1/",
        "http://a..b/",
        "nonsense",
    ],
)
async def test_a_url_that_is_none_is_a_failure_and_no_exception(url: str) -> None:
    assert not (await asked(url)).healthy


async def test_the_detail_shows_no_password_and_no_query() -> None:
    async with answering(a_response()) as port:
        probed = await asked(f"http://me:secret@127.0.0.1:{port}/health?token=secret")
    assert probed.healthy
    assert "secret" not in probed.detail


async def test_a_certificate_that_nobody_vouches_for_is_a_failure(tmp_path: Path) -> None:
    """R-RB-7: TLS verify on."""
    tls = certified(tmp_path)
    async with answering(a_response(), tls) as port:
        probed = await asked(f"https://localhost:{port}/health")
    assert not probed.healthy
    assert "certificate verify failed" in probed.detail.lower()


async def test_a_certificate_that_the_machine_vouches_for_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-RB-7: the machine's authorities, read when they are first needed."""
    tls = certified(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate"))
    system_tls._verifying.cache_clear()
    async with answering(a_response(), tls) as port:
        probed = await asked(f"https://localhost:{port}/health")
    system_tls._verifying.cache_clear()
    assert probed.healthy, probed.detail


async def test_a_certificate_that_nobody_vouches_for_is_taken_if_that_was_said(tmp_path: Path) -> None:
    tls = certified(tmp_path)
    async with answering(a_response(), tls) as port:
        assert (await asked(f"https://localhost:{port}/health", verify_tls=False)).healthy


# --- what the body says


def a_document(document: object) -> bytes:
    return a_response(body=json.dumps(document).encode())


async def test_a_body_that_says_error_is_not_healthy_whatever_its_status() -> None:
    """F66, R-RB-7: 200, but the body says error."""
    wanted = {"status": "healthy", "db.rows": 3}
    right = {"status": "healthy", "db": {"rows": 3, "more": []}, "x": None}
    assert await ask(a_document(right), json=wanted) == (True, "200")
    wrong = {"status": "sick", "db": {}}
    assert await ask(a_document(wrong), json=wanted) == (
        False, '200, but status is "sick" instead of "healthy", there is no db.rows',
    )  # fmt: skip


async def test_the_status_comes_before_the_body() -> None:
    healthy, detail = await ask(a_response("503 X", b'{"status": "healthy"}'), json={"status": "healthy"})
    assert not healthy
    assert detail.startswith("503 instead of 200")


@pytest.mark.parametrize(
    "body", [b"", b"ok", b"\xff", b"{", b'{"status": "healthy"} x', b"[" * 30000, b"{}{}"]
)
async def test_what_is_not_json_is_not_healthy(body: bytes) -> None:
    assert await ask(a_response(body=body), json={"status": "healthy"}) == (
        False,
        "200, but the body is not JSON",
    )


@pytest.mark.parametrize(("size", "healthy"), [(65536, True), (65537, False), (1 << 20, False)])
async def test_json_is_read_up_to_64_kib(size: int, healthy: bool) -> None:
    body = b'{"status": "healthy"'.ljust(size - 1) + b"}"
    assert await ask(a_response(body=body), json={"status": "healthy"}) == (
        healthy, "200" if healthy else "200, but the body is longer than 64 KiB",
    )  # fmt: skip


async def test_a_body_must_contain_what_is_said() -> None:
    assert await ask(a_response(body="alles läuft".encode()), body="läuft") == (True, "200")
    assert await ask(a_response(body=b"error"), body="l\u00e4uft") == (
        False, '200, but the body does not contain "läuft"',
    )  # fmt: skip
    assert not (await ask(a_response(body=b" " * 65536 + b"ok"), body="ok"))[0], "within its first 64 KiB"


async def test_what_the_body_says_instead_is_shown_cleaned_redacted_and_cut() -> None:
    value = f"\x1b[31m{SECRET} " + "x" * 9999
    healthy, detail = await ask(a_document({"status": value}), json={"status": "ok"})
    assert not healthy
    assert detail.startswith('200, but status is "')
    assert "*** x" in detail
    assert len(detail) < 300


# --- how long it took


async def test_an_answer_that_is_right_but_slow_is_told_apart_from_none() -> None:
    """F66: slow."""

    async def slow(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.2)
        writer.write(a_response())

    assert await ask(slow, latency=20, timeout=60) == (True, "200")
    healthy, detail = await ask(slow, latency=0.1, timeout=60)
    assert not healthy
    took = re.fullmatch(r"200, but it took (\S+) s; 0\.1 s are allowed", detail)
    assert took is not None, detail
    assert 0.2 <= float(took[1]) < 5


async def test_an_answer_that_is_wrong_and_slow_is_told_as_wrong() -> None:
    async def slow(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.1)
        writer.write(a_response("500 X", b""))

    assert await ask(slow, latency=0.01, timeout=60) == (False, "500 instead of 200")


# --- what is asked


async def requests_of(answers: dict[str, bytes], **options: Any) -> tuple[Probed, list[str]]:
    """What was asked of a server that answers each path as it is told (PORT stands for its own), in order."""
    seen: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        seen.append(request)
        writer.write(answers[request.split(" ")[1]].replace(b"PORT", str(port).encode()))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        return await asked(f"http://127.0.0.1:{port}/health", **options), seen


async def test_headers_and_a_bearer_are_sent() -> None:
    probed, (request,) = await requests_of(
        {"/health": a_response()}, headers={"X-Site": "one", "user-agent": "me"},
        bearer=settings.SecretRef(env="TOKEN"),
    )  # fmt: skip
    assert probed.healthy
    lines = request.lower().splitlines()
    assert lines[0] == "get /health http/1.1"
    assert {"x-site: one", "user-agent: me", f"authorization: bearer {SECRET}"} <= set(lines)
    assert len([line for line in lines if line.startswith("user-agent")]) == 1
    assert SECRET not in probed.detail


async def test_head_asks_for_no_body() -> None:
    probed, (request,) = await requests_of(
        {"/health": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"}, method="HEAD"
    )
    assert probed.healthy, probed.detail
    assert request.startswith("HEAD /health ")
    assert probed.detail.startswith("HEAD http://")


# --- redirects that may be followed


def to(target: str, status: str = "302 Found") -> bytes:
    return a_response(status, b"", Location=target)


async def test_redirects_are_followed_as_often_as_is_said() -> None:
    chain = {"/health": to("/a"), "/a": to("http://127.0.0.1:PORT/b?x=1", "308 X"), "/b?x=1": a_response()}
    probed, seen = await requests_of(chain, redirects=2)
    assert probed.healthy, probed.detail
    assert [line.split(" ")[1] for line in seen] == ["/health", "/a", "/b?x=1"]
    probed, seen = await requests_of(chain, redirects=1)
    assert not probed.healthy
    assert "308 instead of 200, redirected to http://127.0.0.1" in probed.detail
    assert len(seen) == 2


async def test_redirects_in_a_circle_end() -> None:
    probed, seen = await requests_of({"/health": to("/health")}, redirects=10)
    assert not probed.healthy
    assert len(seen) == 11


async def test_a_redirect_that_is_the_status_that_is_wanted_is_not_followed() -> None:
    probed, seen = await requests_of({"/health": to("/a")}, redirects=3, status=302)
    assert probed.healthy
    assert len(seen) == 1


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/", "file:///etc/passwd", "gopher:x", "data:,ok"])
async def test_a_redirect_never_leads_to_another_scheme(target: str) -> None:
    probed, seen = await requests_of({"/health": to(target)}, redirects=3)
    assert not probed.healthy
    assert f"302, redirected to {target.partition(':')[0]}, which is not followed" in probed.detail
    assert len(seen) == 1


async def test_a_redirect_never_leads_from_https_to_http(tmp_path: Path) -> None:
    tls = certified(tmp_path)
    async with answering(to("http://127.0.0.1/"), tls) as port:
        probed = await asked(f"https://localhost:{port}/health", verify_tls=False, redirects=3)
    assert "302, redirected from https to http, which is not followed" in probed.detail


async def test_a_bearer_does_not_go_to_another_host() -> None:
    chain = {"/health": to("/a"), "/a": to("http://localhost:PORT/b"), "/b": a_response()}
    probed, seen = await requests_of(chain, redirects=2, bearer=settings.SecretRef(env="TOKEN"))
    assert probed.healthy, probed.detail
    assert [SECRET in request for request in seen] == [True, True, False]


@pytest.mark.parametrize("target", ["http://[::1", "http://a..b/", "http://127.0.0.1:99999/", "//"])
async def test_a_redirect_to_no_address_is_a_failure_and_no_exception(target: str) -> None:
    assert not (await requests_of({"/health": to(target)}, redirects=3))[0].healthy


async def test_no_query_of_a_redirect_is_shown() -> None:
    async with answering(a_response()) as closed:
        pass
    target = f"http://127.0.0.1:{closed}/login?token=private"
    for redirects in (0, 3):
        probed, _ = await requests_of({"/health": to(target)}, redirects=redirects)
        assert not probed.healthy
        assert "private" not in probed.detail


# --- whose socket


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:9100/health", ("127.0.0.1", 9100)),
        ("http://localhost/health", ("localhost", 80)),
        ("https://[::1]/health", ("::1", 443)),
        ("http://192.0.2.1:9100/health", None),
        ("http://example.org/health", None),
        ("http://127.0.0.1:99999/", None),
        ("nonsense", None),
        ("http://[::1", None),
    ],
)
def test_the_address_is_known_where_it_is_this_machines(url: str, address: tuple[str, int] | None) -> None:
    assert a_probe(url).address == address
