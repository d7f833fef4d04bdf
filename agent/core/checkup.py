"""What `homeport doctor` makes of what was looked at: each figure or state becomes ok, a warning or an error.

Pure: `cli.doctor` looks. A check that could not look is a warning that says so, never ok.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from agent.core.units import write_size
from agent.core.upgrading import Mark, Phase

MIB = 1 << 20
FEW_BYTES, TOO_FEW_BYTES = 512 * MIB, 64 * MIB
FEW_INODES, TOO_FEW_INODES = 5_000, 200
FEW_MEMORY = 48 * MIB
DAY = 86400.0
SOON = 3600.0
"""Seconds that figures must be made of: less says nothing about a day."""
MOST_AT_REST = 20 * MIB
"""Bytes a day that the agent may write while it deploys nothing."""
MOST_ON_DISK = 4 << 30
"""Bytes a day: a server with little to do writes about a gigabyte, and a card of 16 GB lasts some ten terabytes."""


class Level(StrEnum):
    """How bad it is; only an error makes the exit status 1."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, what was found, and what to do."""

    name: str
    level: Level
    says: str
    hint: str = ""


def ok(name: str, says: str) -> Check:
    """Nothing to do."""
    return Check(name, Level.OK, says)


def warning(name: str, says: str, hint: str = "") -> Check:
    """To be known."""
    return Check(name, Level.WARNING, says, hint)


def error(name: str, says: str, hint: str = "") -> Check:
    """To be mended."""
    return Check(name, Level.ERROR, says, hint)


def of_unit(unit: str, found: Mapping[str, str]) -> Check:
    """A unit that a service runs as, by its properties of `systemctl show`; without any, systemd did not answer."""
    name = f"unit {unit}"
    load = found.get("LoadState", "")
    if load != "loaded":
        return _of_no_unit(unit, load)
    if found.get("Id", unit) != unit:
        hint = f"write `runtime.unit: {found['Id']}`: rights are given by that name"
        return error(name, f"is another name of {found['Id']}", hint)
    if found.get("NeedDaemonReload") == "yes":
        return warning(name, "its file was changed since systemd read it", "`systemctl daemon-reload`")
    if found.get("ActiveState") == "failed":
        return warning(name, "has failed", f"`systemctl status {unit}`, `journalctl -u {unit}`")
    if sockets := _lost_sockets(found):
        says = f"has a start limit: reached by crashes or by hand, it takes {sockets} along"
        hint = f"write `StartLimitIntervalSec=0` into [Unit] (`systemctl edit {unit}`)"
        return warning(name, f"{says}, which only root can open again", hint)
    return ok(name, found.get("ActiveState", ""))


def _lost_sockets(found: Mapping[str, str]) -> str:
    """Those that systemd would close together with a unit that it gives up; "" if there are none, or no limit."""
    sockets = " ".join(unit for unit in found.get("TriggeredBy", "").split() if unit.endswith(".socket"))
    limited = all(found.get(name, "0") != "0" for name in ("StartLimitIntervalUSec", "StartLimitBurst"))
    return sockets if limited else ""


def _of_no_unit(unit: str, load: str) -> Check:
    """Of one that cannot be started at all."""
    name = f"unit {unit}"
    if not load:
        return warning(name, "systemd does not answer: not looked at")
    if load == "masked":
        return error(name, "is masked: nothing can start it", f"`systemctl unmask {unit}`")
    hint = f"write /etc/systemd/system/{unit}, then `systemctl daemon-reload`"
    return error(name, f"systemd cannot load it: {load}", hint)


def of_rights(way: str, refused: Sequence[str], failure: str = "") -> Check:
    """What polkit or sudo itself says: `refused` are verbs with units that the agent needs. `failure`: it could not be
    asked."""
    if failure:
        return error("rights", f"{way} does not answer: {failure}", "`systemctl status polkit`")
    if refused:
        hint = "`sudo homeport install` gives them; a rule of your own that says no comes before"
        return error("rights", f"{way} refuses the agent: {', '.join(refused)}", hint)
    return ok("rights", f"{way} lets the agent start and stop its units")


