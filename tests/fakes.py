"""Small real things that stand in for slow ones. A fake of a Protocol passes that Protocol's contract test."""

import asyncio
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent.core.errors import StepFailed
from agent.core.model import Backup, Deployment, Fault, Launch, Probed, Release, Running
from agent.core.ports import Heard, unheard
from agent.core.reuse import ABSENT
from agent.core.settings import Reuse
from agent.system.units import UnitError, UnitState, Verb

START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


class FakeClock:
    """A clock that jumps: `sleep` returns at once, and the time has passed."""

    def __init__(self, now: datetime = START) -> None:
        self._now = now
        self._monotonic = 1000.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        await asyncio.sleep(0)

    def advance(self, seconds: float) -> None:
        """Both clocks go on."""
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds

    def set_wall(self, now: datetime) -> None:
        """Only the wall clock jumps, as it does on a Pi that finds its time server."""
        self._now = now


# --- what the work floor needs of the outside, in memory


@dataclass
class FakeDisk:
    """Directories by path, each with its files by name. It outlives the agent, as a disk does."""

    trees: dict[Path, dict[str, str]] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    """What a `FakeBuilder` really ran: `build NAME`, `always NAME` and `migrate NAME`."""


@dataclass(frozen=True)
class FakeCommit:
    """What a commit holds: all files, and what it stands on."""

    parent: str | None
    files: dict[str, str]
    message: str = "change\n"
    merged: str | None = None


def line_of(revision: str | None, commits: dict[str, FakeCommit]) -> list[str]:
    """A commit and all that it stands on, each once."""
    found: dict[str, None] = {}
    ahead = [revision]
    while ahead:
        here = ahead.pop()
        if here is not None and here not in found:
            found[here] = None
            ahead += [commits[here].merged, commits[here].parent]
    return list(found)


class FakeRemote:
    """A repository that others push to. While it is `gone`, nobody answers."""

    def __init__(self) -> None:
        self.commits: dict[str, FakeCommit] = {}
        self.heads: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self.gone = False

    def commit(self, changed: dict[str, str], branch: str = "main", message: str = "change\n") -> str:
        """A commit on the branch's tip; a new branch begins at main's."""
        parent = self.heads.get(branch, self.heads.get("main"))
        files = (self.commits[parent].files if parent else {}) | changed
        revision = hashlib.sha1(repr((len(self.commits), parent, files)).encode()).hexdigest()
        self.commits[revision] = FakeCommit(parent, files, message)
        self.heads[branch] = revision
        return revision

    def merge(self, branch: str) -> str:
        """Main takes a branch in: a commit with two parents."""
        other = self.heads[branch]
        revision = self.commit(self.commits[other].files, message=f"merge {branch}\n")
        self.commits[revision] = replace(self.commits[revision], merged=other)
        return revision

    def line(self, revision: str | None) -> list[str]:
        """A commit and all that it stands on."""
        return line_of(revision, self.commits)


class FakeSource:
    """`core.ports.Source` over a `FakeRemote`; `lay_out` can be cut off in its middle."""

    def __init__(self, remote: FakeRemote, disk: FakeDisk, branch: str = "main") -> None:
        self._remote = remote
        self._disk = disk
        self._branch = branch
        self._tip: str | None = None
        self._tags: dict[str, str] = {}
        self._known: dict[str, FakeCommit] = {}

    async def fetch(self) -> str:
        await asyncio.sleep(0)
        remote = self._remote
        if remote.gone:
            raise StepFailed("git-unreachable", "does not appear to be a git repository")
        if self._branch not in remote.heads:
            raise StepFailed("branch-missing", f"there is no branch {self._branch}")
        self._tip, self._tags = remote.heads[self._branch], dict(remote.tags)
        for head in (self._tip, *self._tags.values()):
            self._known.update({revision: remote.commits[revision] for revision in remote.line(head)})
        return self._tip

    def lose(self, revision: str) -> None:
        """The mirror lacks a commit until it is fetched again."""
        self._known.pop(revision, None)

    async def peek(self) -> str:
        await asyncio.sleep(0)
        if self._remote.gone:
            raise StepFailed("git-unreachable", "does not appear to be a git repository")
        if self._branch not in self._remote.heads:
            raise StepFailed("branch-missing", f"there is no branch {self._branch}")
        return self._remote.heads[self._branch]

    async def resolve(self, wanted: str) -> str:
        await asyncio.sleep(0)
        names: dict[str, str | None] = {
            name: revision for tag, revision in self._tags.items() for name in (tag, f"refs/tags/{tag}")
        }
        names |= {self._branch: self._tip, f"refs/heads/{self._branch}": self._tip}
        names |= {revision: revision for revision in self._known}
        found = names.get(wanted) or self._abbreviated(wanted)
        if found is None:
            raise StepFailed("revision-unknown", f"there is no {wanted}")
        if found not in self._line(self._tip):
            raise StepFailed("not-on-branch", f"{wanted} is not on {self._branch}")
        return found

    async def lay_out(self, revision: str, directory: Path) -> None:
        tree = self._disk.trees[directory]
        assert tree == {}, "the directory is empty"
        for name, text in self._known[revision].files.items():
            await asyncio.sleep(0)
            tree[name] = text

    async def parent(self, revision: str) -> str | None:
        await asyncio.sleep(0)
        return self._known[revision].parent

    async def descends(self, revision: str, ancestor: str) -> bool:
        await asyncio.sleep(0)
        return revision in self._known and ancestor in self._line(revision)

    async def changes(self, old: str, new: str) -> Sequence[str]:
        await asyncio.sleep(0)
        before, after = self._of(old).files, self._of(new).files
        return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))

    async def message(self, revision: str) -> str:
        await asyncio.sleep(0)
        return self._of(revision).message

    def _of(self, revision: str) -> FakeCommit:
        if revision not in self._known:
            raise StepFailed("revision-unknown", f"there is no {revision}")
        return self._known[revision]

    def _abbreviated(self, wanted: str) -> str | None:
        found = [revision for revision in self._known if len(wanted) >= 7 and revision.startswith(wanted)]
        return found[0] if len(found) == 1 else None

    def _line(self, revision: str | None) -> list[str]:
        return line_of(revision, self._known)


