"""A file's content as pieces, and back.

Pieces are cut at fixed offsets: databases at (groups of) pages, everything else at FILE_PIECE. A changed page then
costs one piece, an appended log its last piece. Cutting by content would find shifted bytes, too; it is several
times slower in Python, and databases and logs do not shift.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from agent.adapters.backup.codec import Damaged
from agent.adapters.backup.packs import Packs
from agent.core.model import BackupFile
from agent.core.ports import BlobSink

FILE_PIECE = 256 * 1024
"""Half a frame of a pack: smaller would cost addresses without saving much, larger would store more than changed."""
LIST_PIECES = 128
"""A longer list of addresses is stored in pieces as well: an unchanged database costs its next backup 1/8000 of its
size, and no more."""
_ADDRESS = 32


@dataclass(frozen=True)
class Content:
    """What a manifest says about a file's bytes; the fields are BackupFile's."""

    size: int
    sha256: str
    chunks: tuple[str, ...]
    listed: bool


def store(sink: BlobSink, blocks: Iterable[bytes], piece: int = FILE_PIECE) -> Content:
    """Hands one file to the store, cut into pieces. `blocks`: its bytes; all but the last hold whole pieces."""
    addresses: list[str] = []
    lists: list[str] = []
    whole = hashlib.sha256()
    size = 0
    first = b""
    for block in blocks:
        if size == 0 and len(block) <= piece:
            first = block  # hashed as a piece; a second time only if it does not stay alone
        else:
            whole.update(first)
            whole.update(block)
            first = b""
        size += len(block)
        for at in range(0, len(block), piece):
            addresses.append(sink.put(block[at : at + piece]))
            if len(addresses) == LIST_PIECES:
                lists.append(_put_list(sink, addresses))
                addresses = []
    if not addresses and not lists:
        return Content(0, whole.hexdigest(), (), listed=False)
    if first:  # one piece: its address is the file's hash
        return Content(size, addresses[0], (), listed=False)
    if lists:
        if addresses:
            lists.append(_put_list(sink, addresses))
        return Content(size, whole.hexdigest(), tuple(lists), listed=True)
    return Content(size, whole.hexdigest(), tuple(addresses), listed=False)


def _put_list(sink: BlobSink, addresses: list[str]) -> str:
    return sink.put(b"".join(bytes.fromhex(address) for address in addresses))


def addresses(packs: Packs, file: BackupFile) -> Iterator[bytes]:
    """The addresses of a file's pieces, in order. Raises Damaged."""
    try:
        chunks = [bytes.fromhex(chunk) for chunk in file.chunks or ([file.sha256] if file.size else [])]
    except ValueError as error:
        raise Damaged(f"{file.path}: an address is no SHA-256") from error
    for chunk in chunks:
        if not file.listed:
            yield chunk
            continue
        piece = packs.read(chunk)
        if len(piece) % _ADDRESS:
            raise Damaged(f"{file.path}: a list of addresses is cut off")
        for at in range(0, len(piece), _ADDRESS):
            yield piece[at : at + _ADDRESS]


def load(packs: Packs, file: BackupFile) -> Iterator[bytes]:
    """A file's bytes, piece by piece, each proven; the whole file's SHA-256 is compared at the end. Raises Damaged."""
    whole = hashlib.sha256()
    size = 0
    for address in addresses(packs, file):
        piece = packs.read(address)
        size += len(piece)
        if file.chunks:
            whole.update(piece)
        if size > file.size:
            break
        yield piece
    if size != file.size or (file.chunks and whole.hexdigest() != file.sha256):
        raise Damaged(f"{file.path}: it is not what was stored")
