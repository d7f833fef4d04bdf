"""How the C library gives memory back."""

import ctypes

_M_MMAP_THRESHOLD = -3
THRESHOLD = 128 * 1024
"""Bytes. glibc's own figure at the start of a process."""


def return_large_blocks() -> bool:
    """Every block over THRESHOLD gets a mapping of its own, which goes back to the system when it is freed.

    glibc raises the threshold to the largest block that was ever freed; from then on bodies and pieces of files
    lie on the heap between small things that stay, and the process keeps the space: 200 bodies of 1 MiB, of
    which eight are in memory at a time, left 115 MB behind. False where there is no glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(_M_MMAP_THRESHOLD, THRESHOLD) == 1
