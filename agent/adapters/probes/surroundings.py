"""What a probe knows of the service that it asks, and of the agent that asks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.core.ports import Clock
from agent.core.settings import SecretRef
from agent.system.units import Units


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """One service's; all of its probes share them."""

    service: str
    directory: Path
    """The service's own, which holds `releases` and `shared`."""
    environment: Mapping[str, str]
    """`runtime.environment`."""
    clock: Clock
    secret: Callable[[SecretRef], bytes]
    """Resolves a reference."""
    units: Units | None = None
    """The way to systemd."""
    redact: Callable[[str], str] = str
    """Hides secrets in what is shown."""
