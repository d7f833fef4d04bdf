"""The routes: what they answer, and what is in the store then."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from agent.core.model import Delivery, Deployment, Event, Fault, Polled, Proof, Release, ServiceStatus, State
from agent.store.database import Database
from agent.store.journal import Journal
from agent.store.restores import RestoreRows
from agent.store.transitions import Change, Limits
from tests.fakes import START
from tests.web.conftest import (
    ADMIN,
    DEPLOYER,
    READER,
    SHA,
    House,
    a_body,
    a_scraper,
    headers_of,
    open_house,
    some_settings,
)


async def finish(house: House, identity: str) -> None:
    """Takes a queued deployment to its good end."""
    journal = house.context.journal
    deployment = await journal.claim("scraper", "c0ffee")
    assert deployment is not None
    assert deployment.id == identity
    for state in (State.BUILDING, State.BACKING_UP, State.SWITCHING, State.VERIFYING):
        deployment = await journal.advance(deployment, state, Change(revision=SHA))
    live = Release(name=deployment.release or "", service="scraper", revision=SHA)
    await journal.advance(deployment, State.SUCCEEDED, Change(live=live))


async def fail(house: House, output: str) -> str:
    """A deployment whose build failed."""
    identity: str = (await house.post("/deploy")).json["deployment"]["id"]
    journal = house.context.journal
    deployment = await journal.claim("scraper", "c0ffee")
    assert deployment is not None
    deployment = await journal.advance(deployment, State.BUILDING, Change(revision=SHA))
    change = Change(reason="build-failed", output=output)
    await journal.advance(deployment, State.FAILED, change, Limits(max_per_hour=2))
    return identity


# --- /health and /status


@pytest.mark.parametrize(
    ("state", "status", "overall", "score"),
    [
        (None, 200, "degraded", 50),
        ("none", 200, "healthy", 100),
        ("healthy", 200, "healthy", 100),
        ("held", 200, "degraded", 75),
        ("unhealthy", 503, "unhealthy", 0),
    ],
)
async def test_health_is_open_and_says_how_everything_is(
    house: House, state: str | None, status: int, overall: str, score: int
) -> None:
    if state:
        house.states["scraper"] = (state, "because")
    house.clock.advance(3.25)
    answer = await house.call("GET", "/health")
    assert answer.status == status
    assert answer.json == {
        "status": overall,
        "version": "9.9.9",
        "uptime_seconds": 3.2,
        "score": score,
        "services": {"scraper": state or "unknown"},
    }


async def test_health_does_not_ask_the_store(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house.database, "read", None)
    monkeypatch.setattr(house.database, "write", None)
    assert (await house.call("GET", "/health")).status == 200


async def test_status_before_the_first_deployment(house: House) -> None:
    house.states["scraper"] = ("none", "")
    document = (await house.get("/status")).json
    assert document["services"] == {
        "scraper": {
            "live": None,
            "last": None,
            "current": None,
            "health": "none",
            "health_detail": "",
            "hold": None,
            "quarantine": [],
            "last_backup": None,
            "last_proven_restore": None,
            "frozen_until": None,
            "poll": None,
        }
    }
    assert document["host"] == {"disk_free_bytes": 5 * 2**30}
    assert document["agent"]["version"] == "9.9.9"
    assert document["agent"]["pid"] > 0
    assert document["agent"]["listening"] == {
        "host": "127.0.0.1",
        "port": house.server.port,
        "socket": house.socket,
    }


async def test_status_after_a_deployment_names_what_is_live(house: House) -> None:
    made = (await house.post("/deploy")).json["deployment"]
    assert (await house.get("/status")).json["services"]["scraper"]["current"]["id"] == made["id"]
    await finish(house, made["id"])
    house.states["scraper"] = ("healthy", "answers in 3 ms")
    service = (await house.get("/status")).json["services"]["scraper"]
    assert service["live"]["revision"] == SHA
    assert set(service["live"]) == {"revision", "release", "since"}
    assert service["last"]["state"] == "succeeded"
    assert service["current"] is None
    assert (service["health"], service["health_detail"]) == ("healthy", "answers in 3 ms")


async def test_status_tells_the_last_poll_and_the_freeze(house: House) -> None:
    polled = Polled(at=START, tip=SHA, note="the tip is live")
    house.context.polled = {"scraper": polled}.get
    house.context.frozen_until = {"scraper": START}.get
    service = (await house.get("/status")).json["services"]["scraper"]
    assert service["poll"] == {"at": "2026-11-22T12:00:00Z", "tip": SHA, "note": "the tip is live"}
    assert service["frozen_until"] == "2026-11-22T12:00:00Z"


# --- /deploy


async def test_a_person_can_deploy_the_tip(house: House) -> None:
    answer = await house.post("/deploy")
    assert answer.status == 202
    assert set(answer.json) == {"deployment"}
    deployment = msgspec.convert(answer.json["deployment"], Deployment)
    assert (deployment.state, deployment.service, deployment.revision) == ("queued", "scraper", None)
    assert (deployment.trigger.kind, deployment.trigger.actor) == ("manual", "ci")
    assert answer.headers["Location"] == f"/api/v1/deployments/{deployment.id}"
    assert house.woken == ["scraper"]


async def test_a_person_can_name_revision_reason_and_service(house: House) -> None:
    answer = await house.post(
        "/deploy",
        {"service": "scraper", "revision": "release/2.1", "force": True, "reason": "try\u001b[31m it"},
    )
    made = answer.json["deployment"]
    assert (made["requested"], made["revision"], made["force"]) == ("release/2.1", None, True)
    (event, *_) = (await house.get("/api/v1/events")).json["items"]
    assert event["data"]["reason"] == "try it"
    full = (await house.post("/deploy", {"revision": SHA})).json["deployment"]
    assert full["revision"] == SHA


@pytest.mark.parametrize(
    ("document", "status", "code"),
    [
        ({"service": "nobody"}, 404, "unknown-service"),
        ({"servise": "scraper"}, 400, "request-invalid"),
        ({"service": 1}, 400, "request-invalid"),
        ({"force": "yes"}, 400, "request-invalid"),
        ([], 400, "request-invalid"),
        ({"revision": ""}, 400, "request-invalid"),
        ({"revision": "--upload-pack=touch${IFS}pwned"}, 400, "request-invalid"),
        ({"revision": "a..b"}, 400, "request-invalid"),
        ({"revision": "a b"}, 400, "request-invalid"),
        ({"revision": "main\n"}, 400, "request-invalid"),
        ({"revision": "HEAD~1"}, 400, "request-invalid"),
        ({"revision": "@{-1}"}, 400, "request-invalid"),
        ({"revision": "x" * 256}, 400, "request-invalid"),
    ],
)
async def test_a_wish_that_is_not_well_formed_is_refused(
    house: House, document: Any, status: int, code: str
) -> None:
    """R-UI-4, R-RX-21."""
    answer = await house.post("/deploy", document)
    assert (answer.status, answer.code) == (status, code)
    assert await house.count("deployments") == 0


@pytest.mark.parametrize("body", [b"{", b"\xff", b'{"service": "\xff"}', b"[" * 50_000])
async def test_a_body_that_is_no_json_is_refused(house: House, body: bytes) -> None:
    answer = await house.call("POST", "/deploy", body, token=DEPLOYER, Content_Type="application/json")
    assert (answer.status, answer.code) == (400, "request-invalid")


async def test_a_body_over_the_limit_is_refused(house: House) -> None:
    answer = await house.post("/deploy", {"reason": "x" * 70_000})
    assert (answer.status, answer.code) == (413, "body-too-large")


async def test_no_body_is_an_empty_one(house: House) -> None:
    answer = await house.call("POST", "/deploy", b"", token=DEPLOYER, Content_Type="application/json")
    assert answer.status == 202


async def test_the_same_idempotency_key_is_the_same_deployment_for_the_same_caller(house: House) -> None:
    """R-UI-4."""
    wish = {"revision": "v1"}
    answers = [await house.post("/deploy", wish, Idempotency_Key="k-1") for _ in range(3)]
    assert len({answer.json["deployment"]["id"] for answer in answers}) == 1
    other = await house.post("/deploy", {"revision": "v2"}, token=ADMIN, Idempotency_Key="k-1")
    assert other.json["deployment"]["id"] != answers[0].json["deployment"]["id"]
    assert (await house.post("/deploy", Idempotency_Key="k 1")).status == 400
    assert (await house.post("/deploy", Idempotency_Key="k" * 256)).status == 400


async def test_two_persons_who_want_the_tip_get_one_deployment(house: House) -> None:
    """F95: the first one's wait would end "superseded", as if something had failed."""
    first, second = await house.post("/deploy"), await house.post("/deploy", token=ADMIN)
    assert first.json["deployment"]["id"] == second.json["deployment"]["id"]
    forced = [await house.post("/deploy", {"force": True}) for _ in range(2)]
    assert len({answer.json["deployment"]["id"] for answer in (first, *forced)}) == 2
    tag = await house.post("/deploy", {"revision": "v1"})
    assert tag.json["deployment"]["id"] not in {
        answer.json["deployment"]["id"] for answer in (first, *forced)
    }


