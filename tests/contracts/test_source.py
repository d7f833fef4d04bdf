"""The contract of `core.ports.Source`, over git and over the fake; then git with real repositories, hostile ones
among them."""

import asyncio
import os
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.adapters import tree
from agent.adapters.source import GitSource
from agent.core import ports
from agent.core.errors import StepFailed
from agent.core.settings import Seconds, SecretRef, Source
from agent.system import process
from agent.system.secrets import Secrets
from tests.fakes import FakeDisk, FakeRemote, FakeSource
from tests.gitrepo import ENV, Remote, files_of


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    made = Remote(tmp_path / "remote")
    made.commit({"app.py": "print(1)\n", "data/seed.txt": "seed\n"})
    return made


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The service's directory."""
    (tmp_path / "srv").mkdir()
    return tmp_path / "srv"


@pytest.fixture
def source(remote: Remote, home: Path) -> GitSource:
    return make(remote, home)


def make(remote: Remote | str, home: Path, *, branch: str = "main", deadline: float = 60) -> GitSource:
    repository = remote if isinstance(remote, str) else str(remote.path)
    options = Source(repository=repository, branch=branch, timeout=Seconds(deadline))
    return GitSource(options, home, Secrets({}))


async def refused(code: str, source: GitSource) -> StepFailed:
    with pytest.raises(StepFailed) as caught:
        await source.fetch()
    assert caught.value.code == code, caught.value
    return caught.value


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def git_in(mirror: Path, *arguments: str, data: bytes | None = None) -> str:
    command = ["git", "--git-dir", str(mirror), *arguments]
    return (
        subprocess.run(command, env=ENV, input=data, capture_output=True, check=True).stdout.decode().strip()
    )


def out(home: Path, name: str = "out") -> Path:
    directory = home / name
    directory.mkdir()
    return directory


# --- the contract


class Outside(Protocol):
    """A repository as somebody pushes to it, and a service's source that reads it; empty at first."""

    source: ports.Source

    def commit(self, changed: dict[str, str], branch: str = "main", message: str = "change\n") -> str:
        """A commit on the branch, which begins at main's tip."""

    def reset(self, revision: str) -> None:
        """Main's tip is another one."""

    def tag(self, name: str, revision: str) -> None:
        """A tag."""

    def merge(self, branch: str) -> str:
        """Main takes a branch in."""

    def rename(self, old: str, new: str) -> None:
        """A branch has another name."""

    def leave(self) -> None:
        """Nobody answers there any more."""

    async def laid_out(self, revision: str, name: str) -> dict[str, str]:
        """The files that `lay_out` writes."""


class GitOutside:
    """A real repository, a real mirror."""

    def __init__(self, tmp_path: Path) -> None:
        self._remote = Remote(tmp_path / "outside")
        self._home = tmp_path / "inside"
        self._home.mkdir()
        self.source: ports.Source = make(self._remote, self._home)

    def commit(self, changed: dict[str, str], branch: str = "main", message: str = "change\n") -> str:
        if branch == "main":
            return self._remote.commit(changed, message)
        self._remote.git("checkout", "--quiet", "-B", branch)
        made = self._remote.commit(changed, message)
        self._remote.git("checkout", "--quiet", "main")
        return made

    def reset(self, revision: str) -> None:
        self._remote.git("reset", "--quiet", "--hard", revision)

    def tag(self, name: str, revision: str) -> None:
        self._remote.git("tag", name, revision)

    def merge(self, branch: str) -> str:
        self._remote.git("merge", "--quiet", "--no-ff", "--message=merge", branch)
        return self._remote.git("rev-parse", "HEAD")

    def rename(self, old: str, new: str) -> None:
        self._remote.git("branch", "--move", old, new)

    def leave(self) -> None:
        self._remote.path.rename(self._remote.path.with_name("elsewhere"))

    async def laid_out(self, revision: str, name: str) -> dict[str, str]:
        directory = out(self._home, name)
        await self.source.lay_out(revision, directory)
        return files_of(directory)


class FakeOutside:
    """The same in memory: see `tests.fakes`."""

    def __init__(self) -> None:
        self._remote = FakeRemote()
        self._disk = FakeDisk()
        self.source: ports.Source = FakeSource(self._remote, self._disk)

    def commit(self, changed: dict[str, str], branch: str = "main", message: str = "change\n") -> str:
        return self._remote.commit(changed, branch, message)

    def reset(self, revision: str) -> None:
        self._remote.heads["main"] = revision

    def tag(self, name: str, revision: str) -> None:
        self._remote.tags[name] = revision

    def merge(self, branch: str) -> str:
        return self._remote.merge(branch)

    def rename(self, old: str, new: str) -> None:
        self._remote.heads[new] = self._remote.heads.pop(old)

    def leave(self) -> None:
        self._remote.gone = True

    async def laid_out(self, revision: str, name: str) -> dict[str, str]:
        tree = self._disk.trees[Path(name)] = {}
        await self.source.lay_out(revision, Path(name))
        return tree


