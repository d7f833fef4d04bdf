"""Every route of the router against what browsers and strangers can do. A new route fails here until it has a rule."""

import hmac
from typing import Any

import pytest

from agent.core import access
from agent.core.model import Fault, Scope, State
from agent.store.transitions import Change, Limits
from agent.web.hooks import Webhook
from agent.web.middleware import COOKIE, Route
from agent.web.server import routes
from tests.web.conftest import ADMIN, KEYS, READER, SHA, SOON, Answer, House, a_body, bearer
from tests.web.test_page import HTML, Reader, page

READ, DEPLOY, ADMINISTER = Scope.READ, Scope.DEPLOY, Scope.ADMIN

RULES: dict[str, Scope | None] = {
    "POST /webhook": None,  # open: the signature says who it is from
    "GET /health": None,  # open: no more than the contract says
    "POST /api/v1/session": None,  # open: it is where the token is shown
    "GET /": READ,
    "GET /status": READ,
    "POST /deploy": DEPLOY,
    "GET /api/v1/session": READ,
    "DELETE /api/v1/session": READ,
    "GET /api/v1/services": READ,
    "GET /api/v1/services/{name}": READ,
    "POST /api/v1/services/{name}/hold": DEPLOY,
    "POST /api/v1/services/{name}/resume": DEPLOY,
    "POST /api/v1/services/{name}/rollback": DEPLOY,
    "POST /api/v1/services/{name}/drill": DEPLOY,
    "GET /api/v1/deployments": READ,
    "GET /api/v1/deployments/{id}": READ,
    "GET /api/v1/deployments/{id}/log": READ,
    "GET /api/v1/deliveries": READ,
    "GET /api/v1/deliveries/{id}": READ,
    "GET /api/v1/backups": READ,
    "POST /api/v1/backups": DEPLOY,
    "GET /api/v1/backups/{id}": READ,
    "POST /api/v1/backups/{id}/verify": DEPLOY,
    "GET /api/v1/backups/{id}/content": ADMINISTER,  # all of the service's data
    "POST /api/v1/backups/{id}/restore": ADMINISTER,
    "POST /api/v1/backups/prune": ADMINISTER,
    "GET /api/v1/events": READ,
    "POST /api/v1/reload": ADMINISTER,
}
"""Who may use which route. Only those with None are open to strangers."""

ANY_HOST = {"POST /webhook", "GET /health"}
"""They answer under every name (CONTRACT): GitHub and monitors ask under names that we do not know."""

EVERY = [(f"{route.method} {route.path}", route) for route in routes(Webhook.__new__(Webhook))]


def of(*, guarded: bool = True, changing: bool | None = None) -> list[Any]:
    """Routes as parameters: those that change something, or those that do not, or (None) all."""
    return [
        pytest.param(route, id=name)
        for name, route in EVERY
        if (route.guarded or not guarded) and changing in (None, route.method != "GET")
    ]


def path_of(route: Route) -> str:
    return route.path.replace("{name}", "scraper").replace("{id}", "x1")


async def ask(house: House, route: Route, **headers: Any) -> Answer:
    """With all that a request to it needs; `headers` differ, None leaves one out."""
    plain: dict[str, Any] = {
        "Content_Type": "application/json",
        "Authorization": bearer(ADMIN)["Authorization"],
    }
    sent = {name: value for name, value in (plain | headers).items() if value is not None}
    body = b"{}" if route.method == "POST" else None
    return await house.call(route.method, path_of(route), body, **sent)


async def rows(house: House) -> int:
    """How much there is in the state, all in all."""
    return sum(
        [await house.count(table) for table in ("deliveries", "deployments", "events", "services", "keys")]
    )


def test_every_route_has_a_rule() -> None:
    """R-UI-4."""
    assert {name: route.scope for name, route in EVERY} == RULES
    assert {name for name, route in EVERY if route.any_host} == ANY_HOST
    assert {name for name, route in EVERY if not route.guarded} == {"POST /webhook"}