async def test_with_several_services_one_must_be_named(tmp_path: Path, database: Database) -> None:
    settings = some_settings(tmp_path, services={"web": a_scraper(), "worker": a_scraper()})
    async for house in open_house(tmp_path, database, settings):
        answer = await house.post("/deploy")
        assert (answer.status, answer.code) == (400, "request-invalid")
        assert "web, worker" in answer.json["hint"]
        assert (await house.post("/deploy", {"service": "worker"})).status == 202


async def test_what_is_on_its_way_is_answered_with_its_deployment(house: House) -> None:
    """F95: queued by a delivery, and then running."""
    placed = (await house.deliver(a_body())).json["deployments"][0]["id"]
    for _ in range(2):
        assert (await house.post("/deploy", {"revision": SHA})).json["deployment"]["id"] == placed
        await house.context.journal.claim("scraper", "c0ffee")
    assert await house.count("deployments") == 1


async def test_a_person_and_a_delivery_at_once_see_the_same_deployment(house: House) -> None:
    """F95: ten of each, for one revision, in whatever order they come in."""
    bodies = [a_body(commits=[{"message": str(number)}]) for number in range(10)]
    calls = [(house.deliver(body), house.post("/deploy", {"revision": SHA})) for body in bodies]
    answers = [answer.json for answer in await asyncio.gather(*(call for pair in calls for call in pair))]
    ids = {answer["deployment"]["id"] if "deployment" in answer else answer["deployments"][0]["id"]
           for answer in answers}  # fmt: skip
    assert len(ids) == 1
    assert await house.count("deployments") == 1


