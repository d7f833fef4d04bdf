"""Deliveries that nobody at GitHub would send, properly signed: each has a decision or a refusal, and nothing else."""

import hashlib
import hmac
import json
import random
from collections.abc import Callable
from time import thread_time
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus

import msgspec
import pytest

from agent.core import github, payload, triggers
from agent.core.codes import CODES
from agent.core.errors import Refused
from agent.core.refs import is_name
from agent.core.text import clean
from agent.web import hooks
from tests.build import a_service
from tests.fuzz import fuzz
from tests.fuzz.mutation import INTERESTING, bytes_of, document_of, json_of
from tests.github import OLD, SHA, a_release, a_repository, a_workflow_run

SECRETS = (b"the-secret-in-use-0123456789", b"the-secret-before-0123456789")
SERVICES = {
    "pushed": a_service(source={"repository": "https://github.com/me/scraper.git"}),
    "tested": a_service(
        source={"repository": "git@github.com:me/scraper.git"},
        deploy={"on": ["workflow_run"], "workflow": "ci.yml"},
        rollback={"on_workflow": "CI"},
    ),
    "released": a_service(
        source={"repository": "/srv/git/x.git", "github": "me/scraper"},
        deploy={"on": ["release", "push"], "prereleases": True},
    ),
}
PUSH = {
    "ref": "refs/heads/main", "before": OLD, "after": SHA, "created": False, "deleted": False, "forced": False,
    "base_ref": None, "compare": "https://github.com/me/scraper/compare/59b20b8d5c6f...6113728f27ae",
    "repository": a_repository(), "pusher": {"name": "me", "email": "me@example.org"},
    "sender": {"login": "me", "id": 6752317}, "installation": {"id": 5},
    "commits": [{"id": SHA, "message": "Add a page", "author": {"name": "Me"}, "added": ["a"], "removed": []}],
    "head_commit": {"id": SHA, "message": "Add a page", "timestamp": "2026-11-22T12:00:00+01:00"},
}  # fmt: skip
PING = {
    "zen": "Speak like a human.", "hook_id": 30, "hook": {"type": "Repository", "events": ["push"], "active": True},
    "repository": a_repository(), "sender": {"login": "me"},
}  # fmt: skip
DOCUMENTS: dict[str, Any] = {
    "push": PUSH,
    "ping": PING,
    "workflow_run": a_workflow_run(),
    "release": a_release(),
    "push ": PUSH | {"deleted": True, "after": "0" * 40, "head_commit": None},
    "workflow_run ": a_workflow_run({"conclusion": "failure"}),
    "release ": a_release({"draft": True}),
    "issues": {"action": "opened", "issue": {"number": 1}, "repository": a_repository(), "sender": {"login": "me"}},
}  # fmt: skip
EVENTS = (
    *DOCUMENTS,
    "",
    "Push",
    "push\n",
    "workflow_run ",
    "x" * 70,
    "ping,push",
    "deployment",
    "éa",
    "\udcff",
)
FORMS: tuple[Callable[[bytes], str], ...] = (
    *(quote_plus, quote) * 4,
    lambda data: "".join(f"%{byte:02x}" for byte in data),
)


class Sent(NamedTuple):
    """One request: what the route hands to the pure part."""

    body: bytes
    headers: hooks._Headers
    type: str


def a_request(chance: random.Random) -> Sent:
    """A real document, spoilt somewhere between its values and its signature; most are signed after it."""
    name = chance.choice(tuple(DOCUMENTS))
    event, document = name.strip(), DOCUMENTS[name]
    if chance.random() < 0.85:
        document = document_of(chance, document)
    body = json_of(chance, document)
    if chance.random() < 0.25:
        body = bytes_of(chance, body)
    form = chance.random() < 0.3
    if form:
        body = b"payload=" + chance.choice(FORMS)(body).encode()
        if chance.random() < 0.3:
            body = bytes_of(chance, body)
    signature = b"sha256=" + hmac.new(chance.choice(SECRETS), body, hashlib.sha256).hexdigest().encode()
    signatures = [signature]
    if chance.random() < 0.08:
        signatures = chance.choice(([], [signature] * 2, [bytes_of(chance, signature)], [signature.upper()]))
    if chance.random() < 0.1:
        event = chance.choice(EVENTS)
    guid = chance.choice(("72d3162e-cc78-11e3-81ab-4c9367dc0958", "", "\udc80\x1b[2J", "g" * 500))
    kind = chance.choice(
        (github.FORM if form else github.JSON, "application/json; charset=latin-1", "text/é", ";;=")
    )
    return Sent(body, hooks._Headers(signatures, event, guid, form), kind)


