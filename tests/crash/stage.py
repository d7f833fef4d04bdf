"""One home on a disk with a plug: something is wanted of it, the plug is pulled, and everything must be as it must be.

`KINDS` is what can be wanted: every way in which the agent writes. A kind prepares, asks, and says afterwards whether
what was promised holds and which revision must serve. Its points are recorded from an undisturbed run.
"""

import hashlib
import json
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.crash.plug import Plug
from tests.crash.sweep import DYING, check_release, check_traces, end_services
from tests.world import ENDS, Answer, Home, wait_for

ANSWER = "answer"
"""The point at which the caller has just got its answer."""

PATIENCE = 300.0
"""Seconds. What takes so long does not come any more, on no machine."""

MIGRATE = """
import os, pathlib, sqlite3, sys, time
data = sqlite3.connect("data/app.db", timeout=10)
data.execute("CREATE TABLE IF NOT EXISTS migrations(revision TEXT PRIMARY KEY)")
data.execute("INSERT OR IGNORE INTO migrations VALUES(?)", (os.environ["HOMEPORT_REVISION"],))
data.commit()
if pathlib.Path("mode").read_text() == "unmigrated":
    sys.exit("this version cannot migrate the data")
"""
BUILD = ["mkdir deps; cp lock deps/artefact"]
ALWAYS = ["echo built > artefact; ! grep -q unbuilt mode"]


@dataclass(frozen=True)
class Cut:
    """Where the plug is pulled: at a point of a kind, `mid_seconds` after its act began if it is `@mid`; and once more
    in the recovery, after so many acts or at a point of it."""

    kind: str
    place: str
    mid_seconds: float = 0.004
    again: int = 0
    then: str = ""

    @property
    def twice(self) -> bool:
        """Whether the recovery is cut off as well."""
        return bool(self.again or self.then)

    def __str__(self) -> str:
        again = f", and again in the recovery, {self.then or f'act {self.again}'}" if self.twice else ""
        return f"{self.kind}: {self.place} ({self.mid_seconds * 1000:.0f} ms){again}"


@dataclass
class Wanted:
    """Something that somebody wants. `proven` is told the answer (None: the plug was faster) and returns how it ended;
    `rests`: it goes on after the answer, until the lane rests."""

    ask: Callable[[], Answer]
    proven: Callable[[Answer | None], str]
    rests: bool = True