async def test_a_quarantined_revision_is_refused_by_name_and_forced_with_a_record(house: House) -> None:
    """R-RB-2."""
    journal = house.context.journal
    await house.post("/deploy", {"revision": SHA})
    deployment = await journal.claim("scraper", "c0ffee")
    assert deployment is not None
    deployment = await journal.advance(deployment, State.BUILDING, Change(revision=SHA))
    change = Change(reason="build-failed", fault=Fault.COMMIT)
    await journal.advance(deployment, State.FAILED, change, Limits(max_per_hour=2))
    refused = await house.post("/deploy", {"revision": SHA})
    assert (refused.status, refused.code) == (409, "quarantined")
    forced = await house.post("/deploy", {"revision": SHA, "force": True, "reason": "I know"})
    assert forced.status == 202
    event = (await house.get("/api/v1/events?limit=1")).json["items"][0]
    assert event["deployment"] == forced.json["deployment"]["id"]
    assert (event["data"]["force"], event["data"]["actor"], event["data"]["reason"]) == (True, "ci", "I know")


# --- services, hold and resume


async def test_a_held_service_refuses_until_it_is_resumed_or_forced(house: House) -> None:
    house.states["scraper"] = ("healthy", "")
    held = await house.post("/api/v1/services/scraper/hold", {"reason": "maintenance"})
    assert held.status == 200
    assert held.json["name"] == "scraper"
    assert (held.json["hold"]["reason"], held.json["hold"]["actor"]) == ("maintenance", "ci")
    assert held.json["health"] == "held"
    refused = await house.post("/deploy")
    assert (refused.status, refused.code) == (409, "held")
    assert (await house.post("/deploy", {"force": True})).status == 202
    resumed = await house.post("/api/v1/services/scraper/resume")
    assert (resumed.status, resumed.json["hold"]) == (200, None)
    assert (await house.post("/api/v1/services/scraper/resume")).status == 200
    assert (await house.post("/deploy")).status == 202


