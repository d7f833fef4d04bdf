"""Backups of a service with a 120 MB database and 2,000 files: first, after a 1 % change, checked, brought back."""

import hashlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import keeper
from bench.options import Options
from bench.processes import MIB, Cost, measure
from bench.report import Goal, Report, Table, goal, middle, ratio, show

NAME = "backup"
ROOT = Path(__file__).resolve().parent.parent
ROWS = 200_000
FILES = 2000
FILE_BYTES = 40_000
ACTS = ("first", "after 1 %", "verify", "restore")
GOAL_CHANGE = "bytes added after 1 %"


class Service:
    """A service's data: `<directory>/data/app.db` and `<directory>/data/files`. The same at each call."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._database = directory / keeper.DATABASE
        self._files = directory / keeper.FILES / "files"
        self._files.mkdir(parents=True)
        self._random = random.Random(1)  # noqa: S311 - data that is the same at each run
        words = [
            "".join(self._random.choices("etaoinshrdlu", k=self._random.randint(3, 9))) for _ in range(2000)
        ]
        self._prose = " ".join(self._random.choices(words, k=400_000))
        self._make()

    def _text(self, length: int, noise: int) -> str:
        """Words, which compress, and a hexadecimal part, which does not well."""
        at = self._random.randrange(len(self._prose) - length)
        return self._prose[at : at + length - noise] + self._random.randbytes(noise // 2).hex()

    def _make(self) -> None:
        with closing(sqlite3.connect(self._database)) as connection, connection:
            connection.execute("CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, body TEXT)")
            connection.executemany(
                "INSERT INTO item(name, body) VALUES(?, ?)", (self._row() for _ in range(ROWS))
            )
            connection.execute("CREATE INDEX item_name ON item(name)")
        for number in range(FILES):
            self._write(number)

    def _row(self) -> tuple[str, str]:
        return self._text(24, 16), self._text(510, 160)

    def _write(self, number: int) -> None:
        (self._files / f"{number:05d}.json").write_text(self._text(FILE_BYTES, FILE_BYTES // 4))

    def change(self) -> None:
        """0.7 % new rows, 0.3 % rows updated anywhere, 1 % of the files rewritten."""
        with closing(sqlite3.connect(self._database)) as connection, connection:
            fresh = (self._row() for _ in range(ROWS * 7 // 1000))
            connection.executemany("INSERT INTO item(name, body) VALUES(?, ?)", fresh)
            some = self._random.sample(range(1, ROWS), ROWS * 3 // 1000)
            bodies = ((self._text(510, 160), number) for number in some)
            connection.executemany("UPDATE item SET body = ? WHERE id = ?", bodies)
        for number in self._random.sample(range(FILES), FILES // 100):
            self._write(number)


def fingerprint(directory: Path) -> str:
    """Of the rows and the files, wherever they lie."""
    digest = hashlib.sha256()
    with closing(sqlite3.connect(f"file:{directory / keeper.DATABASE}?mode=ro", uri=True)) as connection:
        for row in connection.execute("SELECT * FROM item ORDER BY id"):
            digest.update(repr(row).encode())
    for path in sorted((directory / keeper.FILES / "files").iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def weigh(path: Path) -> int:
    """Bytes of a file, or of all files below a directory."""
    if path.is_file():
        return path.stat().st_size
    return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())


@dataclass(frozen=True)
class Way:
    """One way to keep backups. Each act returns its cost; `store` is weighed before and after."""

    name: str
    prepare: Callable[[], None]
    save: Callable[[str], Cost]
    verify: Callable[[str], Cost]
    restore: Callable[[str, Path], Cost]
    store: Path
    over_rest: bool = False
    """Whether the peak is counted over what the process weighed before."""


def _nothing() -> None:
    return


def the_agents(service: Path, store: Path) -> Way:
    """homeport's own store."""

    def act(name: str, identity: str, *more: str) -> Cost:
        command = [
            sys.executable,
            "-m",
            "bench.keeper",
            name,
            "--root",
            str(store),
            "--service",
            str(service),
        ]
        done = subprocess.run(
            [*command, "--id", identity, *more], cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=600
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return Cost(found["seconds"], found["peak"] - found["rest"])

    return Way(
        "homeport", _nothing, lambda identity: act("create", identity), lambda identity: act("verify", identity),
        lambda identity, target: act("restore", identity, "--to", str(target)), store, over_rest=True,
    )  # fmt: skip


def tar(service: Path, store: Path) -> Way:
    """An archive for each backup, as a cron job would make them."""

    def archive(identity: str) -> str:
        return str(store / f"{identity}.tar.zst")

    def restore(identity: str, target: Path) -> Cost:
        target.mkdir()
        return measure(["tar", "--zstd", "-xf", archive(identity)], cwd=target)

    return Way(
        "tar --zstd", store.mkdir,
        lambda identity: measure(["tar", "--zstd", "-cf", archive(identity), keeper.FILES], cwd=service),
        lambda identity: measure(["zstd", "--quiet", "--test", archive(identity)], cwd=store),
        restore, store,
    )  # fmt: skip


def restic(service: Path, store: Path) -> Way:
    """A restic repository."""
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(store.parent), "RESTIC_REPOSITORY": str(store),
        "RESTIC_PASSWORD": "bench", "RESTIC_CACHE_DIR": str(store.parent / "restic-cache"),
    }  # fmt: skip

    def call(*arguments: str) -> Cost:
        return measure(["restic", "--quiet", *arguments], cwd=service, environment=environment)

    def prepare() -> None:
        call("init", "--repository-version", "2")

    return Way(
        "restic", prepare,
        lambda identity: call("backup", "--tag", identity, keeper.FILES),
        lambda _: call("check", "--read-data"),
        lambda identity, target: call("restore", "latest", "--tag", identity, "--target", str(target)),
        store,
    )  # fmt: skip