@dataclass
class Stage:
    """The home, and which revision must serve (None: none)."""

    home: Home
    plug: Plug
    serves: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    number: int = 0
    twice: bool = False
    """Whether the plug was pulled twice: a second interruption may send a deployment back."""
    missed: int = 0
    """Cuts whose point did not come: the plug was pulled at the end instead."""

    @property
    def points(self) -> Path:
        return self.home.directory / "points"

    @property
    def _orders(self) -> Path:
        return self.home.directory / "orders"

    # --- one after the other

    def record(self, kind: str) -> list[str]:
        """Every point that this kind passes, in order, in an undisturbed run."""
        wanted = KINDS[kind](self)
        self._order()
        answer = wanted.ask()
        assert answer.status < 300, (kind, answer)
        assert not self._over(wanted)
        lines = list(dict.fromkeys(self.points.read_text().splitlines()))
        wanted.proven(answer)
        if wanted.rests:
            self._check()
        return lines

    def survive(self, cut: Cut) -> str:
        """Pulls the plug there, starts again, and looks at everything. Returns how it ended."""
        print(f"a power cut at {cut}", flush=True)
        wanted = KINDS[cut.kind](self)
        at_answer = cut.place == ANSWER
        self._order(at="" if at_answer else cut.place, how="power", mid_seconds=cut.mid_seconds)
        answer: Answer | None = None
        with suppress(ConnectionError, OSError):
            answer = wanted.ask()
        if at_answer or not self._over(wanted, cut_off=answer is None):
            self.missed += not at_answer
            self.plug.pull()
            self.home.kill()
        self.twice = cut.twice
        self._boot(cut)
        try:
            assert answer is None or answer.status < 300, answer
            ended = wanted.proven(answer)
            self._check()
        except AssertionError as error:
            raise AssertionError(f"after a power cut at {cut}: {error}\n{self._log()}") from error
        return ended

    def start_over(self) -> None:
        """As on the first day, whatever happened to the disk, and then two good versions."""
        self._halt()
        self.plug.plug_in()
        self.begin_anew()
        for _ in range(2):
            wanted = KINDS["reuse"](self)
            wanted.proven(wanted.ask())
        wait_for("rest", self._rests, PATIENCE)

    def begin_anew(self) -> None:
        """As on the first day: no state, no release, no data."""
        self._halt()
        for place in (self.home.srv, self.home.state):
            shutil.rmtree(place, ignore_errors=True)
        self.serves = None
        self._order()
        self._start()
        wait_for("the lane", self._rests, PATIENCE)

    # --- cuts

    def _halt(self) -> None:
        if self.home.process is not None and self.home.process.poll() is None:
            self.home.kill()
        end_services(self.home)

    def _order(self, **orders: Any) -> None:
        written = self._orders.with_suffix(".new")
        written.write_text(json.dumps(orders))
        self.points.unlink(missing_ok=True)
        written.rename(self._orders)

    def _start(self, *, wait: bool = True) -> None:
        """The agent that can die."""
        more = {
            "DYING_RECORD": str(self.points), "DYING_ORDERS": str(self._orders), "DYING_MOUNT": self.plug.mounts,
        }  # fmt: skip
        self.home.start(entry=DYING, more=more, wait=False)
        if wait:
            self._await_answers()

    def _await_answers(self) -> None:
        wait_for("the agent", self.home._answers_or_fails, PATIENCE)

    def _over(self, wanted: Wanted, *, cut_off: bool = False) -> bool:
        """Waits for the agent's death (True), or for the end of what was wanted. Where the answer was `cut_off` it is
        dying."""

        def look() -> str | None:
            if self._dead():
                return "dead"
            return None if cut_off else "ended" if not wanted.rests or self._rests() else None

        return bool(wait_for("its end", look, PATIENCE) == "dead")

    def _dead(self) -> bool:
        assert self.home.process is not None
        status = self.home.process.poll()
        assert status in (None, -signal.SIGKILL), self._log()
        return status is not None

    def _rests(self) -> bool:
        """The lane has looked for work and found none."""
        with suppress(OSError):
            last = [line for line in self.points.read_text().splitlines() if "/journal." in line][-1:]
            states = {item["state"] for item in self.home.get("/api/v1/deployments").document["items"]}
            return bool(last) and "journal.claim" in last[0] and states <= ENDS
        return False

    def _boot(self, cut: Cut) -> None:
        """Every process ends, the disk comes back, the agent starts; and the same once more in its recovery."""
        self._reboot()
        self._order(at=cut.then, count=cut.again, how="power")
        self._start(wait=False)
        if cut.twice and wait_for("another death, or rest", lambda: self._dead() or self._rests(), PATIENCE):
            if not self._dead():
                self.plug.pull()
                self.home.kill()
            self._reboot()
            self._order()
            self._start(wait=False)
        self._await_answers()

    def _reboot(self) -> None:
        end_services(self.home)
        self.plug.plug_in()

    def _log(self) -> str:
        return self.home.log.read_text()[-3000:]

    # --- what must be true

    def _check(self) -> None:
        wait_for("rest", self._rests, PATIENCE)
        home, live = self.home, self.home.get("/status").document["services"]["app"]["live"]
        assert (live and live["revision"]) == self.serves, (live, self.serves)
        if live is not None:
            assert home.current() == live["release"]
            service = wait_for("the service", home.service, PATIENCE)
            assert service["revision"] == self.serves, service
            assert service["version"] == self.versions[live["revision"]], service
            check_traces(home)
            check_release(home)
            self._check_files(live["revision"])
            self._check_data()
        else:
            assert home.service() is None
            assert not (home.srv / "app" / "current").is_symlink()

    def _check_files(self, revision: str) -> None:
        """Every file that came from git is what it was there, byte by byte."""
        for line in self.home.remotes["app"].tree(revision):
            name, blob = line
            content = (self.home.srv / "app" / "current" / name).read_bytes()
            found = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
            assert found == blob, (name, content[:100])

    def _check_data(self) -> None:
        """Both databases are whole, and the newest backup reads back."""
        for path in (self.home.state / "state.db", self.home.srv / "app" / "shared" / "data" / "app.db"):
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",), path
        backups = self.home.get("/api/v1/backups").document["items"]
        read = self.home.post(f"/api/v1/backups/{backups[0]['id']}/verify")
        assert (read.status, read.document["state"]) == (200, "ok"), read

    def ended_once(self, identity: str, ends: tuple[str, ...]) -> dict[str, Any]:
        """The end of a deployment, as it would be without a cut; it is told once."""
        ended = self.home.ended(identity, PATIENCE)
        assert ended["state"] in ends or (self.twice and ended["reason"] == "interrupted"), ended
        events = self.home.get("/api/v1/events?limit=200").document["items"]
        told = [event["name"] for event in events if event["deployment"] == identity
                and event["name"].removeprefix("deployment.") in ENDS]  # fmt: skip
        assert told == [f"deployment.{ended['state']}"], (told, ended)
        return ended


