"""What the services need from the outside, as Protocols; `adapters/` answers them.

Rules for every method, unless it says otherwise:
- it is a coroutine and never blocks the loop; it may be cancelled at any await and leaves nothing running;
- it can be run twice: what is already done is left as it is;
- it raises `StepFailed` with a code of `core.codes` for an honest "no", and nothing else on purpose;
- when it returns, what it wrote is on the device (fsync or syncfs), so that the journal may say "done".
"""

from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

from agent.core.model import Backup, BackupFile, BackupMember, Launch, Need, Probed, Release, Running
from agent.core.restores import Contents, Part, Swap
from agent.core.settings import Reuse


class Clock(Protocol):
    """Time, as an argument. Durations come from `monotonic`; `now` is for people, cron and retention."""

    def now(self) -> datetime:
        """The wall clock, aware, UTC."""

    def monotonic(self) -> float:
        """Seconds that only grow."""

    async def sleep(self, seconds: float) -> None:
        """Waits."""


class Source(Protocol):
    """One service's repository: a bare mirror beside the releases, refreshed from the configured remote."""

    async def fetch(self) -> str:
        """Brings the mirror up to date and returns the configured branch's tip (hex).

        Raises git-unreachable, git-refused, git-timeout, key-unusable, branch-missing, disk-full. A corrupt mirror is
        moved aside and cloned anew before anything is said.
        """

    async def peek(self) -> str:
        """The configured branch's tip (hex) as the remote names it now: one question, no objects.

        Neither reads nor writes the mirror: it may be asked while any other method runs. Raises git-unreachable,
        git-refused, git-timeout, branch-missing.
        """

    async def resolve(self, wanted: str) -> str:
        """The full hash of a sha, branch or tag, from the mirror as it was last fetched.

        Raises revision-unknown; not-on-branch if it is not an ancestor of, or equal to, the branch's tip.
        """

    async def lay_out(self, revision: str, directory: Path) -> None:
        """Writes the files of `revision` into the empty `directory`: no `.git`, no hooks, no filters run.

        Submodules and LFS objects are fetched here, if they are configured. Raises tree-refused for a symlink that
        leaves the directory, submodule-refused, submodule-missing, lfs-failed, mirror-corrupt, git-timeout, disk-full,
        and for what it fetches whatever `fetch` raises. It is `Releases.seal` that makes it durable: without a marker
        it does not count.
        """

    async def parent(self, revision: str) -> str | None:
        """The first parent of a commit, or None."""

    async def descends(self, revision: str, ancestor: str) -> bool:
        """Whether `ancestor` is `revision` or one that it stands on. False for a commit that the mirror lacks."""

    async def changes(self, old: str, new: str) -> Sequence[str]:
        """The paths that differ between two commits. Raises revision-unknown for one that the mirror lacks."""

    async def message(self, revision: str) -> str:
        """What the commit's author wrote, as it was written. Raises revision-unknown."""


