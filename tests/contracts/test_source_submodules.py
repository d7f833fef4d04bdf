"""Submodules: filled when they are asked for, and only from where the repository itself lies. Real git throughout."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.adapters import tree
from agent.adapters.source import GitSource
from agent.core.errors import StepFailed
from agent.core.model import Fault
from agent.core.settings import Source
from agent.system import process
from agent.system.secrets import Secrets
from tests.gitrepo import ENV, Remote, files_of


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    made = Remote(tmp_path / "host" / "app")
    made.commit({"app.py": "print(1)\n"})
    return made


@pytest.fixture
def library(tmp_path: Path) -> Remote:
    """It lies beside the repository."""
    made = Remote(tmp_path / "host" / "library")
    made.commit({"lib.py": "x = 1\n", "deep/more.py": "y = 1\n"})
    return made


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "srv").mkdir()
    return tmp_path / "srv"


def source_of(
    remote: Remote, home: Path, *, caps: tree.Caps | None = None, submodules: bool = True
) -> GitSource:
    options = Source(repository=str(remote.path), submodules=submodules)
    return GitSource(options, home, Secrets({}), caps=caps)


async def laid_out(source: GitSource, home: Path, name: str = "out") -> dict[str, str]:
    tip = await source.fetch()
    (home / name).mkdir()
    await source.lay_out(tip, home / name)
    return files_of(home / name)


async def refused(code: str, source: GitSource, home: Path) -> StepFailed:
    with pytest.raises(StepFailed) as caught:
        await laid_out(source, home)
    assert caught.value.code == code, caught.value
    assert not [path for path in (home / "out").rglob("*") if path.is_symlink()]
    return caught.value


def mirrors(home: Path) -> list[Path]:
    return sorted((home / "modules").glob("*"))


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def tip_of(remote: Remote) -> str:
    return remote.git("rev-parse", "HEAD")


async def test_a_submodule_is_filled_with_exactly_its_commit(
    remote: Remote, library: Remote, home: Path
) -> None:
    remote.link(tip_of(library), "sub/lib", "../library")
    remote.commit_index()
    library.commit({"lib.py": "x = 2\n"})
    written = await laid_out(source_of(remote, home), home)
    assert written.pop(".gitmodules")
    assert written == {"app.py": "print(1)\n", "sub/lib/deep/more.py": "y = 1\n", "sub/lib/lib.py": "x = 1\n"}
    assert not list((home / "out").rglob(".git"))


async def test_without_the_option_it_is_an_empty_directory_and_nobody_is_asked(
    remote: Remote, library: Remote, home: Path
) -> None:
    """R-GIT-5"""
    remote.link(tip_of(library), "lib", "ext::sh -c touch% pwned")
    remote.commit_index()
    await laid_out(source_of(remote, home, submodules=False), home)
    assert list((home / "out/lib").iterdir()) == []
    assert names(home) == ["mirror.git", "out"]


async def test_a_submodule_follows_and_goes_on_where_it_was(
    remote: Remote, library: Remote, home: Path
) -> None:
    source = source_of(remote, home)
    remote.link(tip_of(library), "lib", "../library")
    remote.commit_index()
    await laid_out(source, home, "a")
    (before,) = mirrors(home)
    inode = (before / "mirror.git").stat().st_ino
    remote.link(library.commit({"lib.py": "x = 2\n"}), "lib")
    remote.commit_index()
    assert (await laid_out(source, home, "b"))["lib/lib.py"] == "x = 2\n"
    assert (before / "mirror.git").stat().st_ino == inode  # fetched into, not cloned anew
    library.path.rename(library.path.with_name("elsewhere"))
    assert (await laid_out(source, home, "c"))["lib/lib.py"] == "x = 2\n"  # what is there needs no network


async def test_a_mirror_that_no_submodule_needs_any_more_is_removed(
    remote: Remote, library: Remote, home: Path
) -> None:
    source = source_of(remote, home)
    remote.link(tip_of(library), "lib", "../library")
    remote.commit_index()
    await laid_out(source, home, "a")
    assert len(mirrors(home)) == 1
    remote.git("rm", "--quiet", "--cached", "lib")
    remote.commit_index()
    await laid_out(source, home, "b")
    assert names(home) == ["a", "b", "mirror.git"]


async def test_submodules_of_submodules_are_filled_four_deep_and_no_deeper(
    tmp_path: Path, home: Path
) -> None:
    made = [Remote(tmp_path / "host" / f"r{number}") for number in range(6)]
    for number in range(5, -1, -1):
        made[number].commit({"name": f"{number}\n"})
        if number < 5:
            made[number].link(tip_of(made[number + 1]), "sub", f"../r{number + 1}")
            made[number].commit_index()
    written = await laid_out(source_of(made[1], home), home, "four")
    assert written["sub/sub/sub/sub/name"] == "5\n"
    failure = await refused("submodule-refused", source_of(made[0], home), home)
    assert "deeper than 4" in failure.message
    assert failure.fault is Fault.COMMIT


async def test_a_repository_that_holds_itself_ends(remote: Remote, home: Path) -> None:
    remote.link(tip_of(remote), "me", "../app")
    remote.commit_index()
    assert "me/app.py" in await laid_out(source_of(remote, home), home)


async def test_the_same_repository_may_stand_there_twice(remote: Remote, library: Remote, home: Path) -> None:
    first = tip_of(library)
    remote.link(first, "old", "../library")
    remote.link(library.commit({"lib.py": "x = 2\n"}), "new", "../library")
    remote.commit_index()
    written = await laid_out(source_of(remote, home), home)
    assert (written["old/lib.py"], written["new/lib.py"]) == ("x = 1\n", "x = 2\n")
    assert len(mirrors(home)) == 1


async def test_a_commit_that_no_branch_has_is_still_found(
    remote: Remote, library: Remote, home: Path
) -> None:
    aside = library.commit({"lib.py": "x = 9\n"})
    library.git("reset", "--quiet", "--hard", "HEAD^")
    remote.link(aside, "lib", "../library")
    remote.commit_index()
    assert (await laid_out(source_of(remote, home), home))["lib/lib.py"] == "x = 9\n"


async def test_a_server_that_gives_branches_only_is_asked_for_them(
    remote: Remote, library: Remote, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that does not know protocol 2 refuses a commit that is no tip."""
    spy = tmp_path / "bin" / "git-upload-pack"
    spy.parent.mkdir()
    spy.write_text('#!/bin/sh\nunset GIT_PROTOCOL\nexec /usr/bin/git upload-pack "$@"\n')
    spy.chmod(0o755)
    monkeypatch.setenv("PATH", f"{spy.parent}:{os.environ['PATH']}")
    remote.link(tip_of(library), "lib", "../library")
    remote.commit_index()
    library.commit({"lib.py": "x = 2\n"})
    assert (await laid_out(source_of(remote, home), home))["lib/lib.py"] == "x = 1\n"


