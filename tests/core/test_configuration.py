"""From a document to settings, or to every problem at once."""

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agent.core import configuration, later
from agent.core.contradictions import is_loopback
from agent.core.errors import ConfigError
from agent.core.fingerprint import fingerprint
from agent.core.location import Location, dotted
from agent.core.schema import schema
from agent.core.settings import Bytes, FilesSource, KeyRef, Seconds, SecretRef, Settings
from agent.system import configfile

MINIMUM: dict[str, Any] = {
    "services": {
        "scraper": {
            "source": {"repository": "git@github.com:me/scraper.git"},
            "runtime": {"kind": "process", "command": ["python3", "-m", "scraper"]},
        }
    }
}

FULL: dict[str, Any] = {
    "listen": {"host": "0.0.0.0", "port": 8300, "socket": "run/agent.sock"},
    "public_url": "https://pi.example.org",
    "hosts": ["pi.local", "192.168.1.7", "::1"],
    "trusted_proxies": ["127.0.0.1", "10.0.0.0/8"],
    "state_dir": "/var/lib/homeport",
    "access": {"tokens": [{"name": "ci", "secret": {"env": "HOMEPORT_TOKEN"}, "scopes": ["read", "deploy"]}]},
    "github": {"webhook_secrets": [{"credential": "webhook-secret"}, {"file": "/etc/homeport/old"}]},
    "services": {
        "scraper": {
            "directory": "/srv/scraper",
            "source": {"repository": "/srv/git/scraper.git", "github": "me/scraper", "branch": "release/1.x"},
            "deploy": {
                "on": ["push"],
                "build": {
                    "commands": ["make deps"],
                    "always": ["make"],
                    "timeout": "10m",
                    "environment": {"CI": "1"},
                    "reuse": {"key": ["lock"], "paths": ["deps/"]},
                    "nice": 5,
                    "io": "normal",
                    "memory": "2G",
                },
                "migrate": ["./migrate"],
                "shared": ["data"],
                "keep_releases": 3,
            },
            "runtime": {
                "kind": "process",
                "command": ["./run"],
                "environment": {"PORT": "9100"},
                "stop_timeout": "5s",
            },
            "health": {
                "every": "500ms",
                "timeout": "1m",
                "successes": 2,
                "soak": "0s",
                "probes": [{"kind": "http", "url": "http://127.0.0.1:9100/", "status": 204, "timeout": "2s"}],
            },
            "rollback": {"max_per_hour": 3, "restore_data": "if-migrated"},
            "backup": {
                "before_deploy": "required",
                "sources": [
                    {"kind": "sqlite", "path": "shared/data/x.db"},
                    {"kind": "files", "paths": ["shared/data"]},
                ],
                "store": {"kind": "archive"},
                "keep": {"last": 3, "daily": 2, "weekly": 1, "monthly": 2, "max_age": "90d"},
            },
        }
    },
    "monitor": {"every": "30s"},
}


def problems_of(document: object) -> dict[str, str]:
    """Message (and hint) by path; none if the document is right."""
    try:
        configuration.read(document)
    except ConfigError as error:
        return {problem.path: f"{problem.message} {problem.hint}".strip() for problem in error.problems}
    return {}


def differing(**changes: object) -> dict[str, Any]:
    """The full document with other values: `services__scraper__deploy__on=[...]`."""
    document = copy.deepcopy(FULL)
    for name, value in changes.items():
        *blocks, key = name.split("__")
        target = document
        for block in blocks:
            target = target[block]
        target[key] = value
    return document


def a_service(**blocks: object) -> dict[str, Any]:
    """A document with one minimal service, some of its blocks replaced."""
    document = copy.deepcopy(MINIMUM)
    document["services"]["scraper"].update(blocks)
    return document


# --- what is right


def test_a_services_minimum_is_its_repository_and_its_runtime() -> None:
    service = configuration.read(MINIMUM).services["scraper"]
    assert service.directory == "/srv/scraper"
    assert service.source.github == "me/scraper"
    assert service.backup.sources == ()
    assert (service.health.every, service.deploy.build.timeout) == (2.0, 600.0)


def test_the_full_document_is_right_and_complete() -> None:
    settings = configuration.read(FULL, base="/etc/homeport")
    service = settings.services["scraper"]
    assert settings.listen.socket == "/etc/homeport/run/agent.sock"
    assert settings.monitor.every == Seconds(30)
    assert service.health.every == 0.5
    assert service.runtime.environment == {"PORT": "9100"}


@pytest.mark.parametrize(
    ("repository", "name"),
    [
        ("git@github.com:me/scraper.git", "me/scraper"),
        ("https://github.com/me/scraper", "me/scraper"),
        ("https://github.com/me/scraper.git", "me/scraper"),
        ("ssh://git@github.com/me/scraper.git", "me/scraper"),
        ("/srv/git/scraper.git", None),
    ],
)
def test_the_github_repository_is_read_off_the_url(repository: str, name: str | None) -> None:
    document = a_service(source={"repository": repository})
    assert configuration.read(document).services["scraper"].source.github == name


