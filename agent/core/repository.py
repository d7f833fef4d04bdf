"""The address of a git repository: what is allowed, and whether it is a path.

Allowed are https, ssh, `user@host:path` and plain paths. Everything else that git understands is refused: `ext::`
runs a command, `http://` and `git://` are neither private nor authentic, and a password in an address ends up in
logs and process lists (R-GIT-1, R-GIT-11).
"""

import re
from typing import Literal
from urllib.parse import urlsplit

from agent.core.shapes import split_url

Transport = Literal["path", "https", "ssh"]

_SCP_LIKE = re.compile(r"(?:([^/@:]+)@)?(\[[^\]/]+\]|[^/@:\[\]]+):(.*)")
_HELPER = re.compile(r"[A-Za-z0-9+.-]+::")
_BRACKETED = re.compile(r"\[([^:\]]+):(\d+)\]")  # git's own short form with a port: [host:2222]:path
_GITHUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9._-]{1,100}")


def is_path(repository: str) -> bool:
    """Whether git would look for it on this machine."""
    return (
        "://" not in repository
        and _HELPER.match(repository) is None
        and _SCP_LIKE.fullmatch(repository) is None
    )


def transport(repository: str) -> Transport:
    """How git gets to an address that is allowed."""
    if is_path(repository):
        return "path"
    return "https" if repository.startswith("https://") else "ssh"


def host_of(repository: str) -> tuple[str, int]:
    """Name and port of the machine that an address (no path) lies on, as ssh and git look it up."""
    if "://" in repository:
        split = urlsplit(repository)
        default = 443 if split.scheme == "https" else 22
        return (split.hostname or "").lower(), split.port or default
    found = _SCP_LIKE.fullmatch(repository)
    host = found[2] if found else ""
    if with_port := _BRACKETED.fullmatch(host):
        return with_port[1].lower(), int(with_port[2])
    return host.strip("[]").lower(), 22


def head_and_path(repository: str) -> tuple[str, str]:
    """An address as what names the machine (nothing, for a path) and the path on it."""
    if is_path(repository):
        return "", repository
    if "://" in repository:
        split = urlsplit(repository)
        return f"{split.scheme}://{split.netloc}", split.path
    found = _SCP_LIKE.fullmatch(repository)
    path = found[3] if found else ""
    return repository.removesuffix(path), path


def is_github_name(name: str) -> bool:
    """Whether it has the shape `owner/name`."""
    return _GITHUB_NAME.fullmatch(name) is not None and name.split("/")[1] not in (".", "..")


def refusal(repository: str) -> tuple[str, str] | None:  # noqa: PLR0911 - one reason after the other
    """Why an address is not allowed, and what to write instead; None: it is. Never repeats the address."""
    if not repository.strip() or re.search(r"[\x00-\x1f\x7f]", repository):
        return "must be a URL or a path", ""
    if repository.startswith("-"):
        return "must not begin with a dash: git would take it for an option", ""
    if _HELPER.match(repository):
        return "names a transport that runs commands", "use https, ssh or a path"
    if "://" in repository:
        return _refused_url(repository)
    if is_path(repository):
        return (
            ("is a path with `~`, which is not expanded", "write the whole path")
            if repository[0] == "~"
            else None
        )
    found = _SCP_LIKE.fullmatch(repository)
    if found is None or found[2].startswith("-") or not found[3].strip("/"):
        return "names no valid host, or no repository on it", ""
    return None


def _refused_url(repository: str) -> tuple[str, str] | None:  # noqa: PLR0911 - one reason after the other
    split = split_url(repository)
    if split is None or " " in repository:
        return "is not a valid URL", ""
    if split.scheme == "file":
        return "must not be a file:// URL", "write the path itself"
    if split.scheme not in ("https", "ssh"):
        return "must use https or ssh, or be a path", "other protocols are neither private nor authentic"
    if not split.hostname or split.hostname.startswith("-"):
        return "names no valid host", ""
    if split.password is not None or (split.scheme == "https" and split.username is not None):
        return "must not hold a user's password or token", "use an ssh key that can only read"
    if len(split.path.strip("/")) == 0:
        return "names no repository", ""
    return None