class FakeReleases:
    """`core.ports.Releases` without shared paths. What a release's marker covers is its files from git."""

    def __init__(self, disk: FakeDisk, root: Path = Path("/srv/scraper")) -> None:
        self._disk = disk
        self._root = root
        self._markers: dict[str, dict[str, str]] = {}
        self._snapshot: dict[str, set[str]] = {}
        self._links: dict[str, dict[str, str]] = {}
        self.link: str | None = None

    def path(self, name: str) -> Path:
        return self._root / "releases" / name

    async def ready(self) -> None:
        await asyncio.sleep(0)

    async def begin(self, name: str) -> bool:
        await asyncio.sleep(0)
        place = self._checked(name)
        if name in self._markers:
            try:
                await self.verify(name)
            except StepFailed:
                if self.link == name:
                    raise
                del self._markers[name]
            else:
                return False
        for other in [path for path in self._disk.trees if path.name not in (*self._markers, self.link)]:
            del self._disk.trees[other]
        self._disk.trees[place] = {}
        return True

    async def share(self, name: str) -> None:
        await asyncio.sleep(0)

    async def seal(self, release: Release) -> None:
        await asyncio.sleep(0)
        if release.name in self._markers:
            return
        tree = self._disk.trees.get(self.path(release.name), {})
        lost = self._snapshot[release.name] - tree.keys()
        lost |= {path for path, builder in self._linked(release.name) if tree.get(path) != f"-> {builder}"}
        if lost:
            raise StepFailed("release-damaged", f"the build removed {sorted(lost)}")
        self._markers[release.name] = {name: tree[name] for name in self._snapshot[release.name]}

    async def snapshot(self, name: str) -> None:
        await asyncio.sleep(0)
        self._snapshot = {name: set(self._disk.trees[self.path(name)])}
        self._links.pop(name, None)

    async def ingredients(self, name: str, wanted: Reuse) -> dict[str, str]:
        await asyncio.sleep(0)
        tree = self._disk.trees[self.path(name)]
        self._require_free(name, wanted.paths)
        return {
            path: hashlib.sha256(tree[path].encode()).hexdigest() if path in tree else ABSENT
            for path in wanted.key
        }

    async def offers(self, name: str, paths: Sequence[str]) -> bool:
        await asyncio.sleep(0)
        return name in self._markers and all(self._is_own(name, path) for path in paths)

    async def take_over(self, name: str, builder: str, paths: Sequence[str]) -> None:
        self._require_free(name, paths)
        for path in paths:
            await asyncio.sleep(0)
            self._links.setdefault(name, {})[path] = builder
            self._disk.trees[self.path(name)][path] = f"-> {builder}"

    def _require_free(self, name: str, paths: Sequence[str]) -> None:
        if there := [path for path in paths if path in self._disk.trees[self.path(name)]]:
            raise StepFailed("tree-refused", f"{there} stand in the repository")

    def _is_own(self, name: str, path: str) -> bool:
        return not self._disk.trees.get(self.path(name), {}).get(path, "->").startswith("->")

    def _linked(self, name: str) -> list[tuple[str, str]]:
        return list(self._links.get(name, {}).items())

    def lose_all(self) -> None:
        """Somebody removes every release, also the one that runs."""
        for name in self._markers:
            self._disk.trees.pop(self.path(name), None)
        self._markers, self.link = {}, None

    def forget(self) -> None:
        """The agent ended, and with it what was only in its memory."""
        self._snapshot = {}

    async def verify(self, name: str) -> None:
        await asyncio.sleep(0)
        tree = self._disk.trees.get(self._checked(name))
        if name not in self._markers or tree is None:
            raise StepFailed("no-release", f"{name} has no marker")
        lost = self._markers[name].keys() - tree.keys()
        lost |= {
            path
            for path, builder in self._linked(name)
            if not self._is_own(builder, path) or path not in tree
        }
        if lost:
            raise StepFailed("release-damaged", f"{sorted(lost)} are gone", fault=Fault.WORLD)
        if any(tree[file] != text for file, text in self._markers[name].items()):
            raise StepFailed("release-changed", f"{name} was edited")

    async def point(self, name: str) -> None:
        await asyncio.sleep(0)
        self._checked(name)
        if name not in self._markers:
            raise StepFailed("no-release", f"{name} has no marker")
        self.link = name

    async def clear(self) -> None:
        await asyncio.sleep(0)
        self.link = None

    async def current(self) -> str | None:
        await asyncio.sleep(0)
        return self.link if self.link is not None and self.path(self.link) in self._disk.trees else None

    async def names(self) -> list[str]:
        await asyncio.sleep(0)
        return sorted(self._markers, key=lambda name: int(name.partition("-")[0]))

    async def remove(self, name: str) -> None:
        await asyncio.sleep(0)
        place = self._checked(name)
        if self.link == name:
            return
        self._markers.pop(name, None)
        self._links.pop(name, None)
        await asyncio.sleep(0)
        self._disk.trees.pop(place, None)

    def _checked(self, name: str) -> Path:
        if re.fullmatch(r"[0-9]+-[0-9a-f]{7}", name) is None:
            raise StepFailed("no-release", f"{name!r} is no name of a release")
        return self.path(name)


