"""What every request to the API passes: Host, who asks, scopes, origin, headers, problem documents."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agent.core import access
from agent.core.model import Scope
from agent.store.database import Database
from agent.web.hooks import Webhook
from agent.web.middleware import COOKIE
from agent.web.server import routes
from tests.web.conftest import ADMIN, DEPLOYER, KEYS, READER, SOON, House, open_house, some_settings

OPEN = {("GET", "/health"), ("POST", "/webhook"), ("POST", "/api/v1/session")}
TABLE = [(route.method, route.path) for route in routes(Webhook.__new__(Webhook))]
PATHS = [
    (method, path.replace("{name}", "scraper").replace("{id}", "x1"))
    for method, path in TABLE
    if (method, path) not in OPEN
]


# --- who asks


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_every_route_but_the_open_ones_needs_a_token(house: House, method: str, path: str) -> None:
    """R-UI-4."""
    several: tuple[dict[str, Any], ...] = (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic eDp5"},
        {"Cookie": f"{COOKIE}=x.9.y"},
    )
    for headers in several:
        answer = await house.call(method, path, b"{}", Content_Type="application/json", **headers)
        assert (answer.status, answer.code) == (401, "unauthorized")
        assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_an_unknown_path_tells_a_stranger_nothing(house: House) -> None:
    assert (await house.call("GET", "/no/such/path")).status == 401
    answer = await house.get("/no/such/path")
    assert (answer.status, answer.code) == (404, "not-found")


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [(route.method, route.path, route.scope) for route in routes(Webhook.__new__(Webhook)) if route.scope],
)
async def test_every_route_needs_its_scope(house: House, method: str, path: str, scope: Scope) -> None:
    """R-UI-4: 403 with less, and not with enough."""
    path = path.replace("{name}", "scraper").replace("{id}", "x1")
    order = [Scope.READ, Scope.DEPLOY, Scope.ADMIN]
    for token, held in ((READER, Scope.READ), (DEPLOYER, Scope.DEPLOY), (ADMIN, Scope.ADMIN)):
        answer = await house.call(method, path, b"{}", token=token, Content_Type="application/json")
        assert (answer.status == 403) is (order.index(held) < order.index(scope))
        if answer.status == 403:
            assert answer.code == "forbidden"


async def test_a_bad_token_is_not_saved_by_a_good_cookie(house: House) -> None:
    cookie = f"{COOKIE}={access.seal(KEYS[0], SOON)}"
    assert (await house.call("GET", "/status", Cookie=cookie)).status == 200
    assert (await house.call("GET", "/status", Cookie=cookie, Authorization="Bearer wrong")).status == 401


# --- Host


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8300", "pi.local.evil.example", "", "a b", "127.0.0.2"]
)
@pytest.mark.parametrize("path", ["/", "/status", "/api/v1/services", "/no/such/path"])
async def test_under_a_foreign_name_nothing_answers(house: House, host: str, path: str) -> None:
    """R-UI-1: also with a good token, for the browser has it too."""
    answer = await house.get(path, Host=host)
    assert (answer.status, answer.code) == (421, "wrong-host")


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:9", "127.0.0.1:1", "[::1]:8300", "pi.local", "pi.example.org"]
)
async def test_under_the_configured_names_and_its_own_address_it_answers(house: House, host: str) -> None:
    """R-UI-1."""
    assert (await house.get("/status", Host=host)).status == 200


async def test_health_answers_under_every_name(house: House) -> None:
    """R-UI-1."""
    assert (await house.call("GET", "/health", Host="evil.example")).status == 200


async def test_the_address_that_was_connected_to_is_no_foreign_name(
    tmp_path: Path, database: Database
) -> None:
    settings = some_settings(tmp_path, hosts=(), public_url=None)
    async for house in open_house(tmp_path, database, settings):
        house.context.names = frozenset()
        assert (await house.get("/status", Host="127.0.0.1:8300")).status == 200
        assert (await house.get("/status", Host="127.0.0.2:8300")).status == 421


# --- origin


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 202),
        ({"Origin": "http://127.0.0.1:{port}"}, 202),
        ({"Origin": "https://pi.example.org"}, 202),
        ({"Sec_Fetch_Site": "same-origin"}, 202),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Origin": "http://127.0.0.1:{port}", "Sec_Fetch_Site": "cross-site"}, 403),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content_Type": "multipart/form-data"}, 415),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": ""}, 415),
        ({"Content_Encoding": "gzip"}, 415),
    ],
)
async def test_a_change_comes_from_the_own_page_or_a_program_as_json(
    house: House, headers: dict[str, str], status: int
) -> None:
    """R-UI-3: with a token."""
    filled: dict[str, Any] = {name: value.format(port=house.server.port) for name, value in headers.items()}
    assert (await house.post("/deploy", **filled)).status == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"Sec_Fetch_Site": "same-origin"}, 403),
        ({"Origin": "http://127.0.0.1:{port}"}, 202),
        ({"Origin": "https://evil.example"}, 403),
    ],
)
async def test_a_session_alone_cannot_deploy_from_another_page(
    house: House, headers: dict[str, str], status: int
) -> None:
    """R-UI-3: a form of another origin cannot deploy; neither can who hides its origin."""
    filled: dict[str, Any] = {name: value.format(port=house.server.port) for name, value in headers.items()}
    cookie = f"{COOKIE}={access.seal(KEYS[1], SOON)}"
    assert (await house.post("/deploy", token=None, Cookie=cookie, **filled)).status == status


# --- sessions


async def test_a_token_is_exchanged_for_a_cookie_that_no_script_reads(house: House) -> None:
    """R-UI-3."""
    answer = await house.post("/api/v1/session", {"token": DEPLOYER.decode()}, token=None)
    assert answer.status == 200
    assert answer.json["name"] == "ci"
    assert answer.json["scopes"] == ["deploy", "read"]
    cookie = answer.headers["Set-Cookie"]
    assert {"HttpOnly", "Path=/", "SameSite=Strict", "Max-Age=604800"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    session = cookie.partition(";")[0]
    shown = await house.call("GET", "/api/v1/session", Cookie=session)
    assert (shown.status, shown.json["name"]) == (200, "ci")
    house.clock.advance(access.SESSION_SECONDS)
    assert (await house.call("GET", "/api/v1/session", Cookie=session)).status == 401


async def test_the_cookie_is_secure_where_a_trusted_proxy_spoke_tls(quick: House) -> None:
    login = {"token": READER.decode()}
    behind = await quick.post("/api/v1/session", login, token=None, X_Forwarded_Proto="https")
    assert "Secure" in behind.headers["Set-Cookie"].split("; ")
    plain = await quick.post("/api/v1/session", login, token=None)
    assert "Secure" not in plain.headers["Set-Cookie"]


async def test_who_is_no_trusted_proxy_says_nothing_about_tls(house: House) -> None:
    login = {"token": READER.decode()}
    pretended = await house.post("/api/v1/session", login, token=None, X_Forwarded_Proto="https")
    assert "Secure" not in pretended.headers["Set-Cookie"]


async def test_signing_out_takes_the_cookie_away(house: House) -> None:
    cookie = f"{COOKIE}={access.seal(KEYS[0], SOON)}"
    origin = f"http://127.0.0.1:{house.server.port}"
    answer = await house.call("DELETE", "/api/v1/session", Cookie=cookie, Origin=origin)
    assert answer.status == 204
    assert "Max-Age=0" in answer.headers["Set-Cookie"]


async def test_a_wrong_token_makes_no_session_and_many_must_wait(house: House) -> None:
    for _ in range(10):
        answer = await house.post("/api/v1/session", {"token": "wrong"}, token=None)
        assert (answer.status, answer.code) == (401, "unauthorized")
        assert "Set-Cookie" not in answer.headers
    answer = await house.post("/api/v1/session", {"token": "wrong"}, token=None)
    assert (answer.status, answer.code) == (429, "too-many-requests")
    assert answer.headers["Retry-After"]
    good = await house.post("/api/v1/session", {"token": READER.decode()}, token=None)
    assert good.status == 200


async def test_another_page_cannot_sign_somebody_in(house: House) -> None:
    login = {"token": READER.decode()}
    answer = await house.post("/api/v1/session", login, token=None, Origin="https://evil.example")
    assert (answer.status, answer.code) == (403, "cross-origin")


# --- answers


@pytest.mark.parametrize("path", ["/", "/status", "/health", "/api/v1/events", "/no/such/path"])
@pytest.mark.parametrize("token", [None, READER])
async def test_every_answer_carries_the_security_headers(
    house: House, path: str, token: bytes | None
) -> None:
    """R-UI-5."""
    answer = await house.get(path, token)
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Server"] == "homeport"
    assert len(answer.headers["X-Request-Id"]) == 16


async def test_head_is_get_without_a_body_and_options_names_the_methods(house: House) -> None:
    head = await house.call("HEAD", "/status", token=READER)
    get = await house.get("/status")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Type"] == get.headers["Content-Type"]
    options = await house.call("OPTIONS", "/api/v1/session", token=READER)
    assert (options.status, options.headers["Allow"]) == (204, "DELETE, GET, HEAD, OPTIONS, POST")
    other = await house.call("PUT", "/status", token=READER)
    assert (other.status, other.code) == (405, "method-not-allowed")
    assert other.headers["Allow"] == "GET, HEAD, OPTIONS"


async def test_a_defect_is_answered_without_a_word_of_it_and_logged_once(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def break_down(*args: object) -> None:
        raise RuntimeError("canary of the inside")

    monkeypatch.setattr(house.database, "read", break_down)
    answer = await house.get("/status")
    assert (answer.status, answer.code) == (500, "internal")
    assert b"canary" not in answer.body
    assert answer.json["request"] == answer.headers["X-Request-Id"]
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert answer.json["request"] in record.getMessage()
    assert record.exc_info


async def test_a_defect_in_the_intake_is_a_problem_document_too(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*args: object) -> None:
        raise RuntimeError("canary of the inside")

    monkeypatch.setattr("agent.web.hooks.github.verify", break_down)
    answer = await house.call("POST", "/webhook", b"{}", Content_Type="application/json")
    assert (answer.status, answer.code) == (500, "internal")
    assert b"canary" not in answer.body


@pytest.mark.parametrize(
    "path",
    [
        "/%00",
        "/%ff",
        "/api/v1/deployments/%00",
        "/api/v1/services/{name}",
        "/api/v1/services/%7Bname%7D",
        "/api/v1/services/..%2f..%2fetc",
        "/api/v1/services/%ed%a0%80",
        "//",
        "/status/",
    ],
)
async def test_odd_paths_are_just_not_there(house: House, path: str) -> None:
    """R-UI-8 has no files to serve yet; what is not in the table is 404."""
    assert (await house.get(path)).status == 404


@given(
    method=st.sampled_from(["GET", "POST", "DELETE", "PUT", "HEAD", "OPTIONS", "PATCH"]),
    path=st.sampled_from([path for _, path in PATHS])
    | st.text(st.characters(min_codepoint=33, max_codepoint=126)).map("/".__add__),
    query=st.dictionaries(st.sampled_from(["limit", "before", "after", "service"]), st.text(max_size=12)),
    body=st.binary(max_size=60)
    | st.dictionaries(st.text(max_size=8), st.text(max_size=8)).map(lambda value: json.dumps(value).encode()),
)
@example(method="POST", path="/api/v1/reload", query={}, body=b"")
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_no_request_is_answered_500_or_with_a_secret(
    house: House, method: str, path: str, query: dict[str, Any], body: bytes
) -> None:
    """R-RX-31."""
    import yarl

    url = yarl.URL(house.url + path.split("#", maxsplit=1)[0].split("?", maxsplit=1)[0]).with_query(query)
    headers = {"Authorization": f"Bearer {ADMIN.decode()}", "Content-Type": "application/json"}
    async with house.http.request(method, url, data=body, headers=headers) as response:
        from tests.web.conftest import Answer

        answer = await Answer.of(response)
    without_a_file = path == "/api/v1/reload" and answer.status == 503  # this house has none to take up
    assert answer.status < 500 or without_a_file
