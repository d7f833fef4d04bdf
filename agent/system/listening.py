"""Sockets that listen for a service while none of its processes does: bound here, or taken over from who holds them.

What is handed on with exec is the very same socket: connections that came meanwhile wait in its queue. A process's
descriptor is copied with pidfd_getfd(2), which needs the right to trace it: the same user, and a kernel that lets one
(kernel.yama.ptrace_scope 0; not within some containers).
"""

import ctypes
import os
import socket
from collections.abc import Iterable
from contextlib import suppress

BACKLOG = 511
"""Connections that may wait; the kernel's own limit (net.core.somaxconn) comes first."""
_PIDFD_GETFD = 438
"""The number of the system call, on every architecture: it is younger than their differences."""


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens at an IP address. Raises OSError, EADDRINUSE if somebody else does."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((host, port))
        made.listen(BACKLOG)
    except BaseException:
        made.close()
        raise
    return made


def taken_from(pids: Iterable[int], host: str, port: int) -> socket.socket | None:
    """A copy of the socket that one of these processes listens with at exactly this address; None if none does, or it
    cannot be had."""
    for pid in pids:
        with suppress(OSError):  # it ended meanwhile, or is not ours to trace
            if (found := _of_process(pid, host, port)) is not None:
                return found
    return None


def listens(held: socket.socket) -> bool:
    """Whether it still takes connections: whoever shares a socket can shut it down for all."""
    try:
        return bool(held.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:
        return False


def _of_process(pid: int, host: str, port: int) -> socket.socket | None:
    handle = os.pidfd_open(pid)
    try:
        for number in map(int, os.listdir(f"/proc/{pid}/fd")):  # noqa: PTH208 - numbers
            with suppress(
                OSError
            ):  # it was closed meanwhile; or no such copy can be had, and of the others neither
                if not os.readlink(f"/proc/{pid}/fd/{number}").startswith("socket:["):  # noqa: PTH115 - not a path
                    continue
                copy = socket.socket(fileno=_copy(handle, number))
                if _is_at(copy, host, port):
                    return copy
                copy.close()
    finally:
        os.close(handle)
    return None


def _copy(handle: int, number: int) -> int:
    """Another process's descriptor as one of ours, not inherited. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    copied = libc.syscall(_PIDFD_GETFD, handle, number, 0)
    if copied < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(copied)


def _is_at(found: socket.socket, host: str, port: int) -> bool:
    kinds = (socket.AF_INET, socket.AF_INET6)
    if found.family not in kinds or found.type != socket.SOCK_STREAM or not listens(found):
        return False
    return bool(found.getsockname()[:2] == (host, port))
