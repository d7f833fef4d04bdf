"""What an installed homeport consists of, and what changes."""

import json
from dataclasses import replace
from typing import Any

import pytest

from agent.core import configuration, installing
from agent.core.installing import (
    CREDENTIALS,
    DROP_IN,
    RULE,
    SUDOERS,
    UNITS,
    Facts,
    Kind,
    Seen,
    Wanted,
    compare,
    wanted,
)
from agent.core.isolation import RECIPES
from agent.core.settings import Settings
from agent.core.uninstalling import removals, stays
from agent.core.unitfiles import STARTER, drop_in, quoted, sets_journal_limit
from agent.core.upgrading import PLACE, UNIT_FILE
from agent.core.upstreams import TABLE, UNIT
from agent.system import configfile

FACTS = Facts(
    units={"homeport.service": "agent\n", "homeport-failed.service": "alarm\n", UNIT: "swap\n"},
    verbs=("start", "stop"), systemctl="/usr/bin/systemctl",
)  # fmt: skip


def a_configuration(**services: dict[str, Any]) -> Settings:
    document = {
        "github": {"webhook_secrets": [{"credential": "webhook-secret"}]},
        "services": {
            name: {
                "source": {"repository": "/srv/git/x.git"},
                "runtime": {"kind": "systemd", "unit": f"{name}.service"},
            }
            | more
            for name, more in services.items()
        },
    }
    return configuration.read(document, base="/etc/homeport")


def part(parts: list[Wanted], name: str) -> Wanted:
    (found,) = (item for item in parts if item.name == name)
    return found


def test_the_configuration_to_begin_with_is_right() -> None:
    document = configfile.parse(STARTER.encode())
    assert document.problems == []
    assert configuration.read(document.value, lines=document.lines).services == {}


def test_what_the_starter_shows_as_a_comment_is_right_without_its_signs() -> None:
    lines = STARTER.replace("services: {}\n", "services:\n").splitlines()
    text = "\n".join(line.removeprefix("# ") if line.startswith("#   ") else line for line in lines)
    document = configfile.parse(text.encode())
    assert document.problems == []
    assert list(configuration.read(document.value, lines=document.lines).services) == ["scraper"]


def test_a_services_unit_gets_rights_and_its_directory_a_place() -> None:
    parts = wanted(a_configuration(scraper={}, bot={"directory": "/srv/the bot"}), FACTS)
    builds = ["homeport-build@bot.service", "homeport-build@scraper.service"]
    assert json.dumps(["bot.service", *builds, "scraper.service"]) in part(parts, RULE).content
    assert part(parts, SUDOERS).kind is Kind.ABSENT
    text = part(parts, DROP_IN).content
    assert "ReadWritePaths=/srv/scraper\n" in text
    assert 'ReadWritePaths="/srv/the bot"\n' in text
    assert f"LoadCredential=webhook-secret:{CREDENTIALS}/webhook-secret\n" in text
    assert "NoNewPrivileges" not in text
    directory = part(parts, "/srv/scraper")
    assert (directory.owner, directory.group, directory.mode) == ("homeport", "homeport", 0o2755)


@pytest.mark.parametrize(
    ("user", "given"), [("bot", True), ("", False), ("root", False), ("homeport", False)]
)
def test_a_unit_with_a_user_of_its_own_gets_at_its_releases(user: str, given: bool) -> None:
    parts = wanted(a_configuration(bot={}), replace(FACTS, users={"bot.service": user}))
    found = [(item.name, item.content) for item in parts if item.kind is Kind.ACCESS]
    assert found == ([("/srv/bot", "bot")] if given else [])


def test_builds_get_a_recipe_a_place_and_rights_each() -> None:
    parts = wanted(a_configuration(scraper={}, bot={}), FACTS)
    assert json.loads(part(parts, "/etc/homeport-build/bot.json").content)["directory"] == "/srv/bot"
    assert part(parts, "/srv/bot/releases").kind is Kind.WORKPLACE
    text = part(parts, f"{UNITS}/homeport-build@bot.service.d/10-install.conf").content
    assert "InaccessiblePaths=-/srv/scraper\n" in text
    assert "/srv/bot/.building" in text
    assert '"homeport-build@bot.service"' in part(parts, RULE).content


