"""Where a submodule lies: .gitmodules is a pushed file, and what it names is looked at like any address from outside.

A submodule must lie where the repository lies: on the same host, or, if the repository is a path, beside or below it.
So a commit can neither send the agent (and what lets it in) elsewhere nor bring files of this machine into a release.
"""

import posixpath

from agent.core.errors import StepFailed
from agent.core.repository import head_and_path, host_of, is_path, refusal, transport

MAX_DEPTH = 4
"""How deep submodules of submodules may go."""


def urls(listing: bytes) -> dict[bytes, str]:
    """The URL of each submodule by its path: out of `git config -z --list` of .gitmodules, the last word counts."""
    paths: dict[bytes, bytes] = {}
    found: dict[bytes, str] = {}
    for record in listing.split(b"\0"):
        key, _, value = record.partition(b"\n")
        name, _, option = key.rpartition(b".")
        if name.startswith(b"submodule.") and option == b"path":
            paths[name] = value
        elif name.startswith(b"submodule.") and option == b"url":
            found[name] = value.decode("utf-8", "replace")
    return {path: found[name] for name, path in paths.items() if name in found}


def address_of(url: str, base: str, repository: str) -> str:
    """The whole address of a submodule. `base`: of what it is a submodule; `repository`: the configured one.

    Raises submodule-refused.
    """
    address = _joined(base, url) if url.startswith(("./", "../")) else url
    problem = refusal(address)
    if problem is not None:
        raise StepFailed("submodule-refused", f"its address {problem[0]}")
    if is_path(address):
        address = posixpath.normpath(address)
    if not is_near(address, repository):
        near = "beside the repository" if is_path(repository) else "on the repository's own host"
        raise StepFailed("submodule-refused", f"its address does not lie {near}")
    return address


def is_near(address: str, repository: str) -> bool:
    """Whether an address lies where the repository lies. Paths are normal and absolute."""
    way, own_way = transport(address), transport(repository)
    if "path" in (way, own_way):
        beside = posixpath.dirname(address) == posixpath.dirname(repository)
        below = address.startswith(repository.rstrip("/") + "/")
        return way == own_way and address.startswith("/") and (beside or below)
    (host, port), (own_host, own_port) = host_of(address), host_of(repository)
    return host == own_host and (way != own_way or port == own_port)


def _joined(base: str, url: str) -> str:
    """A relative URL, as git-submodule(1) reads it: `../` takes one name away from the end of the base."""
    head, path = head_and_path(base)
    parts = [part for part in path.split("/") if part]
    for part in url.split("/"):
        if part == ".." and not parts:
            raise StepFailed("submodule-refused", "its address goes up further than there is anything")
        if part == "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return head + ("/" if path.startswith("/") else "") + "/".join(parts)
