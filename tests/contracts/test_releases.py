"""The contract of `core.ports.Releases`, over real directories and over the fake."""

import asyncio
import hashlib
import os
import shutil
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest

from agent.adapters import marker
from agent.adapters.releases import ReleaseDirectory
from agent.core import ports
from agent.core.errors import StepFailed
from agent.core.model import Fault, Release
from agent.core.reuse import ABSENT
from agent.core.settings import Reuse
from agent.system import files, process
from tests.fakes import FakeDisk, FakeReleases

NAME = "1-aaaaaaa"
NEXT = "2-bbbbbbb"
SHARED = ("data", "var/lib/app", "settings.ini")


@pytest.fixture
async def releases(tmp_path: Path) -> ReleaseDirectory:
    made = make(tmp_path)
    await made.ready()
    return made


def make(tmp_path: Path, **floors: Any) -> ReleaseDirectory:
    return ReleaseDirectory(tmp_path / "srv", SHARED, "scraper", **floors)


def write(directory: Path, contents: dict[str, str]) -> None:
    for name, text in contents.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)


GIT = {"app.py": "print(1)\n", "src/deep/x.py": "x\n", "data/seed.txt": "seed\n", "settings.ini": "a=1\n"}


def lay_out(place: Path, contents: dict[str, str] = GIT) -> None:
    write(place, contents)
    (place / "link").symlink_to("src/deep")


def a_release(name: str = NAME, built_by: str = "") -> Release:
    return Release(
        name=name, service="scraper", revision=name[2:] + "0" * 33, config_hash="c", built_by=built_by
    )


async def build(
    releases: ReleaseDirectory, name: str = NAME, work: Callable[[Path], object] | None = None
) -> Path:
    """The whole order of calls; `work` is the build."""
    place = releases.path(name)
    assert await releases.begin(name)
    lay_out(place)
    await releases.snapshot(name)
    await releases.share(name)
    if work:
        work(place)
    await releases.seal(a_release(name))
    return place


async def fails(code: str, call: object, fault: Fault | None = None) -> StepFailed:
    with pytest.raises(StepFailed) as caught:
        await call  # type: ignore[misc]  # a coroutine
    assert caught.value.code == code, caught.value
    assert fault is None or caught.value.fault is fault
    return caught.value


# --- the contract


class Bench(Protocol):
    """Releases, and hands that work in them as git, a build or somebody else does."""

    releases: ports.Releases

    def put(self, name: str, contents: dict[str, str]) -> None:
        """Writes files into a release."""

    def take(self, name: str, file: str) -> None:
        """Removes a file from a release."""

    def files(self, name: str) -> dict[str, str] | None:
        """What lies in a release, the marker and links left out; None if it is not there."""


class DirectoryBench:
    """Real directories."""

    def __init__(self, tmp_path: Path) -> None:
        self.releases: ports.Releases = ReleaseDirectory(tmp_path / "bench", (), "scraper")

    def put(self, name: str, contents: dict[str, str]) -> None:
        write(self.releases.path(name), contents)

    def take(self, name: str, file: str) -> None:
        (self.releases.path(name) / file).unlink()

    def files(self, name: str) -> dict[str, str] | None:
        place = self.releases.path(name)
        if not place.exists():
            return None
        found = [path for path in place.iterdir() if path.name != marker.NAME and not path.is_symlink()]
        return {path.name: path.read_text() for path in found}


class FakeBench:
    """The same in memory: see `tests.fakes`."""

    def __init__(self) -> None:
        self._disk = FakeDisk()
        self.releases: ports.Releases = FakeReleases(self._disk)

    def put(self, name: str, contents: dict[str, str]) -> None:
        self._disk.trees[self.releases.path(name)].update(contents)

    def take(self, name: str, file: str) -> None:
        del self._disk.trees[self.releases.path(name)][file]

    def files(self, name: str) -> dict[str, str] | None:
        tree = self._disk.trees.get(self.releases.path(name))
        return tree and {file: text for file, text in tree.items() if not text.startswith("->")}