async def test_on_resume_the_newest_ignored_delivery_comes(house: House) -> None:
    await house.post("/api/v1/services/scraper/hold")
    body = a_body()
    assert (await house.deliver(body)).json["reason"] == "held"
    resumed = await house.post("/api/v1/services/scraper/resume")
    assert resumed.json["current"]["revision"] == SHA
    assert house.woken == ["scraper"]


async def test_services_are_listed_and_shown(house: House) -> None:
    listed = (await house.get("/api/v1/services")).json
    assert [item["name"] for item in listed["items"]] == ["scraper"]
    assert listed["next"] is None
    shown = await house.get("/api/v1/services/scraper")
    assert msgspec.convert(shown.json, ServiceStatus).name == "scraper"
    for path in ("/api/v1/services/nobody", "/api/v1/services/x" * 1):
        assert (await house.get(path)).code == "unknown-service"
    assert (await house.post("/api/v1/services/nobody/hold")).code == "unknown-service"
    assert (await house.post("/api/v1/services/scraper/resume", {"what": 1})).code == "request-invalid"


# --- going back


async def test_a_person_asks_to_go_back_also_while_the_service_is_held(house: House) -> None:
    """The bare deployment: only `POST /deploy` wraps."""
    await house.post("/api/v1/services/scraper/hold")
    house.woken.clear()
    answer = await house.post("/api/v1/services/scraper/rollback", {"reason": "too slow"})
    assert answer.status == 202
    made = msgspec.convert(answer.json, Deployment)
    assert (made.state, made.target, made.trigger.kind, made.trigger.actor) == (
        State.QUEUED,
        "",
        "manual",
        "ci",
    )
    assert answer.headers["Location"] == f"/api/v1/deployments/{made.id}"
    assert house.woken == ["scraper"]
    event = (await house.get("/api/v1/events?limit=1")).json["items"][0]
    assert (event["name"], event["data"]["reason"]) == ("deployment.queued", "too slow")
    named = await house.post("/api/v1/services/scraper/rollback", {"to": "12-6113728"})
    assert (named.status, named.json["target"]) == (202, "12-6113728")
    assert (await house.post("/api/v1/services/scraper/rollback", {"to": None})).json["id"] == made.id


async def test_an_idempotency_key_counts_for_going_back_too(house: House) -> None:
    """R-UI-4."""
    path = "/api/v1/services/scraper/rollback"
    first = await house.post(path, {"to": "1-6113728"}, Idempotency_Key="k-1")
    again = await house.post(path, {"to": "2-6113728"}, Idempotency_Key="k-1")
    assert first.json["id"] == again.json["id"]


async def test_an_idempotency_key_that_was_used_for_something_else_is_refused(
    tmp_path: Path, database: Database
) -> None:
    """R-UI-4: else the second wish would be swallowed, and answered as if it had been granted."""
    settings = some_settings(tmp_path, services={"web": a_scraper(), "worker": a_scraper()})
    async for house in open_house(tmp_path, database, settings):
        made = await house.post("/deploy", {"service": "web"}, Idempotency_Key="k-1")
        assert made.status == 202
        other = await house.post("/deploy", {"service": "worker"}, Idempotency_Key="k-1")
        back = await house.post("/api/v1/services/web/rollback", {}, Idempotency_Key="k-1")
        for refused in (other, back):
            assert (refused.status, refused.code) == (422, "request-invalid")
        every = (await house.get("/api/v1/deployments")).json["items"]
        assert [item["service"] for item in every] == ["web"]


