"""Looks at the parts of an installed homeport, and makes them as they are wanted. Only root can.

A root that writes where another user can write is led astray by a link: so what is to be another user's is made below
directories that belong to root, owner and mode are set through an open handle, and a link is never followed at its end.
"""

import grp
import os
import pwd
import secrets
import stat
import sys
from collections.abc import Callable
from pathlib import Path

from agent.core.errors import Refused
from agent.core.installing import HOME, USER, Change, Kind, Seen, Wanted
from agent.system import commands, files

SECRET_BYTES = 32
TREE_SECONDS = 600.0
"""So long it may take to go through everything that a service keeps, on a slow card."""
_MOST = 1 << 20


class Accounts:
    """Users and groups of this machine, by name."""

    def ids(self, owner: str, group: str) -> tuple[int, int]:
        """Their numbers. Raises KeyError."""
        return pwd.getpwnam(owner).pw_uid, grp.getgrnam(group).gr_gid

    def names(self, uid: int, gid: int) -> tuple[str, str]:
        """Their names; of whom nobody knows, the number."""
        return _name(lambda: pwd.getpwuid(uid).pw_name, uid), _name(lambda: grp.getgrgid(gid).gr_name, gid)

    def look(self, want: Wanted) -> Seen:
        """A user, or a membership."""
        try:
            pwd.getpwnam(want.name)
            group = grp.getgrnam(want.content or want.name)
        except KeyError:
            return Seen()
        there = want.kind is Kind.USER or want.name in group.gr_mem
        return Seen(kind=str(want.kind) if there else "")

    def make(self, want: Wanted) -> None:
        """Raises Refused if the system's programs do."""
        if want.kind is Kind.MEMBER:
            _demand("usermod", "--append", "--groups", want.content, want.name)
            return
        _demand("groupadd", "--system", "--force", want.name)
        _demand(
            "useradd", "--system", "--gid", want.name, "--no-create-home",
            "--home-dir", HOME if want.name == USER else "/nonexistent",
            "--shell", "/usr/sbin/nologin", want.name,
        )  # fmt: skip

    def remove(self, want: Wanted) -> None:
        """The user, and with it the group of its name."""
        _demand("userdel", want.name)


class Machine:
    """Below `root`, which is / but in tests. `made` are the secrets that were made, by their paths."""

    def __init__(self, root: Path = Path("/"), accounts: Accounts | None = None) -> None:
        self._root = root
        self._accounts = accounts or Accounts()
        self.made: dict[str, str] = {}

    def look(self, want: Wanted) -> Seen:
        """What is there under this name."""
        if want.kind in (Kind.USER, Kind.MEMBER):
            return self._accounts.look(want)
        path = self._at(want.name)
        if want.kind in (Kind.ACCESS, Kind.WORKPLACE):
            has = _has_access if want.kind is Kind.ACCESS else _has_workplace
            return Seen(kind=str(want.kind) if has(path, want.content) else "")
        try:
            status = path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return Seen()
        owner, group = self._accounts.names(status.st_uid, status.st_gid)
        kind, content, empty = "other", "", False
        if stat.S_ISLNK(status.st_mode):
            kind, content = "link", str(path.readlink())
        elif stat.S_ISDIR(status.st_mode):
            kind, empty = "directory", not any(path.iterdir())
        elif stat.S_ISREG(status.st_mode):
            kind = "file"
            content = self.read(want.name) if want.kind is Kind.FILE else ""
        return Seen(
            kind=kind,
            owner=owner,
            group=group,
            mode=stat.S_IMODE(status.st_mode),
            content=content,
            empty=empty,
        )

    def read(self, name: str) -> str:
        """A file's text; "" if there is none."""
        try:
            with self._at(name).open("rb") as file:
                return file.read(_MOST).decode("utf-8", "replace")
        except (FileNotFoundError, NotADirectoryError):
            return ""

    def names(self, directory: str) -> list[str]:
        """Of the entries of a directory, sorted; none if it is not there."""
        place = self._at(directory)
        return sorted(entry.name for entry in place.iterdir()) if place.is_dir() else []

    def demand(self, change: Change) -> None:
        """Raises Refused, before anything is changed, where `carry_out` would refuse it."""
        if change.what.kind is Kind.DIRECTORY and change.what.owner != "root":
            self._demand_roots_way(self._at(change.what.name))

    def carry_out(self, change: Change) -> None:
        """Does it. Raises Refused, OSError."""
        want = change.what
        path = self._at(want.name)
        if change.act == "remove":
            self._remove(want, path)
        elif want.kind in (Kind.USER, Kind.MEMBER):
            self._accounts.make(want)
        elif want.kind is Kind.ACCESS:
            _give_access(path, want.content)
        elif want.kind is Kind.WORKPLACE:
            _give_workplace(path, want.content)
        elif change.act == "set":
            if want.owner != "root":
                self._demand_roots_way(path)
            self._own(path, want)
        elif want.kind is Kind.DIRECTORY:
            self._make_directory(path, want)
        else:
            self._make_file(path, want)

    def _remove(self, want: Wanted, path: Path) -> None:
        if want.kind in (Kind.USER, Kind.MEMBER):
            self._accounts.remove(want)
            return
        files.remove_tree(path)
        files.fsync_directory(path.parent)
        if (
            path.parent.name.endswith(".service.d")
            and path.parent.is_dir()
            and not any(path.parent.iterdir())
        ):
            path.parent.rmdir()  # it was made for ours

    def _make_directory(self, path: Path, want: Wanted) -> None:
        if want.owner != "root":
            self._demand_roots_way(path)
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.mkdir(mode=0o700)
        self._own(path, want)
        files.fsync_directory(path.parent)

    def _make_file(self, path: Path, want: Wanted) -> None:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if want.kind is Kind.LINK:
            files.link_atomic(want.content, path)
        elif want.kind is Kind.KEY:
            _make_key(path)
        else:
            text = want.content
            if want.kind is Kind.SECRET:
                text = self.made[want.name] = secrets.token_hex(SECRET_BYTES)
            if want.name.startswith("/etc/sudoers.d/"):
                _check_sudoers(text)
            files.remove_asides(path)
            uid, gid = self._accounts.ids(want.owner, want.group)
            files.write_atomic(path, text.encode(), mode=want.mode, owner=(uid, gid))
            return
        if want.kind is Kind.KEY:
            self._own(path, want)

    def _own(self, path: Path, want: Wanted) -> None:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.fchown(handle, *self._accounts.ids(want.owner, want.group))
            os.fchmod(handle, want.mode)  # after it: a change of owner takes the setgid bit away
            os.fsync(handle)
        finally:
            os.close(handle)

    def _demand_roots_way(self, path: Path) -> None:
        """Raises Refused where somebody else than root could change the way there."""
        place = Path(os.path.realpath(path.parent))
        for above in (place, *place.parents):
            if not above.is_relative_to(self._root) or not above.exists():
                continue
            if above.stat().st_uid != os.geteuid():
                owner = self._accounts.names(above.stat().st_uid, 0)[0]
                hint = f"make {path} yourself, or choose a place whose directories belong to root"
                raise Refused(
                    409, "not-installable", f"{path} lies below {above}, which belongs to {owner}", hint=hint
                )

    def _at(self, name: str) -> Path:
        return self._root / name.lstrip("/")


