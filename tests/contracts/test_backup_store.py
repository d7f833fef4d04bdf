"""What every BackupStore promises, over the agent's own archive."""

import asyncio
import contextlib
import hashlib
import io
import json
import os
import resource
import sqlite3
import tarfile
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from backports import zstd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.adapters.backup import a_store, content
from agent.adapters.backup.archive import ArchiveStore
from agent.adapters.backup.codec import Damaged
from agent.adapters.backup.descriptors import Descriptors
from agent.adapters.backup.files import Tree
from agent.adapters.backup.manifest import Manifest
from agent.adapters.backup.packing import PackWriter
from agent.adapters.backup.packs import Pack, Packs
from agent.adapters.backup.sqlite import SqliteDatabase
from agent.core.errors import StepFailed, Unavailable
from agent.core.model import Backup, BackupFile, BackupMember, Need
from agent.core.ports import BackupSource, BackupStore, BlobSink
from agent.system.files import Free
from tests.fakes import START


def sources(service: Path) -> Sequence[BackupSource]:
    return [
        SqliteDatabase(service, "shared/data.db"),
        Tree(service, "shared/data", [service / "shared/data.db"]),
    ]


async def save(
    store: BackupStore, service: Path, id: str = "one", named: str = "scraper", **differences: object
) -> Backup:
    wish: dict[str, object] = {
        "at": START, "sources": sources(service), "deployment": None, "revision": None,
    }  # fmt: skip
    return await store.create(id=id, service=named, **(wish | differences))  # type: ignore[arg-type]


async def listed(store: BackupStore) -> list[Backup]:
    """What the store says without reading a piece, newest first."""
    found = [await store.look(known) for known in await store.ids()]
    return sorted(found, key=lambda backup: (backup.at, backup.id), reverse=True)


async def tar_of(store: BackupStore, id: str = "one") -> bytes:
    return b"".join([piece async for piece in store.stream(id)])


