"""The options of the probes: what is right, and every contradiction at its place."""

import pytest

from agent.core import configuration
from agent.core.errors import ConfigError
from agent.core.settings import (
    CommandProbe,
    FreshnessProbe,
    HttpProbe,
    Seconds,
    SecretRef,
    Settings,
    TcpProbe,
)
from agent.system import configfile

HEAD = """
services:
  scraper:
    source: {repository: /srv/git/scraper.git}
    runtime: {kind: process, command: [./run]}
    health:
      probes:
"""


def read(*probes: str) -> Settings:
    """A document with these probes, each on a line of its own; the first one is line 8."""
    text = HEAD + "".join(f"        - {{{probe}}}\n" for probe in probes)
    document = configfile.parse(text.encode())
    return configuration.read(document.value, lines=document.lines, base="/etc/homeport")


def problems_of(*probes: str) -> list[tuple[int | None, str, str]]:
    try:
        read(*probes)
    except ConfigError as error:
        return [
            (problem.line, problem.path.partition("health.")[2], f"{problem.message} {problem.hint}")
            for problem in error.problems
        ]
    return []


URL = 'url: "http://127.0.0.1/"'
DB = 'kind: freshness, max_age: 15m, sqlite: a.db, query: "select 1"'


def test_the_probes_of_the_contract_are_read() -> None:
    http, tcp, command, database, printed = read(
        'kind: http, url: "https://127.0.0.1:9100/health", json: {status: healthy, db.rows: 3, db.on: true, db.x: null,'
        ' db.y: 1.5}, body: ok, latency: 800ms, redirects: 2, headers: {X-A: b}, bearer: {file: token}, method: GET,'
        " verify_tls: false, when: deploy, every: 1m",
        "kind: tcp, port: 5432",
        "kind: command, command: ./check, status: 3, timeout: 1m",
        'kind: freshness, sqlite: shared/data/scraper.db, query: "select max(scraped_at) from workflows", max_age: 15m',
        "kind: freshness, command: ./newest, max_age: 1h, when: live",
    ).services["scraper"].health.probes  # fmt: skip
    assert http == HttpProbe(
        url="https://127.0.0.1:9100/health", verify_tls=False, redirects=2, headers={"X-A": "b"}, body="ok",
        json={"status": "healthy", "db.rows": 3, "db.on": True, "db.x": None, "db.y": 1.5}, latency=Seconds(0.8),
        when="deploy", every=Seconds(60),
        bearer=SecretRef(file="/etc/homeport/token"),  # relative to the file, as every secret
    )  # fmt: skip
    assert tcp == TcpProbe(port=5432, host="127.0.0.1", timeout=Seconds(5), when="always", every=Seconds(0))
    assert command == CommandProbe(command="./check", status=3, timeout=Seconds(60))
    asked = "select max(scraped_at) from workflows"
    assert database == FreshnessProbe(sqlite="shared/data/scraper.db", query=asked, max_age=Seconds(900))
    assert printed == FreshnessProbe(command="./newest", max_age=Seconds(3600), when="live")


def test_the_secret_of_a_bearer_is_among_those_that_are_checked_at_the_start() -> None:
    settings = read(f"kind: http, {URL}, bearer: {{env: TOKEN}}")
    path = "services.scraper.health.probes[0].bearer"
    assert configuration.needs_secrets(settings) == [(path, SecretRef(env="TOKEN"))]


