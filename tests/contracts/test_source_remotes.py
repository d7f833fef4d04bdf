"""Remotes that misbehave, over real TLS: they are slow, stall, refuse, limit, redirect, end early or never end."""

import logging
import os
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from agent.adapters.source import GitSource, program
from agent.adapters.source.room import size_of
from agent.core.backoff import PAUSES
from agent.core.errors import StepFailed
from agent.core.model import Deployment, Fault
from agent.core.pipeline import Outcome
from agent.core.settings import Bytes, Seconds, Source
from agent.services.persistence import persistent
from agent.services.progress import Progress
from agent.services.step import Ended
from agent.store.transitions import Change
from agent.system import files
from agent.system.secrets import Secrets
from tests import badhost
from tests.build import a_deployment
from tests.fakes import FakeClock
from tests.githost import GitHost, make_ca, serving
from tests.gitrepo import Remote, files_of

CAP = 3 << 20


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_ca(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    made = Remote(tmp_path / "host" / "app")
    made.commit({"app.py": "print(1)\n"})
    return made


@pytest.fixture
def over() -> Iterator[threading.Event]:
    """Set when the test has ended: nobody waits any longer."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def host(
    remote: Remote, ca: Path, monkeypatch: pytest.MonkeyPatch, over: threading.Event
) -> Iterator[GitHost]:
    """Serves the repository to everybody, until it is given a mood."""
    monkeypatch.setenv("GIT_SSL_CAINFO", str(ca))
    with serving(GitHost(remote.path.parent, set()), ca.with_name("tls.pem")) as made:
        yield made
        over.set()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "srv").mkdir()
    return tmp_path / "srv"


def source_of(
    host: GitHost, home: Path, *, deadline: float = 60, cap: int = CAP, floor: int = 0
) -> GitSource:
    options = Source(repository=host.url("app/.git"), max_size=Bytes(cap), timeout=Seconds(deadline))
    return GitSource(options, home, Secrets({}), floor=floor)


async def refused(code: str, source: GitSource) -> StepFailed:
    with pytest.raises(StepFailed) as caught:
        await source.fetch()
    assert caught.value.code == code, caught.value
    assert caught.value.fault is Fault.WORLD
    return caught.value


def at_work(home: Path) -> list[str]:
    """The command lines of whoever works in the mirror, wherever it went: its environment tells."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environment, line = (entry / "environ").read_bytes(), (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if f"={home}/".encode() in environment and line:
            found.append(line.replace(b"\0", b" ").decode())
    return found


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def scraps(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if path.name.startswith("tmp_") or path.suffix == ".lock"]


# --- what never ends


@pytest.mark.parametrize("mood", [badhost.sends(badhost.many_blobs), badhost.sends(badhost.one_blob)])
@pytest.mark.parametrize("known", [True, False])
async def test_a_pack_that_never_ends_is_ended_and_nothing_of_it_stays(
    host: GitHost, remote: Remote, home: Path, mood: badhost.Mood, known: bool
) -> None:
    """F35: into a new mirror and into one that is there, which goes on serving what it had."""
    tip = await source_of(host, home).fetch() if known else ""
    remote.commit({"app.py": "print(2)\n"})
    before = size_of(home)
    host.mood = mood
    source = source_of(host, home)
    failure = await refused("repository-too-big", source)
    assert failure.message == "the repository takes more than 3M (`source.max_size`)"
    assert "source.max_size" in failure.hint
    assert scraps(home) == []
    assert size_of(home) <= before + 65536
    assert at_work(home) == []
    if known:
        assert await source.resolve(tip) == tip
    else:
        assert names(home) == []
    host.mood = None
    assert await source.fetch() == remote.git("rev-parse", "HEAD")


async def test_a_fetch_leaves_the_disk_to_the_service(host: GitHost, home: Path) -> None:
    """F22, F35: below the floor it ends, before the disk is full for everybody."""
    host.mood = badhost.sends(badhost.many_blobs)
    floor = files.free(home).bytes - (1 << 20)
    failure = await refused("disk-full", source_of(host, home, cap=1 << 40, floor=floor))
    assert "would leave less than" in failure.message
    assert names(home) == []
    assert at_work(home) == []


async def test_what_the_branch_has_left_behind_does_not_count_for_ever(
    host: GitHost, remote: Remote, home: Path
) -> None:
    """F35, F36: a mirror that outgrows its room is made anew with what is still there."""
    for number in range(4):
        (remote.path / "big.bin").write_bytes(os.urandom(900_000))
        tip = remote.commit({})
        source = source_of(host, home)
        assert await source.fetch() == tip
        if number < 3:
            remote.git("reset", "--quiet", "--hard", "HEAD^")
            remote.git("reflog", "expire", "--expire=now", "--all")
            remote.git("prune", "--expire=now")
    assert size_of(home / "mirror.git") < CAP // 2
    assert names(home) == ["mirror.git"]


async def test_an_object_that_only_fits_into_memory_is_not_taken(
    host: GitHost, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-GIT-10: a few kilobytes on the wire."""
    monkeypatch.setattr(program, "_memory", lambda: 128 << 20)
    host.mood = badhost.sends(badhost.a_bomb(300 << 20))
    failure = await refused("repository-too-big", source_of(host, home))
    assert "Out of memory" in failure.message
    assert "memory" in failure.hint


# --- what stops in the middle


async def test_whoever_stalls_in_the_middle_of_a_pack_is_left_with_all_children(
    host: GitHost, home: Path, over: threading.Event
) -> None:
    """R-GIT-2, R-GIT-6, F34: git, its helper for https and the one that reads the pack are gone."""
    seen: set[str] = set()

    def pack() -> Iterator[bytes]:
        yield badhost.head(1000)
        while not any("index-pack" in line for line in seen):
            if over.wait(0.05):
                return
            seen.update(at_work(home))

    host.mood = badhost.sends(pack, over)
    await refused("git-timeout", source_of(host, home, deadline=6))
    assert at_work(home) == []
    words = " ".join(seen)
    assert all(part in words for part in ("fetch", "remote-https", "index-pack")), seen


async def test_a_crawling_remote_is_given_up(
    host: GitHost, home: Path, over: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-GIT-6, F34: a few bytes a second; curl looks at the speed, and the seconds are fewer here."""
    options = [option.replace("lowSpeedTime=30", "lowSpeedTime=2") for option in program._OPTIONS]
    assert options != list(program._OPTIONS)
    monkeypatch.setattr(program, "_OPTIONS", tuple(options))
    host.mood = badhost.sends(badhost.slow(0.05, over))
    failure = await refused("git-timeout", source_of(host, home))
    assert "too slow" in failure.message
    assert at_work(home) == []


async def test_a_pack_that_is_cut_off_is_nobodys_corruption(
    host: GitHost, remote: Remote, home: Path
) -> None:
    """F33: the mirror is not made anew for it."""
    await source_of(host, home).fetch()
    inode = (home / "mirror.git").stat().st_ino
    remote.commit({"app.py": "print(2)\n"})
    host.mood = badhost.sends(badhost.cut_off)
    failure = await refused("git-unreachable", source_of(host, home))
    assert "clock" not in failure.hint
    assert (home / "mirror.git").stat().st_ino == inode
    assert at_work(home) == []
    host.mood = None
    source = source_of(host, home)
    tip = await source.fetch()
    (home / "out").mkdir()
    await source.lay_out(tip, home / "out")
    assert files_of(home / "out") == {"app.py": "print(2)\n"}
    assert scraps(home) == []


@pytest.mark.parametrize("known", [True, False])
async def test_a_pack_of_nonsense_is_the_remotes_fault_and_not_the_mirrors(
    host: GitHost, remote: Remote, home: Path, over: threading.Event, known: bool
) -> None:
    """F39: nobody is told that the mirror is cloned anew."""
    if known:
        await source_of(host, home).fetch()
    remote.commit({"app.py": "print(2)\n"})
    host.mood = badhost.sends(badhost.nonsense, over)
    await refused("git-failed", source_of(host, home))
    assert names(home) == (["mirror.git"] if known else [])


# --- who says no


@pytest.mark.parametrize(
    ("status", "headers", "code", "wait"),
    [
        (404, {}, "git-refused", None),
        (403, {}, "git-refused", None),
        (403, {"Retry-After": "60"}, "git-unreachable", 60),
        (429, {"Retry-After": "7"}, "git-unreachable", 7),
        (429, {}, "git-unreachable", None),
        (500, {}, "git-unreachable", None),
        (502, {}, "git-unreachable", None),
        (503, {"Retry-After": "Fri, 01 Jan 2100 00:02:00 GMT"}, "git-unreachable", "date"),
        (503, {"Retry-After": "soon"}, "git-unreachable", None),
    ],
)
async def test_an_answer_is_told_for_what_it_is(
    host: GitHost, home: Path, status: int, headers: dict[str, str], code: str, wait: float | str | None
) -> None:
    """F33, F44"""
    host.mood = badhost.says(status, headers)
    for call in ("fetch", "peek"):
        with pytest.raises(StepFailed) as caught:
            await getattr(source_of(host, home), call)()
        failure = caught.value
        assert (failure.code, failure.fault) == (code, Fault.WORLD)
        if wait == "date":
            assert failure.retry_after is not None
            assert failure.retry_after > 3600
        else:
            assert failure.retry_after == wait
        assert str(status) in failure.message or "not found" in failure.message
        assert "http.c" not in failure.message
        assert "header" not in failure.message.lower()
        assert ("asks to wait" in failure.message) == (wait is not None)


async def test_whoever_asks_for_a_password_asks_nobody(
    host: GitHost, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-GIT-3, F43: neither a terminal nor what the agent's own environment would ask with."""
    asker = tmp_path / "asker"
    asker.write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\necho secret\n")
    asker.chmod(0o755)
    for name in ("GIT_ASKPASS", "SSH_ASKPASS"):
        monkeypatch.setenv(name, str(asker))
    monkeypatch.setenv("GIT_TERMINAL_PROMPT", "1")
    host.mood = badhost.says(401, {"WWW-Authenticate": 'Basic realm="git"'})
    await refused("git-refused", source_of(host, home))
    assert not (tmp_path / "asked").exists()
    assert host.seen == []


async def test_a_redirect_to_another_protocol_is_not_followed(
    host: GitHost, home: Path, tmp_path: Path
) -> None:
    """R-GIT-1, R-GIT-3"""
    for place in (f"file://{tmp_path}/host/app/.git", f"ext::touch {tmp_path}/pwned", "http://127.0.0.1:1/x"):
        host.mood = badhost.says(302, {"Location": place})
        with pytest.raises(StepFailed):
            await source_of(host, home).fetch()
    assert not (tmp_path / "pwned").exists()
    assert names(home) == []


# --- who comes back


async def test_a_remote_that_fails_twice_and_then_works_costs_nothing_but_time(
    host: GitHost, remote: Remote, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """R-RB-6, F33, F44: real git, a real server; it asks to wait 20 seconds the first time."""
    clock, progress, heard = FakeClock(), Progress(), []
    source = source_of(host, home)
    deployment = a_deployment()
    begun = clock.monotonic()
    host.mood = badhost.says(503, {"Retry-After": "20"}, times=2)

    async def fetch(_: Deployment) -> Ended:
        heard.append(progress.of(deployment.id))
        return Ended(Outcome.OK, Change(revision=await source.fetch()))

    with caplog.at_level(logging.WARNING):
        ended = await persistent(fetch, clock, lambda: 0.5, progress)(deployment)
    assert ended.change.revision == remote.git("rev-parse", "HEAD")
    assert clock.monotonic() - begun == 20 + 20
    assert [said is None for said in heard] == [True, False, False]
    assert ended.change.output.count("tried again in 20 s") == 2
    assert "503" in ended.change.output
    assert len(caplog.records) == 2


async def test_a_remote_that_stays_away_is_given_up(host: GitHost, home: Path) -> None:
    """R-RB-6, F33: at most three further tries; R-RB-6 wants no quarantine, and it is the world's fault."""
    clock, asked = FakeClock(), []
    source = source_of(host, home)
    host.mood = badhost.says(502)

    async def fetch(_: Deployment) -> Ended:
        asked.append(clock.monotonic())
        return Ended(Outcome.OK, Change(revision=await source.fetch()))

    with pytest.raises(StepFailed) as caught:
        await persistent(fetch, clock, lambda: 0.5, Progress())(a_deployment())
    assert caught.value.fault is Fault.WORLD
    assert [later - earlier for earlier, later in pairwise(asked)] == list(PAUSES)
    assert caught.value.output.count("tried again") == 3