def contents(archive: bytes) -> dict[str, object]:
    """What the standard library reads out of a backup's stream."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        found: dict[str, object] = {}
        for member in tar:
            file = tar.extractfile(member) if member.isreg() else None
            found[member.name] = file.read() if file else member.linkname or None
        return found


def everything(root: Path) -> list[Path]:
    return [root, *root.rglob("*")]


def files_of(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


async def test_what_was_saved_verifies_and_comes_back_byte_by_byte(store: BackupStore, service: Path) -> None:
    """R-BK-1."""
    made = await save(store, service)
    assert made.state == "unverified"
    assert [(member.source, member.state) for member in made.members] == [
        ("shared/data.db", "ok"),
        ("shared/data", "ok"),
    ]
    assert (await store.verify("one", made.digest)).state == "ok"
    found = contents(await tar_of(store))
    assert found["shared/data/a.txt"] == b"hello"
    assert found["shared/data/large"] == (service / "shared/data/large").read_bytes()
    assert found["shared/data/link"] == "a.txt"
    assert "shared/data/empty" in found


async def test_what_did_not_change_costs_no_new_space(store: BackupStore, service: Path) -> None:
    first = await save(store, service)
    second = await save(store, service, id="two")
    assert second.bytes == first.bytes
    assert second.stored_bytes < 6000, "the second backup is its manifest, and the database's change counter"


async def test_a_changed_row_costs_its_pages_only(store: BackupStore, service: Path) -> None:
    await save(store, service)
    with closing(sqlite3.connect(service / "shared/data.db")) as connection, connection:
        connection.execute("UPDATE t SET body = 'new' WHERE id = 1500")
    second = await save(store, service, id="two")
    assert second.stored_bytes < 12_000


async def test_a_look_at_each_backup_tells_what_a_restart_needs(store: BackupStore, service: Path) -> None:
    await save(store, service, revision="a" * 40)
    await save(store, service, id="two", at=START + timedelta(hours=1))
    two, one = await listed(store)
    assert (two.id, one.id) == ("two", "one")
    assert (one.service, one.revision, one.at, one.state) == ("scraper", "a" * 40, START, "unverified")


async def test_a_backup_without_members_is_valid(store: BackupStore, service: Path) -> None:
    made = await save(store, service, sources=[Tree(service, "shared/never")])
    assert made.members == (BackupMember(source="shared/never", kind="files", state="absent"),)
    assert (await store.verify("one", made.digest)).state == "ok"
    assert (await tar_of(store)).endswith(bytes(1024))


async def test_a_source_that_was_in_the_last_backup_and_is_gone_fails_the_backup(
    store: BackupStore, service: Path
) -> None:
    """R-BK-5, F83."""
    await save(store, service)
    (service / "shared/data.db").unlink()
    with pytest.raises(StepFailed) as caught:
        await save(store, service, id="two")
    assert caught.value.code == "backup-source-gone"
    assert [backup.id for backup in await listed(store)] == ["one"]
    assert (await store.verify("one")).state == "ok"


async def test_an_unknown_backup_is_said_to_be_unknown(store: BackupStore) -> None:
    for unknown in ("nothing", "../../etc/passwd", ""):
        with pytest.raises(StepFailed) as caught:
            await store.verify(unknown)
        assert caught.value.code == "backup-unknown"
        with pytest.raises(StepFailed):
            await tar_of(store, unknown)


# ---------------------------------------------------------------------- damage


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 0x41
    path.write_bytes(data)


def the_pack(root: Path) -> Path:
    (pack,) = (root / "scraper" / "packs").glob("*.pack")
    return pack


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("harm", [Path.unlink, cut, cut_in_half, lambda path: flip(path, 5000)])
async def test_a_damaged_pack_is_found_and_the_next_backup_does_not_build_on_it(
    store: BackupStore, service: Path, root: Path, harm: Callable[[Path], None]
) -> None:
    """R-BK-6, F82."""
    made = await save(store, service)
    harm(the_pack(root))
    found = await store.verify("one", made.digest)
    assert found.state == "bad"
    assert found.reason
    with pytest.raises(StepFailed) as caught:
        await tar_of(store)
    assert caught.value.code == "backup-bad"
    second = await save(store, service, id="two")
    assert (await store.verify("two", second.digest)).state == "ok"
    assert (await store.verify("one", made.digest)).state == "ok", (
        "the new copy of the pieces serves the old one, too"
    )


async def test_an_edited_manifest_is_found(store: BackupStore, service: Path, root: Path) -> None:
    """R-BK-6: whoever edits a manifest and its own digest is found out by the digest that the journal holds."""
    made = await save(store, service)
    (path,) = (root / "scraper" / "manifests").iterdir()
    lines = zstd.decompress(path.read_bytes()).splitlines(keepends=True)
    lines[2] = lines[2].replace(b"data", b"DATA")
    path.write_bytes(zstd.compress(b"".join(lines)))
    assert (await store.verify("one")).state == "bad", "its own digest does not fit"
    digest = hashlib.sha256(b"".join(lines[:-1])).hexdigest()
    path.write_bytes(zstd.compress(b"".join([*lines[:-1], b'{"sha256":"%s"}\n' % digest.encode()])))
    assert (await store.verify("one")).state == "ok"
    assert (await store.verify("one", made.digest)).state == "bad"
    with pytest.raises(StepFailed):
        [piece async for piece in store.stream("one", made.digest)]


async def test_a_manifest_whose_pieces_stand_in_another_order_is_found(
    store: BackupStore, service: Path, root: Path
) -> None:
    """R-BK-6: every piece is intact and every digest fits; only the file's own SHA-256 tells."""
    await save(store, service)
    (path,) = (root / "scraper" / "manifests").iterdir()
    lines = zstd.decompress(path.read_bytes()).splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if b"data/large" in line)
    file = json.loads(lines[at])
    file["chunks"][:2] = file["chunks"][1::-1]
    lines[at] = json.dumps(file).encode() + b"\n"
    digest = hashlib.sha256(b"".join(lines[:-1])).hexdigest()
    path.write_bytes(zstd.compress(b"".join([*lines[:-1], b'{"sha256":"%s"}\n' % digest.encode()])))
    assert (await store.verify("one")).state == "bad"


