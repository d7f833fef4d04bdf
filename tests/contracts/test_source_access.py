"""What lets the agent into a repository: a token, over real TLS; what is known of keys before any host is asked.

Real ssh hosts are in tests/e2e.
"""

import asyncio
import logging
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters.source import GitSource
from agent.core.errors import StepFailed
from agent.core.settings import KeyRef, SecretRef, Source
from agent.system.secrets import Secrets
from tests.githost import GitHost, make_ca, serving
from tests.gitrepo import Remote, files_of, files_with

CANARY = "canary-4f7d1c9e2b"


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificate; its key lies beside it in `tls.pem`."""
    return make_ca(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    made = Remote(tmp_path / "host" / "app")
    made.commit({"app.py": "print(1)\n"})
    return made


@pytest.fixture
def host(remote: Remote, ca: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GitHost]:
    """Serves `app/.git` and whatever else lies beside it, for the canary only."""
    monkeypatch.setenv("GIT_SSL_CAINFO", str(ca))
    with serving(GitHost(remote.path.parent, {CANARY}), ca.with_name("tls.pem")) as made:
        yield made


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "srv").mkdir()
    return tmp_path / "srv"


def with_token(address: str, home: Path, token: str = CANARY) -> GitSource:
    place = home.parent / "token"
    place.write_text(token + "\n")
    place.chmod(0o600)
    return GitSource(Source(repository=address, token=SecretRef(file=str(place))), home, Secrets({}))


async def refused(code: str, source: GitSource) -> StepFailed:
    with pytest.raises(StepFailed) as caught:
        await source.fetch()
    assert caught.value.code == code, caught.value
    return caught.value


# --- a token


async def test_a_token_opens_a_repository_over_https(host: GitHost, remote: Remote, home: Path) -> None:
    """R-GIT-11"""
    source = with_token(host.url("app/.git"), home)
    tip = await source.fetch()
    assert tip == remote.git("rev-parse", "HEAD")
    assert set(host.seen) == {f"x-access-token:{CANARY}"}
    second = remote.commit({"app.py": "print(2)\n"})
    assert await source.fetch() == second  # the descriptor is a new one each time
    (home / "out").mkdir()
    await source.lay_out(second, home / "out")
    assert files_of(home / "out") == {"app.py": "print(2)\n"}


async def test_a_token_also_opens_it_to_who_only_asks_for_the_tip(
    host: GitHost, remote: Remote, home: Path
) -> None:
    """R-GIT-11, R-RX-26"""
    assert await with_token(host.url("app/.git"), home).peek() == remote.git("rev-parse", "HEAD")
    assert set(host.seen) == {f"x-access-token:{CANARY}"}
    with pytest.raises(StepFailed) as caught:
        await with_token(host.url("app/.git"), home, "another-token-0123456789").peek()
    assert caught.value.code == "git-refused"


async def test_a_token_is_seen_nowhere(
    host: GitHost,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """R-GIT-11: not in an argument or a variable of any process, a file, or the log.

    The program that reads it stands in the way here, and looks at all processes while git and its helper wait.
    """
    caplog.set_level(logging.DEBUG)
    spy = tmp_path / "bin" / "cat"
    spy.parent.mkdir()
    spy.write_text(
        "#!/bin/sh\n"
        f"/bin/cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ >> {tmp_path}/seen 2> /dev/null\n"
        'exec /bin/cat "$@"\n'
    )
    spy.chmod(0o755)
    monkeypatch.setenv("PATH", f"{spy.parent}:{os.environ['PATH']}")
    await with_token(host.url("app/.git"), home).fetch()
    seen = (tmp_path / "seen").read_bytes()
    assert b"remote-https" in seen
    assert CANARY.encode() not in seen
    assert files_with(CANARY, home) == []
    assert CANARY not in caplog.text


@pytest.mark.parametrize("token", ["another-token-0123", "two\nlines-of-a-token", "tökens-have-no-umlauts"])
async def test_a_token_that_is_refused_is_told_in_a_sentence(host: GitHost, home: Path, token: str) -> None:
    """F33, F43"""
    failure = await refused("git-refused", with_token(host.url("app/.git"), home, token))
    assert "\n" not in failure.message
    assert token not in failure.message
    if token.startswith("another"):
        assert failure.message.startswith("fatal: Authentication failed for 'https://127.0.0.1")
        assert "source.token" in failure.hint


async def test_without_a_token_nobody_is_asked_for_one(host: GitHost, home: Path) -> None:
    """F43"""
    source = GitSource(Source(repository=host.url("app/.git")), home, Secrets({}))
    await refused("git-refused", source)
    assert host.seen == []


async def test_a_redirect_elsewhere_gets_no_token(
    host: GitHost, ca: Path, home: Path, tmp_path: Path
) -> None:
    """R-GIT-11"""
    with serving(GitHost(tmp_path / "host", {CANARY}), ca.with_name("tls.pem")) as elsewhere:
        host.redirect = elsewhere.url("", "localhost").rstrip("/")
        await refused("git-refused", with_token(host.url("app/.git"), home))
        assert elsewhere.seen == []


async def test_a_certificate_of_nobody_is_not_believed(
    host: GitHost, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F41"""
    monkeypatch.delenv("GIT_SSL_CAINFO")
    failure = await refused("git-unreachable", with_token(host.url("app/.git"), home))
    assert "clock" in failure.hint
    assert host.seen == []


# --- a key, before any host is asked


def a_key(place: Path, *options: str) -> Path:
    """A private key, as ssh-keygen makes it."""
    place.parent.mkdir(parents=True, exist_ok=True)
    words = options or ("-t", "ed25519", "-N", "")
    subprocess.run(["ssh-keygen", "-q", *words, "-f", place], check=True, stdin=subprocess.DEVNULL)
    return place


