"""Access control lists, acl(5): what a named user may do in a directory of ours. `homeport install` puts the name
there; here it is only changed what it may."""

import errno
import os
import struct
from pathlib import Path

READ, ALL, NOTHING = 0o5, 0o7, 0o0
_ACCESS = "system.posix_acl_access"
_VERSION, _HEAD, _ENTRY = 2, struct.Struct("<I"), struct.Struct("<HHI")  # linux/posix_acl_xattr.h
_NAMED_USER = 0x02


def limit(path: Path, user: int, rights: int) -> bool:
    """From now on this user has these rights on `path`. False: the list does not name this user, and stays as it is.

    What the list's mask hides stays hidden. Blocks; raises OSError."""
    try:
        data = os.getxattr(path, _ACCESS)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return False
        raise
    (version,) = _HEAD.unpack_from(data)
    entries = list(_ENTRY.iter_unpack(data[_HEAD.size :]))
    if version != _VERSION or not any(tag == _NAMED_USER and who == user for tag, _, who in entries):
        return False
    changed = [(tag, rights if tag == _NAMED_USER and who == user else had, who) for tag, had, who in entries]
    if changed != entries:
        packed = b"".join(_ENTRY.pack(*entry) for entry in changed)
        os.setxattr(path, _ACCESS, _HEAD.pack(_VERSION) + packed)
    return True