def test_a_piece_that_is_not_what_its_address_says_is_damage(tmp_path: Path) -> None:
    writer = PackWriter(tmp_path, "p")
    writer.add(b"a" * 32, b"A" * 10_000)
    writer.add(hashlib.sha256(b"B").digest(), b"B")
    writer.finish()
    writer.close()
    with Packs(tmp_path) as packs:
        assert packs.read(hashlib.sha256(b"B").digest()) == b"B"
        with pytest.raises(Damaged):
            packs.read(b"a" * 32)


async def test_swapped_manifests_are_found(store: BackupStore, service: Path, root: Path) -> None:
    """R-BK-6."""
    await save(store, service)
    await save(store, service, id="two")
    one, two = sorted((root / "scraper" / "manifests").iterdir())
    aside = one.rename(one.with_name("aside"))
    two.rename(one)
    aside.rename(two)
    assert [(await store.verify(name)).state for name in ("one", "two")] == ["bad", "bad"]
    assert {backup.state for backup in await listed(store)} == {"bad"}


async def test_swapped_packs_still_give_the_right_bytes_and_are_not_swept(
    store: BackupStore, service: Path, root: Path
) -> None:
    """R-BK-6: pieces are found by their address, so a pack's name proves nothing and swapping names harms nothing."""
    first = await save(store, service)
    (service / "shared/data/large").write_bytes(os.urandom(300_000))
    second = await save(store, service, id="two")
    one, two = sorted((root / "scraper" / "packs").iterdir())
    aside = one.rename(one.with_name("aside"))
    two.rename(one)
    aside.rename(two)
    next((root / "scraper" / "manifests").glob("*-two.*")).unlink()
    assert await store.sweep() == 0
    assert (await store.verify("one", first.digest)).state == "ok"
    assert second.stored_bytes > 300_000


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(which=st.integers(0, 100), at=st.integers(0, 10**7), bit=st.integers(0, 7))
async def test_any_flipped_bit_is_found_or_harmless(
    which: int, at: int, bit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """R-BK-6: over random offsets of every file of the store."""
    base = tmp_path_factory.mktemp("flip")
    (base / "service").mkdir()
    (base / "service" / "f").write_bytes(b"some text " * 500)
    (base / "service" / "g").write_bytes(bytes(range(256)) * 3)
    store = a_store(base / "backups")
    made = await save(
        store, base / "service", sources=[Tree(base / "service", "f"), Tree(base / "service", "g")]
    )
    files = [path for path in files_of(base / "backups") if path.stat().st_size]
    path = files[which % len(files)]
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1 << bit
    path.write_bytes(data)
    state, found = "bad", None
    with contextlib.suppress(StepFailed):
        state = (await store.verify("one", made.digest)).state
        found = contents(await tar_of(store)) if state == "ok" else None
    assert state == "bad" or found == {"f": b"some text " * 500, "g": bytes(range(256)) * 3}


async def test_what_is_damaged_beside_the_damage_is_stored_anew_as_well(
    store: BackupStore, service: Path, root: Path
) -> None:
    """One verification finds every bad frame, also those that it did not need to look at to know."""
    made = await save(store, service)
    pack = the_pack(root)
    size = pack.stat().st_size
    data = bytearray(pack.read_bytes())
    for at in range(300, size - 25_000, 200):  # the tables at the end stay
        data[at] ^= 0x41
    pack.write_bytes(data)
    assert (await store.verify("one", made.digest)).state == "bad"
    with closing(Descriptors()) as descriptors:
        read = Pack(pack, descriptors)
        assert read.bad == set(range(read.frames))
    second = await save(store, service, id="two")
    assert (await store.verify("two", second.digest)).state == "ok"


# ---------------------------------------------------------------------- interruptions


class Breaking:
    """A source that hands over some pieces and then fails, as a full disk or a power cut would."""

    source = "breaking"

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def estimate(self, stopped: Callable[[], bool]) -> Need:
        return Need(bytes=10)

    def collect(self, sink: BlobSink, known: frozenset[str]) -> BackupMember:
        (sink.scratch / "copy.partial").write_bytes(b"half")
        for number in range(40):
            sink.put(os.urandom(1_000_000 + number))
        raise self._error


async def test_a_failed_backup_leaves_nothing_behind(store: BackupStore, service: Path, root: Path) -> None:
    """R-BK-11, F21: the old backups are intact, nothing partial is left (40 MB: also finished packs go)."""
    await save(store, service)
    before = files_of(root)
    for error, code in (
        (StepFailed("backup-failed", "no"), "backup-failed"),
        (OSError(28, "full"), "disk-full"),
    ):
        with pytest.raises(StepFailed) as caught:
            await save(store, service, id="two", sources=[Breaking(error)])
        assert caught.value.code == code
        assert files_of(root) == before
    assert (await store.verify("one")).state == "ok"


async def test_a_power_cut_leaves_only_what_sweep_removes(
    store: BackupStore, service: Path, root: Path
) -> None:
    """R-BK-1, F3, F14: partial files and packs that no manifest names are swept; the list never shows them."""
    await save(store, service)
    before = files_of(root)
    await save(store, service, id="two", sources=[*sources(service), Random(200_000)])
    home = root / "scraper"
    cut_off = next((home / "manifests").glob("*-two.*"))
    cut_off.rename(cut_off.with_name("00000002-two.partial"))
    for left in (
        "packs/x-0.partial",
        "manifests/00000003-x.partial",
        "scratch/copy-1.partial",
        "packs/.p.bad.1.partial",
    ):
        (home / left).write_bytes(b"half")
    assert [backup.id for backup in await listed(store)] == ["one"]
    assert await store.sweep() == 6
    assert files_of(root) == before
    assert await store.sweep() == 0
    assert (await store.verify("one")).state == "ok"


class Random(Breaking):
    """New bytes, each time."""

    def __init__(self, size: int) -> None:
        self._size = size

    def collect(self, sink: BlobSink, known: frozenset[str]) -> BackupMember:
        sink.put(os.urandom(self._size))
        return BackupMember(source="random", kind="files", state="ok")


async def test_the_packs_of_a_backup_whose_manifest_is_damaged_stay(
    store: BackupStore, service: Path, root: Path
) -> None:
    await save(store, service)
    (path,) = (root / "scraper" / "manifests").iterdir()
    flip(path, 100)
    pack = the_pack(root)
    assert await store.sweep() == 0
    assert pack.exists()


async def test_a_second_writer_is_told_that_the_first_is_busy(
    store: BackupStore, service: Path, root: Path
) -> None:
    """R-BK-12: the lock ends with the process; here another descriptor stands for another process."""
    import fcntl

    await save(store, service)
    with (root / "scraper" / "lock").open("rb") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(Unavailable) as caught:
            await save(store, service, id="two")
        assert caught.value.code == "backup-busy"
        assert await store.sweep() == 0
        await save(store, service, id="three", named="other")
    await save(store, service, id="two")


class Shared(Breaking):
    """A file whose pieces are all the same one."""

    def __init__(self, size: int) -> None:
        self._size = size

    def collect(self, sink: BlobSink, known: frozenset[str]) -> BackupMember:
        address = sink.put(bytes(content.FILE_PIECE))
        chunks = (address,) * (self._size // content.FILE_PIECE)
        sink.record(
            BackupFile(
                path="huge", source="huge", kind="file", mode=0o600, mtime=0, uid=0, gid=0,
                size=self._size, sha256="0" * 64, chunks=chunks,
            )
        )  # fmt: skip
        return BackupMember(source="huge", kind="files", state="ok", files=1)


class Endless(Breaking):
    """Never ends by itself."""

    def __init__(self, begun: Callable[[], object]) -> None:
        self._begun = begun

    def collect(self, sink: BlobSink, known: frozenset[str]) -> BackupMember:
        while True:
            sink.put(os.urandom(1000))
            self._begun()


async def test_a_cancelled_backup_has_ended_when_the_caller_hears_of_it(
    store: BackupStore, service: Path, root: Path
) -> None:
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()
    source = Endless(lambda: loop.call_soon_threadsafe(begun.set))
    task = asyncio.create_task(save(store, service, sources=[source]))
    async with asyncio.timeout(60):
        await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not [path for path in files_of(root) if path.name not in ("lock", "format")]
    await save(store, service)


async def appears(root: Path, pattern: str) -> None:
    async with asyncio.timeout(60):
        while not any(root.glob(f"scraper/{pattern}")):  # noqa: ASYNC110, ASYNC240 - nobody tells
            await asyncio.sleep(0.01)


async def test_a_backup_that_waits_for_a_locked_database_is_cancelled_at_once(
    store: BackupStore, service: Path, root: Path
) -> None:
    """R-SD-7: an end in order does not wait for somebody else's lock."""
    with closing(sqlite3.connect(service / "shared/data.db", isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        task = asyncio.create_task(save(store, service))
        await appears(root, "scratch/*")
        await asyncio.sleep(0.1)
        task.cancel()
        begun = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert time.monotonic() - begun < 10  # 0.2 s on an idle machine
    assert not [path for path in files_of(root) if path.name not in ("lock", "format")]


async def test_a_backup_whose_database_is_being_checked_is_cancelled_at_once(
    store: BackupStore, service: Path, root: Path
) -> None:
    """R-SD-7: SQLite's own check (here of an index on a costly expression, many seconds long) is interrupted."""
    with closing(sqlite3.connect(service / "shared/slow.db")) as connection, connection:
        connection.execute("CREATE TABLE t(x)")
        connection.execute("CREATE INDEX i ON t(x)")
        connection.executemany("INSERT INTO t VALUES(?)", ((n,) for n in range(60_000)))
        costly = "x + 0 * length(replace(hex(zeroblob(100000 + x % 2)), '0', 'ab'))"
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute(
            "UPDATE sqlite_master SET sql = ? WHERE name = 'i'", (f"CREATE INDEX i ON t({costly})",)
        )
    task = asyncio.create_task(save(store, service, sources=[SqliteDatabase(service, "shared/slow.db")]))
    await appears(root, "packs/*")
    await asyncio.sleep(0.3)
    assert not task.done()
    task.cancel()
    begun = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - begun < 10  # 0.2 s on an idle machine
    assert not [path for path in files_of(root) if path.name not in ("lock", "format")]


async def test_a_verification_is_cancelled_in_the_middle_of_a_file(store: BackupStore, service: Path) -> None:
    """R-SD-7."""
    await save(store, service, sources=[Shared(20_000_000_000)])  # one piece, and many seconds of reading
    task = asyncio.create_task(store.verify("one"))
    await asyncio.sleep(0.3)
    assert not task.done()
    task.cancel()
    begun = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - begun < 10  # 0.2 s on an idle machine


async def test_more_packs_than_a_process_may_open_files_are_no_obstacle(
    store: BackupStore, service: Path
) -> None:
    for number in range(30):
        await save(store, service, id=f"b{number}", sources=[Random(5000)])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_files() + 18, hard))
    try:
        made = await save(store, service)
        assert (await store.verify("one", made.digest)).state == "ok"
        assert (await store.verify("b0")).state == "ok"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_verification_that_runs_out_of_descriptors_calls_nothing_bad(
    store: BackupStore, service: Path
) -> None:
    """F28: only what the device or the bytes say makes a backup bad."""
    made = await save(store, service)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open("/dev/null", os.O_RDONLY) for _ in range(3)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken) + 1, hard))
    held = []
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        with pytest.raises(StepFailed):
            await store.verify("one", made.digest)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for handle in (*taken, *held):
            os.close(handle)
    assert (await store.verify("one", made.digest)).state == "ok"