@pytest.fixture(params=["git", "fake"])
def outside(request: pytest.FixtureRequest, tmp_path: Path) -> Outside:
    """Each source, and the fake that the tests of the services use."""
    return GitOutside(tmp_path) if request.param == "git" else FakeOutside()


async def no(code: str, call: Awaitable[object]) -> StepFailed:
    with pytest.raises(StepFailed) as caught:
        await call
    assert caught.value.code == code, caught.value
    return caught.value


async def test_the_tip_of_the_branch_is_fetched_and_followed(outside: Outside) -> None:
    first = outside.commit({"app.py": "print(1)\n"})
    assert await outside.source.fetch() == first
    assert await outside.source.fetch() == first
    second = outside.commit({"app.py": "print(2)\n"})
    assert await outside.source.fetch() == second


async def test_a_branch_that_was_reset_is_followed(outside: Outside) -> None:
    """F36"""
    first = outside.commit({"app.py": "print(1)\n"})
    outside.commit({"app.py": "print(2)\n"})
    await outside.source.fetch()
    outside.reset(first)
    other = outside.commit({"app.py": "print(3)\n"})
    assert await outside.source.fetch() == other


async def test_a_vanished_branch_is_told(outside: Outside) -> None:
    """F37, F38"""
    tip = outside.commit({"app.py": "print(1)\n"})
    assert await outside.source.fetch() == tip
    outside.rename("main", "trunk")
    await no("branch-missing", outside.source.fetch())
    assert await outside.source.resolve(tip) == tip  # the mirror still has it


async def test_an_empty_remote_has_no_branch(outside: Outside) -> None:
    await no("branch-missing", outside.source.fetch())


async def test_a_remote_that_is_gone_is_unreachable(outside: Outside) -> None:
    """F33"""
    outside.commit({"app.py": "print(1)\n"})
    await outside.source.fetch()
    outside.leave()
    failure = await no("git-unreachable", outside.source.fetch())
    assert "does not appear to be a git repository" in failure.message


async def test_a_tag_under_its_whole_name_is_never_taken_for_something_else(outside: Outside) -> None:
    """R-RX-20, R-RX-21: a release's tag is called as somebody liked to call it."""
    first = outside.commit({"app.py": "print(1)\n"})
    tip = outside.commit({"app.py": "print(2)\n"})
    for name in ("main", "HEAD", "refs/heads/main", tip, tip[:7], "v1/final"):
        outside.tag(name, first)
    await outside.source.fetch()
    for name in ("main", "HEAD", "refs/heads/main", tip, tip[:7], "v1/final"):
        assert await outside.source.resolve(f"refs/tags/{name}") == first, name
    for name in ("v2", "master", first, first[:7]):
        await no("revision-unknown", outside.source.resolve(f"refs/tags/{name}"))
    assert await outside.source.resolve(tip) == tip


async def test_a_merge_stands_on_both_lines_and_they_not_on_each_other(outside: Outside) -> None:
    outside.commit({"app.py": "print(1)\n"})
    side = outside.commit({"side.txt": "x"}, "side")
    straight = outside.commit({"app.py": "print(2)\n"})
    merge = outside.merge("side")
    assert await outside.source.fetch() == merge
    for revision in (side, straight):
        assert await outside.source.resolve(revision) == revision
        assert await outside.source.descends(merge, revision)
        assert not await outside.source.descends(revision, merge)
    assert not await outside.source.descends(side, straight)
    assert not await outside.source.descends(straight, side)


async def test_the_tip_can_be_asked_for_without_fetching(outside: Outside) -> None:
    """R-RX-26."""
    first = outside.commit({"app.py": "print(1)\n"})
    outside.commit({"side.txt": "x"}, "side")
    assert await outside.source.peek() == first
    second = outside.commit({"app.py": "print(2)\n"})
    assert await outside.source.peek() == second
    outside.reset(first)
    assert await outside.source.peek() == first
    await outside.source.fetch()
    outside.commit({"app.py": "print(3)\n"})
    peeked = await outside.source.peek()
    await no("revision-unknown", outside.source.resolve(peeked))


async def test_who_asks_for_the_tip_is_told_what_a_fetch_would_say(outside: Outside) -> None:
    """F33, F37"""
    outside.commit({"app.py": "print(1)\n"})
    outside.rename("main", "trunk")
    await no("branch-missing", outside.source.peek())
    outside.leave()
    await no("git-unreachable", outside.source.peek())


