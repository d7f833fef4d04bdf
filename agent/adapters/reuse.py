"""Links from one release to what another one has built: the part of `adapters.releases` that makes and checks them.

Rules:
- Nothing outside of the release is read for its key: no link is followed, and only plain files are opened.
- What came from git is never replaced by a link, and what is linked to was built there: a link leads to no link.
- Links are relative, so that a service's directory can be moved.
All functions block.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from agent.adapters import marker
from agent.core.errors import StepFailed
from agent.core.model import Fault
from agent.core.reuse import ABSENT
from agent.core.text import clean

_HINT = "Name a plain file of the repository under `deploy.build.reuse.key`."
_TRACKED = (
    "Take the path out of the repository, or out of `deploy.build.reuse.paths`: only what the build makes can be"
    " reused."
)


def ingredients(root: Path, key: Sequence[str], paths: Sequence[str]) -> Mapping[str, str]:
    """SHA-256 of each key file, or ABSENT. Raises tree-refused: see `core.ports.Releases.ingredients`."""
    for path in paths:
        _require_free(root, path)
    return {path: _digest(root, path) for path in key}


def offers(root: Path, paths: Sequence[str]) -> bool:
    """Whether all of these are there as the release's own build made them."""
    return (root / marker.NAME).is_file() and all(_is_own(root, path) for path in paths)


def link(root: Path, builder: Path, paths: Sequence[str]) -> None:
    """Makes each path of `root` a link to the same path of `builder`."""
    for path in paths:
        _require_free(root, path)
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).symlink_to(target_of(path, builder.name))


def target_of(path: str, builder: str) -> str:
    """What the link at `path` of a release says; releases lie side by side."""
    return os.path.relpath(f"/releases/{builder}/{path}", os.path.dirname(f"/releases/this/{path}"))  # noqa: PTH120


def check(root: Path, builder: str, paths: Sequence[str], fault: Fault = Fault.WORLD) -> None:
    """Raises release-damaged if a link is not as it was made, or what it leads to is gone."""
    for path in paths:
        place = root / path
        if not place.is_symlink() or os.readlink(place) != target_of(path, builder):  # noqa: PTH115 - as it stands
            raise marker.damaged(path, f"is no longer the link to what {builder} built", fault)
        if not _is_own(root.parent / builder, path):
            raise marker.damaged(path, f"is gone from {builder}, which built it")


def _is_own(root: Path, path: str) -> bool:
    return _linked_above(root, path) is None and not (root / path).is_symlink() and (root / path).exists()


def _require_free(root: Path, path: str) -> None:
    if os.path.lexists(root / path) or (above := _linked_above(root, path)) is not None:
        what = clean(path if os.path.lexists(root / path) else str(above))
        raise StepFailed(
            "tree-refused", f"{what} stands in the repository and is to be reused", hint=_TRACKED
        )


def _linked_above(root: Path, path: str) -> Path | None:
    """What on the way to `path` is there and no directory."""
    for parent in reversed(Path(path).parents):
        step = root / parent
        if step.is_symlink() or (step.exists() and not step.is_dir()):
            return parent
    return None


def _digest(root: Path, path: str) -> str:
    if _linked_above(root, path) is None and not os.path.lexists(root / path):
        return ABSENT
    try:
        *_, digest = marker.describe(root, path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StepFailed("tree-refused", f"{clean(path)} is no plain file", hint=_HINT) from error
    if (root / path).is_symlink():
        raise StepFailed("tree-refused", f"{clean(path)} is a link", hint=_HINT)
    return digest
