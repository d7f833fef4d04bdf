"""What is passed on while a program runs: the newest, not too often, and nothing when there is no news."""

import asyncio

from agent.system.telling import Telling
from tests.conftest import Later


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_the_first_news_is_told_at_once_and_the_newest_after_the_pace(later: Later) -> None:
    told: list[str] = []
    telling = Telling(told.append, pace=60)
    for text in "abc":
        telling.news(lambda text=text: text)  # type: ignore[misc]  # bound on purpose
    assert told == [], "never from within the caller"
    await turns()
    assert told == ["c"]
    for text in "def":
        telling.news(lambda text=text: text)  # type: ignore[misc]
        await turns()
    assert told == ["c"]
    later.by(58)
    await turns()
    assert told == ["c"]
    later.by(2)
    await turns()
    assert told == ["c", "f"]


async def test_without_news_no_timer_runs_and_after_the_end_none_either() -> None:
    told: list[str] = []
    telling = Telling(told.append, pace=0.01)
    assert telling._timer is None
    telling.news(lambda: "one")
    await turns()
    assert told == ["one"]
    assert telling._timer is None
    telling.news(lambda: "two")
    telling.close()
    telling.close()
    await asyncio.sleep(0.03)
    assert told == ["one"]