class Releases(Protocol):
    """One service's directory: `releases/<name>`, `shared/`, the `current` link."""

    def path(self, name: str) -> Path:
        """Where the release of this name lies, absolute. (Not a coroutine: no I/O.)"""

    async def ready(self) -> None:
        """Checks what must hold before work begins: writable, `current` is a link or absent. Makes directories.

        Raises current-not-a-link, not-writable, disk-full (below the floor of free bytes or inodes).
        """

    async def begin(self, name: str) -> bool:
        """Makes `releases/<name>` as an empty directory; what was left there without a marker is removed.

        False: it stands there complete (its marker verifies): nothing more to build.
        """

    async def share(self, name: str) -> None:
        """Makes each shared path (seeded from this release if it is tracked there, else an empty directory)
        and puts a link to it into the release. The seed appears whole or not at all. Raises backup-source-gone for one
        that backups hold and that what is live had: data that was lost is not made anew, empty."""

    async def seal(self, release: Release) -> None:
        """The point at which a release exists: hash of the files that came from git, syncfs, marker, fsync.

        `begin`, `Source.lay_out`, `snapshot`, `share`, perhaps `ingredients` and `take_over`, the build commands and
        `seal` are called in this order. Raises release-damaged if the build removed or changed the mode of files that
        came from git, or replaced what was linked.
        """

    async def snapshot(self, name: str) -> None:
        """Remembers (in memory) which files came from git, before the build adds its own."""

    async def ingredients(self, name: str, wanted: Reuse) -> Mapping[str, str]:
        """SHA-256 (hex) of each key file of a release that was laid out and not built yet, or `core.reuse.ABSENT`.

        Raises tree-refused for a key that is no plain file or lies behind a link, and for a path to be reused that
        came from git: only what a build makes can be linked.
        """

    async def offers(self, name: str, paths: Sequence[str]) -> bool:
        """Whether a complete release has all these paths as its own build made them: none is a link."""

    async def take_over(self, name: str, builder: str, paths: Sequence[str]) -> None:
        """Makes each path a link to what the release `builder` has there. Raises tree-refused as `ingredients`."""

    async def verify(self, name: str) -> None:
        """Reads the release back and compares it with its marker. Raises no-release, release-damaged (files, or
        what was linked in another release, are gone) or release-changed (all are there, some were edited)."""

    async def point(self, name: str) -> None:
        """`current` names this release: one rename, one directory fsync. Readers never see it missing."""

    async def clear(self) -> None:
        """Removes `current`: nothing is live. Raises current-not-a-link."""

    async def current(self) -> str | None:
        """Which release `current` names; None if there is none. Raises current-not-a-link."""

    async def names(self) -> Sequence[str]:
        """The complete releases on the disk, oldest first (by sequence number)."""

    async def remove(self, name: str) -> None:
        """Removes a release, also an unfinished one: its marker first, then its files. What is not there is
        fine; what `current` names stays."""


Heard = Callable[[str], None]
"""Is told now and then what a program has printed so far: cleaned and redacted, whole lines only."""


def unheard(text: str) -> None:
    """Nobody listens."""
    del text


class Builder(Protocol):
    """Runs one service's commands in a release: those that build it, and those that migrate its data.

    They run one after the other, and their output is returned (the last 64 KiB, cleaned and redacted); `heard` is told
    of it while they run, at most every half second. A failure is raised with that output; disk-full if the disk filled
    meanwhile. Nothing that they started is left running, also not when cancelled.
    """

    async def build(self, launch: Launch, heard: Heard = unheard, *, reused: bool = False) -> str:
        """`deploy.build.commands` unless what they make is `reused`, then `deploy.build.always`.

        Raises build-failed, build-timeout; limit-unavailable, before anything is run.
        """

    async def migrate(self, launch: Launch, heard: Heard = unheard) -> str:
        """`deploy.migrate`, with the service's own environment and without the build's limits.

        Raises migrate-failed, migrate-timeout.
        """


class Runtime(Protocol):
    """How one service runs. A runtime outlives the agent: the next agent finds what this one started."""

    async def look(self) -> Running | None:
        """What runs now, or None. Says nothing about its health. Its `release` is "" if nobody knows which one it is.

        Is asked before `current` is changed: what was started by somebody else then runs what it named."""

    async def check(self, launch: Launch) -> None:
        """Whether `start` would find what it is to run: asked while the old version still serves.

        Raises start-failed. Nothing that runs notices it."""

    async def start(self, launch: Launch) -> Running:
        """Starts a release unless this very release runs already. Any other instance must be gone before.

        Raises start-failed (the commit's fault) or runtime-failed (the world's).
        """

    async def stop(self) -> None:
        """Ends what runs, its whole group, with grace and then without. When it returns nothing is left."""

    async def recovers(self) -> bool:
        """Whether somebody else is about to start it again by themselves: then nobody must get in their way."""

    async def listens(self, host: str, port: int) -> bool | None:
        """Whether the socket listening there belongs to what runs now; None: this runtime cannot tell."""

    async def output(self) -> str:
        """The last lines (up to 8 KiB) that the service itself printed, for the report of a failure."""


