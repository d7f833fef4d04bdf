"""Unpacking a backup: the round trip of any tree, and archives that mean harm (R-BK-9)."""

import io
import os
import stat
import tarfile
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.adapters.backup import a_store
from agent.adapters.backup.files import Tree
from agent.adapters.backup.names import leaves
from agent.cli import unpack as module
from agent.cli.unpack import Limits, unpack
from agent.core.errors import StepFailed
from agent.system.files import Free
from tests.fakes import START


def described(root: Path) -> dict[str, tuple[Any, ...]]:
    """Everything below a directory: kind, mode, time, content."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        if path.is_symlink():
            what: tuple[Any, ...] = ("link", str(path.readlink()))
        elif path.is_dir():
            what = ("directory", stat.S_IMODE(status.st_mode))
        else:
            what = ("file", stat.S_IMODE(status.st_mode), path.read_bytes())
        found[str(path.relative_to(root))] = (*what, status.st_mtime_ns)
    return found


def names_in(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


async def backed_up(service: Path, store: Path) -> AsyncIterator[bytes]:
    made = a_store(store)
    await made.create(
        id="one", service="s", at=START, sources=[Tree(service, "data")], deployment=None, revision=None
    )
    async for piece in made.stream("one"):
        yield piece


# ---------------------------------------------------------------------- the round trip

NAMES = st.binary(min_size=1, max_size=12).filter(
    lambda name: not set(name) & {0, 0x2F} and name not in (b".", b"..")
)
FILES = st.tuples(
    st.just("file"),
    st.binary(max_size=2000),
    st.sampled_from([0o644, 0o600, 0o755, 0o444]),
    st.integers(-5, 2**33 * 10**9),
)
LINKS = st.tuples(st.just("link"), NAMES)
TREES = st.recursive(
    st.dictionaries(NAMES, FILES | LINKS, max_size=4),
    lambda below: st.dictionaries(NAMES, FILES | LINKS | below, max_size=4),
    max_leaves=12,
)


def plant(tree: dict[bytes, Any], at: bytes) -> None:
    os.mkdir(at)  # noqa: PTH102 - names are bytes here
    for name, what in tree.items():
        path = at + b"/" + name
        if isinstance(what, dict):
            plant(what, path)
        elif what[0] == "link":
            os.symlink(what[1], path)  # noqa: PTH211 - names are bytes here
        else:
            _, content, mode, mtime = what
            handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
            os.write(handle, content)
            os.fchmod(handle, mode)
            os.close(handle)
            os.utime(path, ns=(mtime, mtime))


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(TREES)
async def test_any_tree_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[bytes, Any]
) -> None:
    base = tmp_path_factory.mktemp("tree")
    (base / "service").mkdir()
    plant(tree, os.fsencode(base / "service" / "data"))
    before = described(base / "service")
    pieces = [piece async for piece in backed_up(base / "service", base / "store")]
    done = unpack(pieces, base / "target")
    assert described(base / "target") == before
    assert (done.backup, done.left_out) == ("one", ())
    assert done.files + done.links + done.directories == len(before)


async def test_links_that_lead_out_are_left_out_and_named(tmp_path: Path) -> None:
    data = tmp_path / "service" / "data"
    data.mkdir(parents=True)
    (data / "inside").symlink_to("../data/f")
    (data / "absolute").symlink_to("/etc/passwd")
    (data / "above").symlink_to("../../etc")
    (data / "here").symlink_to(".")
    (data / "around").symlink_to("here/../../x")
    done = unpack(
        [piece async for piece in backed_up(tmp_path / "service", tmp_path / "store")], tmp_path / "target"
    )
    assert done.left_out == ("data/above", "data/absolute", "data/around")
    assert names_in(tmp_path / "target" / "data") == ["here", "inside"]


async def test_set_id_bits_do_not_come_back(tmp_path: Path) -> None:
    data = tmp_path / "service" / "data"
    data.mkdir(parents=True)
    data.chmod(0o2775)
    unpack(
        [piece async for piece in backed_up(tmp_path / "service", tmp_path / "store")], tmp_path / "target"
    )
    assert stat.S_IMODE((tmp_path / "target" / "data").stat().st_mode) == 0o775


async def test_common_tar_reads_a_backup(tmp_path: Path) -> None:
    import subprocess

    data = tmp_path / "service" / "data"
    data.mkdir(parents=True)
    (data / ("long" * 50)).write_bytes(b"x")
    archive = tmp_path / "a.tar"
    archive.write_bytes(
        b"".join([piece async for piece in backed_up(tmp_path / "service", tmp_path / "store")])
    )
    listed = subprocess.run(["tar", "tf", archive], capture_output=True, check=True)  # noqa: ASYNC221
    assert listed.stdout.decode().splitlines() == ["data/", "data/" + "long" * 50]


# ---------------------------------------------------------------------- archives that mean harm


def member(name: str, content: bytes = b"", **differences: Any) -> bytes:
    """One member as tar writes it."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.mode = 0o644
    for key, value in differences.items():
        setattr(info, key, value)
    return info.tobuf(tarfile.PAX_FORMAT) + content + bytes(-len(content) % 512)


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> bytes:
    return member(name, type=kind, linkname=target)


