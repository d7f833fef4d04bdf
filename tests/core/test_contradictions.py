"""What a contradiction's finding carries besides its place and its words: the hint, and the other places that had a
say. When one of those could not be read, the finding may be an echo, and is not told."""

from typing import Any

import msgspec
import pytest

from agent.core.contradictions import contradictions
from agent.core.location import Finding, Location
from agent.core.settings import Settings
from agent.core.shapes import inside_problem, overlap
from tests.build import a_service

DAY = 86400
HERE: Location = ("services", "app")


def found(settings: dict[str, Any] | None = None, **blocks: Any) -> list[Finding]:
    """The findings of one service with these blocks."""
    services = {"app": a_service(**blocks)}
    return contradictions(msgspec.structs.replace(Settings(services=services), **(settings or {})), "/")


def within(*place: str | int, relies: tuple[Location, ...] = (), hint: str = "") -> tuple[Location, str, Any]:
    """The place, the hint and what it relies on, below the service."""
    return (*HERE, *place), hint, tuple((*HERE, *other) for other in relies)


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        ({}, []),
        (
            {"health": {"every": 10, "timeout": 19, "successes": 3}},
            [within("health", "timeout", relies=(("health", "every"), ("health", "successes")),
                    hint="raise it, or lower `every` or `successes`")],
        ),
        ({"health": {"every": 10, "timeout": 20, "successes": 3}}, []),
        (
            {"backup": {"keep": {"daily": 8, "weekly": 0, "monthly": 0, "max_age": 7 * DAY}}},
            [within("backup", "keep", "max_age", relies=(("backup", "keep", "daily"),),
                    hint="raise it to 8d, or lower `daily`")],
        ),
        (
            {"backup": {"keep": {"daily": 0, "weekly": 2, "monthly": 1, "max_age": 13 * DAY}}},
            [within("backup", "keep", "max_age", relies=(("backup", "keep", "weekly"),),
                    hint="raise it to 14d, or lower `weekly`"),
             within("backup", "keep", "max_age", relies=(("backup", "keep", "monthly"),),
                    hint="raise it to 31d, or lower `monthly`")],
        ),
        ({"backup": {"keep": {"daily": 7, "weekly": 1, "monthly": 0, "max_age": 7 * DAY}}}, []),
        (
            {"rollback": {"restore_data": "if-migrated"}, "backup": {"before_deploy": "off"}},
            [within("rollback", "restore_data", relies=(("backup", "before_deploy"),))],
        ),
        (
            {"deploy": {"on": ["workflow_run"]}},
            [within("deploy", "workflow", relies=(("deploy", "on"),),
                    hint="name the workflow's file, `ci.yml` for example")],
        ),
        (
            {"deploy": {"workflow": "x/ci.yml"}, "rollback": {"on_workflow": ".github/workflows/e2e.yaml"}},
            [within("deploy", "workflow", hint="write `ci.yml`"),
             within("rollback", "on_workflow", hint="write `e2e.yaml`")],
        ),
        ({"deploy": {"workflow": " "}}, [within("deploy", "workflow")]),
        ({"deploy": {"workflow": "a\nb"}}, [within("deploy", "workflow")]),
        ({"deploy": {"workflow": "build/test"}}, []),
        (
            {"source": {"repository": "/srv/x", "branch": "refs/heads/main"}},
            [within("source", "branch", hint="write `main`")],
        ),
        ({"source": {"repository": "/srv/x", "branch": "-x"}}, [within("source", "branch")]),
        ({"source": {"repository": "/srv/x", "branch": "HEAD"}}, [within("source", "branch")]),
        (
            {"deploy": {"shared": ["data/"], "build": {"reuse": {"key": ["lock", "data/x"], "paths": ["data"]}}}},
            [within("deploy", "build", "reuse", "key", 1, relies=(("deploy", "shared"),)),
             within("deploy", "build", "reuse", "paths", 0, relies=(("deploy", "shared"),)),
             within("deploy", "build", "reuse", "key", 1, relies=(("deploy", "build", "reuse", "paths"),))],
        ),
        (
            {"health": {"probes": [{"kind": "http", "url": "http://h/", "latency": 6, "timeout": 5}]}},
            [within("health", "probes", 0, "latency", relies=(("health", "probes", 0, "timeout"),))],
        ),
        (
            {"health": {"probes": [{"kind": "http", "url": "http://h/", "method": "HEAD", "body": "x",
                                    "json": {"a": 1}}]}},
            [within("health", "probes", 0, "json", relies=(("health", "probes", 0, "method"),)),
             within("health", "probes", 0, "body", relies=(("health", "probes", 0, "method"),))],
        ),
        (
            {"health": {"probes": [{"kind": "http", "url": "http://h/", "headers": {"X-Api-Key": "x"}}]}},
            [within("health", "probes", 0, "headers", "X-Api-Key",
                    hint="use `bearer`, or let the service answer this address without")],
        ),
        (
            {"health": {"probes": [{"kind": "freshness", "max_age": 60}]}},
            [within("health", "probes", 0,
                    relies=(("health", "probes", 0, "sqlite"), ("health", "probes", 0, "command")))],
        ),
        (
            {"health": {"probes": [{"kind": "freshness", "max_age": 60, "sqlite": "shared/x.db"}]}},
            [within("health", "probes", 0, "query", relies=(("health", "probes", 0, "sqlite"),))],
        ),
        (
            {"health": {"probes": [{"kind": "freshness", "max_age": 60, "command": "x", "query": "SELECT 1"}]}},
            [within("health", "probes", 0, "query", relies=(("health", "probes", 0, "command"),))],
        ),
        ({"health": {"timeout": DAY, "every": 0.01}, "source": {"repository": "/x", "poll": 10}}, []),
        ({"health": {"timeout": DAY + 1}}, [within("health", "timeout")]),
        ({"health": {"every": 0.009}}, [within("health", "every")]),
        ({"source": {"repository": "/x", "poll": 9.9}}, [within("source", "poll")]),
        (
            {"rollback": {"probation": 14.9}},
            [((*HERE, "rollback", "probation"), "", (("monitor", "every"),))],
        ),
        ({"rollback": {"probation": 15}}, []),
        (
            {"runtime": {"kind": "process", "command": ["x"], "drain": {}}},
            [within("runtime", "drain", relies=(("runtime", "drain", "signal"), ("runtime", "drain", "command")))],
        ),
        (
            {"runtime": {"kind": "process", "command": ["x"], "drain": {"signal": "SIGUSR1", "command": "x"}}},
            [within("runtime", "drain", relies=(("runtime", "drain", "signal"), ("runtime", "drain", "command")))],
        ),
        (
            {"runtime": {"kind": "process", "command": ["x"], "listen": ["localhost:80", "127.0.0.1", "::1:80",
                                                                         "[::1]:80", "[0:0::1]:80", "1.2.3.4:70000"],
                         "environment": {"LISTEN_FDS": "1"}}},
            [within("runtime", "listen", 0), within("runtime", "listen", 1), within("runtime", "listen", 2),
             within("runtime", "listen", 4), within("runtime", "listen", 5),
             within("runtime", "environment", "LISTEN_FDS", relies=(("runtime", "listen"),))],
        ),
        ({"runtime": {"kind": "process", "command": ["x"], "listen": ["127.0.0.1:9100"]}}, []),
        ({"directory": "~/x"}, [within("directory", hint="write the whole path")]),
        ({"directory": "/var/lib/homeport"}, [((*HERE, "directory"), "", (("state_dir",),))]),
    ],
)  # fmt: skip
def test_a_finding_names_what_else_had_a_say(
    blocks: dict[str, Any], expected: list[tuple[Location, str, Any]]
) -> None:
    assert [(one.location, one.hint, one.relies) for one in found(**blocks)] == expected