def borg(service: Path, store: Path) -> Way:
    """A borg repository without encryption, compressed as ours is."""
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(store.parent), "BORG_BASE_DIR": str(store.parent / "borg"),
        "BORG_REPO": str(store), "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
    }  # fmt: skip

    def call(*arguments: str, cwd: Path = service) -> Cost:
        return measure(["borg", *arguments], cwd=cwd, environment=environment)

    def prepare() -> None:
        call("init", "--encryption=none")

    def restore(identity: str, target: Path) -> Cost:
        target.mkdir()
        return call("extract", f"::{identity}", cwd=target)

    return Way(
        "borg", prepare,
        lambda identity: call("create", "--compression=zstd,3", f"::{identity}", keeper.FILES),
        lambda _: call("check", "--verify-data"),
        restore, store,
    )  # fmt: skip


WAYS: dict[str, Callable[[Path, Path], Way]] = {
    "homeport": the_agents, "tar --zstd": tar, "restic": restic, "borg": borg,
}  # fmt: skip
PROGRAMS = {"tar --zstd": "zstd", "restic": "restic", "borg": "borg"}


class Figures:
    """By way and act."""

    def __init__(self) -> None:
        self.seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
        self.peaks: dict[tuple[str, str], list[float]] = defaultdict(list)
        self.bytes: dict[tuple[str, str], list[float]] = defaultdict(list)

    def add(self, way: Way, act: str, cost: Cost, grown: int = 0) -> None:
        """One measurement."""
        self.seconds[way.name, act].append(cost.seconds)
        self.peaks[way.name, act].append(cost.peak / MIB)
        self.bytes[way.name, act].append(grown / MIB)


def run(options: Options) -> Report:
    """All ways over the same data, in turns; everything again in each round."""
    figures = Figures()
    missing = [name for name, program in PROGRAMS.items() if shutil.which(program) is None]
    size = 0
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory(prefix="bench-") as directory:
            size = _round(figures, Path(directory), [name for name in WAYS if name not in missing])
    return _report(figures, options, size, missing)


def _round(figures: Figures, directory: Path, names: list[str]) -> int:
    service = Service(directory / "service")
    size = weigh(service.directory)
    ways = [WAYS[name](service.directory, directory / f"store-{number}") for number, name in enumerate(names)]
    for way in ways:
        way.prepare()
    for act, identity in (("first", "one"), ("after 1 %", "two")):
        if act != "first":
            service.change()
        os.sync()
        for way in ways:
            before = weigh(way.store)
            cost = way.save(identity)
            figures.add(way, act, cost, weigh(way.store) - before)
    wanted = fingerprint(service.directory)
    for way in ways:
        figures.add(way, "verify", way.verify("two"))
        target = directory / f"restored by {way.name}"
        figures.add(way, "restore", way.restore("two", target))
        assert fingerprint(target) == wanted, f"{way.name} did not bring back what was saved"
        shutil.rmtree(target)
        os.sync()
    return size


def _report(figures: Figures, options: Options, size: int, missing: list[str]) -> Report:
    names = [name for name in WAYS if name not in missing]
    seconds = [
        [name, *(show(middle(figures.seconds[name, act]), "{:.2f}") for act in ACTS)] for name in names
    ]
    stored = [
        [name, *(show(middle(figures.bytes[name, act]), "{:.1f}") for act in ACTS[:2])] for name in names
    ]
    peaks = [[name, *(show(middle(figures.peaks[name, act])) for act in ACTS)] for name in names]
    columns = ("", *ACTS)
    notes = [
        (
            "homeport copies the database through SQLite, checks that copy, hashes every byte and syncs before it calls"
            " the backup made; the others read the file as it lies (it rested), and tar syncs nothing."
        ),
        "homeport's seconds are those of the act inside the agent, the others' those of the command.",
        (
            "verify: homeport, restic and borg compare every stored byte with its hash, `zstd --test` with a 32-bit"
            " checksum if the archive has one. restic and borg read their whole store, the others one backup."
        ),
        *(f"{name} is not installed here: no row." for name in missing),
    ]
    return Report(
        NAME, "Backups",
        [
            (f"{size / MIB:.0f} MiB: a SQLite database of {ROWS:,} rows and {FILES:,} files of {FILE_BYTES // 1000} KB,"
            f" then 0.7 % new and 0.3 % changed rows and 1 % of the files. Median of {options.rounds} rounds; what"
            " was restored was compared with the original each time."),
        ],
        [
            Table("Seconds", columns, seconds),
            Table("MiB added to the store", ("", *ACTS[:2]), stored),
            Table("Peak memory (MiB; of homeport what comes on top of the agent at rest)", columns, peaks),
        ],
        _goals(figures),
        notes,
    )  # fmt: skip


def _goals(figures: Figures) -> list[Goal]:
    def seconds(name: str) -> float | None:
        return middle(figures.seconds[name, "first"])

    def added(name: str) -> float | None:
        return middle(figures.bytes[name, "after 1 %"])

    peaks = [value for act in ACTS for value in figures.peaks["homeport", act]]
    time = ratio(seconds("homeport"), seconds("tar --zstd"))
    grown = ratio(added("homeport"), added("restic"))
    return [
        goal("time of the first", "≤ 1.3 × tar --zstd", time, "{:.2f} ×", most=1.3),
        goal(GOAL_CHANGE, "≤ 0.5 × restic", grown, "{:.2f} ×", most=0.5),
        goal("peak memory over rest", "≤ 32 MiB", max(peaks, default=None), "{:.0f} MiB", most=32.0),
    ]