async def test_shas_tags_and_the_branch_are_names(outside: Outside) -> None:
    first = outside.commit({"app.py": "print(1)\n"})
    outside.tag("light", first)
    tip = outside.commit({"app.py": "print(2)\n"})
    await outside.source.fetch()
    for wanted in (first, first[:7], "light", "refs/tags/light"):
        assert await outside.source.resolve(wanted) == first
    for wanted in (tip, tip[:12], "main", "refs/heads/main"):
        assert await outside.source.resolve(wanted) == tip


async def test_a_tag_aside_of_the_branch_is_not_on_it(outside: Outside) -> None:
    """R-RX-21"""
    outside.commit({"app.py": "print(1)\n"})
    side = outside.commit({"side.txt": "x"}, "side")
    outside.tag("side-1", side)
    await outside.source.fetch()
    for wanted in ("side-1", side):
        await no("not-on-branch", outside.source.resolve(wanted))


async def test_what_the_branch_has_left_behind_is_not_on_it(outside: Outside) -> None:
    """R-RX-21"""
    first = outside.commit({"app.py": "print(1)\n"})
    left = outside.commit({"app.py": "print(2)\n"})
    await outside.source.fetch()
    outside.reset(first)
    await outside.source.fetch()
    await no("not-on-branch", outside.source.resolve(left))


async def test_what_the_mirror_does_not_have_is_unknown(outside: Outside) -> None:
    outside.commit({"app.py": "print(1)\n"})
    side = outside.commit({"side.txt": "x"}, "side")
    await outside.source.fetch()
    for wanted in (side, "0" * 40, "deadbee", "side", "nothing", "f" * 64):
        await no("revision-unknown", outside.source.resolve(wanted))


async def test_the_parent_of_the_first_commit_is_none(outside: Outside) -> None:
    first = outside.commit({"app.py": "print(1)\n"})
    second = outside.commit({"more": "x"})
    await outside.source.fetch()
    assert await outside.source.parent(second) == first
    assert await outside.source.parent(first) is None


async def test_old_and_new_commits_can_be_laid_out(outside: Outside) -> None:
    first = outside.commit({"app.py": "print(1)\n", "data/seed.txt": "seed\n"})
    second = outside.commit({"app.py": "print(2)\n"})
    await outside.source.fetch()
    assert await outside.laid_out(first, "a") == {"app.py": "print(1)\n", "data/seed.txt": "seed\n"}
    assert await outside.laid_out(second, "b") == {"app.py": "print(2)\n", "data/seed.txt": "seed\n"}


async def test_a_commit_descends_from_itself_and_from_what_it_stands_on(outside: Outside) -> None:
    first = outside.commit({"app.py": "print(1)\n"})
    second = outside.commit({"app.py": "print(2)\n"})
    await outside.source.fetch()
    descends = outside.source.descends
    assert [await descends(*pair) for pair in ((second, first), (second, second), (first, second))] == [
        True, True, False,
    ]  # fmt: skip
    assert not await descends(second, "f" * 40)
    assert not await descends("f" * 40, second)


async def test_what_differs_between_two_commits_is_told_by_its_paths(outside: Outside) -> None:
    first = outside.commit({"app.py": "print(1)\n", "docs/a.md": "a", "kept": "x"})
    outside.commit({"docs/a.md": "b"})
    tip = outside.commit({"new file": "y"})
    await outside.source.fetch()
    assert sorted(await outside.source.changes(first, tip)) == ["docs/a.md", "new file"]
    assert sorted(await outside.source.changes(tip, first)) == ["docs/a.md", "new file"]
    assert await outside.source.changes(tip, tip) == []
    await no("revision-unknown", outside.source.changes(first, "f" * 40))


async def test_a_commits_message_is_as_it_was_written(outside: Outside) -> None:
    tip = outside.commit({"app.py": "print(1)\n"}, message="One line\n\nand more [skip deploy]\n")
    await outside.source.fetch()
    assert await outside.source.message(tip) == "One line\n\nand more [skip deploy]\n"
    await no("revision-unknown", outside.source.message("f" * 40))


# --- git: fetch


async def test_only_the_branch_and_the_tags_are_fetched(
    remote: Remote, source: GitSource, home: Path
) -> None:
    remote.git("tag", "v1")
    remote.git("branch", "other")
    await source.fetch()
    refs = git_in(home / "mirror.git", "for-each-ref", "--format=%(refname)")
    assert refs.split() == ["refs/remotes/origin/main", "refs/tags/v1"]


async def test_a_path_may_be_relative_to_the_services_directory(remote: Remote, home: Path) -> None:
    assert await make("../remote", home).fetch() == remote.git("rev-parse", "HEAD")


async def test_nobody_listening_is_unreachable(home: Path) -> None:
    """F33"""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"https://127.0.0.1:{unused.getsockname()[1]}/x.git"
        await refused("git-unreachable", make(address, home))


