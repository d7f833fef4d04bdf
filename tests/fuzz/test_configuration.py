"""Configurations that nobody means: each file ends in settings that survive being written down, or in problems."""

import random
import tracemalloc
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from time import thread_time
from typing import Any

import pytest
import yaml
from msgspec import Struct
from msgspec.structs import fields

from agent.cli import configuration as reading
from agent.core import configuration
from agent.core.errors import ConfigError, Problem
from agent.core.findings import explain
from agent.core.fingerprint import fingerprint
from agent.core.reload import Difference, difference
from agent.core.settings import Bytes, Seconds, Settings
from agent.core.text import clean
from agent.core.units import write_duration
from agent.system import configfile
from tests.fuzz import fuzz
from tests.fuzz.mutation import INTERESTING, bytes_of, document_of
from tests.meta.sources import ROOT

BASE = "/etc/homeport"
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
EXAMPLE = (ROOT / "config.example.yaml").read_text(encoding="utf-8")
WHOLE: dict[str, Any] = {
    "listen": {"host": "0.0.0.0", "port": 8300, "socket": "/run/homeport/agent.sock"},
    "public_url": "https://pi.example.org",
    "hosts": ["pi.local"],
    "trusted_proxies": ["127.0.0.1", "10.0.0.0/8"],
    "timezone": "Europe/Berlin",
    "state_dir": "/var/lib/homeport",
    "access": {"tokens": [{"name": "ci", "secret": {"env": "HOMEPORT_TOKEN"}, "scopes": ["read", "deploy"]}]},
    "github": {"webhook_secrets": [{"credential": "webhook-secret"}, {"file": "secret"}]},
    "services": {
        "scraper": {
            "directory": "/srv/scraper",
            "source": {"repository": "git@github.com:me/scraper.git", "branch": "main", "poll": "5m",
                       "paths": ["src/**", "!src/tests/"], "key": {"file": "key"}, "host_keys": [HOST_KEY],
                       "submodules": True},
            "deploy": {"on": ["push", "workflow_run"], "workflow": "ci.yml", "workflow_events": ["push", "schedule"],
                       "freeze": [{"from": "fri 17:00", "to": "mon 08:00"}], "strategy": "restart",
                       "build": {"commands": ["make"], "always": ["true"], "timeout": "10m", "environment": {"A": "b"},
                                 "reuse": {"key": ["uv.lock"], "paths": [".venv/"]}, "nice": 10, "memory": "2G"},
                       "migrate": ["./migrate"], "shared": ["data/"], "keep_releases": 5},
            "runtime": {"kind": "process", "command": ["./serve"], "environment": {"PORT": "1"}, "stop_timeout": "30s"},
            "health": {"every": "2s", "timeout": "60s", "successes": 3, "soak": "10s", "probes": [
                {"kind": "http", "url": "http://127.0.0.1:9100/health", "status": 200, "json": {"a.b": 1.5, "c": None},
                 "bearer": {"env": "BEARER"}, "headers": {"Accept": "x"}, "body": "ok", "latency": "200ms"},
                {"kind": "tcp", "port": 9100, "when": "live", "every": "1m"},
                {"kind": "command", "command": "true", "status": 0},
                {"kind": "freshness", "sqlite": "shared/data/a.db", "query": "select 1", "max_age": "15m"}]},
            "rollback": {"max_per_hour": 2, "on_workflow": "e2e.yml", "restore_data": "if-migrated"},
            "backup": {"before_deploy": "required", "store": {"kind": "archive"},
                       "sources": [{"kind": "sqlite", "path": "shared/data/a.db"},
                                   {"kind": "files", "paths": ["shared/data/"]}],
                       "keep": {"last": 5, "daily": 7, "weekly": 4, "monthly": 0, "max_age": "30d"}},
        },
        "other": {"source": {"repository": "https://github.com/me/other.git", "token": {"env": "GIT"}, "lfs": True},
                  "runtime": {"kind": "process", "command": ["python3", "-m", "other"]}},
    },
    "monitor": {"every": "15s"},
}  # fmt: skip
VALUES = (
    *INTERESTING, "5m", "0s", "1ms", "999999999d", "-5m", "5 m", "5M", "2G", "0", "9" * 13, "1e5", "1.5s", 86400, 65536,
    float("nan"), float("inf"), -float("inf"), "~", "~/x", "..", "a/../b", "/", "//", "a//b", "shared/data", "data/x",
    "http://[::1", "http://127.0.0.1:99999", "http://a:b@c/", "ftp://x", "-oProxyCommand=x", "ext::sh -c x",
    "file:///x",
    "ssh://-x/y", "[::1]:x", "localhost", "::", "0.0.0.0/0", "127.0.0.1/33", "restart", "blue-green", "process",
    "systemd",
    {"kind": "http"}, {"kind": "tcp", "port": 1}, {"kind": []}, {"kind": "process", "command": []}, {"env": "A"},
    {"env": "A", "file": "b"}, {"file": ""}, {"credential": "../x"}, ["push"], ["push", "push"], [[]], "22:00", "24:00",
    "fri 17:00", {"from": "22:00", "to": "22:00"}, {"A=B": "c"}, {"a..b": 1}, {"HOMEPORT_SERVICE": "x"}, HOST_KEY,
    "Europe/Nowhere", "../../etc/passwd", "select 1; drop table x", True, "on", "yes", "12:30", "2026-11-22",
    "é.example",
)  # fmt: skip
LINES = (
    "? [a]\n: b", "<<: *x", "a: &x [*x]", "a: !!python/object/apply:os.system [x]", "%YAML 1.1", "---", "...", "\tx: 1",
    "a: b: c", "- 1", "a: [", "a: {", 'a: "\\ud800"', "a: |\n  x", "a: >-\n", "a: 'x", "*nobody : 1",
    "&a b: *a", "\x85: 1",
    "services: {}", "services:", "listen: {port: 0x1F, port: 0o17}", "a: .nan", "a: -.inf", "a: 1e999", "? |\n  x\n: y",
    "{a: 1}: 2", "!x a: 1", "null: null", "true: 1", '"": 1', "\ufeffa: 1", "a: " + "[" * 40, "- " * 40,
    "a: 1" + "0" * 40,
    "monitor: &m {every: 1s}", "b: *m", "# \u2028x", "a: \x1b[31m", 'a: "\\x00"', "%TAG ! tag:x,2002:",
    "a: ! x", "`: @",
)  # fmt: skip


