"""Which configuration a release was built, and a revision failed, with: a digest over what decides how it ends."""

import json
from hashlib import sha256
from typing import Any

from msgspec import NODEFAULT, Struct
from msgspec.structs import fields
from msgspec.structs import replace as changed

from agent.core.settings import Build, Seconds, Service

_WHEN = {
    "source": frozenset({"poll", "max_size", "timeout"}),
    "health": frozenset({"restarts"}),
    "deploy": frozenset({"on", "workflow", "workflow_events", "prereleases", "freeze"}),
}
"""Options that say when a revision is looked for and deployed, or what is done about it later, and not what becomes of
it."""


def fingerprint(service: Service) -> str:
    """16 hex digits over what decides how a deployment ends: source, deploy, runtime and health.

    A revision is quarantined together with it. An option that is written out with its default, and an option that
    a newer version brings, change nothing; nor does one of _WHEN, nor how much a build gives way to others. (Its limit
    of memory is in it: a build that failed for it may come again with another one.)
    """
    plain = Build()
    build = changed(service.deploy.build, nice=plain.nice, io=plain.io)
    service = changed(service, deploy=changed(service.deploy, build=build))
    parts = {name: _essence(getattr(service, name)) for name in ("source", "deploy", "runtime", "health")}
    for block, when in _WHEN.items():
        parts[block] = {option: value for option, value in parts[block].items() if option not in when}
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return sha256(text.encode()).hexdigest()[:16]


def _essence(value: object) -> Any:
    """Plain values without what equals its default."""
    if isinstance(value, Struct):
        return {
            "kind": value.__struct_config__.tag,
            **{
                option.name: _essence(given)
                for option in fields(value)
                if (given := getattr(value, option.name)) != _default(option)
            },
        }
    if isinstance(value, dict):
        return {key: _essence(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_essence(item) for item in value]
    return float(value) if isinstance(value, Seconds) else value


def _default(option: Any) -> object:
    if option.default is not NODEFAULT:
        return option.default
    return option.default_factory() if option.default_factory is not NODEFAULT else NODEFAULT