@pytest.mark.parametrize(
    "address", ["ext::sh -c touch% pwned", "--upload-pack=touch pwned", "http://127.0.0.1/x", "file:///x"]
)
async def test_other_transports_are_refused_before_git_sees_them(home: Path, address: str) -> None:
    """R-GIT-1, R-GIT-3"""
    await refused("git-refused", make(address, home))
    assert names(home) == []


@pytest.fixture
def silent() -> Iterator[int]:
    """A server that takes connections and never says a word."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


@pytest.mark.parametrize("address", ["https://127.0.0.1:{}/x.git", "ssh://git@127.0.0.1:{}/x.git"])
async def test_a_remote_that_stalls_ends_with_the_deadline_and_leaves_no_child(
    home: Path, silent: int, address: str
) -> None:
    """R-GIT-6, F34"""
    begun = time.monotonic()
    await refused("git-timeout", make(address.format(silent), home, deadline=1))
    assert time.monotonic() - begun < 30
    assert at_work(home) == []


async def test_cancelling_leaves_no_child(home: Path, silent: int) -> None:
    """R-GIT-6"""
    task = asyncio.create_task(make(f"https://127.0.0.1:{silent}/x.git", home).fetch())
    while not any("remote-https" in line for line in at_work(home)):  # noqa: ASYNC110 - another process
        await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert at_work(home) == []


def at_work(home: Path) -> list[str]:
    """The command lines of the processes that work in the mirror."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environment = (entry / "environ").read_bytes()
            line = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if f"={home}/".encode() in environment and line:
            found.append(line.replace(b"\0", b" ").decode())
    return found


