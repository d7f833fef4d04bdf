"""Reads a PAX tar as homeport writes it, strictly, and believes nothing: what a name may be, its caller decides.

An archive that ends anywhere but at its end mark, or whose headers are not exactly sound, is refused.
"""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http.client import HTTPException

from agent.core.errors import StepFailed
from agent.core.text import clean

BLOCK = 512
_PIECE = 256 * 1024
_HEADER_LIMIT = 1024 * 1024
_NUMBER = re.compile(rb"[0-7]{1,11}")
_TIME = re.compile(rb"(-?)([0-9]{1,12})(?:\.([0-9]{1,9})[0-9]*)?")


def refuse(text: str) -> StepFailed:
    """What is wrong with an archive, as archive-refused."""
    return StepFailed("archive-refused", clean(text, 512))


@dataclass
class Member:
    """One entry, read but not yet believed. Names are text as the file system has it."""

    kind: str
    name: str
    target: str
    size: int
    mode: int
    mtime: int


class Archive:
    """Reads PAX tar, strictly."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._held = memoryview(b"")
        self.facts: dict[str, bytes] = {}
        """The global header."""

    def members(self) -> Iterator[Member]:
        """One after the other; `content` of each is read before the next. Ends only at a proper end."""
        extra: dict[str, bytes] = {}
        while (block := self._exactly(BLOCK)) != bytes(BLOCK):
            kind = _kind(block)
            size = _number(block[124:136])
            if kind == "g":
                self.facts.update(self._records(size))
            elif kind == "x":
                if extra:
                    raise refuse("two headers for one member")
                extra = self._records(size)
            else:
                yield _member(block, kind, size, extra)
                extra = {}
        if self._exactly(BLOCK) != bytes(BLOCK):
            raise refuse("the end is damaged")
        while rest := self._read(_PIECE):
            if rest.strip(b"\0"):
                raise refuse("something follows its end")

    def content(self, size: int) -> Iterator[bytes]:
        """The bytes of the current member."""
        left = size
        while left:
            piece = self._read(min(left, _PIECE))
            if not piece:
                raise refuse("it is cut off")
            left -= len(piece)
            yield piece
        if rest := size % BLOCK:
            self._exactly(BLOCK - rest)

    def _records(self, size: int) -> dict[str, bytes]:
        """An extended header: `<length> <key>=<value>\\n` each, the length counting itself."""
        if size > _HEADER_LIMIT:
            raise refuse("a header is too long")
        data = b"".join(self.content(size))
        records: dict[str, bytes] = {}
        while data:
            digits, _, _ = data[:20].partition(b" ")
            length = int(digits) if digits.isdigit() else 0
            record = data[len(digits) + 1 : length]
            key, equals, value = record.partition(b"=")
            if length > len(data) or not record.endswith(b"\n") or not equals or not key:
                raise refuse("a header is damaged")
            records[key.decode("utf-8", "replace")] = value[:-1]
            data = data[length:]
        return records

    def _exactly(self, amount: int) -> bytes:
        data = b""
        while len(data) < amount:
            piece = self._read(amount - len(data))
            if not piece:
                raise refuse("it is cut off")
            data += piece
        return data

    def _read(self, amount: int) -> bytes:
        """At most that many bytes; none at the end."""
        while not self._held:
            try:
                piece = next(self._pieces, None)
            except (OSError, HTTPException) as error:
                raise refuse(f"it broke off: {error}") from error
            if piece is None:
                return b""
            self._held = memoryview(piece)
        taken, self._held = self._held[:amount], self._held[amount:]
        return bytes(taken)


def _kind(block: bytes) -> str:
    checked = block[:148] + b" " * 8 + block[156:]
    if _number(block[148:156]) != sum(checked) or block[257:263] != b"ustar\0":
        raise refuse("a header is damaged")
    return block[156:157].decode("latin-1").replace("\0", "0")


def _number(field_: bytes) -> int:
    digits = field_.strip(b" \0")
    if not digits:
        return 0
    if not _NUMBER.fullmatch(digits):
        raise refuse("a header holds a number that is none")
    return int(digits, 8)


def _member(block: bytes, kind: str, size: int, extra: dict[str, bytes]) -> Member:
    if unknown := set(extra) - {"path", "linkpath", "size", "mtime", "uid", "gid", "hdrcharset"}:
        raise refuse(f"a header says {min(unknown)}, which homeport never writes")
    prefix, name = _string(block[345:500]), _string(block[:100])
    path = extra.get("path", prefix + b"/" + name if prefix else name)
    if "size" in extra:
        if not extra["size"].isdigit() or len(extra["size"]) > 18:
            raise refuse("a header holds a number that is none")
        size = int(extra["size"])
    return Member(
        kind=kind,
        name=os.fsdecode(path),
        target=os.fsdecode(extra.get("linkpath", _string(block[157:257]))),
        size=size,
        mode=_number(block[100:108]),
        mtime=_mtime(extra["mtime"]) if "mtime" in extra else _number(block[136:148]) * 1_000_000_000,
    )


def _string(field_: bytes) -> bytes:
    return field_.partition(b"\0")[0]


def _mtime(text: bytes) -> int:
    found = _TIME.fullmatch(text)
    if found is None:
        raise refuse("a header holds a time that is none")
    nanoseconds = int(found[2]) * 1_000_000_000 + int((found[3] or b"").ljust(9, b"0"))
    return -nanoseconds if found[1] else nanoseconds
