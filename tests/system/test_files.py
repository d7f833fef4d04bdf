"""Files: the old or the new, never a half; and trees that somebody has locked."""

import errno
import os
import threading
from pathlib import Path

import pytest

from agent.core.model import Fault
from agent.system import files


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_file_is_replaced_whole_with_its_mode(tmp_path: Path) -> None:
    files.write_atomic(tmp_path / "x", b"one")
    files.write_atomic(tmp_path / "x", b"two", mode=0o640)
    assert (tmp_path / "x").read_bytes() == b"two"
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640 & ~current_umask()
    assert names(tmp_path) == ["x"]


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_write_that_fails_leaves_the_old_file_and_no_scrap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F22: an fsync that fails counts as lost and is not tried again"""
    files.write_atomic(tmp_path / "x", b"one")
    tries = []

    def full(handle: int) -> None:
        tries.append(handle)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_atomic(tmp_path / "x", b"two")
    assert (tmp_path / "x").read_bytes() == b"one"
    assert names(tmp_path) == ["x"]
    assert len(tries) == 1


def test_what_a_power_cut_left_of_a_write_is_removed(tmp_path: Path) -> None:
    """F3, F9."""
    for name in ("x", ".x.0a1b2c3d.partial", ".x.ffffffff.partial", ".xy.0a1b2c3d.partial", "y"):
        (tmp_path / name).touch()
    files.remove_asides(tmp_path / "x")
    assert names(tmp_path) == [".xy.0a1b2c3d.partial", "x", "y"]


def test_the_content_is_on_the_device_before_the_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M2, R-PL-1"""
    acts: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def watched_fsync(handle: int) -> None:
        acts.append("directory" if Path(f"/proc/self/fd/{handle}").is_dir() else "file")
        fsync(handle)

    def watched_replace(path: Path, target: Path) -> Path:
        acts.append("rename")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(Path, "replace", watched_replace)
    files.write_atomic(tmp_path / "x", b"one")
    files.link_atomic("x", tmp_path / "link")
    assert acts == ["file", "rename", "directory", "rename", "directory"]


def test_a_link_is_replaced_and_a_directory_is_not(tmp_path: Path) -> None:
    files.link_atomic("one", tmp_path / "link")
    files.link_atomic("two", tmp_path / "link")
    assert str((tmp_path / "link").readlink()) == "two"
    (tmp_path / "real").mkdir()
    with pytest.raises(OSError, match="directory"):
        files.link_atomic("one", tmp_path / "real")
    assert names(tmp_path) == ["link", "real"]


def test_a_locked_tree_is_removed_and_what_its_links_name_is_not(tmp_path: Path) -> None:
    deep = tmp_path / "tree/a/b/c"
    deep.mkdir(parents=True)
    (deep / "file").write_text("")
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").write_text("")
    (deep / "link").symlink_to(tmp_path / "precious")
    for place in (deep, deep.parent, deep.parent.parent):
        place.chmod(0)
    files.remove_tree(tmp_path / "tree")
    files.remove_tree(tmp_path / "tree")
    assert names(tmp_path) == ["precious"]
    assert names(tmp_path / "precious") == ["file"]


def test_files_links_and_pipes_are_removed_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("directory")
    (tmp_path / "dangling").symlink_to("nothing")
    os.mkfifo(tmp_path / "pipe")
    for name in ("file", "link", "dangling", "pipe"):
        files.remove_tree(tmp_path / name)
    assert names(tmp_path) == ["directory"]