def a_file(chance: random.Random) -> bytes:
    """A configuration with faults in its values, in its lines or in its bytes."""
    if chance.random() < 0.6:
        document = document_of(chance, WHOLE, VALUES, most=chance.choice((1, 1, 2, 4)))
        text = yaml.dump(
            document, Dumper=yaml.CSafeDumper, allow_unicode=chance.random() < 0.5, sort_keys=False,
            default_flow_style=chance.choice((None, True, False)), width=chance.choice((80, 10000)),
        )  # fmt: skip
    else:
        text = "\n".join(
            line[2:] if line.startswith("# ") and chance.random() < 0.8 else line
            for line in EXAMPLE.splitlines()
        )
    if chance.random() < 0.4:
        lines = text.split("\n")
        for _ in range(chance.randint(1, 3)):
            place = chance.randrange(len(lines))
            indent = " " * chance.choice((0, 0, 2, 4, len(lines[place]) - len(lines[place].lstrip())))
            lines.insert(place, indent + chance.choice(LINES))
        text = "\n".join(lines)
    if chance.random() < 0.1:
        text = chance.choice(
            (text.replace("\n", "\r\n"), text.replace("\n", "\r"), text.replace("  ", "\t"), "\ufeff" + text)
        )
    data = text.encode("utf-8", "surrogatepass")
    if chance.random() < 0.05:
        return chance.choice(
            (text.encode("utf-16", "surrogatepass"), data[: chance.randrange(len(data) + 1)], b"")
        )
    return bytes_of(chance, data) if chance.random() < 0.2 else data


