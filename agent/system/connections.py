"""Who is connected to a port of this machine, and whether anybody listens there: proc(5), /proc/net/tcp."""

from collections.abc import Iterable
from pathlib import Path

_ESTABLISHED, _LISTEN = "01", "0A"
_LOCAL, _REMOTE = 1, 2


def to_port(port: int) -> int:
    """How many connections from this machine to a port are open; nginx's to a service are such. Blocks."""
    return sum(1 for _ in _sockets(_ESTABLISHED, _REMOTE, port))


def clients_of(port: int) -> frozenset[str]:
    """Who is connected to a port of this machine: a word for each connection. Blocks."""
    return frozenset(f"{words[_LOCAL]}-{words[_REMOTE]}" for words in _sockets(_ESTABLISHED, _LOCAL, port))


def is_taken(port: int) -> bool:
    """Whether somebody listens there, at whatever address. Blocks."""
    return any(True for _ in _sockets(_LISTEN, _LOCAL, port))


def _sockets(state: str, column: int, port: int) -> Iterable[list[str]]:
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]
        except FileNotFoundError:  # a kernel without IPv6
            continue
        for line in lines:
            words = line.split()
            if words[3] == state and words[column].endswith(f":{port:04X}"):
                yield words