def nest(place: Path, depth: int = 3000) -> None:
    """Directories in one another, more than a path can name."""
    handle = os.open(place, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=handle)
        below = os.open("d", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = below
    os.close(handle)


def test_a_tree_that_is_deeper_than_python_goes_down_is_removed(tmp_path: Path) -> None:
    """F73: a build that nested them must not be in the way of the next one."""
    (tmp_path / "tree").mkdir()
    nest(tmp_path / "tree")
    files.remove_tree(tmp_path / "tree")
    assert names(tmp_path) == []


def test_a_plain_file_is_read_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("four")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    assert files.read_plain(tmp_path / "file", 4) == b"four"
    assert files.read_plain(tmp_path / "file", 3) is None
    for name in ("link", "pipe", "nothing", "."):
        assert files.read_plain(tmp_path / name, 4) is None, name


def test_a_copy_overwrites_nothing_and_goes_through_no_link(tmp_path: Path) -> None:
    """Who may write in the copy's place could have the agent write over its own files."""
    (tmp_path / "from").write_text("a repository's")
    (tmp_path / "state").write_text("the agent's")
    (tmp_path / "to").symlink_to("state")
    with pytest.raises(FileExistsError):
        files.copy_plain(tmp_path / "from", tmp_path / "to")
    assert (tmp_path / "state").read_text() == "the agent's"


def test_a_copy_does_not_follow_a_directory_that_becomes_a_link_meanwhile(tmp_path: Path) -> None:
    """As above, by a service that waits for the right moment."""
    source, target, state = tmp_path / "from", tmp_path / "to", tmp_path / "state"
    (source / "seeds").mkdir(parents=True)
    (state / "seeds").mkdir(parents=True)
    for number in range(3000):
        (source / "seeds" / f"{number}").write_text("x")

    def swap() -> None:
        while not (target / "seeds").is_dir():
            pass
        target.rename(tmp_path / "away")
        target.symlink_to(state)

    thread = threading.Thread(target=swap)
    thread.start()
    files.copy_plain(source, target)
    thread.join()
    assert target.is_symlink()
    assert names(state / "seeds") == []
    assert len(names(tmp_path / "away/seeds")) == 3000


def test_syncing_works_and_tells_errors(tmp_path: Path) -> None:
    files.syncfs(tmp_path)
    files.fsync_directory(tmp_path)
    with pytest.raises(FileNotFoundError):
        files.syncfs(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        files.fsync_directory(tmp_path / "file")


def test_free_space_is_what_the_system_says(tmp_path: Path) -> None:
    free = files.free(tmp_path)
    figures = os.statvfs(tmp_path)
    assert abs(free.bytes - figures.f_bavail * figures.f_frsize) < 1 << 30
    assert free.inodes is None or free.inodes > 0


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, "disk-full"),
        (errno.EDQUOT, "disk-full"),
        (errno.EACCES, "not-writable"),
        (errno.EPERM, "not-writable"),
        (errno.EIO, "disk-failed"),
        (errno.EROFS, "disk-failed"),
    ],
)
def test_a_system_error_becomes_a_code_of_the_worlds(number: int, code: str) -> None:
    """R-RB-6"""
    failure = files.translate(OSError(number, os.strerror(number)), "the thing")
    assert (failure.code, failure.fault) == (code, Fault.WORLD)
    assert failure.message == f"the thing: {os.strerror(number)}"


def test_a_plain_copy_has_contents_links_and_what_is_executable_and_the_modes_of_its_place(
    tmp_path: Path,
) -> None:
    (tmp_path / "from/deep").mkdir(parents=True)
    (tmp_path / "from/deep/run").write_text("x")
    (tmp_path / "from/deep/run").chmod(0o700)
    (tmp_path / "from/deep/text").write_text("y")
    (tmp_path / "from/deep/text").chmod(0o600)
    (tmp_path / "from/deep").chmod(0o700)
    (tmp_path / "from/link").symlink_to("deep/nowhere")
    before = os.umask(0o027)
    try:
        files.copy_plain(tmp_path / "from", tmp_path / "to")
    finally:
        os.umask(before)
    assert (tmp_path / "to/deep").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "to/deep/run").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "to/deep/text").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "to/deep/text").read_text() == "y"
    assert (tmp_path / "to/link").readlink() == Path("deep/nowhere")
    assert names(tmp_path / "to") == ["deep", "link"]


def test_a_mode_is_set_where_it_differs(tmp_path: Path) -> None:
    for mode in (0o2755, 0o2755, 0o700):
        files.set_mode(tmp_path, mode)
        assert tmp_path.stat().st_mode & 0o7777 == mode


NOBODY = 65534


def test_own_links_lead_anywhere(tmp_path: Path) -> None:
    (tmp_path / "disk" / "data").mkdir(parents=True)
    (tmp_path / "far").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "near").symlink_to("../disk/./data")
    (tmp_path / "round").symlink_to("round")
    for path in ("far/near", "far/../disk/data", "nothing/at/all", "far/nothing"):
        assert files.strangers_link(tmp_path / path) is None, path
    with pytest.raises(OSError, match="Too many levels"):
        files.strangers_link(tmp_path / "round")


@pytest.mark.root
def test_a_link_of_somebody_else_is_seen_wherever_it_is_on_the_way(tmp_path: Path) -> None:
    (tmp_path / "disk" / "data").mkdir(parents=True)
    (tmp_path / "own").symlink_to("theirs/disk")
    (tmp_path / "theirs").symlink_to(tmp_path)
    os.lchown(tmp_path / "theirs", NOBODY, NOBODY)
    for path in ("theirs", "theirs/disk/data", "own/data", "disk/../own"):
        assert files.strangers_link(tmp_path / path) == str(tmp_path / "theirs"), path
