"""Reading a backup back, and what is said of one that does not read."""

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from agent.adapters.backup import content
from agent.adapters.backup.codec import Damaged
from agent.adapters.backup.descriptors import is_damage
from agent.adapters.backup.home import Home
from agent.adapters.backup.manifest import Manifest
from agent.adapters.backup.packs import Packs
from agent.adapters.backup.stopping import Stopped, heed
from agent.core.model import Backup, BackupFile
from agent.core.text import clean


def problems(read: Manifest, home: Home, stopped: Stopped) -> Sequence[str]:
    """Reads all that a manifest refers to from the device; what is wrong, as sentences."""
    found: list[str] = []
    with Packs(home.packs, device=True) as pieces:
        for file in read.files():
            heed(stopped)
            if file.kind not in ("file", "sqlite"):
                continue
            try:
                _read_all(pieces, file, stopped)
            except Damaged as error:
                found.append(str(error))
        if found:
            pieces.scrub(stopped)
            try:
                pieces.note_bad()
            except OSError as error:  # the finding stands, also where nothing can be written any more
                found.append(f"not noted for the next backup: {error}")
    return found


def _read_all(pieces: Packs, file: BackupFile, stopped: Stopped) -> None:
    for _ in content.load(pieces, file):
        heed(stopped)


def unreadable(home: Home, id: str, path: Path, error: Exception) -> Backup:
    """A backup of which only the name is certain. Raises the error if it says nothing about the backup itself."""
    if isinstance(error, OSError) and not is_damage(error):
        raise error
    written = 0.0
    with contextlib.suppress(OSError):
        written = path.stat().st_mtime
    return Backup(
        id=id,
        service=home.path.name,
        at=datetime.fromtimestamp(written, UTC),
        state="bad",
        bytes=0,
        stored_bytes=0,
        reason=clean(str(error), 512),
    )
