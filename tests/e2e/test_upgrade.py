"""`homeport install --wheel` as root types it: an upgrade keeps the state and a copy, and what does not come up returns
by itself. The versions are wheels of this checkout with another number and, some of them, a planted fault."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agent.store.schema import MIGRATIONS
from tests.e2e.documented import Documented
from tests.e2e.installed import CONFIG, STATE
from tests.e2e.pi import Pi
from tests.e2e.wheelhouse import build_wheel
from tests.meta.sources import ROOT
from tests.world import wait_for

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]  # the first one on a machine makes the Pi's image

DISK = ("/opt", "/var/lib", "/etc/systemd/system")
"""Where an upgrade writes what must outlive it."""
PI = ("--disk", f"1200:{','.join(DISK)}", "--docker-arg", "--network=none")

LONG = pytest.mark.long
WHEELS = "/root/wheels"
PIP = ("env", "PIP_NO_INDEX=1", f"PIP_FIND_LINKS={WHEELS}")
MARK = "var/lib/homeport-upgrade/pending.json"
LIMIT = 120.0
"""Seconds within which what does not come up is away again."""

SCHEMAS = """
import sqlite3, sys
for path in sys.argv[1:]:
    print(*sqlite3.connect(f"file:{path}?mode=ro", uri=True).execute("PRAGMA user_version").fetchone())