@pytest.mark.parametrize("route", of())
async def test_under_a_foreign_name_no_route_answers(house: House, route: Route) -> None:
    """R-UI-1: a page whose name was bound to our address has no way in, also with a good token or session."""
    if route.any_host:
        return
    session = f"{COOKIE}={access.seal(KEYS[2], SOON)}"
    for headers in (
        {},
        {"Authorization": None, "Cookie": session},
        {"Upgrade": "websocket", "Connection": "Upgrade"},
    ):
        answer = await ask(house, route, Host="evil.example", Origin="http://evil.example", **headers)
        assert (answer.status, answer.code) == (421, "wrong-host")
    assert await rows(house) == 0


CROSS = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},  # another port of the same machine is another origin
    {"Origin": "http://127.0.0.1.evil.example"},
    {"Origin": "file://"},
    {"Sec_Fetch_Site": "cross-site"},
    {"Sec_Fetch_Site": "same-site"},
]


@pytest.mark.parametrize("route", of(changing=True))
async def test_no_other_page_can_change_anything(house: House, route: Route) -> None:
    """R-UI-3: neither with what the browser adds by itself, nor with a token that it got hold of, nor by a form."""
    session: dict[str, Any] = {"Authorization": None, "Cookie": f"{COOKIE}={access.seal(KEYS[2], SOON)}"}
    for headers in CROSS:
        for who in ({}, session):
            answer = await ask(house, route, **headers, **who)
            assert (answer.status, answer.code) == (403, "cross-origin"), headers
    if route.scope is not None:
        assert (await ask(house, route, **session)).code == "cross-origin", "a session without an Origin"
    if route.method != "DELETE":
        for kind in (
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "text/plain",
            None,
            "*/*",
        ):
            assert (await ask(house, route, Content_Type=kind or "")).code == "content-type", kind
        assert (await ask(house, route, Content_Encoding="gzip")).code == "content-type"
    assert await rows(house) == 0


@pytest.mark.parametrize("route", of(changing=True))
async def test_what_changes_something_cannot_be_done_by_a_link(house: House, route: Route) -> None:
    """R-UI-3: a GET of it is another route, or none; and no header turns it into what it is not."""
    names = {name for name, _ in EVERY}
    override: dict[str, Any] = {"X_HTTP_Method_Override": route.method, "X_Method_Override": route.method}
    answer = await house.call("GET", path_of(route), token=ADMIN, **override)
    assert answer.status in ((200, 404) if f"GET {route.path}" in names else (404, 405))
    assert await rows(house) == 0


@pytest.mark.parametrize("route", of(changing=False))
async def test_what_reads_changes_nothing_and_upgrades_for_nobody(house: House, route: Route) -> None:
    """R-UI-2: asking for a WebSocket from another page is refused, with a session also where no Origin is named."""
    upgrade: dict[str, Any] = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Version": "13"}
    session: dict[str, Any] = {"Authorization": None, "Cookie": f"{COOKIE}={access.seal(KEYS[2], SOON)}"}
    for headers in CROSS:
        for who in ({}, session):
            assert (await ask(house, route, **upgrade, **headers, **who)).code == "cross-origin"
    assert (await ask(house, route, **upgrade, **session)).code == "cross-origin"
    own = f"http://127.0.0.1:{house.server.port}"
    for allowed in ({}, {"Origin": own}, session | {"Origin": own}):
        assert (await ask(house, route, **upgrade, **allowed)).status in (200, 404)
    for method in ("GET", "HEAD"):
        assert (await house.call(method, path_of(route), token=ADMIN)).status in (200, 404)
    assert await rows(house) == 0


