"""What the soak does to the agent, all at once and all over HTTP: pushes, deliveries, readers, backups, reloads.

Each worker is a thread that goes on until it is stopped, rests while it is paused, and takes an agent that does not
answer (it is killed now and then) for what GitHub would: no answer, so it is sent again. What a worker saw goes into
the `Ledger`; whether it was right is judged at the end.
"""

import hashlib
import json
import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.world import ENDS, Answer, Home

MODES = {"good": 11, "sick": 3, "crash": 4, "unbuilt": 2}
"""How often each kind of version is pushed; `unbuilt` fails in its build."""


@dataclass
class Ledger:
    """What the agent was seen to promise. `accepted`: the deployments that a signed body was answered with."""

    accepted: dict[bytes, set[str]] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    revisions: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answered(self, kind: str, answer: Answer | None) -> None:
        """Counts it."""
        word = "none" if answer is None else str(answer.status)
        if answer is not None and isinstance(answer.document, dict) and "decision" in answer.document:
            word += f" {answer.document['decision']}"
        with self.lock:
            self.answers[f"{kind}: {word}"] += 1

    def promised(self, body: bytes, answer: Answer) -> list[str]:
        """Writes down what a 2xx says of a body; the same body must never lead to less than before."""
        ids = [item["id"] for item in answer.document.get("deployments", [])]
        with self.lock:
            if ids:
                self.accepted.setdefault(body, set()).update(ids)
        return ids

    def complain(self, what: str) -> None:
        """Something that must never be seen."""
        with self.lock:
            self.wrong.append(what)