def decision_of(sent: Sent) -> object:
    """From the raw bytes to what each service does with them, or how they are refused."""
    github.media_type([sent.type])
    try:
        opened = hooks._open(sent.body, sent.headers, SECRETS)
    except Refused as refusal:
        assert (refusal.status, refusal.code) == (400, "body-invalid")
        assert refusal.message == clean(refusal.message)
        return refusal.message
    if opened is None:
        return None
    return opened, triggers.decide(opened.payload, SERVICES)


def judge(sent: Sent) -> None:
    """What must hold of every decision."""
    decided = decision_of(sent)
    assert decision_of(sent) == decided, "the same request was decided differently"
    if not isinstance(decided, tuple):
        is_signed = len(sent.headers.signatures) == 1 and sent.headers.signatures[0] in signatures_of(
            sent.body
        )
        assert (decided is None) != is_signed
        return
    opened, decisions = decided
    assert sent.headers.signatures[0] == signatures_of(sent.body)[opened.secret]
    assert opened.digest == hashlib.sha256(sent.body).hexdigest()
    assert [decision.service for decision in decisions] == list(SERVICES)
    for decision in decisions:
        judge_decision(decision, opened.payload, sent)
    if all(isinstance(decision, triggers.Ignore) for decision in decisions):
        assert triggers.why(decisions) in CODES
    shown = [
        opened.payload.guid,
        *map(clean, (opened.payload.repository, opened.payload.ref, opened.payload.sender)),
    ]
    assert all(text == clean(text) for text in shown)
    msgspec.json.encode((decisions, shown))  # what is stored and answered can be written down


def judge_decision(
    decision: triggers.Deploy | triggers.GoBack | triggers.Ignore, said: payload.Payload, sent: Sent
) -> None:
    """A deployment needs every clause that is written in the body, whoever wrote it (R-RX-15 to R-RX-22)."""
    if isinstance(decision, triggers.Ignore):
        assert decision.reason in CODES
        return
    document = json.loads(github.unwrap(sent.body) if sent.headers.form else sent.body)
    assert document["repository"]["full_name"].lower() == "me/scraper"
    if isinstance(decision, triggers.GoBack):
        run = document["workflow_run"]
        assert (decision.service, said.event, run["conclusion"] in ("failure", "timed_out")) == (
            "tested",
            "workflow_run",
            True,
        )
        return
    hashes = [text for text in (decision.revision, decision.before) if text is not None]
    assert all(len(text) in (40, 64) and set(text) <= set("0123456789abcdef") for text in hashes)
    assert all(text.strip("0") for text in hashes)
    if said.event == "push":
        assert (document["ref"], document.get("deleted", False)) == ("refs/heads/main", False)
        assert decision.requested is None
    elif said.event == "workflow_run":
        run = document["workflow_run"]
        assert decision.requested == run["head_sha"]
        assert (document["action"], run["conclusion"], run["event"], run["head_branch"]) == (
            "completed", "success", "push", "main",
        )  # fmt: skip
        assert run["head_repository"]["id"] == document["repository"]["id"]
    else:
        assert said.event == "release"
        assert (document["action"], document["release"].get("draft", False)) == ("published", False)
        assert decision.requested == f"refs/tags/{document['release']['tag_name']}"
        assert is_name(document["release"]["tag_name"])


