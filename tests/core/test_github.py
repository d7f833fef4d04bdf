"""Authenticating, reading and deciding, without a server."""

import hashlib
import hmac
import json
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core import github, payload, triggers
from agent.core.codes import CODES
from agent.core.errors import Refused
from agent.core.payload import Payload
from agent.core.settings import Source
from agent.core.triggers import Deploy, Ignore
from tests.build import a_service

SHA = "6113728f27ae82c7b1a177c8d03f9e96e0adf246"
ZERO = "0" * 40
OLD = "59b20b8d5c6ff8d09518454d4dd8b7b30f095ab5"


def sign(body: bytes, secret: bytes) -> bytes:
    return b"sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest().encode()


def a_push(**differences: Any) -> dict[str, Any]:
    document: dict[str, Any] = {
        "ref": "refs/heads/main",
        "before": OLD,
        "after": SHA,
        "created": False,
        "deleted": False,
        "forced": False,
        "base_ref": None,
        "commits": [{"id": SHA, "message": "Add a page"}],
        "head_commit": {"id": SHA, "message": "Add a page"},
        "repository": {"id": 1, "full_name": "me/scraper", "clone_url": "https://github.com/me/scraper.git"},
        "pusher": {"name": "me"},
        "sender": {"login": "me", "id": 7},
    }
    return document | differences


def a_ping(**differences: Any) -> dict[str, Any]:
    return {"zen": "Keep it logically awesome.", "hook_id": 1, "hook": {"type": "Repository"}} | differences


WORKFLOW_RUN = {
    "action": "completed",
    "workflow_run": {"id": 1, "head_sha": SHA},
    "workflow": {"id": 2},
    "repository": {"full_name": "me/scraper"},
}
RELEASE = {"action": "published", "release": {"tag_name": "v1"}, "repository": {"full_name": "me/scraper"}}
BODIES = {"push": a_push(), "ping": a_ping(), "workflow_run": WORKFLOW_RUN, "release": RELEASE}


def read(event: str, document: Any, guid: str = "guid-1") -> Payload:
    return payload.read(event, guid, json.dumps(document).encode())


@contextmanager
def _refused_at_most() -> Iterator[None]:
    """Whatever is inside may be refused as an invalid body, and may fail in no other way."""
    try:
        yield
    except Refused as refused:
        if (refused.status, refused.code) != (400, "body-invalid"):
            raise


# --- the signature

HEART = "\u2665" * 8
VECTORS = [
    pytest.param(
        b"It's a Secret to Everybody",
        b"Hello, World!",
        b"757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
        id="github",
    ),
    pytest.param(
        b"mysecret",
        b'{\n  "foo": "bar"\n}\n',
        b"e3eccac34c43c7dc1cbb905488b1b81347fcc700a7b025697a9d07862256023f",
        id="octokit",
    ),
    pytest.param(
        b"development",
        f'{{\n  "foo": "Foo\\n\\u001B[34mbar: {HEART}\\nthis-is-lost\\u001B[0m\\u001B[2K"\n}}\n'.encode(),
        b"9dacf9003316b09be07df56d86a2d0d6872e42a1e6c72c3bad9ff915a7c5603e",
        id="octokit-upper-case-escapes",
    ),
    pytest.param(
        b"development",
        b'{\n  "foo": "\\\\u001b"\n}\n',
        b"87316067e2011fae39998b18c46a14d83b3e7c3ffdd88fb2ee5afb7d11288e60",
        id="octokit-escaped-backslash",
    ),
]


@pytest.mark.parametrize(("secret", "body", "digest"), VECTORS)
def test_the_published_vectors_verify_and_no_other_byte_does(
    secret: bytes, body: bytes, digest: bytes
) -> None:
    """R-RX-1, R-RX-2."""
    header = b"sha256=" + digest
    assert github.verify(body, [header], [secret]) == 0
    assert github.verify(bytearray(body), [header], [secret]) == 0
    for index in range(len(body)):
        changed = bytearray(body)
        changed[index] ^= 1
        assert github.verify(bytes(changed), [header], [secret]) is None