def of_boot(*, enabled: bool) -> Check:
    """Whether systemd starts the agent with the machine."""
    if not enabled:
        return error("agent at boot", "nobody starts it with the machine", "`sudo homeport install` mends it")
    return ok("agent at boot", "it starts with the machine")


def of_upstream(path: str, serving: str | None) -> Check:
    """The file by which nginx sends a service's users to one of two colours; None: it names none."""
    name = f"nginx {path}"
    if serving is None:
        hint = "`sudo homeport install --nginx`, or the next deployment, writes it"
        return error(name, "is not there, not whole, or names other ports", hint)
    return ok(name, f"users are sent to {serving}")


def of_users(url: str, complaint: str) -> Check:
    """What users of a service complain about who come in through nginx; "" if nothing."""
    if complaint:
        hint = "mend that first: each deployment asks the same, and is taken back by it (nginx-unanswered)"
        return error(f"users of {url}", complaint, hint)
    return ok(f"users of {url}", "are answered")


def of_colour(unit: str, enabled: str) -> Check:
    """One of two instances: both are enabled, and a boot starts the one whose link is there."""
    if enabled != "enabled":
        says = f"is {enabled or 'not enabled'}: after a boot nothing serves until the agent starts it"
        return warning(f"unit {unit} at boot", says, f"`systemctl enable {unit}`")
    return ok(f"unit {unit} at boot", enabled)


def of_nginx(status: int, text: str) -> Check:
    """What `nginx -t` said."""
    if status:
        return error("nginx", f"refuses its configuration: {text}", "`nginx -t`")
    return ok("nginx", "its configuration is right")


def of_space(place: str, free_bytes: int, free_inodes: int | None) -> Check:
    """A file system. A deployment needs room for a release and a backup."""
    name, says = f"space {place}", f"{write_size(free_bytes // MIB * MIB)} free"
    if free_inodes is not None:
        says += f", {free_inodes} inodes"
    hint = "`homeport backup prune`, fewer `deploy.keep_releases`, or a larger disk"
    inodes = free_inodes if free_inodes is not None else FEW_INODES
    if free_bytes < TOO_FEW_BYTES or inodes < TOO_FEW_INODES:
        return error(name, says, hint)
    if free_bytes < FEW_BYTES or inodes < FEW_INODES:
        return warning(name, says, hint)
    return ok(name, says)


def of_secret_file(path: str, owner: str, mode: int, *, key: bool) -> Check:
    """A file with a secret or a private key: who may read it."""
    name = f"{'key' if key else 'secret'} {path}"
    says = f"{owner} {mode:04o}"
    if mode & 0o007:
        return error(
            name, f"{says}: open to every user of this machine", f"`chmod 0600 {path}`, and make a new one"
        )
    if key and mode & 0o070:
        return error(name, f"{says}: open to its group, and ssh takes no such key", f"`chmod 0600 {path}`")
    if owner not in ("root", "homeport"):
        return warning(name, f"{says}: belongs to another user", f"`chown root:root {path}`")
    return ok(name, says)


def of_clock(synchronized: str) -> Check:
    """What `timedatectl` says: yes, no, or nothing."""
    if synchronized == "yes":
        return ok("clock", "is synchronised")
    says = "is not synchronised" if synchronized == "no" else "cannot be told: timedatectl does not answer"
    return warning("clock", says, "`timedatectl set-ntp true`, and let UDP port 123 out")


def of_memory(available: int) -> Check:
    """What is left for a build."""
    says = f"{write_size(available // MIB * MIB)} available"
    if available < FEW_MEMORY:
        return warning("memory", says, "builds may be killed: `build.memory` bounds them, swap helps")
    return ok("memory", says)


def of_counting(*, counted: bool) -> Check:
    """Whether limits of memory hold."""
    if counted:
        return ok("limits of memory", "hold: the kernel counts what each unit takes")
    says = "do not hold: the kernel does not count what a unit takes, so that one service can starve all"
    hint = "add `cgroup_enable=memory` to the one line of /boot/firmware/cmdline.txt, and reboot"
    return warning("limits of memory", says, hint)