def test_what_is_not_to_be_isolated_is_not_prepared_and_what_was_is_removed() -> None:
    plain = {"deploy": {"build": {"isolated": False}}}
    parts = wanted(a_configuration(bot=plain), replace(FACTS, recipes=frozenset({"bot", "gone"})))
    absent = {item.name for item in parts if item.kind is Kind.ABSENT}
    for name in ("bot", "gone"):
        assert {
            f"/etc/homeport-build/{name}.json",
            f"{UNITS}/homeport-build@{name}.service.d/10-install.conf",
        } <= absent
    assert f"{UNITS}/homeport-build@.service" in absent
    assert "homeport-build" not in {item.name for item in parts if item.kind is Kind.USER}
    assert "homeport-build" not in part(parts, RULE).content


@pytest.mark.parametrize(
    ("user", "migrates"), [("bot", True), ("", False), ("root", False), ("homeport", False)]
)
def test_who_owns_the_data_migrates_it(user: str, migrates: bool) -> None:
    parts = wanted(a_configuration(bot={}), replace(FACTS, users={"bot.service": user}))
    drop_in_of_it = part(parts, f"{UNITS}/homeport-migrate@bot.service.d/10-install.conf")
    assert drop_in_of_it.kind is (Kind.FILE if migrates else Kind.ABSENT)
    assert (f"User={user}\n" in drop_in_of_it.content) is migrates
    assert ("homeport-migrate@bot.service" in part(parts, RULE).content) is migrates


def test_without_a_unit_there_is_no_rule() -> None:
    """R-SD-2."""
    for facts in (FACTS, replace(FACTS, polkit=False)):
        parts = wanted(a_configuration(), facts)
        assert {part(parts, RULE).kind, part(parts, SUDOERS).kind} == {Kind.ABSENT}


def test_without_polkit_sudo_takes_its_place() -> None:
    """R-SD-3."""
    parts = wanted(a_configuration(scraper={}), replace(FACTS, polkit=False))
    assert part(parts, RULE).kind is Kind.ABSENT
    assert part(parts, SUDOERS).mode == 0o440
    assert "NoNewPrivileges=no\n" in part(parts, DROP_IN).content


def test_a_credential_that_is_not_there_is_not_loaded() -> None:
    key = {"source": {"repository": "git@github.com:me/x.git", "key": {"credential": "other-key"}}}
    settings = a_configuration(scraper=key)
    assert "other-key" not in part(wanted(settings, FACTS), DROP_IN).content
    there = replace(FACTS, credentials=frozenset({"other-key"}))
    assert f"other-key:{CREDENTIALS}/other-key" in part(wanted(settings, there), DROP_IN).content


def test_a_limit_of_the_journal_that_somebody_set_stays() -> None:
    assert sets_journal_limit(["[Journal]\n#SystemMaxUse=\n", "[Journal]\nSystemMaxUse=1G\n"])
    assert not sets_journal_limit(["[Journal]\n#SystemMaxUse=1G\nSystemMaxUse=\n"])
    parts = wanted(a_configuration(), replace(FACTS, journal_limited=True))
    assert installing.JOURNAL not in {item.name for item in parts}


# --- what changes

FILE = Wanted(kind=Kind.FILE, name=f"{UNITS}/homeport.service", why="", content="new")
OURS = Wanted(kind=Kind.DIRECTORY, name="/srv/x", why="", owner="homeport", group="homeport", mode=0o2755)
THEIRS = Wanted(
    kind=Kind.OWN, name="/etc/homeport/config.yaml", why="", group="homeport", mode=0o640, content="new"
)
SECRET = Wanted(kind=Kind.SECRET, name="/etc/homeport/credentials/s", why="", mode=0o600)


def a_file(content: str = "new", owner: str = "root", group: str = "root", mode: int = 0o644) -> Seen:
    return Seen(kind="file", owner=owner, group=group, mode=mode, content=content)