async def test_which_backup_is_the_last_does_not_depend_on_clocks(
    store: BackupStore, service: Path, root: Path
) -> None:
    """R-BK-5, F83: the clock was years ahead when the first was made, and was set right before the second."""
    tree = Tree(service, "shared/data")
    database = SqliteDatabase(service, "shared/data.db")
    await save(store, service, at=START + timedelta(days=3650), sources=[tree])
    (ahead,) = (root / "scraper" / "manifests").iterdir()
    os.utime(ahead, (4e9, 4e9))
    await save(store, service, id="two", sources=[tree, database])
    (service / "shared/data.db").unlink()
    with pytest.raises(StepFailed) as caught:
        await save(store, service, id="three", sources=[tree, database])
    assert caught.value.code == "backup-source-gone"


async def test_a_manifest_under_another_number_is_found(
    store: BackupStore, service: Path, root: Path
) -> None:
    """R-BK-6: otherwise a renamed one would pass for the last."""
    await save(store, service)
    (path,) = (root / "scraper" / "manifests").iterdir()
    path.rename(path.with_name(path.name.replace("00000001", "00000009")))
    assert (await store.verify("one")).state == "bad"
    await save(store, service, id="two")
    assert sorted(path.name[:8] for path in (root / "scraper" / "manifests").iterdir()) == [
        "00000009",
        "00000010",
    ]


