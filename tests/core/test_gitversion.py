"""Which git has the known holes."""

import pytest

from agent.core.gitversion import is_before_the_fixes


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("git version 2.39.5", True),
        ("git version 2.39.5 (Apple Git-154)", True),
        ("git version 1.9.1", True),
        ("git version 2.43.6", True),
        ("git version 2.43.7", False),
        ("git version 2.43.7-0ubuntu1", False),
        ("git version 2.47.2", True),
        ("git version 2.47.3", False),
        ("git version 2.50.0", True),
        ("git version 2.50", True),
        ("git version 2.50.1", False),
        ("git version 2.51.0.windows.1", False),
        ("git version 3.0.0", False),
        ("", None),
        ("no number", None),
    ],
)
def test_a_version_is_before_or_behind_the_corrections(said: str, expected: bool | None) -> None:
    """R-GIT-5"""
    assert is_before_the_fixes(said) is expected
