"""What the commands say when something is wrong, against real sockets; what they do is in `tests/outside`."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from agent.cli.main import run


class Desk(BaseHTTPRequestHandler):
    """Answers like an agent: `answers` are (status, headers, body), the last one again and again."""

    answers: list[tuple[int, dict[str, str], bytes]]
    asked: list[tuple[str, bytes]]

    def do_GET(self) -> None:
        self.asked.append((self.path, self.rfile.read(int(self.headers.get("Content-Length", 0)))))
        status, headers, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - http.server's name

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: pytest's output is for failures."""


@pytest.fixture
def desk() -> Iterator[tuple[str, type[Desk]]]:
    """Its address, and where to put the answers."""
    kind = type("OwnDesk", (Desk,), {"answers": [], "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", kind
        finally:
            server.shutdown()
            thread.join()


OURS = {"X-Request-Id": "1"}


def a_deployment(state: str, **differences: object) -> bytes:
    document: dict[str, object] = {
        "id": "d1", "service": "app", "revision": None, "requested": None, "state": state, "reason": "",
        "hint": "", "steps": [],
    }  # fmt: skip
    return json.dumps(document | differences).encode()


@pytest.mark.parametrize("url", ["http://127.0.0.1:port", "ftp://pi", "pi.local:8300", "http://"])
def test_an_address_that_is_none_is_refused_in_a_sentence(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--url", url, "status"]) == 2
    assert "http://HOST:PORT" in capsys.readouterr().err


@pytest.mark.parametrize("body", [b'{"revision": "1"}', b"<html>", b""])
def test_what_is_not_an_agent_is_told_apart(
    body: bytes, desk: tuple[str, type[Desk]], capsys: pytest.CaptureFixture[str]
) -> None:
    url, kind = desk
    kind.answers.append((200, {}, body))
    assert run(["--url", url, "status"]) == 69
    assert "is not homeport" in capsys.readouterr().err


def test_an_answer_of_ours_that_is_no_json_is_a_sentence(
    desk: tuple[str, type[Desk]], capsys: pytest.CaptureFixture[str]
) -> None:
    url, kind = desk
    kind.answers.append((200, OURS, b"{"))
    assert run(["--url", url, "status"]) == 69
    assert "is not homeport" in capsys.readouterr().err


def test_who_forgot_the_token_hears_where_it_is_looked_for(
    desk: tuple[str, type[Desk]], capsys: pytest.CaptureFixture[str]
) -> None:
    url, kind = desk
    kind.answers.append(
        (401, OURS, b'{"code": "unauthorized", "detail": "this needs a token", "hint": "Send"}')
    )
    assert run(["--url", url, "status"]) == 1
    assert "HOMEPORT_TOKEN" in capsys.readouterr().err


def test_with_json_a_refusal_is_an_object_too(
    desk: tuple[str, type[Desk]], capsys: pytest.CaptureFixture[str]
) -> None:
    url, kind = desk
    kind.answers.append(
        (404, OURS, b'{"code": "unknown-service", "detail": "none such", "hint": "Name one."}')
    )
    assert run(["--json", "--url", url, "hold", "app"]) == 2
    told = capsys.readouterr()
    assert json.loads(told.out) == {"code": "unknown-service", "detail": "none such", "hint": "Name one."}
    assert "none such" in told.err


@pytest.mark.parametrize(
    "command",
    [("hold", ""), ("resume", ""), ("backup", "verify", ""), ("backup", "restore", "", "--to", "x")],
)
def test_an_empty_name_is_refused_before_anybody_is_asked(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--socket", "/nonexistent", *command]) == 2
    assert "has no name" in capsys.readouterr().err


def test_an_empty_service_is_not_taken_for_the_only_one(desk: tuple[str, type[Desk]]) -> None:
    url, kind = desk
    kind.answers.append((404, OURS, b'{"code": "unknown-service", "detail": "none such"}'))
    assert run(["--url", url, "deploy", ""]) == 2
    assert json.loads(kind.asked[0][1])["service"] == ""


def test_waiting_outlives_a_restart_of_the_agent(
    desk: tuple[str, type[Desk]], capsys: pytest.CaptureFixture[str]
) -> None:
    url, kind = desk
    queued = b'{"deployment": ' + a_deployment("queued") + b"}"
    kind.answers += [(202, OURS, queued), (200, OURS, a_deployment("building")), (502, {}, b"no upstream")]
    kind.answers += [(503, OURS, b'{"code": "stopping", "detail": "ends"}')]
    kind.answers += [
        (200, OURS, a_deployment("succeeded", revision="6113728f27ae82c7b1a177c8d03f9e96e0adf246"))
    ]
    assert run(["--url", url, "deploy", "--wait"]) == 0
    assert "app: 6113728 succeeded" in capsys.readouterr().out


def test_waiting_for_what_a_hold_keeps_says_so(
    desk: tuple[str, type[Desk]], capsys: pytest.CaptureFixture[str]
) -> None:
    """R-RX-32: the service was held after it had been queued, and a wait without a word may last for ever."""
    url, kind = desk
    held = {"hold": {"reason": "2 rollbacks within an hour"}}
    kind.answers += [(202, OURS, b'{"deployment": ' + a_deployment("queued") + b"}")]
    kind.answers += [(200, OURS, a_deployment("queued")), (200, OURS, b'{"hold": null}')]
    kind.answers += [(200, OURS, a_deployment("queued")), (200, OURS, json.dumps(held).encode())]
    kind.answers += [(200, OURS, a_deployment("queued")), (200, OURS, a_deployment("succeeded"))]
    assert run(["--url", url, "deploy", "--wait"]) == 0
    told = "  d1 waits: app is held (2 rollbacks within an hour); `homeport resume app` lets it go on\n"
    assert capsys.readouterr().err == told
    kind.answers[:] = [(202, OURS, b'{"deployment": ' + a_deployment("queued") + b"}")]
    kind.answers += [(200, OURS, a_deployment("queued", force=True)), (200, OURS, a_deployment("succeeded"))]
    assert run(["--url", url, "deploy", "--force", "--wait"]) == 0
    assert capsys.readouterr().err == "", "what is forced waits for nothing"


def test_an_agent_that_ends_before_it_has_answered_is_told_apart_from_none(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A restore goes on at the next start: "start it" alone would let a person begin it again."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            taken, _ = server.accept()
            taken.recv(65536)
            taken.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert run(["--url", url, "backup", "restore", "b1"]) == 69
        thread.join()
    told = capsys.readouterr().err
    assert f"the agent at {url} ended before it answered [no-agent]" in told
    assert "goes on when `homeport serve` runs again" in told


def test_an_agent_that_stays_away_is_told_with_what_becomes_of_the_deployment(
    desk: tuple[str, type[Desk]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, kind = desk
    monkeypatch.setattr("agent.cli.deploy.RESTART_SECONDS", 0.0)
    kind.answers += [(202, OURS, b'{"deployment": ' + a_deployment("queued") + b"}"), (502, {}, b"")]
    assert run(["--url", url, "deploy", "--wait"]) == 69
    assert "d1 goes on as soon as `homeport serve` runs again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "code", "exit_status"),
    [
        (500, "backup-bad", 1),
        (507, "disk-full", 1),
        (500, "internal", 1),
        (404, "backup-unknown", 2),
        (503, "backup-busy", 75),
        (503, "store-unavailable", 75),
        (429, "too-many-requests", 75),
    ],
)
def test_what_failed_is_told_apart_from_what_may_be_tried_again(
    status: int,
    code: str,
    exit_status: int,
    desk: tuple[str, type[Desk]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    url, kind = desk
    document = {"code": code, "detail": "it is so", "hint": "Do that."}
    kind.answers.append((status, OURS, json.dumps(document).encode()))
    assert run(["--json", "--url", url, "backup", "create", "app"]) == exit_status
    told = capsys.readouterr()
    assert json.loads(told.out) == document
    assert told.err == f"homeport: it is so [{code}]\n  Do that.\n"


FAILED_STEPS = [
    {"name": "fetching", "state": "done"},
    {"name": "building", "state": "interrupted"},
    {"name": "building", "state": "failed"},
]
TIMES = {"started_at": "2026-11-22T12:00:00Z", "finished_at": "2026-11-22T12:00:01Z", "detail": ""}


def test_waiting_shows_what_the_failed_step_printed(
    desk: tuple[str, type[Desk]], capsys: pytest.CaptureFixture[str]
) -> None:
    """R-RX-32: the end of it, and nothing that a terminal would obey."""
    url, kind = desk
    queued = b'{"deployment": ' + a_deployment("queued") + b"}"
    steps = [step | TIMES for step in FAILED_STEPS]
    printed = "".join(f"line {number}\n" for number in range(30)) + '  File \x1b[31m"x.py"\n\nError: no\n'
    log = f"--- fetching\nfetched\n--- building\nthe first time\n--- building\n{printed}"
    kind.answers += [
        (202, OURS, queued),
        (200, OURS, a_deployment("failed", steps=steps, reason="build-failed", hint="Read it.")),
        (200, OURS, log.encode()),
    ]
    assert run(["--url", url, "deploy", "--wait"]) == 1
    assert kind.asked[-1][0] == "/api/v1/deployments/d1/log"
    lines = capsys.readouterr().out.splitlines()
    below = lines[lines.index("  ✗ building        1.00 s") + 1 :]
    assert below[:18] == [f"      line {number}" for number in range(12, 30)]
    assert below[18:] == [
        '        File "x.py"', "      Error: no", "app: the branch's tip failed", "  build-failed: Read it.",
    ]  # fmt: skip


def test_waiting_ends_as_ever_if_the_output_cannot_be_had(
    desk: tuple[str, type[Desk]], capsys: pytest.CaptureFixture[str]
) -> None:
    url, kind = desk
    queued = b'{"deployment": ' + a_deployment("queued") + b"}"
    ended = a_deployment("failed", steps=[step | TIMES for step in FAILED_STEPS])
    kind.answers += [(202, OURS, queued), (200, OURS, ended), (404, {}, b"an older agent")]
    assert run(["--url", url, "deploy", "--wait"]) == 1
    assert capsys.readouterr().out.endswith("app: the branch's tip failed\n")
    kind.answers += [(202, OURS, queued), (200, OURS, ended)]
    del kind.answers[0]
    assert run(["--json", "--url", url, "deploy", "--wait"]) == 1
    assert json.loads(capsys.readouterr().out)["deployment"]["state"] == "failed"


def test_what_is_gone_back_to_is_told_before_its_revision_is_known(
    desk: tuple[str, type[Desk]], capsys: pytest.CaptureFixture[str]
) -> None:
    url, kind = desk
    back = {"target": "", "trigger": {"kind": "manual"}}
    kind.answers += [(202, OURS, a_deployment("queued", **back))]
    assert run(["--url", url, "rollback", "app"]) == 0
    assert kind.asked[0][0] == "/api/v1/services/app/rollback"
    assert json.loads(kind.asked[0][1]) == {"reason": ""}
    assert "app: back to the release before is queued as d1" in capsys.readouterr().out
    kind.answers[:] = [(202, OURS, a_deployment("queued", **back | {"target": "3-abcdef0"}))]
    assert run(["--url", url, "rollback", "app", "--to", "3-abcdef0"]) == 0
    assert json.loads(kind.asked[1][1])["to"] == "3-abcdef0"
    assert "back to 3-abcdef0 is queued" in capsys.readouterr().out


def test_waiting_for_a_rollback_is_like_waiting_for_a_deployment(
    desk: tuple[str, type[Desk]], capsys: pytest.CaptureFixture[str]
) -> None:
    url, kind = desk
    kind.answers += [
        (202, OURS, a_deployment("queued")),
        (200, OURS, a_deployment("broken", reason="rollback-failed")),
    ]
    assert run(["--url", url, "rollback", "app", "--wait"]) == 1
    assert "broken\n  rollback-failed" in capsys.readouterr().out


def test_asking_for_help_imports_nothing_heavy() -> None:
    """It is asked often, on a slow machine."""
    program = "import sys; from agent.cli.main import parser; parser().format_help(); print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    heavy = {
        "aiohttp",
        "asyncio",
        "email",
        "git",
        "http.client",
        "jsonschema",
        "psutil",
        "rich",
        "ssl",
        "yaml",
    }
    assert heavy & set(ended.stdout.split()) == set()


def test_an_empty_variable_counts_as_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOMEPORT_SOCKET", "")
    with pytest.raises(SystemExit):
        run(["--help"])
    monkeypatch.setenv("HOMEPORT_TOKEN", "")
    run(["status"])
    assert "no agent answers at :" not in capsys.readouterr().err


def test_what_the_system_refuses_is_a_sentence(tmp_path: Path) -> None:
    """In a process of its own: `serve` sets the umask."""
    (tmp_path / "state").write_text("a file, where a directory is to be")
    (tmp_path / "config.yaml").write_text(f"state_dir: {tmp_path}/state/inside\n")
    command = [sys.executable, "-m", "agent", "serve", "--config", str(tmp_path / "config.yaml")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode != 0
    assert "Not a directory" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_status_tells_the_freeze_and_the_last_poll(
    desk: tuple[str, type[Desk]], capsys: pytest.CaptureFixture[str]
) -> None:
    url, kind = desk
    until = datetime(2026, 11, 23, 8, tzinfo=UTC)
    service: dict[str, object] = {
        "live": None, "last": None, "current": None, "health": "none", "health_detail": "", "hold": None,
        "last_backup": None, "frozen_until": until.isoformat(),
        "poll": {"at": "2026-11-22T12:00:00Z", "tip": "a" * 40, "note": "the tip is live"},
    }  # fmt: skip
    document = {
        "services": {"app": service},
        "host": {},
        "agent": {"version": "1", "pid": 1, "uptime_seconds": 5, "config": None},
    }
    kind.answers.append((200, OURS, json.dumps(document).encode()))
    assert run(["--url", url, "status"]) == 0
    told = capsys.readouterr().out
    local = until.astimezone().strftime("%a %d %b %H:%M %Z")
    assert f"  frozen   until {local}; `homeport deploy app` deploys all the same" in told
    assert "  poll     aaaaaaa, " in told
    assert " ago: the tip is live" in told


def test_the_status_tells_what_the_step_that_failed_saw(
    desk: tuple[str, type[Desk]], capsys: pytest.CaptureFixture[str]
) -> None:
    """R-RX-32: what a probe saw stands in no program's output, and nobody waited for what a push began."""
    url, kind = desk
    steps = [
        {"name": "verifying", "state": "failed", "detail": "last: GET /ready: 500 instead of 200\nmore"},
        {"name": "rolling_back", "state": "done", "detail": "1-abc serves"},
    ]
    last = json.loads(a_deployment("rolled_back", reason="health-timeout", hint="Do that.", steps=steps))
    service: dict[str, object] = {
        "live": None, "last": last | {"finished_at": "2026-11-22T12:00:00Z"}, "current": None, "health": "none",
        "health_detail": "", "hold": None, "last_backup": None, "frozen_until": None, "poll": None,
    }  # fmt: skip
    agent = {"version": "1", "pid": 1, "uptime_seconds": 5, "config": None}
    document = {"services": {"app": service}, "host": {}, "agent": agent}
    kind.answers.append((200, OURS, json.dumps(document).encode()))
    assert run(["--url", url, "status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == ["           verifying: last: GET /ready: 500 instead of 200", "           Do that."]


def test_the_list_of_backups_says_whose_they_are(
    desk: tuple[str, type[Desk]], capsys: pytest.CaptureFixture[str]
) -> None:
    url, kind = desk
    rows = [
        {
            "id": f"b-{name}",
            "service": name,
            "state": "ok",
            "at": "2026-11-22T12:00:00Z",
            "bytes": 1,
            "stored_bytes": 1,
        }
        for name in ("web", "api")
    ]
    kind.answers.append((200, OURS, json.dumps({"items": rows, "next": None}).encode()))
    for words in (["--json", "backup", "list"], ["backup", "--json", "list"], ["backup", "list", "--json"]):
        assert run(["--url", url, *words]) == 0
        assert json.loads(capsys.readouterr().out)["items"] == rows
    assert run(["--url", url, "backup", "list"]) == 0
    lines = [line.split()[:3] for line in capsys.readouterr().out.splitlines()]
    assert lines == [["BACKUP", "SERVICE", "STATE"], ["b-web", "web", "ok"], ["b-api", "api", "ok"]]


@pytest.mark.parametrize(
    ("problems", "status", "words"),
    [
        ([{"path": "listen.port", "message": "must be a number", "line": 2, "hint": ""}], 78, "F:2: listen.port: "),
        ([], 2, "not valid"),
        (None, 2, "not valid"),
        ([{"nothing": "known"}], 2, "not valid"),
        (["odd"], 2, "not valid"),
    ],
)  # fmt: skip
def test_an_agents_invalid_configuration_is_printed_as_check_does(
    problems: object,
    status: int,
    words: str,
    desk: tuple[str, type[Desk]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And whatever else an answer of this code may hold, it is a sentence."""
    url, kind = desk
    document = {
        "code": "config-invalid",
        "detail": "not valid",
        "hint": "mend it",
        "file": "F",
        "problems": problems,
    }
    kind.answers.append((422, OURS, json.dumps(document).encode()))
    assert run(["--url", url, "reload"]) == status
    assert words in capsys.readouterr().err
    assert run(["--url", url, "--json", "reload"]) == status
    told = capsys.readouterr()
    assert json.loads(told.out)["code"] == "config-invalid"
    assert json.loads(told.out).get("problems", problems) == problems
    assert words in told.err