@given(body=st.binary(), secret=st.binary(min_size=1, max_size=80), other=st.binary(max_size=80))
def test_only_the_signed_bytes_under_the_signing_secret_verify(
    body: bytes, secret: bytes, other: bytes
) -> None:
    header = sign(body, secret)
    assert github.verify(body, [header], [secret]) == 0
    if hmac.new(other, body, "sha256").digest() != hmac.new(secret, body, "sha256").digest():
        assert github.verify(body, [header], [other]) is None
    assert github.verify(body + b"\n", [header], [secret]) is None


SECRET = b"a secret of enough bytes"
GOOD = sign(b"body", SECRET)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [b""],
        [b"sha1=" + hmac.new(SECRET, b"body", hashlib.sha1).hexdigest().encode()],
        [GOOD.removeprefix(b"sha256=")],
        [GOOD.upper()],
        [b"sha256=" + GOOD[7:].upper() + b""] if GOOD[7:].upper() != GOOD[7:] else [b"sha256="],
        [GOOD[:-1]],
        [GOOD + b"0"],
        [GOOD + b"\n"],
        [b" " + GOOD],
        [GOOD, GOOD],
        [GOOD, b"sha256=" + b"0" * 64],
        [b"sha256=" + b"\xed\xb3\xbf" * 22],
        [b"sha256=\xff" + GOOD[8:]],
        ["sha256=\udcff".encode("utf-8", "surrogateescape")],
    ],
)
def test_a_header_of_any_other_form_is_no_signature(headers: list[bytes]) -> None:
    """R-RX-4."""
    assert github.verify(b"body", headers, [SECRET]) is None


@given(headers=st.lists(st.binary(), max_size=3))
def test_no_header_makes_verification_fail_with_an_error(headers: list[bytes]) -> None:
    """R-RX-4: a TypeError here would be a 500."""
    assert github.verify(b"body", headers, [SECRET]) in (None, 0)


def test_each_of_two_secrets_verifies_and_says_which_it_was() -> None:
    """R-RX-6."""
    new, old = b"the new secret, long enough", b"the old secret, long enough"
    assert github.verify(b"body", [sign(b"body", new)], [new, old]) == 0
    assert github.verify(b"body", [sign(b"body", old)], [new, old]) == 1
    assert github.verify(b"body", [sign(b"body", b"a third one, long enough")], [new, old]) is None


def test_every_secret_is_tried_also_after_one_matched(monkeypatch: pytest.MonkeyPatch) -> None:
    """R-RX-6: without early exit."""
    compared = []
    real = hmac.compare_digest

    def counting(left: bytes, right: bytes) -> bool:
        compared.append(left)
        return real(left, right)

    monkeypatch.setattr("agent.core.github.hmac.compare_digest", counting)
    secrets = [b"first secret of sixteen", b"second secret of sixteen", b"third secret of sixteen"]
    assert github.verify(b"body", [sign(b"body", secrets[0])], secrets) == 0
    assert len(compared) == 3


def test_an_empty_secret_never_verifies_and_no_secret_neither() -> None:
    """R-RX-5."""
    assert github.verify(b"body", [sign(b"body", b"")], [b""]) is None
    assert github.verify(b"body", [sign(b"body", b"")], []) is None


# --- content types


@pytest.mark.parametrize(
    "value",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        'application/json;charset="UTF8"',
    ],
)
def test_json_in_utf_8_is_taken(value: str) -> None:
    assert github.is_json([value])


@pytest.mark.parametrize(
    "values",
    [
        [],
        [""],
        ["application/x-www-form-urlencoded"],
        ["text/plain"],
        ["application/json; charset=latin-1"],
        ["application/json; charset=utf-16"],
        ["application/json; charset=utf-8; charset=utf-7"],
        ["application/jsonp"],
        ["application/json, text/plain"],
        ["application/json", "application/json"],
    ],
)
def test_every_other_content_type_is_not_taken(values: list[str]) -> None:
    """R-RX-10."""
    assert not github.is_json(values)