def with_key(key: KeyRef, home: Path, secrets: Secrets | None = None) -> GitSource:
    source = Source(repository="ssh://git@127.0.0.1:1/app.git", key=key)
    return GitSource(source, home, secrets or Secrets({}))


async def test_a_key_that_ssh_may_use_is_used(home: Path, tmp_path: Path) -> None:
    """Nobody listens there: that it was tried at all is what tells."""
    await refused("git-unreachable", with_key(KeyRef(file=str(a_key(tmp_path / "key"))), home))
    a_key(tmp_path / "credentials" / "deploy")
    secrets = Secrets({"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")})
    await refused("git-unreachable", with_key(KeyRef(credential="deploy"), home, secrets))


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
async def test_a_key_that_others_can_read_is_unusable(home: Path, tmp_path: Path, mode: int) -> None:
    key = a_key(tmp_path / "key")
    key.chmod(mode)
    failure = await refused("key-unusable", with_key(KeyRef(file=str(key)), home))
    assert str(key) in failure.message
    assert "chmod 0600" in failure.hint


async def test_a_key_that_is_missing_is_unusable(home: Path, tmp_path: Path) -> None:
    await refused("key-unusable", with_key(KeyRef(file=str(tmp_path / "none")), home))
    await refused("key-unusable", with_key(KeyRef(credential="none"), home))


async def test_a_key_that_is_none_is_unusable(home: Path, tmp_path: Path) -> None:
    key = a_key(tmp_path / "key").with_name("key.pub")
    key.chmod(0o600)
    failure = await refused("key-unusable", with_key(KeyRef(file=str(key)), home))
    assert "is no private key" in failure.message


@pytest.mark.parametrize("form", [(), ("-m", "PEM"), ("-m", "PKCS8")])
async def test_a_key_behind_a_passphrase_is_unusable(
    home: Path, tmp_path: Path, form: tuple[str, ...]
) -> None:
    key = a_key(tmp_path / "key", "-t", "rsa", "-b", "2048", "-N", "a passphrase", *form)
    failure = await refused("key-unusable", with_key(KeyRef(file=str(key)), home))
    assert "passphrase" in failure.message
    open_key = a_key(tmp_path / "open", "-t", "rsa", "-b", "2048", "-N", "", *form)
    await refused("git-unreachable", with_key(KeyRef(file=str(open_key)), home))


async def test_a_peek_and_a_fetch_pin_the_host_keys_together(home: Path) -> None:
    source = Source(repository="ssh://git@127.0.0.1:1/app.git", host_keys=("ssh-ed25519 AAAA",))
    git = GitSource(source, home, Secrets({}))
    failures = await asyncio.gather(git.fetch(), *(git.peek() for _ in range(5)), return_exceptions=True)
    assert [getattr(failure, "code", failure) for failure in failures] == ["git-unreachable"] * 6
    assert (home / "known_hosts").read_text() == "[127.0.0.1]:1 ssh-ed25519 AAAA\n"


async def test_pinned_host_keys_are_written_beside_the_mirror(home: Path) -> None:
    keys = ("ssh-ed25519 AAAA", "ssh-rsa BBBB a comment")
    source = Source(repository="ssh://git@127.0.0.1:1/app.git", host_keys=keys)
    await refused("git-unreachable", GitSource(source, home, Secrets({})))
    written = home / "known_hosts"
    assert written.read_text() == "[127.0.0.1]:1 ssh-ed25519 AAAA\n[127.0.0.1]:1 ssh-rsa BBBB a comment\n"
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    before = written.stat().st_ino
    await refused("git-unreachable", GitSource(source, home, Secrets({})))
    assert written.stat().st_ino == before


# --- how ssh is called


async def called(source: GitSource, home: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The arguments that ssh gets, by way of git and a shell; it opens nothing here."""
    spy = home.parent / "bin" / "ssh"
    spy.parent.mkdir(exist_ok=True)
    spy.write_text(
        f'#!/bin/sh\nfor word; do printf "%s\\n" "$word"; done > "{home.parent}/called"\nexit 255\n'
    )
    spy.chmod(0o755)
    monkeypatch.setenv("PATH", f"{spy.parent}:{os.environ['PATH']}")
    with pytest.raises(StepFailed):
        await source.fetch()
    return (home.parent / "called").read_text().splitlines()


async def test_without_keys_those_of_the_user_and_their_known_hosts_count(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-GIT-3"""
    source = GitSource(Source(repository="git@pi:app"), home, Secrets({}))
    words = await called(source, home, monkeypatch)
    assert {"-oBatchMode=yes", "-oStrictHostKeyChecking=yes", "-oControlPath=none", "git@pi"} <= set(words)
    assert not [word for word in words if "Identit" in word or "KnownHosts" in word]


async def test_a_name_reaches_ssh_as_it_is(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-GIT-1: through git, a shell, and the words of ssh_config(5)."""
    place = tmp_path / "a %h $(touch pwned) 'b' \\"
    key = a_key(place / "key")
    (place / "srv").mkdir()
    source = Source(repository="git@pi:app", key=KeyRef(file=str(key)), host_keys=("ssh-ed25519 AAAA",))
    words = await called(GitSource(source, place / "srv", Secrets({})), home, monkeypatch)
    written = str(place).replace("\\", "\\\\").replace("%", "%%")
    assert f'-oIdentityFile="{written}/key"' in words
    assert f'-oUserKnownHostsFile="{written}/srv/known_hosts"' in words
    assert {"-oIdentitiesOnly=yes", "-oGlobalKnownHostsFile=/dev/null"} <= set(words)
    assert all("pwned" not in names for _, _, names in os.walk(tmp_path))
