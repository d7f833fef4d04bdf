"""What every test may use."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from agent.store.database import Database
from tests.fakes import FakeClock
from tests.meta.requirements import summary

pytest.register_assert_rewrite("tests.world", "tests.crash.sweep", "tests.e2e.installed")

# Nothing fails by the clock of a busy machine; pytest-timeout ends what hangs.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# make mutation: thousands of runs, in which a failure needs no smallest example.
settings.register_profile(
    "mutation",
    settings.get_profile("house"),
    max_examples=25,
    phases=[Phase.explicit, Phase.generate],
    derandomize=True,
    database=None,
)
settings.load_profile("house")


LONG_MODULES = (
    "tests/soak/",
    "tests/crash/",
    *(f"tests/e2e/test_{name}.py" for name in ("blue_green", "isolated_builds", "one_socket", "upgrade")),
)
"""They take minutes: in `make e2e` they come first, so that no process waits for them at the end."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The first virtual Pi makes the image for all, which takes minutes. What is `long` is run by hand
    (`make e2e-long`)."""
    if "PI_CUTS" not in os.environ:
        long = [item for item in items if item.get_closest_marker("long")]
        items[:] = [item for item in items if item not in long]
        config.hook.pytest_deselected(items=long)
    items.sort(key=lambda item: not item.nodeid.startswith(LONG_MODULES))
    for item in items:
        if item.get_closest_marker("root") and "pi" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(900))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line about what is proven and what is open."""
    terminalreporter.write_line(summary())


class Later:
    """The clock of the running loop, which a test puts on: its timers are due at once, and a machine that is busy for
    a while is not taken for one on which minutes have passed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._ahead = 0.0
        loop = asyncio.get_running_loop()
        plain = loop.time
        monkeypatch.setattr(loop, "time", lambda: plain() + self._ahead)

    def by(self, seconds: float) -> None:
        """So much later."""
        self._ahead += seconds


@pytest.fixture
async def later(monkeypatch: pytest.MonkeyPatch) -> Later:
    """Puts the loop's clock on."""
    return Later(monkeypatch)


@pytest.fixture
def clock() -> FakeClock:
    """A clock that jumps."""
    return FakeClock()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """A real, empty state.db."""
    opened = Database(tmp_path / "state.db")
    await opened.open()
    yield opened
    await opened.close()
