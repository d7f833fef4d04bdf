"""Names of git's refs, by the rules of git-check-ref-format(1). Pure."""

import re

_BAD = re.compile(
    r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|\.lock(/|\Z)|(\A|/)\.|\A/|/\Z|\.\Z|\A\Z",
)
MAX_NAME = 200
"""Characters."""


def is_name(name: str) -> bool:
    """Whether a branch or a tag can be called so, behind `refs/heads/` or `refs/tags/`."""
    return len(name) <= MAX_NAME and _BAD.search(name) is None