async def test_git_sees_nothing_of_the_agents_environment(
    remote: Remote, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-GIT-3, R-SD-4"""
    fake = tmp_path / "bin" / "git"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\nenv > {tmp_path}/seen\nexec /usr/bin/git "$@"\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("HOMEPORT_CANARY", "a secret")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", "false")
    await make(remote, home).fetch()
    names = {line.partition("=")[0] for line in (tmp_path / "seen").read_text().splitlines()}
    assert {"GIT_TERMINAL_PROMPT", "GIT_ALLOW_PROTOCOL", "GIT_SSH_COMMAND"} <= names
    assert not names & {"HOMEPORT_CANARY", "GIT_DIR", "GIT_EXTERNAL_DIFF"}


async def test_a_secret_in_gits_words_is_hidden(home: Path) -> None:
    """R-RX-31"""
    secrets = Secrets({"TOKEN": "token-1234567890"})
    secrets.get(SecretRef(env="TOKEN"))
    hidden = GitSource(Source(repository="/nowhere/token-1234567890"), home, secrets)
    failure = await refused("git-unreachable", hidden)
    assert "token-1234567890" not in failure.message
    assert "***" in failure.message


# --- names from outside


HOSTILE = "--upload-pack=touch${IFS}pwned"


async def test_a_branch_named_like_an_option_is_only_a_branch(
    remote: Remote, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-GIT-1"""
    monkeypatch.chdir(home)
    tip = remote.git("rev-parse", "HEAD")
    remote.git("update-ref", f"refs/heads/{HOSTILE}", tip)
    source = make(remote, home, branch=HOSTILE)
    assert await source.fetch() == tip
    assert await source.resolve(HOSTILE) == tip
    assert not list(home.parent.rglob("pwned"))


@pytest.mark.parametrize(
    "wanted",
    [HOSTILE, "-h", "--all", "main..x", "main\nmain", "", "@{-1}", ":/change", "HEAD^{/x}", "main^", "@"],
)
async def test_a_revision_that_is_no_name_is_unknown(source: GitSource, home: Path, wanted: str) -> None:
    """R-GIT-1, R-RX-21"""
    await source.fetch()
    with pytest.raises(StepFailed) as caught:
        await source.resolve(wanted)
    assert caught.value.code == "revision-unknown"
    assert not list(home.parent.rglob("pwned"))


@pytest.mark.parametrize("branch", ["*", "a b", "a..b", "refs/x.lock", "x:y", "", "a\nb"])
async def test_a_branch_that_git_does_not_allow_is_missing(remote: Remote, home: Path, branch: str) -> None:
    await refused("branch-missing", make(remote, home, branch=branch))


# --- resolve, parent


async def test_shas_tags_and_the_branch_are_resolved(remote: Remote, source: GitSource) -> None:
    first = remote.git("rev-parse", "HEAD")
    remote.git("tag", "light")
    remote.git("tag", "--annotate", "--message=x", "heavy")
    tip = remote.commit({"app.py": "print(2)\n"})
    await source.fetch()
    for wanted in (first, first[:7], "light", "heavy", "refs/tags/heavy"):
        assert await source.resolve(wanted) == first
    for wanted in (tip, tip[:12], "main", "refs/heads/main"):
        assert await source.resolve(wanted) == tip


# --- lay_out


async def test_the_files_of_a_commit_are_written_with_their_modes(
    remote: Remote, source: GitSource, home: Path
) -> None:
    (remote.path / "run.sh").write_text("#!/bin/sh\n")
    (remote.path / "run.sh").chmod(0o755)
    (remote.path / "deep/er").mkdir(parents=True)
    (remote.path / "deep/er/link").symlink_to("../../app.py")
    (remote.path / "ring").symlink_to("ring")
    revision = remote.commit({"empty": "", "ünï code\n": "x"})
    await source.fetch()
    directory = out(home)
    await source.lay_out(revision, directory)
    assert files_of(directory) == {
        "app.py": "print(1)\n", "data/seed.txt": "seed\n", "empty": "", "run.sh": "#!/bin/sh\n", "ünï code\n": "x",
    }  # fmt: skip
    assert (directory / "deep/er/link").read_text() == "print(1)\n"
    assert (directory / "ring").is_symlink()
    assert stat.S_IMODE((directory / "run.sh").stat().st_mode) & 0o111
    assert not stat.S_IMODE((directory / "app.py").stat().st_mode) & 0o111
    assert not any(path.lstat().st_mode & 0o022 for path in directory.rglob("*") if not path.is_symlink())


async def test_a_big_file_and_many_files_are_whole(remote: Remote, source: GitSource, home: Path) -> None:
    big = "0123456789abcdef" * 200_000
    revision = remote.commit({"big": big, **{f"many/{number}": str(number) for number in range(500)}})
    await source.fetch()
    directory = out(home)
    await source.lay_out(revision, directory)
    written = files_of(directory)
    assert written["big"] == big
    assert all(written[f"many/{number}"] == str(number) for number in range(500))


async def test_no_hook_no_filter_and_no_attribute_of_the_repository_takes_effect(
    remote: Remote, source: GitSource, home: Path, tmp_path: Path
) -> None:
    """R-GIT-4"""
    script = f"#!/bin/sh\ntouch {tmp_path}/pwned\ncat\n"
    for hook in ("post-checkout", "pre-auto-gc", "reference-transaction", "post-merge", "pre-upload"):
        (remote.path / f".git/hooks/{hook}").write_text(script)
        (remote.path / f".git/hooks/{hook}").chmod(0o755)
    revision = remote.commit(
        {
            ".gitattributes": "*.txt filter=evil text eol=crlf export-ignore\n*.py ident export-subst\n",
            ".lfsconfig": "[lfs]\nurl = https://example.org\n",
            "kept.txt": "one\ntwo\n",
            "app.py": "$Id$ $Format:%H$\n",
        }
    )
    (tmp_path / "pwned").unlink(missing_ok=True)  # the push itself ran a hook of the pusher
    for key in ("core.fsmonitor", "filter.evil.smudge", "filter.evil.process", "core.sshCommand"):
        remote.git("config", key, f"touch {tmp_path}/pwned")
    assert await source.fetch() == revision
    directory = out(home)
    await source.lay_out(revision, directory)
    assert (directory / "kept.txt").read_bytes() == b"one\ntwo\n"
    assert (directory / "app.py").read_text() == "$Id$ $Format:%H$\n"
    assert not (directory / ".git").exists()
    assert not list((home / "mirror.git/hooks").glob("*"))
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    "links",
    [
        {"data": "/etc/passwd"},
        {"data": "../outside"},
        {"deep/data": "../../outside"},
        {"deep/data": "x/../../.."},
        {"here": ".", "data": "here/../outside"},
        {"up": "deep/..", "data": "up/../outside"},
        {"a": "b/c", "b": "deep", "deep/c": "../.."},
    ],
)
async def test_a_link_that_leaves_the_release_is_refused(
    remote: Remote, source: GitSource, home: Path, links: dict[str, str]
) -> None:
    """R-GIT-9"""
    (remote.path / "deep").mkdir()
    (remote.path / "data").rename(remote.path / "other")
    for name, target in links.items():
        (remote.path / name).symlink_to(target)
    revision = remote.commit({})
    await source.fetch()
    directory = out(home)
    with pytest.raises(StepFailed) as caught:
        await source.lay_out(revision, directory)
    assert caught.value.code == "tree-refused"
    assert not any(path.is_symlink() for path in directory.rglob("*"))