class Beside(Protocol):
    """A runtime that can start a release beside the one that serves: `start` does, where `refuses` says nothing."""

    async def refuses(self, launch: Launch) -> str:
        """Why this release must not be started beside what runs, as a sentence; "" if it may. It may if it runs."""

    async def promote(self, launch: Launch) -> str:
        """Users are sent to this release, which runs and has proven itself; a sentence about it.

        When it returns it was seen that they get there. What served before still runs. Where they do not get there they
        are sent back, and it raises nginx-refused or nginx-unanswered: the world's fault."""

    async def retire(self) -> None:
        """What does not serve any more ends: gently, and at the latest when its time is over. What `current` names
        serves then. Raises process-died if that does not run and something else does, which then goes on."""


class Probe(Protocol):
    """One question to a running service."""

    address: tuple[str, int] | None
    """Where it asks, if it asks over TCP: the runtime then confirms whose socket answers."""

    async def ask(self, launch: Launch) -> Probed:
        """Asks what runs as `launch` once, with a deadline of its own. A failure is an answer, never an exception."""


class Knock(Protocol):
    """Where users of a service knock."""

    async def knock(self) -> bool:
        """Whether somebody answered. Quick and light, so that it may be asked all the time; raises nothing."""


class BackupSource(Protocol):
    """Where a backup's bytes come from. Used in a worker thread: its methods block and are no coroutines."""

    source: str
    """Its name: the path as it was configured."""

    def estimate(self, stopped: Callable[[], bool]) -> Need:
        """What it will take from the disk, roughly. What cannot be read counts nothing: `collect` says so.

        Asks `stopped` now and then, and raises backup-failed.
        """

    def collect(self, sink: "BlobSink", known: frozenset[str]) -> BackupMember:
        """Hands every piece and every file to `sink`, and says what there was.

        `known`: names of the sources that the service's last backup had. Raises backup-source-gone if one that
        was there is gone, backup-source-unreadable, backup-source-damaged, disk-full, backup-failed.
        """


class BlobSink(Protocol):
    """Takes a source's pieces and files. Blocking; used in a worker thread."""

    scratch: Path
    """A directory of the store for temporary copies; a power cut's leftovers in it are swept."""

    def stopped(self) -> bool:
        """Whether the backup was cancelled. Work that does not `put` asks several times a second, and raises."""

    def put(self, data: bytes) -> str:
        """Stores a piece (at most 4 MiB) under its SHA-256 (hex), compressed; what is there already costs nothing."""

    def record(self, file: BackupFile) -> None:
        """Notes one file, directory or link, in the order in which a restore makes them."""


class BackupStore(Protocol):
    """Backups of one or more services in one place. Every method can be interrupted by a power cut."""

    async def create(
        self,
        *,
        id: str,
        service: str,
        at: datetime,
        sources: Sequence[BackupSource],
        deployment: str | None,
        revision: str | None,
    ) -> Backup:
        """Collects all sources and commits the manifest, durable; state `unverified`, or `partial`.

        Raises what the sources raise, disk-full, disk-failed; Unavailable backup-busy if another process is at it.
        """

    async def verify(self, id: str, digest: str = "") -> Backup:
        """Reads every byte back from the device (not from the page cache) and compares; state ok, partial or bad.

        `digest`: what `create` returned; a manifest that was edited since is bad. Raises backup-unknown.
        """

    async def begun(self) -> bool:
        """Whether anything was ever kept here. False also where the store's disk is not mounted: whoever knows of
        backups must not begin anew then."""

    async def ids(self) -> frozenset[str]:
        """Every backup that has a manifest. Quick: it reads names only. Leftovers of interrupted writes are not
        among them."""

    async def look(self, id: str) -> Backup:
        """What a backup's manifest says: unverified or partial; bad if it does not read. Raises backup-unknown."""

    def stream(self, id: str, digest: str = "") -> AsyncGenerator[bytes, None]:
        """The backup as a tar stream (PAX), for a client that writes it elsewhere. Each byte is checked on the way.

        Raises backup-unknown or backup-bad, at the latest instead of the damaged bytes: a stream that ends is whole.
        """

    async def contents(self, id: str, digest: str, parts: Sequence[str]) -> Contents:
        """What a backup holds of these paths, which together are all of it. Raises backup-unknown, backup-bad."""

    async def lay_out(self, id: str, digest: str, targets: Mapping[str, Path]) -> Contents:
        """Writes each path of a backup to its target, which does not exist in a directory that is ours alone.

        When it returns, everything is on the device, was read back, and has the hashes and rows of the manifest.
        Raises restore-place before a byte is written if there is too little room; backup-unknown, backup-bad,
        disk-full, disk-failed. What was written of it then is the caller's to remove.
        """

    async def rehearse(self, id: str, digest: str) -> Contents:
        """The same into a scratch directory of the store, which is gone when this returns."""

    async def forget(self, ids: Sequence[str]) -> None:
        """Makes backups of one service not exist any more; durable. What is not there is fine. Their space comes back
        with `reclaim`, also after a power cut. Raises Unavailable backup-busy if another process is at it."""

    async def reclaim(self, service: str) -> int:
        """Gives back the space of what no backup needs; returns bytes. Does nothing unless something was forgotten.

        It rewrites a bounded amount at a time: what is left comes with the next call. Raises Unavailable backup-busy.
        """

    async def sweep(self) -> int:
        """Removes what interrupted writes and rehearsals left behind; returns how many. Quick: it reads names only.
        Called at start, before anything else."""


