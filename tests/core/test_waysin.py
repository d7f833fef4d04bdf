"""Host keys, and what lets the agent into a repository."""

import base64

import pytest

from agent.core.repository import head_and_path, host_of, transport
from agent.core.settings import KeyRef, SecretRef, Source
from agent.core.waysin import KINDS, known_hosts, mistake, ways_in


def a_key(kind: str = "ssh-ed25519", body: bytes = b"k" * 36) -> str:
    return f"{kind} {base64.b64encode(len(kind).to_bytes(4, 'big') + kind.encode() + body).decode()}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_with_a_key_of_its_kind_is_right(kind: str) -> None:
    assert mistake(a_key(kind)) is None
    assert mistake(a_key(kind) + " a comment of mine") is None


@pytest.mark.parametrize(
    "line",
    [
        "", "ssh-ed25519", "ssh-ed25519 ", "ssh-ed25519 AAAA", "ssh-dss AAAA", a_key()[:-8], a_key(body=b"k"),
        a_key("ssh-rsa").replace("ssh-rsa ", "ssh-ed25519 "), a_key() + "\nother.org " + a_key(), " " + a_key(),
        "github.com " + a_key(), "@cert-authority * " + a_key(), a_key().replace(" ", "  "), "ssh-ed25519 !!!!",
        "ssh-ed25519 ünï",
        a_key() + " me\nother.org " + a_key(), a_key() + " me\r", a_key() + " \x00", a_key() + " \x7f",
    ],
)  # fmt: skip
def test_what_is_no_line_with_a_key_is_told(line: str) -> None:
    assert mistake(line) is not None


def test_a_key_is_longer_than_32_bytes_behind_its_kind() -> None:
    assert mistake(a_key(body=b"k" * 33)) is None
    assert mistake(a_key(body=b"k" * 32)) is not None


def test_a_line_of_known_hosts_is_told_what_is_too_much() -> None:
    problem = mistake("github.com " + a_key())
    assert problem is not None
    assert problem[1] == "write it without the host's name"


@pytest.mark.parametrize(
    ("repository", "name"),
    [
        ("git@GitHub.com:me/app.git", "github.com"),
        ("ssh://git@pi.local/srv/app", "pi.local"),
        ("ssh://git@pi.local:22/srv/app", "pi.local"),
        ("ssh://git@pi.local:2222/srv/app", "[pi.local]:2222"),
        ("ssh://git@[::1]/srv/app", "::1"),
        ("ssh://git@[::1]:2222/srv/app", "[::1]:2222"),
        ("git@[::1]:app", "::1"),
        ("[pi.local:2222]:app", "[pi.local]:2222"),
        ("pi:app", "pi"),
    ],
)
def test_a_pinned_key_stands_under_the_name_that_ssh_looks_for(repository: str, name: str) -> None:
    """R-GIT-3, F42"""
    assert (
        known_hosts(repository, ["ssh-ed25519 A", "ssh-rsa B"]) == f"{name} ssh-ed25519 A\n{name} ssh-rsa B\n"
    )


@pytest.mark.parametrize(
    ("repository", "way", "host", "parts"),
    [
        ("https://H.org/a/b", "https", ("h.org", 443), ("https://H.org", "/a/b")),
        ("https://h.org:8443/a", "https", ("h.org", 8443), ("https://h.org:8443", "/a")),
        ("ssh://u@h.org/a", "ssh", ("h.org", 22), ("ssh://u@h.org", "/a")),
        ("u@h:a/b:c", "ssh", ("h", 22), ("u@h:", "a/b:c")),
        ("u@[::1]:/a", "ssh", ("::1", 22), ("u@[::1]:", "/a")),
        ("/srv/a", "path", None, ("", "/srv/a")),
    ],
)
def test_an_address_has_a_way_a_host_and_a_path(
    repository: str, way: str, host: tuple[str, int] | None, parts: tuple[str, str]
) -> None:
    assert transport(repository) == way
    assert head_and_path(repository) == parts
    if host is not None:
        assert host_of(repository) == host


GIVEN = {
    "key": {"key": KeyRef(file="/k")},
    "host_keys": {"host_keys": (a_key(),)},
    "token": {"token": SecretRef(env="T")},
}


@pytest.mark.parametrize(
    ("repository", "fitting"),
    [
        ("git@h:a", {"key", "host_keys"}),
        ("ssh://h/a", {"key", "host_keys"}),
        ("https://h/a", {"token"}),
        ("/srv/a", set()),
    ],
)
def test_what_lets_the_agent_in_fits_how_git_gets_there(repository: str, fitting: set[str]) -> None:
    for name, options in GIVEN.items():
        found = list(ways_in(Source(repository=repository, **options)))  # type: ignore[arg-type]
        assert [finding.location for finding in found] == ([] if name in fitting else [(name,)])
        assert all(finding.relies == (("repository",),) for finding in found)


def test_of_an_address_that_is_refused_anyway_nothing_more_is_said() -> None:
    assert list(ways_in(Source(repository="http://h/a", token=SecretRef(env="T")))) == []


def test_each_line_that_is_wrong_is_told_by_its_place() -> None:
    source = Source(repository="git@h:a", host_keys=(a_key(), "x", a_key("ssh-rsa")))
    assert [finding.location for finding in ways_in(source)] == [("host_keys", 1)]