# --- what can be wanted


def a_push(mode: str, reuses: bool, ends: tuple[str, ...]) -> Callable[[Stage], Wanted]:
    """A signed delivery about a new commit."""

    def kind(stage: Stage) -> Wanted:
        stage.number += 1
        version = f"v{stage.number}"
        revision = stage.home.remotes["app"].commit(version, mode, lock="the same" if reuses else version)
        stage.versions[revision] = version
        body = stage.home.push_body(revision)
        return Wanted(
            lambda: stage.home.deliver(revision, body=body),
            lambda answer: carried_out(stage, answer, body, revision, ends),
        )

    return kind


def carried_out(
    stage: Stage, answer: Answer | None, body: bytes, revision: str, ends: tuple[str, ...]
) -> str:
    """What was accepted is there and runs once; who saw no answer sends it again."""
    again = stage.home.deliver(revision, body=body)
    assert again.status in (200, 202), again
    if again.document["decision"] == "ignored":
        assert (again.document["reason"], answer) == ("quarantined", None), (again, answer)
        newest = stage.home.get("/api/v1/deployments").document["items"][0]
        assert newest["revision"] == revision, newest
        identity = newest["id"]
    else:
        (identity,) = [item["id"] for item in again.document["deployments"]]
    if answer is not None and answer.document["decision"] == "deploy":
        assert again.document["decision"] == "duplicate", again
        assert [identity] == [item["id"] for item in answer.document["deployments"]], (answer, again)
    ended = stage.ended_once(identity, ends)
    if ended["state"] == "succeeded":
        stage.serves = revision
    return str(ended["state"])


def first(mode: str, end: str) -> Callable[[Stage], Wanted]:
    """The same where nothing was deployed before."""

    def kind(stage: Stage) -> Wanted:
        stage.begin_anew()
        return a_push(mode, False, (end,))(stage)

    return kind


def backup(stage: Stage) -> Wanted:
    def proven(answer: Answer | None) -> str:
        known = {item["id"] for item in stage.home.get("/api/v1/backups").document["items"]}
        assert answer is None or answer.document["id"] in known
        return "backup"

    return Wanted(lambda: stage.home.post("/api/v1/backups", {"service": "app"}), proven, rests=False)


def drill(stage: Stage) -> Wanted:
    def proven(answer: Answer | None) -> str:
        proof = stage.home.get("/status").document["services"]["app"]["last_proven_restore"]
        assert answer is None or proof["at"] == answer.document["at"], (answer, proof)
        wait_for("the rehearsal to be gone", lambda: not [*stage.home.state.glob("backups/*/rehearsals/*")])
        return "drill"

    return Wanted(lambda: stage.home.post("/api/v1/services/app/drill"), proven, rests=False)


def restore(stage: Stage) -> Wanted:
    """Of a backup of this minute; nothing is half, and what was answered is done."""
    made = stage.home.post("/api/v1/backups", {"service": "app"})
    assert made.status == 201, made
    where = f"/api/v1/backups/{made.document['id']}/restore"

    def proven(answer: Answer | None) -> str:
        assert answer is None or answer.document["state"] == "done", answer
        wait_for("nothing to be staged", lambda: not staged(stage.home))
        return "restore"

    return Wanted(lambda: stage.home.post(where), proven, rests=False)


def staged(home: Home) -> list[Path]:
    """What a restore has laid out beside the data."""
    with suppress(FileNotFoundError):
        return [path for path in (home.srv / "app" / "shared").rglob("*") if ".partial" in path.name]
    return [home.srv]


def back(stage: Stage) -> Wanted:
    """A person's rollback to another release that is there; the same key is the same wish."""
    listed = stage.home.get("/api/v1/deployments?limit=200").document["items"]
    good = {item["release"]: item["revision"] for item in listed if item["state"] == "succeeded"}
    there = [path.name for path in (stage.home.srv / "app" / "releases").iterdir() if path.name in good]
    others = [
        name
        for name in sorted(there, key=lambda name: int(name.split("-")[0]))
        if name != stage.home.current()
    ]
    return a_wish(stage, "/api/v1/services/app/rollback", {"to": others[-1]}, good[others[-1]])


