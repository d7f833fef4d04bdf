"""What root writes down for builds."""

import json

import pytest

from agent.core import isolation
from agent.core.settings import Build, Bytes, Deploy, ProcessRuntime, Seconds, Service, Source


def a_service(directory: str = "/srv/x", **build: object) -> Service:
    return Service(
        directory=directory,
        source=Source(repository="/x"),
        runtime=ProcessRuntime(command=("x",), environment={"A": "1"}),
        deploy=Deploy(build=Build(**build)),  # type: ignore[arg-type]
    )


def test_a_recipe_says_what_runs_and_how() -> None:
    service = a_service(commands=("make",), always=("ls",), environment={"B": "2"}, memory=Bytes(1 << 30))
    assert json.loads(isolation.recipe("x", service)) == {
        "service": "x", "directory": "/srv/x", "commands": ["make"], "always": ["ls"], "migrate": [],
        "environment": {"A": "1"}, "build_environment": {"B": "2"}, "memory": 1 << 30,
        "timeout": 600.0, "nice": 10, "io": "low",
    }  # fmt: skip


@pytest.mark.parametrize(
    "other",
    [{"commands": ("make all",)}, {"always": ("ls",)}, {"environment": {"B": "3"}}, {"timeout": Seconds(5)},
     {"nice": 3}, {"io": "idle"}, {"memory": Bytes(1 << 30)}, {"directory": "/srv/y"}],
)  # fmt: skip
def test_whatever_is_changed_makes_another_recipe(other: dict[str, object]) -> None:
    plain, changed = isolation.recipe("x", a_service()), isolation.recipe("x", a_service(**other))  # type: ignore[arg-type]
    assert isolation.digest(plain) != isolation.digest(changed)


def test_a_drop_in_opens_one_release_and_hides_the_rest() -> None:
    service = a_service("/srv/a b", timeout=Seconds(30), nice=19, io="idle")
    lines = isolation.drop_in(service, ["/srv/other", "/srv/50%"]).splitlines()
    assert lines[1:] == [
        "[Service]", 'ReadWritePaths="-/srv/a b/.building"', 'InaccessiblePaths="-/srv/a b/shared"',
        'InaccessiblePaths="-/srv/a b/mirror.git"', "InaccessiblePaths=-/srv/50%%", "InaccessiblePaths=-/srv/other",
        "TimeoutStartSec=90s", "Nice=19", "IOSchedulingClass=idle", "IOSchedulingPriority=7",
    ]  # fmt: skip


def test_a_migration_writes_the_data_and_nothing_else() -> None:
    lines = isolation.migration_drop_in(a_service(timeout=Seconds(30)), "bot", ["/srv/other"]).splitlines()
    assert lines[1:] == [
        "[Service]", "User=bot", "ReadWritePaths=-/srv/x/shared", "InaccessiblePaths=-/srv/x/mirror.git",
        "InaccessiblePaths=-/srv/other", "TimeoutStartSec=90s",
    ]  # fmt: skip


def test_names_are_those_of_the_instance() -> None:
    assert isolation.unit_of("my-bot") == "homeport-build@my-bot.service"
    assert isolation.unit_of("my-bot", isolation.MIGRATION) == "homeport-migrate@my-bot.service"
    assert isolation.drop_in_of("my-bot") == "homeport-build@my-bot.service.d/10-install.conf"
    assert isolation.recipe_path("my-bot") == "/etc/homeport-build/my-bot.json"
