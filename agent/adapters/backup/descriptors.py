"""Reading from many files through a few descriptors.

A store has more packs than a process may open files, so a file is opened when something is read from it, and the
one that was used longest ago is closed for it. What was replaced meanwhile does no harm: every piece is proven.
"""

import errno
import os
from collections import OrderedDict
from pathlib import Path

_MOST = 8

_DAMAGE = frozenset(
    {
        None, errno.EIO, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.ENODATA,
        errno.EBADMSG, errno.EUCLEAN, errno.ESTALE, errno.EREMOTEIO, errno.EOVERFLOW,
    }
)  # fmt: skip
"""None: what a library raises about the bytes it read, such as gzip.BadGzipFile."""


def is_damage(error: OSError) -> bool:
    """Whether this speaks of the file itself. If not (no descriptors, no memory, no permission) the next try may
    find it whole, and nothing may be called bad."""
    return error.errno in _DAMAGE


def entries(directory: Path) -> list[Path]:
    """What lies in a directory, by name; nothing in one that is not there. Raises OSError: what cannot be listed
    must never look empty, as it would with `glob` or `is_dir`."""
    try:
        return sorted(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


class Descriptors:
    """Open files by path. For one thread."""

    def __init__(self, *, device: bool = False) -> None:
        """`device`: what is in the page cache is written out and dropped, so that reads reach the medium."""
        self._device = device
        self._open: OrderedDict[Path, int] = OrderedDict()

    def read(self, path: Path, length: int, offset: int) -> bytes:
        """At most `length` bytes. Raises OSError."""
        return os.pread(self._of(path), length, offset)

    def size(self, path: Path) -> int:
        """Bytes. Raises OSError."""
        return os.fstat(self._of(path)).st_size

    def _of(self, path: Path) -> int:
        handle = self._open.get(path)
        if handle is None:
            while len(self._open) >= _MOST:
                os.close(self._open.popitem(last=False)[1])
            handle = self._open[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            if self._device:
                os.fsync(handle)
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        else:
            self._open.move_to_end(path)
        return handle

    def close(self) -> None:
        """Lets go of all files."""
        while self._open:
            os.close(self._open.popitem()[1])
