"""File names and links as a backup writes them down. Pure.

A name on Linux is bytes, mostly UTF-8. In a manifest it is text in which only a backslash and the bytes that are
not UTF-8 are escaped (`\\\\`, `\\xff`), so that every name survives and nearly all of them read as they are.
"""

import os
import posixpath
import re
from collections.abc import Mapping
from pathlib import Path

_ESCAPED = re.compile(r"\\(\\|x[89a-f][0-9a-f])")
_MAX_HOPS = 40


def encode(name: str) -> str:
    """A name of the file system (surrogates for foreign bytes) as text that any JSON reader takes."""
    raw = os.fsencode(name.replace("\\", "\\\\"))
    return raw.decode("utf-8", "backslashreplace")


def decode(text: str) -> str:
    """What `encode` was given."""
    raw = _ESCAPED.sub(lambda found: "\\" if found[1] == "\\" else chr(0xDC00 + int(found[1][1:], 16)), text)
    return os.fsdecode(raw.encode("utf-8", "surrogateescape"))


def inside(path: Path, directory: Path) -> str:
    """The name of an absolute path in a backup of the service that lives in `directory`.

    The configuration allows no source outside of it (a link inside may lead there, and is named as it stands).
    """
    return str(path.relative_to(directory))


def leaves(link: str, links: Mapping[str, str]) -> bool:
    """Whether a link leads out of the tree, wherever the other links of the tree lead on the way.

    `links`: every link's path in the tree and its target. A loop leads nowhere, so it does not lead out.
    """
    at: list[str] = posixpath.dirname(link).split("/") if "/" in link else []
    rest = _steps(links[link])
    hops = 0
    while rest:
        step = rest.pop()
        if step is None:
            return True
        if step == "..":
            if not at:
                return True
            at.pop()
            continue
        onward = links.get("/".join([*at, step]))
        if onward is None:
            at.append(step)
            continue
        hops += 1
        if hops > _MAX_HOPS:
            return False
        rest.extend(_steps(onward))
    return False


def _steps(target: str) -> list[str | None]:
    """The parts of a target, last first; None stands for the root directory."""
    parts: list[str | None] = [part for part in target.split("/") if part not in ("", ".")]
    if target.startswith("/"):
        parts.insert(0, None)
    return parts[::-1]
