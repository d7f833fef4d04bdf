"""The agent's rights on units, as text."""

import json
import re

import pytest

from agent.core.polkit import rule, sudoers

VERBS = ("start", "stop", "restart", "reset-failed")


def listed(text: str, name: str) -> list[str]:
    found = re.search(rf"var {name} = (\[.*\]);", text)
    assert found
    units: list[str] = json.loads(found[1])
    return units


def test_a_rule_asks_for_user_action_unit_and_verb() -> None:
    """R-SD-2."""
    text = rule("homeport", ["a.service", "b@1.service"], VERBS)
    condition = text.partition("if (")[2].partition(") {")[0]
    assert condition.count("&&") == 3
    assert "||" not in text
    for asked in (
        'action.id === "org.freedesktop.systemd1.manage-units"',
        'subject.user === "homeport"',
        'units.indexOf(action.lookup("unit")) !== -1',
        'verbs.indexOf(action.lookup("verb")) !== -1',
    ):
        assert asked in condition
    assert listed(text, "units") == ["a.service", "b@1.service"]
    assert listed(text, "verbs") == list(VERBS)
    assert text.count("polkit.Result.YES") == 1


@pytest.mark.parametrize("name", ['x"];evil();//.service', "a\\x2db.service", "ü.service", "a\n.service"])
def test_a_name_cannot_leave_its_string(name: str) -> None:
    """R-SD-2."""
    text = rule("homeport", [name], VERBS)
    assert listed(text, "units") == [name]
    assert text.isascii()


def test_sudo_gets_exact_command_lines() -> None:
    """R-SD-3."""
    text = sudoers(
        "homeport", ["a.service", "b@1:2.service", "c\\x2dd.service"], ("restart",), "/usr/bin/systemctl"
    )
    assert [line.partition("NOPASSWD: ")[2] for line in text.splitlines()[2:]] == [
        "/usr/bin/systemctl restart a.service",
        r"/usr/bin/systemctl restart b@1\:2.service",
        r"/usr/bin/systemctl restart c\\x2dd.service",
    ]
    assert not re.search(r"[*?\[!]", text.partition("requiretty\n")[2])
