"""Packs: the files that hold every piece of every backup, each piece once.

    homeport pack 1 <codec> <name>\\n      one line of text
    frames                                each up to FRAME_BYTES of new pieces, compressed together, with a checksum
    frame table                           per frame:  offset, stored length, length           >QII
    piece table, sorted by address        per piece:  SHA-256, frame, offset in it, length    >32sIII
    footer                                where the tables are, SHA-256 of first line and tables, end mark

Why so. A piece is as small as a database's page, because a 1 % change of a database touches 10 % of its pages,
spread everywhere: measured on 120 MB it adds 6 MB at 4 KiB, 19 MB at 16 KiB and everything at 256 KiB. Pages
compress badly one by one, so neighbours share a frame; a restore reads them in the same order again. A pack is
written front to back, with one fsync: what an SD card does best. The tables are small beside a dictionary: 60
bytes of memory a piece. Writing them is `packing`.

Every read is proven by the SHA-256 of the piece, so nothing else has to be trusted: a pack whose tables fail their
own digest is still read (`sound` is false), but no new backup builds on it. Frames that a verification found bad
are written down beside the pack (`<name>.bad`), and the next backup stores their pieces anew.
"""

import contextlib
import hashlib
import json
import os
import struct
from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from agent.adapters.backup import codec
from agent.adapters.backup.codec import Damaged
from agent.adapters.backup.descriptors import Descriptors, entries, is_damage
from agent.adapters.backup.stopping import Stopped, heed, never
from agent.system.files import write_atomic

FRAME_BYTES = 512 * 1024
PIECE_BYTES = 4 * 1024 * 1024
"""The largest piece; a frame is at most this much longer than FRAME_BYTES."""
PACK_BYTES = 32 * 1024 * 1024
"""A pack is closed when it is so long: later, tidying rewrites one pack and needs room for one."""
PACK = ".pack"
BAD = ".bad"
PARTIAL = ".partial"

FRAME = struct.Struct(">QII")
PIECE = struct.Struct(">32sIII")
FOOTER = struct.Struct(">QII32s8s")
END = b"packend\n"
_PREFIX = struct.Struct(f">Q{PIECE.size - 8}x")
_CACHED_BYTES = 4 * 1024 * 1024


class Place(NamedTuple):
    """Where a piece lies in a pack."""

    frame: int
    offset: int
    length: int


class Pack:
    """One finished pack, for reading."""

    def __init__(self, path: Path, descriptors: Descriptors) -> None:
        """Reads its tables. Raises Damaged if they cannot be read at all; OSError if it may work another time."""
        self.path = path
        self.name = path.name.removesuffix(PACK)
        self._descriptors = descriptors
        self._load()
        self.bad = _read_bad(path)

    def _load(self) -> None:
        size = self._size()
        if size < FOOTER.size:
            raise Damaged(f"{self.name}: cut off")
        at, frames, pieces, digest, end = FOOTER.unpack(self._pread(FOOTER.size, size - FOOTER.size))
        length = frames * FRAME.size + pieces * PIECE.size
        if end != END or at + length + FOOTER.size != size:
            raise Damaged(f"{self.name}: its end is not that of a pack")
        head, _, _ = self._pread(min(512, size), 0).partition(b"\n")
        tables = self._pread(length, at)
        words = head.split(b" ")
        if words[:3] != [b"homeport", b"pack", b"1"] or len(words) != 5:
            raise Damaged(f"{self.name}: its first line is not that of a pack")
        self.codec = words[3].decode("ascii", "replace")
        if self.codec not in ("zstd", "zlib"):
            raise Damaged(f"{self.name}: unknown compression")
        self.sound = hashlib.sha256(head + b"\n" + tables).digest() == digest and words[4] == os.fsencode(
            self.name
        )
        self.frames = frames
        self._frames = tables[: frames * FRAME.size]
        self._pieces = tables[frames * FRAME.size :]
        self._prefixes = array("Q", (prefix for (prefix,) in _PREFIX.iter_unpack(self._pieces)))

    def __len__(self) -> int:
        return len(self._prefixes)

    def position(self, address: bytes) -> int | None:
        """Which of its pieces, in the order of the table, has this SHA-256, if one has."""
        prefix = int.from_bytes(address[:8], "big")
        at = bisect_left(self._prefixes, prefix)
        while at < len(self._prefixes) and self._prefixes[at] == prefix:
            if self.piece(at)[0] == address:
                return at
            at += 1
        return None

    def piece(self, position: int) -> tuple[bytes, Place]:
        """The SHA-256 of a piece, and where it lies."""
        address, *place = PIECE.unpack_from(self._pieces, position * PIECE.size)
        return address, Place(*place)

    def find(self, address: bytes) -> Place | None:
        """Where the piece with this SHA-256 lies, if it is here."""
        at = self.position(address)
        return None if at is None else self.piece(at)[1]

    def weight(self, pieces: Iterable[Place]) -> float:
        """Bytes that these pieces take here, each by its part of its frame."""
        ratios = [float(stored / max(1, length)) for _, stored, length in FRAME.iter_unpack(self._frames)]
        return sum((place.length * ratios[place.frame] for place in pieces), 0.0)

    def frame(self, number: int) -> bytes:
        """A frame, decompressed. Raises Damaged, also when the device refuses."""
        if number * FRAME.size >= len(self._frames):
            raise Damaged(f"{self.name}: no frame {number}")
        offset, stored, length = FRAME.unpack_from(self._frames, number * FRAME.size)
        if max(stored, length) > FRAME_BYTES + 2 * PIECE_BYTES:
            raise Damaged(f"{self.name}: frame {number} is too long")
        return codec.decompress(self.codec, self._pread(stored, offset), length)

    def _size(self) -> int:
        with _noticing(self.name):
            return self._descriptors.size(self.path)

    def _pread(self, length: int, offset: int) -> bytes:
        with _noticing(self.name):
            data = self._descriptors.read(self.path, length, offset)
        if len(data) != length:
            raise Damaged(f"{self.name}: cut off")
        return data

    def note_bad(self, frames: set[int]) -> None:
        """Remembers on the disk that no new backup may build on these frames."""
        if frames - self.bad:
            self.bad |= frames
            write_atomic(self.path.with_suffix(BAD), json.dumps(sorted(self.bad)).encode())


