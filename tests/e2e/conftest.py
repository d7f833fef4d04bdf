"""What the tests on a virtual Pi share: a Pi for each module, and homeport to install on it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import wheelhouse as wheels
from tests.e2e.installed import Installed
from tests.e2e.pi import Pi, a_pi

_TOLD = pytest.StashKey[list[str]]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How long the boots took, and after a failure what the Pi's journal says."""
    for line in terminalreporter.config.stash.get(_TOLD, []):
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """homeport and its locked dependencies, as wheels."""
    return wheels.build(tmp_path_factory.mktemp("wheelhouse"))


@pytest.fixture(scope="module")
def pi(request: pytest.FixtureRequest) -> Iterator[Pi]:
    """The module's own Pi, with the options that it names in `PI`. How long its boots took is told at the end."""
    failed = request.session.testsfailed
    with a_pi(*getattr(request.module, "PI", ())) as made:
        yield made
        told = ", ".join(f"{how} {seconds:.1f} s" for how, seconds in made.boots)
        if request.session.testsfailed > failed:
            told += f"\nthe end of its journal:\n{made.journal('homeport.service')[-8000:]}"
    request.config.stash.setdefault(_TOLD, []).append(f"{request.module.__name__}: {told}")


@pytest.fixture(scope="module")
def homeport(pi: Pi, wheelhouse: Path) -> Installed:
    """Installed and configured; not started."""
    made = Installed(pi)
    made.install(wheelhouse)
    return made
