"""Which versions of git have known holes that a pushed repository with submodules could use (R-GIT-5).

The agent lays out submodules itself and runs neither git's checkout nor its hooks, so an old git is told and not
refused: a distribution corrects it without changing the number.
"""

import re

CORRECTIONS = ("CVE-2024-32002", "CVE-2025-48384")
"""Both let a repository with submodules run a program."""

_FIXED = {43: 7, 44: 4, 45: 4, 46: 4, 47: 3, 48: 2, 49: 1, 50: 1}
"""2.x -> the first 2.x.y without them."""


def is_before_the_fixes(version: str) -> bool | None:
    """Whether what `git --version` said is older; None: it cannot be read."""
    found = re.search(r"\b(\d+)\.(\d+)(?:\.(\d+))?", version)
    if found is None:
        return None
    major, minor, patch = int(found[1]), int(found[2]), int(found[3] or 0)
    if major != 2:
        return major < 2
    return minor < min(_FIXED) or patch < _FIXED.get(minor, 0)