def test_relative_paths_of_the_agent_start_from_the_file_and_those_of_a_service_from_its_directory() -> None:
    document = differing(
        state_dir="state",
        services__scraper__directory="srv/../apps/scraper",
        services__scraper__source={"repository": "../upstream"},
        github__webhook_secrets=[{"file": "secret"}],
    )
    settings = configuration.read(document, base="/home/pi")
    assert settings.state_dir == "/home/pi/state"
    assert settings.services["scraper"].directory == "/home/pi/apps/scraper"
    assert settings.services["scraper"].source.repository == "/home/pi/apps/upstream"
    assert settings.github.webhook_secrets == (SecretRef(file="/home/pi/secret"),)


def test_by_default_a_backup_saves_the_shared_paths() -> None:
    document = a_service(deploy={"shared": ["data/", "uploads"]})
    service = configuration.read(document).services["scraper"]
    assert service.backup.sources == (FilesSource(paths=("shared/data", "shared/uploads")),)
    assert service.deploy.shared == ("data", "uploads")
    document["services"]["scraper"]["backup"] = {"sources": []}
    assert configuration.read(document).services["scraper"].backup.sources == ()


def test_a_right_document_imports_nothing_heavy() -> None:
    program = f"""
import sys
from agent.core import configuration
configuration.read({MINIMUM!r})
assert not {{"jsonschema", "yaml", "asyncio"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


# --- every problem at once


def test_every_problem_is_told_at_once_with_line_path_and_did_you_mean() -> None:
    """R-MO-8."""
    text = b"""
listen: {port: 83000, hots: x}
github:
  token: {env: X}
  webhook_secrets: [hunter2hunter2hunter2]
services:
  scraper:
    source: {repository: "ext::sh -c x", branch: -x}
    runtime: {kind: docker, image: x}
    health:
      evry: 2s
      timeout: 60
      probes: [{kind: carrier-pigeon, url: x}, {kind: tcp}, {kind: http, url: "ftp://x"}]
  other:
    runtime: {kind: process, command: python x, environment: {A: 1}}
    backup: {sources: [{path: x}, x, {kind: sqlite, path: ../x}, {kind: postgres}]}
moniter: {}
"""
    document = configfile.parse(text)
    with pytest.raises(ConfigError) as caught:
        configuration.read(document.value, lines=document.lines, file="x.yaml")
    found = [(problem.line, problem.path) for problem in caught.value.problems]
    other, scraper = "services.other", "services.scraper"
    assert found == [
        (2, "listen.hots"),
        (2, "listen.port"),
        (4, "github.token"),
        (5, "github.webhook_secrets[0]"),
        (8, f"{scraper}.source.branch"),
        (8, f"{scraper}.source.repository"),
        (9, f"{scraper}.runtime.kind"),
        (11, f"{scraper}.health.evry"),
        (12, f"{scraper}.health.timeout"),
        (13, f"{scraper}.health.probes[0].kind"),
        (13, f"{scraper}.health.probes[1].port"),
        (13, f"{scraper}.health.probes[2].url"),
        (14, f"{other}.source"),
        (15, f"{other}.runtime.command"),
        (15, f"{other}.runtime.environment.A"),
        (16, f"{other}.backup.sources[0].kind"),
        (16, f"{other}.backup.sources[1]"),
        (16, f"{other}.backup.sources[2].path"),
        (16, f"{other}.backup.sources[3].kind"),
        (17, "moniter"),
    ]
    told = {problem.path: f"{problem.message} {problem.hint}" for problem in caught.value.problems}
    assert "did you mean `host`?" in told["listen.hots"]
    assert "did you mean `every`?" in told[f"{scraper}.health.evry"]
    assert "did you mean `monitor`?" in told["moniter"]
    assert "unit" in told[f"{scraper}.health.timeout"]
    assert "quotes" in told[f"{other}.runtime.environment.A"]
    assert "hunter2" not in str(told)


def test_what_the_file_reader_complained_about_is_not_told_twice() -> None:
    document = configfile.parse(b"a: 1\na: 2\n")
    examined = configuration.examine(document.value, lines=document.lines, known=document.problems)
    assert [(problem.path, problem.line) for problem in examined.problems] == [("a", 2)]


@pytest.mark.parametrize("document", [None, [], "text", 5, True, [MINIMUM]])
def test_a_document_that_is_no_block_is_one_problem(document: object) -> None:
    assert list(problems_of(document)) == [""]


def test_an_echo_of_another_problem_is_not_told() -> None:
    """The token is there, but its scopes are wrong: that nobody protects 0.0.0.0 would be a false alarm."""
    document = differing(access={"tokens": [{"name": "ci", "secret": {"env": "X"}, "scopes": ["raed"]}]})
    assert list(problems_of(document)) == ["access.tokens[0].scopes[0]"]
    document = differing(services__scraper__health={"every": "1h", "timeout": "1s", "successes": "many"})
    assert list(problems_of(document)) == ["services.scraper.health.successes"]


# --- not built yet

CONTRACT = """
listen: {host: 127.0.0.1, port: 8300, socket: /run/homeport/agent.sock}
public_url: https://pi.example.org
hosts: [pi.local]
trusted_proxies: [127.0.0.1]
state_dir: /var/lib/homeport
access:
  tokens: [{name: ci, secret: {env: HOMEPORT_TOKEN}, scopes: [read, deploy]}]
github:
  webhook_secrets: [{credential: webhook-secret}]
  token: {credential: github-token}
  api_url: https://api.github.com