@pytest.mark.parametrize(
    "body",
    [{"to": ""}, {"to": "../1-6113728"}, {"to": "-1"}, {"to": 1}, {"revision": SHA}, {"to": "x" * 200}],
)
async def test_a_wish_to_go_back_that_is_not_well_formed_is_refused(
    house: House, body: dict[str, Any]
) -> None:
    answer = await house.post("/api/v1/services/scraper/rollback", body)
    assert (answer.status, answer.code) == (400, "request-invalid")


async def test_who_may_only_read_does_not_go_back(house: House) -> None:
    assert (await house.post("/api/v1/services/scraper/rollback", token=READER)).status == 403
    assert (await house.post("/api/v1/services/nobody/rollback")).code == "unknown-service"


# --- lists


async def test_lists_come_in_pages(house: House) -> None:
    answers = [await house.post("/deploy", {"revision": f"v{number}"}) for number in range(5)]
    made = [answer.json["deployment"]["id"] for answer in answers]
    seen: list[str] = []
    more: str | None = ""
    pages = 0
    while more is not None:
        page = (await house.get(f"/api/v1/deployments?limit=2{more}")).json
        seen += [item["id"] for item in page["items"]]
        more, pages = page["next"] and f"&before={page['next']}", pages + 1
    assert pages == 3
    assert seen == made[::-1]
    assert len((await house.get("/api/v1/deployments?service=scraper")).json["items"]) == 5
    assert (await house.get("/api/v1/deployments?service=nobody")).status == 404


@pytest.mark.parametrize("path", ["deployments", "deliveries", "backups", "events"])
@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=-1", "limit=x", "limit=", "limit=\u0662", "before=x-y"]
)
async def test_bounds_and_cursors_that_are_none_are_refused(house: House, path: str, query: str) -> None:
    answer = await house.get(f"/api/v1/{path}?{query}")
    assert (answer.status, answer.code) == (400, "request-invalid")


@pytest.mark.parametrize("path", ["deployments", "deliveries", "backups"])
async def test_what_is_not_there_is_404(house: House, path: str) -> None:
    assert (await house.get(f"/api/v1/{path}/no-such-thing")).status == 404


async def test_a_deployment_is_shown_with_its_steps(house: House) -> None:
    made = (await house.post("/deploy")).json["deployment"]
    await finish(house, made["id"])
    shown = msgspec.convert((await house.get(f"/api/v1/deployments/{made['id']}")).json, Deployment)
    assert [step.name for step in shown.steps] == [
        "queued", "fetching", "building", "backing_up", "switching", "verifying",
    ]  # fmt: skip
    assert shown.finished_at is not None


async def test_a_delivery_is_shown_by_guid_and_by_digest(house: House) -> None:
    body = a_body()
    answer = await house.deliver(body)
    page = (await house.get("/api/v1/deliveries")).json
    (listed,) = [msgspec.convert(item, Delivery) for item in page["items"]]
    assert listed.deployments == (answer.json["deployments"][0]["id"],)
    for identity in (listed.id, listed.digest):
        assert (await house.get(f"/api/v1/deliveries/{identity}")).json["digest"] == listed.digest


async def test_events_can_be_followed(house: House) -> None:
    body = a_body()
    await house.deliver(body, headers_of(body))
    newest = (await house.get("/api/v1/events?limit=1")).json
    assert newest["next"] is not None
    everything = (await house.get("/api/v1/events?after=0")).json
    events = [msgspec.convert(item, Event) for item in everything["items"]]
    assert [event.id for event in events] == sorted(event.id for event in events)
    assert "deployment.queued" in [event.name for event in events]
    assert everything["next"] is None
    part = (await house.get("/api/v1/events?after=0&limit=1")).json
    assert part["next"] == str(events[0].id)
    assert (await house.get(f"/api/v1/events?after={events[-1].id}")).json == {"items": [], "next": None}
    assert (await house.get("/api/v1/events?after=-1")).status == 400


# --- backups