@pytest.mark.parametrize(
    "name", [".git", ".GIT", ".git ", "git~1", ".g\u200cit", "..", ".git::$INDEX", "a\\.git"]
)
async def test_names_that_git_must_not_have_are_refused(
    remote: Remote, home: Path, tmp_path: Path, name: str
) -> None:
    """R-GIT-10: git itself refuses most of them; here the mirror has got them all the same."""
    mirror_of = Remote(tmp_path / "forger")
    blob = mirror_of.blob(b"x")
    inner = mirror_of.git("mktree", data=b"100644 blob " + blob + b"\tconfig\n").encode()
    tree_line = b"040000 tree " + inner + b"\t" + name.encode()
    revision = mirror_of.commit_tree(tree_line)
    mirror_of.git("clone", "--quiet", "--bare", "--no-local", ".", str(home / "mirror.git"))
    with pytest.raises(StepFailed) as caught:
        await make(remote, home).lay_out(revision, out(home))
    assert caught.value.code == "tree-refused"


async def test_git_itself_refuses_a_forged_tree_on_the_way_in(tmp_path: Path, home: Path) -> None:
    """R-GIT-4, R-GIT-10"""
    forger = Remote(tmp_path / "forger")
    inner = forger.git("mktree", data=b"100644 blob " + forger.blob(b"x") + b"\tconfig\n").encode()
    forger.commit_tree(b"040000 tree " + inner + b"\t.git")
    await refused("git-failed", make(forger, home))


async def test_the_markers_name_is_the_agents_own(remote: Remote, source: GitSource, home: Path) -> None:
    revision = remote.commit({".homeport-release.json": "{}"})
    await source.fetch()
    with pytest.raises(StepFailed) as caught:
        await source.lay_out(revision, out(home))
    assert caught.value.code == "tree-refused"


async def test_a_submodule_is_an_empty_directory(remote: Remote, source: GitSource, home: Path) -> None:
    tip = remote.git("rev-parse", "HEAD")
    remote.git("update-index", "--add", "--cacheinfo", f"160000,{tip},sub/module")
    remote.git("commit", "--quiet", "--message=submodule")
    revision = await source.fetch()
    directory = out(home)
    await source.lay_out(revision, directory)
    assert list((directory / "sub/module").iterdir()) == []


POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 3\n"


async def test_an_lfs_pointer_stays_one_without_the_option(
    remote: Remote, source: GitSource, home: Path
) -> None:
    revision = remote.commit({"big.bin": POINTER})
    await source.fetch()
    directory = out(home)
    await source.lay_out(revision, directory)
    assert (directory / "big.bin").read_text() == POINTER


