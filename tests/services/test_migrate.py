"""The data is migrated after the backup and before the switch, while the old version serves."""

from typing import Any

import pytest

from agent.core.errors import StepFailed
from agent.core.model import Deployment, Fault, State
from tests.services.workshop import Killed, Workshop, a_workshop

HINT = "The schema was migrated; pre-deploy backup"


def migrating(**settings: Any) -> Any:
    return a_workshop(deploy={"migrate": ["./migrate"]}, **settings)


async def deploy(shop: Workshop, migrate: str = "say migrated", mood: str = "good") -> Deployment:
    return await shop.deploy(mood, migrate=migrate)


def told(deployment: Deployment) -> tuple[State, str, Fault | None]:
    return deployment.state, deployment.reason, deployment.fault


def migrations(shop: Workshop) -> list[str]:
    return [line.removeprefix("migrate ") for line in shop.disk.ran if line.startswith("migrate ")]


async def test_it_is_run_in_the_new_release_after_the_backup_and_before_the_switch() -> None:
    """R-RB-9: that it is about to be run is committed before."""
    async with migrating() as shop:
        await deploy(shop)
        shop.wire.forget()
        second = await deploy(shop)
        assert told(second) == (State.SUCCEEDED, "", None)
        assert second.migrated
        assert second.hint == ""
        assert migrations(shop)[-1] == second.release
        acts = [place.split("/")[1] for place in shop.wire.passed]
        order = [
            "saves.create_locked",
            "journal.migrating",
            "builder.migrate",
            "releases.point",
            "runtime.stop",
        ]
        assert [act for act in acts if act in order] == order
        assert "deployment.migrating" in await shop.names(second)
        assert await shop.journal.output(second.id) == "--- building\nbuilt\n--- switching\nmigrated\n"
        await shop.check()


@pytest.mark.parametrize(
    ("last", "reason", "fault"),
    [
        ("fail", "migrate-failed", Fault.COMMIT),
        ("hang", "migrate-timeout", Fault.COMMIT),
        ("full", "disk-full", Fault.WORLD),
    ],
)
async def test_one_that_fails_switches_nothing(last: str, reason: str, fault: Fault) -> None:
    """R-RB-9: the old process is untouched, and what was done to the data is said."""
    async with migrating() as shop:
        good = await deploy(shop)
        before = (shop.runtime.running, list(shop.runtime.acts), shop.releases.link)
        bad = await deploy(shop, f"say half\n{last}")
        assert told(bad) == (State.FAILED, reason, fault)
        assert (shop.runtime.running, shop.runtime.acts, shop.releases.link) == before
        assert bad.hint.endswith(f" {HINT} {bad.backup}.")
        assert await shop.quarantined(bad.revision or "") == (fault is Fault.COMMIT)
        assert [step.state for step in bad.steps][-1] == "failed"
        assert "--- switching\nhalf\n" in (await shop.journal.output(bad.id) or "")
        assert await shop.live() == good.release
        assert not await shop.held()
        await shop.check()
        assert (await deploy(shop)).state is State.SUCCEEDED


async def test_an_old_version_that_died_while_its_data_was_locked_is_started_again() -> None:
    async with migrating() as shop:
        good = await deploy(shop)
        shop.wire.trip("switching/builder.migrate/1", "before", shop.runtime.die)
        assert (await deploy(shop, "fail")).reason == "migrate-failed"
        assert shop.runtime.acts == [f"start {good.release}"] * 2
        await shop.check()
        shop.wire.trip("switching/builder.migrate/1", "before", shop.runtime.die)
        shop.wire.raises("switching/runtime.start/1", "before", lambda: StepFailed("runtime-failed", "no"))
        assert told(await deploy(shop, "say x\nfail")) == (State.FAILED, "migrate-failed", Fault.COMMIT)


async def test_what_the_world_broke_is_tried_again_by_the_same_delivery() -> None:
    async with migrating() as shop:
        await deploy(shop)
        shop.wire.raises("switching/builder.migrate/1", "before", lambda: StepFailed("disk-full", "full"))
        bad = await deploy(shop)
        assert told(bad) == (State.FAILED, "disk-full", Fault.WORLD)
        await shop.deliver(bad.revision or "")
        assert await shop.work()
        assert told(await shop.of(bad.revision or "")) == (State.SUCCEEDED, "", None)


async def test_the_first_deployment_that_cannot_migrate_leaves_nothing_running() -> None:
    async with migrating() as shop:
        bad = await deploy(shop, "fail")
        assert told(bad) == (State.FAILED, "migrate-failed", Fault.COMMIT)
        assert (await shop.live(), shop.runtime.running) == (None, None)
        await shop.check()