@pytest.mark.parametrize("values", [
    [], [""], ["application/x-www-form-urlencoded; charset=iso-8859-1"], ["application/x-www-form-urlencoded;charset="],
    ["application/x-www-form-urlencoded", "application/json"], ["application/json; charset=utf-16"],
])  # fmt: skip
def test_other_characters_than_utf_8_and_two_content_types_are_none(values: list[str]) -> None:
    """R-RX-10, R-RX-11."""
    assert github.media_type(values) not in (github.JSON, github.FORM)


@pytest.mark.parametrize("value", [
    "application/x-www-form-urlencoded", "Application/X-WWW-Form-URLencoded; charset=UTF-8",
])  # fmt: skip
def test_a_form_in_utf_8_is_a_form(value: str) -> None:
    """R-RX-11."""
    assert github.media_type([value]) == github.FORM


# --- forms


def test_a_form_is_unwrapped() -> None:
    """R-RX-11."""
    assert (
        github.unwrap(b"payload=%7B%22a%22%3A+%22%E2%99%A5+%2b%26%3d%3B%25%22%7d")
        == '{"a": "♥ +&=;%"}'.encode()
    )
    assert github.unwrap(bytearray(b"payload=a=b")) == b"a=b"
    assert github.unwrap(b"payload=") == b""


@pytest.mark.parametrize("form", [
    b"", b"payload", b"{}", b"other=%7B%7D", b"Payload=%7B%7D", b"p%61yload=%7B%7D", b"payload[]=%7B%7D", b"=%7B%7D",
    b" payload=%7B%7D", b"&payload=%7B%7D", b"payload =%7B%7D",
    # more than one field, of the same name or of another
    b"payload=%7B%7D&payload=%7B%7D", b"payload=%7B%7D&a=1", b"a=1&payload=%7B%7D", b"payload=%7B%7D&", b"payload=&",
    b"payload=%7B%7D;a=1", b"payload=%7B%7D&payload", b"payload=%7B%7D&&",
    # escapes that are none
    b"payload=%", b"payload=%7", b"payload=%7G", b"payload=%g7", b"payload=%7B%", b"payload=%%7B", b"payload=%u007B",
    b"payload=% 7B", b"payload=%+7", b"payload=%-1",
    # what a form never holds as it is
    b"payload=\t", b"payload={} ", b"payload={}\n", b"payload=\r\n", b"payload=\0", b"payload=\x7f",
    b"payload=\xe2\x99\xa5",
])  # fmt: skip
def test_what_is_not_exactly_one_field_in_strict_form_is_refused(form: bytes) -> None:
    """R-RX-11."""
    for body in (form, bytearray(form)):
        with pytest.raises(Refused) as refused:
            github.unwrap(body)
        assert (refused.value.status, refused.value.code) == (400, "body-invalid")