async def test_a_commit_that_was_not_pushed_is_told_and_not_held_against_the_revision(
    remote: Remote, library: Remote, home: Path
) -> None:
    remote.link("1" * 40, "sub/lib", "../library")
    remote.commit_index()
    failure = await refused("submodule-missing", source_of(remote, home), home)
    assert "sub/lib" in failure.message
    assert "1" * 40 in failure.message
    assert failure.fault is Fault.WORLD


async def test_a_submodule_that_is_gone_is_told_with_its_name(remote: Remote, home: Path) -> None:
    """F33"""
    remote.link("1" * 40, "sub/lib", "../nothing")
    remote.commit_index()
    failure = await refused("git-unreachable", source_of(remote, home), home)
    assert failure.message.startswith("the submodule sub/lib: ")


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/library.git", "ssh://example.org/library", "git@example.org:library", "http://x/y",
        "file:///etc", "ext::sh -c touch% pwned", "--upload-pack=touch pwned", "/etc", "../../elsewhere", "~/x",
        "library", "", "../..", "../../../../../../../../../..", "../link",
    ],
)  # fmt: skip
async def test_a_submodule_elsewhere_is_refused(remote: Remote, home: Path, tmp_path: Path, url: str) -> None:
    """R-GIT-1, R-GIT-3"""
    Remote(tmp_path / "elsewhere").commit({"secret": "x"})
    (tmp_path / "host/link").symlink_to(tmp_path / "elsewhere")
    remote.link("1" * 40, "lib", url)
    remote.commit_index()
    # git itself would not take some of these; they are in the mirror all the same
    remote.git("clone", "--quiet", "--bare", "--no-local", ".", str(home / "mirror.git"))
    (home / "out").mkdir()
    with pytest.raises(StepFailed) as caught:
        await source_of(remote, home).lay_out(tip_of(remote), home / "out")
    assert caught.value.code == "submodule-refused", caught.value
    assert "lib" in caught.value.message
    assert not list(home.parent.rglob("pwned"))
    assert mirrors(home) == []


