"""Dies at a point, starts again, and looks whether everything is as it must be. Used with SIGKILL and power cuts."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from tests.world import ENDS, Home, wait_for

DYING = (str(Path(__file__).with_name("dying.py")),)
PHASES = ("before", "mid", "after")
ENDED_AS = {"good": "succeeded", "crash": "rolled_back"}


MIGRATE = """
import os, sqlite3, time
data = sqlite3.connect("data/app.db", timeout=10)
data.execute("CREATE TABLE IF NOT EXISTS migrations(revision TEXT PRIMARY KEY)")
data.execute("INSERT OR IGNORE INTO migrations VALUES(?)", (os.environ["HOMEPORT_REVISION"],))
time.sleep(0.02)
data.commit()
"""


def a_quick_home_settings(home: Home) -> None:
    """Fast, and without the guard getting in the way of a hundred bad revisions.

    A good version links the dependencies that the first one built, a crashing one builds its own (`lock_of`); the data
    is migrated each time.
    """
    remote = home.remotes["app"]
    remote.write("migrate.py", MIGRATE)
    remote.write("lock", lock_of("good", ""))
    app = home.settings["services"]["app"]
    app["health"] |= {"soak": "100ms", "every": "30ms"}
    app["rollback"] = {"max_per_hour": 1000}
    build = {
        "commands": ["sleep 0.02; mkdir deps; cp lock deps/artefact"],
        "always": ["sleep 0.02; echo built > artefact"],
        "reuse": {"key": ["lock"], "paths": ["deps"]},
    }
    migrate = f"{sys.executable} -S -E migrate.py"
    app["deploy"] |= {"build": build, "migrate": [migrate], "keep_releases": 2}
    home.save()


def lock_of(mode: str, version: str) -> str:
    """The key file of a version."""
    return "the same" if mode == "good" else version


def record_points(home: Home, mode: str) -> list[str]:
    """Every point that a push of this mode passes, in order: one run without dying."""
    names = start_watched(home)
    names.unlink()
    version = f"recorded-{mode}"
    deployment = home.deploy(version, mode, lock=lock_of(mode, version))
    assert deployment["state"] == ENDED_AS[mode], deployment
    home.stop()
    return points_in(names)


def points_in(names: Path) -> list[str]:
    """Those up to the end of the deployment."""
    lines = names.read_text().splitlines()
    end = max(index for index, line in enumerate(lines) if "journal.advance" in line)
    return list(dict.fromkeys(lines[: end + 1]))


def record_rollback(home: Home, to: str) -> list[str]:
    """Every point that a person's rollback passes, in order."""
    names = start_watched(home)
    names.unlink()
    ended = home.ended(ask_back(home, to, "recorded"))
    assert ended["state"] == "succeeded", ended
    home.stop()
    return points_in(names)


def ask_back(home: Home, to: str, key: str) -> str:
    """A person's wish; the same `key` is the same wish, however often it is asked."""
    body = json.dumps({"to": to}).encode()
    answer = home.ask("POST", "/api/v1/services/app/rollback", body, {"Idempotency-Key": key})
    assert answer.status == 202, answer
    return str(answer.document["id"])


def die_going_back(home: Home, place: str, to: str) -> None:
    """Asks to go back and dies."""
    start_watched(home, DYING_AT=place, DYING_HOW="kill")
    with suppress(ConnectionError, OSError):
        ask_back(home, to, place)
    assert home.died(15) == -signal.SIGKILL, place


def start_watched(home: Home, **how: str) -> Path:
    """Starts the agent that can die, and waits for its lane's first look for work: the second follows the push."""
    names = home.directory / "points"
    names.unlink(missing_ok=True)
    home.start(entry=DYING, more={"DYING_RECORD": str(names), **how})
    wait_for("the lane", lambda: names.exists() and "journal.claim/1" in names.read_text())
    return names


def die_at(home: Home, place: str, mode: str, version: str, **how: str) -> bytes:
    """Pushes and dies; returns the signed body. The agent must really have died there."""
    revision = home.remotes["app"].commit(version, mode, lock=lock_of(mode, version))
    body = home.push_body(revision)
    start_watched(home, DYING_AT=place, **how)
    with suppress(ConnectionError, OSError):
        home.deliver(revision, body=body)
    try:
        status = home.died(15)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"it never came to {place}: {home.log.read_text()[-1500:]}") from None
    expected = 0 if how.get("DYING_HOW") == "term" else -signal.SIGKILL
    assert status == expected, f"{place}: ended with {status}, {home.log.read_text()[-2000:]}"
    return body


