"""Deploy keys and host keys against a real sshd. Needs root, and openssh-server: `make e2e` installs it."""

import getpass
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters.source import GitSource
from agent.core.errors import StepFailed
from agent.core.settings import KeyRef, Source
from agent.system.secrets import Secrets
from tests.e2e.sshd import Sshd, a_key, needed, public
from tests.gitrepo import Remote, files_of
from tests.world import wait_for

pytestmark = pytest.mark.root


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    """A host that nobody is admitted to yet."""
    needed("sshd", "ssh-keygen")
    host = Sshd(tmp_path / "sshd")
    with host.running():
        yield host


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    made = Remote(tmp_path / "remote")
    made.commit({"app.py": "print(1)\n"})
    return made


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The service's directory, with everything in its name that ssh and the shell could take for something else."""
    made = tmp_path / "srv %h $(x) \"quoted\" 'it'"
    made.mkdir()
    return made


@pytest.fixture
def key(home: Path) -> Path:
    return a_key(home / "deploy %u key")


def source_of(
    sshd: Sshd, remote: Remote, home: Path, key: Path | None, *host_keys: str, submodules: bool = False
) -> GitSource:
    repository = f"ssh://{getpass.getuser()}@127.0.0.1:{sshd.port}{remote.path}"
    reference = None if key is None else KeyRef(file=str(key))
    options = Source(repository=repository, key=reference, host_keys=host_keys, submodules=submodules)
    return GitSource(options, home, Secrets({}))


async def refused(source: GitSource) -> StepFailed:
    """That it is, at once: a prompt that nobody answers would take its time."""
    begun = time.monotonic()
    with pytest.raises(StepFailed) as caught:
        await source.fetch()
    assert caught.value.code == "git-refused", caught.value
    assert time.monotonic() - begun < 20
    return caught.value


async def test_a_deploy_key_opens_a_repository_on_a_host_that_is_pinned(
    sshd: Sshd, remote: Remote, home: Path, key: Path
) -> None:
    sshd.admit(key)
    source = source_of(sshd, remote, home, key, public(sshd.host_key))
    tip = await source.fetch()
    assert tip == remote.git("rev-parse", "HEAD")
    (home / "out").mkdir()
    await source.lay_out(tip, home / "out")
    assert files_of(home / "out") == {"app.py": "print(1)\n"}


def agent_answers() -> bool:
    """It has no key yet, which is 1; its socket is there before it listens."""
    return subprocess.run(["ssh-add", "-l"], capture_output=True, check=False).returncode == 1


@pytest.fixture
def agent_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Another key, which the user's ssh-agent holds."""
    key, sock = a_key(tmp_path / "agent-key"), tmp_path / "agent.sock"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", sock], stdout=subprocess.DEVNULL)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(sock))
    try:
        wait_for("the ssh-agent", agent_answers)
        subprocess.run(["ssh-add", "-q", key], check=True)
        yield key
    finally:
        process.terminate()
        process.wait()


async def test_only_the_deploy_key_is_shown(
    sshd: Sshd, remote: Remote, home: Path, key: Path, agent_key: Path
) -> None:
    """Others of the user count as failed attempts, and tell the host who else the agent is."""
    pinned = public(sshd.host_key)
    failure = await refused(source_of(sshd, remote, home, key, pinned))
    assert "Permission denied" in failure.message
    assert "source.key" in failure.hint
    wait_for("all that sshd says", lambda: "Connection closed by authenticating user" in sshd.log())
    assert sshd.log().count("Failed publickey") == 1
    assert "Failed password" not in sshd.log()
    sshd.admit(agent_key)
    await refused(source_of(sshd, remote, home, key, pinned))
    await source_of(sshd, remote, home, None, pinned).fetch()  # without a deploy key the user's own are tried


async def test_a_key_that_is_taken_away_is_refused_and_comes_back(
    sshd: Sshd, remote: Remote, home: Path, key: Path
) -> None:
    """F43"""
    sshd.admit(key)
    source = source_of(sshd, remote, home, key, public(sshd.host_key))
    tip = await source.fetch()
    sshd.authorized.write_text("")
    await refused(source)
    assert await source.resolve("main") == tip  # what was fetched stays
    sshd.admit(key)
    assert await source.fetch() == tip


async def test_a_host_that_is_not_pinned_is_refused(
    sshd: Sshd, remote: Remote, home: Path, key: Path, tmp_path: Path
) -> None:
    """F42"""
    sshd.admit(key)
    other = public(a_key(tmp_path / "other"))
    failure = await refused(source_of(sshd, remote, home, key, other))
    assert "Host key verification failed" in failure.message
    assert "host_keys" in failure.hint
    # without pinned keys the user's known_hosts counts, which has never heard of it: nothing is accepted by itself
    await refused(source_of(sshd, remote, home, key))
    assert "Accepted" not in sshd.log()


async def test_a_host_key_that_changed_is_refused_until_it_is_pinned(
    tmp_path: Path, remote: Remote, home: Path, key: Path
) -> None:
    """F42"""
    needed("sshd", "ssh-keygen")
    sshd = Sshd(tmp_path / "sshd")
    sshd.admit(key)
    pinned = public(sshd.host_key)
    source = source_of(sshd, remote, home, key, pinned)
    with sshd.running():
        tip = await source.fetch()
    sshd.new_host_key()
    with sshd.running():
        failure = await refused(source)
        assert "has changed" in failure.message
        assert (home / "known_hosts").read_text().count("\n") == 1  # nothing was added
        both = source_of(sshd, remote, home, key, pinned, public(sshd.host_key))
        assert await both.fetch() == tip


async def test_a_kind_of_key_that_the_host_has_not_is_no_way_around(
    sshd: Sshd, remote: Remote, home: Path, key: Path, tmp_path: Path
) -> None:
    """F42"""
    sshd.admit(key)
    rsa = public(a_key(tmp_path / "rsa", "-t", "rsa", "-b", "2048"))
    await refused(source_of(sshd, remote, home, key, rsa))


async def test_a_submodule_on_the_same_host_is_fetched_with_the_same_key(
    sshd: Sshd, remote: Remote, home: Path, key: Path
) -> None:
    sshd.admit(key)
    library = Remote(remote.path.parent / "library")
    remote.link(library.commit({"lib.py": "x = 1\n"}), "lib", "../library")
    tip = remote.commit_index()
    source = source_of(sshd, remote, home, key, public(sshd.host_key), submodules=True)
    await source.fetch()
    (home / "out").mkdir()
    await source.lay_out(tip, home / "out")
    assert files_of(home / "out")["lib/lib.py"] == "x = 1\n"