def archive(
    *members: bytes, count: int | None = None, size: int | None = None, end: bytes = bytes(1024)
) -> bytes:
    """An archive that announces what it holds, unless told otherwise."""
    with io.BytesIO(b"".join(members) + bytes(1024)) as raw, tarfile.open(fileobj=raw) as tar:
        try:
            total = sum(info.size for info in tar)
        except tarfile.TarError:
            total = 0
    header = tarfile.TarInfo.create_pax_global_header(
        {
            "HOMEPORT.backup": "one",
            "HOMEPORT.members": str(len(members) if count is None else count),
            "HOMEPORT.bytes": str(total if size is None else size),
        }
    )
    return header + b"".join(members) + end


def refused(raw: bytes | Iterable[bytes], target: Path, limits: Limits | None = None) -> StepFailed:
    """The refusal; and that it left nothing behind."""
    before = described(target.parent)
    with pytest.raises(StepFailed) as caught:
        unpack([raw] if isinstance(raw, bytes) else raw, target, limits)
    assert described(target.parent) == before
    return caught.value


HARMFUL = {
    "an absolute path": [member("/etc/x", b"1")],
    "a path upwards": [member("a/../../x", b"1")],
    "two dots alone": [member("..", b"1")],
    "a dot": [member("./x", b"1")],
    "an empty part": [member("a//x", b"1")],
    "an empty name": [member("", b"1")],
    "a hard link": [member("a", b"1"), link("b", "a", tarfile.LNKTYPE)],
    "a hard link outwards": [link("b", "/etc/passwd", tarfile.LNKTYPE)],
    "a character device": [member("d", type=tarfile.CHRTYPE)],
    "a block device": [member("d", type=tarfile.BLKTYPE)],
    "a fifo": [member("d", type=tarfile.FIFOTYPE)],
    "a sparse file": [member("d", type=tarfile.GNUTYPE_SPARSE)],
    "set user id": [member("s", b"1", mode=0o4755)],
    "set group id": [member("s", type=tarfile.DIRTYPE, mode=0o2755)],
    "a duplicate": [member("a", b"1"), member("a", b"2")],
    "a file and a directory": [member("a", b"1"), member("a/b", b"2")],
    "a directory and a file": [member("a/b", b"2"), member("a", b"1")],
    "a link upwards": [link("l", "../x")],
    "an absolute link": [link("l", "/etc")],
    "a link over a link": [link("here", "."), link("l", "here/../../x")],
    "a link over a later link": [link("l", "here/../x"), link("here", ".")],
    "a link over a link in a directory": [link("a/b", ".."), link("c", "a/b/../x")],
    "a write through a link": [link("l", "d"), member("l/x", b"1")],
    "a write through a link to a real directory": [
        member("d", type=tarfile.DIRTYPE),
        link("l", "d"),
        member("l/x", b"1"),
    ],
    "a link in place of a directory": [member("l/x", b"1"), link("l", "d")],
    "a link twice": [link("l", "a"), link("l", "b")],
    "a link with content": [member("l", b"1", type=tarfile.SYMTYPE, linkname="a")],
    "a link to nothing": [link("l", "")],
    "a name too long": [member("n" * 256, b"1")],
    "a path too long": [member("/".join(["n" * 200] * 21), b"1")],
    "a path too deep": [member("/".join("n" * 301), b"1")],
    "an unknown header": [member("a", b"1", pax_headers={"GNU.sparse.name": "../x"})],
}


@pytest.mark.parametrize("harm", HARMFUL)
def test_an_archive_that_means_harm_is_refused_and_leaves_nothing(harm: str, tmp_path: Path) -> None:
    """R-BK-9."""
    assert refused(archive(member("first", b"0"), *HARMFUL[harm]), tmp_path / "t").code == "archive-refused"