@pytest.mark.parametrize("route", of())
async def test_every_answer_of_every_route_forbids_frames_caches_and_foreign_scripts(
    house: House, route: Route
) -> None:
    """R-UI-5: for who may, for who may not, for strangers, and for a browser."""
    several: list[dict[str, Any]] = [
        {}, {"Authorization": bearer(READER)["Authorization"]}, {"Authorization": None},
        {"Authorization": None, **HTML}, {"Origin": "https://evil.example"}, {"Host": "evil.example"},
    ]  # fmt: skip
    for headers in several:
        answer = await ask(house, route, **headers)
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'self';")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        fixed = {
            "X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store", "Cross-Origin-Resource-Policy": "same-origin", "Server": "homeport",
        }  # fmt: skip
        assert {name: answer.headers[name] for name in fixed} == fixed
        assert "Access-Control-Allow-Origin" not in answer.headers
        if answer.body:
            kind = answer.headers["Content-Type"]
            assert kind.partition(";")[0] in {
                "application/json", "application/problem+json", "text/html", "text/plain", "application/x-tar",
            }  # fmt: skip


async def test_the_answers_of_the_webhook_are_nothing_for_a_browser(house: House) -> None:
    """R-UI-5: JSON and nothing of what was sent, so that nothing in it can be run."""
    answer = await house.deliver(b"<script>alert(1)</script>")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert b"<script" not in answer.body
    assert answer.headers["Server"] == "homeport"


# --- wrong tokens


async def test_guessing_tokens_is_bounded_and_good_ones_are_never_limited(house: House) -> None:
    """R-UI-4: at the API as at the login, and both together."""
    wrong = [(await house.get("/status", b"wrong%d" % number)).status for number in range(6)]
    login = [
        (await house.post("/api/v1/session", {"token": f"wrong{number}"}, token=None)).status
        for number in range(6)
    ]
    assert wrong + login == [401] * 10 + [429] * 2
    limited = await house.get("/status", b"wrong")
    assert (limited.status, limited.code) == (429, "too-many-requests")
    assert 1 <= int(limited.headers["Retry-After"]) <= 60
    assert (await house.get("/status")).status == 200
    assert (await house.call("GET", "/status")).status == 401, "who shows no token guesses nothing"
    house.clock.advance(61)
    assert (await house.get("/status", b"wrong")).status == 401


def test_every_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """R-UI-4: all of them, also behind the one that matches, and never the token itself."""
    compared: list[tuple[int, int]] = []
    real = hmac.compare_digest

    def watched(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return real(one, other)

    monkeypatch.setattr("agent.core.access.hmac.compare_digest", watched)
    for token in (READER, ADMIN, b"", b"x" * 1000):
        compared.clear()
        access.authenticate(token, KEYS)
        assert compared == [(32, 32)] * len(KEYS)


# --- what others wrote, on the page

EVIL = "<img src=x onerror=alert(1)>\"'><script>alert(2)</script><a href=javascript:alert(3)>`<b>`"


async def test_what_commits_programs_and_people_wrote_is_inert_on_the_page(house: House) -> None:
    """R-RX-32, R-UI-5: reasons, hints, what a build printed, names of branches and of who asked."""
    await house.deliver(a_body())
    journal = house.context.journal
    deployment = await journal.claim("scraper", "c0ffee")
    assert deployment is not None
    deployment = await journal.advance(deployment, State.BUILDING, Change(revision=SHA))
    change = Change(reason=EVIL, hint=EVIL, fault=Fault.COMMIT, detail=EVIL, output=f"{EVIL}\n</pre>{EVIL}")
    await journal.advance(deployment, State.FAILED, change, Limits(2))
    await house.post("/deploy", {"revision": "<img/src=x/onerror=alert(1)>", "reason": EVIL})
    await house.post("/api/v1/services/scraper/hold", {"reason": EVIL})
    house.backups.put("20261122-b1", state=EVIL)
    house.states["scraper"] = ("unhealthy", EVIL)
    answer = await page(house)
    seen = Reader(answer)
    names = [tag for tag, _ in seen.tags]
    assert not {"img", "a", "b", "iframe", "object", "base", "form"} & set(names)
    assert names.count("script") == 1
    attributes = [pair for _, several in seen.tags for pair in several.items()]
    assert not [name for name, _ in attributes if name.startswith("on")]
    assert not [value for name, value in attributes if value and name != "title" and "javascript:" in value]
    assert seen.text.count("onerror=alert(1)") >= 6
    assert seen.text.count("alert(2)") >= 5
