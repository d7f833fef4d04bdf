"""One figure for the whole agent."""

import pytest

from agent.core.score import overall


@pytest.mark.parametrize(
    ("states", "ailing", "expected"),
    [
        ([], False, ("healthy", 100)),
        (["healthy"], False, ("healthy", 100)),
        (["none"], False, ("healthy", 100)),
        (["none", "healthy"], False, ("healthy", 100)),
        (["held"], False, ("degraded", 75)),
        (["unknown"], False, ("degraded", 50)),
        (["unhealthy"], False, ("unhealthy", 0)),
        (["something new"], False, ("degraded", 0)),
        (["healthy", "unhealthy"], False, ("unhealthy", 50)),
        (["healthy", "held", "unknown"], False, ("degraded", 75)),
        (["healthy", "healthy", "unknown"], False, ("degraded", 83)),  # rounded down
        ([], True, ("degraded", 75)),
        (["healthy"], True, ("degraded", 75)),
        (["unknown"], True, ("degraded", 50)),
        (["healthy", "unhealthy"], True, ("unhealthy", 50)),
        (["healthy", "healthy", "healthy", "healthy", "unhealthy"], True, ("unhealthy", 80)),
    ],
)
def test_the_worst_names_it_and_the_mean_counts(
    states: list[str], ailing: bool, expected: tuple[str, int]
) -> None:
    services = {f"s{number}": state for number, state in enumerate(states)}
    assert overall(services, ailing=ailing) == expected