@given(document=st.binary(), piece=st.integers(3, 12))
def test_what_was_encoded_comes_back_wherever_the_pieces_end(document: bytes, piece: int) -> None:
    """R-RX-11."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(github, "_PIECE", piece)
        for form in (quote_plus(document), quote(document), "".join(f"%{byte:02x}" for byte in document)):
            assert github.unwrap(b"payload=" + form.encode()) == document


@given(
    form=st.text("%0aAfF+&;= p", max_size=12).map(str.encode) | st.binary(max_size=12),
    piece=st.integers(3, 5),
)
def test_any_form_is_refused_or_reads_as_a_strict_reader_does(form: bytes, piece: int) -> None:
    """R-RX-11: the standard library agrees about everything that is taken."""
    body = b"payload=" + form
    with pytest.MonkeyPatch.context() as patch, _refused_at_most():
        patch.setattr(github, "_PIECE", piece)
        found = github.unwrap(body)
        for separator in "&;":
            fields = parse_qs(body.decode("latin-1"), True, True, "latin-1", separator=separator)
            assert fields == {"payload": [found.decode("latin-1")]}


def test_a_form_of_nothing_but_escapes_needs_no_more_memory_than_it_is_long() -> None:
    """R-RX-8, R-RX-11: an object for each escape would be thirty times as much."""
    form = b"payload=" + b"%22" * 2_000_000
    tracemalloc.start()
    try:
        assert len(github.unwrap(form)) == 2_000_000
        assert tracemalloc.get_traced_memory()[1] < len(form)
    finally:
        tracemalloc.stop()


# --- strict JSON


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"[]",
        b"null",
        b'"text"',
        b"{",
        b"{}{}",
        b"{'a': 1}",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": -1e999}',
        b'{"a": 1, "a": 2}',
        b'{"a": {"b": 1, "b": 1}}',
        b'{"a": "\\ud800"}',
        b'{"a": "\\uDFFF"}',
        b'{"\\ud800": 1}',
        b'{"a": "\xff"}',
        b'{"a": "\xed\xa0\x80"}',
        b'\xef\xbb\xbf{"a": 1}',
        '{"a": 1}'.encode("utf-16"),
        b'{"a": "\n"}',
        b'{"a": 01}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    ],
)
def test_what_is_not_strict_json_is_refused(body: bytes) -> None:
    """M11: the standard library takes most of these, or fails in other ways."""
    with pytest.raises(Refused) as refused:
        github.parse(body)
    assert (refused.value.status, refused.value.code) == (400, "body-invalid")


def test_strict_json_of_every_kind_is_read() -> None:
    body = b'{"a": [1, -2.5e3, true, false, null, "\\u001B \\ud83d\\ude00 \xe2\x99\xa5"], "b": {}}\n'
    assert github.parse(body) == {"a": [1, -2500.0, True, False, None, "\x1b \U0001f600 \u2665"], "b": {}}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(document=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), JSON))
def test_every_object_comes_back_as_it_was_written(document: dict[str, Any]) -> None:
    assert github.parse(json.dumps(document).encode()) == document
    assert github.parse(json.dumps(document, ensure_ascii=False).encode()) == document


@given(event=st.text(max_size=12) | st.sampled_from(sorted(BODIES)), guid=st.text(), body=st.binary())
def test_any_bytes_under_any_event_are_read_or_refused(event: str, guid: str, body: bytes) -> None:
    with _refused_at_most():
        payload.read(event, guid, body)


@given(event=st.sampled_from(["push", "ping", "issues"]), document=st.data())
def test_any_values_in_the_fields_of_a_push_are_read_or_refused(event: str, document: st.DataObject) -> None:
    broken = {name: document.draw(JSON | st.just(value)) for name, value in a_push().items()}
    with _refused_at_most():
        assert triggers.decide(read(event, broken), {"scraper": a_service()})


# --- the shape fits the event


@pytest.mark.parametrize("event", sorted(BODIES))
@pytest.mark.parametrize("shape", sorted(BODIES))
def test_a_body_passes_under_its_own_event_only(event: str, shape: str) -> None:
    """R-RX-15: the header is not signed."""
    if event == shape:
        assert read(event, BODIES[shape]).event == event
    else:
        with pytest.raises(Refused, match="body-invalid"):
            read(event, BODIES[shape])


@pytest.mark.parametrize("shape", sorted(BODIES))
@pytest.mark.parametrize("event", ["issues", "deployment", "repository_dispatch", "a_new_one"])
def test_a_known_body_does_not_pass_as_some_other_event(event: str, shape: str) -> None:
    """R-RX-15."""
    with pytest.raises(Refused, match="body-invalid"):
        read(event, BODIES[shape])


@pytest.mark.parametrize("event", sorted(BODIES))
@pytest.mark.parametrize(
    "document", [{}, {"action": "completed"}, {"repository": {"full_name": "me/scraper"}}]
)
def test_a_body_of_no_known_shape_does_not_pass_as_a_known_event(
    event: str, document: dict[str, Any]
) -> None:
    """R-RX-15."""
    with pytest.raises(Refused, match="body-invalid"):
        read(event, document)


@pytest.mark.parametrize(
    ("event", "document"),
    [
        ("issues", {"action": "opened", "issue": {"number": 1}}),
        ("create", {"ref": "main", "ref_type": "branch", "repository": {"full_name": "me/scraper"}}),
        ("pull_request", {"action": "synchronize", "before": OLD, "after": SHA, "pull_request": {}}),
        ("deployment", {"action": "created", "deployment": {}, "workflow": {}, "workflow_run": {}}),
        (
            "deployment_status",
            {
                "action": "created",
                "deployment_status": {},
                "deployment": {},
                "check_run": {},
                "workflow": {},
                "workflow_run": {"head_sha": SHA, "conclusion": "success"},
            },
        ),
        (
            "deployment_review",
            {"action": "requested", "workflow_run": {}, "workflow_job_runs": [], "reviewers": []},
        ),
        ("deployment_protection_rule", {"action": "requested", "event": "push", "deployment": {}}),
        ("check_run", {"action": "completed", "check_run": {"head_sha": SHA, "conclusion": "success"}}),
        ("check_suite", {"action": "completed", "check_suite": {"head_sha": SHA, "head_branch": "main"}}),
        ("workflow_job", {"action": "completed", "workflow_job": {"head_sha": SHA}, "deployment": {}}),
        (
            "workflow_dispatch",
            {"inputs": None, "ref": "refs/heads/main", "workflow": ".github/workflows/ci.yml"},
        ),
        (
            "registry_package",
            {"action": "published", "registry_package": {"package_version": {"release": {}}}},
        ),
        ("deployment_review", {"action": "approved", "workflow_run": {}, "workflow_job_run": {}}),
        ("meta", {"action": "deleted", "hook_id": 1, "hook": {}}),
        ("status", {"sha": SHA, "state": "success"}),
    ],
)
def test_events_that_look_a_little_like_known_ones_are_read(event: str, document: dict[str, Any]) -> None:
    """R-RX-17: a 4xx would make GitHub's list of deliveries red."""
    assert read(event, document).event == event


