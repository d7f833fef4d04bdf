"""One part of the machine: how it must look, how it looks, and what is to be done to it."""

from dataclasses import dataclass, field
from enum import StrEnum

from agent.core.installing.names import USER


class Kind(StrEnum):
    """Of a part of the machine."""

    USER = "user"
    MEMBER = "member"
    DIRECTORY = "directory"
    FILE = "file"
    OWN = "own file"
    """A person's: only made."""
    SECRET = "secret"  # noqa: S105 - a word
    KEY = "key"
    LINK = "link"
    ACCESS = "access"
    """Of the user that a service's unit runs as, to the service's directory."""
    WORKPLACE = "workplace"
    """The place of a service's releases, for the user that builds them."""
    ABSENT = "absent"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One part: `name` is a path or a user; `content` a file's text, a link's target, the group of a member, or who is
    given access."""

    kind: Kind
    name: str
    why: str
    content: str = field(default="", repr=False)
    owner: str = "root"
    group: str = "root"
    mode: int = 0o644


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What is there under a part's name: `kind` is file, directory, link, user, member, other or "" for nothing."""

    kind: str = ""
    owner: str = ""
    group: str = ""
    mode: int = 0
    content: str = ""
    empty: bool = False


@dataclass(frozen=True)
class Change:
    """`act` is make, write, set (owner and mode), remove, or refuse: a person must look first, `say` says at what."""

    act: str
    what: Wanted
    say: str = ""


def compare(want: Wanted, seen: Seen) -> Change | None:
    """What is to be done to this part; None: nothing."""
    if want.kind is Kind.ABSENT:
        return Change("remove", want) if seen.kind else None
    if not seen.kind:
        return Change("make", want)
    if want.kind in (Kind.USER, Kind.MEMBER, Kind.ACCESS, Kind.WORKPLACE, Kind.LINK):
        return None  # a link: whatever is under that name, a person put it there
    return _compared(want, seen)


def _compared(want: Wanted, seen: Seen) -> Change | None:
    """For files and directories."""
    if refusal := _refusal(want, seen):
        return Change("refuse", want, refusal)
    if want.kind is Kind.FILE and seen.content != want.content:
        return Change("write", want)
    if (seen.owner, seen.group, seen.mode) != (want.owner, want.group, want.mode):
        return Change("set", want, f"was {seen.owner}:{seen.group} {seen.mode:04o}")
    return None


def _refusal(want: Wanted, seen: Seen) -> str:
    """Why a person must look first. Nothing of somebody else's is ever taken over."""
    expected = "directory" if want.kind is Kind.DIRECTORY else "file"
    if seen.kind != expected:
        masked = seen.kind == "link" and seen.content == "/dev/null"
        return (
            "is masked: `systemctl unmask` it first"
            if masked
            else f"is no {expected}: move it out of the way"
        )
    if want.owner != USER or seen.owner == USER:
        return ""
    if seen.owner != "root" or not seen.empty:
        return f"belongs to {seen.owner} already: `chown {USER}:{USER}` it if the agent is to deploy there"
    return ""