def judge(data: bytes) -> None:
    """Settings, or problems."""
    try:
        document = configfile.parse(data)
    except ConfigError as error:
        judge_problems(error.problems, data)
        return
    wrong = explain(document.value)
    examined = configuration.examine(document.value, lines=document.lines, base=BASE, known=document.problems)
    again = configuration.examine(document.value, lines=document.lines, base=BASE, known=document.problems)
    assert examined.problems == again.problems
    if examined.problems:
        judge_problems(examined.problems, data)
        return
    assert not wrong, "the schema of `homeport schema` refuses what the agent accepts"
    assert examined == again
    judge_settings(examined.settings)


def judge_problems(problems: list[Problem], data: bytes) -> None:
    """They are sentences at lines of this file."""
    last = max(len(data.decode("utf-8", "replace").splitlines()), data.count(b"\n"), 1) + 1
    assert problems
    for problem in problems:
        assert problem.message
        assert not problem.message.startswith("cannot be read: "), (
            "the schema does not see what the types refuse"
        )
        for text in (problem.path, problem.message, problem.hint):
            assert clean(text, 10**6) == " ".join(text.split())
        assert problem.line is None or 1 <= problem.line <= last
        assert problem.line is not None or not problem.path or "." not in problem.path, problem


def judge_settings(settings: Settings) -> None:
    """What is complete can be written down and read again, and is then the same to everybody who compares."""
    text = yaml.dump(written(settings), Dumper=yaml.CSafeDumper, allow_unicode=True, sort_keys=False)
    document = configfile.parse(text.encode())
    assert document.problems == []
    again = configuration.read(document.value, lines=document.lines, base="/elsewhere")
    assert again == settings
    assert difference(settings, again) == Difference()
    for name, service in settings.services.items():
        assert fingerprint(service) == fingerprint(again.services[name])
    assert configuration.warnings(settings) == configuration.warnings(again)
    assert configuration.needs_secrets(settings) == configuration.needs_secrets(again)


