"""Damage done on purpose to a whole store: every flipped byte, every cut, every write that a full disk refuses."""

import os
import random
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from agent.adapters.backup import a_store, packing
from agent.adapters.backup.descriptors import Descriptors
from agent.adapters.backup.manifest import ManifestWriter
from agent.adapters.backup.packing import PackWriter
from agent.adapters.backup.packs import FRAME, Pack
from agent.core.errors import StepFailed
from agent.core.ports import BackupStore
from tests.contracts.test_backup_store import contents, files_of, flip, save, tar_of

FLIPS = 200


def the_files(root: Path) -> tuple[Path, Path]:
    (pack,) = (root / "scraper/packs").glob("*.pack")
    (manifest,) = (root / "scraper/manifests").iterdir()
    return pack, manifest


def frames_of(pack: Path) -> list[tuple[int, int]]:
    """Where each frame begins, and how long it is."""
    with closing(Descriptors()) as descriptors:
        read = Pack(pack, descriptors)
        return [(at, length) for at, length, _ in FRAME.iter_unpack(read._frames)]


async def test_200_flipped_bytes_of_the_data_and_of_the_manifest_are_each_found(
    store: BackupStore, service: Path, root: Path
) -> None:
    """R-BK-6: wherever a byte of a frame or of a manifest is another one, verification says so."""
    made = await save(store, service)
    pack, manifest = the_files(root)
    (first, _), (last, length) = frames_of(pack)[0], frames_of(pack)[-1]
    chance = random.Random(6)
    places = [(pack, chance.randrange(first, last + length)) for _ in range(FLIPS * 3 // 4)]
    places += [(manifest, chance.randrange(manifest.stat().st_size)) for _ in range(FLIPS // 4)]
    for path, at in places:
        whole = path.read_bytes()
        flip(path, at)
        assert (await store.verify("one", made.digest)).state == "bad", (path.name, at)
        path.write_bytes(whole)
        path.with_suffix(".bad").unlink(missing_ok=True)
    assert (await store.verify("one", made.digest)).state == "ok"


async def test_flipped_bytes_beside_the_data_never_give_out_other_data(
    store: BackupStore, service: Path, root: Path
) -> None:
    """R-BK-6: the first line and the tables of a pack only say where pieces lie, and each piece is proven."""
    made = await save(store, service)
    truth = contents(await tar_of(store))
    pack, _ = the_files(root)
    (first, _), (last, length) = frames_of(pack)[0], frames_of(pack)[-1]
    chance = random.Random(7)
    outside = [*range(first), *range(last + length, pack.stat().st_size)]
    for at in chance.sample(outside, 60):
        whole = pack.read_bytes()
        flip(pack, at)
        state = (await store.verify("one", made.digest)).state
        if state == "ok":
            assert contents(await tar_of(store)) == truth, at
        pack.write_bytes(whole)
        pack.with_suffix(".bad").unlink(missing_ok=True)


async def test_a_pack_or_manifest_that_is_cut_at_any_boundary_is_found(
    store: BackupStore, service: Path, root: Path
) -> None:
    """R-BK-6: also where what is left looks whole."""
    made = await save(store, service)
    pack, manifest = the_files(root)
    frames = frames_of(pack)
    ends = [0, frames[0][0], *(at + length for at, length in frames)]
    for path, cuts in ((pack, ends), (manifest, range(0, manifest.stat().st_size, 7))):
        whole = path.read_bytes()
        for end in cuts:
            path.write_bytes(whole[:end])
            assert (await store.verify("one", made.digest)).state == "bad", (path.name, end)
        path.write_bytes(whole)
    assert (await store.verify("one", made.digest)).state == "ok"


async def test_a_disk_that_is_full_at_any_write_leaves_the_old_backups_and_nothing_else(
    service: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-BK-11, F21: ENOSPC at the n-th write of a pack or manifest, for every n."""
    monkeypatch.setattr(packing, "PACK_BYTES", 200_000)
    monkeypatch.setattr(packing, "FRAME_BYTES", 20_000)
    store = a_store(root)
    made = await save(store, service)
    before = files_of(root)
    (service / "shared/data/large").write_bytes(os.urandom(700_000))
    number, full = 0, True
    while full:
        number += 1
        left = [number]
        with monkeypatch.context() as patched:
            patched.setattr(PackWriter, "_write", refusing(PackWriter._write, left))
            patched.setattr(ManifestWriter, "_line", refusing(ManifestWriter._line, left))
            code = await code_of(save(store, service, id="two"))
        full = code is not None
        if full:
            assert (code, files_of(root)) == ("disk-full", before), number
    assert number > 10
    assert (await store.verify("one", made.digest)).state == "ok"
    assert (await store.verify("two")).state == "ok"


async def code_of(act: Awaitable[object]) -> str | None:
    """How it failed; None if it did not."""
    try:
        await act
    except StepFailed as failure:
        return failure.code
    return None


def refusing(really: Callable[..., None], left: list[int]) -> Callable[..., None]:
    def write(self: object, data: object) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise OSError(28, "No space left on device")
        really(self, data)

    return write