async def test_a_backup_never_builds_on_what_a_power_cut_left(
    store: BackupStore, service: Path, root: Path
) -> None:
    """F14: not even if nothing swept before it: the packs of an unfinished backup will go."""
    await save(store, service)
    mark = next((root / "scraper" / "manifests").iterdir())
    mark.rename(mark.with_name("00000001-one.partial"))
    made = await save(store, service, id="two")
    assert await store.sweep() == 0
    assert (await store.verify("two", made.digest)).state == "ok"
    assert [path.name[:4] for path in (root / "scraper" / "packs").iterdir()] == ["two-"]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_stream_that_is_given_up_closes_its_files(store: BackupStore, service: Path) -> None:
    await save(store, service)
    before = open_files()
    pieces = store.stream("one")
    await anext(pieces)
    await pieces.aclose()
    assert open_files() == before


# ---------------------------------------------------------------------- room, modes, formats


@pytest.mark.parametrize("space", [Free(10_000_000, None), Free(10**12, 3)])
async def test_a_backup_that_will_not_fit_is_refused_before_a_byte_is_written(
    service: Path, root: Path, space: Free
) -> None:
    """R-BK-11."""
    store = ArchiveStore(root, space=lambda path: space)
    with pytest.raises(StepFailed) as caught:
        await save(store, service)
    assert caught.value.code == "disk-full"
    assert not [path for path in files_of(root) if path.name not in ("lock", "format")]