async def test_lfs_without_its_program_is_told(
    remote: Remote, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the program: tests/e2e."""
    revision = remote.commit({"big.bin": POINTER})
    (tmp_path / "bin").mkdir()
    for name in ("git", "env"):
        (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    source = GitSource(Source(repository=str(remote.path), lfs=True), home, Secrets({}))
    await source.fetch()
    with pytest.raises(StepFailed) as caught:
        await source.lay_out(revision, out(home))
    assert caught.value.code == "lfs-failed"
    assert caught.value.message == "the program git-lfs is not installed"
    assert "Install git-lfs" in caught.value.hint


@pytest.mark.parametrize("caps", [tree.Caps(files=2), tree.Caps(bytes=10)])
async def test_a_tree_over_the_caps_is_refused(remote: Remote, home: Path, caps: tree.Caps) -> None:
    """R-GIT-10, F35"""
    revision = remote.commit({"third": "3"})
    source = GitSource(Source(repository=str(remote.path)), home, Secrets({}), caps=caps)
    await source.fetch()
    with pytest.raises(StepFailed) as caught:
        await source.lay_out(revision, out(home))
    assert caught.value.code == "tree-refused"


# --- the mirror: locks, scraps, corruption


async def test_stale_locks_and_scraps_are_removed(remote: Remote, source: GitSource, home: Path) -> None:
    """R-GIT-7"""
    await source.fetch()
    mirror = home / "mirror.git"
    (mirror / "refs/remotes/origin/main.lock").write_text("")
    (mirror / "packed-refs.lock").write_text("")
    (mirror / "objects/pack").mkdir(exist_ok=True)
    (mirror / "objects/pack/tmp_pack_x").write_text("")
    tip = remote.commit({"app.py": "print(2)\n"})
    assert await make(remote, home).fetch() == tip
    assert not list(mirror.rglob("*.lock")) + list(mirror.rglob("tmp_*"))


async def test_a_git_that_a_killed_agent_left_is_ended_first(remote: Remote, home: Path) -> None:
    """R-GIT-7, R-SD-12"""
    name, _, value = process.mark_of(home / "mirror.git").partition("=")
    left = process.start(["/bin/sh", "-c", "setsid sleep 60 & echo $!"], cwd=home, env={**ENV, name: value})
    assert left.stdout
    pid = int(left.stdout.readline())
    left.wait()
    left.stdout.close()
    await make(remote, home).fetch()
    found = process.stat_of(pid)
    assert found is None or not found.alive


def spoil_objects(mirror: Path) -> None:
    """What a power cut leaves of loose objects and packs (M1): names without content."""
    for path in (mirror / "objects").rglob("*"):
        if path.is_file():
            path.chmod(0o644)
            path.write_bytes(b"")


def spoil_pack(mirror: Path) -> None:
    git_in(mirror, "repack", "-adq")
    for path in (mirror / "objects/pack").glob("*.pack"):
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-30])


def flip_blob(mirror: Path) -> None:
    """Another file's content under a blob's name, well-formed as such."""
    for pack in list((mirror / "objects/pack").glob("*.pack")):
        aside = pack.rename(mirror / "aside.pack")
        pack.with_suffix(".idx").unlink()
        git_in(mirror, "unpack-objects", "-q", data=aside.read_bytes())
    branch = "refs/remotes/origin/main"
    found = git_in(mirror, "rev-parse", f"{branch}:app.py", f"{branch}:data/seed.txt").split()
    one, other = (mirror / "objects" / name[:2] / name[2:] for name in found)
    one.chmod(0o644)
    one.write_bytes(other.read_bytes())


def lose_head(mirror: Path) -> None:
    (mirror / "HEAD").unlink()


def empty_ref(mirror: Path) -> None:
    (mirror / "refs/remotes/origin/main").write_text("")


def empty_mirror(mirror: Path) -> None:
    subprocess.run(["rm", "-r", mirror], check=True)
    mirror.mkdir()


def garble_config(mirror: Path) -> None:
    (mirror / "config").write_bytes(b"[core\0\xff")


def garble_packed_refs(mirror: Path) -> None:
    (mirror / "packed-refs").write_bytes(os.urandom(200))
    (mirror / "refs/remotes/origin/main").unlink(missing_ok=True)


def garble_index(mirror: Path) -> None:
    git_in(mirror, "repack", "-adq")
    for path in (mirror / "objects/pack").glob("*.idx"):
        path.chmod(0o644)
        path.write_bytes(os.urandom(1000))


def file_instead(mirror: Path) -> None:
    subprocess.run(["rm", "-r", mirror], check=True)
    mirror.write_text("")


SPOILED = [
    spoil_objects, spoil_pack, flip_blob, lose_head, empty_ref, empty_mirror, garble_config, garble_packed_refs,
    garble_index, file_instead,
]  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILED)
@pytest.mark.parametrize("pushed", [True, False])
async def test_a_corrupt_mirror_is_made_anew_by_itself(
    remote: Remote, home: Path, spoil: Callable[[Path], None], pushed: bool
) -> None:
    """R-GIT-8, F5, F39"""
    await make(remote, home).fetch()
    spoil(home / "mirror.git")
    if pushed:
        remote.commit({"app.py": "print(22)\n"})
    source = make(remote, home)
    tip = await source.fetch()
    assert tip == remote.git("rev-parse", "HEAD")
    assert await source.resolve("main") == tip
    directory = out(home)
    await source.lay_out(tip, directory)
    assert files_of(directory) == {
        "app.py": (remote.path / "app.py").read_text(), "data/seed.txt": "seed\n"
    }  # fmt: skip
    assert names(home) == ["mirror.git", "out"]


@pytest.mark.parametrize("spoil", [spoil_objects, spoil_pack, flip_blob])
async def test_corruption_that_shows_while_laying_out_is_healed(
    remote: Remote, source: GitSource, home: Path, spoil: Callable[[Path], None]
) -> None:
    """R-GIT-8, F39"""
    tip = await source.fetch()
    spoil(home / "mirror.git")
    directory = out(home)
    await source.lay_out(tip, directory)
    assert files_of(directory) == {"app.py": "print(1)\n", "data/seed.txt": "seed\n"}


async def test_a_corrupt_mirror_without_network_is_not_healed(
    remote: Remote, source: GitSource, home: Path
) -> None:
    tip = await source.fetch()
    spoil_objects(home / "mirror.git")
    remote.path.rename(remote.path.with_name("elsewhere"))
    with pytest.raises(StepFailed) as caught:
        await source.lay_out(tip, out(home))
    assert caught.value.code == "git-unreachable"


async def test_a_corrupt_remote_is_gits_failure_and_the_mirror_stays(
    remote: Remote, source: GitSource
) -> None:
    tip = await source.fetch()
    remote.commit({"app.py": "print(2)\n"})
    spoil_objects(remote.path / ".git")
    with pytest.raises(StepFailed) as caught:
        await source.fetch()
    assert caught.value.code in ("git-failed", "git-unreachable")
    assert await source.resolve(tip) == tip


async def test_leftovers_of_a_renewal_that_was_cut_off_do_not_matter(remote: Remote, home: Path) -> None:
    """F5, F16"""
    for name in ("mirror.partial", "mirror.corrupt"):
        (home / name / "objects").mkdir(parents=True)
    tip = await make(remote, home).fetch()
    assert tip == remote.git("rev-parse", "HEAD")
    assert names(home) == ["mirror.git"]


# --- the decision about links, by itself

_PARTS = st.sampled_from([b"a", b"b", b"c", b"..", b"."])
_TARGETS = st.lists(_PARTS, min_size=1, max_size=5).map(b"/".join)


@given(st.dictionaries(st.sampled_from([b"a", b"b", b"c/a", b"c/b", b"d/a/b"]), _TARGETS, min_size=1))
def test_no_set_of_links_leaves_unnoticed(links: dict[bytes, bytes]) -> None:
    """R-GIT-9: against the kernel's own answer."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place).resolve() / "x/y/z/root"
        root.mkdir(parents=True)
        for around in list(root.parents)[:4]:  # something to arrive at, outside
            for name in "abc":
                (around / name).mkdir()
        for path in links:
            (root / os.fsdecode(path)).parent.mkdir(parents=True, exist_ok=True)
        for path, target in links.items():
            (root / os.fsdecode(path)).symlink_to(os.fsdecode(target))
        for path in links:
            try:
                real = (root / os.fsdecode(path)).resolve(strict=True)
            except (OSError, RuntimeError):  # a ring, or nothing there
                continue
            if not real.is_relative_to(root):
                assert tree.leaves(path, links)


# --- asking for the tip touches no mirror


def print_of(directory: Path) -> dict[str, tuple[int, int, int]]:
    """Every file and directory with what changes when somebody writes there."""
    return {
        str(path.relative_to(directory)): (
            path.lstat().st_mtime_ns,
            path.lstat().st_size,
            path.lstat().st_ino,
        )
        for path in [directory, *directory.rglob("*")]
    }


@pytest.mark.parametrize("fetched", [True, False])
async def test_a_peek_writes_nothing_at_all(source: GitSource, home: Path, fetched: bool) -> None:
    if fetched:
        await source.fetch()
    before = print_of(home)
    for _ in range(3):
        await source.peek()
    assert print_of(home) == before


async def test_a_peek_needs_no_mirror_and_minds_no_broken_one(
    source: GitSource, remote: Remote, home: Path
) -> None:
    (home / "mirror.git").mkdir()
    (home / "mirror.git" / "HEAD").write_text("rubbish")
    (home / "mirror.git" / "config.lock").touch()
    assert await source.peek() == remote.git("rev-parse", "HEAD")


async def test_a_peek_does_not_go_by_what_stands_in_the_mirror(
    source: GitSource, remote: Remote, home: Path
) -> None:
    await source.fetch()
    git_in(home / "mirror.git", "config", "url./elsewhere/.insteadOf", str(remote.path))
    assert await source.peek() == remote.git("rev-parse", "HEAD")


async def test_peeks_and_fetches_at_the_same_time_do_not_meet(
    source: GitSource, remote: Remote, home: Path
) -> None:
    """The very first fetch ends what a killed agent left at work in the mirror, and removes locks."""
    tip = remote.git("rev-parse", "HEAD")
    for _ in range(3):
        answers = await asyncio.gather(*(call() for _ in range(5) for call in (source.peek,)), source.fetch())
        assert set(answers) == {tip}
        tip = remote.commit({"n": tip})
    assert git_in(home / "mirror.git", "fsck", "--strict") == ""


async def test_a_ref_that_merely_ends_like_the_branch_is_not_it(remote: Remote, home: Path) -> None:
    remote.git("update-ref", "refs/heads/a/refs/heads/trunk", "HEAD")
    remote.git("update-ref", "refs/heads/0/trunk", "HEAD")
    with pytest.raises(StepFailed) as caught:
        await make(remote, home, branch="trunk").peek()
    assert caught.value.code == "branch-missing"


async def test_a_peek_of_an_address_that_is_not_allowed_goes_nowhere(home: Path, tmp_path: Path) -> None:
    """R-GIT-1"""
    for repository in (f"ext::touch {tmp_path}/pwned", f"--upload-pack=touch {tmp_path}/pwned"):
        with pytest.raises(StepFailed) as caught:
            await make(repository, home).peek()
        assert caught.value.code == "git-refused"
    with pytest.raises(StepFailed) as caught:
        await make(str(tmp_path), home, branch=f"--upload-pack=touch${{IFS}}{tmp_path}/pwned").peek()
    assert not (tmp_path / "pwned").exists()


async def test_a_peek_that_hangs_is_ended_at_its_deadline(home: Path) -> None:
    """R-GIT-6"""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        source = make(f"https://127.0.0.1:{silent.getsockname()[1]}/me/app.git", home, deadline=0.5)
        with pytest.raises(StepFailed) as caught:
            await source.peek()
    assert caught.value.code == "git-timeout"
    assert process._family(-1, process.mark_of(home / "mirror.git")) == []
