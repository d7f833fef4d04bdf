"""What the types cannot say: bounds, names, paths, addresses, and options that do not go together.

Each rule looks at one block of typed settings and yields findings at locations relative to that block. The
settings are as they were written: nothing was derived from them yet, and relative paths are still relative.
"""

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address
from typing import Any

from msgspec import Meta

from agent.core import deploying, probing, side_by_side
from agent.core.location import Finding, Location, dotted, walk
from agent.core.settings import (
    DAY,
    BackupOptions,
    Bytes,
    FilesSource,
    Health,
    Keep,
    KeyRef,
    Listen,
    Seconds,
    SecretRef,
    Service,
    Settings,
    SqliteSource,
    SystemdRuntime,
    Token,
    UnitProbe,
)  # fmt: skip
from agent.core.shapes import inside_problem, is_host, is_inside, is_network, url_problem
from agent.core.units import write_duration, write_size

Found = Iterator[Finding]

MAX_SOCKET_PATH = 107
"""Bytes of a unix socket's path (unix(7): sun_path holds 108 with the NUL at its end)."""


def contradictions(settings: Settings, base: str) -> list[Finding]:
    """Everything that is wrong in settings whose types are right. `base`: what relative paths start from."""
    found: list[Finding] = []
    for location, value, limits in walk(settings):
        found += _out_of_bounds(location, value, limits)
        for rule in _RULES.get(type(value), ()):
            found += (finding.below(location) for finding in rule(value))
    return [*found, *_directories(settings, base), *_socket(settings.listen, base)]


def place(path: str, base: str) -> str:
    """The path made absolute, without `.` and `..`."""
    return posixpath.normpath(posixpath.join(base, path))


def directory_of(name: str, service: Service, base: str) -> str:
    """Where a service lives, absolute."""
    return place(service.directory or f"/srv/{name}", base)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        address = ip_address(host)
    except ValueError:
        return host.lower() == "localhost"
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _out_of_bounds(location: Location, value: object, limits: Meta | None) -> Found:
    if isinstance(value, str) and "\0" in value:
        yield Finding(location, "must not hold a NUL character")
    bounds = (limits.extra if limits else None) or {}
    if isinstance(value, Seconds | Bytes) and "at_least" in bounds:
        write = write_size if isinstance(value, Bytes) else write_duration
        low, high = write(bounds["at_least"]), write(bounds["at_most"])
        if value < bounds["at_least"]:
            yield Finding(location, f"must be at least {low}")
        elif value > bounds["at_most"]:
            yield Finding(location, f"must be at most {high}")


# --- the agent


def _listen(listen: Listen) -> Found:
    if not is_host(listen.host):
        yield Finding(("host",), "must be an IP address or a host name")
    if not listen.socket.strip():
        yield Finding(("socket",), "must be a path")


def _socket(listen: Listen, base: str) -> Found:
    if len(place(listen.socket, base).encode()) > MAX_SOCKET_PATH:
        yield Finding(
            ("listen", "socket"), f"is longer than the {MAX_SOCKET_PATH} bytes that a unix socket may have"
        )


def _settings(settings: Settings) -> Found:
    if not is_loopback(settings.listen.host) and not settings.access.tokens:
        message = "lets others reach the agent, but there is no token that protects it"
        hint = "add one under `access.tokens`, or listen on 127.0.0.1 behind a reverse proxy"
        yield Finding(("listen", "host"), message, hint, relies=(("access", "tokens"),))
    if settings.public_url is not None and (problem := url_problem(settings.public_url)):
        yield Finding(("public_url",), problem)
    if not settings.state_dir.strip() or settings.state_dir.startswith("~"):
        yield Finding(("state_dir",), "must be a path; `~` is not expanded")
    for index, host in enumerate(settings.hosts):
        if not is_host(host.strip("[]")):
            yield Finding(("hosts", index), "must be a host name or an IP address, without scheme and port")
    for index, proxy in enumerate(settings.trusted_proxies):
        if not is_network(proxy):
            yield Finding(("trusted_proxies", index), "must be an IP address or a network such as 10.0.0.0/8")
    yield from _twice((token.name for token in settings.access.tokens), ("access", "tokens"), ("name",))
    for name in settings.services:
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", name):
            message = "is not a service's name: lower-case letters, digits and dashes, at most 63"
            yield Finding(("services", name), message)
    yield from _units(settings)
    yield from _probations(settings)


def _probations(settings: Settings) -> Found:
    for name, service in settings.services.items():
        if 0 < service.rollback.probation < settings.monitor.every:
            message = "is over before `monitor.every` has passed, so that nobody looks in it"
            location: Location = ("services", name, "rollback", "probation")
            yield Finding(location, message, relies=(("monitor", "every"),))


def _units(settings: Settings) -> Found:
    """Two services must not be the same unit."""
    owners: dict[str, str] = {}
    for name, service in settings.services.items():
        if isinstance(service.runtime, SystemdRuntime):
            other = owners.setdefault(service.runtime.unit, name)
            if other != name:
                location: Location = ("services", name, "runtime", "unit")
                relies = ("services", other, "runtime", "unit")
                yield Finding(location, f"is the unit of `{other}`, too", relies=(relies,))