def written(value: object) -> Any:
    """Settings as they would stand in a file."""
    if isinstance(value, Struct):
        kind = value.__struct_config__.tag
        options = {
            option.encode_name: written(given)
            for option in fields(value)
            if (given := getattr(value, option.name)) is not None
        }
        return options if kind is None else {"kind": kind} | options
    if isinstance(value, dict):
        return {key: written(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [written(item) for item in value]
    if isinstance(value, Seconds):
        return write_duration(value)
    if isinstance(value, Bytes):
        return int(value)
    return value.value if isinstance(value, Enum) else value


def test_the_files_that_are_spoilt_were_right_before() -> None:
    for text in (yaml.safe_dump(WHOLE), EXAMPLE):
        document = configfile.parse(text.encode())
        assert configuration.examine(document.value, lines=document.lines, base=BASE).problems == []
        judge(text.encode())


@pytest.mark.parametrize("part", range(4))
def test_every_file_ends_in_settings_or_in_problems(part: int) -> None:
    """R-MO-8: at lines, without another exception; what is accepted fits the schema and survives being written down."""
    fuzz(f"configurations {part}", 500, a_file, judge)


def test_files_on_the_disk_are_read_as_check_and_reload_read_them(tmp_path: Path) -> None:
    """R-MO-8, F79: with secrets, keys and time zones; twice the same; nothing of the environment is repeated."""
    secret = "a-secret-that-nobody-may-see-0123"
    path = tmp_path / "config.yaml"
    (tmp_path / "secret").write_text(secret)
    (tmp_path / "secret").chmod(0o600)
    environ = {
        "HOMEPORT_TOKEN": secret,
        "BEARER": secret + "1",
        "GIT": secret + "2",
        "A": "short",
        "TZ": "UTC",
    }

    def look(data: bytes) -> object:
        path.write_bytes(data)
        try:
            loaded = reading.look(path, environ, credentials_required=False)
        except ConfigError as error:
            return error.problems
        judge_problems(loaded.problems, data) if loaded.problems else judge_settings(loaded.settings)
        assert secret not in repr((loaded.problems, loaded.warnings, loaded.settings))
        return (loaded.settings, loaded.problems, loaded.warnings)

    def check(data: bytes) -> None:
        assert look(data) == look(data)

    fuzz("files", 100, a_file, check)


def test_the_yaml_library_without_its_fast_half_says_no_more_and_no_less() -> None:
    """On a machine where libyaml is missing, PyYAML's own parser may refuse other files, but never breaks."""

    def parse(data: bytes) -> None:
        try:
            configfile.parse(data, loader=yaml.SafeLoader)
        except ConfigError as error:
            judge_problems(error.problems, data)

    fuzz("pure YAML", 60, a_file, parse)


# --- whatever is long

SERVICE = "{source: {repository: /r}, runtime: {kind: process, command: [a]}}"
LONG: dict[str, Callable[[int], str]] = {
    "unknown keys": lambda n: "\n".join(f"k{number}: 1" for number in range(n)),
    "unknown keys of a block": lambda n: "listen: {" + ", ".join(f"prot{number}: 1" for number in range(n)) + "}",
    "services": lambda n: "services:\n" + "".join(f"  s{number}: {SERVICE}\n" for number in range(n)),
    "services in services": lambda n: "services:\n"
    + "".join(f"  s{number}: {SERVICE[:-1]}, directory: /x{'/y' * (number % 50)}{number}}}\n" for number in range(n)),
    "wrong services": lambda n: "services:\n" + "".join(f"  s{number}: {{}}\n" for number in range(n)),
    "wrong names": lambda n: "services:\n" + "".join(f"  S{number}: {SERVICE}\n" for number in range(n)),
    "tokens": lambda n: "access: {tokens: ["
    + ", ".join(f"{{name: t{i}, secret: {{env: A}}}}" for i in range(n)) + "]}",
    "wrong tokens": lambda n: "access: {tokens: [" + ", ".join(["{name: '!', secret: {}}"] * n) + "]}",
    "hosts": lambda n: "hosts: [" + ", ".join(f"h{number}" for number in range(n)) + "]",
    "wrong hosts": lambda n: "hosts: [" + ", ".join(["'!'"] * n) + "]",
    "numbers for hosts": lambda n: "hosts: [" + ", ".join(["1"] * n) + "]",
    "proxies": lambda n: "trusted_proxies: [" + ", ".join(["10.0.0.1"] * n) + "]",
    "shared": lambda n: of_a_service("deploy: {shared: [" + ", ".join(f"d{number}" for number in range(n)) + "]}"),
    "shared twice": lambda n: of_a_service("deploy: {shared: [" + ", ".join(["d"] * n) + "]}"),
    "reuse": lambda n: of_a_service(
        "deploy: {build: {reuse: {key: [" + ", ".join(f"a{number}" for number in range(n)) + "], paths: ["
        + ", ".join(f"b{number}" for number in range(n)) + "]}}}"
    ),
    "paths": lambda n: "services: {a: {source: {repository: /r, paths: [" + ", ".join(["src/**"] * n)
    + "]}, runtime: {kind: process, command: [a]}}}",
    "probes": lambda n: of_a_service(
        "health: {probes: [" + ", ".join(f"{{kind: tcp, port: {1 + number % 65000}}}" for number in range(n)) + "]}"
    ),
    "wrong probes": lambda n: of_a_service("health: {probes: [" + ", ".join(["{kind: tcp}"] * n) + "]}"),
    "probes of no kind": lambda n: of_a_service("health: {probes: [" + ", ".join(["{kind: tpc}"] * n) + "]}"),
    "sources": lambda n: of_a_service(
        "backup: {sources: [" + ", ".join(f"{{kind: sqlite, path: a{number}}}" for number in range(n)) + "]}"
    ),
    "windows": lambda n: of_a_service("deploy: {freeze: [" + ", ".join(["{from: '00:00', to: '23:59'}"] * n) + "]}"),
    "long windows": lambda n: of_a_service(
        "deploy: {freeze: [" + ", ".join(["{from: 'mon 00:00', to: 'sun 23:59'}"] * n) + "]}"
    ),
    "a long branch": lambda n: "services: {a: {source: {repository: /r, branch: '" + "/." * n + "'}}}",
    "a long path": lambda n: "state_dir: /" + "../" * n + "x",
    "a long host": lambda n: "hosts: ['" + "a." * n + "!']",
    "a long URL": lambda n: "public_url: 'https://" + "a." * n + "!'",
    "a long token": lambda n: "access: {tokens: [{name: '" + "a" * n + "!', secret: {env: A}}]}",
    "long keys": lambda n: "\n".join(f"{number}{'x' * 100}: 1" for number in range(n // 10)),
    "blanks": lambda n: "a:" + " " * n,
    "comments": lambda n: "#\n" * n,
    "a folded text": lambda n: "a: >\n" + "  x\n\n" * n,
    "quotes": lambda n: "a: '" + "''" * n + "'",
    "escapes": lambda n: 'a: "' + "\\x41" * n + '"',
    "aliases": lambda n: "a: &x [" + ", ".join(["1"] * (n // 2)) + "]\nb: [" + "*x, " * 64 + "]",
    "keys that stand twice": lambda n: "a: 1\n" * n,
    "tags": lambda n: "a: [" + "!x 1, " * n + "]",
    "anchors": lambda n: "a: [" + "".join(f"&a{number} 1, " for number in range(n)) + "]",
}  # fmt: skip


def of_a_service(block: str) -> str:
    return f"services: {{a: {SERVICE[:-1]}, {block}}}}}"


def examine(text: str) -> None:
    """As far as it goes."""
    try:
        document = configfile.parse(text.encode())
    except ConfigError as error:
        assert error.problems
        return
    configuration.examine(document.value, lines=document.lines, base=BASE, known=document.problems)


@pytest.mark.parametrize("shape", LONG)
def test_a_file_of_the_largest_size_takes_bounded_time(shape: str) -> None:
    """R-MO-8: 256 KiB of anything, and as many entries as a list may have; a reload on a Pi stays a matter of seconds.

    (Without the bound on a list, 16384 wrong services took more than 12 seconds of this processor.)
    """
    count = 1
    while len(LONG[shape](count * 2)) <= configfile.MAX_BYTES:
        count *= 2
    few = min(count, configfile.MAX_ENTRIES - 2)
    for text in (LONG[shape](count), LONG[shape](few)):
        began = thread_time()
        examine(text)
        took = thread_time() - began
        assert took < 8, f"{took:.1f} s for {len(text)} bytes"


@pytest.mark.parametrize("shape", ["services", "aliases", "wrong tokens", "a long path"])
def test_a_file_of_the_largest_size_needs_little_memory(shape: str) -> None:
    """R-MO-8: also the aliases that blow up."""
    text = LONG[shape](configfile.MAX_ENTRIES if shape != "a long path" else 60_000)
    tracemalloc.start()
    examine(text)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 << 20


def test_as_many_lists_as_a_file_may_hold_of_the_longest_kind_are_compared_in_time() -> None:
    """R-MO-8: what is compared entry by entry is short enough, also many times over."""
    shared = ", ".join(f"d{number}" for number in range(configfile.MAX_ENTRIES))
    services = "".join(
        f"  s{number}: {SERVICE[:-1]}, deploy: {{shared: [{shared}]}}}}\n"
        for number in range(configfile.MAX_NODES // (configfile.MAX_ENTRIES + 30))
    )
    text = f"services:\n{services}"
    assert len(text) <= configfile.MAX_BYTES
    assert configfile.parse(text.encode()).problems == []
    began = thread_time()
    examine(text)
    assert thread_time() - began < 20


def test_a_list_or_block_has_a_bounded_number_of_entries() -> None:
    """R-MO-8."""
    most = configfile.MAX_ENTRIES
    for right, wrong in (
        (f"a: [{'1, ' * most}]", f"a: [{'1, ' * (most + 1)}]"),
        *[("".join(f"k{number}: 1\n" for number in range(count)) for count in (most, most + 1))],
    ):
        assert configfile.parse(right.encode()).problems == []
        with pytest.raises(ConfigError) as caught:
            configfile.parse(wrong.encode())
        assert f"more than {most} entries" in caught.value.problems[0].message