def _name(ask: Callable[[], str], number: int) -> str:
    try:
        return ask()
    except KeyError:
        return str(number)


def _has_access(directory: Path, user: str) -> bool:
    shown = [commands.run("getfacl", "-cp", "--", str(place)) for place in (directory, directory / "shared")]
    wanted = (f"default:user:{user}:r-x", f"default:user:{user}:rwx")
    return all(
        not done.status and line in done.text.split() for done, line in zip(shown, wanted, strict=True)
    )


def _give_access(directory: Path, user: str) -> None:
    """Not by root, but by whose directory it is."""
    _as_the_agent(sys.executable, "-I", "-m", "agent.system.entrust", str(directory), user)


def _has_workplace(releases: Path, user: str) -> bool:
    done = commands.run("getfacl", "-cp", "--", str(releases))
    wanted = {f"user:{user}:--x", f"default:user:{user}:rwx"}
    return not done.status and wanted <= set(done.text.split())


def _give_workplace(releases: Path, user: str) -> None:
    """Who builds gets through to a release that it is told, and may write in those that are made from now on, until the
    agent closes them. Without the setgid bit: a unit that may not set it could not change the mode of a directory."""
    rules = f"u:{user}:--x,d:u::rwx,d:u:{user}:rwx,d:u:{USER}:rwx,d:g::r-x,d:o::-"
    script = 'mkdir -p "$1" && chmod g-s,o= "$1" && setfacl -m "$2" -- "$1"'
    _as_the_agent("/bin/sh", "-c", script, "sh", str(releases), rules)


def _as_the_agent(*argv: str) -> None:
    _demand("runuser", "-u", USER, "--", *argv, patience=TREE_SECONDS)


def _make_key(path: Path) -> None:
    """ssh-keygen writes with mode 0600 from the start, and syncs nothing: the key has its name when it is whole."""
    aside = path.with_name(f".{path.name}.new")
    halves = {Path(f"{aside}{end}"): Path(f"{path}{end}") for end in (".pub", "")}
    for half in halves:
        half.unlink(missing_ok=True)
    _demand("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "homeport", "-f", str(aside))
    files.syncfs(path.parent)
    for half, place in halves.items():
        half.replace(place)
    files.fsync_directory(path.parent)


def _check_sudoers(text: str) -> None:
    """One wrong line would take sudo away from everybody."""
    done = commands.run("visudo", "-c", "-f", "-", given=text)
    if done.status:
        raise Refused(409, "not-installable", f"visudo refuses the lines: {done.text}", hint="Install sudo.")


def _demand(*argv: str, patience: float = 60.0) -> None:
    done = commands.run(*argv, patience=patience)
    if done.status:
        raise Refused(409, "not-installable", f"{argv[0]} failed: {done.text}")
