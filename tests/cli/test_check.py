"""`homeport check`, and the configuration as `serve` reads it."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from agent.cli import check
from agent.cli.configuration import load
from agent.core.errors import ConfigError
from agent.core.settings import SecretRef

GOOD = """\
state_dir: state
github:
  webhook_secrets: [{env: HOOK}]
services:
  scraper:
    source: {repository: "git@github.com:me/scraper.git"}
    runtime: {kind: process, command: [./run]}
    health: {probes: [{kind: http, url: "http://127.0.0.1:9100/health"}]}
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", "0123456789abcdef")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)


def checked(path: Path, *arguments: str) -> int:
    parser, shared = argparse.ArgumentParser(), argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true")
    check.add(parser.add_subparsers(), shared)
    options = parser.parse_args(["check", str(path), *arguments])
    return int(options.run(options))


def a_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return path


def test_a_right_file_is_0_and_a_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = a_file(tmp_path, GOOD)
    assert checked(path) == 0
    warning, summary = capsys.readouterr().out.splitlines()
    assert warning.startswith(f"{path}:7: warning: services.scraper.runtime: is the embedded mode")
    assert summary.startswith(f"{path} is right: 1 service (scraper), listens on 127.0.0.1:8300")


def test_a_wrong_file_is_78_and_every_problem_with_file_line_and_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """R-MO-8."""
    wrong = (
        GOOD.replace("HOOK", "MISSING").replace("health:", "heath:").replace("kind: process", "kind: docker")
    )
    later = "Remove this key: this version does not have the feature yet"
    path = a_file(tmp_path, wrong + "listen: {port: x}\nlisten: {}\n")
    assert checked(path) == 78
    assert capsys.readouterr().out.splitlines() == [
        f"{path}:3: github.webhook_secrets[0]: the environment variable MISSING is not set",
        f"{path}:7: services.scraper.runtime.kind: is not built yet (not-built-yet) ({later})",
        f"{path}:8: services.scraper.heath: is not an option (did you mean `health`?)",
        f"{path}:10: listen: stands there twice, first on line 9",
        "4 problems",
    ]


