"""Whether a service that serves can go on as what a changed configuration says that it is: asked before that counts.

A lane under another configuration starts what it does not find running. So a reload is refused while the service still
runs as another unit, which the agent may have no right to end, and while the unit that is to take over cannot be
started, or nginx not led to its new ports: it goes on as it is until a person has done what is missing.
"""

from agent.core.errors import Problem, StepFailed
from agent.core.installing import names_of
from agent.core.model import Release
from agent.core.settings import Service
from agent.services.replace import demand
from agent.services.site import Site
from agent.store.services import ServiceRows


def moves(before: Service, after: Service) -> bool:
    """Whether what runs is another unit, or no unit any more, or at another port. Side by side another unit is started
    beside what it was."""
    if after.blue_green is None:
        return _what(before) != _what(after)
    return before.blue_green is not None and before.blue_green.ports != after.blue_green.ports


async def obstacle(site: Site, services: ServiceRows) -> Problem | None:
    """What keeps a service that serves from running as its new site says."""
    live = await services.live(site.name)
    if live is None:
        return None
    try:
        await demand(site, site.launch(Release(name=live.release, service=site.name, revision=live.revision)))
    except StepFailed as failure:
        what = "runtime" if site.beside is None else "blue_green"
        return Problem(f"services.{site.name}.{what}", failure.message, hint=failure.hint)
    return None


def _what(service: Service) -> tuple[str, list[str]]:
    return type(service.runtime).__name__, names_of(service)