def signatures_of(body: bytes) -> list[bytes]:
    return [b"sha256=" + hmac.new(secret, body, "sha256").hexdigest().encode() for secret in SECRETS]


@pytest.mark.parametrize("part", range(4))
def test_every_delivery_has_a_decision_or_a_refusal(part: int) -> None:
    """R-RX-4, R-RX-11, R-RX-15, R-RX-19, R-RX-20, R-RX-22: from the bytes to the decision, equal for equal bytes."""
    fuzz(f"deliveries {part}", 10_000, a_request, judge)


LONG: dict[str, Callable[[int], bytes]] = {
    "deep lists": lambda n: b'{"a":' + b"[" * n + b"]" * n + b"}",
    "deep objects": lambda n: b'{"a":' * n + b"1" + b"}" * n,
    "many keys": lambda n: b"{" + b",".join(b'"%d":1' % key for key in range(n // 8)) + b"}",
    "one key again and again": lambda n: b"{" + b",".join([b'"a":1'] * (n // 6)) + b"}",
    "one long number": lambda n: b'{"a":' + b"9" * n + b"}",
    "one long fraction": lambda n: b'{"a":0.' + b"1" * n + b"}",
    "long exponents": lambda n: b'{"a":[' + b",".join([b"1e-99999999"] * (n // 12)) + b"]}",
    "escapes": lambda n: b'{"a":"' + b"\\u00e9" * (n // 6) + b'"}',
    "surrogates": lambda n: b'{"a":"' + b"\\ud83d\\ude00" * (n // 12) + b'"}',
    "halves of surrogates": lambda n: b'{"a":"' + b"\\ud83d" * (n // 6) + b'"}',
    "quotes": lambda n: b'"' * n,
    "backslashes": lambda n: b'{"a":"' + b"\\" * n,
    "blanks": lambda n: b" " * n,
    "a long ref": lambda n: json.dumps(PUSH | {"ref": "refs/heads/" + "/." * (n // 2)}).encode(),
    "escape codes": lambda n: json.dumps(PUSH | {"sender": {"login": "\x1b]" * (n // 2)}}).encode(),
    "a long tag": lambda n: json.dumps(a_release({"tag_name": ".lock/" * (n // 6)})).encode(),
}


@pytest.mark.parametrize("shape", LONG)
@pytest.mark.parametrize("form", [False, True])
def test_a_long_delivery_takes_time_in_proportion_to_its_length(shape: str, form: bool) -> None:
    """R-RX-8: thirty-two times the bytes may take two hundred times as long, where a square would take a thousand."""
    small, large = 12_000, 12_000 * 32

    def seconds(length: int) -> float:
        body = LONG[shape](length)
        body = b"payload=" + quote_plus(body).encode() if form else body
        event = "release" if shape == "a long tag" else "push"
        sent = Sent(body, hooks._Headers([signatures_of(body)[0]], event, "", form), "")
        began = thread_time()
        decision_of(sent)
        return thread_time() - began

    base = max(min(seconds(small) for _ in range(5)), 0.0005)
    assert min(seconds(large) for _ in range(2)) < 200 * base


def test_the_values_that_are_planted_are_not_all_the_same_to_a_delivery() -> None:
    """The fuzz reaches what it is for: all kinds of decisions, and most refusals, come up."""
    seen: set[str] = set()

    def note(sent: Sent) -> None:
        decided = decision_of(sent)
        if isinstance(decided, tuple):
            seen.update(
                item.reason if isinstance(item, triggers.Ignore) else f"{type(item).__name__} {item.service}"
                for item in decided[1]
            )
        else:
            seen.add(str(decided))

    fuzz("deliveries 0", 2000, a_request, note)
    wanted = {"Deploy pushed", "Deploy tested", "Deploy released", "GoBack tested", "None", "other-repository",
              "run-of-fork", "ref-deleted", "run-not-green", "other-branch", "the body is not strict JSON",
              "release-draft"}  # fmt: skip
    assert wanted <= seen, wanted - seen
    assert len(INTERESTING) > 50
