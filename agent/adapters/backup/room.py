"""Whether a backup will fit, asked before a byte of it is written (R-BK-11)."""

from collections.abc import Sequence

from agent.core.errors import StepFailed
from agent.core.model import Backup, Need
from agent.system.files import Free

FLOOR_BYTES = 16 * 1024 * 1024
FLOOR_INODES = 64


def require(space: Free, needs: Sequence[Need], last: Backup | None) -> None:
    """Refuses what will not fit.

    The first backup may need all that its sources hold; a later one about what the last one added and what the
    sources grew by. On top: the largest temporary copy, a fifth for safety, and a floor that is left to others.
    """
    total = sum(need.bytes for need in needs)
    new = total if last is None else last.stored_bytes + max(0, total - last.bytes)
    needed = int(new * 1.2) + max((need.scratch for need in needs), default=0) + FLOOR_BYTES
    if space.bytes < needed:
        raise StepFailed("disk-full", f"the backup needs {needed} bytes on its disk, {space.bytes} are free")
    if space.inodes is not None and space.inodes < FLOOR_INODES:
        raise StepFailed("disk-full", f"the backup's disk has {space.inodes} inodes left")
