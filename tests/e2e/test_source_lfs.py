"""Git LFS with the real program, from a path and over https. Needs git-lfs: `make e2e` installs it."""

import hashlib
import stat
from pathlib import Path

import pytest

from agent.adapters import tree
from agent.adapters.source import GitSource
from agent.core.errors import StepFailed
from agent.core.settings import SecretRef, Source
from agent.system.secrets import Secrets
from tests.e2e.sshd import needed
from tests.githost import GitHost, make_ca, serving
from tests.gitrepo import Remote, files_of, files_with

pytestmark = pytest.mark.root

BIG = b"\x00\x01big\xff" * 100_000


@pytest.fixture(autouse=True)
def program() -> None:
    needed("git-lfs")


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return Remote(tmp_path / "host" / "app")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "srv").mkdir()
    return tmp_path / "srv"


def pointer(content: bytes) -> str:
    oid = hashlib.sha256(content).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n"


def store(repository: Path, content: bytes) -> Path:
    """Puts an object where a push of git-lfs puts it."""
    oid = hashlib.sha256(content).hexdigest()
    place = repository / "lfs/objects" / oid[:2] / oid[2:4] / oid
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)  # git-lfs makes hard links where it can
    place.write_bytes(content)
    return place


def source_of(
    remote: Remote, home: Path, *, submodules: bool = False, caps: tree.Caps | None = None
) -> GitSource:
    options = Source(repository=str(remote.path), lfs=True, submodules=submodules)
    return GitSource(options, home, Secrets({}), caps=caps)


async def laid_out(source: GitSource, home: Path, name: str = "out") -> Path:
    tip = await source.fetch()
    (home / name).mkdir()
    await source.lay_out(tip, home / name)
    return home / name


async def refused(code: str, source: GitSource, home: Path) -> StepFailed:
    with pytest.raises(StepFailed) as caught:
        await laid_out(source, home)
    assert caught.value.code == code, caught.value
    return caught.value


async def test_pointers_become_their_objects(remote: Remote, home: Path) -> None:
    store(remote.path / ".git", BIG)
    store(remote.path / ".git", b"small\n")
    (remote.path / "run").write_text(pointer(b"small\n"))
    (remote.path / "run").chmod(0o755)
    (remote.path / "link").symlink_to("deep/big.bin")
    remote.commit({"deep/big.bin": pointer(BIG), "app.py": "print(1)\n"})
    out = await laid_out(source_of(remote, home), home)
    assert (out / "deep/big.bin").read_bytes() == BIG
    assert (out / "link").read_bytes() == BIG
    assert (out / "run").read_text() == "small\n"
    assert stat.S_IMODE((out / "run").stat().st_mode) & 0o111
    assert not stat.S_IMODE((out / "deep/big.bin").stat().st_mode) & 0o111
    assert sorted(path.name for path in out.rglob("*")) == ["app.py", "big.bin", "deep", "link", "run"]


async def test_only_what_the_commit_has_is_kept_and_what_is_there_is_not_fetched_again(
    remote: Remote, home: Path
) -> None:
    gone = store(remote.path / ".git", BIG)
    source = source_of(remote, home)
    remote.commit({"big.bin": pointer(BIG)})
    await laid_out(source, home, "a")
    gone.unlink()
    assert (await laid_out(source, home, "b") / "big.bin").read_bytes() == BIG
    store(remote.path / ".git", b"small\n")
    remote.commit({"big.bin": pointer(b"small\n")})
    await laid_out(source, home, "c")
    kept = [path.read_bytes() for path in (home / "mirror.git/lfs/objects").rglob("*") if path.is_file()]
    assert kept == [b"small\n"]


@pytest.mark.parametrize("spoiled", [b"", BIG[:-1], BIG[:-1] + b"x", BIG + b"x"])
async def test_an_object_that_is_damaged_here_is_fetched_again(
    remote: Remote, home: Path, spoiled: bytes
) -> None:
    store(remote.path / ".git", BIG)
    source = source_of(remote, home)
    remote.commit({"big.bin": pointer(BIG)})
    await laid_out(source, home, "a")
    store(home / "mirror.git", BIG).write_bytes(spoiled)
    assert (await laid_out(source, home, "b") / "big.bin").read_bytes() == BIG


