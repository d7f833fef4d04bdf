"""Whose socket answers at an address: the kernel's list of listeners, and who holds them.

Linux only: /proc/net/tcp and tcp6 (proc(5)) name each listening socket by inode, /proc/<pid>/fd names who has it
open. Only what really would get the connection counts: a socket bound to the very address comes before one that is
bound to all (0.0.0.0, then ::), as in the kernel's inet_lookup_listener. Several sockets at the same address
(SO_REUSEPORT) share the connections, so all of them must belong to the service.
"""

import ipaddress
import os
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_LISTEN = "0A"


def is_here(host: str) -> bool:
    """Whether a host is this machine, without asking the network: loopback, an own address, the own name."""
    address = _literal(host)
    if address is None:
        name = host.lower().rstrip(".")
        return name == "localhost" or name.endswith(".localhost") or name == socket.gethostname().lower()
    if address.is_loopback or address.is_unspecified:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        try:
            trial.bind((str(address), 0))
        except OSError:
            return False
    return True


def addresses(host: str) -> list[Address]:
    """The addresses of a host. May ask a name server, and so may block, if it is a name other than localhost."""
    address = _literal(host)
    if address is not None:
        return [address]
    if host.lower().rstrip(".").endswith("localhost"):
        return [ipaddress.IPv4Address("127.0.0.1"), ipaddress.IPv6Address("::1")]
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [address for entry in found if (address := _literal(str(entry[4][0])))]


def listeners(address: Address, port: int) -> set[int]:
    """The inodes of the sockets that would take a connection to this address; empty if there are none."""
    ranks: dict[int, set[int]] = {}
    for table in ("tcp", "tcp6"):
        for bound, inode in _listening(table, port):
            rank = _rank(address, bound)
            if rank is not None:
                ranks.setdefault(rank, set()).add(inode)
    return ranks[min(ranks)] if ranks else set()


def belong(inodes: set[int], pids: Iterable[int]) -> bool | None:
    """Whether these processes hold every one of the sockets. None: that cannot be told, for lack of permission."""
    missing, hidden = set(inodes), False
    for pid in pids:
        try:
            missing -= set(_sockets_of(pid))
        except PermissionError:
            hidden = True
        except OSError:  # it ended meanwhile
            continue
        if not missing:
            return True
    return None if hidden else False


def _literal(host: str) -> Address | None:
    """An address as written. The unspecified one stands for loopback, as connect(2) takes it."""
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if address.is_unspecified:
        return ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    return address


def _listening(table: str, port: int) -> Iterable[tuple[Address, int]]:
    try:
        lines = Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]
    except FileNotFoundError:  # a kernel without IPv6
        return
    wanted = f":{port:04X}"
    for line in lines:
        _, local, _, state, *rest = line.split()
        if state == _LISTEN and local.endswith(wanted):
            yield _address(local.partition(":")[0]), int(rest[5])


def _address(text: str) -> Address:
    """Words of 32 bits in the machine's own byte order, printed as hex numbers."""
    words = [int(text[start : start + 8], 16) for start in range(0, len(text), 8)]
    return ipaddress.ip_address(struct.pack(f"={len(words)}I", *words))


def _rank(address: Address, bound: Address) -> int | None:
    """How well a listener fits: less is better; None: it does not get the connection."""
    mapped = bound.ipv4_mapped if isinstance(bound, ipaddress.IPv6Address) else None
    exact = mapped or bound
    if exact == address:
        return 0 if mapped is None else 1
    if not exact.is_unspecified:
        return None
    if bound.version == address.version:
        return 2
    return 3 if address.version == 4 else None  # :: also takes IPv4, unless it was told not to


def _sockets_of(pid: int) -> Iterable[int]:
    with os.scandir(f"/proc/{pid}/fd") as entries:
        names = [entry.path for entry in entries]
    for name in names:
        try:
            target = os.readlink(name)  # noqa: PTH115 - not a path: socket:[inode]
        except FileNotFoundError:  # closed meanwhile
            continue
        if target.startswith("socket:["):
            yield int(target[8:-1])
