"""What a unit has said since one of its invocations began, from the journal, as `journalctl --output=json` prints it.

journald finds out where a line comes from by looking at the process. Of one that has ended by then it knows the unit,
which it was told before, but not the invocation. So it is not asked for the lines of an invocation: what systemd itself
says about one always names it, and whatever the unit said from there on counts, also if it was started again meanwhile.
"""

import json
from collections.abc import Sequence

READ = 500
"""Lines of the unit among which the beginning is sought."""
OPTIONS = (
    "--no-pager", "--all", "--output=json", f"--lines={READ}",
    "--output-fields=MESSAGE,INVOCATION_ID,_SYSTEMD_INVOCATION_ID",
)  # fmt: skip
LIMIT = 512 << 10
"""Bytes of journalctl's output that are looked at, from its end."""


def lines_of(unit: str) -> tuple[str, ...]:
    """Arguments for journalctl: what the unit printed, and what systemd said about it."""
    return (*OPTIONS, f"_SYSTEMD_UNIT={unit}", "+", "_PID=1", f"UNIT={unit}")


def since(invocation: str, printed: str) -> Sequence[str]:
    """The messages from the first line on that belongs to this invocation. The first line may be cut off."""
    said: list[str] = []
    begun = False
    for line in printed.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if not isinstance(entry, dict):
            continue
        begun = begun or invocation in (entry.get("INVOCATION_ID"), entry.get("_SYSTEMD_INVOCATION_ID"))
        if begun:
            said.append(_text(entry.get("MESSAGE")))
    return said


def told_beside(printed: str) -> str:
    """What journalctl says to whoever may not read the journal."""
    return " ".join(line for line in printed.splitlines() if line[:1] not in ("{", "-"))


def _text(message: object) -> str:
    """What is no UTF-8 comes as a list of bytes."""
    if isinstance(message, list):
        return bytes(byte for byte in message if isinstance(byte, int)).decode("utf-8", "replace")
    return message if isinstance(message, str) else ""