@pytest.mark.parametrize(
    ("want", "seen", "act"),
    [
        (FILE, Seen(), "make"),
        (FILE, a_file(), None),
        (FILE, a_file("old"), "write"),
        (FILE, a_file(mode=0o666), "set"),
        (FILE, a_file(owner="pi"), "set"),
        (FILE, Seen(kind="link", content="/dev/null"), "refuse"),
        (FILE, Seen(kind="directory"), "refuse"),
        (THEIRS, a_file("theirs", group="homeport", mode=0o640), None),
        (THEIRS, a_file("theirs", group="homeport", mode=0o644), "set"),
        (SECRET, a_file("theirs", mode=0o600), None),
        (SECRET, a_file("theirs", mode=0o604), "set"),
        (OURS, Seen(), "make"),
        (OURS, Seen(kind="directory", owner="homeport", group="homeport", mode=0o2755), None),
        (OURS, Seen(kind="directory", owner="homeport", group="homeport", mode=0o755), "set"),
        (OURS, Seen(kind="directory", owner="root", group="root", mode=0o755, empty=True), "set"),
        (OURS, Seen(kind="directory", owner="root", group="root", mode=0o755), "refuse"),
        (OURS, Seen(kind="directory", owner="pi", group="pi", mode=0o755, empty=True), "refuse"),
        (OURS, Seen(kind="link", content="/etc"), "refuse"),
        (Wanted(kind=Kind.USER, name="homeport", why=""), Seen(kind="user"), None),
        (Wanted(kind=Kind.LINK, name="/usr/local/bin/homeport", why=""), a_file("mine"), None),
        (Wanted(kind=Kind.ABSENT, name=RULE, why=""), Seen(), None),
        (Wanted(kind=Kind.ABSENT, name=RULE, why=""), a_file(), "remove"),
    ],
)
def test_only_what_differs_is_changed_and_nobodys_is_taken(want: Wanted, seen: Seen, act: str | None) -> None:
    change = compare(want, seen)
    assert (change.act if change else None) == act


def test_a_secret_never_shows_in_a_change() -> None:
    assert "hush" not in repr(replace(FILE, content="hush"))


# --- drop-ins


@pytest.mark.parametrize(
    ("path", "word"),
    [("/srv/x", "/srv/x"), ("/srv/a b", '"/srv/a b"'), ("/srv/50%", "/srv/50%%"), ('/srv/"', '"/srv/\\""')],
)
def test_a_path_stays_one_word(path: str, word: str) -> None:
    assert quoted(path) == word
    assert f"ReadWritePaths={word}\n" in drop_in([], [path], sudo=False)


# --- and away again


def test_what_install_writes_uninstall_takes_away_and_nothing_else() -> None:
    settings = a_configuration(scraper={})
    facts = replace(FACTS, users={"scraper.service": "bot"})
    made = {item.name for item in wanted(settings, facts) if item.kind is Kind.FILE}
    made |= {SUDOERS, TABLE, RECIPES, UNIT_FILE, PLACE}  # the last two by an upgrade
    assert {item.name for item in removals(purge=False, recipes=["scraper"])} == made
    left = " ".join(stays(settings, purge=False))
    for name in ("/etc/homeport", "/var/lib/homeport", "/srv/scraper", "user homeport", "/opt/homeport"):
        assert name in left


def test_a_purge_leaves_the_services() -> None:
    names = {item.name for item in removals(purge=True)}
    assert {"/etc/homeport", "/var/lib/homeport"} <= names
    assert not any(name.startswith("/srv") for name in names)
    assert "/srv/scraper" in " ".join(stays(a_configuration(scraper={}), purge=True))


BESIDE: dict[str, Any] = {
    "runtime": {"kind": "systemd", "unit": "scraper@.service"},
    "deploy": {"strategy": "blue-green"},
    "blue_green": {"ports": [9101, 9102], "url": "https://pi.example.org/"},
    "health": {"probes": [{"kind": "tcp", "port": 9101}]},
}


def test_side_by_side_both_instances_get_rights_and_the_swaps_may_only_be_started() -> None:
    rule = part(wanted(a_configuration(scraper=BESIDE), FACTS), RULE).content
    units = ["homeport-build@scraper.service", "scraper@blue.service", "scraper@green.service"]
    assert f"var units = {json.dumps(units)};" in rule
    swaps = '["homeport-upstream@scraper-blue.service", "homeport-upstream@scraper-green.service"]'
    assert f"var started = {swaps};" in rule
    lines = part(wanted(a_configuration(scraper=BESIDE), replace(FACTS, polkit=False)), SUDOERS).content
    said = [line.rpartition("NOPASSWD: ")[2] for line in lines.splitlines() if "homeport-upstream" in line]
    assert said == [
        f"/usr/bin/systemctl start homeport-upstream@scraper-{colour}.service" for colour in ("blue", "green")
    ]


def test_the_ports_between_which_nginx_changes_are_written_by_root_alone() -> None:
    table = part(wanted(a_configuration(scraper=BESIDE, bot={}), FACTS), TABLE)
    assert (json.loads(table.content), table.owner, table.mode) == ({"scraper": [9101, 9102]}, "root", 0o644)
    assert part(wanted(a_configuration(bot={}), FACTS), TABLE).kind is Kind.ABSENT
