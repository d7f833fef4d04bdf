"""Versions that change over side by side: the real deployer, lane and runtime over a systemd and an nginx in memory."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.core import upstreams
from agent.core.colours import Colour
from agent.core.errors import StepFailed, Unavailable
from agent.core.model import Deployment, Fault, State
from agent.system import memory
from agent.system.units import Verb
from tests.services.test_every_point import naming
from tests.services.twins import SETTINGS, TwinShop, twin_workshop
from tests.services.workshop import Killed
from tests.system.services import eventually

STRIDE = int(os.environ.get("POINTS_STRIDE", "9"))
"""Every so many acts one is cut; `make e2e-long` says 1."""
BLUE, GREEN = Colour.BLUE, Colour.GREEN


def told(deployment: Deployment) -> tuple[State, str, Fault | None]:
    return deployment.state, deployment.reason, deployment.fault


def detail(deployment: Deployment, state: State) -> str:
    return next(step.detail for step in deployment.steps if step.name is state)


async def at_rest(shop: TwinShop) -> None:
    """One colour runs what is live, nginx sends users there, and a boot would start the same."""
    live = await shop.live()
    assert list(shop.colours().values()) == [live], shop.colours()
    assert shop.twins.nginx in shop.twins.running
    links = {colour: shop.directory / colour for colour in Colour}
    named = {colour: link.readlink().name for colour, link in links.items() if link.is_symlink()}
    assert named == {shop.twins.nginx: live}
    assert (shop.directory / "current").readlink().name == live


async def test_a_version_is_started_and_proven_beside_the_one_that_serves(tmp_path: Path) -> None:
    async with twin_workshop(tmp_path) as shop:
        first, second = await shop.deploy(), await shop.deploy()
        assert told(second) == (State.SUCCEEDED, "", None)
        assert shop.twins.acts == [
            f"start blue {first.release}", "swap blue",
            f"start green {second.release}", "swap green", "stop blue",
        ]  # fmt: skip
        assert "nginx sends users to green" in detail(second, State.VERIFYING)
        await at_rest(shop)


async def test_each_version_takes_the_other_colour_and_finds_its_port(tmp_path: Path) -> None:
    async with twin_workshop(tmp_path) as shop:
        for colour, port in ((BLUE, 9101), (GREEN, 9102), (BLUE, 9101)):
            deployment = await shop.deploy()
            assert shop.twins.nginx is colour
            text = (tmp_path / "releases" / str(deployment.release) / ".homeport-environment").read_text()
            assert f'PORT="{port}"\n' in text


@pytest.mark.parametrize(("mood", "reason"), [("sick", "health-timeout"), ("crash", "start-failed")])
async def test_what_does_not_prove_itself_never_gets_users(tmp_path: Path, mood: str, reason: str) -> None:
    async with twin_workshop(tmp_path) as shop:
        first = await shop.deploy()
        before = len(shop.twins.acts)
        bad = await shop.deploy(mood)
        assert told(bad) == (State.ROLLED_BACK, reason, Fault.COMMIT)
        assert "swap green" not in shop.twins.acts[before:]
        assert "stop blue" not in shop.twins.acts[before:]
        assert await shop.live() == first.release
        await at_rest(shop)


async def test_the_way_back_that_a_person_asks_for_is_side_by_side_as_well(tmp_path: Path) -> None:
    async with twin_workshop(tmp_path) as shop:
        first = await shop.deploy()
        await shop.deploy()
        before = len(shop.twins.acts)
        back = await shop.go_back()
        assert await shop.work()
        assert told(await shop.again(back)) == (State.SUCCEEDED, "", None)
        assert shop.twins.acts[before:] == [f"start blue {first.release}", "swap blue", "stop green"]
        await at_rest(shop)


async def test_an_nginx_that_refuses_costs_nothing_but_the_deployment(tmp_path: Path) -> None:
    """The world's fault: no quarantine, the old version serves on."""
    async with twin_workshop(tmp_path) as shop:
        first = await shop.deploy()
        shop.twins.refuses = True
        second = await shop.deploy()
        assert told(second) == (State.ROLLED_BACK, "nginx-refused", Fault.WORLD)
        assert not await shop.quarantined(second.revision or "")
        assert (await shop.live(), shop.twins.nginx) == (first.release, BLUE)
        assert "stop blue" not in shop.twins.acts
        await at_rest(shop)