class FakeBuilder:
    """`core.ports.Builder`: runs what the release's files `build`, `always` and `migrate` say, line by line:
    `say TEXT`, `write NAME TEXT`, `remove NAME`, `fail`, `full`, `hang`."""

    def __init__(self, disk: FakeDisk) -> None:
        self._disk = disk

    async def build(self, launch: Launch, heard: Heard = unheard, *, reused: bool = False) -> str:
        output = "" if reused else await self._run("build", launch, heard, "", "build")
        return await self._run("always", launch, heard, output, "build")

    async def migrate(self, launch: Launch, heard: Heard = unheard) -> str:
        return await self._run("migrate", launch, heard, "", "migrate")

    async def _run(self, script: str, launch: Launch, heard: Heard, output: str, kind: str) -> str:
        tree = self._disk.trees[Path(launch.directory)]
        if script in tree:
            self._disk.ran.append(f"{script} {launch.release}")
        for line in tree.get(script, "").splitlines():
            await asyncio.sleep(0)
            heard(output)
            match line.split(" ", 2):
                case ["say", *words]:
                    output += " ".join(words) + "\n"
                case ["write", name, text]:
                    tree[name] = text
                case ["remove", name]:
                    del tree[name]
                case ["hang"]:
                    raise StepFailed(f"{kind}-timeout", "not done in time", output=output)
                case ["full"]:
                    raise StepFailed("disk-full", "No space left on device", output=output)
                case _:
                    raise StepFailed(f"{kind}-failed", "exit status 3", output=output)
        return output


STOP_TURNS = 20
"""So many turns of the loop a `FakeRuntime` needs until what it stopped is gone."""


