"""Bytes that no client library sends, against the real agent: each has its class of answer and no other, nothing is
stored for them, and no traceback is in the log.

Behind each of them a whole request for /health is sent on the same connection. It is answered if the agent and the
sender agree where the first one ended; else the connection is closed, so that nothing can be smuggled in.
"""

import gzip
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.wire import connected, delivery, everything, exchange, of_github, request, signature, statuses
from tests.world import SECRET, TOKEN, Home, a_home

pytestmark = pytest.mark.outside

LAST = request("GET /health HTTP/1.1", "Host: x", "Connection: close")
BODY = b'{"ref": "refs/heads/main"}'
SIZE = len(BODY)
POST = "POST /webhook HTTP/1.1"
HOST = "Host: x"
GITHUB = of_github(BODY)
LENGTH = f"Content-Length: {SIZE}"
CHUNKED = "Transfer-Encoding: chunked"
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (SIZE, BODY)
OWN = ("Host: 127.0.0.1", f"Authorization: Bearer {TOKEN}")
KEPT = "Connection: keep-alive"
FORM = "Content-Type: application/x-www-form-urlencoded"
JSON = ("Content-Type: application/json", "Content-Length: 2")
BOMB = gzip.compress(b"0" * 10_000_000)


def hook(*lines: str, body: bytes = BODY, end: str = "\r\n") -> bytes:
    """A signed delivery with these headers instead of a plain length."""
    return request(POST, HOST, *GITHUB, *lines, body=body, end=end)


def get(path: str, *lines: str, method: str = "GET") -> bytes:
    """With the token, under the agent's own name."""
    return request(f"{method} {path} HTTP/1.1", *OWN, *lines)