async def test_users_who_do_not_get_there_are_sent_back(tmp_path: Path) -> None:
    async with twin_workshop(tmp_path) as shop:
        first = await shop.deploy()
        shop.twins.complaint = "the certificate is not valid: it has expired"
        shop.wire.forget()
        second = await shop.deploy()
        assert told(second) == (State.ROLLED_BACK, "nginx-unanswered", Fault.WORLD)
        assert "expired" in detail(second, State.VERIFYING)
        assert shop.twins.acts[-3:] == ["swap green", "swap blue", "stop green"]
        swaps = [act for act in shop.wire.passed if act.startswith("verifying/units.call")]
        assert len(swaps) == 2, "at once, and not only by the way back"
        assert await shop.live() == first.release
        await at_rest(shop)


@pytest.mark.parametrize("fits", [True, False])
async def test_where_two_copies_do_not_fit_it_is_restarted_and_that_is_told(
    tmp_path: Path, *, fits: bool
) -> None:
    available = memory.available()
    assert available is not None
    need = available // 4 if fits else 2 * available
    blue_green = SETTINGS["blue_green"] | {"memory": need}
    async with twin_workshop(tmp_path, blue_green=blue_green) as shop:
        first, second = await shop.deploy(), await shop.deploy()
        assert told(second) == (State.SUCCEEDED, "", None)
        said = detail(second, State.SWITCHING)
        if fits:
            assert "restarted" not in said
            assert shop.twins.nginx is GREEN
        else:
            assert "restarted: " in said
            assert "a second copy needs" in said
            assert shop.twins.acts[2:] == ["stop blue", f"start blue {second.release}"]
        assert first.release not in shop.colours().values()
        await at_rest(shop)


async def test_what_the_one_that_serves_takes_counts_if_nothing_else_is_said(tmp_path: Path) -> None:
    async with twin_workshop(tmp_path) as shop:
        await shop.deploy()
        shop.twins.used = 1 << 50
        second = await shop.deploy()
        assert "restarted: " in detail(second, State.SWITCHING)


async def test_a_service_that_is_ill_is_started_again_in_the_colour_that_serves(tmp_path: Path) -> None:
    async with twin_workshop(tmp_path) as shop:
        deployment = await shop.deploy()
        runtime = shop.site.runtime
        await runtime.stop()
        assert not (tmp_path / "blue").is_symlink()
        await runtime.start(shop.site.launch((await shop.journal.releases("scraper"))[0]))
        assert shop.colours() == {"blue": deployment.release}