services:
  scraper:
    directory: /srv/scraper
    source: {repository: "git@github.com:me/scraper.git", github: me/scraper, branch: main, poll: 5m}
    deploy:
      on: [workflow_run]
      workflow: ci.yml
      strategy: restart
      build: {commands: ["uv venv .venv"], timeout: 10m, reuse: {key: [requirements.txt], paths: [.venv]}}
      migrate: [".venv/bin/python -m scraper init-db"]
      shared: [data]
      keep_releases: 5
    runtime: {kind: docker, image: scraper}
    health:
      every: 2s
      timeout: 60s
      successes: 3
      soak: 10s
      probes:
        - {kind: http, url: "http://127.0.0.1:9100/health", status: 200, json: {status: healthy}}
        - {kind: freshness, sqlite: shared/data/scraper.db, query: "select 1", max_age: 15m}
    rollback: {max_per_hour: 2, restore_data: never, on_workflow: e2e.yml}
    backup:
      before_deploy: required
      sources: [{kind: sqlite, path: shared/data/scraper.db}, {kind: files, paths: [shared/data]}]
      store: {kind: archive}
      keep: {last: 5, daily: 7, weekly: 4, max_age: 30d}
schedules:
  nightly: {cron: "15 3 * * *", job: backup, service: scraper}
monitor: {every: 15s}
alerts:
  - {name: disk, metric: host.disk_percent, above: 90, for: 5m, severity: critical}
messages:
  phone: {kind: apprise, url: {credential: ntfy-url}, events: [deployment.*, alert.*]}