async def test_a_submodule_that_gitmodules_does_not_name_is_refused(
    remote: Remote, library: Remote, home: Path
) -> None:
    remote.link(tip_of(library), "lib")
    remote.commit_index()
    await refused("submodule-refused", source_of(remote, home), home)
    remote.link(tip_of(library), "other", "../library")
    remote.commit_index()
    (home / "out").rename(home / "first")
    failure = await refused("submodule-refused", source_of(remote, home), home)
    assert "the submodule lib has no URL" in failure.message


@pytest.mark.parametrize("text", ["[submodule", "x" * 300 + "\n", "[include]\n\tpath = ../../../evil\n"])
async def test_a_gitmodules_that_is_none_is_refused(
    remote: Remote, library: Remote, home: Path, text: str
) -> None:
    (home / "evil").write_text('[submodule "lib"]\n\tpath = lib\n\turl = ../library\n')
    remote.link(tip_of(library), "lib")
    (remote.path / ".gitmodules").write_text(text)
    remote.commit_index()
    await refused("submodule-refused", source_of(remote, home), home)


async def test_a_gitmodules_that_swells_is_refused(remote: Remote, library: Remote, home: Path) -> None:
    """Its long name comes again with each of its options."""
    remote.link(tip_of(library), "lib")
    swollen = f'[submodule "{"n" * 60_000}"]\n' + "\tx = 1\n" * 60
    (remote.path / ".gitmodules").write_text(swollen)
    remote.commit_index()
    failure = await refused("submodule-refused", source_of(remote, home), home)
    assert "far too long" in failure.message


async def test_links_are_judged_over_all_parts_together(remote: Remote, library: Remote, home: Path) -> None:
    """R-GIT-9: each link by itself stays inside; only together they lead out."""
    (library.path / "a/b/c").mkdir(parents=True)
    (library.path / "a/b/c/up").symlink_to("../../..")
    (remote.path / "out").symlink_to("lib/a/b/c/up/../../..")
    remote.git("add", "out")
    remote.link(library.commit({}), "lib", "../library")
    remote.commit_index()
    failure = await refused("tree-refused", source_of(remote, home), home)
    assert "leaves the release" in failure.message


async def test_a_link_from_one_part_to_another_is_fine(remote: Remote, library: Remote, home: Path) -> None:
    (library.path / "app").symlink_to("../app.py")
    (remote.path / "x").symlink_to("lib/lib.py")
    remote.git("add", "x")
    remote.link(library.commit({}), "lib", "../library")
    remote.commit_index()
    await laid_out(source_of(remote, home), home)
    assert (home / "out/x").read_text() == "x = 1\n"
    assert (home / "out/lib/app").read_text() == "print(1)\n"


async def test_a_submodule_below_a_link_is_refused_by_the_file_system(
    remote: Remote, library: Remote, home: Path
) -> None:
    """CVE-2024-32002's way: a submodule at `A/x` beside a link `a`. Links come last, so nothing is written there."""
    (remote.path / "a").symlink_to(".git")
    remote.git("add", "a")
    remote.link(tip_of(library), "A/x", "../library")
    remote.commit_index()
    await laid_out(source_of(remote, home), home)
    assert (home / "out/A/x/lib.py").exists()
    assert (home / "out/a").is_symlink()


