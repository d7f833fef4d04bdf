"""What the types of the probes cannot say; for `core.contradictions`, whose rules these are."""

import re
from collections.abc import Callable, Iterator
from typing import Any

from agent.core.location import Finding
from agent.core.settings import CommandProbe, FreshnessProbe, Health, HttpProbe, TcpProbe, UnitProbe
from agent.core.shapes import inside_problem, is_host, unit_problem, url_problem

Found = Iterator[Finding]

UNITS = ("service", "socket", "timer", "target", "mount", "path")
"""Kinds of units that can be active."""

_SECRET = re.compile(r"authorization|cookie|token|secret|api-?key|password", re.IGNORECASE)
_OURS = frozenset({"content-length", "transfer-encoding", "connection", "accept-encoding"})


def twice(health: Health) -> Found:
    """The same question twice."""
    for index, probe in enumerate(health.probes):
        if probe in health.probes[:index]:
            yield Finding(("probes", index), "is the same as a probe above")


def _http(probe: HttpProbe) -> Found:
    if problem := url_problem(probe.url):
        yield Finding(("url",), problem)
    if probe.latency > probe.timeout:
        message = "is longer than `timeout`, which ends the question before"
        yield Finding(("latency",), message, relies=(("timeout",),))
    for name, value in probe.headers.items():
        yield from _header(name, value)
    for wanted in ("json", "body"):
        if probe.method == "HEAD" and getattr(probe, wanted):
            yield Finding((wanted,), "is never there: HEAD asks for no body", relies=(("method",),))
    for path in probe.json:
        if not all(path.split(".")):
            yield Finding(("json", path), "is not a path such as `status` or `db.rows`")


def _header(name: str, value: str) -> Found:
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
        yield Finding(("headers", name), "is not a valid name of a header")
    elif name.lower() in _OURS:
        yield Finding(("headers", name), "is set by the agent itself")
    elif _SECRET.search(name):
        hint = "use `bearer`, or let the service answer this address without"
        yield Finding(("headers", name), "would hold a secret, which is never written in the file", hint)
    elif re.search(r"[\x00-\x1f\x7f]", value):
        yield Finding(("headers", name), "must not contain control characters")


def _tcp(probe: TcpProbe) -> Found:
    if not is_host(probe.host.strip("[]")):
        yield Finding(("host",), "must be an IP address or a host name")


def _unit(probe: UnitProbe) -> Found:
    if probe.unit is not None and (problem := unit_problem(probe.unit, UNITS)):
        yield Finding(("unit",), problem)


def _command(probe: CommandProbe) -> Found:
    if not probe.command.strip():
        yield Finding(("command",), "must not be empty")


def _freshness(probe: FreshnessProbe) -> Found:
    if (probe.sqlite is None) == (probe.command is None):
        message = "must have either `sqlite` and `query`, or `command`"
        yield Finding((), message, relies=(("sqlite",), ("command",)))
    elif probe.sqlite is not None and probe.query is None:
        yield Finding(("query",), "is missing: what is `sqlite` asked?", relies=(("sqlite",),))
    elif probe.command is not None and probe.query is not None:
        yield Finding(("query",), "is only for `sqlite`", relies=(("command",),))
    if probe.sqlite is not None and (problem := inside_problem(probe.sqlite)):
        yield Finding(("sqlite",), problem)
    if probe.query is not None and not re.match(r"\s*(select|with|values)\b", probe.query, re.IGNORECASE):
        yield Finding(("query",), "must be a SELECT")
    if probe.command is not None and not probe.command.strip():
        yield Finding(("command",), "must not be empty")


RULES: dict[type, tuple[Callable[[Any], Found], ...]] = {
    HttpProbe: (_http,),
    TcpProbe: (_tcp,),
    CommandProbe: (_command,),
    FreshnessProbe: (_freshness,),
    UnitProbe: (_unit,),
}