@pytest.mark.parametrize(
    "event", ["", "Push", "push ", "push\n", "push,ping", "../push", "p" * 65, "\udcff", "0push"]
)
def test_what_is_no_events_name_is_refused(event: str) -> None:
    with pytest.raises(Refused, match="body-invalid"):
        read(event, a_push())


@pytest.mark.parametrize(
    "differences",
    [
        {"ref": None},
        {"ref": ""},
        {"ref": 1},
        {"after": SHA.upper()},
        {"after": SHA[:-1]},
        {"after": SHA + "\n"},
        {"after": None},
        {"before": "main"},
        {"before": ["x"]},
        {"deleted": "true"},
        {"deleted": None},
        {"repository": None},
        {"repository": {}},
        {"repository": {"full_name": None}},
        {"repository": "me/scraper"},
    ],
)
def test_a_push_without_what_every_push_has_is_refused(differences: dict[str, Any]) -> None:
    """R-RX-15."""
    with pytest.raises(Refused, match="body-invalid"):
        read("push", a_push(**differences))


def test_a_push_is_read_with_what_counts_of_it() -> None:
    payload = read("push", a_push(), "72d3162e-cc78-11e3-81ab-4c9367dc0958")
    assert payload == Payload(
        event="push",
        guid="72d3162e-cc78-11e3-81ab-4c9367dc0958",
        repository="me/scraper",
        ref="refs/heads/main",
        before=OLD,
        after=SHA,
        sender="me",
    )
    assert payload.revision == SHA


def test_a_push_that_does_not_say_whether_it_deletes_does_not() -> None:
    document = a_push()
    document.pop("deleted", None)
    assert read("push", document).revision == SHA


# --- the decision


def decide(document: dict[str, Any] | None = None, event: str = "push", **service: Any) -> str:
    """The revision that the service wants, or why it wants none."""
    source = {"repository": "git@github.com:me/scraper.git", "branch": "main"} | service.pop("source", {})
    settings = a_service(source=source, **service)
    (decision,) = triggers.decide(
        read(event, a_push() if document is None else document), {"scraper": settings}
    )
    return decision.reason if isinstance(decision, Ignore) else str(decision.revision)


def test_a_push_to_the_branch_is_wanted() -> None:
    assert decide() == SHA


def test_a_new_branch_deploys_normally() -> None:
    """R-RX-18: zero `before`."""
    assert decide(a_push(before=ZERO, created=True)) == SHA


@pytest.mark.parametrize(
    "differences",
    [
        {"deleted": True, "after": ZERO, "head_commit": None, "commits": []},
        {"deleted": False, "after": ZERO},
        {"deleted": True},
        {"deleted": False, "after": "0" * 64},
    ],
)
def test_a_deleted_branch_deploys_nothing(differences: dict[str, Any]) -> None:
    """R-RX-18."""
    assert decide(a_push(**differences)) == "ref-deleted"