@pytest.mark.parametrize("mood", ["sick", "crash", "unstartable"])
async def test_a_rollback_says_that_the_data_was_migrated(mood: str) -> None:
    """R-RB-9: code only; restoring would lose what was written since."""
    async with migrating() as shop:
        await deploy(shop)
        bad = await deploy(shop, mood=mood)
        assert bad.state is State.ROLLED_BACK
        assert bad.hint.endswith(f" {HINT} {bad.backup}.")
        assert len(migrations(shop)) == 2
        await shop.check()


async def test_a_broken_rollback_and_one_without_a_fallback_say_it_too() -> None:
    async with migrating() as shop:
        first = await deploy(shop, mood="sick")
        assert told(first) == (State.FAILED, "no-fallback", Fault.COMMIT)
        assert first.hint.count(HINT) == 1
        target = await deploy(shop)
        shop.runtime.moods[target.release or ""] = "sick"
        bad = await deploy(shop, mood="crash")
        assert bad.state is State.BROKEN
        assert bad.hint.endswith(f"{HINT} {bad.backup}.")
        assert bad.hint.count(HINT) == 1


async def test_without_a_backup_that_is_said() -> None:
    async with migrating(backup={"before_deploy": "off"}) as shop:
        assert (await deploy(shop, "fail")).hint.endswith(
            "The schema was migrated; there is no pre-deploy backup."
        )


async def test_what_the_service_printed_follows_what_the_migration_did() -> None:
    async with migrating() as shop:
        await deploy(shop)
        shop.wire.raises(
            "switching/runtime.start/1",
            "before",
            lambda: StepFailed("start-failed", "no", output="its words\n"),
        )
        bad = await deploy(shop)
        assert "--- switching\nmigrated\nits words\n" in (await shop.journal.output(bad.id) or "")


async def test_without_the_option_nothing_is_migrated(shop: Workshop) -> None:
    deployment = await shop.deploy(migrate="fail")
    assert deployment.state is State.SUCCEEDED
    assert not deployment.migrated
    assert migrations(shop) == []


# --- cut off


@pytest.mark.parametrize("phase", ["before", "after"])
@pytest.mark.parametrize("reboot", [False, True])
async def test_one_that_was_cut_off_is_run_again_while_the_old_version_serves(
    phase: str, reboot: bool
) -> None:
    """F8."""
    async with migrating() as shop:
        good = await deploy(shop)

        def die() -> None:
            if reboot:
                shop.runtime.reboot()
            raise Killed

        shop.wire.trip("switching/builder.migrate/1", phase, die)
        revision = await shop.push(migrate="say migrated")
        assert not await shop.work()
        shop.wire.passed.clear()
        assert await shop.work()
        deployment = await shop.of(revision)
        assert told(deployment) == (State.SUCCEEDED, "", None)
        assert deployment.interruptions == 1
        acts = [place.split("/")[1] for place in shop.wire.passed]
        starts = [index for index, act in enumerate(acts) if act == "runtime.start"]
        assert len(starts) == (2 if reboot else 1)
        assert (starts[0] < acts.index("builder.migrate")) == reboot, "first what is live, then the migration"
        assert migrations(shop)[-1] == deployment.release != good.release
        await shop.check()


async def test_a_reboot_during_one_that_then_fails_leaves_the_old_version_serving() -> None:
    """F8."""
    async with migrating() as shop:
        good = await deploy(shop)

        def die() -> None:
            shop.runtime.reboot()
            raise Killed

        shop.wire.trip("switching/builder.migrate/1", "before", die)
        revision = await shop.push(migrate="fail")
        assert not await shop.work()
        assert await shop.work()
        assert told(await shop.of(revision)) == (State.FAILED, "migrate-failed", Fault.COMMIT)
        assert shop.runtime.running is not None
        assert shop.runtime.running.release == good.release
        await shop.check()


@pytest.mark.parametrize("act", ["releases.point", "runtime.stop", "runtime.start"])
async def test_a_switch_that_was_cut_off_is_not_migrated_again(act: str) -> None:
    async with migrating() as shop:
        await deploy(shop)
        shop.wire.raises(f"switching/{act}/1", "after", Killed)
        revision = await shop.push(migrate="say migrated")
        assert not await shop.work()
        before = migrations(shop)
        assert await shop.work()
        assert migrations(shop) == before
        assert (await shop.of(revision)).state is State.SUCCEEDED
        await shop.check()


async def test_the_second_cut_ends_it_and_blames_nobody() -> None:
    """F8, F17: and says that the data may be half migrated."""
    async with migrating() as shop:
        good = await deploy(shop)
        shop.wire.raises("switching/builder.migrate/1", "before", Killed, times=2)
        revision = await shop.push(migrate="say migrated")
        assert not await shop.work()
        assert not await shop.work()
        assert await shop.work()
        deployment = await shop.of(revision)
        assert told(deployment) == (State.ROLLED_BACK, "interrupted", Fault.INTERRUPTED)
        assert HINT in deployment.hint
        assert await shop.live() == good.release
        assert shop.runtime.acts == [f"start {good.release}"]
        await shop.check()
