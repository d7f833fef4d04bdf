"""What running programs print, in memory."""

from agent.core.model import Deployment, State
from agent.services.progress import LIMIT, Progress
from tests.build import a_deployment
from tests.services.workshop import Workshop


def at(state: State, identity: str = "d1") -> Deployment:
    return a_deployment(id=identity, state=state)


def test_each_deployment_has_its_own_newest_text() -> None:
    progress = Progress()
    one, other = progress.listener(at(State.BUILDING)), progress.listener(at(State.SWITCHING, "d2"))
    assert progress.of("d1") is None
    one("a")
    one("ab")
    other("x")
    assert progress.of("d1") == (State.BUILDING, "ab")
    assert progress.of("d2") == (State.SWITCHING, "x")
    progress.forget("d1")
    progress.forget("d1")
    assert progress.of("d1") is None
    assert progress.of("d2") == (State.SWITCHING, "x")


def test_a_new_step_begins_with_nothing_and_a_long_text_is_cut_at_its_beginning() -> None:
    """R-MO-5"""
    progress = Progress()
    progress.listener(at(State.BUILDING))("old")
    heard = progress.listener(at(State.SWITCHING))
    assert progress.of("d1") is None
    heard("first\n" + "x" * LIMIT)
    _, text = progress.of("d1") or ("", "")
    assert text == "x" * LIMIT


async def test_nothing_is_kept_of_a_deployment_that_ended(shop: Workshop) -> None:
    heard: list[object] = []
    shop.wire.trip("building/releases.seal/1", "before", lambda: heard.extend(shop.progress._texts.values()))
    for build in ("say one\nsay two", "say one\nfail"):
        await shop.deploy(build=build)
        assert not shop.progress._texts
    assert heard == [(State.BUILDING, "one\n")]
