"""Backups that somebody laid hands on: they are refused, or give exactly the right bytes, and nothing gets outside."""

import asyncio
import contextlib
import hashlib
import json
import os
import random
import resource
import shutil
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from agent.adapters.backup import a_store, codec
from agent.adapters.backup.codec import Damaged
from agent.adapters.backup.files import Tree
from agent.adapters.backup.sqlite import SqliteDatabase
from agent.cli.unpack import Limits, unpack
from agent.core.errors import StepFailed
from agent.core.ports import BackupSource
from tests.fakes import START
from tests.fuzz import case_of, chance_of, fuzz, numbers
from tests.fuzz.mutation import bytes_of, document_of

REFUSALS = {"backup-bad", "backup-unknown", "backup-failed", "restore-place"}
"""What a store may say of a backup that is not what was written."""

NAMES = ("../outside", "/etc/passwd", "../../x", "a/../../x", "shared/data/../../../x", "", ".", "..", "shared/data//x",
         "shared/data/a.txt/below", "shared/data/link/x", "shared/data\0x", "shared/data/" + "n" * 300, "\\",
         "\\xff", "\\\\",
         "shared/data/" + "d/" * 2500 + "x", "shared/data/a.txt", "shared/data", "shared", "é\u202e",
         "\ud800")  # fmt: skip
VALUES: tuple[Any, ...] = (*NAMES, 0, 1, -1, 511, 0o7777, 0o100777, 2**31, 2**32, 2**63, 2**64, -(2**63) - 1,
                           10**30, 1.5, True, None, "x" * 64,
          "0" * 64, "A" * 64, "0" * 63, [], ["0" * 64], {}, {"t": -1}, {"t": 2**70}, "file", "sqlite",
          "directory", "symlink",
          "device", "/outside", "../..", "a.txt", "one", "two", "ok", "bad", "scraper", "2026-11-22T12:00:00Z",
          "9999-12-31T23:59:59+23:59")  # fmt: skip


class Store:
    """A store with one small backup, and what it must give."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.root = base / "backups"
        service = base / "service"
        data = service / "shared" / "data"
        (data / "empty").mkdir(parents=True)
        (data / "a.txt").write_bytes(b"hello")
        (data / "sub").mkdir()
        (data / "sub" / "b.bin").write_bytes(random.Random(1).randbytes(9_000))
        (data / "link").symlink_to("a.txt")
        with closing(sqlite3.connect(service / "shared" / "app.db")) as connection, connection:
            connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT)")
            connection.executemany("INSERT INTO t(body) VALUES(?)", ((f"row {n}",) for n in range(50)))
        sources: list[BackupSource] = [SqliteDatabase(service, "shared/app.db"), Tree(service, "shared/data")]
        asyncio.run(
            a_store(self.root).create(
                id="one", service="scraper", at=START, sources=sources, deployment=None, revision=None
            )
        )
        self.pack = next((self.root / "scraper/packs").glob("*.pack"))
        self.manifest = next((self.root / "scraper/manifests").iterdir())
        self.whole = {path: path.read_bytes() for path in (self.pack, self.manifest)}
        self.lines = [json.loads(line) for line in zstd.decompress(self.whole[self.manifest]).splitlines()]
        self.digest = self.lines[-1]["sha256"]
        (base / "outside").mkdir()
        (base / "outside" / "kept").write_bytes(b"kept")
        self.target = base / "targets"
        self.target.mkdir(mode=0o700)
        self.around = self.listing()

    def listing(self) -> list[str]:
        """Everything in the test's directory but the store and the target."""
        return sorted(
            str(path.relative_to(self.base)) for path in self.base.rglob("*")
            if not path.is_relative_to(self.root) and not path.is_relative_to(self.target)
        )  # fmt: skip

    def write(self, lines: list[Any], *, sign: bool) -> None:
        """A manifest of these lines; signed like a right one, as by somebody who may write here."""
        body = b"".join(json.dumps(line).encode("utf-8", "surrogatepass") + b"\n" for line in lines[:-1])
        last = {"sha256": hashlib.sha256(body).hexdigest()} if sign else lines[-1]
        self.manifest.write_bytes(zstd.compress(body + json.dumps(last).encode() + b"\n"))

    def mend(self) -> None:
        for path, content in self.whole.items():
            path.write_bytes(content)
            path.with_suffix(".bad").unlink(missing_ok=True)
        for path in self.root.rglob("*"):
            assert path.is_dir() or path in self.whole or path.name in ("format", "lock", "untidy"), path
        shutil.rmtree(self.target)
        self.target.mkdir(mode=0o700)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