@pytest.mark.parametrize(
    ("probe", "path", "words"),
    [
        (f"kind: http, {URL}, latency: 6s", "latency", "longer than `timeout`"),
        (f"kind: http, {URL}, method: HEAD, json: {{a: 1}}", "json", "HEAD asks for no body"),
        (f"kind: http, {URL}, method: HEAD, body: x", "body", "HEAD asks for no body"),
        (f"kind: http, {URL}, method: get", "method", "one of GET, HEAD"),
        (f"kind: http, {URL}, redirects: 11", "redirects", "at most 10"),
        (f"kind: http, {URL}, json: {{a..b: 1}}", "json.a..b", "not a path"),
        (f'kind: http, {URL}, json: {{"": 1}}', "json.", "not a path"),
        (f"kind: http, {URL}, json: {{a: [1]}}", "json.a", "text, a number, true, false or null"),
        (f"kind: http, {URL}, json: healthy", "json", "a block of options"),
        (f"kind: http, {URL}, jsn: {{a: 1}}", "jsn", "did you mean `json`?"),
        (f'kind: http, {URL}, body: ""', "body", "empty"),
        (f"kind: http, {URL}, headers: {{Authorization: x}}", "headers.Authorization", "use `bearer`"),
        (f"kind: http, {URL}, headers: {{x-api-key: x}}", "headers.x-api-key", "use `bearer`"),
        (f"kind: http, {URL}, headers: {{Cookie: x}}", "headers.Cookie", "secret"),
        (f"kind: http, {URL}, headers: {{Content-Length: x}}", "headers.Content-Length", "agent itself"),
        (f"kind: http, {URL}, headers: {{A B: x}}", "headers.A B", "valid name"),
        (f'kind: http, {URL}, headers: {{A: "x\\r\\nB: y"}}', "headers.A", "control characters"),
        (f"kind: http, {URL}, headers: {{A: 1}}", "headers.A", "put it in quotes"),
        (f"kind: http, {URL}, bearer: hunter2", "bearer", "a secret is never written in the file"),
        (f"kind: http, {URL}, bearer: {{}}", "bearer", "exactly one of"),
        (f"kind: http, {URL}, matches: x", "matches", "is not an option"),
        (f"kind: http, {URL}, when: rest", "when", "one of always, deploy, live"),
        (f"kind: http, {URL}, every: 2d", "every", "at most 1d"),
        ("kind: tcp", "port", "is missing"),
        ("kind: tcp, port: 0", "port", "at least 1"),
        ('kind: tcp, port: 1, host: "http://x"', "host", "an IP address or a host name"),
        ("kind: tcp, port: 1, hots: x", "hots", "did you mean `host`?"),
        ("kind: command", "command", "is missing"),
        ('kind: command, command: "  "', "command", "must not be empty"),
        ("kind: command, command: [a]", "command", "text"),
        ("kind: command, command: a, status: 256", "status", "at most 255"),
        ("kind: freshness, max_age: 15m", "", "either `sqlite` and `query`, or `command`"),
        (f"{DB}, command: x", "", "either `sqlite` and `query`, or `command`"),
        ("kind: freshness, max_age: 15m, sqlite: a.db", "query", "is missing"),
        ('kind: freshness, max_age: 15m, command: x, query: "select 1"', "query", "only for `sqlite`"),
        ('kind: freshness, sqlite: a.db, query: "select 1"', "max_age", "is missing"),
        (DB.replace("a.db", "/etc/a.db"), "sqlite", "must be relative"),
        (DB.replace("a.db", "../other/a.db"), "sqlite", "must not contain `..`"),
        (DB.replace("select", "delete from"), "query", "must be a SELECT"),
        (DB.replace("15m", "10"), "max_age", "a duration has a unit"),
        ('kind: freshness, max_age: 15m, command: " "', "command", "must not be empty"),
        ("kind: freshnes, max_age: 15m", "kind", "did you mean `freshness`?"),
        ("kind: unit", "unit", "this service is no unit"),
        ("kind: unit, unit: scraper", "unit", "such as scraper.service"),
        ("kind: unit, unit: scraper.slice", "unit", "such as scraper.service"),
        ('kind: unit, unit: "a b.service"', "unit", "not a unit's name"),
        ('kind: unit, unit: "a@b@c.service"', "unit", "not a unit's name"),
        ("kind: unit, unit: x.service, timeout: 2m", "timeout", "at most 1m"),
        ("kind: container, name: x", "kind", "not built yet"),
    ],
)
def test_what_is_wrong_is_told_at_its_place(probe: str, path: str, words: str) -> None:
    """R-UI-6: with the line, and with what was probably meant."""
    ((line, place, sentence),) = problems_of("kind: tcp, port: 1", probe)
    assert (line, place) == (9, f"probes[1].{path}" if path else "probes[1]")
    assert words in sentence


def test_the_same_probe_twice_is_told_and_a_similar_one_is_not() -> None:
    assert [(line, path) for line, path, _ in problems_of("kind: tcp, port: 1", "kind: tcp, port: 1")] == [
        (9, "probes[1]")
    ]
    assert problems_of("kind: tcp, port: 1", "kind: tcp, port: 1, when: live") == []


@pytest.mark.parametrize(
    ("probes", "words"),
    [
        ([], "has no probes"),
        (["kind: tcp, port: 1, when: live"], "has no probe that is asked in a deployment"),
        (["kind: tcp, port: 1, when: live", "kind: tcp, port: 2, when: deploy"], None),
    ],
)
def test_a_deployment_that_asks_nothing_is_a_warning(probes: list[str], words: str | None) -> None:
    text = HEAD.replace("probes:", "probes: []") if not probes else None
    settings = configuration.read(configfile.parse(text.encode()).value) if text else read(*probes)
    told = [
        problem.message for problem in configuration.warnings(settings) if problem.path.endswith("health")
    ]
    assert len(told) == (words is not None)
    assert words is None or words in told[0]
