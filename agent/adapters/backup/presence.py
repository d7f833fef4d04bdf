"""Whether a source is there: the rule that all sources share."""

import os
from pathlib import Path

from agent.core.errors import StepFailed
from agent.system.files import strangers_link


def look(path: Path, source: str, known: frozenset[str]) -> os.stat_result | None:
    """What stands at a source's path, links followed; None if it is absent and always was.

    Raises backup-source-gone if the last backup had it, backup-source-unreadable if nobody may tell, or if the service
    itself could lead us elsewhere: what it may not read would come back to it by a restore.
    """
    try:
        if (link := strangers_link(path)) is not None:
            raise StepFailed("backup-source-unreadable", f"{link} is a link that another user has made")
        return path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        if source in known:
            raise StepFailed("backup-source-gone", f"{path} was in the last backup and is gone") from error
        return None
    except OSError as error:
        raise StepFailed("backup-source-unreadable", f"{path}: {error.strerror}") from error
