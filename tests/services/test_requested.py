"""What a delivery asked for exactly, a green run's commit or a release's tag, is what is deployed."""

from collections.abc import AsyncIterator

import pytest

from agent.core.model import Deployment, State
from agent.store.inbox import Admission, Wanted
from tests.build import a_delivery
from tests.services.workshop import HASH, SERVICE, Workshop, a_workshop


@pytest.fixture
async def shop() -> AsyncIterator[Workshop]:
    async with a_workshop() as opened:
        yield opened


async def deliver(shop: Workshop, event: str, requested: str, body: bytes = b"") -> Admission:
    """A green run of a commit, or a release of a tag."""
    revision = requested if event == "workflow_run" else None
    delivery = a_delivery(
        body or requested.encode(), event=event, revision=revision, received_at=shop.clock.now()
    )
    return await shop.inbox.admit(delivery, [Wanted(SERVICE, revision, HASH, requested=requested)])


async def become(shop: Workshop, admission: Admission) -> Deployment:
    assert await shop.work()
    await shop.check()
    found = await shop.journal.deployment(admission.deployments[0].id)
    assert found is not None
    return found


def commit(shop: Workshop, mood: str = "good", branch: str = "main") -> str:
    return shop.remote.commit({"app": mood, "n": str(len(shop.remote.commits))}, branch)


@pytest.mark.parametrize("event", ["workflow_run", "release"])
async def test_the_commit_is_deployed_although_the_branch_is_further(shop: Workshop, event: str) -> None:
    """R-RX-22: the tip was not tested, or not released."""
    wanted = commit(shop)
    shop.remote.tags["v1"] = wanted
    commit(shop, "crash")
    requested = wanted if event == "workflow_run" else "refs/tags/v1"
    done = await become(shop, await deliver(shop, event, requested))
    assert (done.state, done.revision, done.requested) == (State.SUCCEEDED, wanted, requested)


async def test_a_commit_of_another_branch_is_refused_and_not_held_against_it(shop: Workshop) -> None:
    """R-RX-21: as soon as it is merged, a redelivery deploys it."""
    commit(shop)
    aside = commit(shop, branch="aside")
    shop.remote.tags["v1"] = aside
    for event, requested in (("workflow_run", aside), ("release", "refs/tags/v1")):
        refused = await become(shop, await deliver(shop, event, requested))
        assert (refused.state, refused.reason) == (State.FAILED, "not-on-branch")
    assert await shop.live() is None
    assert not await shop.quarantined(aside)
    shop.remote.heads["main"] = aside
    merged = await become(shop, await deliver(shop, "workflow_run", aside))
    assert (merged.state, merged.revision) == (State.SUCCEEDED, aside)


async def test_a_release_of_a_quarantined_commit_is_not_deployed(shop: Workshop) -> None:
    """R-RX-14: which commit it is shows after the fetch, and then the same holds as for every other event."""
    good = await shop.deploy()
    bad = await shop.deploy("crash")
    assert bad.state is State.ROLLED_BACK
    assert bad.revision is not None
    shop.remote.tags["v2"] = bad.revision
    refused = await become(shop, await deliver(shop, "release", "refs/tags/v2"))
    assert (refused.state, refused.reason) == (State.FAILED, "quarantined")
    assert await shop.live() == good.release


async def test_a_release_of_what_is_live_leaves_the_service_alone(shop: Workshop) -> None:
    """R-RX-14."""
    good = await shop.deploy()
    assert good.revision is not None
    shop.remote.tags["v1"] = good.revision
    before = shop.runtime.running
    done = await become(shop, await deliver(shop, "release", "refs/tags/v1"))
    assert (done.state, done.reason) == (State.SUCCEEDED, "already-live")
    assert shop.runtime.running == before


@pytest.mark.parametrize("event", ["workflow_run", "release"])
async def test_a_redelivery_after_an_outage_asks_for_the_same(shop: Workshop, event: str) -> None:
    """R-RX-13, R-RX-22."""
    wanted = commit(shop)
    shop.remote.tags["v1"] = wanted
    requested = wanted if event == "workflow_run" else "refs/tags/v1"
    shop.remote.gone = True
    failed = await become(shop, await deliver(shop, event, requested))
    assert (failed.state, failed.reason) == (State.FAILED, "git-unreachable")
    shop.remote.gone = False
    commit(shop, "crash")
    done = await become(shop, await deliver(shop, event, requested))
    assert (done.id == failed.id, done.state, done.revision) == (False, State.SUCCEEDED, wanted)
