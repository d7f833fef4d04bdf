"""What a new release may take over from an earlier one. Pure: who reads files and makes links is an adapter.

A *recipe* is a digest of all that decides what a build makes: the key files, the commands, what they are told. Two
releases of the same recipe have the same dependencies, so that the second one links to what the first one built.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256

from agent.core.guard import fallbacks
from agent.core.model import Release
from agent.core.settings import Service

ABSENT = "absent"
"""Stands for the digest of a key file that is not there."""


def recipe(service: Service, ingredients: Mapping[str, str]) -> str:
    """The digest (hex). `ingredients`: SHA-256 of each key file as it came from git, or ABSENT."""
    build = service.deploy.build
    parts = {
        "format": 1,
        "ingredients": dict(ingredients),
        "commands": build.commands,
        "environment": service.runtime.environment | build.environment,
        "paths": sorted(build.reuse.paths) if build.reuse else (),
    }
    return sha256(json.dumps(parts, sort_keys=True).encode("ascii")).hexdigest()


def builders(releases: Sequence[Release], recipe: str, there: Collection[str]) -> list[str]:
    """Who really built by this recipe, best first: of confirmed releases that are `there`, without those in quarantine.

    A release that itself links to another one stands for that one: a link never leads to a link.
    """
    same = [release for release in fallbacks(releases, left=None) if recipe and release.recipe == recipe]
    found = dict.fromkeys(release.built_by or release.name for release in same if release.name in there)
    return [name for name in found if name in there]