@pytest.mark.parametrize(
    ("ref", "reason"),
    [
        ("refs/heads/feature/main", "other-branch"),
        ("refs/heads/main2", "other-branch"),
        ("refs/heads/Main", "other-branch"),
        ("refs/heads/main\n", "other-branch"),
        ("refs/heads/ma\u0131n", "other-branch"),
        ("refs/heads/refs/heads/main", "other-branch"),
        ("REFS/heads/main", "other-branch"),
        ("main", "other-branch"),
        ("refs/tags/main", "tag-push"),
        ("refs/heads/--upload-pack=touch${IFS}pwned", "other-branch"),
    ],
)
def test_only_exactly_the_branch_deploys(ref: str, reason: str) -> None:
    """R-RX-19."""
    assert decide(a_push(ref=ref)) == reason


def test_another_repository_deploys_nothing() -> None:
    """R-RX-16."""
    assert decide(a_push(repository={"full_name": "me/other"})) == "other-repository"
    assert decide(a_push(repository={"full_name": "evil/scraper"})) == "other-repository"
    assert decide(source={"repository": "/srv/git/scraper.git"}) == "other-repository"


def test_the_name_of_a_repository_is_compared_as_github_does() -> None:
    assert decide(a_push(repository={"full_name": "Me/Scraper"})) == SHA
    assert decide(source={"repository": "/srv/git/x.git", "github": "ME/scraper"}) == SHA


def test_other_addresses_in_the_payload_change_nothing() -> None:
    """R-RX-20: the decision holds nothing but the service's name and a hash."""
    evil = {"full_name": "me/scraper", "clone_url": "https://evil.example/x.git", "ssh_url": "ext::sh -c id"}
    assert decide(a_push(repository=evil)) == SHA


def test_events_that_are_not_chosen_or_not_known_deploy_nothing() -> None:
    """R-RX-17."""
    assert decide({"action": "opened", "issue": {}}, "issues") == "event-ignored"
    assert decide(deploy={"on": []}) == "event-not-chosen"


def test_one_delivery_can_be_wanted_by_several_services() -> None:
    services = {
        "web": a_service(source={"repository": "https://github.com/me/scraper"}),
        "worker": a_service(source={"repository": "https://github.com/me/scraper", "branch": "next"}),
        "docs": a_service(source={"repository": "ssh://git@github.com/me/scraper.git"}),
    }
    decisions = triggers.decide(read("push", a_push()), services)
    assert decisions == [
        Deploy("web", SHA, before=OLD),
        Ignore("worker", "other-branch"),
        Deploy("docs", SHA, before=OLD),
    ]


def test_the_reason_given_is_that_of_the_service_that_came_nearest() -> None:
    assert triggers.why([Ignore("a", "other-repository"), Ignore("b", "ref-deleted")]) == "ref-deleted"
    assert triggers.why([]) == "event-ignored"
    assert set(triggers._NEAREST) <= set(CODES)


@pytest.mark.parametrize(
    ("repository", "name"),
    [
        ("https://github.com/me/scraper", "me/scraper"),
        ("https://github.com/me/scraper.git", "me/scraper"),
        ("https://token@github.com/me/scraper.git/", "me/scraper"),
        ("git@github.com:me/scraper.git", "me/scraper"),
        ("https://github.com/Xavier/boX/", "Xavier/boX"),
        ("github.com:me/scraper", "me/scraper"),
        ("ssh://git@ssh.github.com:443/me/scraper.git", "me/scraper"),
        ("https://gitlab.com/group/sub/project.git", None),
        ("https://github.com/", None),
        ("https://github.com/me", None),
        ("https://github.com/me/.git", None),
        ("https://[bad/me/scraper", None),
        ("/srv/git/scraper.git", None),
        ("../me/scraper", None),
        ("me/scraper", None),
    ],
)
def test_the_name_is_read_off_the_address_if_it_can_be(repository: str, name: str | None) -> None:
    assert triggers.repository_of(Source(repository=repository)) == name
