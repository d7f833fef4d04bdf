"""Homes for the outside tests."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.world import Home, a_home


@pytest.fixture
def make_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Home]]:
    """Makes homes that are taken down at the end. The paths are short: a unix socket's has at most 107 bytes."""
    with ExitStack() as stack:

        def make(*names: str, **service: Any) -> Home:
            directory: Path = tmp_path_factory.mktemp("home")
            return stack.enter_context(a_home(directory, names or ("app",), **service))

        yield make


@pytest.fixture
def home(make_home: Callable[..., Home]) -> Home:
    """A running agent with one service, not deployed yet."""
    made = make_home()
    made.start()
    return made