class Place(Protocol):
    """Where one service's data lies, for a restore in place. Nothing runs there while `swap` and `put_back` do.

    The swaps are planned once; the other methods do as they say, also when they are called again after a cut.
    """

    async def plan(
        self, paths: Mapping[str, bool], *, databases: Collection[str], id: str, at: datetime
    ) -> tuple[Swap, ...]:
        """A swap for each of the paths, in order; the value says whether the backup has anything there, `databases`
        are those of the paths that are one. Changes nothing. Raises restore-place."""

    async def prepare(self, swaps: Sequence[Swap]) -> None:
        """Makes the directories, empty and ours alone, in which the backup is laid out. Raises disk-full and so on."""

    async def swap(self, swaps: Sequence[Swap]) -> bool:
        """What is staged takes the place of what is there, which is kept: whether there was anything. Readers never
        see a half of a path."""

    async def put_back(self, swaps: Sequence[Swap]) -> None:
        """What is kept takes its place again, however far `swap` came."""

    async def discard(self, swaps: Sequence[Swap]) -> None:
        """Removes what is staged, and the directories for it."""

    async def forget(self, swaps: Sequence[Swap]) -> None:
        """Removes what is kept."""

    async def sizes(self, paths: Sequence[str]) -> Sequence[Part]:
        """What stands at these paths now, roughly: what cannot be read counts nothing."""

    async def rows(self, database: str) -> dict[str, int] | None:
        """The rows of each table of a live database; None if it is not there or does not read."""


class Reserve(Protocol):
    """Space on the state's disk, put aside for what was begun. Its methods block, may be called in any thread, and
    raise nothing: a disk that refuses is told in `why`."""

    @property
    def short(self) -> bool:
        """Whether some of it was needed, or there was no room for it: nothing new is to be begun. Answers at once."""

    @property
    def why(self) -> str:
        """A sentence about that, with figures; "" if all of it is there."""

    def spend(self) -> bool:
        """Gives a piece of it back to the disk; False: there was nothing left."""

    def restore(self) -> bool:
        """Puts aside what is missing, if that leaves enough to others. Returns whether all of it is there."""

    def ensure(self) -> None:
        """Spends as much as a start of a service needs of a disk that is full."""


class Secrets(Protocol):
    """Resolves references to secrets. `redact` hides every secret that was ever resolved."""

    def get(self, reference: object) -> bytes:
        """The secret's bytes. Raises ConfigError if it is missing, empty or readable by everybody."""

    def key_file(self, reference: object) -> Path:
        """The file with a private key, for a program that reads it itself. Looks at it anew each time.

        Blocks. Raises ConfigError if it is missing, open to others, no private key, or locked by a passphrase."""

    def redact(self, text: str) -> str:
        """The text with every known secret replaced by ***."""


Wake = Callable[[], None]
"""A hint that there is work. It may be lost without harm."""