async def test_nobody_else_can_read_the_store(store: BackupStore, service: Path, root: Path) -> None:
    """R-BK-13."""
    await save(store, service)
    for path in everything(root):
        assert path.stat().st_mode & 0o077 == 0, path


async def test_a_store_of_another_version_is_not_touched(
    store: BackupStore, service: Path, root: Path
) -> None:
    """F86."""
    await save(store, service)
    (root / "format").write_bytes(b"homeport backups 2\n")
    acts: list[Coroutine[object, object, object]] = [
        save(store, service, id="two"), store.verify("one"), store.look("one"), store.ids(), store.sweep(),
    ]  # fmt: skip
    for act in acts:
        with pytest.raises(StepFailed) as caught:
            await act
        assert caught.value.code == "backup-failed"


async def test_a_service_name_cannot_leave_the_store(store: BackupStore, service: Path) -> None:
    with pytest.raises(StepFailed):
        await save(store, service, named="../x")


async def test_without_zstd_the_store_works_and_reads_what_zlib_wrote(
    store: BackupStore, service: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agent.adapters.backup import codec

    with monkeypatch.context() as patched:
        patched.setattr(codec, "_zstd", lambda: None)
        made = await save(store, service)
        assert (await store.verify("one", made.digest)).state == "ok"
        assert b" zlib " in the_pack(root).read_bytes()[:100]
    assert (await store.verify("one", made.digest)).state == "ok"
    assert contents(await tar_of(store))["shared/data/a.txt"] == b"hello"


async def test_a_manifest_tells_what_a_later_restore_and_drill_will_ask(
    store: BackupStore, service: Path, root: Path
) -> None:
    await save(store, service, deployment="d1", revision="a" * 40)
    (path,) = (root / "scraper" / "manifests").iterdir()
    manifest = Manifest(path)
    database = next(file for file in manifest.files() if file.kind == "sqlite")
    assert database.tables == {"t": 3000}
    assert database.listed or len(database.chunks) > 1
    assert (manifest.head.deployment, manifest.head.format) == ("d1", 1)
    assert manifest.head.tools["sqlite"] == sqlite3.sqlite_version
    assert msgspec.to_builtins(manifest.head)["service"] == "scraper"
