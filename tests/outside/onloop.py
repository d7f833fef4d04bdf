"""The real agent, which writes down what its loop waits for: run as `python tests/outside/onloop.py serve ...`.

Each line of ONLOOP_FILE is `what<TAB>where`: a call that may have to wait for a disk, a process or a name service, made
by the thread of the loop after the agent was ready, and the function of the agent that made it. An import counts once,
as `import`, by the library's name.
"""

import importlib
import os
import sqlite3
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from agent.__main__ import main  # noqa: E402
from agent.system import notify  # noqa: E402

AUDITED = {
    "open", "os.listdir", "os.scandir", "os.mkdir", "os.rmdir", "os.remove", "os.rename", "os.link", "os.symlink",
    "os.truncate", "os.chmod", "os.chown", "os.system", "os.posix_spawn", "os.fork", "subprocess.Popen",
    "sqlite3.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.connect", "time.sleep", "shutil.rmtree",
    "shutil.copyfile", "shutil.move", "glob.glob", "tempfile.mkstemp", "tempfile.mkdtemp", "fcntl.flock", "import",
}  # fmt: skip
UNAUDITED = ("fsync", "fdatasync", "sync", "stat", "lstat", "statvfs", "waitpid", "readlink")
"""Of `os`: Python tells no audit hook of them."""

loop_thread = 0
out = Path(os.environ["ONLOOP_FILE"])
seen: set[str] = set()


def told(what: str) -> None:
    """One line, if it is the loop's thread; each only once."""
    if threading.get_ident() != loop_thread or threading.current_thread() is not threading.main_thread():
        return
    where = _caller(sys._getframe(2))
    if where and f"{what}\t{where}" not in seen:
        seen.add(f"{what}\t{where}")
        with out.open("a", encoding="utf-8") as lines:
            lines.write(f"{what}\t{where}\n")


def _caller(frame: FrameType | None) -> str:
    """The innermost function of the agent; "" for what this file does itself."""
    while frame is not None:
        file = frame.f_code.co_filename
        if file == __file__:
            return ""
        if file.startswith(str(ROOT / "agent")):
            return f"{Path(file).relative_to(ROOT / 'agent').as_posix()}:{frame.f_code.co_name}"
        frame = frame.f_back
    return "the event loop itself"


def audit(event: str, args: tuple[Any, ...]) -> None:
    """The hook. An import opens its files: it is told as such."""
    if loop_thread and event in AUDITED:
        if event == "import":
            told(f"import {str(args[0]).partition('.')[0]}")
        elif not _importing(sys._getframe(1)):
            told(event)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def watch(name: str) -> None:
    """Puts a function of `os` under the same watch."""
    plain: Callable[..., Any] = getattr(os, name)

    def watched(*args: Any, **kwargs: Any) -> Any:
        if loop_thread and not _importing(sys._getframe(1)):
            told(f"os.{name}")
        return plain(*args, **kwargs)

    setattr(os, name, watched)


class Connection(sqlite3.Connection):
    """Tells who executes."""

    def execute(self, *args: Any, **kwargs: Any) -> sqlite3.Cursor:
        told("sqlite3.execute")
        return super().execute(*args, **kwargs)


plain_connect = sqlite3.connect
sqlite3.connect = lambda *args, **kwargs: plain_connect(*args, **{"factory": Connection, **kwargs})
plain_ready = notify.ready


def ready(status: str) -> None:
    """From now on the loop must not wait for anything but events."""
    global loop_thread  # noqa: PLW0603 - this module is the process
    plain_ready(status)
    loop_thread = threading.get_ident()


notify.ready = ready
importlib.invalidate_caches()
for each in UNAUDITED:
    watch(each)
sys.addaudithook(audit)
main()
