"""What the configuration will know later. Such keys and values are answered with "not built yet", never ignored.

Whoever builds one of them takes its line out of here and puts the option into `core.settings`.
"""

from agent.core.location import Location

LATER_KEYS: frozenset[str] = frozenset(
    {
        "github.token",
        "github.api_url",
        "schedules",
        "alerts",
        "messages",
    }
)
"""Keys; `*` stands for any name or index."""

LATER_VALUES: dict[str, frozenset[str]] = {
    "services.*.runtime.kind": frozenset({"docker", "swarm"}),
    "services.*.health.probes.*.kind": frozenset({"container"}),
    "services.*.backup.sources.*.kind": frozenset({"postgres", "volume"}),
    "services.*.backup.store.kind": frozenset({"restic"}),
}
"""Values that an existing key will take."""


def is_later_key(location: Location) -> bool:
    """Whether a later version has this key."""
    return any(_fits(pattern, location) for pattern in LATER_KEYS)


def is_later_value(location: Location, value: object) -> bool:
    """Whether a later version takes this value here."""
    return isinstance(value, str) and any(
        value in values and _fits(pattern, location) for pattern, values in LATER_VALUES.items()
    )


def _fits(pattern: str, location: Location) -> bool:
    parts = pattern.split(".")
    return len(parts) == len(location) and all(
        part in ("*", there) for part, there in zip(parts, location, strict=True)
    )