async def used(store: Store, digest: str) -> tuple[str, bytes | None, bool]:
    """What verification says, what the stream gives, and whether all of it could be laid out."""
    made = a_store(store.root)
    try:
        state = (await made.verify("one", digest)).state
    except StepFailed as failure:
        assert failure.code in REFUSALS, failure.code
        state = "refused"
    try:
        streamed: bytes | None = b"".join([piece async for piece in made.stream("one", digest)])
    except StepFailed as failure:
        assert failure.code in REFUSALS, failure.code
        streamed = None
    try:
        await made.lay_out("one", digest, {"shared": store.target / "shared"})
        laid_out = True
    except StepFailed as failure:
        assert failure.code in REFUSALS, failure.code
        laid_out = False
    return state, streamed, laid_out


def below(target: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(target)): path.read_bytes()
        for path in target.rglob("*") if path.is_file() and not path.is_symlink()
    }  # fmt: skip


def test_a_store_whose_bytes_were_changed(store: Store) -> None:
    """R-BK-6, F82: whoever knows the digest gets what was saved, or a refusal."""
    loop = asyncio.new_event_loop()
    state, truth, laid_out = loop.run_until_complete(used(store, store.digest))
    assert (state, laid_out) == ("ok", True)
    assert truth
    exact = below(store.target)
    store.mend()
    refused = 0
    for number in numbers(150):
        chance = chance_of("stores", number)
        path = chance.choice((store.pack, store.manifest))
        path.write_bytes(bytes_of(chance, store.whole[path]))
        with case_of("stores", number, path.name):
            state, streamed, laid_out = loop.run_until_complete(used(store, store.digest))
            assert streamed in (None, truth)
            if laid_out:
                assert below(store.target) == exact
            if state == "ok":
                assert (streamed, laid_out) == (truth, True)
            refused += state != "ok"
            assert store.listing() == store.around
        store.mend()
    loop.close()
    assert refused


def a_manifest(chance: random.Random, right: list[Any]) -> list[Any]:
    """One entry that lies, or any number of lies; most liars count their lines."""
    if chance.random() < 0.6:
        entry = chance.randrange(1, len(right) - 2)
        return [*right[:entry], document_of(chance, right[entry], VALUES, most=2), *right[entry + 1 :]]
    lines = document_of(chance, right, VALUES, most=3)
    if not isinstance(lines, list) or len(lines) < 3 or not isinstance(lines[0], dict):
        return right[1:]
    if chance.random() < 0.7 and isinstance(lines[-2], dict):
        lines[-2]["files"] = len(lines) - 3
    return lines


def test_a_manifest_that_somebody_wrote_anew(store: Store) -> None:
    """R-BK-6, R-BK-9: also with a right checksum of its own nothing is written outside of the target, and nothing but
    a refusal comes of what cannot be; whoever knows the digest never takes it for the one that was written."""
    loop = asyncio.new_event_loop()
    for number in numbers(400):
        chance = chance_of("manifests", number)
        lines = a_manifest(chance, store.lines)
        sign = chance.random() < 0.9
        store.write(lines, sign=sign)
        with case_of("manifests", number, lines):
            known = loop.run_until_complete(used(store, store.digest))
            if lines[:-1] != store.lines[:-1]:
                assert known[0] != "ok"
                assert known[1:] == (None, False)
            shutil.rmtree(store.target)
            store.target.mkdir(mode=0o700)
            state, streamed, laid_out = loop.run_until_complete(used(store, ""))
            with contextlib.suppress(StepFailed):
                unpack([streamed or b""], store.target / "copy")
            assert state in ("ok", "partial", "bad", "refused")
            assert state != "bad" or not laid_out or lines[0]["service"] != "scraper"
            assert store.listing() == store.around
            assert (store.base / "outside" / "kept").read_bytes() == b"kept"
        store.mend()
    loop.close()


# --- the stream, read by a client that trusts nobody


def header(chance: random.Random, **differences: Any) -> bytes:
    """One member's header with a right checksum, whatever it says."""
    info = tarfile.TarInfo(differences.pop("name", "a.txt"))
    for name, value in differences.items():
        setattr(info, name, value)
    block = bytearray(
        info.tobuf(chance.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)), "utf-8", "surrogateescape")
    )
    if chance.random() < 0.2:
        at = chance.randrange(len(block))
        block[at] = chance.randrange(256)
        block[148:156] = b"%06o\0 " % (sum(block[:148]) + 256 + sum(block[156:512]))
    return bytes(block)