NO_HTTP = {
    "two equal lengths": hook(LENGTH, LENGTH),
    "two lengths": hook(LENGTH, "Content-Length: 5"),
    "a list of lengths": hook(f"Content-Length: {SIZE}, {SIZE}"),
    "length and chunks": hook(LENGTH, CHUNKED, body=CHUNKS),
    "chunks and length": hook(CHUNKED, LENGTH, body=CHUNKS),
    "chunked twice": hook(CHUNKED, CHUNKED, body=CHUNKS),
    "chunked like": hook("Transfer-Encoding: xchunked", body=CHUNKS),
    "identity": hook("Transfer-Encoding: identity"),
    "chunks in HTTP/1.0": request("POST /webhook HTTP/1.0", HOST, *GITHUB, CHUNKED, body=CHUNKS),
    "a negative length": hook("Content-Length: -1"),
    "a signed length": hook(f"Content-Length: +{SIZE}"),
    "a length in hex": hook("Content-Length: 0x10"),
    "an empty length": hook("Content-Length:"),
    "a length of forty digits": hook("Content-Length: " + "9" * 40),
    "a folded header": hook("X-A: one\r\n two", LENGTH),
    "a folded signature": request(
        POST, HOST, *GITHUB[:-1], f"X-Hub-Signature-256:\r\n {signature(BODY)}", LENGTH, body=BODY
    ),
    "bare line feeds": hook(LENGTH, end="\n"),
    "one bare line feed": hook("X-A: 1\nX-B: 2", LENGTH),
    "a bare carriage return": hook("X-A: 1\rX-B: 2", LENGTH),
    "NUL in a value": hook("X-A: a\0b", LENGTH),
    "NUL in a name": hook("X-\0A: ab", LENGTH),
    "a blank before the colon": hook("X-A : ab", LENGTH),
    "a blank before the length's colon": hook(f"Content-Length : {SIZE}"),
    "no colon": hook("nonsense", LENGTH),
    "no name": hook(": value", LENGTH),
    "a header of 20 kB": hook("X-A: " + "a" * 20_000, LENGTH),
    "5000 headers": hook(*(f"X-{number}: 1" for number in range(5000)), LENGTH),
    "two hosts": request("GET /status HTTP/1.1", *OWN, "Host: evil.example"),
    "two hosts of a delivery": hook(HOST, LENGTH),
    "no host": request("GET /status HTTP/1.1", OWN[1]),
    "HTTP/0.9": b"GET /health\r\n\r\n",
    "HTTP/1.2": request("GET /health HTTP/1.2", HOST),
    "HTTP/2.0": request("GET /health HTTP/2.0", HOST),
    "HTTP/9": request("GET /health HTTP/9", HOST),
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(20),
    "TLS": bytes.fromhex("1603010200010001fc0303") + b"a" * 300,
    "an unknown method": request("BREW /webhook HTTP/1.1", HOST),
    "a method in small letters": request("post /webhook HTTP/1.1", HOST, *GITHUB, LENGTH, body=BODY),
    "a blank in the method": request("PO ST /webhook HTTP/1.1", HOST),
    "a path of 100 kB": get("/" + "a" * 100_000),
    "a path of other bytes": get("/\xff\xfe"),
    "a control character in the path": get("/a\x01b"),
    "a blank in the path": get("/a b"),
    "no path": request("GET HTTP/1.1", *OWN),
    "a path without a slash": get("health"),
    "an address that is none": get("http://[::1/"),
    "a port that is none": get("http://x:99999999/health"),
    "nobody's address": get("http://@/health"),
    "a chunk that is no number": hook(CHUNKED, body=b"zz\r\n" + BODY),
    "a negative chunk": hook(CHUNKED, body=b"-5\r\n" + BODY),
    "a chunk of 120 bits": hook(CHUNKED, body=b"f" * 30 + b"\r\n" + BODY),
    "a chunk that is longer than it says": hook(CHUNKED, body=b"5\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunks with bare line feeds": hook(CHUNKED, body=b"%x\n%s\n0\n\n" % (SIZE, BODY)),
    "a line feed in a chunk's extension": hook(CHUNKED, body=b"%x;a\nb\r\n%s\r\n0\r\n\r\n" % (SIZE, BODY)),
    "5000 trailers": hook(CHUNKED, body=b"%x\r\n%s\r\n0\r\n%s\r\n" % (SIZE, BODY, b"X-T: 1\r\n" * 5000)),
    "control characters in a cookie": get("/status", "Cookie: homeport_session=\xff\x7f;;=;"),
}
"""Refused as no HTTP, and nothing behind it is read."""

REFUSED: dict[str, tuple[bytes, int]] = {
    "a transfer encoding besides chunked": (hook("Transfer-Encoding: gzip, chunked", body=CHUNKS), 400),
    "no length": (hook(body=b""), 401),
    "a trailer as the signature": (
        request(
            POST, HOST, *GITHUB[:-1], CHUNKED,
            body=b"%x\r\n%s\r\n0\r\nX-Hub-Signature-256: %s\r\n\r\n" % (SIZE, BODY, signature(BODY).encode()),
        ),
        401,
    ),
    "a bomb": (
        request(POST, HOST, *of_github(BOMB), f"Content-Length: {len(BOMB)}", "Content-Encoding: gzip", body=BOMB),
        415,
    ),
    "gzip that is none": (hook(LENGTH, "Content-Encoding: gzip"), 415),
    "a content type of other bytes": (request(POST, HOST, "Content-Type: \xff", LENGTH, body=BODY), 415),
    "a length that is declared only": (hook("Content-Length: 999999999999", body=b""), 413),
    "a signed push that names nothing": (hook(LENGTH), 400),
    "another path": (delivery(BODY, path="//webhook"), 421),
    "a path that goes up": (delivery(BODY, path="/status/../webhook"), 421),
    "a path that goes up to the status": (request("GET /webhook/../status HTTP/1.1", *OWN), 404),
    "an escaped slash": (delivery(BODY, path="/%2fwebhook"), 421),
    "an escaped slash at the end": (get("/webhook%2f", method="POST"), 404),
    "an escaped NUL": (get("/status%00"), 404),
    "an escape that is none": (get("/%zz"), 404),
    "a parameter of the path": (get("/status;x=1"), 404),
    "a path of 7 kB": (get("/" + "a" * 7000), 404),
    "a host that is none": (request("GET //x:abc/health HTTP/1.1", HOST), 421),
    "the server itself": (get("*", method="OPTIONS"), 404),
    "TRACE": (get("/status", method="TRACE"), 405),
    "TRACE of a delivery": (request("TRACE /webhook HTTP/1.1", HOST), 405),
    "CONNECT": (request("CONNECT evil.example:443 HTTP/1.1", "Host: evil.example:443"), 421),
    "a foreign name": (request("GET /status HTTP/1.1", "Host: evil.example", OWN[1]), 421),
    "the own address in the line, a foreign name in the header": (
        request("POST http://127.0.0.1/deploy HTTP/1.1", "Host: evil.example", OWN[1], *JSON, body=b"{}"),
        421,
    ),
    "a foreign address in the line, the own name in the header": (
        request("POST http://evil.example/deploy HTTP/1.1", *OWN, "Origin: http://evil.example", *JSON, body=b"{}"),
        403,
    ),
    "WebSocket": (request("GET / HTTP/1.1", OWN[0], "Connection: Upgrade", "Upgrade: websocket",
                          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"), 401),
    "a token of other bytes": (request("GET /status HTTP/1.1", OWN[0], "Authorization: Bearer \xff\xfe"), 401),
    "1500 cookies": (request("GET /status HTTP/1.1", OWN[0], "Cookie: " + "a=b; " * 1500), 401),
    "a form that wants to deploy": (
        request("POST /deploy HTTP/1.1", *OWN, FORM, "Content-Length: 1", body=b"a"),
        415,
    ),
}  # fmt: skip
"""Refused for what they are. Behind a body that was not read the connection may be closed, too."""


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """One agent for all of it: what one case leaves behind is found by the last look at it."""
    with a_home(tmp_path_factory.mktemp("home")) as home:
        home.start()
        yield home


def test_what_is_no_http_is_400_and_nothing_behind_it_is_read(agent: Home) -> None:
    """M10, R-RX-8, R-RX-10."""
    found = answers_to(agent, NO_HTTP)
    assert {name: said for name, said in found.items() if said != [400]} == {}
    untouched(agent)


def test_what_is_refused_has_its_own_class_and_the_connection_stays_in_step(agent: Home) -> None:
    """M10, R-RX-8, R-RX-10, R-UI-1, R-UI-3, F49."""
    found = answers_to(agent, {name: sent for name, (sent, _) in REFUSED.items()})
    wrong = {
        name: said
        for name, said in found.items()
        if said not in ([REFUSED[name][1], 200], [REFUSED[name][1]])
    }
    assert wrong == {}
    untouched(agent)


def answers_to(agent: Home, cases: dict[str, bytes]) -> dict[str, list[int]]:
    """Of each case the statuses that came back, the one of the request behind it included."""
    with ThreadPoolExecutor(8) as pool:
        got = pool.map(lambda sent: statuses(exchange(agent.port, sent, LAST)), cases.values())
        return dict(zip(cases, got, strict=True))


def untouched(agent: Home) -> None:
    """Nothing was stored, the agent is well, and its log knows neither a defect nor a secret."""
    for table in ("deliveries", "deployments", "events"):
        assert agent.get(f"/api/v1/{table}").document["items"] == [], table
    assert agent.get("/health").status == 200
    log = agent.log.read_text()
    assert "Traceback" not in log
    assert not [line for line in log.splitlines() if " ERROR " in line]
    assert SECRET not in log
    assert TOKEN not in log


# --- what looks odd and is right

GOOD: dict[str, Callable[[bytes], bytes]] = {
    "as GitHub sends it": delivery,
    "HTTP/1.0, as an old proxy speaks": lambda body: request(
        "POST /webhook HTTP/1.0", HOST, *of_github(body), f"Content-Length: {len(body)}", KEPT, body=body
    ),
    "an absolute address": lambda body: delivery(body, path="http://evil.example/webhook"),
    "an escaped letter": lambda body: delivery(body, path="/%77ebhook"),
    "a query": lambda body: delivery(body, path="/webhook?" + "a" * 7000),
    "chunks with an extension": lambda body: request(
        POST, HOST, *of_github(body), CHUNKED, body=b"%x;a=b\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    ),
    "chunks of one byte": lambda body: request(
        POST, HOST, *of_github(body), CHUNKED,
        body=b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n",
    ),
    "a trailer": lambda body: request(
        POST, HOST, *of_github(body), CHUNKED, body=b"%x\r\n%s\r\n0\r\nX-T: 1\r\n\r\n" % (len(body), body)
    ),
    "a wish for a WebSocket": lambda body: delivery(body, "Connection: Upgrade", "Upgrade: websocket"),
    "an expectation that nobody knows": lambda body: delivery(body, "Expect: tea"),
    "blank lines before it": lambda body: b"\r\n\r\n" + delivery(body),
    "five at once": lambda body: delivery(body) * 5,
}  # fmt: skip


def test_what_looks_odd_and_is_right_is_one_delivery_and_one_deployment(home: Home) -> None:
    """R-RX-13, M10: the same signed bytes, however they come; each is answered, and so is what comes behind it."""
    body = home.push_body(home.remotes["app"].commit("one"))
    first, *rest = answers_to(home, {"the first": delivery(body)}).values()
    assert (first, rest) == ([202, 200], [])
    for name, make in GOOD.items():
        (said,) = answers_to(home, {name: make(body)}).values()
        assert said == [200] * (6 if name == "five at once" else 2), name
    (known,) = home.get("/api/v1/deliveries").document["items"]
    assert home.ended(known["deployments"][0])["state"] == "succeeded"
    assert len(home.get("/api/v1/deployments").document["items"]) == 1
    assert "Traceback" not in home.log.read_text()


def test_h2c_is_answered_as_plain_http(agent: Home) -> None:
    """What curl --http2 asks for; it is answered by HTTP/1.1, and so is what follows on the connection."""
    upgrade = (
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
    )
    with connected(agent.port) as line:
        line.sendall(request("GET /health HTTP/1.1", HOST, *upgrade))
        first = line.recv(65536)
        line.sendall(LAST)
        assert statuses(first + everything(line)) == [200, 200]


def test_a_chunked_body_is_refused_when_it_passes_the_limit(agent: Home) -> None:
    """R-RX-8: its memory is bounded by the limit, whoever sends."""
    before = resident(agent)
    chunk = b"100000\r\n" + b"a" * 0x100000 + b"\r\n"
    assert statuses(exchange(agent.port, hook(CHUNKED, body=b""), *[chunk] * 30)) in ([413], [])
    assert resident(agent) - before < 2 * 25 * 2**20
    untouched(agent)


def resident(agent: Home) -> int:
    """Bytes of memory, at the most so far."""
    assert agent.process is not None
    for line in Path(f"/proc/{agent.process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the agent has ended")