async def test_a_backup_is_made_listed_shown_and_verified(house: House) -> None:
    made = await house.post("/api/v1/backups", {"service": "scraper"})
    assert (made.status, made.headers["Location"]) == (201, "/api/v1/backups/b1")
    assert (await house.get("/api/v1/backups/b1")).json == made.json
    assert (await house.post("/api/v1/backups/b1/verify")).json["state"] == "ok"
    assert (await house.post("/api/v1/backups/b9/verify")).code == "backup-unknown"
    assert (await house.post("/api/v1/backups", {})).code == "request-invalid"
    assert (await house.post("/api/v1/backups", {"service": "nobody"})).code == "unknown-service"


async def test_backups_come_in_pages_too(house: House) -> None:
    for number in range(3):
        house.backups.put(f"b{number}")
    first = (await house.get("/api/v1/backups?limit=2")).json
    assert [item["id"] for item in first["items"]] == ["b2", "b1"]
    rest = (await house.get(f"/api/v1/backups?limit=2&before={first['next']}")).json
    assert ([item["id"] for item in rest["items"]], rest["next"]) == (["b0"], None)


async def test_a_step_that_says_no_is_told_with_its_own_code(house: House) -> None:
    house.backups.breaks = True
    answer = await house.post("/api/v1/backups", {"service": "scraper"})
    assert (answer.status, answer.code) == (503, "backup-busy")


async def test_a_backup_is_streamed_to_an_admin(house: House) -> None:
    house.backups.put("b1")
    answer = await house.get("/api/v1/backups/b1/content", ADMIN)
    assert (answer.status, answer.body) == (200, b"first second")
    assert answer.headers["Content-Type"] == "application/x-tar"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    assert (await house.call("HEAD", "/api/v1/backups/b1/content", token=ADMIN)).body == b""
    assert (await house.get("/api/v1/backups/b2/content", ADMIN)).code == "backup-unknown"


