"""The switch itself: once begun it is finished, and what already runs is left alone."""

import asyncio
import dataclasses
import logging

import pytest

from agent.core.errors import StepFailed
from agent.core.model import Release, State
from agent.services.replace import finish, replace
from tests.services.workshop import SERVICE, Workshop


async def releases(shop: Workshop) -> tuple[Release, Release]:
    """An older one, and the one that runs."""
    made = [await shop.deploy(), await shop.deploy()]
    old, new = (
        Release(name=item.release or "", service=SERVICE, revision=item.revision or "") for item in made
    )
    return old, new


async def test_the_link_is_set_before_the_old_process_ends(shop: Workshop) -> None:
    """R-PL-6: whoever starts the service by itself in between starts the new one."""
    old, _ = await releases(shop)
    shop.wire.forget()
    running = (await replace(shop.site, old)).running
    assert running.release == old.name == await shop.releases.current()
    acts = [name.split("/")[1] for name in shop.wire.passed]
    assert acts == [
        "runtime.look", "releases.current", "releases.point", "runtime.stop", "runtime.start",
    ]  # fmt: skip


async def left_running() -> None:
    raise StepFailed("unit-left-running", "old.service, which the service was before, is active")


async def test_nothing_is_touched_while_the_service_runs_as_something_else(shop: Workshop) -> None:
    old, new = await releases(shop)
    shop.runtime.die()
    with pytest.raises(StepFailed, match=r"old\.service"):
        await replace(dataclasses.replace(shop.site, alone=left_running), old)
    assert await shop.releases.current() == new.name
    assert shop.runtime.running is None


async def test_a_deployment_ends_before_the_switch_while_the_service_runs_as_something_else(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, new = await releases(shop)
    tools = shop._tools()
    monkeypatch.setattr(shop, "_tools", lambda: tools | {"alone": left_running})
    shop.hire()
    shop.runtime.die()
    ended = await shop.deploy()
    assert (ended.state, ended.reason) == (State.FAILED, "unit-left-running")
    assert await shop.releases.current() == new.name
    assert not await shop.quarantined(ended.revision or "")


async def test_what_already_runs_is_left_alone(shop: Workshop) -> None:
    _, new = await releases(shop)
    before, acts = shop.runtime.running, list(shop.runtime.acts)
    assert (await replace(shop.site, new)).running == before
    assert shop.runtime.acts == acts


async def test_a_link_that_leads_elsewhere_is_put_right_without_touching_the_process(shop: Workshop) -> None:
    """A cut between the link and the process, and then the way back."""
    old, new = await releases(shop)
    await shop.releases.point(old.name)
    acts = list(shop.runtime.acts)
    await replace(shop.site, new)
    assert await shop.releases.current() == new.name
    assert shop.runtime.acts == acts


@pytest.mark.parametrize("cancels", [1, 2, 5])
async def test_it_is_finished_however_often_it_is_cancelled(shop: Workshop, cancels: int) -> None:
    """R-SD-7."""
    old, _ = await releases(shop)
    task = asyncio.create_task(replace(shop.site, old))
    for _ in range(cancels):
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert shop.runtime.running is not None
    assert shop.runtime.running.release == old.name


async def test_a_failure_reaches_the_caller(shop: Workshop) -> None:
    old, _ = await releases(shop)
    shop.wire.forget()
    shop.wire.raises("idle/runtime.start/1", "before", lambda: StepFailed("runtime-failed", "no"))
    with pytest.raises(StepFailed, match="no"):
        await replace(shop.site, old)


async def test_a_failure_while_it_was_cancelled_is_told_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        await asyncio.sleep(0.01)
        raise StepFailed("runtime-failed", "it does not start")

    task = asyncio.create_task(finish(work()))
    await asyncio.sleep(0)
    task.cancel()
    with caplog.at_level(logging.WARNING), pytest.raises(asyncio.CancelledError):
        await task
    assert "it does not start" in caplog.text
