"""What is done in a release before it may serve: it is built, and its migrate commands are run.

Both can be run twice, after a cut at any instant. What is linked from an earlier release is written down before the
link is made: pruning then keeps that one. That the data is being migrated is written down before the first command.
"""

from contextlib import nullcontext

from msgspec.structs import replace

from agent.core import patience
from agent.core.model import Deployment, Release
from agent.core.ports import Heard
from agent.core.reuse import builders, recipe
from agent.core.settings import Reuse
from agent.services.heartbeat import within
from agent.services.site import Site
from agent.store.journal import Journal
from agent.store.transitions import Change


async def construct(site: Site, journal: Journal, release: Release, heard: Heard) -> Change:
    """Makes a release of its revision: laid out, built or linked, sealed. One that is complete is left as it is. Raises
    StepFailed."""
    releases = site.releases
    within(patience.laying_out(site.settings.source), "building")
    if not await releases.begin(release.name):
        return Change(detail=f"{release.name} was complete")
    await site.source.lay_out(release.revision, releases.path(release.name))
    await releases.snapshot(release.name)
    await releases.share(release.name)
    release = await _take_over(site, journal, release)
    output = await _build(site, release, heard)
    within(patience.FILES, "building")
    await releases.seal(release)
    return Change(detail=await _told(site, release), output=output)


async def migrate(
    site: Site, journal: Journal, deployment: Deployment, release: Release, heard: Heard
) -> str:
    """Runs the migrate commands, unless the release is live already: then they were, before. Raises StepFailed."""
    if not site.settings.deploy.migrate or await site.releases.current() == release.name:
        return ""
    await journal.migrating(deployment)
    within(patience.commands(site.settings.deploy), "migrating")
    return await site.builder.migrate(site.launch(release), heard)


async def _build(site: Site, release: Release, heard: Heard) -> str:
    """When it is its turn; at once if there is nothing to run."""
    deploy, reused = site.settings.deploy, bool(release.built_by)
    alone = nullcontext() if reused and not deploy.build.always else site.turn
    if alone is site.turn and site.turn.locked():
        within(patience.DATA, "waiting to build")
        heard("[waits for the build of another service]\n")
    async with alone:
        within(patience.commands(deploy), "building")
        return await site.builder.build(site.launch(release), heard, reused=reused)


async def _take_over(site: Site, journal: Journal, release: Release) -> Release:
    """Links what an earlier release built by the same recipe, if there is one."""
    reuse = site.settings.deploy.build.reuse
    if reuse is None:
        await journal.made_from(release)
        return release
    made_of = recipe(site.settings, await site.releases.ingredients(release.name, reuse))
    release = replace(release, recipe=made_of, built_by=await _builder(site, journal, made_of, reuse))
    await journal.made_from(release)
    if release.built_by:
        await site.releases.take_over(release.name, release.built_by, reuse.paths)
    return release


async def _builder(site: Site, journal: Journal, made_of: str, reuse: Reuse) -> str:
    known = await journal.releases(site.name, site.config_hash)
    for name in builders(known, made_of, await site.releases.names()):
        if await site.releases.offers(name, reuse.paths):
            return name
    return ""


async def _told(site: Site, release: Release) -> str:
    """A sentence about what was built, and what not: a path that no command makes would never be reused."""
    reuse = site.settings.deploy.build.reuse
    if reuse is None:
        return release.name
    paths = ", ".join(reuse.paths)
    if release.built_by:
        return f"{release.name}, with {paths} of {release.built_by}"
    if await site.releases.offers(release.name, reuse.paths):
        return f"{release.name}, with {paths} built anew"
    return f"{release.name}; not all of {paths} was made, so nothing of it can be reused"