def test_directories_of_services_do_not_touch_each_other() -> None:
    services = {
        "one": a_service(directory="/srv/one"),
        "same": a_service(directory="/srv/./one/"),
        "inner": a_service(directory="/srv/one/x"),
        "outer": a_service(directory="/srv"),
        "beside": a_service(directory="/srv-2"),
    }
    told = contradictions(Settings(services=services, state_dir="/var/lib/homeport"), "/")
    one = ("services", "one", "directory")
    inner = ("services", "inner", "directory")
    assert told == [
        Finding(
            ("services", "same", "directory"),
            "is the same directory as services.one.directory",
            relies=(one,),
        ),
        Finding(inner, "lies inside of services.one.directory", relies=(one,)),
        Finding(("services", "outer", "directory"), "contains services.one.directory", relies=(one,)),
        Finding(("services", "outer", "directory"), "contains services.inner.directory", relies=(inner,)),
    ]


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("data", ""),
        ("data/", ""),
        ("..data/x..", ""),
        (" ", "must name something below the directory"),
        ("./", "must name something below the directory"),
        ("/data", "must be relative"),
        ("~data", "must be relative"),
        ("a/../b", "must not contain `..`"),
        ("a//b", "must be written without `.` and double slashes"),
        ("a/./b", "must be written without `.` and double slashes"),
        ("a//", "must be written without `.` and double slashes"),
        ("a\x7f", "must not contain control characters"),
        ("a\x01", "must not contain control characters"),
    ],
)
def test_a_path_below_a_directory(path: str, problem: str) -> None:
    assert inside_problem(path) == problem


