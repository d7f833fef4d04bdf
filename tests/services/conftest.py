"""The work floor, ready."""

from collections.abc import AsyncIterator

import pytest

from tests.services.workshop import Workshop, a_workshop


@pytest.fixture
async def shop() -> AsyncIterator[Workshop]:
    """One service that nothing happened to yet."""
    async with a_workshop() as made:
        yield made