def test_an_archive_that_is_cut_anywhere_is_refused(tmp_path: Path) -> None:
    """M7, R-BK-6: also at a member's end, where tar takes it for whole."""
    whole = archive(member("a", b"1" * 700), member("b", type=tarfile.DIRTYPE), link("c", "a"))
    assert unpack([whole], tmp_path / "whole").files == 1
    for at in range(0, len(whole), 256):
        assert refused(whole[:at], tmp_path / "t").code == "archive-refused"
    without_end = whole[:-1024]
    for members in (2, 4):
        held = archive(member("a", b"1"), member("b", b"2"), member("c", b"3"), count=members)
        assert refused(held, tmp_path / "t").code == "archive-refused"
    assert refused(without_end[:-512] + bytes(1024), tmp_path / "t").code == "archive-refused"


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_flipped_bit_never_writes_outside_nor_crashes(
    tmp_path_factory: pytest.TempPathFactory, at: int, bit: int
) -> None:
    base = tmp_path_factory.mktemp("flip")
    raw = bytearray(
        archive(
            member("d/é" + "n" * 120, b"1" * 700, mtime=1.5),
            link("c", "d"),
            member("e", type=tarfile.DIRTYPE),
        )
    )
    raw[at % len(raw)] ^= 1 << bit
    try:
        unpack([bytes(raw)], base / "t")
    except StepFailed:
        assert names_in(base) == []
    else:
        assert names_in(base) == ["t"]


@settings(max_examples=100, deadline=None)
@given(raw=st.binary(max_size=3000))
def test_any_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    assert refused(raw, tmp_path_factory.mktemp("bytes") / "t").code == "archive-refused"


def test_more_than_announced_or_allowed_is_refused(tmp_path: Path) -> None:
    """R-BK-9: declared and real."""
    big = member("a", b"1" * 5000)
    assert refused(archive(big, size=10), tmp_path / "t").code == "archive-refused"
    assert refused(archive(big), tmp_path / "t", Limits(bytes=4999)).code == "archive-refused"
    many = archive(*(member(f"f{number}", b"1") for number in range(10)))
    assert refused(many, tmp_path / "t", Limits(members=9)).code == "archive-refused"
    assert unpack([many], tmp_path / "t", Limits(members=10)).files == 10


def test_an_archive_of_other_making_is_refused(tmp_path: Path) -> None:
    raw = member("a", b"1") + bytes(1024)
    assert refused(raw, tmp_path / "t").code == "archive-refused"
    info = tarfile.TarInfo("n" * 200)
    assert (
        refused(archive(info.tobuf(tarfile.GNU_FORMAT), count=1, size=0), tmp_path / "t").code
        == "archive-refused"
    )


def test_what_follows_the_end_is_refused_unless_it_is_padding(tmp_path: Path) -> None:
    raw = archive(member("a", b"1"))
    assert unpack([raw, bytes(9000)], tmp_path / "padded").files == 1
    assert refused(raw + member("b", b"1"), tmp_path / "t").code == "archive-refused"


def test_a_stream_that_breaks_off_is_refused(tmp_path: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield archive(member("a", b"1" * 5000))[:2000]
        raise ConnectionResetError("gone")

    assert refused(pieces(), tmp_path / "t").code == "archive-refused"


# ---------------------------------------------------------------------- the target


def test_the_target_is_new_or_empty(tmp_path: Path) -> None:
    raw = archive(member("a", b"1"))
    (tmp_path / "empty").mkdir(mode=0o755)
    assert unpack([raw], tmp_path / "empty").files == 1
    assert stat.S_IMODE((tmp_path / "empty").stat().st_mode) == 0o755
    assert unpack([raw], tmp_path / "new").bytes == 1
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to("nowhere")
    for taken in ("empty", "file", "link", "missing/new"):
        assert refused(raw, tmp_path / taken).code == "restore-target"


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F87."""
    raw = archive(member("a", b"1" * 5000))
    for space in (Free(4999, None), Free(10**9, 500)):
        monkeypatch.setattr(module, "free", lambda path, space=space: space)
        assert refused(raw, tmp_path / "t").code == "restore-target"


def test_a_disk_that_fills_meanwhile_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int, mode: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fchmod", full)
    assert refused(archive(member("a", b"1" * 5000)), tmp_path / "t").code == "disk-full"


# ---------------------------------------------------------------------- links, as a decision


@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "d/c", "d/e"]), st.text("ab./cde", min_size=1, max_size=12), min_size=1
    )
)
def test_a_link_that_does_not_leave_stays_inside_on_a_real_file_system(
    tmp_path_factory: pytest.TempPathFactory, links: dict[str, str]
) -> None:
    root = tmp_path_factory.mktemp("links") / "root"
    (root / "d").mkdir(parents=True)
    for name, target in links.items():
        (root / name).symlink_to(target)
    for name, target in links.items():
        real = os.path.realpath(root / name)
        outside = os.path.commonpath([real, os.path.realpath(root)]) != os.path.realpath(root)
        if outside and "//" not in target:
            assert leaves(name, links) or _loops(root / name)


def _loops(path: Path) -> bool:
    try:
        path.stat()
    except OSError as error:
        return error.errno == 40
    return False


def test_a_link_through_the_root_leaves() -> None:
    assert leaves("a", {"a": "../root/x"})
    assert leaves("d/a", {"d/a": "../../x"})
    assert not leaves("d/a", {"d/a": "../x"})
    assert not leaves("a", {"a": "a"})
    assert not leaves("a", {"a": "b/b/b", "b": "a/a/a"})
