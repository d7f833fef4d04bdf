"""Space given back: packs of which no backup needs a piece go; those that are mostly dead are written anew.

- Backups are forgotten first, durably; while `untidy` stands in the service's directory there may be packs that
  nobody needs, also after a power cut.
- What is needed is asked of every manifest that there is. If one of them does not read, nothing is removed: nobody
  knows what it needs. A pack that does not read stays as well.
- A pack is replaced only after each of its living pieces was read back from the new one. A cut in between leaves
  pieces twice: the next run keeps one of both.
- It needs one byte of memory a piece beside the tables of the packs, and room for what it writes.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from itertools import chain, groupby
from pathlib import Path
from secrets import token_hex

from agent.adapters.backup import content, packs
from agent.adapters.backup.codec import Damaged
from agent.adapters.backup.descriptors import Descriptors
from agent.adapters.backup.home import Home
from agent.adapters.backup.manifest import Manifest
from agent.adapters.backup.packing import PackWriter
from agent.adapters.backup.packs import PACK_BYTES, Pack, Packs, Place
from agent.adapters.backup.sink import TOKEN
from agent.adapters.backup.stopping import Stopped, heed
from agent.system.files import Free, fsync_directory

REWRITTEN_AT_ONCE = 4
"""Packs that one run writes anew at most, so that it ends within minutes on an SD card."""
_ROOM = PACK_BYTES
"""What stays free beside what is written."""


def forget(home: Home, ids: Iterable[str]) -> None:
    """Removes manifests, after a mark that tells of it. The lock is held."""
    known = home.backups()
    gone = [known[wanted] for wanted in ids if wanted in known]
    if gone:
        home.note_untidy()
        for path in gone:
            path.unlink()
        fsync_directory(home.manifests)


def reclaim(home: Home, space: Callable[[Path], Free], stopped: Stopped) -> int:
    """Removes and rewrites packs; returns the bytes that came back. The lock is held. Raises Damaged if a backup's
    manifest does not read."""
    freed, sparse = 0, []
    with Packs(home.packs) as there:
        needed = _needed(home, there, stopped)
        for pack in there:
            living = [pack.piece(at) for at, is_needed in enumerate(needed[pack.name]) if is_needed]
            if not living:
                freed += _remove([pack.path])
            elif pack.sound and 2 * pack.weight(place for _, place in living) < pack.path.stat().st_size:
                sparse.append((pack, living))
        fsync_directory(home.packs)
        batch = sparse[:REWRITTEN_AT_ONCE]
        size = sum(pack.weight(place for _, place in living) for pack, living in batch)
        fits = space(home.packs).bytes >= _ROOM + 2 * size
        if batch and fits:
            freed += _rewrite(home, there, batch, stopped)
    if len(sparse) <= REWRITTEN_AT_ONCE and (fits or not batch):
        home.note_tidy()
    return freed


def _needed(home: Home, there: Packs, stopped: Stopped) -> dict[str, bytearray]:
    """For each pack which of its pieces any backup needs: one copy of each."""
    needed = {pack.name: bytearray(len(pack)) for pack in there}
    for path in home.backups().values():
        for file in Manifest(path, stopped=stopped).files():
            heed(stopped)
            lists = (bytes.fromhex(chunk) for chunk in (file.chunks if file.listed else ()))
            for address in chain(lists, content.addresses(there, file)):
                for name, at in there.holders(address):
                    needed[name][at] = 1
    return needed


def _rewrite(
    home: Home, there: Packs, batch: Sequence[tuple[Pack, Sequence[tuple[bytes, Place]]]], stopped: Stopped
) -> int:
    """Stores the living pieces of some packs together, reads them back, and removes those packs."""
    writer = PackWriter(home.packs, f"tidy-{token_hex(TOKEN)}")
    replaced = []
    try:
        for pack, living in batch:
            with contextlib.suppress(Damaged):  # it stays: what still reads in it may be all that there is
                for address, _ in sorted(living, key=lambda piece: piece[1]):
                    heed(stopped)
                    writer.add(address, there.read(address))
                    if writer.full():
                        writer.finish()
                replaced.append(pack.path)
        writer.finish()
        fsync_directory(home.packs)
        for path in writer.finished:
            _read_back(path, stopped)
    except BaseException:
        _remove(writer.finished)
        raise
    finally:
        writer.close()
    freed = _remove(replaced) - writer.stored_bytes
    fsync_directory(home.packs)
    return freed


def _read_back(path: Path, stopped: Stopped) -> None:
    """Every piece of a new pack, from the device. Raises Damaged."""
    with closing(Descriptors(device=True)) as descriptors:
        pack = Pack(path, descriptors)
        for frame, pieces in groupby(
            sorted((pack.piece(at) for at in range(len(pack))), key=_place), key=_frame
        ):
            heed(stopped)
            data = pack.frame(frame)
            for address, place in pieces:
                if hashlib.sha256(data[place.offset : place.offset + place.length]).digest() != address:
                    raise Damaged(f"{pack.name}: it does not read back as it was written")


def _place(piece: tuple[bytes, Place]) -> Place:
    return piece[1]


def _frame(piece: tuple[bytes, Place]) -> int:
    return piece[1].frame


def _remove(paths: Sequence[Path]) -> int:
    """Removes packs; returns what they took."""
    freed = 0
    for path in paths:
        freed += path.stat().st_size
        packs.remove(path)
    return freed