@asynccontextmanager
async def guested(tmp_path: Path, *, drain: float) -> AsyncIterator[tuple[TwinShop, asyncio.StreamWriter]]:
    """Somebody is connected to nginx, until he closes that."""

    async def guest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(guest, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    rules = SETTINGS["blue_green"] | {"url": f"http://127.0.0.1:{port}/", "drain": drain}
    async with server, twin_workshop(tmp_path, blue_green=rules) as shop:
        _, user = await asyncio.open_connection("127.0.0.1", port)
        try:
            yield shop, user
        finally:
            user.close()
            await user.wait_closed()


@pytest.mark.parametrize("stays", [True, False])
async def test_who_was_connected_to_nginx_at_the_swap_may_still_come(tmp_path: Path, *, stays: bool) -> None:
    """nginx's old workers know only the old one: an upload reaches it when it is whole, say."""
    async with guested(tmp_path, drain=60) as (shop, user):
        await shop.deploy()
        shop.wire.forget()
        await shop.push()
        began = []

        async def swapped() -> None:
            began.append(shop.clock.monotonic())
            if not stays:
                user.close()
                await user.wait_closed()

        shop.wire.when("ended/runtime.retire/1", swapped)
        assert await shop.work()
        took = shop.clock.monotonic() - began[0]
        assert took >= 60 if stays else took < 30, took
        assert list(shop.colours()) == ["green"]


async def test_a_way_back_does_not_wait_for_what_users_have_begun(tmp_path: Path) -> None:
    """A WebSocket never ends by itself, and what was deployed is bad although it has proven itself. The old version is
    still there: it takes its users back at once, and who is connected to it stays so."""
    async with guested(tmp_path, drain=120) as (shop, user):
        first = await shop.deploy()
        shop.wire.forget()
        await shop.push()
        asked: list[float] = []

        async def ask_to_go_back() -> None:
            await shop.go_back()
            asked.append(shop.clock.monotonic())

        async def served_again() -> None:
            asked.append(shop.clock.monotonic())
            user.close()
            await user.wait_closed()

        shop.wire.when("ended/rollbacks.waits/40", ask_to_go_back)  # it has waited for some seconds
        shop.wire.when("rolling_back/journal.advance/1", served_again)
        assert await shop.work()
        assert asked[1] - asked[0] < 60, asked
        assert shop.twins.acts[-3:] == ["swap green", "swap blue", "stop green"], shop.twins.acts
        assert await shop.live() == first.release
        await at_rest(shop)


async def test_a_journal_that_cannot_be_read_ends_no_drain(tmp_path: Path) -> None:
    async with guested(tmp_path, drain=60) as (shop, _):
        await shop.deploy()
        shop.wire.forget()
        await shop.push()
        shop.wire.raises(
            "ended/rollbacks.waits/1", "before", lambda: Unavailable("store-unavailable", "full"), 8
        )
        began = shop.clock.monotonic()
        assert await shop.work()
        assert len(shop.wire.done) == 8
        assert shop.clock.monotonic() - began >= 60
        await at_rest(shop)


async def test_a_way_further_back_takes_the_place_of_what_would_have_ended(tmp_path: Path) -> None:
    """What that took of the memory is free then."""
    async with guested(tmp_path, drain=60) as (shop, user):
        first = await shop.deploy()
        user.close()
        second = await shop.deploy()
        shop.wire.forget()
        await shop.push()
        backs: list[Deployment] = []

        async def drained() -> None:
            shop.twins.used = 1 << 50
            backs.append(await shop.go_back(to=first.release))

        shop.wire.when("ended/runtime.retire/1", drained)
        assert await shop.work()
        assert told(await shop.again(backs[0])) == (State.SUCCEEDED, "", None)
        way = ["stop green", f"start green {first.release}", "swap green", "stop blue"]
        assert shop.twins.acts[-4:] == way
        assert second.release not in shop.colours().values()
        await at_rest(shop)


async def test_a_way_back_that_cannot_be_gone_leaves_nobody_running_twice(tmp_path: Path) -> None:
    async with guested(tmp_path, drain=60) as (shop, _):
        await shop.deploy()
        shop.wire.forget()
        await shop.push()
        backs: list[Deployment] = []

        async def drained() -> None:
            backs.append(await shop.go_back(to="9-abcdef0"))

        shop.wire.when("ended/runtime.retire/1", drained)
        assert await shop.work()
        assert told(await shop.again(backs[0])) == (State.FAILED, "no-release", Fault.WORLD)
        assert list(shop.colours()) == ["green"]
        await at_rest(shop)


async def test_a_reboot_starts_what_served_and_nothing_else(tmp_path: Path) -> None:
    async with twin_workshop(tmp_path) as shop:
        await shop.deploy()
        second = await shop.deploy()
        shop.twins.reboot()
        assert shop.colours() == {"green": second.release}
        before = len(shop.twins.acts)
        assert await shop.work()
        assert shop.twins.acts[before:] == []
        await at_rest(shop)


@pytest.mark.parametrize("text", ["", "upstream homeport-scraper {\n    server 127.0", "nonsense"])
async def test_an_upstream_file_that_is_not_whole_is_no_reason_to_stop_who_serves(
    tmp_path: Path, text: str
) -> None:
    async with twin_workshop(tmp_path) as shop:
        await shop.deploy()
        (shop.twins.place / "homeport-upstream-scraper.conf").write_text(text)
        second = await shop.deploy()
        assert told(second) == (State.SUCCEEDED, "", None)
        assert shop.twins.acts[2:] == [f"start green {second.release}", "swap green", "stop blue"]
        await at_rest(shop)


async def test_what_install_has_not_made_is_told_before_anything_is_started(tmp_path: Path) -> None:
    async with twin_workshop(tmp_path) as shop:
        await shop.deploy()
        before = list(shop.twins.acts)
        shop.wire.raises("backing_up/units.look/1", "before", lambda: StepFailed("swap-not-installed", "no"))
        second = await shop.deploy()
        assert told(second) == (State.FAILED, "swap-not-installed", Fault.WORLD)
        assert shop.twins.acts == before


async def test_a_swap_that_nobody_has_looked_at_yet_is_looked_at_after_a_kill(tmp_path: Path) -> None:
    async with twin_workshop(tmp_path) as shop:
        first = await shop.deploy()
        shop.wire.forget()
        shop.twins.complaint = "the certificate is not valid"
        shop.wire.raises("verifying/units.call/1", "after", Killed)
        await shop.push()
        assert not await shop.work()
        assert shop.twins.nginx is GREEN
        assert await shop.work()
        assert told((await shop.all())[0]) == (State.ROLLED_BACK, "nginx-unanswered", Fault.WORLD)
        assert await shop.live() == first.release
        await at_rest(shop)


async def test_an_upstream_that_leads_to_nobody_is_put_right_before_anything_ends(tmp_path: Path) -> None:
    """Somebody wrote it by hand, say."""
    async with twin_workshop(tmp_path) as shop:
        await shop.deploy()
        await shop.deploy()
        assert await shop.twins.call(Verb.START, upstreams.unit_of("scraper", BLUE), patience=1) == "done"
        before = len(shop.twins.acts)
        assert await shop.work()
        assert shop.twins.acts[before:] == ["swap green"]
        await at_rest(shop)


async def test_who_served_before_stays_until_the_new_one_runs_again(tmp_path: Path) -> None:
    """It died right after it was recorded as live, and systemd starts it again."""
    async with twin_workshop(tmp_path) as shop:
        first = await shop.deploy()
        shop.wire.forget()
        await shop.push()
        shop.wire.when("ended/runtime.retire/1", lambda: dies(shop, GREEN))
        async with shop.agent() as task:
            assert await shop.idle(task)
            assert shop.colours() == {"blue": first.release}
            shop.twins._start(GREEN)
            shop.lane.wake()
            await eventually(lambda: list(shop.colours()) == ["green"])
        await at_rest(shop)
        assert shop.twins.nginx is GREEN


async def dies(shop: TwinShop, colour: Colour) -> None:
    """By itself."""
    del shop.twins.running[colour]


async def test_what_was_tried_ends_before_the_way_back_is_proven(tmp_path: Path) -> None:
    """It may be what takes all the memory."""
    async with twin_workshop(tmp_path) as shop:
        await shop.deploy()
        shop.wire.forget()
        await shop.push("sick")
        shop.wire.when("rolling_back/probe.ask/1", lambda: only(shop, BLUE))
        assert await shop.work()
        assert (await shop.all())[0].state is State.ROLLED_BACK


async def only(shop: TwinShop, colour: Colour) -> None:
    """At this instant."""
    assert list(shop.twins.running) == [colour]


@pytest.mark.parametrize("reboots", [False, True])
@pytest.mark.parametrize("way", ["good", "sick", "back", "refused", "unanswered"])
async def test_a_kill_or_a_power_cut_at_any_act_costs_users_nothing_and_leaves_one_colour(
    tmp_path: Path, way: str, *, reboots: bool
) -> None:
    """At every act of a deployment and of a way back the agent dies, or the machine with it. Meanwhile whom nginx sends
    users to is there and good; afterwards one colour runs, which is live."""
    places = [""]  # the first one undisturbed: it says which acts there are
    for number, place in enumerate(places):
        directory = tmp_path / str(number)
        directory.mkdir()
        async with twin_workshop(directory) as shop:
            await shop.deploy()
            await shop.deploy()
            shop.wire.forget()
            identity = await begin(shop, way)
            shop.wire.watch = lambda _, shop=shop: served(shop)  # type: ignore[misc]
            if place:
                shop.wire.raises(place, "before", Killed)
            if not await shop.work():
                if reboots:
                    shop.twins.reboot()
                assert await shop.work()
            shop.wire.watch = lambda _: None
            with naming(shop.wire):
                await agrees(shop, identity, way)
            if not place:
                acts = shop.wire.passed
                assert any("link.write" in act for act in acts)
                places += acts[len(way) % STRIDE :: STRIDE]


async def begin(shop: TwinShop, way: str) -> str:
    """What is deployed."""
    if way == "back":
        return (await shop.go_back()).id
    shop.twins.refuses = way == "refused"
    if way == "unanswered":  # two were deployed: the third one is blue
        await shop.deploy()
        shop.wire.forget()
        shop.twins.complaint = "the certificate is not valid"
    await shop.push("sick" if way == "sick" else "good")
    return (await shop.all())[0].id


ENDS = {
    "good": (State.SUCCEEDED, ""),
    "sick": (State.ROLLED_BACK, "health-timeout"),
    "back": (State.SUCCEEDED, ""),
    "refused": (State.ROLLED_BACK, "nginx-refused"),
    "unanswered": (State.ROLLED_BACK, "nginx-unanswered"),
}


async def agrees(shop: TwinShop, identity: str, way: str) -> None:
    ended = await shop.journal.deployment(identity)
    assert ended is not None
    assert told(ended)[:2] == ENDS[way]
    assert shop.twins.mood(shop.twins.nginx) == "good"
    await at_rest(shop)


def served(shop: TwinShop) -> None:
    """At this instant users are answered."""
    twins = shop.twins
    assert twins.mood(twins.nginx) == "good", (twins.nginx, twins.running, shop.wire.passed[-5:])