def an_archive(chance: random.Random) -> bytes:
    """Members that mean harm, among some that do not."""
    body, members, size = b"", 0, 0
    for _ in range(chance.randint(0, 5)):
        name = chance.choice(("a", "a/b", "d", "d/e", "link", "link/x", *NAMES[:8])) or "x"
        kind = chance.choice((tarfile.REGTYPE, tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE,
                              tarfile.FIFOTYPE, tarfile.CHRTYPE, b"S", b"7"))  # fmt: skip
        content = chance.randbytes(chance.choice((0, 5, 512, 700))) if kind == tarfile.REGTYPE else b""
        told = len(content) if chance.random() < 0.9 else chance.choice((0, 1, 10**6, 8**11 - 1))
        body += header(
            chance, name=name, type=kind, size=told, mode=chance.choice((0o644, 0o4755, 0o777)),
            linkname=chance.choice(("a", "..", "/etc", "../outside", "link", "d", "", "x" * 200)),
            mtime=chance.choice((0, 1, -1, 2**33, 1.5)),
        )  # fmt: skip
        body += content + bytes(-len(content) % 512)
        members, size = members + 1, size + len(content)
    facts = {"HOMEPORT.backup": "one", "HOMEPORT.members": str(members), "HOMEPORT.bytes": str(size),
             "HOMEPORT.left_out": chance.choice(("[]", "[" * 9000, "{}", '["x"]', "\x1b"))}  # fmt: skip
    if chance.random() < 0.2:
        facts[chance.choice(tuple(facts))] = chance.choice(("", "-1", "9" * 30, "1.5", "x"))
    archive = tarfile.TarInfo.create_pax_global_header(facts) + body + bytes(1024)
    return bytes_of(chance, archive) if chance.random() < 0.3 else archive


def test_streams_that_mean_harm(tmp_path: Path) -> None:
    """R-BK-9: they are refused, and leave the target and everything around it as it was; or all lies in the target."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").write_bytes(b"kept")
    target = tmp_path / "target"
    unpacked = 0

    def judge(archive: bytes) -> None:
        nonlocal unpacked
        pieces: Iterator[bytes] = iter([archive[at : at + 700] for at in range(0, len(archive), 700)])
        try:
            done = unpack(pieces, target, Limits(members=50, bytes=1 << 20))
        except StepFailed as failure:
            assert failure.code in ("archive-refused", "restore-target", "disk-failed"), failure.code
            assert not target.exists()
        else:
            unpacked += 1
            assert done.files + done.links + done.directories <= 50
            for path in target.rglob("*"):
                assert path.is_symlink() or path.is_dir() or path.is_file()
                assert path.is_symlink() or path.resolve().is_relative_to(target)
                assert path.lstat().st_mode & 0o7000 == 0
            for link in (path for path in target.rglob("*") if path.is_symlink()):
                assert not str(link.readlink()).startswith("/")
                where = Path(os.path.normpath(link.parent / link.readlink()))
                assert where.is_relative_to(target) or not link.exists()
            shutil.rmtree(target)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["outside"]
        assert [path.name for path in (tmp_path / "outside").iterdir()] == ["kept"]

    fuzz("streams", 1200, an_archive, judge)
    assert unpacked > 20


# --- bombs


@contextmanager
def bounded(more: int) -> Iterator[None]:
    """At most so many bytes more of address space."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def a_bomb(byte: bytes, mebibytes: int, *, window: int = 0) -> bytes:
    options: dict[Any, int] = {zstd.CompressionParameter.compression_level: 3}
    if window:
        options[zstd.CompressionParameter.window_log] = window
        options[zstd.CompressionParameter.enable_long_distance_matching] = 1
    engine = zstd.ZstdCompressor(options=options)
    piece = byte * (1 << 20)
    return b"".join([*(engine.compress(piece) for _ in range(mebibytes)), engine.flush()])


@pytest.mark.parametrize("window", [0, 27])
@pytest.mark.parametrize("kind", ["one line", "lines"])
async def test_a_manifest_that_unpacks_to_much_more_needs_no_memory(
    store: Store, kind: str, window: int
) -> None:
    """R-BK-6: neither as one line nor by a window that the reader would have to hold."""
    mebibytes = 100 if kind == "one line" else 1
    store.manifest.write_bytes(a_bomb(b"x" if kind == "one line" else b"{}\n", mebibytes, window=window))
    with bounded(64 << 20):
        assert (await a_store(store.root).verify("one")).state == "bad"


def test_a_frame_that_unpacks_to_more_than_it_says_is_damage() -> None:
    for frame in (a_bomb(b"\0", 64), a_bomb(b"\0", 64, window=27)):
        with bounded(32 << 20), pytest.raises(Damaged):
            codec.decompress("zstd", frame, 1 << 20)