@contextlib.contextmanager
def _noticing(name: str) -> Iterator[None]:
    """What the device or the tables say about a pack that is no pack any more, as Damaged."""
    try:
        yield
    except OverflowError as error:
        raise Damaged(f"{name}: {error}") from error
    except OSError as error:
        if not is_damage(error):
            raise
        raise Damaged(f"{name}: {error}") from error


def _read_bad(path: Path) -> set[int]:
    """The frames known as bad. An unreadable note counts as none: each read is proven all the same."""
    try:
        noted = json.loads(path.with_suffix(BAD).read_bytes())
    except (OSError, ValueError):
        return set()
    return {number for number in noted if isinstance(number, int)} if isinstance(noted, list) else set()


class Packs:
    """All packs of a directory, for finding and reading pieces. A context manager; for one thread."""

    def __init__(self, directory: Path, *, device: bool = False) -> None:
        self.damaged: list[str] = []
        """What was found wrong, as sentences."""
        self._descriptors = Descriptors(device=device)
        self._packs: list[Pack] = []
        self._cache: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._suspects: dict[str, set[int]] = {}
        try:
            for path in entries(directory):
                if path.name.endswith(PACK):
                    self.add(path)
        except BaseException:
            self.close()
            raise

    def add(self, path: Path) -> None:
        """Takes in one more pack."""
        try:
            pack = Pack(path, self._descriptors)
        except Damaged as error:
            self.damaged.append(str(error))
            return
        self._packs.append(pack)
        self._packs.sort(key=len, reverse=True)  # most pieces are found in the large ones

    def __iter__(self) -> Iterator[Pack]:
        return iter(self._packs)

    def holder(self, address: bytes) -> str | None:
        """The name of a pack on whose copy of this piece a new backup may build."""
        for pack in self._packs:
            if pack.sound and (place := pack.find(address)) is not None and place.frame not in pack.bad:
                return pack.name
        return None

    def holders(self, address: bytes) -> Iterator[tuple[str, int]]:
        """The pack, and the position in it, on whose copy of this piece one may build; without one, of all copies."""
        every = [(pack, at) for pack in self._packs if (at := pack.position(address)) is not None]
        good = [(pack, at) for pack, at in every if pack.sound and pack.piece(at)[1].frame not in pack.bad]
        for pack, at in good[:1] or every:
            yield pack.name, at

    def read(self, address: bytes) -> bytes:
        """A piece, proven by its SHA-256: any copy that is still good. Raises Damaged if there is none."""
        for pack in self._packs:
            if (place := pack.find(address)) is None:
                continue
            try:
                data = self._frame(pack, place.frame)[place.offset : place.offset + place.length]
            except Damaged as error:
                self._suspect(pack, place.frame, str(error))
                continue
            if hashlib.sha256(data).digest() == address:
                return data
            self._suspect(pack, place.frame, f"{pack.name}: frame {place.frame} holds other bytes")
        raise Damaged(f"piece {address.hex()[:12]} is lost")

    def scrub(self, stopped: Stopped = never) -> None:
        """Reads every frame there is. After one was found bad: the next backup must not build on its neighbours."""
        for pack in self._packs:
            for number in range(pack.frames):
                heed(stopped)
                try:
                    pack.frame(number)
                except Damaged as error:
                    self._suspect(pack, number, str(error))

    def note_bad(self) -> None:
        """Writes down which frames turned out bad."""
        for pack in self._packs:
            pack.note_bad(self._suspects.get(pack.name, set()))

    def _suspect(self, pack: Pack, frame: int, sentence: str) -> None:
        self._suspects.setdefault(pack.name, set()).add(frame)
        self.damaged.append(sentence)

    def _frame(self, pack: Pack, number: int) -> bytes:
        key = (pack.name, number)
        data = self._cache.get(key)
        if data is None:
            held = sum(map(len, self._cache.values()))
            while self._cache and held > _CACHED_BYTES - FRAME_BYTES:  # room first: the peak is what counts
                held -= len(self._cache.popitem(last=False)[1])
            data = self._cache[key] = pack.frame(number)
        else:
            self._cache.move_to_end(key)
        return data

    def close(self) -> None:
        """Lets go of all files."""
        self._descriptors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def remove(path: Path) -> None:
    """Removes a pack and the note beside it."""
    path.unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        path.with_suffix(BAD).unlink()