"""


def test_what_comes_later_is_answered_with_not_built_yet_and_never_ignored() -> None:
    document: Any = configfile.parse(CONTRACT.encode()).value
    told = problems_of(document)
    here = "services.scraper"
    assert set(told) == {
        "github.token", "github.api_url", f"{here}.runtime.kind", "schedules", "alerts",
        "messages",
    }  # fmt: skip
    assert all("not built yet" in message and "not-built-yet" in message for message in told.values())


@pytest.mark.parametrize(
    ("location", "value"),
    [
        *((("services", "scraper", "runtime", "kind"), kind) for kind in ("docker", "swarm")),
        *((("services", "scraper", "health", "probes", 0, "kind"), kind)
          for kind in ("container",)),
        *((("services", "scraper", "backup", "sources", 0, "kind"), kind) for kind in ("postgres", "volume")),
        (("services", "scraper", "backup", "store", "kind"), "restic"),
    ],
)  # fmt: skip
def test_each_kind_that_comes_later_is_one_problem(location: Location, value: str) -> None:
    told = problems_of(put(FULL, location, value))
    assert list(told) == [dotted(location)]
    assert "not built yet" in told[dotted(location)]


def test_nothing_stands_in_the_table_of_later_things_that_is_there_already() -> None:
    leaves = {".".join("*" if isinstance(part, int) else part for part in place) for place, _ in places(FULL)}
    known = {name.replace("services.scraper", "services.*") for name in leaves}
    assert not known & later.LATER_KEYS


# --- types


@pytest.mark.parametrize("wrong", [True, 8300.0, "8300", None, [8300]])
def test_a_whole_number_is_not_a_truth_a_fraction_or_text(wrong: object) -> None:
    assert list(problems_of(differing(listen__port=wrong))) == ["listen.port"]


@pytest.mark.parametrize(
    "location",
    [
        ("services", "scraper", "runtime"),
        ("services", "scraper", "health", "probes", 0),
        ("services", "scraper", "backup", "sources", 1),
        ("services", "scraper", "backup", "store"),
    ],
)
def test_a_kind_is_written_also_where_there_is_only_one(location: Location) -> None:
    block = {key: value for key, value in dict(places(FULL))[location].items() if key != "kind"}
    told = problems_of(put(FULL, location, block))
    assert list(told) == [f"{dotted(location)}.kind"]
    assert "is missing" in told[f"{dotted(location)}.kind"]


# --- contradictions


@pytest.mark.parametrize(
    ("changes", "path", "words"),
    [
        ({"listen": {"host": "0.0.0.0"}, "access": {}}, "listen.host", "no token"),
        ({"listen": {"host": "192.168.1.7"}, "access": {}}, "listen.host", "no token"),
        ({"listen": {"host": "::"}, "access": {}}, "listen.host", "no token"),
        ({"listen": {"host": "pi.local"}, "access": {}}, "listen.host", "no token"),
        ({"listen": {"host": ""}}, "listen.host", "address"),
        ({"listen": {"socket": "/" + "x" * 107}}, "listen.socket", "longer"),
        ({"listen": {"socket": ""}}, "listen.socket", "path"),
        ({"public_url": "pi.example.org"}, "public_url", "URL"),
        ({"public_url": "https://u:p@pi.example.org"}, "public_url", "password"),
        ({"hosts": ["http://pi.local"]}, "hosts[0]", "host name"),
        ({"hosts": ["*"]}, "hosts[0]", "host name"),
        ({"trusted_proxies": ["nginx"]}, "trusted_proxies[0]", "IP address"),
        ({"state_dir": ""}, "state_dir", "path"),
        ({"state_dir": "/srv/scraper"}, "services.scraper.directory", "same directory as state_dir"),
        ({"services__scraper__directory": "/"}, "services.scraper.directory", "root"),
        ({"services__scraper__directory": "~/x"}, "services.scraper.directory", "~"),
        ({"services__Scraper": MINIMUM["services"]["scraper"]}, "services.Scraper", "name"),
        ({"services__-x": MINIMUM["services"]["scraper"]}, "services.-x", "name"),
        ({"services__scraper__source__github": "scraper"}, "services.scraper.source.github", "owner/name"),
        ({"services__scraper__source__poll": "9s"}, "services.scraper.source.poll", "at least 10s, or 0s"),
        ({"services__scraper__source__poll": "2d"}, "services.scraper.source.poll", "at most 1d"),
        ({"services__scraper__source__paths": ["src/**", "/docs"]}, "services.scraper.source.paths[1]", "root"),
        ({"services__scraper__source__paths": ["!docs/"]}, "services.scraper.source.paths[0]", "`!`"),
        ({"services__scraper__source__paths": ["**.js"]}, "services.scraper.source.paths[0]", "between slashes"),
        ({"services__scraper__deploy__freeze": [{"from": "5pm", "to": "08:00"}]},
         "services.scraper.deploy.freeze[0].from", "22:00 or fri 17:00"),
        ({"services__scraper__deploy__freeze": [{"from": "17:00", "to": "8:00"}]},
         "services.scraper.deploy.freeze[0].to", "22:00 or fri 17:00"),
        ({"services__scraper__deploy__freeze": [{"from": "fri 17:00", "to": "08:00"}]},
         "services.scraper.deploy.freeze[0].to", "name a day"),
        ({"services__scraper__deploy__freeze": [{"from": "fri 17:00", "to": "fri 17:00"}]},
         "services.scraper.deploy.freeze[0].to", "same as `from`"),
        ({"services__scraper__deploy__freeze": [{"from": "fri 17:00"}]},
         "services.scraper.deploy.freeze[0].to", "is missing"),
        ({"services__scraper__deploy__freeze": [{"from": "22:00", "to": "06:00"}, {"from": "06:00", "to": "22:00"}]},
         "services.scraper.deploy.freeze", "whole week"),
        ({"services__scraper__runtime__command": []}, "services.scraper.runtime.command", "empty"),
        ({"services__scraper__runtime__command": [""]}, "services.scraper.runtime.command[0]", "program"),
        ({"services__scraper__runtime__command": ["a\0"]}, "services.scraper.runtime.command[0]", "NUL"),
        ({"services__scraper__runtime__environment": {"A B": "x"}},
         "services.scraper.runtime.environment.A B", "name"),
        ({"services__scraper__runtime__environment": {"HOMEPORT_REVISION": "x"}},
         "services.scraper.runtime.environment.HOMEPORT_REVISION", "agent itself"),
        ({"services__scraper__deploy__build__commands": ["  "]}, "services.scraper.deploy.build.commands[0]", "empty"),
        ({"services__scraper__deploy__keep_releases": -1}, "services.scraper.deploy.keep_releases", "at least 0"),
        ({"services__scraper__health__every": "1ms"}, "services.scraper.health.every", "at least 10ms"),
        ({"services__scraper__health__timeout": "2d"}, "services.scraper.health.timeout", "at most 1d"),
        ({"services__scraper__health__successes": 1000}, "services.scraper.health.timeout", "too short"),
        ({"services__scraper__health__probes": [{"kind": "http", "url": "http://u:p@127.0.0.1/"}]},
         "services.scraper.health.probes[0].url", "password"),
        ({"services__scraper__health__probes": [{"kind": "http", "url": "http://h:99999/"}]},
         "services.scraper.health.probes[0].url", "URL"),
        ({"services__scraper__health__probes": [{"kind": "http", "url": "http:///x"}]},
         "services.scraper.health.probes[0].url", "URL"),
        ({"services__scraper__backup__sources": [{"kind": "files", "paths": []}]},
         "services.scraper.backup.sources[0].paths", "empty"),
        ({"services__scraper__backup__sources": [{"kind": "files", "paths": ["a"]}] * 2},
         "services.scraper.backup.sources[1]", "same"),
        ({"access": {"tokens": [{"name": "a", "secret": {"env": "A"}}, {"name": "a", "secret": {"env": "B"}}]}},
         "access.tokens[1].name", "twice"),
        ({"access": {"tokens": [{"name": "a", "secret": {"env": "A"}, "scopes": []}]}},
         "access.tokens[0].scopes", "empty"),
    ],
)  # fmt: skip
def test_contradictions_are_told_at_their_place(changes: dict[str, object], path: str, words: str) -> None:
    """R-UI-6 for the first ones."""
    told = problems_of(differing(**changes))
    assert list(told) == [path]
    assert words in told[path]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost", "::ffff:127.0.0.1"])
def test_loopback_needs_no_token(host: str) -> None:
    """R-UI-6."""
    assert problems_of(differing(listen={"host": host}, access={})) == {}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "pi", "127.1", "0", "localhost.evil.example"])
def test_what_is_not_surely_loopback_counts_as_reachable(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    "path", ["/etc", "..", "../x", "a/../../x", "a/../b", "", ".", "./", "~", "a//b", "./a", "a\nb"]
)
def test_shared_and_saved_paths_stay_inside(path: str) -> None:
    for changes, at in (
        ({"services__scraper__deploy__shared": [path]}, "deploy.shared[0]"),
        (
            {"services__scraper__backup__sources": [{"kind": "files", "paths": [path]}]},
            "backup.sources[0].paths[0]",
        ),
        (
            {"services__scraper__backup__sources": [{"kind": "sqlite", "path": path}]},
            "backup.sources[0].path",
        ),
    ):
        assert list(problems_of(differing(**changes))) == [f"services.scraper.{at}"]


@pytest.mark.parametrize("path", ["/etc", "..", "a/../b", "", ".", "./a", "a\nb", "~/x"])
@pytest.mark.parametrize("option", ["key", "paths"])
def test_what_is_reused_and_its_key_stay_inside(option: str, path: str) -> None:
    reuse = {"key": ["lock"], "paths": ["deps"]} | {option: [path]}
    told = problems_of(differing(services__scraper__deploy__build__reuse=reuse))
    assert f"services.scraper.deploy.build.reuse.{option}[0]" in told


@pytest.mark.parametrize(
    ("key", "paths", "at"),
    [
        (["lock"], ["data"], "paths[0]"),
        (["lock"], ["data/x/"], "paths[0]"),
        (["data/lock"], ["deps"], "key[0]"),
        (["lock", "lock"], ["deps"], "key[1]"),
        (["lock"], ["deps", "deps/x"], "paths[1]"),
        (["deps/lock"], ["deps/"], "key[0]"),
    ],
)
def test_only_what_the_build_makes_can_be_reused(key: list[str], paths: list[str], at: str) -> None:
    """Nothing shared, nothing twice, and no key within what it is the key of."""
    reuse = {"key": key, "paths": paths}
    told = problems_of(differing(services__scraper__deploy__build__reuse=reuse))
    assert list(told) == [f"services.scraper.deploy.build.reuse.{at}"]


@pytest.mark.parametrize("place", ["build__commands", "build__always", "migrate"])
def test_a_command_is_not_empty(place: str) -> None:
    (told,) = problems_of(differing(**{f"services__scraper__deploy__{place}": ["make", " "]}))
    assert told == f"services.scraper.deploy.{place.replace('__', '.')}[1]"


@pytest.mark.parametrize("name", ["A-B", "1A", "HOMEPORT_REVISION", "HOMEPORT_WORKS_IN"])
def test_the_builds_environment_has_the_rules_of_the_services(name: str) -> None:
    for block in ("deploy__build", "runtime"):
        (told,) = problems_of(differing(**{f"services__scraper__{block}__environment": {name: "x"}}))
        assert told.startswith(f"services.scraper.{block.replace('__', '.')}.environment")


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("nice", -1, ""), ("nice", 20, ""), ("io", "none", ""), ("memory", "15M", "at least 16M"),
        ("memory", "1G", None), ("memory", "2048T", "at most 1024T"), ("memory", "lots", ""),
    ],
)  # fmt: skip
def test_the_limits_of_a_build_have_bounds(option: str, value: object, words: str | None) -> None:
    told = problems_of(differing(**{f"services__scraper__deploy__build__{option}": value}))
    assert list(told) == ([f"services.scraper.deploy.build.{option}"] if words is not None else [])
    assert (words or "") in "".join(told.values())


@pytest.mark.parametrize(
    "shared", [["data", "data/"], ["data", "data/x"], ["data/x", "data"], [".git"], ["a/.GIT/b"]]
)
def test_shared_paths_do_not_overlap_and_are_not_gits_own(shared: list[str]) -> None:
    told = problems_of(differing(services__scraper__deploy__shared=shared))
    assert list(told) == [f"services.scraper.deploy.shared[{len(shared) - 1}]"]


def test_shared_paths_with_a_common_beginning_do_not_overlap() -> None:
    assert problems_of(differing(services__scraper__deploy__shared=["data", "data2", "data-old/x"])) == {}


@pytest.mark.parametrize(
    "branch",
    [
        "-x",
        "--upload-pack=touch${IFS}pwned",
        "",
        "a..b",
        "a b",
        "a~1",
        "a^",
        "a:b",
        "a?",
        "a*",
        "a[",
        "a\\b",
        "@",
        "@{u}",
        "a@{1}",
        "/a",
        "a/",
        "a//b",
        ".a",
        "a/.b",
        "a.lock",
        "a.lock/b",
        "a.",
        "HEAD",
        "refs/heads/main",
        "a\x7f",
        "a\n",
        "x" * 201,
    ],
)
def test_a_branch_that_git_would_not_take_is_refused(branch: str) -> None:
    """R-GIT-1."""
    told = problems_of(differing(services__scraper__source__branch=branch))
    assert list(told) == ["services.scraper.source.branch"]


def test_workflow_run_needs_to_know_which_workflow() -> None:
    where = "services.scraper.deploy.workflow"
    for on in (["workflow_run"], ["push", "workflow_run"]):
        told = problems_of(differing(services__scraper__deploy={"on": on}))
        assert list(told) == [where]
        assert "ci.yml" in told[where]
        for workflow in ("ci.yml", "ci.yaml", "CI", "Tests and more / all"):
            chosen = {
                "on": on,
                "workflow": workflow,
                "workflow_events": ["push", "schedule", "workflow_dispatch"],
            }
            assert problems_of(differing(services__scraper__deploy=chosen)) == {}


@pytest.mark.parametrize(
    ("keep", "words"),
    [
        ({"monthly": 6}, "raise it to 186d"),
        ({"weekly": 5}, "raise it to 35d"),
        ({"daily": 31}, "raise it to 31d"),
        ({"monthly": 6, "max_age": "186d"}, ""),
        ({"last": 100}, ""),
    ],
)
def test_what_is_to_be_kept_is_not_too_old_to_be_kept(keep: dict[str, object], words: str) -> None:
    """R-BK-10."""
    told = problems_of(a_service(backup={"keep": keep}))
    assert list(told) == (["services.scraper.backup.keep.max_age"] if words else [])
    assert words in "".join(told.values())


def test_at_least_one_backup_is_kept() -> None:
    """R-BK-10."""
    assert list(problems_of(a_service(backup={"keep": {"last": 0}}))) == ["services.scraper.backup.keep.last"]
    assert list(problems_of(a_service(backup={"keep": {"max_age": "1h"}}))) != []


def test_data_cannot_be_restored_where_no_backup_is_made() -> None:
    """R-RB-9."""
    told = problems_of(a_service(rollback={"restore_data": "if-migrated"}, backup={"before_deploy": "off"}))
    assert list(told) == ["services.scraper.rollback.restore_data"]
    assert problems_of(a_service(rollback={"restore_data": "if-migrated"})) == {}


@pytest.mark.parametrize("workflow", ["", " ", "C\nI", ".github/workflows/ci.yml", "old/ci.yaml", "/ci.yml"])
def test_a_workflow_is_a_files_name_alone_or_a_name(workflow: str) -> None:
    told = problems_of(differing(services__scraper__deploy={"on": ["workflow_run"], "workflow": workflow}))
    assert list(told) == ["services.scraper.deploy.workflow"]
    told = problems_of(differing(services__scraper__rollback={"on_workflow": workflow}))
    assert list(told) == ["services.scraper.rollback.on_workflow"]


@pytest.mark.parametrize("events", [[], ["pull_request"], ["push", "pull_request_target"], "push"])
def test_runs_for_pull_requests_cannot_be_chosen(events: object) -> None:
    """R-RX-22."""
    deploy = {"on": ["workflow_run"], "workflow": "ci.yml", "workflow_events": events}
    (path,) = problems_of(differing(services__scraper__deploy=deploy))
    assert path.startswith("services.scraper.deploy.workflow_events")


def test_an_option_of_an_event_that_does_not_deploy_is_a_warning() -> None:
    options = {"workflow": "ci.yml", "workflow_events": ["schedule"], "prereleases": True}
    useless = configuration.read(differing(services__scraper__deploy=options))
    told = {problem.path.rpartition(".")[2] for problem in configuration.warnings(useless)}
    assert told == {"runtime", *options}
    used = configuration.read(
        differing(services__scraper__deploy=options | {"on": ["workflow_run", "release"]})
    )
    assert [problem.path for problem in configuration.warnings(used)] == ["services.scraper.runtime"]


@pytest.mark.parametrize("branch", ["main", "release/1.x", "feature/a-b_c", "a@b", "ü", "x" * 200])
def test_branches_that_git_takes_are_right(branch: str) -> None:
    assert problems_of(differing(services__scraper__source__branch=branch)) == {}


def test_two_services_do_not_share_a_directory() -> None:
    service = MINIMUM["services"]["scraper"]
    for directory, words in (
        ("/srv/a", "same directory as services.a.directory"),
        ("/srv/x/../a/", "same directory"),
        ("/srv/a/b", "inside of services.a.directory"),
        ("/srv", "contains services.a.directory"),
    ):
        told = problems_of({"services": {"a": service, "b": service | {"directory": directory}}})
        assert list(told) == ["services.b.directory"], directory
        assert words in told["services.b.directory"]
    assert problems_of({"services": {"a": service, "ab": service, "b": service}}) == {}


@pytest.mark.parametrize(
    ("reference", "path"),
    [
        ({}, ""),
        ({"env": "A", "file": "/x"}, ""),
        ({"env": "A-B"}, ".env"),
        ({"env": ""}, ".env"),
        ({"file": ""}, ".file"),
        ({"file": "~/x"}, ".file"),
        ({"credential": "../x"}, ".credential"),
        ({"credential": ".."}, ".credential"),
        ({"credential": "a/b"}, ".credential"),
    ],
)
def test_a_reference_to_a_secret_is_exactly_one_name(reference: dict[str, str], path: str) -> None:
    told = problems_of(differing(github={"webhook_secrets": [reference]}))
    assert list(told) == [f"github.webhook_secrets[0]{path}"]


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ({}, ""),
        ({"file": "/x", "credential": "y"}, ""),
        ({"file": "~/.ssh/id_ed25519"}, ".file"),
        ({"file": " "}, ".file"),
        ({"credential": "../x"}, ".credential"),
        ({"env": "KEY"}, ".env"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", ""),
    ],
)
def test_a_key_is_a_file_or_a_credential_and_never_in_the_environment(key: object, path: str) -> None:
    told = problems_of(a_service(source={"repository": "git@h:a", "key": key}))
    assert list(told) == [f"services.scraper.source.key{path}"]
    assert "BEGIN" not in str(told)


def test_what_lets_the_agent_in_must_fit_the_address() -> None:
    source: dict[str, object] = {"repository": "https://h/a", "key": {"file": "/k"}, "host_keys": ["x"]}
    told = problems_of(a_service(source=source))
    assert list(told) == ["services.scraper.source.host_keys", "services.scraper.source.host_keys[0]",
                          "services.scraper.source.key"]  # fmt: skip
    assert told["services.scraper.source.key"].startswith("needs a repository that is reached by ssh")
    told = problems_of(a_service(source={"repository": "git@h:a", "token": {"env": "T"}}))
    assert list(told) == ["services.scraper.source.token"]


def test_keys_and_tokens_are_found_with_their_paths_and_placed() -> None:
    document = a_service(source={"repository": "git@h:a", "key": {"file": "keys/deploy"}})
    settings = configuration.read(document, base="/etc/homeport")
    assert settings.services["scraper"].source.key == KeyRef(file="/etc/homeport/keys/deploy")
    assert configuration.examine(document, base="/etc/homeport").needs == [
        ("services.scraper.source.key", KeyRef(file="/etc/homeport/keys/deploy"))
    ]
    document = a_service(source={"repository": "https://h/a", "token": {"file": "token"}})
    settings = configuration.read(document, base="/etc/homeport")
    assert settings.services["scraper"].source.token == SecretRef(file="/etc/homeport/token")


def test_answers_in_a_row_that_just_fit_are_no_contradiction() -> None:
    health = {"every": "2s", "successes": 3, "timeout": "4s"}
    assert problems_of(differing(services__scraper__health=health)) == {}
    health["timeout"] = "3s"
    assert list(problems_of(differing(services__scraper__health=health))) == [
        "services.scraper.health.timeout"
    ]


# --- what else the configuration answers


def test_every_reference_to_a_secret_is_found_with_its_path() -> None:
    assert configuration.needs_secrets(configuration.read(FULL)) == [
        ("access.tokens[0].secret", SecretRef(env="HOMEPORT_TOKEN")),
        ("github.webhook_secrets[0]", SecretRef(credential="webhook-secret")),
        ("github.webhook_secrets[1]", SecretRef(file="/etc/homeport/old")),
    ]


def test_references_are_found_at_their_place_also_beside_problems() -> None:
    document = differing(github={"webhook_secrets": ["x", {"env": "B"}]})
    examined = configuration.examine(document)
    assert [path for path, _ in examined.needs] == ["access.tokens[0].secret", "github.webhook_secrets[1]"]


def fingerprint_of(**changes: object) -> str:
    return fingerprint(configuration.read(differing(**changes)).services["scraper"])


def test_a_fingerprint_is_16_hex_digits_and_always_the_same() -> None:
    assert fingerprint_of() == fingerprint_of()
    assert fingerprint(configuration.read(MINIMUM).services["scraper"]) == "5708a2e41389deb8"


@pytest.mark.parametrize(
    "changes",
    [
        {"services__scraper__source__branch": "other"},
        {"services__scraper__deploy__build__commands": ["make", "make test"]},
        {"services__scraper__deploy__build__always": ["make dist"]},
        {"services__scraper__deploy__build__environment": {"A": "1"}},
        {"services__scraper__deploy__build__memory": "1G"},
        {"services__scraper__deploy__build__timeout": "20m"},
        {"services__scraper__deploy__build__reuse": {"key": ["other"], "paths": ["deps"]}},
        {"services__scraper__deploy__build__reuse": None},
        {"services__scraper__deploy__migrate": ["make migrate"]},
        {"services__scraper__deploy__shared": []},
        {"services__scraper__runtime__environment": {"PORT": "9101"}},
        {"services__scraper__runtime__command": ["./other"]},
        {"services__scraper__health__soak": "1s"},
        {"services__scraper__health__probes": []},
        {"services__scraper__source__paths": ["src/**"]},
    ],
)
def test_what_decides_how_a_deployment_ends_changes_the_fingerprint(changes: dict[str, object]) -> None:
    """R-RB-2: a changed configuration gives a quarantined revision another chance."""
    assert fingerprint_of(**changes) != fingerprint_of()


@pytest.mark.parametrize(
    "changes",
    [
        {
            "services__scraper__backup__before_deploy": "off",
            "services__scraper__rollback__restore_data": "never",
        },
        {"services__scraper__backup__keep": {"last": 9}},
        {"services__scraper__rollback__max_per_hour": 1},
        {"services__scraper__deploy__build__nice": 19},
        {"services__scraper__deploy__build__io": "idle"},
        {"services__scraper__directory": "/srv/elsewhere"},
        {"services__scraper__deploy__on": ["release"]},
        {"services__scraper__deploy__prereleases": True},
        {"services__scraper__deploy__workflow": "ci.yml"},
        {"services__scraper__deploy__workflow_events": ["schedule"]},
        {"services__scraper__source__poll": "1m"},
        {"services__scraper__source__timeout": "1h"},
        {"services__scraper__deploy__freeze": [{"from": "22:00", "to": "06:00"}]},
        {"timezone": "Europe/Berlin"},
        {"monitor__every": "1m"},
    ],
)
def test_what_does_not_decide_it_leaves_the_fingerprint(changes: dict[str, object]) -> None:
    assert fingerprint_of(**changes) == fingerprint_of()


def test_options_that_came_later_left_every_fingerprint() -> None:
    """Else each quarantined revision would come again with an upgrade of the agent."""
    before = {
        "on": ["push"], "build": {"commands": ["make"], "timeout": "10m"}, "shared": ["data"], "keep_releases": 3,
    }  # fmt: skip
    assert fingerprint_of(services__scraper__deploy=before) == "fdeb0181021c1b38"
    written: dict[str, Any] = {
        "method": "GET", "headers": {}, "bearer": None, "verify_tls": True, "redirects": 0, "json": {}, "body": None,
        "latency": "0s", "when": "always", "every": "0s",
    }  # fmt: skip
    probe = FULL["services"]["scraper"]["health"]["probes"][0] | written
    assert fingerprint_of(services__scraper__health__probes=[probe]) == fingerprint_of()


def test_a_default_that_is_written_out_leaves_the_fingerprint() -> None:
    implied = configuration.read(a_service()).services["scraper"]
    written = configuration.read(
        a_service(
            health={"every": "2000ms", "successes": 3, "probes": []}, deploy={"on": ["push"], "build": {}}
        )
    ).services["scraper"]
    assert fingerprint(implied) == fingerprint(written)


def test_what_is_allowed_and_probably_not_meant_is_a_warning() -> None:
    def paths(document: object) -> list[str]:
        return [problem.path for problem in configuration.warnings(configuration.read(document))]

    assert paths(FULL) == ["services.scraper.runtime"]
    assert paths({}) == ["services", "github.webhook_secrets"]
    assert paths(a_service(source={"repository": "/x"}, backup={"before_deploy": "off"})) == [
        "github.webhook_secrets",
        "services.scraper.runtime",
        "services.scraper.source",
        "services.scraper.health",
        "services.scraper.backup.before_deploy",
    ]


def test_the_schema_shows_durations_as_text_with_a_pattern_and_their_default() -> None:
    every = schema()["$defs"]["Health"]["properties"]["every"]
    assert every["type"] == "string"
    assert every["default"] == "2s"
    assert "ms|s|m|h|d" in every["pattern"]
    json.dumps(schema())


def test_sizes_are_read_from_text_and_from_plain_numbers() -> None:
    for value, size in ((4096, 4096), ("64M", 64 << 20)):
        assert msgspec.convert(value, Bytes, dec_hook=configuration.decode) == size
    for wrong in (-1, True, 1.5, "64MB", None):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, Bytes, dec_hook=configuration.decode)


# --- properties


def places(value: object, location: Location = ()) -> Iterator[tuple[Location, Any]]:
    """Every value of a document with its location."""
    yield location, value
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*location, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from places(item, (*location, index))


def put(document: object, location: Location, value: object) -> Any:
    """A copy of the document with another value at one place."""
    changed: Any = copy.deepcopy(document)
    if not location:
        return value
    target = changed
    for part in location[:-1]:
        target = target[part]
    target[location[-1]] = value
    return changed


PLACES = list(places(FULL))
FREE = {
    ("services",),
    ("services", "scraper", "runtime", "environment"),
    ("services", "scraper", "deploy", "build", "environment"),
}
"""Blocks whose keys are the user's own."""
BLOCKS = [location for location, value in PLACES if isinstance(value, dict) and location not in FREE]
WRONG: list[object] = [5, 1.5, True, [], ["x"], {}, {"a": 1}, "\0", None]


