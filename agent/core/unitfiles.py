"""What `homeport install` writes beside the units that are shipped: a first configuration, and drop-ins."""

from collections.abc import Iterable, Sequence

MADE = "# Made by `homeport install` from /etc/homeport/config.yaml: change that, and run it again.\n"

STARTER = """\
# The configuration of homeport: see docs/configuration.md for every option, `homeport check` for mistakes.
# Afterwards `sudo homeport install`: it gives the agent the rights that this file asks for, and no others.
github:
  webhook_secrets: [{credential: webhook-secret}]   # /etc/homeport/credentials/webhook-secret
services: {}
# One service; write `services:` above instead of `services: {}`, and take the signs off:
#   scraper:
#     source:
#       repository: git@github.com:me/scraper.git
#       key: {credential: deploy-key}               # /etc/homeport/credentials/deploy-key
#       host_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"]  # GitHub's
#     runtime: {kind: systemd, unit: scraper.service}
#     health:
#       probes: [{kind: http, url: "http://127.0.0.1:9100/health"}]
"""
"""A configuration that is valid and deploys nothing."""

JOURNAL = """\
# Made by `homeport install`: the journal must not fill the card.
[Journal]
SystemMaxUse=200M
"""

_SUDO = """\
# There is no polkit here: the agent asks sudo, which has to become root; /etc/sudoers.d/homeport says for what. Each of
# the lines below would set NoNewPrivileges=, and sudo would refuse: systemd.exec(5).
NoNewPrivileges=no
CapabilityBoundingSet=CAP_SETUID CAP_SETGID
SystemCallFilter=
SystemCallArchitectures=
RestrictAddressFamilies=
RestrictNamespaces=no
RestrictRealtime=no
RestrictSUIDSGID=no
PrivateDevices=no
ProtectKernelTunables=no
ProtectKernelModules=no
ProtectKernelLogs=no
ProtectClock=no
ProtectHostname=no
LockPersonality=no
"""


def drop_in(credentials: Iterable[tuple[str, str]], writable: Iterable[str], *, sudo: bool) -> str:
    """For homeport.service: which secrets systemd hands over (name, path), and where the agent may write."""
    lines = [f"LoadCredential={name}:{literal(path)}\n" for name, path in credentials]
    lines += [f"ReadWritePaths={quoted(path)}\n" for path in writable]
    return MADE + "[Service]\n" + "".join(lines) + (_SUDO if sudo else "")


def literal(text: str) -> str:
    """A value in which systemd.unit(5) finds no specifiers."""
    return text.replace("%", "%%")


def quoted(path: str) -> str:
    """One word of a list, as systemd.syntax(7) reads it."""
    escaped = literal(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"' if set(path) & set(" \t'\"\\") else escaped


def sets_journal_limit(texts: Sequence[str]) -> bool:
    """Whether one of these files of journald.conf(5) has a limit of its own."""
    lines = (line.strip() for text in texts for line in text.splitlines())
    return any(line.startswith("SystemMaxUse=") and line != "SystemMaxUse=" for line in lines)
