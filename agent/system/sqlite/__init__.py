"""Other people's SQLite databases: copied consistently while they are written, examined, and asked for one value.

The only room besides `store/` that knows sqlite3. The rules:
- A live database is never copied by reading its file (measured: such a copy has no table at all), only by the
  backup API, inside one read transaction: writers of a WAL database go on, others wait as for any reader.
- `integrity_check` is no checksum (measured: a flipped byte passes it): a copy is also hashed by whoever keeps it.
- It is opened read-only. Only for a copy, when SQLite must first repair it (a journal that a crash left behind) or
  cannot use its shared memory, is it opened for writing, which does what the service's own next start would do.
- No file is made beside it, since the service's own user could not write what is the agent's: the service would be
  down. Read-only is not enough for that, see `ways.way_in`. A question repairs nothing either. Nor is the file ever
  opened here without SQLite: closing it would drop the locks of a copy that is under way (POSIX, per process).
All functions block: call them in a worker thread. Told to stop, they end within about a second.

header.py     is a file a database, by its first bytes
ways.py       how to open one without making a file beside it
copying.py    a copy of a live one
counting.py   is a copy sound, and how many rows has each table
asking.py     one value of a live one
"""

import sqlite3

from agent.system.sqlite.asking import Unanswered, value
from agent.system.sqlite.copying import copy
from agent.system.sqlite.counting import Examined, examine, rows
from agent.system.sqlite.header import HEADER, SIDECARS, START, is_database, page_size

VERSION = sqlite3.sqlite_version

__all__ = [
    "HEADER", "SIDECARS", "START", "VERSION", "Examined", "Unanswered", "copy", "examine", "is_database", "page_size",
    "rows", "value",
]  # fmt: skip
