"""Tokens, sessions, scopes, names and addresses, and the counting of failures."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core import access
from agent.core.limits import Strikes
from agent.core.model import Scope

CI = access.Key("ci", b"the secret of ci, long enough", frozenset({Scope.DEPLOY}))
ME = access.Key("me", b"the secret of me, long enough", frozenset({Scope.ADMIN}))
KEYS = (CI, ME)


# --- tokens


def test_a_token_says_who_asks_and_what_it_may() -> None:
    """R-UI-4."""
    principal = access.authenticate(CI.secret, KEYS)
    assert principal is not None
    assert principal.name == "ci"
    assert principal.may(Scope.READ)
    assert principal.may(Scope.DEPLOY)
    assert not principal.may(Scope.ADMIN)


@given(token=st.binary())
def test_no_other_bytes_are_a_token(token: bytes) -> None:
    if token not in (CI.secret, ME.secret):
        assert access.authenticate(token, KEYS) is None


def test_an_empty_secret_is_nobodys_token() -> None:
    assert access.authenticate(b"", [access.Key("x", b"", frozenset({Scope.ADMIN}))]) is None


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer abc", b"abc"),
        ("bearer  abc ", b"abc"),
        ("BEARER a b", b"a b"),
        ("Basic abc", None),
        ("Bearer", None),
        ("Bearer ", None),
        ("", None),
        ("Bearer \udcff", b"\xff"),
    ],
)
def test_the_bearer_token_is_taken_out_of_its_header(header: str, token: bytes | None) -> None:
    assert access.bearer(header) == token


# --- sessions


def test_a_session_holds_what_its_token_holds_until_its_time() -> None:
    session = access.seal(ME, 1000)
    assert access.unseal(session, KEYS, 999) == access.Principal("me", access.EVERY_SCOPE)
    assert access.unseal(session, KEYS, 1000) is None
    assert access.unseal(access.seal(ME, 10**9), KEYS, 999) is None, (
        "the clock ran ahead when it was made (F53)"
    )
    assert access.unseal(session, (CI,), 999) is None
    assert access.unseal(session, (access.Key("me", b"a new secret, long enough", ME.scopes),), 999) is None


def test_a_session_cannot_be_changed() -> None:
    name, expires, tag = access.seal(CI, 1000).split(".")
    other_name = access.seal(ME, 1000).split(".")[0]
    assert access.unseal(f"{name}.9999.{tag}", KEYS, 0) is None
    assert access.unseal(f"{other_name}.{expires}.{tag}", KEYS, 0) is None
    assert access.unseal(f"{name}.0{expires}.{tag}", KEYS, 0) is not None  # the same number, the same session
    assert access.unseal(f"{name}.{expires}.{tag[:-1]}{'0' if tag[-1] != '0' else '1'}", KEYS, 0) is None


@given(session=st.text())
def test_no_other_text_is_a_session(session: str) -> None:
    assert access.unseal(session, KEYS, 0) is None


def test_a_name_of_any_characters_makes_a_session() -> None:
    key = access.Key("a.b/ü \n", b"a secret that is long enough", frozenset({Scope.READ}))
    session = access.seal(key, 10)
    assert access.unseal(session, [key], 0) == access.Principal(key.name, frozenset({Scope.READ}))
    assert session.isascii()
    assert session.count(".") == 2


# --- the unix socket


@pytest.mark.parametrize(
    ("uid", "groups", "group", "every"),
    [
        (0, {0}, 50, True),
        (999, {999}, 50, True),
        (1000, {1000, 50}, 50, True),
        (1000, {1000}, 50, False),
        (1000, {1000}, None, False),
    ],
)
def test_root_the_agents_user_and_its_group_hold_every_scope(
    uid: int, groups: set[int], group: int | None, *, every: bool
) -> None:
    principal = access.peer("somebody", uid, groups, own=999, group=group)
    assert principal.may(Scope.READ)
    assert principal.may(Scope.ADMIN) is every
    assert principal.may(Scope.DEPLOY) is every


# --- where from

PROXIES = access.networks(["127.0.0.1", "10.0.0.0/8", "::1"])


@pytest.mark.parametrize(
    ("remote", "forwarded", "expected"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        ("127.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("127.0.0.1", ["6.6.6.6, 198.51.100.1"], "198.51.100.1"),
        ("127.0.0.1", ["6.6.6.6", "198.51.100.1, 10.1.2.3"], "198.51.100.1"),
        ("127.0.0.1", ["198.51.100.1, nonsense"], "127.0.0.1"),
        ("127.0.0.1", ["::1%x\ny"], "127.0.0.1"),  # Python takes anything for a zone
        ("127.0.0.1", ["198.51.100.1, nonsense, 10.0.0.7"], "10.0.0.7"),
        ("127.0.0.1", ["10.1.1.1, 10.1.1.2"], "10.1.1.1"),
        ("127.0.0.1", [""], "127.0.0.1"),
        ("::1", ["2001:db8::1"], "2001:db8::1"),
        ("::ffff:127.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("", ["198.51.100.1"], ""),
    ],
)
def test_the_client_is_the_right_most_hop_that_is_no_trusted_proxy(
    remote: str, forwarded: list[str], expected: str
) -> None:
    """R-RX-29."""
    assert access.client(remote, forwarded, PROXIES) == expected


def test_a_trusted_address_is_known_with_its_zone_and_in_its_ipv6_form() -> None:
    trusted = access.networks(["10.0.0.9/24", "fe80::1"])
    for address in ("10.0.0.7", "::ffff:10.0.0.7", "fe80::1", "fe80::1%eth0"):
        assert access.trusts(address, trusted)
    for address in ("10.0.1.7", "fe80::2%eth0", "fe80::1:1", "", "pi.local"):
        assert not access.trusts(address, trusted)


@given(forwarded=st.lists(st.text()))
def test_without_trusted_proxies_what_a_header_says_is_ignored(forwarded: list[str]) -> None:
    """R-RX-29."""
    assert access.client("203.0.113.9", forwarded, ()) == "203.0.113.9"


# --- names


def test_the_configured_names_and_this_machine_are_allowed() -> None:
    """R-UI-1."""
    allowed = access.names("0.0.0.0", "https://Pi.Example.org:8443/x", ["pi.local", "[fe80::1]"])
    assert {"localhost", "127.0.0.1", "::1", "pi.example.org", "pi.local", "fe80::1"} <= allowed
    assert "evil.example" not in allowed
    assert access.names("[::]", None, ["Pi.Local."]) == {"localhost", "127.0.0.1", "::1", "::", "pi.local"}


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("pi.local", "pi.local"),
        ("PI.local.:8300", "pi.local"),
        ("127.0.0.1:8300", "127.0.0.1"),
        ("[::1]:8300", "::1"),
        ("[::1]", "::1"),
        ("", None),
        ("a b", None),
        ("evil.example/pi.local", None),
        ("evil.example@pi.local", None),
        ("pi.local:80:80", None),
        ("pi.local:port", None),
        ("::1", None),
        ("\udcff", None),
    ],
)
def test_the_name_is_taken_out_of_the_host_header(header: str, name: str | None) -> None:
    assert access.host_name(header) == name


@pytest.mark.parametrize(
    ("origin", "host", "public", "same"),
    [
        ("http://pi.local:8300", "pi.local:8300", None, True),
        ("https://pi.example.org", "127.0.0.1:8300", "https://pi.example.org/", True),
        ("http://pi.example.org", "127.0.0.1:8300", "https://pi.example.org", False),
        ("https://evil.example", "pi.local:8300", "https://pi.example.org", False),
        ("http://pi.local:9999", "pi.local:8300", None, False),
        ("http://pi.local:8300.evil.example", "pi.local:8300", None, False),
        ("null", "pi.local", None, False),
        ("", "", None, False),
        ("http://", "", None, False),
        ("http://[", "x", None, False),
    ],
)
def test_an_origin_is_ours_or_it_is_not(origin: str, host: str, public: str | None, *, same: bool) -> None:
    """R-UI-2, R-UI-3."""
    assert access.same_origin(origin, host, public) is same


@given(origin=st.text(), host=st.text())
def test_no_text_breaks_the_check_of_origins(origin: str, host: str) -> None:
    access.same_origin(origin, host, "https://pi.example.org")
    access.host_name(host)


# --- counting


def test_ten_failures_a_minute_are_heard_and_then_a_wait_is_told() -> None:
    """R-RX-28."""
    strikes = Strikes()
    assert [strikes.strike("a", 100.0 + second) for second in range(10)] == [0] * 10
    assert strikes.strike("a", 110.0) == 50
    assert strikes.strike("b", 110.0) == 0
    assert strikes.strike("a", 159.5) == 1
    assert strikes.strike("a", 160.0) == 0
    assert strikes.strike("a", 160.0) == 1


def test_the_table_is_bounded_and_forgets_the_quietest() -> None:
    """R-RX-28."""
    strikes = Strikes(limit=1, clients=3)
    for name in "abcad":
        strikes.strike(name, 0.0)
    assert len(strikes) == 3
    assert strikes.strike("a", 0.0) > 0
    assert strikes.strike("b", 0.0) == 0  # was forgotten


def test_one_network_of_the_new_internet_is_one_client() -> None:
    strikes = Strikes(limit=1)
    assert strikes.strike("2001:db8::1", 0.0) == 0
    assert strikes.strike("2001:db8::ffff:1%eth0", 0.0) > 0
    assert strikes.strike("2001:db8:0:1::1", 0.0) == 0
    assert strikes.strike("::ffff:192.0.2.1", 0.0) == 0
    assert strikes.strike("::ffff:192.0.2.2", 0.0) == 0
    assert strikes.strike("192.0.2.1", 0.0) > 0
    assert strikes.strike("no: address", 0.0) == 0


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(0, 30)), max_size=200))
def test_the_table_never_grows_and_within_a_minute_never_hears_more_than_the_limit(
    failures: list[tuple[str, float]],
) -> None:
    """R-RX-28."""
    strikes, now, heard = Strikes(limit=2, clients=4), 0.0, dict[str, list[float]]()
    for client, pause in failures:
        now += pause
        if strikes.strike(client, now) == 0:
            heard.setdefault(client, []).append(now)
        assert len(strikes) <= 4
    if len(heard) <= 4:
        for times in heard.values():
            assert all(later - earlier >= 60 for earlier, later in zip(times, times[2:], strict=False))