def of_backups(name: str, *, same_disk: bool) -> Check:
    """A backup on the disk of its data survives a bad version, not the disk."""
    title = f"backups of {name}"
    if not same_disk:
        return ok(title, "are on another disk than the data")
    return warning(
        title, "are on the disk of the data: they do not survive it", "copy `state_dir` elsewhere by night"
    )


def of_own_writes(written: int | None, seconds: float, *, deployed: bool) -> Check:
    """What the agent wrote since its start; `deployed`: with releases and backups among it. None: not looked at."""
    name = "writes of the agent"
    if written is None:
        return warning(name, "cannot be told: the kernel does not say what it writes")
    says = f"{_about(written)} in {_span(seconds)}{', with deployments' if deployed else ''}"
    if seconds >= SOON and not deployed and written / seconds * DAY > MOST_AT_REST:
        hint = "raise `monitor.every`, and look into `journalctl -u homeport` for what it repeats"
        return warning(name, f"{says}: more than {write_size(MOST_AT_REST)} a day at rest", hint)
    return ok(name, says)


def of_disk_writes(place: str, written: int | None, seconds: float) -> Check:
    """What everybody wrote to a disk since the boot. None: it cannot be told."""
    name = f"writes to the disk of {place}"
    if written is None:
        return warning(name, "cannot be told: it is no disk of its own")
    says = f"{_about(written)} in {_span(seconds)}"
    if seconds >= SOON and written / seconds * DAY > MOST_ON_DISK:
        return warning(name, f"{says}: a card wears out soon", "`sudo iotop -ao` says who writes")
    return ok(name, says)


def _about(size: int) -> str:
    return write_size(size // MIB * MIB) if size >= MIB else "less than 1M"


def _span(seconds: float) -> str:
    if seconds < 2 * SOON:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / SOON:.0f} hours" if seconds < 2 * DAY else f"{seconds / DAY:.0f} days"


def of_upgrade(pending: Mark | None, last: Mark | None, version: str) -> Check:
    """An upgrade that has not ended, or how the last one did, as long as that says something of this version."""
    name = "upgrade"
    if pending is not None:
        says = f"from {pending.old} to {pending.new} has not ended: {pending.phase}"
        return warning(name, says, "`systemctl status homeport-upgrade`, `journalctl -u homeport-upgrade`")
    if last is None or version not in (last.old, last.new) or last.phase is Phase.CONFIRMED:
        return ok(name, "none is under way")
    hint = "`journalctl -u homeport -u homeport-upgrade` tells why"
    if last.phase is Phase.RETURNED:
        says = f"{last.new} did not come up on {last.at}, {last.old} runs again: {last.reason}"
        return warning(name, says, hint)
    return error(name, f"from {last.old} to {last.new} failed on {last.at}: {last.reason}", hint)


def of_status(services: Mapping[str, Mapping[str, Any]]) -> list[Check]:
    """What the running agent says of each service."""
    return [check for name, service in services.items() for check in _of_service(name, service)]


def _of_service(name: str, service: Mapping[str, Any]) -> Sequence[Check]:
    title, found = f"service {name}", []
    current, last = service.get("current"), service.get("last")
    if service.get("hold"):
        reason = service["hold"].get("reason", "")
        found.append(warning(title, f"is held: {reason}", f"`homeport resume {name}`"))
    if current:
        says = f"deployment {current['id']} is {current['state']}"
        if current["state"] == "queued":
            found.append(ok(title, says))
        else:
            found.append(
                warning(title, f"{says}, not confirmed yet", f"`homeport logs {current['id']} --follow`")
            )
    if last and last["state"] == "broken":
        hint = f"`homeport history {name}`, then `homeport rollback {name}`"
        found.append(error(title, f"deployment {last['id']} and its rollback failed", hint))
    if service.get("health") == "unhealthy":
        found.append(error(title, f"is unhealthy: {service.get('health_detail', '')}", "`homeport status`"))
    return found or [ok(title, str(service.get("health", "")))]