class Work:
    """The workers' common ground. `rate`: deliveries a second; `pause`: at most so long between two pushes."""

    def __init__(self, home: Home, seed: int, *, rate: float, pause: float) -> None:
        self.home = home
        self.ledger = Ledger()
        self._rate = rate
        self._pause = pause
        self._over = threading.Event()
        self._go = threading.Event()
        self._go.set()
        self._resting: set[str] = set()
        self._loops: dict[str, Callable[[random.Random], None]] = {
            "push": self._push, "deliver": self._deliver, "read": self._read, "keep": self._keep,
            "reload": self._reload,
        }  # fmt: skip
        self._threads = [
            threading.Thread(target=self._work, args=(name, seed), name=name) for name in self._loops
        ]

    def start(self) -> None:
        """All of them."""
        for thread in self._threads:
            thread.start()

    def rest(self) -> None:
        """Lets every worker come to the end of what it is doing and wait there."""
        self._go.clear()
        while len(self._resting) < len(self._threads) and all(thread.is_alive() for thread in self._threads):
            self._over.wait(0.05)

    def go_on(self) -> None:
        """After a rest."""
        self._go.set()

    def end(self) -> None:
        """Stops and joins them."""
        self._over.set()
        self._go.set()
        for thread in self._threads:
            thread.join(60)

    def _work(self, name: str, seed: int) -> None:
        chance = random.Random(f"{seed} {name}")
        while not self._over.is_set():
            if not self._go.is_set():
                self._resting.add(name)
                self._go.wait()
                self._resting.discard(name)
                continue
            try:
                self._loops[name](chance)
            except OSError:  # the agent was killed under it
                self._over.wait(0.05)
            except Exception as error:  # noqa: BLE001 - told at the end, with what else was wrong
                self.ledger.complain(f"{name}: {error!r}")
                self._over.wait(1)

    # --- pushes, each to its end

    def _push(self, chance: random.Random) -> None:
        (mode,) = chance.choices(list(MODES), list(MODES.values()))
        version = f"{mode}-{len(self.ledger.revisions)}"
        revision = self.home.remotes["app"].commit(version, mode)
        body = self.home.push_body(revision)
        with self.ledger.lock:
            self.ledger.revisions.append((revision, mode))
        answer = self._until_answered(revision, body)
        for identity in self.ledger.promised(body, answer):
            ended = self._ended(identity)
            with self.ledger.lock:
                self.ledger.ends[f"{mode}: {ended['state']} {ended['reason']}".strip()] += 1
            if mode != "good" and ended["state"] == "succeeded":
                self.ledger.complain(f"{version} went live: {ended}")
        self._over.wait(chance.uniform(0, self._pause))

    def _until_answered(self, revision: str, body: bytes) -> Answer:
        while True:
            answer = self._try(lambda: self.home.deliver(revision, body=body))
            self.ledger.answered("push", answer)
            if answer is not None and answer.status < 300:
                return answer
            self._over.wait(0.05)

    def _ended(self, identity: str) -> dict[str, Any]:
        while True:
            answer = self._try(lambda: self.home.get(f"/api/v1/deployments/{identity}"))
            if answer is not None and answer.status == 404:
                self.ledger.complain(f"{identity} was answered with 2xx and is not known")
                return {"state": "lost", "reason": ""}
            if answer is not None and answer.status == 200 and answer.document["state"] in ENDS:
                return dict(answer.document)
            self._over.wait(0.05)

    def _try(self, ask: Callable[[], Answer]) -> Answer | None:
        try:
            return ask()
        except OSError:
            return None

    # --- deliveries that change nothing

    def _deliver(self, chance: random.Random) -> None:
        kinds = {"again": 35, "elsewhere": 30, "forged": 25, "ping": 5, "anew": 5}
        (kind,) = chance.choices(list(kinds), list(kinds.values()))
        answer = {
            "again": self._again, "elsewhere": self._elsewhere, "forged": self._forged, "ping": self._ping,
            "anew": self._anew,
        }[kind](chance)  # fmt: skip
        self.ledger.answered(kind, answer)
        self._over.wait(chance.expovariate(self._rate))

    def _again(self, chance: random.Random) -> Answer | None:
        """A redelivery, as it came or under another GUID: the deployments that it led to, and no other."""
        with self.ledger.lock:
            before = list(self.ledger.accepted.items())
        if not before:
            return None
        body, _ = chance.choice(before)
        answer = self.home.deliver("", body=body)
        if answer.status not in (200, 202, 503):
            self.ledger.complain(f"again: {answer}")
        elif answer.status != 503 and not self.ledger.promised(body, answer):
            self.ledger.complain(f"again: {answer} for a body that had led to deployments")
        return answer

    def _elsewhere(self, chance: random.Random) -> Answer:
        document = json.loads(self.home.push_body(f"{chance.getrandbits(160):040x}"))
        document["ref"] = f"refs/heads/topic-{chance.getrandbits(32)}"
        answer = self.home.deliver("", body=json.dumps(document).encode())
        if (answer.status, answer.document.get("decision")) not in ((200, "ignored"), (503, None)):
            self.ledger.complain(f"elsewhere: {answer}")
        return answer

    def _forged(self, chance: random.Random) -> Answer:
        body = self.home.push_body(f"{chance.getrandbits(160):040x}")
        answer = self.home.deliver(
            "", body=body, X_Hub_Signature_256=f"sha256={chance.getrandbits(256):064x}"
        )
        if answer.status not in (401, 429, 503):
            self.ledger.complain(f"forged: {answer}")
        return answer

    def _ping(self, chance: random.Random) -> Answer:
        body = json.dumps({"zen": "a", "hook_id": chance.getrandbits(40)}).encode()
        return self.home.deliver("", body=body, event="ping")

    def _anew(self, chance: random.Random) -> Answer | None:
        """Other bytes about a revision that was pushed before."""
        with self.ledger.lock:
            known = list(self.ledger.revisions[-5:])
        if not known:
            return None
        revision, _ = chance.choice(known)
        body = self.home.push_body(revision) + b" " * chance.randrange(1, 9999)
        answer = self.home.deliver(revision, body=body)
        if answer.status < 300:
            self.ledger.promised(body, answer)
        elif answer.status != 503:
            self.ledger.complain(f"anew: {answer}")
        return answer

    # --- the rest

    def _read(self, chance: random.Random) -> None:
        path = chance.choice([
            "/health", "/status", "/", "/api/v1/deployments?limit=50", "/api/v1/deliveries?limit=50",
            "/api/v1/events?limit=100", "/api/v1/backups", "/api/v1/services", "/api/v1/nothing",
        ])  # fmt: skip
        answer = self.home.get(path)
        self.ledger.answered(f"GET {path}", answer)
        if answer.status >= 500 and answer.status != 503:
            self.ledger.complain(f"GET {path}: {answer}")
        self._over.wait(chance.uniform(0, 0.2))

    def _keep(self, chance: random.Random) -> None:
        """What a person does with backups."""
        items = self.home.get("/api/v1/backups").document["items"]
        backup = chance.choice(items)["id"] if items else "none"
        path, document = chance.choice([
            ("/api/v1/backups", {"service": "app"}), (f"/api/v1/backups/{backup}/verify", {}),
            ("/api/v1/backups/prune", {}), ("/api/v1/services/app/drill", {}),
            (f"/api/v1/backups/{backup}/restore", {"dry_run": True}),
        ])  # fmt: skip
        answer = self.home.post(path, document)
        kind = path.replace(backup, "{id}")
        self.ledger.answered(f"POST {kind}", answer)
        if answer.status >= 500 and answer.status != 503:
            self.ledger.complain(f"POST {path}: {answer}")
        self._over.wait(chance.uniform(0, 3))

    def _reload(self, chance: random.Random) -> None:
        """The file changes as an editor saves it: by a rename."""
        self.home.settings["monitor"]["every"] = chance.choice(["200ms", "300ms"])
        self.home.settings["services"]["app"]["backup"]["keep"]["last"] = chance.choice([3, 4])
        written = self.home.config.with_suffix(".new")
        written.write_text(yaml.safe_dump(self.home.settings))
        written.replace(self.home.config)
        answer = self.home.post("/api/v1/reload")
        self.ledger.answered("POST /api/v1/reload", answer)
        self._over.wait(chance.uniform(1, 8))


def digest(body: bytes) -> str:
    """As the store names a delivery."""
    return hashlib.sha256(body).hexdigest()


def descriptors(pid: int) -> list[str]:
    """What each open file of a process is."""
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(str(entry.readlink()))
        except OSError:
            continue
    return sorted(found)