async def test_an_object_that_the_server_lacks_is_told(remote: Remote, home: Path) -> None:
    remote.commit({"big.bin": pointer(BIG)})
    failure = await refused("lfs-failed", source_of(remote, home), home)
    assert "git lfs push" in failure.hint


async def test_an_object_that_is_not_what_its_name_says_is_not_taken(remote: Remote, home: Path) -> None:
    store(remote.path / ".git", BIG).write_bytes(BIG[:-1] + b"x")
    remote.commit({"big.bin": pointer(BIG)})
    await refused("lfs-failed", source_of(remote, home), home)
    assert BIG[:-1] + b"x" not in [path.read_bytes() for path in (home / "out").rglob("*") if path.is_file()]


async def test_objects_count_like_files(remote: Remote, home: Path) -> None:
    """R-GIT-10, F35: before anything of them is fetched."""
    remote.commit({"big.bin": pointer(BIG)})
    await refused("tree-refused", source_of(remote, home, caps=tree.Caps(bytes=len(BIG))), home)


async def test_nothing_of_the_repositorys_own_settings_counts(
    remote: Remote, home: Path, tmp_path: Path
) -> None:
    """R-GIT-4"""
    store(remote.path / ".git", BIG)
    evil = f"touch {tmp_path}/pwned"
    remote.commit(
        {
            ".lfsconfig": f'[lfs]\nurl = https://127.0.0.1:1/evil\n[lfs "customtransfer.x"]\npath = {evil}\n',
            ".gitattributes": "*.bin filter=evil\n",
            "big.bin": pointer(BIG),
        }
    )
    remote.git("config", "filter.evil.smudge", evil)
    assert (await laid_out(source_of(remote, home), home) / "big.bin").read_bytes() == BIG
    assert not (tmp_path / "pwned").exists()


async def test_what_only_looks_like_a_pointer_stays(remote: Remote, home: Path) -> None:
    texts = {
        "a": "version https://git-lfs.github.com/spec/v1\noid sha256:xyz\nsize 3\n",
        "b": pointer(BIG) + "more\n",
        "c": "x" + pointer(BIG),
        "d": pointer(BIG).replace("size ", "size -"),
    }
    remote.commit(texts)
    assert files_of(await laid_out(source_of(remote, home), home)) == texts


async def test_a_submodules_objects_come_from_the_submodules_own_repository(
    remote: Remote, home: Path
) -> None:
    library = Remote(remote.path.parent / "library")
    store(library.path / ".git", BIG)
    remote.link(library.commit({"big.bin": pointer(BIG)}), "lib", "../library")
    remote.commit_index()
    out = await laid_out(source_of(remote, home, submodules=True), home)
    assert (out / "lib/big.bin").read_bytes() == BIG


async def test_over_https_they_come_with_the_token(
    remote: Remote, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-GIT-11"""
    token = "canary-91c2d4e8f0"
    monkeypatch.setenv("GIT_SSL_CAINFO", str(make_ca(tmp_path)))
    store(remote.path / ".git", BIG)
    remote.commit({"big.bin": pointer(BIG)})
    with serving(GitHost(remote.path.parent, {token}), tmp_path / "tls.pem") as host:
        options = Source(repository=host.url("app/.git"), token=SecretRef(env="TOKEN"), lfs=True)
        out = await laid_out(GitSource(options, home, Secrets({"TOKEN": token})), home)
        assert (out / "big.bin").read_bytes() == BIG
        assert set(host.seen) == {f"x-access-token:{token}"}
    assert files_with(token, home) == []


async def test_an_extension_is_not_run(remote: Remote, home: Path) -> None:
    store(remote.path / ".git", BIG)
    extended = pointer(BIG).replace("oid", f"ext-0-foo sha256:{'1' * 64}\noid")
    remote.commit({"big.bin": extended})
    failure = await refused("lfs-failed", source_of(remote, home), home)
    assert "extension" in failure.message


async def test_an_empty_object_is_an_empty_file(remote: Remote, home: Path) -> None:
    store(remote.path / ".git", b"")
    remote.commit({"empty": pointer(b"")})
    assert (await laid_out(source_of(remote, home), home) / "empty").read_bytes() == b""