NULLABLE = {"public_url", "github", "sources", "env", "file", "credential", "memory", "reuse"}


@given(st.sampled_from(BLOCKS), st.text(min_size=1))
def test_any_unknown_key_in_any_block_is_told_at_its_place(block: Location, key: str) -> None:
    location = (*block, key)
    if all(location != known for known, _ in PLACES):
        assert dotted(location) in problems_of(put(FULL, location, 5))


@given(st.sampled_from(PLACES), st.sampled_from(WRONG))
def test_any_value_of_a_wrong_type_is_told_at_its_place(
    place: tuple[Location, object], wrong: object
) -> None:
    location, value = place
    fits = wrong != "\0" and type(value) is type(wrong)
    may_be_null = wrong is None and bool(NULLABLE.intersection(location[-1:]))
    if not fits and not may_be_null:
        path = dotted(location)
        told = problems_of(put(FULL, location, wrong))
        assert any(found.startswith(path) for found in told), (path, told)


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=10)
    | st.just("push")
    | st.just("5m"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@given(st.lists(st.tuples(st.sampled_from(PLACES), ANYTHING), max_size=4))
def test_no_document_raises_anything_but_a_configuration_error(
    changes: list[tuple[tuple[Location, object], object]],
) -> None:
    document: Any = FULL
    for (location, _), value in changes:
        try:
            document = put(document, location, value)
        except (KeyError, IndexError, TypeError):
            continue
    examined = configuration.examine(document)
    assert isinstance(examined.settings, Settings)
    assert all(problem.message for problem in examined.problems)


@given(st.text(), st.sampled_from(["", "services:\n  a:\n    ", "listen: "]))
def test_no_yaml_text_raises_anything_but_a_configuration_error(text: str, before: str) -> None:
    try:
        document = configfile.parse((before + text).encode("utf-8", "replace"))
        configuration.read(document.value, lines=document.lines)
    except ConfigError:
        return


@given(ANYTHING)
def test_no_value_raises_anything_but_a_configuration_error(value: object) -> None:
    problems_of(value)


def test_the_minimum_reads_the_same_from_a_file() -> None:
    text = yaml.safe_dump(FULL)
    assert configuration.read(configfile.parse(text.encode()).value) == configuration.read(FULL)
