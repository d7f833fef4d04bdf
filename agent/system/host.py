"""Figures of the machine. psutil lives only here, and is imported with the first question."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Host:
    """Reads the machine's figures; a sensor that is not there is left out, not reported as 0."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir

    def figures(self) -> dict[str, object]:
        """Memory and disk in bytes, load of 1, 5 and 15 minutes, temperature in degrees Celsius, seconds since
        boot. For a thread: the first call imports a library, and the disk may be one of the network."""
        import psutil

        memory = psutil.virtual_memory()
        disk = psutil.disk_usage(str(self._state_dir))
        figures: dict[str, object] = {
            "hostname": os.uname().nodename,
            "cpus": os.cpu_count(),
            "load": [round(value, 2) for value in os.getloadavg()],
            "memory_bytes": memory.total,
            "memory_available_bytes": memory.available,
            "disk_bytes": disk.total,
            "disk_free_bytes": disk.free,
            "disk_percent": disk.percent,
        }
        figures.update(_present("temperature_celsius", lambda: _temperature(Path("/sys/class/thermal"))))
        figures.update(_present("uptime_seconds", lambda: int(float(_first_word(Path("/proc/uptime"))))))
        return figures


def _present(name: str, read: Callable[[], Any]) -> dict[str, object]:
    try:
        return {name: read()}
    except (OSError, ValueError):
        return {}


def _temperature(directory: Path) -> float:
    """The first thermal zone: on a Raspberry Pi the SoC's."""
    return round(int((directory / "thermal_zone0" / "temp").read_text("ascii")) / 1000, 1)


def _first_word(path: Path) -> str:
    return path.read_text("ascii").split()[0]
