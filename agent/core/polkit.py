"""The agent's rights on units, as text: a rule for polkit, or lines for sudo where there is no polkit.

Both name the units and the verbs one by one. A rule that only asks for `manage-units` would also allow
StartTransientUnit, which runs any program as root (GHSA-68v6-p23h-fwcf).
"""

import json
import re
from collections.abc import Sequence

_SUDO_SPECIAL = re.compile(r"([\\,:=])")

_RULE = """\
// Made by `homeport install` from /etc/homeport/config.yaml: change that, and run it again.
// User {user} may do these verbs on these units, and nothing else.
polkit.addRule(function(action, subject) {{
    var units = {units};
    var verbs = {verbs};
    if (action.id === "org.freedesktop.systemd1.manage-units" &&
        subject.user === {quoted} &&
        units.indexOf(action.lookup("unit")) !== -1 &&
        verbs.indexOf(action.lookup("verb")) !== -1) {{
        return polkit.Result.YES;
    }}{swaps}
    return polkit.Result.NOT_HANDLED;
}});
"""


_STARTED = """
    var started = {units};
    if (action.id === "org.freedesktop.systemd1.manage-units" &&
        subject.user === {quoted} &&
        started.indexOf(action.lookup("unit")) !== -1 &&
        action.lookup("verb") === "start") {{
        return polkit.Result.YES;
    }}"""


def rule(user: str, units: Sequence[str], verbs: Sequence[str], started: Sequence[str] = ()) -> str:
    """JavaScript for /etc/polkit-1/rules.d. A JSON string of ASCII is a string of JavaScript, too. `started` are units
    that may be started and nothing else."""
    quoted = json.dumps(user)
    swaps = _STARTED.format(units=json.dumps(list(started)), quoted=quoted) if started else ""
    return _RULE.format(
        user=user, quoted=quoted, units=json.dumps(list(units)), verbs=json.dumps(list(verbs)), swaps=swaps
    )


def sudoers(
    user: str, units: Sequence[str], verbs: Sequence[str], program: str, started: Sequence[str] = ()
) -> str:
    """Lines for /etc/sudoers.d: exact command lines, no patterns. A unit's name has no letter that is one: of those
    that systemd.unit(5) allows, sudoers(5) wants these to be escaped."""
    lines = [
        "# Made by `homeport install` from /etc/homeport/config.yaml: change that, and run it again.",
        f"Defaults:{user} !requiretty",
    ]
    for unit in units:
        escaped = _SUDO_SPECIAL.sub(r"\\\1", unit)
        lines += [f"{user} ALL=(root) NOPASSWD: {program} {verb} {escaped}" for verb in verbs]
    for unit in started:
        escaped = _SUDO_SPECIAL.sub(r"\\\1", unit)
        lines.append(f"{user} ALL=(root) NOPASSWD: {program} start {escaped}")
    return "\n".join(lines) + "\n"