class FakeRuntime:
    """`core.ports.Runtime`: a process that is as its release's file `app` says.

    good, or sick (never healthy), late (healthy three times, then sick), crash (dies as soon as somebody looks),
    missing (`check` says so), unstartable (only `start` does). `moods` changes that of a release later.
    It outlives the agent; `reboot` ends what runs.
    """

    def __init__(self, disk: FakeDisk, port: int = 9100) -> None:
        self._disk = disk
        self._port = port
        self._instances = 0
        self._answers = 0
        self._printed = ""
        self._directory = Path()
        self.running: Running | None = None
        self.moods: dict[str, str] = {}
        self.recovering = False
        """Whether somebody else starts it again."""
        self.acts: list[str] = []
        """`start NAME` and `stop NAME`, as they really happened."""

    async def look(self) -> Running | None:
        await asyncio.sleep(0)
        if self.mood == "crash":
            self.die()
        return self.running

    async def check(self, launch: Launch) -> None:
        await asyncio.sleep(0)
        if self._disk.trees[Path(launch.directory)].get("app") == "missing":
            raise StepFailed("start-failed", "there is no such program")

    async def start(self, launch: Launch) -> Running:
        await asyncio.sleep(0)
        if self.running is not None and self.running.release == launch.release:
            return self.running
        if self.running is not None:
            raise StepFailed("runtime-failed", f"{self.running.release} still runs")
        if Path(launch.directory) not in self._disk.trees:
            raise StepFailed("runtime-failed", f"{launch.directory} is not there")
        self._directory = Path(launch.directory)
        mood = self._mood_of(launch.release)
        if mood == "unstartable":
            raise StepFailed("start-failed", "No such file")
        self._instances += 1
        self._answers = 0
        self.running = Running(release=launch.release, instance=f"i{self._instances}", pid=self._instances)
        self._printed = f"{launch.release} is {mood}"
        self.acts.append(f"start {launch.release}")
        await asyncio.sleep(0)
        return self.running

    async def stop(self) -> None:
        await asyncio.sleep(0)
        if self.running is not None:
            self.acts.append(f"stop {self.running.release}")
        self.running = None
        for _ in range(STOP_TURNS):
            await asyncio.sleep(0)

    async def recovers(self) -> bool:
        await asyncio.sleep(0)
        return self.recovering

    async def listens(self, host: str, port: int) -> bool | None:
        await asyncio.sleep(0)
        return self.running is not None and port == self._port

    async def output(self) -> str:
        await asyncio.sleep(0)
        return self._printed

    @property
    def mood(self) -> str:
        """What runs is; empty if nothing does."""
        return self._mood_of(self.running.release) if self.running is not None else ""

    def answer(self) -> Probed:
        """What the service says of itself when it is asked."""
        self._answers += 1
        well = self.mood == "good" or (self.mood == "late" and self._answers <= 3)
        detail = f"{self.running.release} is {self.mood}" if self.running is not None else "no answer"
        return Probed(healthy=well, detail=detail, seconds=0.01)

    def die(self) -> None:
        """Its process ends by itself."""
        self.running = None

    reboot = die

    def _mood_of(self, release: str) -> str:
        return self.moods.get(release) or self._disk.trees.get(self._directory, {}).get("app", "good")


class FakeProbe:
    """`core.ports.Probe` of a `FakeRuntime`."""

    def __init__(self, runtime: FakeRuntime, address: tuple[str, int] | None = ("127.0.0.1", 9100)) -> None:
        self._runtime = runtime
        self.address = address

    async def ask(self, launch: Launch) -> Probed:
        await asyncio.sleep(0)
        return self._runtime.answer()


class FakeSaves:
    """`services.deployer.Saves`: backups that cost nothing. The caller must hold the lock."""

    def __init__(self, lock: asyncio.Lock, clock: FakeClock) -> None:
        self._lock = lock
        self._clock = clock
        self.made: list[Backup] = []

    async def create_locked(
        self, service: str, *, deployment: str | None = None, revision: str | None = None
    ) -> Backup:
        await asyncio.sleep(0)
        assert self._lock.locked(), "the caller holds the service's lock"
        now = self._clock.now()
        made = Backup(
            id=f"b{len(self.made) + 1}", service=service, at=now, state="ok", bytes=1, stored_bytes=1,
            deployment=deployment, revision=revision, verified_at=now,
        )  # fmt: skip
        self.made.append(made)
        return made

    async def restore_locked(self, deployment: Deployment) -> str:
        await asyncio.sleep(0)
        assert self._lock.locked(), "the caller holds the service's lock"
        return (
            f"the schema was migrated; the backup from before: {deployment.backup}"
            if deployment.migrated
            else ""
        )


class FakeUnits:
    """`system.units.Units` of one unit, which is as it was told to be. The real ways are tried on a virtual Pi."""

    def __init__(self, active: str = "active", load: str = "loaded") -> None:
        self.state = UnitState(load=load, active=active, sub="running" if active == "active" else active)
        self.errors: list[UnitError] = []
        """What the next looks fail with."""

    async def look(self, unit: str) -> UnitState:
        del unit
        await asyncio.sleep(0)
        if self.errors:
            raise self.errors.pop(0)
        return self.state

    async def call(self, verb: Verb, unit: str, *, patience: float) -> str:
        if verb is Verb.RESET_FAILED:  # there is nothing to forget
            return "done"
        raise AssertionError(f"{verb} {unit} within {patience}")

    async def memory(self, unit: str) -> int | None:
        del unit
        return None

    async def close(self) -> None:
        """Holds nothing."""
