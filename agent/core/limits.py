"""Counting what fails, in bounded memory. Pure: the time is an argument (monotonic seconds)."""

import ipaddress
import math
from collections import OrderedDict, deque

PER_WINDOW = 10
WINDOW_SECONDS = 60.0
MAX_CLIENTS = 1024


class Strikes:
    """How often each client failed within the last minute; only what fails counts (R-RX-28).

    At most `MAX_CLIENTS` are remembered; the one that was quiet longest is forgotten first.
    """

    def __init__(
        self, limit: int = PER_WINDOW, window: float = WINDOW_SECONDS, clients: int = MAX_CLIENTS
    ) -> None:
        self._limit = limit
        self._window = window
        self._clients = clients
        self._table: OrderedDict[str, deque[float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._table)

    def strike(self, client: str, now: float) -> int:
        """Counts one failure. 0 while the client is within the limit, else the seconds that it must wait.

        A failure beyond the limit is not counted: who waits as long as told is heard again.
        """
        key = _key(client)
        times = self._table.setdefault(key, deque())
        self._table.move_to_end(key)
        while times and now - times[0] >= self._window:
            times.popleft()
        if len(times) >= self._limit:
            return max(1, math.ceil(times[0] + self._window - now))
        times.append(now)
        if len(self._table) > self._clients:
            self._table.popitem(last=False)
        return 0


def _key(client: str) -> str:
    """IPv6 hosts choose among 2^64 addresses: their network counts as one client."""
    if ":" not in client:
        return client
    try:
        address = ipaddress.IPv6Address(client.partition("%")[0])
    except ValueError:
        return client
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, 64), strict=False))