@pytest.mark.parametrize(
    ("path", "other", "touch"),
    [
        ("a", "a", True),
        ("a/b", "a", True),
        ("a/b", "a/", True),
        ("a", "a/b", True),
        ("a", "b", False),
        ("ab", "a", False),
        ("a", "ab", False),
    ],
)
def test_paths_that_touch(path: str, other: str, touch: bool) -> None:
    assert overlap(path, other) is touch


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        ("scraper.service", ""),
        ("scraper@blue.service", ""),
        ("scraper", "must be a unit's full name, such as scraper.service"),
        ("scraper.timer", "must be a unit's full name, such as scraper.service"),
        ("../x.service", "is not a unit's name: letters, digits and :-_.\\, and an instance after one @"),
        ("x .service", "is not a unit's name: letters, digits and :-_.\\, and an instance after one @"),
        (
            "x" * 250 + ".service",
            "is not a unit's name: letters, digits and :-_.\\, and an instance after one @",
        ),
        ("homeport.service", "is the agent itself"),
    ],
)
def test_a_runtimes_unit_is_a_service_and_not_the_agent(unit: str, message: str) -> None:
    told = found(runtime={"kind": "systemd", "unit": unit})
    assert [finding.message for finding in told] == ([message] if message else [])


def test_two_services_are_not_the_same_unit() -> None:
    block = {"kind": "systemd", "unit": "app.service"}
    services = {
        name: a_service(runtime=block, directory=f"/srv/{name}") for name in ("one", "two")
    }  # fmt: skip
    (finding,) = contradictions(Settings(services=services), "/")
    assert finding.location == ("services", "two", "runtime", "unit")
    assert finding.relies == (("services", "one", "runtime", "unit"),)


SIDE_BY_SIDE: dict[str, Any] = {
    "runtime": {"kind": "systemd", "unit": "app@.service"},
    "deploy": {"strategy": "blue-green"},
    "blue_green": {"ports": [9101, 9102], "url": "https://app.example.org/"},
    "health": {"probes": [{"kind": "tcp", "port": 9101}]},
}


@pytest.mark.parametrize(
    ("differs", "places"),
    [
        ({}, []),
        ({"deploy": {}}, [("runtime", "unit"), ("blue_green",)]),
        ({"deploy": {}, "blue_green": None}, [("runtime", "unit")]),
        ({"runtime": {"kind": "systemd", "unit": "app.service"}}, [("runtime", "unit")]),
        ({"runtime": {"kind": "systemd", "unit": "app@blue.service"}}, [("runtime", "unit")]),
        ({"runtime": {"kind": "process", "command": ["x"]}}, [("runtime", "kind")]),
        ({"blue_green": None}, [("blue_green",)]),
        ({"blue_green": {"ports": [9101, 9101], "url": "http://x/"}}, [("blue_green", "ports", 1)]),
        ({"blue_green": {"ports": [9101, 8300], "url": "http://x/"}}, [("blue_green", "ports", 1)]),
        ({"blue_green": {"ports": [9101, 9102], "url": "x"}}, [("blue_green", "url")]),
        ({"health": {}}, [("health", "probes")]),
        ({"health": {"probes": [{"kind": "tcp", "port": 9101, "when": "live"}]}}, [("health", "probes")]),
        ({"health": {"probes": [{"kind": "http", "url": "http://127.0.0.1:9101/"},
                                {"kind": "tcp", "port": 9102}]}}, [("health", "probes", 1)]),
        ({"runtime": {"kind": "systemd", "unit": "app@.service", "environment": {"PORT": "1"}}},
         [("runtime", "environment", "PORT")]),
    ],
)  # fmt: skip
def test_side_by_side_everything_must_fit(differs: dict[str, Any], places: list[Location]) -> None:
    assert [finding.location for finding in found(**(SIDE_BY_SIDE | differs))] == [
        (*HERE, *place) for place in places
    ]


def test_two_services_do_not_share_a_port() -> None:
    other = SIDE_BY_SIDE | {
        "directory": "/srv/other",
        "runtime": {"kind": "systemd", "unit": "other@.service"},
    }
    services = {"app": a_service(**SIDE_BY_SIDE), "other": a_service(**other)}
    told = [finding.location for finding in contradictions(Settings(services=services), "/")]
    assert told == [("services", "other", "blue_green", "ports", index) for index in (0, 1)]