def die_in_recovery(home: Home, number: int) -> bool:
    """Starts again and dies before the act of that number; False if the recovery came to its end before."""
    home.start(entry=DYING, wait=False, more={"DYING_COUNT": str(number)})

    def look() -> str | None:
        assert home.process is not None
        if home.process.poll() is not None:
            return "died"
        with suppress(OSError):
            newest = home.get("/api/v1/deployments").document["items"][0]
            return "ended" if newest["state"] in ENDS else None
        return None

    return bool(wait_for("the second death, or the end", look) == "died")


def check_convergence(
    home: Home, body: bytes, mode: str, version: str, before: str, ends: Sequence[str] = ()
) -> dict[str, Any]:
    """After the restart: one end, one end event, the right version answers, alone, from whole files."""
    answer = home.deliver("", body=body)  # whoever saw no 2xx sends it again; whoever did loses nothing by it
    assert answer.status in (200, 202), answer
    if answer.document["decision"] == "ignored":
        assert answer.document["reason"] == "quarantined", answer
        (identity,) = [item["id"] for item in home.get("/api/v1/deployments").document["items"][:1]]
    else:
        (identity,) = [item["id"] for item in answer.document["deployments"]]
    ended = home.ended(identity)
    assert ended["state"] in (ends or [ENDED_AS[mode]]), ended
    expected = version if ended["state"] == "succeeded" else before
    service = wait_for("the service", home.service)
    assert service["version"] == expected, (service, ended)
    assert home.current() == home.get("/status").document["services"]["app"]["live"]["release"]
    events = home.get("/api/v1/events?limit=200").document["items"]
    told = [event["name"] for event in events if event["deployment"] == identity
            and event["name"].removeprefix("deployment.") in ENDS]  # fmt: skip
    assert told == [f"deployment.{ended['state']}"], told
    assert home.get("/api/v1/deployments").document["items"][0]["state"] in ENDS
    check_traces(home)
    check_release(home)
    return ended


def check_release(home: Home) -> None:
    """What serves has its dependencies, built by who still stands, and its data was migrated for it."""
    current = home.srv / "app" / "current"
    assert (current / "artefact").read_text() == "built\n"
    assert (current / "deps" / "artefact").read_text() == (current / "lock").read_text()
    assert not (current / "deps").resolve().is_symlink()
    live = home.get("/status").document["services"]["app"]["live"]["revision"]
    with closing(sqlite3.connect(home.srv / "app" / "shared" / "data" / "app.db")) as data:
        assert (live,) in data.execute("SELECT revision FROM migrations").fetchall()


def check_traces(home: Home) -> None:
    """One process serves; no half file is left; every listed backup is good."""
    serving = [entry for entry in Path("/proc").iterdir() if entry.name.isdecimal() and _serves(home, entry)]
    assert len(serving) == 1, serving
    wait_for("nothing half to be left: old backups are let go just now", lambda: not partial_files(home))
    wait_for("all backups to be read back", lambda: _backup_states(home) <= {"ok"})


def partial_files(home: Home) -> list[Path]:
    """What is being written, or was left half."""
    places = (home.state, *(home.srv.glob("*/shared")), *(home.srv.glob("*/mirror.git")))
    inside = [path for place in places for path in place.rglob("*.partial")]
    return [*inside, *home.srv.glob("*/*.partial"), *home.srv.glob("*/.*.partial")]


def _backup_states(home: Home) -> set[str]:
    return {item["state"] for item in home.get("/api/v1/backups").document["items"]}


def _serves(home: Home, entry: Path) -> bool:
    with suppress(OSError):
        inside = (entry / "cwd").readlink().is_relative_to(home.srv.resolve())
        return inside and (entry / "stat").read_text().rpartition(") ")[2][0] != "Z"
    return False


def end_services(home: Home) -> None:
    """As a reboot does."""
    for session in home.sessions():
        with suppress(ProcessLookupError):
            os.killpg(session, signal.SIGKILL)
    wait_for("the services to be gone", lambda: not home.sessions())