async def test_a_stream_that_breaks_off_is_not_taken_for_whole(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.backups.put("b1")
    house.backups.breaks = True
    with pytest.raises(aiohttp.ClientError):
        await house.get("/api/v1/backups/b1/content", ADMIN)
    assert "backup-bad" in caplog.text
    reader, writer = await asyncio.open_connection("127.0.0.1", house.server.port)
    lines = [
        "GET /api/v1/backups/b1/content HTTP/1.1",
        "Host: localhost",
        f"Authorization: Bearer {ADMIN.decode()}",
    ]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    sent = await asyncio.wait_for(reader.read(), 30)
    assert sent.endswith(b"second\r\n"), "nothing may follow that looks like an end"
    writer.close()
    await writer.wait_closed()
    house.backups.pieces = []
    answer = await house.get("/api/v1/backups/b1/content", ADMIN)
    assert (answer.status, answer.code) == (500, "backup-bad")


async def test_a_reader_that_leaves_in_the_stream_is_nobodys_error(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.backups.put("b1")
    house.backups.pieces = [b"x" * 2**20] * 64
    headers = {"Authorization": f"Bearer {ADMIN.decode()}"}
    async with house.http.get(f"{house.url}/api/v1/backups/b1/content", headers=headers) as response:
        await response.content.readexactly(10)
        response.close()
    await asyncio.sleep(0.1)
    assert not caplog.records


# --- the log of a deployment


async def test_what_a_build_printed_can_be_read(house: House) -> None:
    """R-RX-32: as text, without what a terminal or a browser would obey."""
    identity = await fail(house, "installing\n\x1b[31m\tno such package <b>\x1b[0m\n")
    answer = await house.get(f"/api/v1/deployments/{identity}/log")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.body == b"--- building\ninstalling\n\tno such package <b>\n"


async def test_the_log_needs_a_reader_and_a_deployment(house: House) -> None:
    identity = (await house.post("/deploy")).json["deployment"]["id"]
    quiet = await house.get(f"/api/v1/deployments/{identity}/log")
    assert (quiet.status, quiet.body) == (200, b"")
    assert (await house.get("/api/v1/deployments/nobody/log")).code == "not-found"
    assert (await house.get(f"/api/v1/deployments/{identity}/log", token=None)).code == "unauthorized"


# --- restores, retention, drills


async def test_a_restore_in_place_is_for_an_admin_and_tells_how_it_ended(house: House) -> None:
    house.backups.put("b1")
    where = "/api/v1/backups/b1/restore"
    assert (await house.post(where)).code == "forbidden"
    done = await house.post(where, token=ADMIN)
    assert (done.status, done.json["state"], done.json["backup"], done.json["saved"]) == (
        200,
        "done",
        "b1",
        "b0",
    )
    assert done.json["actor"] == "owner"
    assert (await house.post(where, {"without_backup": True}, token=ADMIN)).json["saved"] is None
    assert (await house.post("/api/v1/backups/b9/restore", token=ADMIN)).code == "backup-unknown"
    assert (await house.post(where, {"to": "/"}, token=ADMIN)).code == "request-invalid"


async def test_a_dry_run_tells_paths_and_rows_and_restores_nothing(house: House) -> None:
    house.backups.put("b1")
    told = (await house.post("/api/v1/backups/b1/restore", {"dry_run": True}, token=ADMIN)).json
    assert told["paths"] == [
        {"path": "shared/data", "files": 2, "bytes": 4096, "files_now": 1, "bytes_now": 100}
    ]
    assert told["databases"] == [{"path": "shared/data/app.db", "then": {"t": 3}, "now": None}]


async def test_old_backups_are_removed_of_one_service_or_of_all(house: House) -> None:
    where = "/api/v1/backups/prune"
    assert (await house.post(where)).code == "forbidden"
    everything = (await house.post(where, token=ADMIN)).json
    assert [(item["service"], item["freed_bytes"]) for item in everything["items"]] == [("scraper", 7)]
    dry = (await house.post(where, {"service": "scraper", "dry_run": True}, token=ADMIN)).json
    assert [(item["freed_bytes"], item["dry_run"]) for item in dry["items"]] == [(0, True)]
    assert (await house.post(where, {"service": "nobody"}, token=ADMIN)).code == "unknown-service"


async def test_a_drill_tells_what_it_proved(house: House) -> None:
    proof = (await house.post("/api/v1/services/scraper/drill")).json
    assert (proof["id"], proof["seconds"], proof["tables"]) == ("b1", 1.5, {"shared/app.db": {"t": 3}})
    assert (await house.post("/api/v1/services/nobody/drill")).code == "unknown-service"


async def test_the_status_shows_the_last_proven_restore(house: House) -> None:
    proof = Proof(id="b1", at=START, seconds=1.5, files=2, bytes=4096, tables={})
    await RestoreRows(house.database, house.clock).prove("scraper", proof)
    told = (await house.get("/api/v1/services/scraper")).json["last_proven_restore"]
    assert (told["id"], told["files"]) == ("b1", 2)


async def test_the_log_of_a_running_step_is_shown_as_far_as_it_got(house: House) -> None:
    """First from memory, then from the journal, and never both."""
    identity = (await house.post("/deploy")).json["deployment"]["id"]
    journal, progress = house.context.journal, house.context.progress
    path = f"/api/v1/deployments/{identity}/log"
    deployment = await journal.claim("scraper", "")
    assert deployment is not None
    deployment = await journal.advance(deployment, State.BUILDING, Change(revision="a" * 40))
    heard = progress.listener(deployment)
    assert (await house.get(path)).body == b""
    for text in ("$ make\n", "$ make\none\n"):
        heard(text)
        assert (await house.get(path)).body == f"--- building\n{text}".encode()
    ended = Change(output="$ make\none\ntwo\n")
    deployment = await journal.advance(deployment, State.BACKING_UP, ended)
    for _ in range(2):
        assert (await house.get(path)).body == b"--- building\n$ make\none\ntwo\n"
        progress.forget(identity)
    await journal.advance(deployment, State.SWITCHING, Change())
    progress.listener(await get(journal, identity))("$ migrate\n")
    assert (await house.get(path)).body.endswith(b"two\n--- switching\n$ migrate\n")


async def get(journal: Journal, identity: str) -> Deployment:
    found = await journal.deployment(identity)
    assert found is not None
    return found
