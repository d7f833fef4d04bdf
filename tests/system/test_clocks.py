"""Durations are measured with a clock that nobody sets: where the other one is read, and why."""

import ast
from collections.abc import Iterator

from tests.meta.sources import Source, sources

STORED = "an instant that is stored and shown"
PEOPLE = "for the person who reads it, now"

WALL: dict[str, str] = {
    # module -> why it asks what time it is
    "system/clock.py": "answers the port `core.ports.Clock`",
    "store/backups.py": STORED,
    "store/journal.py": STORED + "; the guard's window is an hour of it, see `core.guard`",
    "store/polls.py": STORED,
    "store/restores.py": STORED,
    "store/rollbacks.py": STORED,
    "store/services.py": STORED,
    "services/backup.py": STORED + ", and part of a backup's name",
    "services/drill.py": STORED,
    "services/gate.py": "`deploy.freeze` is written in local time",
    "services/healing.py": STORED,
    "services/lanes.py": "`deploy.freeze` is written in local time; it is looked at each minute",
    "services/monitor.py": STORED,
    "services/poller.py": "shown",
    "services/pruning.py": "retention is about dates; what `core.retention` cannot believe costs nothing",
    "services/reloading.py": STORED,
    "services/restore.py": STORED + ", and part of the name of what is kept",
    "services/swapping.py": STORED,
    "app.py": "shown; and `deploy.freeze` is written in local time",
    "services/room.py": STORED,
    "web/hooks.py": STORED,
    "web/middleware.py": "a session's end is an instant that the browser keeps",
    "web/session.py": "a session's end is an instant that the browser keeps",
    "web/page.py": PEOPLE,
    "cli/doctor.py": "compared with stored instants of deployments",
    "cli/history.py": PEOPLE,
    "cli/show.py": PEOPLE,
    "cli/upgrader.py": STORED,
    "cli/demo/repository.py": "the date of a commit",
    "adapters/probes/freshness.py": "the age of what a service wrote with the wall clock; `timeout` is not",
    "adapters/backup/files.py": "compared with a file's mtime, which is the same clock's; in doubt it reads twice",
}
"""Every module that asks for the wall clock."""

READS = {"time.time", "time.time_ns", "time.localtime", "time.gmtime", "time.ctime", "uuid.uuid1"}
METHODS = {"now", "utcnow", "today"}
"""Of `datetime` and `date`, and of the port."""
DURATIONS = {"sleep", "timeout", "wait_for", "call_later", "timeout_at", "call_at"}
"""What waits for so long."""


def wall_reads(source: Source) -> Iterator[ast.Call]:
    """Every call that tells the time of day."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            method = name.rpartition(".")[2]
            if name in READS or ("." in name and method in METHODS):
                yield node


def test_the_wall_clock_is_asked_in_the_named_places_only() -> None:
    """R-SD-13, F53."""
    found = {source.name for source in sources() if any(wall_reads(source))}
    assert found == WALL.keys()


def test_no_wait_is_measured_by_the_wall_clock() -> None:
    """R-SD-13: what a wait is told comes from no call that tells the time of day, but for the end of a freeze."""
    found = []
    for source in sources():
        reads = {ast.dump(node) for node in wall_reads(source)}
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in DURATIONS:
                inside = [part for argument in node.args for part in ast.walk(argument)]
                found += [source.name for part in inside if ast.dump(part) in reads]
    assert found == []


def test_a_planted_call_is_found() -> None:
    for text in (
        "import time\ntime.time()",
        "self._clock.now()",
        "datetime.datetime.now(UTC)",
        "date.today()",
    ):
        assert any(wall_reads(Source("core/planted.py", text, ast.parse(text)))), text
    for text in ("time.monotonic()", "self._clock.monotonic()", "now()", "loop.time()"):
        assert not any(wall_reads(Source("core/planted.py", text, ast.parse(text)))), text
