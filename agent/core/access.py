"""Who asks, from where, under which name, and what it may. Pure.

Secrets are compared as digests of equal length in constant time, all of them, without an early exit.
"""

import hashlib
import hmac
import ipaddress
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Iterable, Sequence
from urllib.parse import urlsplit

from msgspec import Struct

from agent.core.model import Scope

SESSION_SECONDS = 7 * 24 * 3600
"""How long a browser stays logged in."""

EVERY_SCOPE = frozenset(Scope)
_INCLUDED = {
    Scope.READ: frozenset({Scope.READ}),
    Scope.DEPLOY: frozenset({Scope.READ, Scope.DEPLOY}),
    Scope.ADMIN: EVERY_SCOPE,
}


class Key(Struct, frozen=True):
    """A token of the configuration, resolved."""

    name: str
    secret: bytes
    scopes: frozenset[Scope]


class Principal(Struct, frozen=True):
    """Who asks. `name` stands in events as the actor."""

    name: str
    scopes: frozenset[Scope]

    def may(self, scope: Scope) -> bool:
        """Whether its scopes include this one."""
        return scope in self.scopes


def widen(scopes: Iterable[Scope]) -> frozenset[Scope]:
    """The scopes with all that they include: admin holds deploy, deploy holds read."""
    return frozenset[Scope]().union(*(_INCLUDED[scope] for scope in scopes))


# --- tokens and sessions


def authenticate(token: bytes, keys: Sequence[Key]) -> Principal | None:
    """Whose token this is, or None. All keys are tried."""
    given = hashlib.sha256(token).digest()
    found: Principal | None = None
    for key in keys:
        if hmac.compare_digest(hashlib.sha256(key.secret).digest(), given) and key.secret and found is None:
            found = _principal(key)
    return found


def bearer(authorization: str) -> bytes | None:
    """The token of an Authorization header; None if it is of another scheme."""
    scheme, _, token = authorization.strip().partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        return None
    return token.strip().encode("utf-8", "surrogateescape")


def seal(key: Key, expires: int) -> str:
    """A session for this key, good until `expires` (seconds since 1970): `name.expiry.hmac`.

    Nothing is stored: it ends with its time, or with the token that it was made from.
    """
    name = urlsafe_b64encode(key.name.encode()).decode().rstrip("=")
    return f"{name}.{expires}.{_session_tag(key, expires)}"


_SESSION = re.compile(r"\A([A-Za-z0-9_-]{1,512})\.([0-9]{1,12})\.([0-9a-f]{64})\Z")


def unseal(session: str, keys: Sequence[Key], now: float) -> Principal | None:
    """Whose session this is; None if it was not made here, has ended, or its token is gone."""
    match = _SESSION.match(session)
    if match is None or not now < int(match[2]) <= now + 2 * SESSION_SECONDS:
        return None  # no clock of now makes one that ends so late: it ran ahead then
    try:
        name = urlsafe_b64decode(match[1] + "=" * (-len(match[1]) % 4)).decode()
    except ValueError:
        return None
    for key in keys:
        if key.name == name and hmac.compare_digest(_session_tag(key, int(match[2])), match[3]):
            return _principal(key)
    return None


def _session_tag(key: Key, expires: int) -> str:
    return hmac.new(
        key.secret, b"homeport session\0%s\0%d" % (key.name.encode(), expires), "sha256"
    ).hexdigest()


def _principal(key: Key) -> Principal:
    return Principal(key.name, widen(key.scopes))


def peer(name: str, uid: int, groups: Collection[int], *, own: int, group: int | None) -> Principal:
    """Who asks through the unix socket: root, the agent's own user and its group hold every scope."""
    trusted = uid in (0, own) or (group is not None and group in groups)
    return Principal(name, EVERY_SCOPE if trusted else frozenset({Scope.READ}))


# --- addresses


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def networks(addresses: Iterable[str]) -> tuple[Network, ...]:
    """Addresses and networks of the configuration. Raises ValueError for what is neither."""
    return tuple(ipaddress.ip_network(address, strict=False) for address in addresses)


def trusts(address: str, trusted: Sequence[Network]) -> bool:
    """Whether the address is one of a configured proxy."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found in network for network in trusted)


def client(remote: str, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """The address of whoever really asks: the right-most hop that is no trusted proxy (R-RX-29).

    `forwarded` are the values of the X-Forwarded-For headers in order. What a client writes there itself ends
    up on the left, so it is never reached; what is no address ends the walk.
    """
    hops = [hop.strip() for value in forwarded for hop in value.split(",")]
    found = remote
    while hops and trusts(found, trusted):
        hop = hops.pop()
        try:
            ipaddress.ip_address(hop)
        except ValueError:
            break
        if "%" in hop:  # Python takes anything for a zone, line feeds too
            break
        found = hop
    return found


# --- names


_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def names(listen: str, public_url: str | None, hosts: Iterable[str]) -> frozenset[str]:
    """The names under which the page and the API may be asked for (R-UI-1)."""
    public = urlsplit(public_url).hostname if public_url else None
    every = {listen, *hosts} | ({public} if public else set())
    return _LOCAL_NAMES | {name.strip("[]").lower().rstrip(".") for name in every}


def host_name(host: str) -> str | None:
    """The name in a Host header, without its port; None if it is not well-formed."""
    match = _HOST.match(host)
    if match is None:
        return None
    return (match["six"] or match["name"]).lower().rstrip(".")


_HOST = re.compile(
    r"\A(?:\[(?P<six>[0-9A-Fa-f:.]{2,45})\]|(?P<name>[A-Za-z0-9._-]{1,253}))(?::[0-9]{1,5})?\Z"
)


def same_origin(origin: str, host: str, public_url: str | None) -> bool:
    """Whether a page of this origin is the agent's own: the name it was asked under, or `public_url`."""
    match = _ORIGIN.match(origin)
    if match is None:
        return False
    scheme, place = match["scheme"], match["place"].lower()
    if public_url is not None:
        public = urlsplit(public_url)
        if (scheme, place) == (public.scheme, public.netloc.lower()):
            return True
    return place == host.lower()


_ORIGIN = re.compile(r"\A(?P<scheme>https?)://(?P<place>[A-Za-z0-9._:\[\]-]+)\Z")
