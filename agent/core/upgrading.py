"""An upgrade in place that returns by itself if the new version does not come up: values in, values out.

The old version's program carries it out, in a unit of its own, and writes down each phase before it begins it:

    prepared   the new program lies beside the old one; the agent is stopped, its state copied
    switching  the link that the unit starts leads to the new program, which installs its units
    starting   the new agent is started and watched
    returning  link, units and, if it must be, the state are put back; the old agent is started

Each phase can be done twice: after a power cut the next boot goes on with the one that is written down.
"""

import re
from collections.abc import Mapping
from email.parser import HeaderParser
from enum import StrEnum
from typing import Literal

from msgspec import Struct

from agent.core.installing import SERVICE, UNITS

VERSIONS = "/opt/homeport.d"
"""Each version's program has a directory of its own in it."""
PLACE = "/var/lib/homeport-upgrade"
MARK = f"{PLACE}/pending.json"
LAST = f"{PLACE}/last.json"
SAVED = f"{PLACE}/files.json"
UNIT = "homeport-upgrade.service"
UNIT_FILE = f"{UNITS}/{UNIT}"

UP_SECONDS = 70.0
"""So long after the old one's stop the new version is up, or the old one comes back: with what else a return takes,
within 120."""
LEAST_SECONDS = 40.0
"""The new version has these in any case, however long the copy of a large state took."""
STEADY_SECONDS = 10.0
"""So long it must answer, without a restart, before it is believed."""
RESTARTS = 3
"""A version that systemd has started again so often does not come up."""
ATTEMPTS = 3
"""So many times the new version is started; each boot in between is one."""
NOT_STARTED = ("inactive", "failed")


class Phase(StrEnum):
    """What is being done; the last four are ends."""

    PREPARED = "prepared"
    SWITCHING = "switching"
    STARTING = "starting"
    RETURNING = "returning"
    CONFIRMED = "confirmed"
    RETURNED = "returned"
    STAYED = "stayed"
    """The new version was up and has accepted what the old one could not read; then it failed."""
    FAILED = "failed"
    """The old version does not come up either."""


ENDS = frozenset({Phase.CONFIRMED, Phase.RETURNED, Phase.STAYED, Phase.FAILED})
NEXT: Mapping[Phase, tuple[Phase, Phase]] = {
    # phase -> what comes after it if it could be done, and if not
    Phase.PREPARED: (Phase.SWITCHING, Phase.RETURNING),
    Phase.SWITCHING: (Phase.STARTING, Phase.RETURNING),
    Phase.STARTING: (Phase.CONFIRMED, Phase.RETURNING),
    Phase.RETURNING: (Phase.RETURNED, Phase.FAILED),
}


class Mark(Struct, frozen=True, kw_only=True):
    """What is written down of an upgrade, on the disk before it is done; also how the last one ended."""

    id: str
    old: str
    new: str
    old_directory: str
    new_directory: str
    state_dir: str
    socket: str
    phase: Phase = Phase.PREPARED
    built: bool = True
    """The new program was installed for this upgrade, and was not there from before."""
    copied: bool = False
    """The copy of the state is the one of this upgrade, made while no agent ran, and was not put back yet."""
    putting_back: bool = False
    """It is decided that the copy is put back; a cut may leave the state in no condition to be asked again."""
    attempts: int = 0
    reason: str = ""
    at: str = ""
    """When it ended."""
    seconds: float = 0.0
    """From the old agent's stop to the end."""

    @property
    def copy(self) -> str:
        """The name of the state's copy, in the state's directory."""
        return f"state.db.before-{self.new}"


class Look(Struct, frozen=True, kw_only=True):
    """What is seen of the new agent, `elapsed` seconds after it was started; `version` "" if it does not answer."""

    elapsed: float
    active: str
    invocation: str = ""
    restarts: int = 0
    version: str = ""


class Watch(Struct, frozen=True):
    """Since when which invocation has been seen well."""

    since: float | None = None
    invocation: str = ""


Judgement = Literal["wait", "up", "down"]