@pytest.mark.parametrize("caps", [tree.Caps(files=4), tree.Caps(bytes=65)])
async def test_the_caps_count_over_all_parts(
    remote: Remote, library: Remote, home: Path, caps: tree.Caps
) -> None:
    """R-GIT-10, F35"""
    remote.link(tip_of(library), "lib", "../library")
    remote.commit_index()  # .gitmodules, app.py, lib; lib.py, more.py
    await refused("tree-refused", source_of(remote, home, caps=caps), home)
    (home / "out").rename(home / "first")
    await laid_out(source_of(remote, home, caps=tree.Caps(files=5, bytes=70)), home)


async def test_no_hook_and_no_setting_of_a_submodule_takes_effect(
    remote: Remote, library: Remote, home: Path, tmp_path: Path
) -> None:
    """R-GIT-4"""
    evil = f"touch {tmp_path}/pwned"
    for hook in ("post-checkout", "reference-transaction", "post-update", "pre-upload"):
        (library.path / f".git/hooks/{hook}").write_text(f"#!/bin/sh\n{evil}\n")
        (library.path / f".git/hooks/{hook}").chmod(0o755)
    revision = library.commit({".gitattributes": "* filter=evil\n", "lib.py": "x = 3\n"})
    (tmp_path / "pwned").unlink(missing_ok=True)  # the push itself ran a hook of the pusher
    for key in ("core.fsmonitor", "filter.evil.smudge", "core.sshCommand", "uploadpack.packObjectsHook"):
        library.git("config", key, evil)
    remote.link(revision, "lib", "../library")
    remote.git("config", "--file", ".gitmodules", "submodule.lib.update", f"!{evil}")
    remote.commit_index()
    remote.git(
        "clone", "--quiet", "--bare", "--no-local", ".", str(home / "mirror.git")
    )  # git refuses `update`
    (home / "out").mkdir()
    await source_of(remote, home).lay_out(tip_of(remote), home / "out")
    assert (home / "out/lib/lib.py").read_text() == "x = 3\n"
    assert not (tmp_path / "pwned").exists()


def spoil_objects(mirror: Path) -> None:
    for path in (mirror / "objects").rglob("*"):
        if path.is_file():
            path.chmod(0o644)
            path.write_bytes(b"")


def lose_head(mirror: Path) -> None:
    (mirror / "HEAD").unlink()


def leave_locks(mirror: Path) -> None:
    (mirror / "shallow.lock").write_text("")
    (mirror / "refs/commits" / "x.lock").write_text("")


@pytest.mark.parametrize("spoil", [spoil_objects, lose_head, leave_locks])
@pytest.mark.parametrize("pushed", [True, False])
async def test_a_submodules_mirror_heals_like_the_repositorys(
    remote: Remote, library: Remote, home: Path, spoil: Callable[[Path], None], pushed: bool
) -> None:
    """R-GIT-7, R-GIT-8, F39"""
    remote.link(tip_of(library), "lib", "../library")
    remote.commit_index()
    await laid_out(source_of(remote, home), home, "a")
    (module,) = mirrors(home)
    spoil(module / "mirror.git")
    if pushed:
        remote.link(library.commit({"lib.py": "x = 2\n"}), "lib")
        remote.commit_index()
    written = await laid_out(source_of(remote, home), home, "b")
    assert written["lib/lib.py"] == ("x = 2\n" if pushed else "x = 1\n")


async def test_what_a_killed_agent_left_at_work_in_a_submodule_is_ended(
    remote: Remote, library: Remote, home: Path
) -> None:
    """R-GIT-7: every git of a service carries the same mark."""
    remote.link(tip_of(library), "lib", "../library")
    remote.commit_index()
    name, _, value = process.mark_of(home / "mirror.git").partition("=")
    left = process.start(["/bin/sh", "-c", "setsid sleep 60 & echo $!"], cwd=home, env={**ENV, name: value})
    assert left.stdout
    pid = int(left.stdout.readline())
    left.wait()
    left.stdout.close()
    await laid_out(source_of(remote, home), home)
    found = process.stat_of(pid)
    assert found is None or not found.alive