"""

_SERVE = "    from agent.system import logs, tls\n"
_SCHEMA = ("", '\n\nMIGRATIONS = (*MIGRATIONS, ("CREATE TABLE of_the_new_version(x INTEGER) STRICT",))\n')
_OPENED = "        self._call(_succeed, opened, None)\n"
_READY = '    _say(f"READY=1\\nSTATUS={status}")\n'
_TOLD = "        notify.ready(told(len(agent.roster.sites), {}))\n"
_DONE = "    done: list[Change] = []\n"
FAULTS: dict[str, dict[str, tuple[str, str]]] = {
    # version -> file -> what stands there and what stands there instead; "": what is added at the end
    "0.1.1": {"agent/store/schema.py": _SCHEMA},
    "0.1.2": {"agent/cli/serve.py": (_SERVE, '    raise SystemExit("planted: it ends at its start")\n')},
    "0.1.3": {"agent/system/notify.py": (_READY, '    _say(f"STATUS=planted: never ready, {status}")\n')},
    "0.1.4": {
        "agent/store/schema.py": _SCHEMA,
        "agent/store/database.py": (_OPENED, "        import os\n        os.abort()\n"),
    },
    "0.1.5": {"agent/core/configuration.py": ('"""', 'raise SystemExit("planted")\n"""')},
    "0.1.6": {
        "agent/store/schema.py": _SCHEMA,
        "agent/foreground.py": (
            _TOLD,
            f"{_TOLD}        asyncio.get_running_loop().call_later(6, os.abort)\n",
        ),
    },
    "0.1.7": {
        "agent/cli/install.py": (
            _DONE,
            f'    raise StepFailed("not-installable", "planted: it cannot be installed")\n{_DONE}',
        )
    },
    "0.1.8": {
        "agent/store/database.py": (
            _OPENED,
            '        import os\n        self._path.write_bytes(b"planted" * 1000)\n        os.abort()\n',
        )
    },
}
GO_ON = "/var/lib/git/go-on"
"""A slow build ends when it is there."""
REMEMBERED = "opt/homeport var/lib/homeport srv/app"


def variant(version: str, directory: Path) -> Path:
    """A wheel of this checkout as it would be in that version."""
    checkout = directory / version
    names = subprocess.run(
        ["git", "ls-files", "-z", "agent", "examples/scraper", "systemd", "nginx", "pyproject.toml", "README.md",
         "LICENSE"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, names):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, checkout / name)
    numbered = {
        "pyproject.toml": ('version = "0.1.0"', f'version = "{version}"'),
        "agent/__init__.py": ('__version__ = "0.1.0"', f'__version__ = "{version}"'),
    }
    for name, (old, new) in (numbered | FAULTS[version]).items():
        text = (checkout / name).read_text(encoding="utf-8")
        assert old in text, f"{name} has no {old}"
        changed = text.replace(old, new, 1) if old else text + new
        (checkout / name).write_text(changed, encoding="utf-8")
    return build_wheel(directory / f"wheel-{version}", checkout)


class Upgradable(Documented):
    """With the wheels of what it needs in a directory of the Pi, and those of its versions as they are asked for."""

    def __init__(self, pi: Pi, wheelhouse: Path, variants: Path) -> None:
        super().__init__(pi)
        self._variants = variants
        self._there = {"0.1.0"}
        pi.run("mkdir", WHEELS)
        pi.send(*wheelhouse.glob("*.whl"), to=WHEELS)

    def wheel(self, version: str) -> str:
        """Where it lies on the Pi."""
        if version not in self._there:
            self.pi.send(variant(version, self._variants), to=WHEELS)
            self._there.add(version)
        return f"{WHEELS}/homeport-{version}-py3-none-any.whl"


@pytest.fixture(scope="module")
def installed(pi: Pi, wheelhouse: Path, tmp_path_factory: pytest.TempPathFactory) -> Upgradable:
    """Installed by its documented command, with one service whose first version is live."""
    made = Upgradable(pi, wheelhouse, tmp_path_factory.mktemp("variants"))
    made.settings["services"]["app"]["deploy"]["build"] = {
        "commands": [f"test ! -e slow || until test -e {GO_ON}; do sleep 0.2; done"]
    }
    made.install(wheelhouse)
    deploys(made, "first")
    pi.run("systemctl", "stop", "homeport")
    pi.run("sh", "-ec", f"tar --acls -C / -cf /root/before.tar {REMEMBERED}")
    pi.run("systemctl", "start", "homeport")
    return made


@pytest.fixture
def homeport(installed: Upgradable) -> Upgradable:
    """As it was after its installation: tests come in any order."""
    ended = installed.pi.run("ls", "/var/lib/homeport-upgrade/last.json", check=False).returncode == 0
    begun = programs(installed) not in ([], ["0.1.0"])
    if ended or begun or running(installed) != "0.1.0":
        places = f"{REMEMBERED} opt/homeport.d var/lib/homeport-upgrade"
        installed.pi.run("systemctl", "stop", "homeport-upgrade", "homeport", "app", check=False)
        installed.pi.run("sh", "-ec", f"cd /; rm -rf {places}; tar --acls -xpf /root/before.tar")
        installed.pi.run("systemctl", "start", "app")
        installed.pi.run("homeport", "install")
    installed.healthy()
    installed.pi.run("sync", "-f", *DISK)  # what came before is not what a cut is to take
    return installed


def upgrade(homeport: Upgradable, version: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = (*PIP, "homeport", "install", "--wheel", homeport.wheel(version), *options)
    return homeport.pi.run(*command, check=False, timeout=300)


def deploys(homeport: Upgradable, version: str) -> None:
    """A push of this version goes well."""
    ended = homeport.deploy(version)
    assert ended["state"] == "succeeded", ended


def running(homeport: Upgradable) -> str:
    """The version of the agent that answers; "" if none does."""
    with suppress(ConnectionError):
        return str(homeport.get("/status").document["agent"]["version"])
    return ""


def last(homeport: Upgradable) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(homeport.pi.get("/var/lib/homeport-upgrade/last.json"))
    return document


def history(homeport: Upgradable) -> tuple[list[str], list[str]]:
    """What the agent knows of before: deployments with their states, and deliveries."""
    deployments = homeport.get("/api/v1/deployments?limit=100").document["items"]
    deliveries = homeport.get("/api/v1/deliveries?limit=100").document["items"]
    return [f"{item['id']} {item['state']}" for item in deployments], [item["id"] for item in deliveries]


def programs(homeport: Upgradable) -> list[str]:
    """The versions that lie beside each other."""
    return homeport.pi.run("ls", "/opt/homeport.d", check=False).stdout.split()


def units(homeport: Upgradable) -> str:
    """What systemd and polkit are told of the agent."""
    places = "/etc/systemd/system/homeport* /etc/polkit-1/rules.d"
    return homeport.pi.run("sh", "-c", f"grep -r . {places} | sort").stdout


def service(homeport: Upgradable) -> str:
    """Which run of the service this is."""
    return homeport.pi.run("systemctl", "show", "--property=InvocationID,NRestarts", "app").stdout


def settled(homeport: Upgradable, version: str) -> None:
    """This version serves, and nothing of an upgrade is left to be done."""
    pi = homeport.pi
    assert running(homeport) == version
    assert pi.run("homeport", "--version").stdout == f"homeport {version}\n"
    assert pi.run("systemctl", "is-enabled", "homeport").stdout == "enabled\n"
    assert pi.run("ls", f"/{MARK}", check=False).returncode != 0
    assert pi.run("systemctl", "is-enabled", "homeport-upgrade", check=False).returncode != 0


# --- what is refused before anything is changed


def test_a_wheel_that_is_not_homeports_is_refused_and_nothing_is_changed(homeport: Upgradable) -> None:
    pi = homeport.pi
    before, run = units(homeport), pi.run("systemctl", "show", "--property=InvocationID", "homeport").stdout
    (other,) = pi.run("sh", "-c", f"ls {WHEELS}/psutil*.whl").stdout.split()
    for path, said in (
        (other, "not one of homeport"),
        (CONFIG, "is no wheel"),
        ("/root/none.whl", "No such file"),
    ):
        done = pi.run("homeport", "install", "--wheel", path, check=False)
        assert done.returncode == 2
        assert "[wheel-refused]" in done.stderr
        assert said in done.stderr
    assert units(homeport) == before
    settled(homeport, "0.1.0")
    assert pi.run("systemctl", "show", "--property=InvocationID", "homeport").stdout == run


def test_the_same_version_again_changes_nothing(homeport: Upgradable) -> None:
    done = upgrade(homeport, "0.1.0")
    assert done.returncode == 0
    assert "Nothing had to be changed." in done.stdout


def test_a_dry_run_changes_nothing(homeport: Upgradable) -> None:
    done = upgrade(homeport, "0.1.1", "--dry-run")
    assert done.stdout.endswith("Nothing was changed.\n")
    assert "0.1.1" not in programs(homeport)
    settled(homeport, "0.1.0")


def test_nobody_else_installs_meanwhile(homeport: Upgradable) -> None:
    command = ("homeport", "install", "--wheel", homeport.wheel("0.1.1"))
    done = homeport.pi.run("flock", "/var/lib/homeport-upgrade/agent.lock", *command, check=False)
    assert done.returncode == 1
    assert "[upgrade-pending]" in done.stderr
    assert "0.1.1" not in programs(homeport)


def test_an_upgrade_starts_the_agent_whatever_else_is_asked_for(homeport: Upgradable) -> None:
    done = upgrade(homeport, "0.1.1", "--no-start")
    assert done.returncode == 2
    assert "--wheel goes with" in done.stderr


def test_only_its_unit_goes_on_with_an_upgrade(homeport: Upgradable) -> None:
    done = homeport.pi.run("homeport", "install", "--go-on", check=False)
    assert done.returncode == 1
    assert "only homeport-upgrade.service goes on" in done.stderr


def test_a_program_that_does_not_run_is_refused_while_the_old_one_serves(homeport: Upgradable) -> None:
    before = homeport.pi.run("systemctl", "show", "--property=InvocationID", "homeport").stdout
    done = upgrade(homeport, "0.1.5")
    assert done.returncode == 1
    assert "[version-refused]" in done.stderr
    assert homeport.pi.run("systemctl", "show", "--property=InvocationID", "homeport").stdout == before
    assert programs(homeport) == ["0.1.0"]
    settled(homeport, "0.1.0")


def test_the_program_that_runs_is_never_replaced_under_its_feet(homeport: Upgradable) -> None:
    """Its directory has the name of another version, since somebody used pip in it."""
    pi = homeport.pi
    upgrade(homeport, "0.1.5")  # from now on there is a directory for each version
    pi.run("sh", "-ec", "cd /opt/homeport.d; mv 0.1.0 0.1.1; ln -sfn /opt/homeport.d/0.1.1 /opt/homeport")
    done = upgrade(homeport, "0.1.1")
    pi.run("sh", "-ec", "cd /opt/homeport.d; mv 0.1.1 0.1.0; ln -sfn /opt/homeport.d/0.1.0 /opt/homeport")
    assert done.returncode == 1
    assert "runs from /opt/homeport.d/0.1.1 itself" in done.stderr
    settled(homeport, "0.1.0")


def test_pips_failure_is_told_while_the_old_one_serves(homeport: Upgradable) -> None:
    command = ("env", "PIP_NO_INDEX=1", "homeport", "install", "--wheel", homeport.wheel("0.1.1"))
    done = homeport.pi.run(*command, check=False)
    assert done.returncode == 1
    assert "[wheel-not-installed]" in done.stderr
    assert "No matching distribution" in done.stderr
    assert programs(homeport) == ["0.1.0"]
    settled(homeport, "0.1.0")


# --- what does not come up

BAD = {
    "0.1.2": "it ended 3 times",
    "0.1.3": "did not become ready",
    "0.1.4": "it ended 3 times",
    "0.1.7": "planted: it cannot be installed",
    "0.1.8": "it ended 3 times",
}
"""What is told of each."""


@pytest.mark.parametrize(
    "version", ["0.1.4", *(pytest.param(each, marks=LONG) for each in ("0.1.2", "0.1.3", "0.1.7", "0.1.8"))]
)
def test_what_does_not_come_up_returns_within_two_minutes(homeport: Upgradable, version: str) -> None:
    """State, deployments and deliveries as before; the service never blinks."""
    known, told, run = history(homeport), units(homeport), service(homeport)
    began = time.monotonic()
    with homeport.watched() as answers:
        done = upgrade(homeport, version)
        took = time.monotonic() - began
        homeport.healthy()
    assert done.returncode == 1
    assert "[upgrade-returned]" in done.stderr
    assert BAD[version] in done.stderr
    settled(homeport, "0.1.0")
    print(f"{version}: {last(homeport)['seconds']} s from stop to the old one's answer, {took:.1f} s in all")
    assert last(homeport)["seconds"] < LIMIT
    assert history(homeport) == known
    assert units(homeport) == told
    assert service(homeport) == run
    assert set(answers) == {"200"}
    assert programs(homeport) == ["0.1.0"]
    damaged = homeport.pi.run("ls", f"{STATE}/state.db.damaged", check=False).returncode == 0
    assert damaged is (version == "0.1.8"), "what a new version has damaged is kept, and nothing else"
    found = homeport.pi.run("homeport", "doctor", check=False).stdout
    assert f"{version} did not come up" in found
    deploys(homeport, f"after-{version}")


# --- what does


def test_a_good_version_serves_with_the_state_of_before_and_a_copy_of_it(homeport: Upgradable) -> None:
    """A deployment that is under way goes on after it: F92."""
    pi, run = homeport.pi, service(homeport)
    known = history(homeport)
    under_way = homeport.push("under-way", slow="until it is told")
    done = upgrade(homeport, "0.1.1")
    assert done.returncode == 0, done.stdout + done.stderr
    settled(homeport, "0.1.1")
    copy = f"{STATE}/state.db.before-0.1.1"
    assert copy in done.stdout
    assert pi.run("stat", "--format=%U %a", copy).stdout == "homeport 600\n"
    schemas = pi.run("python3", "-c", SCHEMAS, copy, f"{STATE}/state.db", user="homeport").stdout
    assert schemas.split() == [str(len(MIGRATIONS)), str(len(MIGRATIONS) + 1)]
    assert service(homeport) == run
    assert homeport.deployment(under_way)["state"] == "building", (
        "it was under way when the agent was stopped"
    )
    pi.run("touch", GO_ON)
    ended = homeport.ended(under_way)
    assert ended["state"] == "succeeded", ended
    deployments, deliveries = history(homeport)
    assert deployments[1:] == known[0]
    assert deliveries[1:] == known[1]
    assert programs(homeport) == ["0.1.0", "0.1.1"]
    assert "upgrade: none is under way" in pi.run("homeport", "doctor", check=False).stdout


@LONG
def test_a_version_that_cannot_read_the_state_is_away_again(homeport: Upgradable) -> None:
    """The kept program of the version before, which stays; what was written since is still there."""
    assert upgrade(homeport, "0.1.1").returncode == 0
    deploys(homeport, "since")
    known = history(homeport)
    done = upgrade(homeport, "0.1.0")
    assert done.returncode == 1
    assert "[upgrade-returned]" in done.stderr
    settled(homeport, "0.1.1")
    assert history(homeport) == known
    assert programs(homeport) == ["0.1.0", "0.1.1"]


# --- a power cut

INSTANTS = {
    # when the plug is pulled -> a file that is there then
    "installing": "opt/homeport.d/0.1.4/pyvenv.cfg",
    "handing over": "etc/systemd/system/homeport-upgrade.service",
}


LOSSY = {"plain": False, "lossy": True}
"""Whether a cut takes with it what had not reached the disk."""


@pytest.mark.parametrize(
    ("instant", "how"),
    [
        ("handing over", "plain"),
        pytest.param("handing over", "lossy", marks=LONG),
        pytest.param("installing", "lossy", marks=LONG),
    ],
)
def test_a_power_cut_before_it_is_handed_over_leaves_the_old_version(
    homeport: Upgradable, instant: str, how: str
) -> None:
    """What is left of it goes with the next `install`."""
    known, told, looked_for = history(homeport), units(homeport), homeport.pi.root / INSTANTS[instant]
    cut(homeport, "0.1.4", looked_for.exists, lossy=LOSSY[how])
    settled(homeport, "0.1.0")
    assert history(homeport) == known
    homeport.pi.run("homeport", "install")
    assert units(homeport) == told


IN_CI = ("0.1.1", "switching", "lossy")
CUTS = [
    (version, phase, how)
    for version, phases in {
        "0.1.1": ("prepared", "switching", "starting"),
        "0.1.4": ("prepared", "switching", "starting", "returning"),
    }.items()
    for phase in phases
    for how in LOSSY
]


@pytest.mark.parametrize(
    ("version", "phase", "how"), [pytest.param(*one, marks=() if one == IN_CI else LONG) for one in CUTS]
)
def test_after_a_power_cut_it_goes_on_by_itself(
    homeport: Upgradable, version: str, phase: str, how: str
) -> None:
    """A good version ends up serving, a bad one is away again."""
    known, mark = history(homeport), homeport.pi.root / MARK
    cut(homeport, version, lambda: phase_of(mark) == phase, lossy=LOSSY[how])
    settled(homeport, "0.1.1" if version == "0.1.1" else "0.1.0")
    assert history(homeport) == known
    deploys(homeport, f"after-{phase}")


def phase_of(mark: Path) -> str:
    with suppress(FileNotFoundError, ValueError):
        return str(json.loads(mark.read_text())["phase"])
    return ""


def begin(homeport: Upgradable, version: str) -> None:
    """Root types it, and looks elsewhere."""
    command = (*PIP, "homeport", "install", "--wheel", homeport.wheel(version))
    homeport.pi.run("systemd-run", "--unit=root-types", "--collect", *command)


def cut(homeport: Upgradable, version: str, instant: Callable[[], bool], *, lossy: bool) -> None:
    """Pulls the plug in an upgrade, at this instant, and waits for what becomes of it."""
    pi = homeport.pi
    begin(homeport, version)
    limit = time.monotonic() + 200
    while not instant():
        assert time.monotonic() < limit, pi.journal("root-types")
        time.sleep(0.002)
    pi.freeze()
    pi.power_cut(lossy=lossy)
    wait_for("the end of the upgrade", lambda: over(homeport), LIMIT)
    homeport.healthy()


def over(homeport: Upgradable) -> bool:
    """Nothing is pending, and the unit has ended."""
    done = homeport.pi.run("systemctl", "is-active", "homeport-upgrade", check=False)
    return done.stdout.strip() not in ("active", "activating") and not (homeport.pi.root / MARK).exists()


# --- what came up, and then failed


@LONG
def test_what_a_new_version_has_accepted_is_not_lost_by_a_return(homeport: Upgradable) -> None:
    """It has changed the form of the state, taken a delivery, and then failed: it stays, and the next one has both."""
    known = history(homeport)
    begin(homeport, "0.1.6")
    wait_for("the new version", lambda: running(homeport) == "0.1.6", 100)
    answer = homeport.deliver(homeport.commit("accepted"))
    assert answer.status == 202
    wait_for("the end of the upgrade", lambda: over(homeport), LIMIT)
    assert last(homeport)["phase"] == "stayed"
    assert "upgrade: from" in homeport.pi.run("homeport", "doctor", check=False).stdout
    done = upgrade(homeport, "0.1.1")
    assert done.returncode == 0, done.stdout + done.stderr
    settled(homeport, "0.1.1")
    deployments, deliveries = history(homeport)
    assert deliveries[1:] == known[1]
    assert deployments[0].startswith(answer.document["deployments"][0]["id"])


# --- away with it


def test_uninstall_takes_away_what_an_upgrade_has_noted(homeport: Upgradable) -> None:
    assert upgrade(homeport, "0.1.5").returncode == 1
    said = homeport.pi.run("homeport", "uninstall").stdout
    assert homeport.pi.run("ls", "/var/lib/homeport-upgrade", check=False).returncode != 0
    assert "/opt/homeport.d" in said
    assert homeport.service() is not None
