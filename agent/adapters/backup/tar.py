"""A backup as a tar stream: PAX, with what a safe reader needs to know first in its global header.

`HOMEPORT.members` and `HOMEPORT.bytes` let the reader refuse an archive that is cut off at a member's end (which
tar itself takes for whole) and a disk that is too small. A link that leads out of the tree is not restored into a
foreign place: it is named in `HOMEPORT.left_out` instead. Set-id bits are dropped for the same reason.
"""

import json
from collections.abc import Iterator

from agent.adapters.backup import content, names
from agent.adapters.backup.manifest import Manifest
from agent.adapters.backup.packs import Packs
from agent.core.model import BackupFile

BLOCK = 512
END = bytes(2 * BLOCK)
_NAMED = 100
_KINDS = {"directory": b"5", "symlink": b"2"}
"""`tarfile` is imported where a backup is really handed out: 1 MB that an agent at rest does not need."""


def pieces(manifest: Manifest, packs: Packs) -> Iterator[bytes]:
    """The archive, piece by piece. Raises Damaged instead of handing out a byte that is not proven."""
    import tarfile

    left_out = _leaving(manifest)
    members = manifest.tail.files - len(left_out)
    yield tarfile.TarInfo.create_pax_global_header(
        {
            "HOMEPORT.backup": manifest.head.id,
            "HOMEPORT.members": str(members),
            "HOMEPORT.bytes": str(manifest.tail.bytes),
            "HOMEPORT.left_out": json.dumps(sorted(left_out)[:_NAMED]),
        }
    )
    for file in manifest.files():
        if file.path in left_out:
            continue
        yield _header(file)
        yield from content.load(packs, file)
        if rest := file.size % BLOCK:
            yield bytes(BLOCK - rest)
    yield END


def _leaving(manifest: Manifest) -> set[str]:
    """The links that lead out of the tree, as the manifest names them."""
    links = {
        names.decode(file.path): names.decode(file.target)
        for file in manifest.files()
        if file.kind == "symlink"
    }
    return {names.encode(link) for link in links if names.leaves(link, links)}


def _header(file: BackupFile) -> bytes:
    import tarfile

    info = tarfile.TarInfo(names.decode(file.path))
    info.type = _KINDS.get(file.kind, tarfile.REGTYPE)
    info.mode = file.mode & 0o777
    info.uid, info.gid = file.uid, file.gid
    info.size = file.size
    info.linkname = names.decode(file.target)
    seconds, fraction = divmod(file.mtime, 1_000_000_000)
    if fraction or seconds < 0:
        # the decimal notation counts from zero: -0.5 s is second -1 and half a second forward
        sign, whole = ("-", -file.mtime) if file.mtime < 0 else ("", file.mtime)
        info.pax_headers = {"mtime": f"{sign}{whole // 1_000_000_000}.{whole % 1_000_000_000:09d}"}
    else:
        info.mtime = seconds
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