@pytest.fixture(params=["directory", "fake"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    """Each implementation, and the fake that the tests of the services use; ready."""
    made: Bench = DirectoryBench(tmp_path) if request.param == "directory" else FakeBench()
    await made.releases.ready()
    return made


async def built(bench: Bench, name: str = NAME, work: Callable[[], object] | None = None) -> None:
    """The whole order of calls; `work` is the build."""
    assert await bench.releases.begin(name)
    bench.put(name, {"app.py": "print(1)", "lib.py": "x"})
    await bench.releases.snapshot(name)
    await bench.releases.share(name)
    if work:
        work()
    await bench.releases.seal(a_release(name))


async def test_what_was_built_is_complete_and_is_not_built_again(bench: Bench) -> None:
    await built(bench)
    await bench.releases.verify(NAME)
    assert not await bench.releases.begin(NAME)
    await bench.releases.seal(a_release())
    assert await bench.releases.names() == [NAME]
    assert bench.files(NAME) == {"app.py": "print(1)", "lib.py": "x"}


async def test_what_was_cut_off_is_removed_and_begun_anew(bench: Bench) -> None:
    """F6"""
    for name in (NAME, NEXT):
        await bench.releases.begin(name)
        bench.put(name, {"half": ""})
    assert await bench.releases.begin(NAME)
    assert bench.files(NAME) == {}
    assert bench.files(NEXT) is None
    assert await bench.releases.names() == []


async def test_a_damaged_one_is_built_anew_unless_it_is_live(bench: Bench) -> None:
    for name in (NAME, NEXT):
        await built(bench, name)
        bench.put(name, {"app.py": "changed"})
    await bench.releases.point(NAME)
    await fails("release-changed", bench.releases.begin(NAME), Fault.WORLD)
    assert await bench.releases.begin(NEXT)
    assert bench.files(NEXT) == {}
    assert bench.files(NAME) == {"app.py": "changed", "lib.py": "x"}


async def test_what_a_build_adds_is_fine_and_what_it_removes_is_not(bench: Bench) -> None:
    """F73"""
    await built(bench, work=lambda: bench.put(NAME, {"made": "x"}))
    await bench.releases.verify(NAME)
    bench.take(NAME, "made")
    await bench.releases.verify(NAME)
    await fails("release-damaged", built(bench, NEXT, lambda: bench.take(NEXT, "app.py")), Fault.COMMIT)
    await fails("no-release", bench.releases.verify(NEXT))
    assert await bench.releases.names() == [NAME]


async def test_what_was_changed_or_taken_later_is_found(bench: Bench) -> None:
    """F97, R-RB-10"""
    await built(bench)
    await built(bench, NEXT)
    bench.put(NAME, {"app.py": "changed"})
    bench.take(NEXT, "app.py")
    await fails("release-changed", bench.releases.verify(NAME), Fault.WORLD)
    await fails("release-damaged", bench.releases.verify(NEXT), Fault.WORLD)


async def test_current_names_what_it_was_pointed_to(bench: Bench) -> None:
    assert await bench.releases.current() is None
    await built(bench)
    await built(bench, NEXT)
    for name in (NAME, NEXT, NEXT):
        await bench.releases.point(name)
        assert await bench.releases.current() == name
    for _ in range(2):
        await bench.releases.clear()
        assert await bench.releases.current() is None


async def test_only_a_complete_one_becomes_current(bench: Bench) -> None:
    await bench.releases.begin(NAME)
    for name in (NAME, NEXT):
        await fails("no-release", bench.releases.point(name))
    assert await bench.releases.current() is None


async def test_they_are_named_in_the_order_of_their_numbers(bench: Bench) -> None:
    for name in ("10-aaaaaaa", "9-bbbbbbb", "2-ccccccc"):
        await built(bench, name)
    assert list(await bench.releases.names()) == ["2-ccccccc", "9-bbbbbbb", "10-aaaaaaa"]


async def test_removing_can_be_done_twice_and_leaves_the_current_one(bench: Bench) -> None:
    await built(bench)
    await built(bench, NEXT)
    await bench.releases.point(NAME)
    for name in (NAME, NEXT, NEXT, "3-ccccccc"):
        await bench.releases.remove(name)
    assert list(await bench.releases.names()) == [NAME]
    assert bench.files(NEXT) is None
    await bench.releases.verify(NAME)


async def test_an_unfinished_one_is_removed_as_well(bench: Bench) -> None:
    await bench.releases.begin(NAME)
    await bench.releases.remove(NAME)
    assert bench.files(NAME) is None


@pytest.mark.parametrize("name", ["../etc", "1-AAAAAAA", "current", "", "1-aaaaaaa\n"])
async def test_other_names_are_refused(bench: Bench, name: str) -> None:
    for call in (bench.releases.verify, bench.releases.point, bench.releases.remove, bench.releases.begin):
        await fails("no-release", call(name))


# --- reuse, by contract


WANTED = Reuse(key=("lock", "other"), paths=("venv",))


async def linked(bench: Bench, name: str = NEXT, builder: str = NAME) -> None:
    """A release that links to what another one has built."""
    assert await bench.releases.begin(name)
    bench.put(name, {"app.py": "print(2)", "lock": "x"})
    await bench.releases.snapshot(name)
    await bench.releases.share(name)
    await bench.releases.ingredients(name, WANTED)
    await bench.releases.take_over(name, builder, WANTED.paths)
    await bench.releases.seal(a_release(name, built_by=builder))


async def test_the_ingredients_are_the_contents_of_the_key_files(bench: Bench) -> None:
    assert await bench.releases.begin(NAME)
    bench.put(NAME, {"lock": "one"})
    one = await bench.releases.ingredients(NAME, WANTED)
    assert one == {"lock": hashlib.sha256(b"one").hexdigest(), "other": ABSENT}
    bench.put(NAME, {"other": ""})
    assert (await bench.releases.ingredients(NAME, WANTED))["other"] not in (ABSENT, one["lock"])


async def test_what_came_from_git_cannot_be_reused(bench: Bench) -> None:
    await built(bench, work=lambda: bench.put(NAME, {"venv": "built"}))
    assert await bench.releases.begin(NEXT)
    bench.put(NEXT, {"venv": "tracked"})
    await fails("tree-refused", bench.releases.ingredients(NEXT, WANTED), Fault.COMMIT)
    await fails("tree-refused", bench.releases.take_over(NEXT, NAME, WANTED.paths), Fault.COMMIT)
    assert bench.files(NEXT) == {"venv": "tracked"}


async def test_a_release_offers_what_it_has_built_itself(bench: Bench) -> None:
    assert not await bench.releases.offers(NAME, WANTED.paths)
    await built(bench, work=lambda: bench.put(NAME, {"venv": "built"}))
    assert await bench.releases.offers(NAME, WANTED.paths)
    assert not await bench.releases.offers(NAME, ("venv", "another"))
    await linked(bench)
    assert not await bench.releases.offers(NEXT, WANTED.paths), "a link never leads to a link"
    assert await bench.releases.begin("3-ccccccc")
    bench.put("3-ccccccc", {"venv": "half"})
    assert not await bench.releases.offers("3-ccccccc", WANTED.paths), "it is not complete"


async def test_what_is_linked_is_part_of_the_release(bench: Bench) -> None:
    """F97: a release whose dependencies are gone does not verify, and the one that built them never knew."""
    await built(bench, work=lambda: bench.put(NAME, {"venv": "built"}))
    await linked(bench)
    await bench.releases.verify(NEXT)
    assert not await bench.releases.begin(NEXT)
    assert bench.files(NEXT) == {"app.py": "print(2)", "lock": "x"}
    bench.take(NAME, "venv")
    await fails("release-damaged", bench.releases.verify(NEXT), Fault.WORLD)
    await bench.releases.verify(NAME)


async def test_removing_a_release_leaves_what_it_links_to(bench: Bench) -> None:
    await built(bench, work=lambda: bench.put(NAME, {"venv": "built"}))
    await linked(bench)
    await bench.releases.remove(NEXT)
    assert bench.files(NAME) == {"app.py": "print(1)", "lib.py": "x", "venv": "built"}
    await bench.releases.verify(NAME)
    await linked(bench)
    await bench.releases.remove(NAME)
    await fails("release-damaged", bench.releases.verify(NEXT), Fault.WORLD)


async def test_a_link_that_the_build_removes_is_missed(bench: Bench) -> None:
    await built(bench, work=lambda: bench.put(NAME, {"venv": "built"}))
    assert await bench.releases.begin(NEXT)
    bench.put(NEXT, {"app.py": "x"})
    await bench.releases.snapshot(NEXT)
    await bench.releases.take_over(NEXT, NAME, WANTED.paths)
    bench.take(NEXT, "venv")
    await fails("release-damaged", bench.releases.seal(a_release(NEXT, built_by=NAME)), Fault.COMMIT)


# --- ready


async def test_the_directories_are_made(releases: ReleaseDirectory, tmp_path: Path) -> None:
    assert sorted(path.name for path in list((tmp_path / "srv").iterdir())) == ["releases", "shared"]
    await releases.ready()
    assert await releases.current() is None
    assert await releases.names() == []


async def test_a_real_directory_at_current_is_told_and_left_alone(
    releases: ReleaseDirectory, tmp_path: Path
) -> None:
    """F98"""
    await build(releases)
    write(tmp_path / "srv/current", {"precious": "x"})
    for call in (releases.ready(), releases.point(NAME), releases.clear(), releases.current()):
        await fails("current-not-a-link", call)
    assert (tmp_path / "srv/current/precious").read_text() == "x"


@pytest.mark.parametrize(
    "target", ["/etc", "elsewhere", "../srv2/releases/1-aaaaaaa", "releases", "releases/mine"]
)
async def test_a_link_that_leads_elsewhere_is_told_and_left_alone(
    releases: ReleaseDirectory, tmp_path: Path, target: str
) -> None:
    """F98"""
    (tmp_path / "srv/current").symlink_to(target)
    await fails("current-not-a-link", releases.ready())
    assert str((tmp_path / "srv/current").readlink()) == target


async def test_a_dangling_link_into_the_releases_is_none(releases: ReleaseDirectory, tmp_path: Path) -> None:
    """F98"""
    (tmp_path / "srv/current").symlink_to("releases/9-fffffff")
    await releases.ready()
    assert await releases.current() is None
    await build(releases)
    await releases.point(NAME)
    assert await releases.current() == NAME


@pytest.mark.parametrize(
    ("floors", "word"), [({"floor_bytes": 1 << 60}, "MiB"), ({"floor_inodes": 1 << 60}, "inodes")]
)
async def test_too_little_space_names_what_is_missing(
    tmp_path: Path, floors: dict[str, int], word: str
) -> None:
    """F22, F25"""
    (tmp_path / "srv").mkdir()
    if word == "inodes" and files.free(tmp_path).inodes is None:
        pytest.skip("this file system counts no inodes")
    assert word in (await fails("disk-full", make(tmp_path, **floors).ready(), Fault.WORLD)).message


async def test_a_directory_that_is_not_ours_is_told(
    releases: ReleaseDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F99"""
    (tmp_path / "srv/releases").chmod(0o500)
    if os.getuid() == 0:  # root may write everywhere: what an ordinary user is told
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path).stat().st_mode & 0o200 != 0)
    await fails("not-writable", releases.ready(), Fault.WORLD)


async def test_a_file_in_the_way_is_the_worlds_fault(tmp_path: Path) -> None:
    (tmp_path / "srv").write_text("")
    await fails("disk-failed", make(tmp_path).ready(), Fault.WORLD)


async def test_scraps_of_a_kill_are_removed(releases: ReleaseDirectory, tmp_path: Path) -> None:
    (tmp_path / "srv/.current.abcd.partial").symlink_to("releases/x")
    write(tmp_path / "srv/shared/.seed.partial", {"x": ""})
    await releases.ready()
    assert not list((tmp_path / "srv").glob(".*")) + list((tmp_path / "srv/shared").iterdir())


# --- begin, seal, verify


async def test_a_release_that_was_built_verifies_and_is_not_built_again(releases: ReleaseDirectory) -> None:
    await build(releases)
    await releases.verify(NAME)
    assert not await releases.begin(NAME)
    await releases.seal(a_release())
    assert await releases.names() == [NAME]


async def test_what_has_no_marker_is_removed_and_begun_anew(
    releases: ReleaseDirectory, tmp_path: Path
) -> None:
    """F6, F7"""
    write(releases.path(NAME), {"half": ""})
    write(releases.path(NEXT), {"half": ""})
    write(tmp_path / "srv/releases/mine", {"precious": ""})
    (releases.path(NAME) / "locked").mkdir(mode=0)
    assert await releases.begin(NAME)
    assert list(releases.path(NAME).iterdir()) == []
    assert not releases.path(NEXT).exists()
    assert (tmp_path / "srv/releases/mine/precious").exists()


async def test_a_damaged_marker_means_building_anew(releases: ReleaseDirectory) -> None:
    """F7"""
    place = await build(releases)
    (place / ".homeport-release.json").write_bytes(b"")
    assert await releases.begin(NAME)
    assert list(place.iterdir()) == []


async def test_the_live_release_is_never_built_anew(releases: ReleaseDirectory) -> None:
    place = await build(releases)
    await releases.point(NAME)
    (place / "app.py").write_text("changed")
    await fails("release-changed", releases.begin(NAME), Fault.WORLD)
    (place / ".homeport-release.json").unlink()
    assert await releases.begin(NEXT)
    assert (place / "src/deep/x.py").exists()


async def test_who_was_left_at_work_in_a_leftover_is_ended(releases: ReleaseDirectory) -> None:
    """F16, R-SD-12"""
    place = releases.path(NAME)
    place.mkdir()
    name, _, value = process.mark_of(place).partition("=")
    left = process.start(
        ["/bin/sh", "-c", "setsid sleep 60 & echo $!"],
        cwd=place,
        env={"PATH": os.environ["PATH"], name: value},
    )
    assert left.stdout
    pid = int(left.stdout.readline())
    left.wait()
    left.stdout.close()
    await releases.begin(NAME)
    found = process.stat_of(pid)
    assert found is None or not found.alive


async def test_what_a_build_adds_or_rewrites_is_fine(releases: ReleaseDirectory) -> None:
    def work(place: Path) -> None:
        write(place, {"node_modules/x": "1", "app.py": "rewritten", "src/__pycache__/x.pyc": ""})

    place = await build(releases, work=work)
    await releases.verify(NAME)
    shutil.rmtree(place / "node_modules")
    write(place, {"service.log": "x"})
    await releases.verify(NAME)


@pytest.mark.parametrize(
    "work",
    [
        lambda place: (place / "app.py").unlink(),
        lambda place: shutil.rmtree(place / "src"),
        shutil.rmtree,
        lambda place: (place / "app.py").chmod(0o777),
        lambda place: (place / "src/deep").chmod(0o700),
        lambda place: place.chmod(0o777),
        lambda place: relink(place / "app.py", "/etc/passwd"),
        lambda place: make_pipe(place / "app.py"),
        lambda place: (place / "src").rename(place / "moved") and (place / "src").symlink_to("/usr"),
        lambda place: (place / "src").rename(place / "moved") and (place / "src").symlink_to("moved"),
        lambda place: (place / "link").unlink(),
        lambda place: os.truncate(place / "app.py", 1 << 42),
        lambda place: (place / marker.NAME).write_bytes(marker.encode(a_release(), [])),
        lambda place: os.truncate(new_file(place / marker.NAME), 1 << 42),
        lambda place: os.mkfifo(place / marker.NAME),
        lambda place: (place / marker.NAME / "in").mkdir(parents=True),
        lambda place: (place / marker.NAME).symlink_to("/dev/zero"),
    ],
)
async def test_a_build_that_removes_or_changes_the_mode_is_refused(
    releases: ReleaseDirectory, work: Callable[[Path], object]
) -> None:
    """F73"""
    await fails("release-damaged", build(releases, work=work), Fault.COMMIT)
    await fails("no-release", releases.verify(NAME))
    assert await releases.names() == []
    assert await releases.begin(NEXT)
    assert not releases.path(NAME).exists(), "it is a leftover like any other"


@pytest.mark.parametrize(
    "spoil",
    [
        os.mkfifo,
        lambda place: place.symlink_to("/dev/zero"),
        lambda place: place.symlink_to("nothing"),
        lambda place: os.truncate(new_file(place), 1 << 42),
        Path.mkdir,
    ],
)
async def test_a_marker_that_is_no_marker_is_never_waited_for(
    releases: ReleaseDirectory, spoil: Callable[[Path], object]
) -> None:
    """A build put it there, and the agent was killed meanwhile."""
    await releases.begin(NAME)
    spoil(releases.path(NAME) / marker.NAME)
    await fails("release-damaged", releases.verify(NAME))
    assert await releases.begin(NAME)
    assert list(releases.path(NAME).iterdir()) == []


@pytest.mark.parametrize(
    "edit",
    [
        lambda place: (place / "app.py").write_text("print(2)\n"),
        lambda place: (place / "app.py").write_text(""),
        lambda place: (place / "app.py").chmod(0o600),
        lambda place: relink(place / "link", "/etc"),
    ],
)
async def test_what_somebody_edited_later_is_told_apart_from_damage(
    releases: ReleaseDirectory, edit: Callable[[Path], object]
) -> None:
    """F97, R-RB-10"""
    edit(await build(releases))
    await fails("release-changed", releases.verify(NAME), Fault.WORLD)


@pytest.mark.parametrize(
    "harm",
    [
        lambda place: (place / "app.py").unlink(),
        lambda place: (place / "src").rename(place / "moved") and (place / "src").symlink_to("moved"),
        lambda place: (place / ".homeport-release.json").write_text("[]"),
        lambda place: (place / ".homeport-release.json").write_text("{" * 5),
        lambda place: forge(place, '"format":1', '"format":2'),
        lambda place: forge(place, '"revision":"a', '"revision":"b'),
        lambda place: forge(place, '"service":"scraper"', '"service":"another"'),
    ],
)
async def test_what_somebody_changed_later_is_found(
    releases: ReleaseDirectory, harm: Callable[[Path], object]
) -> None:
    """F97, R-RB-10"""
    harm(await build(releases))
    await fails("release-damaged", releases.verify(NAME), Fault.WORLD)


def relink(place: Path, target: str) -> None:
    place.unlink()
    place.symlink_to(target)


def new_file(place: Path) -> Path:
    place.touch()
    return place


def make_pipe(place: Path) -> None:
    place.unlink()
    os.mkfifo(place)


def forge(place: Path, old: str, new: str) -> None:
    file = place / ".homeport-release.json"
    file.write_text(file.read_text().replace(old, new, 1))


async def test_a_marker_of_another_release_does_not_count(releases: ReleaseDirectory) -> None:
    place = await build(releases)
    shutil.copytree(place, releases.path(NEXT), symlinks=True)
    await fails("release-damaged", releases.verify(NEXT))


async def test_names_that_are_not_unicode_are_covered(releases: ReleaseDirectory) -> None:
    assert await releases.begin(NAME)
    place = releases.path(NAME)
    odd = os.fsdecode(b"\xff\xfe\n")
    write(place, {odd: "x"})
    await releases.snapshot(NAME)
    await releases.seal(a_release())
    await releases.verify(NAME)
    write(place, {odd: "y"})
    await fails("release-changed", releases.verify(NAME))


async def test_the_tree_is_on_the_device_before_its_marker(
    releases: ReleaseDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M1, R-PL-1"""
    seen: list[tuple[Path, bool]] = []
    monkeypatch.setattr(
        files, "syncfs", lambda place: seen.append((place, (place / ".homeport-release.json").exists()))
    )
    place = await build(releases)
    assert seen[-1:] == [(place, False)]


@pytest.mark.parametrize(
    "name", ["../etc", "1-AAAAAAA", "1", "current", "", "1-aaaaaaa/..", "1-aaaaaaa\n", "a-aaaaaaa"]
)
async def test_what_is_no_name_of_a_release_is_refused(releases: ReleaseDirectory, name: str) -> None:
    for call in (releases.verify(name), releases.point(name), releases.remove(name), releases.begin(name)):
        await fails("no-release", call)


# --- share


async def test_shared_paths_are_seeded_once_and_linked(releases: ReleaseDirectory, tmp_path: Path) -> None:
    first = await build(releases)
    shared = tmp_path / "srv/shared"
    assert (shared / "data/seed.txt").read_text() == "seed\n"
    assert (shared / "settings.ini").read_text() == "a=1\n"
    assert list((shared / "var/lib/app").iterdir()) == []
    (first / "data/new.txt").write_text("kept")
    (shared / "settings.ini").write_text("a=2\n")
    second = await build(releases, NEXT)
    assert (second / "data/new.txt").read_text() == "kept"
    assert (second / "settings.ini").read_text() == "a=2\n"
    for path in SHARED:
        target = str((second / path).readlink())
        assert not target.startswith("/")
        assert (second / path).resolve() == shared / path


async def test_sharing_twice_changes_nothing(releases: ReleaseDirectory, tmp_path: Path) -> None:
    await releases.begin(NAME)
    lay_out(releases.path(NAME))
    await releases.snapshot(NAME)
    await releases.share(NAME)
    (tmp_path / "srv/shared/data/seed.txt").write_text("changed")
    await releases.share(NAME)
    await releases.seal(a_release())
    assert (releases.path(NAME) / "data/seed.txt").read_text() == "changed"


async def test_saved_data_that_is_gone_is_not_made_anew(tmp_path: Path) -> None:
    """F83: else an empty directory would pass the backup, and the new version would serve without its data."""
    releases = ReleaseDirectory(tmp_path / "srv", SHARED, "scraper", saved=("data",))
    await releases.ready()
    await build(releases)
    await releases.point(NAME)
    shared = tmp_path / "srv/shared"
    shutil.rmtree(shared / "data")
    shutil.rmtree(shared / "var/lib")
    await releases.begin(NEXT)
    lay_out(releases.path(NEXT))
    await releases.snapshot(NEXT)
    await fails("backup-source-gone", releases.share(NEXT), Fault.WORLD)
    assert not (shared / "data").exists()
    (shared / "data").mkdir()
    await releases.share(NEXT)
    assert list((shared / "data").iterdir()) == [], "a person made it: nothing is seeded"
    assert (shared / "var/lib").is_dir(), "what no backup holds is made as ever"


@pytest.mark.parametrize("instant", ["copy_plain", "syncfs", "rename", "remove_tree", "symlink_to"])
async def test_a_seed_that_is_cut_off_is_never_half(
    releases: ReleaseDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, instant: str
) -> None:
    """F6, F16: cut off at each act of the seeding, then once more from the start."""
    place = releases.path(NAME)
    await releases.begin(NAME)
    lay_out(place)
    with monkeypatch.context() as cut:
        owner = {"copy_plain": files, "syncfs": files, "remove_tree": files}.get(instant, Path)

        def half(*arguments: object, **_: object) -> None:
            if instant == "copy_plain":
                write(Path(str(arguments[1])), {"half": ""})
            raise KeyboardInterrupt  # as a kill: nobody tidies up

        cut.setattr(owner, instant, half)
        with pytest.raises(KeyboardInterrupt):
            releases._share(place, "data")
    target = tmp_path / "srv/shared/data"
    assert not target.exists() or [path.name for path in list(target.iterdir())] == ["seed.txt"]
    assert await make(tmp_path).begin(NAME)
    await build(make(tmp_path))
    assert [path.name for path in list(target.iterdir())] == ["seed.txt"]
    assert not (tmp_path / "srv/shared/.seed.partial").exists()


@pytest.mark.parametrize("contents", [{"var": "a file"}, {"var/lib": "a file"}])
async def test_a_file_in_the_way_of_a_shared_path_is_refused(
    releases: ReleaseDirectory, contents: dict[str, str]
) -> None:
    await releases.begin(NAME)
    write(releases.path(NAME), contents)
    await fails("tree-refused", releases.share(NAME), Fault.COMMIT)


@pytest.mark.parametrize("name", ["data", "var"])
async def test_a_link_at_a_shared_path_or_above_it_is_refused(releases: ReleaseDirectory, name: str) -> None:
    await releases.begin(NAME)
    write(releases.path(NAME), {"elsewhere/x": ""})
    (releases.path(NAME) / name).symlink_to("elsewhere")
    await fails("tree-refused", releases.share(NAME), Fault.COMMIT)


# --- current


async def test_the_current_link_is_relative_and_can_be_set_twice(
    releases: ReleaseDirectory, tmp_path: Path
) -> None:
    await build(releases)
    await releases.point(NAME)
    await releases.point(NAME)
    assert str((tmp_path / "srv/current").readlink()) == f"releases/{NAME}"
    assert await releases.current() == NAME
    await releases.clear()
    await releases.clear()
    assert await releases.current() is None


async def test_readers_never_see_the_link_missing(releases: ReleaseDirectory, tmp_path: Path) -> None:
    """R-PL-6, with fewer rounds; the long counts run in `make e2e-long`"""
    await build(releases)
    await build(releases, NEXT)
    await releases.point(NAME)
    missing: list[str] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                (tmp_path / "srv/current").readlink()
            except FileNotFoundError as error:
                missing.append(str(error))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(30):
        await releases.point(NEXT)
        await releases.point(NAME)
    done.set()
    reader.join()
    assert missing == []


# --- names, remove


async def test_names_are_in_the_order_of_their_numbers(releases: ReleaseDirectory) -> None:
    for name in ("10-aaaaaaa", "9-bbbbbbb", "2-ccccccc"):
        await build(releases, name)
    releases.path("11-ddddddd").mkdir()
    assert await releases.names() == ["2-ccccccc", "9-bbbbbbb", "10-aaaaaaa"]


async def test_removing_takes_the_marker_first_and_leaves_the_shared_data(
    releases: ReleaseDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F14"""
    place = await build(releases, work=lambda place: write(place, {"locked/deep/x": ""}))
    (place / "locked/deep").chmod(0o500)
    (place / "locked").chmod(0o000)
    with monkeypatch.context() as cut:
        cut.setattr(files, "remove_tree", lambda path: None)
        await releases.remove(NAME)
    assert place.exists()
    assert await releases.names() == []
    await releases.remove(NAME)
    await releases.remove(NAME)
    assert not place.exists()
    assert (tmp_path / "srv/shared/data/seed.txt").exists()


async def test_the_current_release_stays(releases: ReleaseDirectory) -> None:
    await build(releases)
    await releases.point(NAME)
    await releases.remove(NAME)
    await releases.verify(NAME)


async def test_a_cancelled_call_ends_its_work_first(
    releases: ReleaseDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(place: Path) -> None:
        begun.set()
        assert go_on.wait(10)

    await build(releases)
    monkeypatch.setattr(files, "remove_tree", slow)
    task = asyncio.create_task(releases.remove(NAME))
    while not begun.is_set():  # noqa: ASYNC110 - a thread sets it
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.sleep(0.05)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_release_is_for_the_services_user_to_read_only(releases: ReleaseDirectory) -> None:
    """R-GIT-9"""
    assert await releases.begin(NAME)
    assert not stat.S_IMODE(releases.path(NAME).stat().st_mode) & 0o022


# --- reuse, on a real disk


DEEP = Reuse(key=("lock",), paths=(".venv", "front/node_modules"))


async def with_dependencies(releases: ReleaseDirectory) -> Path:
    return await build(
        releases, work=lambda place: write(place, {".venv/bin/run": "1", "front/node_modules/x": "2"})
    )


async def taking_over(
    releases: ReleaseDirectory, name: str = NEXT, work: Callable[[Path], object] | None = None
) -> Path:
    place = releases.path(name)
    assert await releases.begin(name)
    lay_out(place, GIT | {"front/package.json": "{}", "lock": "x"})
    await releases.snapshot(name)
    await releases.share(name)
    await releases.take_over(name, NAME, DEEP.paths)
    if work:
        work(place)
    await releases.seal(a_release(name, built_by=NAME))
    return place


async def test_the_links_are_relative_so_that_the_service_can_be_moved(
    releases: ReleaseDirectory, tmp_path: Path
) -> None:
    await with_dependencies(releases)
    place = await taking_over(releases)
    assert str((place / ".venv").readlink()) == f"../{NAME}/.venv"
    assert str((place / "front/node_modules").readlink()) == f"../../{NAME}/front/node_modules"
    (tmp_path / "srv").rename(tmp_path / "moved")
    moved = ReleaseDirectory(tmp_path / "moved", SHARED, "scraper")
    await moved.verify(NEXT)
    assert (moved.path(NEXT) / ".venv/bin/run").read_text() == "1"


async def test_a_directory_that_only_the_link_needs_is_made(releases: ReleaseDirectory) -> None:
    await with_dependencies(releases)
    place = releases.path(NEXT)
    await releases.begin(NEXT)
    await releases.take_over(NEXT, NAME, DEEP.paths)
    assert (place / "front/node_modules/x").read_text() == "2"


def outside(place: Path) -> None:
    write(place.parents[2], {"secret/lock": "of the agent"})


@pytest.mark.parametrize(
    "trap",
    [
        lambda place: (place / "lock").symlink_to("/etc/passwd"),
        lambda place: (place / "lock").symlink_to("app.py"),
        lambda place: (place / "lock").symlink_to("nowhere"),
        lambda place: (place / "lock").mkdir(),
        lambda place: os.mkfifo(place / "lock"),
    ],
)
async def test_a_key_that_is_no_plain_file_is_refused_and_never_followed(
    releases: ReleaseDirectory, trap: Callable[[Path], object]
) -> None:
    """What a link leads to could change without the key: old dependencies would be taken for right ones."""
    await releases.begin(NAME)
    trap(releases.path(NAME))
    failure = await fails("tree-refused", releases.ingredients(NAME, DEEP), Fault.COMMIT)
    assert "deploy.build.reuse.key" in failure.hint


@pytest.mark.parametrize("target", ["/etc", "../../../secret", "src"])
async def test_a_link_on_the_way_to_a_key_is_refused(releases: ReleaseDirectory, target: str) -> None:
    await releases.begin(NAME)
    place = releases.path(NAME)
    outside(place)
    write(place, {"src/lock": "x"})
    (place / "deep").symlink_to(target)
    for key in ("deep/lock", "deep/passwd"):
        wanted = Reuse(key=(key,), paths=(".venv",))
        await fails("tree-refused", releases.ingredients(NAME, wanted), Fault.COMMIT)


async def test_a_key_below_a_plain_file_is_refused(releases: ReleaseDirectory) -> None:
    await releases.begin(NAME)
    write(releases.path(NAME), {"lock": "x"})
    await fails("tree-refused", releases.ingredients(NAME, Reuse(key=("lock/x",), paths=(".venv",))))


@pytest.mark.parametrize("path", [".venv", "front/node_modules", "front"])
async def test_what_stands_in_the_repository_cannot_be_linked_over(
    releases: ReleaseDirectory, path: str
) -> None:
    """Nor a directory in it, nor what lies behind a link."""
    await with_dependencies(releases)
    await releases.begin(NEXT)
    write(releases.path(NEXT), {"elsewhere/x": ""})
    (releases.path(NEXT) / path).parent.mkdir(exist_ok=True)
    (releases.path(NEXT) / path).symlink_to(releases.path(NEXT) / "elsewhere")
    failure = await fails("tree-refused", releases.ingredients(NEXT, DEEP), Fault.COMMIT)
    assert "deploy.build.reuse.paths" in failure.hint
    await fails("tree-refused", releases.take_over(NEXT, NAME, DEEP.paths), Fault.COMMIT)


@pytest.mark.parametrize(
    "harm",
    [
        lambda place: (place / ".venv").unlink(),
        lambda place: relink(place / ".venv", "/usr"),
        lambda place: (place / ".venv").unlink() or (place / ".venv").mkdir(),
    ],
)
async def test_a_link_that_is_no_longer_the_one_that_was_made_is_found(
    releases: ReleaseDirectory, harm: Callable[[Path], object]
) -> None:
    """F73, F97: by the build's own hand it is the commit's fault."""
    await with_dependencies(releases)
    await fails("release-damaged", taking_over(releases, work=harm), Fault.COMMIT)
    harm(await taking_over(releases))
    await fails("release-damaged", releases.verify(NEXT), Fault.WORLD)


async def test_dependencies_that_became_a_link_themselves_are_not_offered(
    releases: ReleaseDirectory, tmp_path: Path
) -> None:
    place = await with_dependencies(releases)
    await taking_over(releases)
    (place / ".venv").rename(tmp_path / "elsewhere")
    (place / ".venv").symlink_to(tmp_path / "elsewhere")
    assert not await releases.offers(NAME, DEEP.paths)
    await fails("release-damaged", releases.verify(NEXT), Fault.WORLD)


async def test_an_unfinished_link_is_removed_without_what_it_leads_to(releases: ReleaseDirectory) -> None:
    """F16"""
    place = await with_dependencies(releases)
    await releases.begin(NEXT)
    await releases.take_over(NEXT, NAME, DEEP.paths)
    (place / ".venv").chmod(0o500)
    assert await releases.begin(NEXT)
    assert list(releases.path(NEXT).iterdir()) == []
    assert (place / ".venv/bin/run").read_text() == "1"
    assert stat.S_IMODE((place / ".venv").stat().st_mode) == 0o500


async def test_a_forged_builder_in_the_marker_is_found(releases: ReleaseDirectory) -> None:
    await with_dependencies(releases)
    forge(await taking_over(releases), f'"built_by":"{NAME}"', '"built_by":"../../etc"')
    await fails("release-damaged", releases.verify(NEXT), Fault.WORLD)
