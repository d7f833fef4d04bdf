"""Dependencies that did not change are not built again; counted, not timed: what ran stands in `FakeDisk.ran`."""

from typing import Any

import pytest

from agent.core.model import Deployment, Fault, Release, State
from tests.services.workshop import SERVICE, Workshop, a_workshop

REUSE = {"build": {"commands": ["make"], "reuse": {"key": ["lock"], "paths": ["deps"]}}}
BUILD = "write deps x"


def reusing(**deploy: Any) -> Any:
    return a_workshop(deploy=REUSE | deploy)


async def deploy(shop: Workshop, lock: str = "1", mood: str = "good", **files: str) -> Deployment:
    return await shop.deploy(mood, files.pop("build", BUILD), lock=lock, **files)


async def row(shop: Workshop, deployment: Deployment) -> Release:
    (found,) = [item for item in await shop.journal.releases(SERVICE) if item.name == deployment.release]
    return found


def built(shop: Workshop) -> list[str]:
    return [line.removeprefix("build ") for line in shop.disk.ran if line.startswith("build ")]


async def test_an_unchanged_key_runs_no_command_and_a_changed_one_all() -> None:
    async with reusing() as shop:
        first, second = await deploy(shop), await deploy(shop)
        assert built(shop) == [first.release]
        assert (await row(shop, second)).built_by == first.release
        assert second.steps[2].detail == f"{second.release}, with deps of {first.release}"
        changed = await deploy(shop, lock="2")
        assert built(shop) == [first.release, changed.release]
        assert (await row(shop, changed)).built_by == ""
        assert changed.steps[2].detail == f"{changed.release}, with deps built anew"
        again = await deploy(shop, lock="1")
        assert (await row(shop, again)).built_by == first.release, (
            "an older one that still stands serves as well"
        )
        assert built(shop) == [first.release, changed.release]
        assert {item.state for item in (first, second, changed, again)} == {State.SUCCEEDED}
        await shop.check()


async def test_what_is_reused_waits_for_no_build_of_another_service() -> None:
    async with reusing() as shop:
        await deploy(shop)
        async with shop.agent() as task, shop.site.turn:
            revision = await shop.push(build=BUILD, lock="1")
            assert await shop.idle(task)
        assert (await shop.of(revision)).state is State.SUCCEEDED


async def test_a_link_never_leads_to_a_link() -> None:
    async with reusing() as shop:
        releases = [await deploy(shop) for _ in range(4)]
        assert {(await row(shop, item)).built_by for item in releases[1:]} == {releases[0].release}


async def test_a_key_file_that_is_missing_is_a_key_too() -> None:
    async with a_workshop(deploy=REUSE) as shop:
        first, second = await shop.deploy(build=BUILD), await shop.deploy(build=BUILD)
        assert built(shop) == [first.release]
        third = await deploy(shop, lock="")
        assert built(shop) == [first.release, third.release], "empty is not absent"
        assert second.state is third.state is State.SUCCEEDED


async def test_what_is_always_done_is_done_in_each() -> None:
    async with reusing() as shop:
        releases = [await deploy(shop, always="write dist y") for _ in range(3)]
        assert shop.disk.ran == [
            f"build {releases[0].release}", *(f"always {item.release}" for item in releases),
        ]  # fmt: skip


@pytest.mark.parametrize("mood", ["sick", "crash"])
async def test_what_never_proved_itself_lends_nothing(mood: str) -> None:
    async with reusing() as shop:
        await deploy(shop)
        bad = await deploy(shop, lock="2", mood=mood)
        good = await deploy(shop, lock="2")
        assert built(shop)[1:] == [bad.release, good.release]


async def test_after_pruning_the_builder_still_stands_and_the_service_runs_from_it() -> None:
    """R-RB-11: however many releases went since."""
    async with reusing(keep_releases=1) as shop:
        first = await deploy(shop)
        last = [await deploy(shop) for _ in range(5)][-1]
        names = await shop.releases.names()
        assert first.release in names
        assert len(names) == 3, "what is live, one to go back to, and who built for both"
        assert await shop.live() == last.release
        await shop.releases.verify(last.release or "")
        assert built(shop) == [first.release]
        for _ in range(2):
            await deploy(shop, lock="2")
        assert first.release not in await shop.releases.names(), "nobody links to it any more"
        await shop.check()


async def test_a_rollback_to_a_release_that_links_works() -> None:
    async with reusing(keep_releases=1) as shop:
        await deploy(shop)
        linking = [await deploy(shop) for _ in range(3)][-1]
        bad = await deploy(shop, lock="2", mood="sick")
        assert bad.state is State.ROLLED_BACK
        assert await shop.live() == linking.release
        await shop.check()


async def test_a_builder_that_somebody_removed_is_replaced_by_building() -> None:
    """F97."""
    async with reusing() as shop:
        first, second = await deploy(shop), await deploy(shop)
        del shop.disk.trees[shop.releases.path(first.release or "")]["deps"]
        third, fourth = await deploy(shop), await deploy(shop)
        assert built(shop) == [first.release, third.release]
        assert (await row(shop, fourth)).built_by == third.release
        assert second.state is third.state is fourth.state is State.SUCCEEDED


async def test_a_release_whose_dependencies_are_gone_is_not_gone_back_to() -> None:
    """R-RB-1, F97: the next one that is whole is."""
    async with reusing() as shop:
        whole = await deploy(shop, lock="0")
        builder, linking = await deploy(shop), await deploy(shop)
        del shop.disk.trees[shop.releases.path(builder.release or "")]["deps"]
        assert linking.state is State.SUCCEEDED
        bad = await deploy(shop, lock="2", mood="sick")
        assert bad.state is State.ROLLED_BACK
        assert await shop.live() in (builder.release, whole.release)
        await shop.check()


async def test_what_goes_before_the_switch_fails_before_the_switch() -> None:
    async with reusing() as shop:
        first = await deploy(shop)

        def take() -> None:
            del shop.disk.trees[shop.releases.path(first.release or "")]["deps"]

        shop.wire.trip("backing_up/saves.create_locked/1", "after", take)
        second = await deploy(shop)
        assert (second.state, second.reason, second.fault) == (State.FAILED, "release-damaged", Fault.WORLD)
        assert await shop.live() == first.release


async def test_who_built_is_written_down_before_the_link_is_made() -> None:
    async with reusing() as shop:
        await deploy(shop)
        shop.wire.forget()
        await deploy(shop)
        acts = [place.split("/")[1] for place in shop.wire.passed if place.startswith("building/")]
        assert (
            acts.index("journal.made_from") < acts.index("releases.take_over") < acts.index("builder.build")
        )


async def test_what_stands_in_the_repository_cannot_be_reused() -> None:
    async with reusing() as shop:
        bad = await deploy(shop, deps="tracked")
        assert (bad.state, bad.reason, bad.fault) == (State.FAILED, "tree-refused", Fault.COMMIT)
        assert built(shop) == []


async def test_a_path_that_no_command_makes_is_told() -> None:
    async with reusing() as shop:
        for _ in range(2):
            deployment = await deploy(shop, build="say nothing")
            assert "not all of deps was made, so nothing of it can be reused" in deployment.steps[2].detail
        assert len(built(shop)) == 2


async def test_without_the_option_everything_is_built(shop: Workshop) -> None:
    for _ in range(2):
        await shop.deploy(build=BUILD)
    assert len(built(shop)) == 2
    assert {(item.recipe, item.built_by) for item in await shop.journal.releases(SERVICE)} == {("", "")}