def _directories(settings: Settings, base: str) -> Found:
    """Two services, or a service and the agent, must not share a directory."""
    owners: dict[str, Location] = {place(settings.state_dir, base): ("state_dir",)}
    for name, service in settings.services.items():
        location: Location = ("services", name, "directory")
        if service.directory.startswith("~"):
            yield Finding(location, "is a path with `~`, which is not expanded", "write the whole path")
        directory = directory_of(name, service, base)
        if directory == "/":
            yield Finding(location, "must not be the root directory")
        for other, owner in owners.items():
            if other == directory:
                yield Finding(location, f"is the same directory as {dotted(owner)}", relies=(owner,))
            elif owner != ("state_dir",) and is_inside(directory, other):
                yield Finding(location, f"lies inside of {dotted(owner)}", relies=(owner,))
            elif owner != ("state_dir",) and is_inside(other, directory):
                yield Finding(location, f"contains {dotted(owner)}", relies=(owner,))
        owners.setdefault(directory, location)


def _token(token: Token) -> Found:
    if not re.fullmatch(r"[\w.@ -]{1,64}", token.name):
        yield Finding(("name",), "must be 1 to 64 letters, digits, dots, dashes")


def _secret(reference: SecretRef) -> Found:
    given = [kind for kind in ("env", "file", "credential") if getattr(reference, kind) is not None]
    if len(given) != 1:
        yield Finding(
            (), "must be exactly one of env, file and credential", "for example {env: HOMEPORT_TOKEN}"
        )
    if reference.env is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", reference.env):
        yield Finding(("env",), "must be the name of an environment variable")
    yield from _file_or_credential(reference)


def _key(reference: KeyRef) -> Found:
    if (reference.file is None) == (reference.credential is None):
        yield Finding(
            (), "must be exactly one of file and credential", "for example {file: /etc/homeport/key}"
        )
    yield from _file_or_credential(reference)


def _file_or_credential(reference: SecretRef | KeyRef) -> Found:
    if reference.file is not None and (not reference.file.strip() or reference.file.startswith("~")):
        yield Finding(("file",), "must be a path; `~` is not expanded")
    if reference.credential is not None and (
        not re.fullmatch(r"[A-Za-z0-9_.-]{1,255}", reference.credential)
        or reference.credential in (".", "..")
    ):
        yield Finding(("credential",), "must be the name of a systemd credential, not a path")


# --- a service


def _health(health: Health) -> Found:
    # the first answer comes at once, so that n of them take n-1 intervals
    needed = (health.successes - 1) * health.every
    if needed > health.timeout:
        message = f"is too short: {health.successes} answers in a row take at least {write_duration(needed)}"
        hint = "raise it, or lower `every` or `successes`"
        yield Finding(("timeout",), message, hint, relies=(("every",), ("successes",)))


def _files(source: FilesSource) -> Found:
    for index, path in enumerate(source.paths):
        if problem := inside_problem(path):
            yield Finding(("paths", index), problem)


def _sqlite(source: SqliteSource) -> Found:
    if problem := inside_problem(source.path):
        yield Finding(("path",), problem)


def _backup(backup: BackupOptions) -> Found:
    for index, source in enumerate(backup.sources or ()):
        if source in (backup.sources or ())[:index]:
            yield Finding(("sources", index), "is the same as a source above")


def _keep(keep: Keep) -> Found:
    for name, days in (("daily", keep.daily), ("weekly", 7 * keep.weekly), ("monthly", 31 * keep.monthly)):
        if days * DAY > keep.max_age:
            message = f"ends before what `{name}` is to keep: {days} days"
            yield Finding(("max_age",), message, f"raise it to {days}d, or lower `{name}`", relies=((name,),))


def _service(service: Service) -> Found:
    if service.rollback.restore_data != "never" and service.backup.before_deploy == "off":
        message = "needs the backup before each deployment, which `backup.before_deploy` turns off"
        yield Finding(("rollback", "restore_data"), message, relies=(("backup", "before_deploy"),))
    if not isinstance(service.runtime, SystemdRuntime):
        for index, probe in enumerate(service.health.probes):
            if isinstance(probe, UnitProbe) and probe.unit is None:
                message = "is missing: this service is no unit"
                yield Finding(("health", "probes", index, "unit"), message, relies=(("runtime", "kind"),))


# --- what several rules ask


def _twice(names: Iterable[str], location: Location, rest: Location) -> Found:
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            yield Finding((*location, index, *rest), "stands there twice")
        seen.add(name)


_RULES: dict[type, tuple[Callable[[Any], Found], ...]] = {
    Settings: (_settings, side_by_side.ports),
    Listen: (_listen,),
    Token: (_token,),
    SecretRef: (_secret,),
    KeyRef: (_key,),
    Health: (_health, probing.twice),
    BackupOptions: (_backup,),
    Keep: (_keep,),
    Service: (_service, side_by_side.service),
    FilesSource: (_files,),
    SqliteSource: (_sqlite,),
    **deploying.RULES,
    **probing.RULES,
}