def anew(stage: Stage) -> Wanted:
    """A person deploys once more what serves."""
    body = {"service": "app", "revision": stage.serves, "force": True}
    return a_wish(stage, "/deploy", body, stage.serves)


def a_wish(stage: Stage, path: str, body: dict[str, Any], revision: str | None) -> Wanted:
    stage.number += 1
    key = {"Idempotency-Key": f"wish-{stage.number}"}

    def ask() -> Answer:
        return stage.home.ask("POST", path, json.dumps(body).encode(), key)

    def proven(answer: Answer | None) -> str:
        again = ask()
        assert again.status == 202, again
        assert answer is None or identity_of(again) == identity_of(answer), (answer, again)
        ended = stage.ended_once(identity_of(again), ("succeeded",))
        stage.serves = revision if ended["state"] == "succeeded" else stage.serves
        return str(ended["state"])

    return Wanted(ask, proven)


def identity_of(answer: Answer) -> str:
    document = answer.document.get("deployment", answer.document)
    return str(document["id"])


def hold(stage: Stage) -> Wanted:
    def proven(answer: Answer | None) -> str:
        held = stage.home.get("/status").document["services"]["app"]["hold"]
        assert answer is None or held is not None
        assert stage.home.post("/api/v1/services/app/resume").status == 200
        return "held" if held else "not held"

    return Wanted(lambda: stage.home.post("/api/v1/services/app/hold"), proven, rests=False)


def resume(stage: Stage) -> Wanted:
    """While it was held a delivery came; with the resumption it is deployed."""
    assert stage.home.post("/api/v1/services/app/hold").status == 200
    wanted = a_push("good", True, ("succeeded",))(stage)
    ignored = wanted.ask()
    assert ignored.document["reason"] == "held", ignored

    def ask() -> Answer:
        return stage.home.post("/api/v1/services/app/resume")

    def proven(answer: Answer | None) -> str:
        held = stage.home.get("/status").document["services"]["app"]["hold"]
        assert answer is None or held is None, held
        assert ask().status == 200
        return wanted.proven(None)

    return Wanted(ask, proven)


def reload(stage: Stage) -> Wanted:
    """Another configuration is taken up; after a cut the file says what holds."""
    app = stage.home.settings["services"]["app"]
    app["health"]["soak"] = "110ms" if app["health"]["soak"] == "100ms" else "100ms"
    stage.home.save()

    def proven(answer: Answer | None) -> str:
        assert answer is None or answer.document["changed"] == ["app"], answer
        assert stage.home.get("/status").document["agent"]["config"]["stale"] is False
        return "reload"

    return Wanted(lambda: stage.home.post("/api/v1/reload"), proven)


KINDS: dict[str, Callable[[Stage], Wanted]] = {
    "next": a_push("good", False, ("succeeded",)),
    "reuse": a_push("good", True, ("succeeded",)),
    "crash": a_push("crash", False, ("rolled_back",)),
    "unbuilt": a_push("unbuilt", False, ("failed",)),
    "unmigrated": a_push("unmigrated", True, ("failed",)),
    "anew": anew,
    "back": back,
    "backup": backup,
    "restore": restore,
    "drill": drill,
    "hold": hold,
    "resume": resume,
    "reload": reload,
    "first": first("good", "succeeded"),
    "first-crash": first("crash", "failed"),
}


def a_stage(plug: Plug) -> Stage:
    """Two good releases, the newer one live, and an agent that can die."""
    home = Home(plug.directory / "home", disk=plug.mount_point)
    remote = home.remotes["app"]
    remote.write("migrate.py", MIGRATE)
    app = home.settings["services"]["app"]
    app["health"] |= {"soak": "100ms", "every": "30ms", "timeout": "120s"}
    app["health"]["probes"][0]["timeout"] = "30s"
    app["rollback"] = {"max_per_hour": 1000, "restore_data": "if-migrated"}
    app["backup"]["keep"] = {"last": 3}
    build = {"commands": BUILD, "always": ALWAYS, "reuse": {"key": ["lock"], "paths": ["deps"]}}
    migrate = f"{sys.executable} -S -E migrate.py"
    app["deploy"] |= {"build": build, "migrate": [migrate], "keep_releases": 2}
    home.save()
    stage = Stage(home, plug)
    stage.start_over()
    return stage