def test_an_option_is_guessed_where_it_is_the_only_one_or_was_cut_short(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """R-MO-8."""
    checked(a_file(tmp_path, "github: {webhook_secret: [{env: HOOK}]}\nservices: {a: {source: {repo: x}}}\n"))
    told = capsys.readouterr().out
    assert "github.webhook_secret: is not an option (did you mean `webhook_secrets`?)" in told
    assert "services.a.source.repo: is not an option (did you mean `repository`?)" in told


@pytest.mark.parametrize("text", ["services:\n\tweb: {}\n", "services:\n  web:\n\t  source: {}\n"])
def test_a_tab_is_named_as_what_is_wrong(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """YAML's own words are that a character cannot start any token; one does not see which."""
    assert checked(a_file(tmp_path, text)) == 78
    assert "(indent with spaces, not with a tab)" in capsys.readouterr().out


def test_json_is_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = a_file(tmp_path, GOOD)
    assert checked(path, "--json") == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (document["ok"], document["services"], document["problems"]) == (True, ["scraper"], [])
    assert document["warnings"][0]["line"] == 7

    assert checked(a_file(tmp_path, "listne: {}"), "--json") == 78
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is False
    assert document["problems"] == [
        {"path": "listne", "line": 1, "message": "is not an option", "hint": "did you mean `listen`?"}
    ]


@pytest.mark.parametrize("text", ["", "# nothing\n", "a: [", "\0\0\0"])
def test_an_empty_or_broken_file_is_78(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    assert checked(a_file(tmp_path, text)) == 78
    assert str(tmp_path) in capsys.readouterr().out


def test_a_missing_file_is_78_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert checked(tmp_path / "missing.yaml") == 78
    assert "missing.yaml: cannot be read: No such file or directory" in capsys.readouterr().out


def test_what_a_file_says_cannot_write_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """R-RX-32."""
    checked(a_file(tmp_path, '"\\e[2J\\nconfig.yaml is right\\u202e": 1\n'))
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 2
    assert "\x1b" not in out
    assert "\u202e" not in out


def test_a_credential_is_a_warning_for_a_person_and_a_problem_for_the_agent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = a_file(tmp_path, GOOD.replace("env: HOOK", "credential: hook"))
    assert checked(path) == 0
    assert "warning: github.webhook_secrets[0]: is not looked at" in capsys.readouterr().out
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert [(problem.path, problem.line) for problem in caught.value.problems] == [
        ("github.webhook_secrets[0]", 3)
    ]


def test_load_gives_complete_settings_and_resolved_secrets(tmp_path: Path) -> None:
    settings, secrets = load(a_file(tmp_path, GOOD), {"HOOK": "0123456789abcdef"})
    assert settings.state_dir == str(tmp_path / "state")
    assert settings.services["scraper"].source.github == "me/scraper"
    assert secrets.get(SecretRef(env="HOOK")) == b"0123456789abcdef"
    assert secrets.redact("0123456789abcdef") == "***"


def test_load_tells_problems_of_the_file_the_types_and_the_secrets_at_once(tmp_path: Path) -> None:
    """R-RX-5, R-MO-8."""
    text = GOOD.replace("./run", "5") + "hosts: !x [a]\n"
    with pytest.raises(ConfigError) as caught:
        load(a_file(tmp_path, text), {"HOOK": "short"})
    assert [problem.path for problem in caught.value.problems] == [
        "github.webhook_secrets[0]",
        "services.scraper.runtime.command[0]",
        "hosts",
    ]
    assert caught.value.file == str(tmp_path / "config.yaml")


def a_source(tmp_path: Path, source: str) -> Path:
    return a_file(tmp_path, GOOD.replace('repository: "git@github.com:me/scraper.git"', source))


def test_a_key_that_is_missing_is_a_problem_and_a_credential_is_not_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = a_source(tmp_path, 'repository: "git@github.com:me/scraper.git", key: {file: none}')
    assert checked(path) == 78
    assert f"{path}:6: services.scraper.source.key: the file {tmp_path}/none cannot be read" in (
        capsys.readouterr().out
    )
    path = a_source(tmp_path, 'repository: "git@github.com:me/scraper.git", key: {credential: deploy}')
    assert checked(path) == 0
    assert "services.scraper.source.key: is not looked at" in capsys.readouterr().out


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the only programs are."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path / "bin"


def a_program(place: Path, says: str) -> None:
    place.write_text(f"#!/bin/sh\necho '{says}'\n")
    place.chmod(0o755)


def test_an_old_git_is_told_where_submodules_are_wanted_and_not_refused(
    tmp_path: Path, programs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """R-GIT-5: Debian 12's git works."""
    with_submodules = 'repository: "git@github.com:me/scraper.git", submodules: true'
    a_program(programs / "git", "git version 2.39.5")
    assert checked(a_source(tmp_path, with_submodules)) == 0
    told = capsys.readouterr().out
    assert "warning: services.scraper.source.submodules: has an old git: git version 2.39.5 lacks" in told
    assert "CVE-2025-48384" in told
    for version, source in (
        ("git version 2.50.1", with_submodules),
        ("git version 2.39.5", 'repository: "git@github.com:me/scraper.git"'),
    ):
        a_program(programs / "git", version)
        assert checked(a_source(tmp_path, source)) == 0
        assert "old git" not in capsys.readouterr().out


@pytest.mark.parametrize(("isolated", "told"), [("true", True), ("false", False)])
def test_builds_that_have_to_be_isolated_are_told_where_nobody_prepared_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], isolated: str, told: bool
) -> None:
    path = a_file(tmp_path, GOOD + f"    deploy: {{build: {{isolated: {isolated}}}}}\n")
    assert checked(path) == 0
    assert ("deploy.build.isolated: is not prepared" in capsys.readouterr().out) is told


def test_a_missing_git_lfs_is_told_where_it_is_wanted(
    tmp_path: Path, programs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = a_source(tmp_path, 'repository: "git@github.com:me/scraper.git", lfs: true')
    assert checked(path) == 0
    assert "warning: services.scraper.source.lfs: needs git-lfs, which is not here" in capsys.readouterr().out
    a_program(programs / "git-lfs", "git-lfs/3.3.0")
    assert checked(path) == 0
    assert "git-lfs" not in capsys.readouterr().out


FREEZE = '    deploy: {freeze: [{from: "22:00", to: "06:00"}]}\n'


def test_an_unknown_time_zone_is_a_problem_at_its_line_and_not_utc(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = a_file(tmp_path, "timezone: Europe/Berln\n" + GOOD)
    assert checked(path) == 78
    told = capsys.readouterr().out
    assert f"{path}:1: timezone: is not in the system's time zone database" in told
    assert "Europe/Berlin" in told
    with pytest.raises(ConfigError):
        load(path, {"HOOK": "0123456789abcdef"})


def test_the_machines_own_zone_must_be_readable_where_something_goes_by_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Nowhere/Nothing")
    assert checked(a_file(tmp_path, GOOD)) == 0
    capsys.readouterr()
    assert checked(a_file(tmp_path, GOOD + FREEZE)) == 78
    assert "timezone: is not given, and TZ=Nowhere/Nothing" in capsys.readouterr().out
    assert checked(a_file(tmp_path, "timezone: Europe/Berlin\n" + GOOD + FREEZE)) == 0