def time_to_come_up(spent: float) -> float:
    """Seconds from the new version's start, if so many have gone since the old one's stop. A state that took long to
    be copied takes as long to be put back."""
    return max(UP_SECONDS - spent, LEAST_SECONDS)


def judge(watch: Watch, look: Look, wanted: str, limit: float) -> tuple[Watch, Judgement, str]:
    """Whether the new version is up, down (and why), or must be waited for; `limit` seconds after its start at most."""
    if look.active == "failed":
        return Watch(), "down", "systemd has given up starting it"
    if look.restarts >= RESTARTS:
        return Watch(), "down", f"it ended {look.restarts} times by itself"
    watch = _watched(watch, look, wanted)
    if watch.since is not None and look.elapsed - watch.since >= STEADY_SECONDS:
        return watch, "up", ""
    if look.elapsed >= limit:
        return watch, "down", f"within {limit:.0f} s it did not become {_lacking(look, wanted)}"
    return watch, "wait", ""


def _watched(watch: Watch, look: Look, wanted: str) -> Watch:
    if look.active != "active" or look.version != wanted:
        return Watch()
    if watch.since is None or watch.invocation != look.invocation:
        return Watch(look.elapsed, look.invocation)
    return watch


def _lacking(look: Look, wanted: str) -> str:
    if look.active != "active":
        return "ready"
    return "steady" if look.version == wanted else "one that answers"


class Contents(Struct, frozen=True):
    """Of a database of the state: its schema, and the number of the last of each thing that somebody was promised."""

    version: int
    promised: Mapping[str, int] = {}


def decided(mark: Mark) -> Literal["keep", "put-back"] | None:
    """What becomes of the state when the old version returns, where nobody has to look at it any more."""
    if not mark.copied:
        return "keep"
    return "put-back" if mark.putting_back else None


def way_back(before: Contents | None, now: Contents | None) -> Literal["keep", "put-back", "stay"]:
    """What becomes of the state when the old version returns; None stands for a file that is damaged.

    What the old version can open is kept as it is. What it cannot is replaced by the copy, unless the new version has
    accepted something since: that must not be lost, so the new version stays, and a person is told."""
    if before is None:
        return "keep"  # there is nothing that could be put back
    if now is None:
        return "put-back"
    if now.version == before.version:
        return "keep"
    since = any(number > before.promised.get(name, 0) for name, number in now.promised.items())
    return "stay" if since else "put-back"


def version_of_wheel(metadata: str) -> str:
    """The version in a wheel's METADATA; "" if it is another project's, or none that can name a directory."""
    headers = HeaderParser().parsestr(metadata, headersonly=True)
    version = str(headers.get("Version", "")).strip()
    ours = str(headers.get("Name", "")).strip().lower() == "homeport"
    return version if ours and re.fullmatch(r"[0-9][0-9A-Za-z.+!]{0,60}", version) else ""


def superfluous(there: list[str], mark: Mark) -> list[str]:
    """The directories of versions that are let go of: two stay after an upgrade, and what did not come up goes."""
    keep = {mark.old_directory, mark.new_directory}
    if mark.phase is not Phase.CONFIRMED:
        gone = mark.phase is Phase.RETURNED and mark.built and mark.new_directory in there
        return [mark.new_directory] if gone else []
    return [name for name in there if name not in keep]


def unit(mark: Mark) -> str:
    """Carries the upgrade out, and goes on with it at a boot. Until it says that it is ready no agent is started; if it
    fails for good, one is all the same."""
    return f"""\
# Made by `homeport install --wheel` for this one upgrade; it is removed at its end.
[Unit]
Description=homeport, upgrade from {mark.old} to {mark.new}
Before={SERVICE}
OnFailure={SERVICE}
StartLimitIntervalSec=900
StartLimitBurst=5

[Service]
Type=notify
NotifyAccess=main
ExecStart={mark.old_directory}/bin/python -I -m agent install --go-on
Restart=on-failure
RestartSec=2
TimeoutStartSec=600
UMask=0022

[Install]
WantedBy=multi-user.target
"""
