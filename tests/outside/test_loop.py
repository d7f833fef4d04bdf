"""R-MO-2: the loop waits for events and for nothing else, whatever the agent does; counted by calls, not by a clock."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.world import Answer, Home, wait_for

pytestmark = [pytest.mark.outside, pytest.mark.timeout(900)]

ENTRY = (str(Path(__file__).with_name("onloop.py")),)

ALLOWED: dict[str, tuple[str, ...]] = {
    "/proc, which waits for no device": (
        "open\tsystem/family.py:_marked",
        "open\tsystem/process.py:_carries",
        "open\tsystem/process.py:boot_id",
        "import encodings\tsystem/process.py:boot_id",
        "open\tsystem/process.py:stat_of",
        "open\tsystem/sockets.py:_listening",
        "os.readlink\tsystem/sockets.py:_sockets_of",
        "os.scandir\tsystem/family.py:_everybody",
        "os.scandir\tsystem/process.py:_everybody",
        "os.scandir\tsystem/sockets.py:_sockets_of",
    ),
    "a program is begun: vfork, and the loop goes on at its exec": (
        "os.posix_spawn\tsystem/daemon.py:_spawn",
        "subprocess.Popen\tadapters/source/program.py:_spawn",
        "subprocess.Popen\tsystem/process.py:start",
        "open\tsystem/process.py:start",
        "open\tadapters/source/program.py:_spawn",
        "os.stat\tadapters/source/program.py:_spawn",
        "os.lstat\tadapters/source/program.py:_spawn",
        "open\tsystem/process.py:input_of",
        "os.stat\tsystem/priority.py:<dictcomp>",
    ),
    "a service's record and lock: a file of a few lines, read from the cache, not synced": (
        "open\tsystem/daemon.py:exclusive",
        "fcntl.flock\tsystem/daemon.py:_locked",
        "open\tsystem/daemon.py:_write_all",
        "open\tsystem/daemon.py:read_record",
        "os.stat\tadapters/runtimes/process.py:<genexpr>",
        "os.lstat\tservices/site.py:launch",
    ),
    "WNOHANG": ("os.waitpid\tsystem/daemon.py:reap", "os.waitpid\tsystem/process.py:_reap"),
    "a socket that does not block": (
        "socket.connect\tadapters/probes/http.py:_send",
        "socket.connect\tadapters/knock.py:_ask",
    ),
    "at the agent's end": ("os.remove\tweb/server.py:_remove",),
}
"""What the loop's thread may call, and why it does not wait there."""


def test_no_call_that_may_block_is_made_on_the_loop(make_home: Callable[..., Home]) -> None:
    """R-MO-2: deployments to every end, a rollback, backups, a restore, a reload, the API and the page."""
    home = make_home()
    home.settings["services"]["app"]["deploy"] |= {
        "build": {"commands": ["true"], "reuse": {"key": ["serve.py"], "paths": ["deps"]}, "always": ["mkdir -p deps"]},
        "migrate": ["true"],
    }  # fmt: skip
    home.settings["services"]["app"]["source"]["poll"] = "10s"
    home.settings["services"]["app"]["health"]["timeout"] = "60s"  # on a busy machine
    home.save()
    home.start(entry=ENTRY, more={"ONLOOP_FILE": str(home.directory / "onloop")})
    (home.directory / "onloop").touch()
    for version, mode, end in (
        ("one", "good", "succeeded"),
        ("two", "good", "succeeded"),
        ("three", "crash", "rolled_back"),
    ):
        ended = home.deploy(version, mode)
        assert ended["state"] == end, ended
    backup = _asked(home, "/api/v1/backups", {"service": "app"}).document["id"]
    assert home.get(f"/api/v1/backups/{backup}/content").status == 200
    for path in (
        f"backups/{backup}/verify",
        f"backups/{backup}/restore",
        "backups/prune",
        "services/app/drill",
    ):
        assert _asked(home, f"/api/v1/{path}", {}).status == 200, path
    assert home.ended(home.post("/api/v1/services/app/rollback").document["id"])["state"] == "succeeded"
    home.settings["monitor"]["every"] = "300ms"
    home.save()
    assert home.post("/api/v1/reload").status == 200
    for path in ("/health", "/status", "/", "/api/v1/events", "/api/v1/deliveries", "/api/v1/deployments"):
        assert home.get(path).status == 200
    assert home.command("status").returncode == 0
    assert home.stop() == 0
    found = set((home.directory / "onloop").read_text().splitlines())
    allowed = {call for calls in ALLOWED.values() for call in calls}
    assert sorted(found - allowed) == []
    assert len(found) > 10, "the hook works"


def _asked(home: Home, path: str, document: dict[str, str]) -> Answer:
    """POST, again as long as something else is going on."""

    def look() -> Answer | None:
        answer = home.post(path, document)
        return None if answer.status == 503 else answer

    found: Answer = wait_for(path, look)
    return found
