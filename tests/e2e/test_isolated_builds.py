"""Builds as a user of their own, in a unit of their own, on a Pi that `homeport install` has prepared."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.documented import CREDENTIALS, UNIT_TEXT
from tests.e2e.installed import CONFIG, PORT, REPOSITORY, Installed
from tests.e2e.pi import LIMITED, Pi
from tests.e2e.test_install import POLKIT_AWAY, POLKIT_BACK
from tests.world import SECRET, wait_for

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

PI = ("--docker-arg", "--network=none")

BUILD = "homeport-build@app.service"
LIMITS = "[Service]\nMemoryHigh=infinity\nMemoryMax=64M\n"
"""As a user writes it with `systemctl edit`: a Pi's share of memory is too much to eat in a test."""
SCRIPT = "test ! -e build.sh || sh -e ./build.sh"
"""The configured command: each version brings what it does."""


@pytest.fixture(scope="module")
def homeport(pi: Pi, wheelhouse: Path) -> Installed:
    """Installed by its own command, with one service that has a unit, a user and a build; a first version is live."""
    made = Installed(pi)
    made.install_command(wheelhouse)
    pi.run("/opt/homeport/bin/homeport", "install")
    pi.run("useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", "app")
    pi.put("/etc/systemd/system/app.service", UNIT_TEXT)
    pi.put(f"/etc/systemd/system/{BUILD}.d/limits.conf", LIMITS)
    made.make_repository()
    pi.put(f"{CREDENTIALS}/webhook-secret", SECRET, mode=0o600)
    made.settings["github"] = {"webhook_secrets": [{"credential": "webhook-secret"}]}
    service = made.settings["services"]["app"]
    service["runtime"] = {"kind": "systemd", "unit": "app.service", "environment": {"PORT": str(PORT)}}
    service["source"]["repository"] = REPOSITORY
    service["deploy"]["build"] = {"commands": [SCRIPT], "timeout": "8s", "environment": {"FOR": "the build"}}
    service["deploy"]["keep_releases"] = 1
    service["health"] |= {"soak": "0s", "successes": 1}
    made.settings["services"]["other"] = {
        "source": {"repository": "/var/lib/git/other.git", "poll": "0s"},
        "runtime": {"kind": "process", "command": ["/bin/sleep", "1d"]},
    }
    configure(made)
    ended = made.deploy("first", build__sh="echo built > made")
    assert ended["state"] == "succeeded", log(made, ended)
    return made


def configure(homeport: Installed) -> str:
    homeport.pi.put(CONFIG, yaml.safe_dump(homeport.settings), mode=0o640)
    return homeport.pi.run("homeport", "install").stdout


def log(homeport: Installed, ended: dict[str, Any]) -> str:
    return f"{ended}\n{homeport.pi.run('homeport', 'logs', ended['id'], check=False).stdout}"


def build(homeport: Installed, version: str, script: str) -> tuple[dict[str, Any], str]:
    """Deploys a version with this build; how it ended, and what was told of it."""
    ended = homeport.deploy(version, build__sh=script)
    return ended, log(homeport, ended)


def serves(homeport: Installed) -> str:
    """Which version answers; "" if none does."""
    answer = homeport.service()
    return str(answer["version"]) if answer else ""


def invocation(homeport: Installed, unit: str) -> str:
    return homeport.pi.run("systemctl", "show", "--property=InvocationID", unit).stdout


def building(homeport: Installed, identity: str, words: str) -> None:
    """Waits until the log of a deployment that is still building has these words."""
    said = ("homeport", "--json", "logs", identity)
    wait_for(f"{words} in the log", lambda: words in homeport.pi.run(*said, check=False).stdout)
    assert homeport.deployment(identity)["state"] == "building"


# --- what a build is, and what it sees


def test_a_build_runs_as_its_own_user_with_nothing_of_the_agents(homeport: Installed) -> None:
    """R-SD-4, R-SD-12. Its output is told as that of any other build."""
    ended, told = build(homeport, "who", "id -un; id -Gn; pwd; nice; touch $HOME/kept; env | sort")
    assert ended["state"] == "succeeded", told
    lines = told.split("$ test")[1].splitlines()
    place = f"/srv/app/releases/{ended['release']}"
    assert lines[1:5] == ["homeport-build", "homeport-build", place, "10"]
    seen = [line.strip() for line in lines[5:] if "=" in line]
    assert [line.partition("=")[0] for line in seen] == [
        "FOR", "HOME", "HOMEPORT_REVISION", "HOMEPORT_SERVICE", "LANG", "PATH", "PORT", "PWD",
    ]  # fmt: skip
    assert "HOME=/var/cache/homeport-build/app" in seen
    assert "FOR=the build" in seen


REFUSED = (
    "cat /etc/homeport/config.yaml", "ls /etc/homeport", f"cat {CREDENTIALS}/webhook-secret", "ls /var/lib/homeport",
    "ls /srv/app/mirror.git", "ls /srv/app/releases", "ls -d /srv/app/current/.", "touch /srv/app/x",
    "touch /srv/app/releases/x", "ls /srv/other/releases", "touch /etc/homeport-build/app.json",
    "systemctl start app.service", "systemctl start homeport-build@other.service", "sudo -n true",
)  # fmt: skip
"""For the user that builds, wherever it is."""
REFUSED_INSIDE = (
    "curl --fail --max-time 5 --unix-socket /run/homeport/agent.sock http://localhost/health",
    "ls /srv/other", "ls /srv/app/shared", "touch /var/cache/x", "touch /home/me/x", "ls /run/dbus",
    "cat /etc/homeport-build/other.json", "ls /var/cache/homeport-build/other", "ls /run/homeport-build/other",
    "ls /run/homeport-migrate/other",
)  # fmt: skip
"""And within its unit."""
_OF_ANOTHER = """
install -d -o homeport-build -g homeport-build /var/cache/homeport-build/other /run/homeport-build/other
install -d -o app -g homeport-build -m 750 /run/homeport-migrate/other
"""
"""What systemd makes when another service is built and migrated."""


def test_a_build_is_refused_all_that_is_not_its_own(homeport: Installed) -> None:
    """Secrets, state, socket, data, other services, other releases; the guard itself: what is its own."""
    homeport.pi.run("sh", "-ec", _OF_ANOTHER)
    tries = "".join(f"{words} >&2 && echo 'OPEN: {words}'\n" for words in REFUSED + REFUSED_INSIDE)
    own = "cat /etc/homeport-build/app.json >&2\ntouch here /tmp/there $HOME/kept\necho all tried\n"
    ended, told = build(homeport, "nosy", f"set +e\n{tries}set -e\n{own}")
    assert ended["state"] == "succeeded", told
    assert "OPEN: " not in told.replace("echo 'OPEN: ", "")
    assert "all tried" in told


@pytest.mark.parametrize("command", REFUSED)
def test_its_user_is_refused_the_same_outside_of_the_unit(homeport: Installed, command: str) -> None:
    done = homeport.pi.run(*command.split(), user="homeport-build", check=False)
    assert done.returncode != 0, done.stdout


def test_what_was_built_is_closed_to_who_built_it_and_read_by_the_service(homeport: Installed) -> None:
    """Also what a program made without rights for anybody else."""
    script = (
        "umask 077; mkdir -p a/b; echo deep > a/b/c; mkdir -m 700 d; echo x > d/e; chmod 500 d; chmod 755 a"
    )
    ended, told = build(homeport, "made", script)
    assert ended["state"] == "succeeded", told
    pi, place = homeport.pi, f"/srv/app/releases/{ended['release']}"
    assert pi.run("stat", "--format=%U", f"{place}/a/b/c", f"{place}/serve.py").stdout.split() == [
        "homeport-build", "homeport",
    ]  # fmt: skip
    assert pi.run("cat", "/srv/app/current/a/b/c", user="app").stdout == "deep\n"
    assert pi.run("cat", f"{place}/a/b/c", user="homeport-build", check=False).returncode != 0
    assert pi.run("touch", "/srv/app/current/a/x", user="app", check=False).returncode != 0
    assert "homeport-build" not in pi.run("getfacl", "-p", "/srv/app/shared/data").stdout
    build(homeport, "after", "true")
    build(homeport, "after that", "true")
    assert ended["release"] not in pi.run("ls", "/srv/app/releases").stdout, "the agent has pruned it"


LEFT = """
mkdir -p closed/in; touch closed/in/x; setfacl -m u:homeport:--- closed/in closed
mkfifo .homeport-release.json .homeport-environment
rm -rf /run/homeport-build/app/run; mkdir -p /run/homeport-build/app/run/in
"""
"""All that could keep the agent from removing the release, from judging it, and from building the next one."""


def test_nothing_that_a_build_leaves_is_in_the_next_ones_way(homeport: Installed) -> None:
    ended, told = build(homeport, "hostile", LEFT)
    assert (ended["state"], ended["reason"], ended["fault"]) == ("failed", "release-damaged", "commit"), told
    after, told = build(homeport, "after it", "true")
    assert after["state"] == "succeeded", told
    assert ended["release"] not in homeport.pi.run("ls", "/srv/app/releases").stdout


# --- who gets at what is the service's


SWAP = """
import os, time
os.chdir('/srv/app/shared')
while True:
    os.rename('swapped', 'x'); os.symlink('/var/lib/homeport', 'swapped'); time.sleep(0.001)
    os.unlink('swapped'); os.rename('x', 'swapped'); time.sleep(0.001)
"""


def test_access_is_given_to_the_services_directory_and_nowhere_else(homeport: Installed) -> None:
    """While the service's own user moves things about there: the agent's state stays closed to it."""
    pi = homeport.pi
    pi.run("sh", "-ec", "cd /srv/app/shared; mkdir swapped; echo x > file", user="homeport")
    entrust = "for i in $(seq 20); do /opt/homeport/bin/python -I -m agent.system.entrust /srv/app app; done"
    pi.run("systemd-run", "--quiet", "--unit=swapping", "--uid=app", "/usr/bin/python3", "-c", SWAP)
    try:
        pi.run("sh", "-ec", entrust, user="homeport")
        assert pi.run("systemctl", "is-active", "swapping").stdout == "active\n"
    finally:
        pi.run("systemctl", "stop", "swapping")
    assert "app" not in pi.run("getfacl", "-p", "/var/lib/homeport").stdout
    pi.run("sh", "-ec", "echo y >> /srv/app/shared/file; test ! -w /srv/app/current/serve.py", user="app")


# --- how it ends


def test_a_build_that_fails_says_how_and_with_what_output(homeport: Installed) -> None:
    before = serves(homeport)
    ended, told = build(homeport, "status", "echo out; echo err >&2; exit 3")
    assert (ended["state"], ended["reason"], ended["fault"]) == ("failed", "build-failed", "commit")
    assert "ended with status 3" in told
    assert "\nout\nerr\n" in told
    assert serves(homeport) == before


@LIMITED
def test_a_build_that_eats_memory_is_ended_and_nobody_else(homeport: Installed) -> None:
    before, agent, service = serves(homeport), invocation(homeport, "homeport"), invocation(homeport, "app")
    ended, told = build(homeport, "hungry", "python3 -c 'len(str(1) * (200 << 20))'")
    assert (ended["state"], ended["reason"]) == ("failed", "build-failed")
    assert f"it took more memory than `MemoryMax=` of {BUILD}" in told
    assert (serves(homeport), invocation(homeport, "homeport"), invocation(homeport, "app")) == (
        before, agent, service,
    )  # fmt: skip


def test_a_build_without_an_end_is_ended_at_its_deadline_with_all_that_it_began(homeport: Installed) -> None:
    before = serves(homeport)
    script = "echo begun; env -i setsid sleep 1000 & sh -c 'trap \"\" TERM; sleep 1001; sleep 1001'"
    identity = homeport.push("endless", build__sh=script)
    building(homeport, identity, "begun")  # told while it runs
    ended = homeport.ended(identity)
    assert (ended["state"], ended["reason"]) == ("failed", "build-timeout"), log(homeport, ended)
    assert "longer than 8 seconds" in log(homeport, ended)
    assert "sleep" not in homeport.pi.run("ps", "-u", "homeport-build", "-o", "comm=", check=False).stdout
    assert serves(homeport) == before


def test_a_daemon_that_a_good_build_began_is_ended(homeport: Installed) -> None:
    ended, told = build(homeport, "daemon", "env -i setsid sleep 1002 & echo done")
    assert ended["state"] == "succeeded", told
    assert homeport.pi.run("ps", "-u", "homeport-build", "-o", "comm=", check=False).stdout == ""


SECOND_TIME = """
echo x >> $HOME/times
test $(wc -l < $HOME/times) -gt 1 && rm $HOME/times && exit 0
mkdir -p closed/in && touch closed/in/x && chmod 0 closed && echo waits
sleep 1003
"""
"""Hangs the first time, in a release that only its own user could remove."""


@pytest.mark.parametrize("end", ["kill", "restart", "cut"])
def test_a_build_that_is_interrupted_is_done_anew(homeport: Installed, end: str) -> None:
    """R-SD-7, R-SD-12: SIGKILL of the agent, an orderly restart, a power cut."""
    identity = homeport.push(f"interrupted by {end}", build__sh=SECOND_TIME)
    building(homeport, identity, "waits")
    before = invocation(homeport, BUILD)
    if end == "kill":
        homeport.pi.run("systemctl", "kill", "--signal=KILL", "homeport")
    elif end == "restart":
        homeport.pi.run("systemctl", "restart", "homeport")
    else:
        homeport.pi.power_cut()
    ended = homeport.ended(identity)
    assert ended["state"] == "succeeded", log(homeport, ended)
    assert invocation(homeport, BUILD) != before
    assert homeport.pi.run("ps", "-u", "homeport-build", "-o", "comm=", check=False).stdout == ""
    assert "closed" not in homeport.pi.run("ls", "/srv/app/current/").stdout


# --- what it may take


@LIMITED
def test_a_build_gives_way_to_the_service(homeport: Installed) -> None:
    """Of the processor, where both want it: weights count among neighbours, so they must be some."""
    identity = homeport.push("busy", build__sh="echo busy; timeout 4 sh -c 'while :; do :; done' || true")
    building(homeport, identity, "busy")
    shown = [
        homeport.pi.run("systemctl", "show", "--value", "--property=ControlGroup", unit).stdout.strip()
        for unit in (BUILD, "app.service")
    ]
    assert Path(shown[0]).parent == Path(shown[1]).parent
    figures = "cat /sys/fs/cgroup/cpu*$1/cpu.shares 2>/dev/null || cat /sys/fs/cgroup$1/cpu.weight"
    weights = [int(homeport.pi.run("sh", "-c", figures, "sh", group).stdout.split()[0]) for group in shown]
    assert weights[0] * 4 < weights[1]
    assert homeport.ended(identity)["state"] == "succeeded"


# --- what it may run


def test_a_command_that_root_has_not_allowed_is_not_run(homeport: Installed) -> None:
    """Not before `homeport install`; then it is, without a restart."""
    pi, agent = homeport.pi, invocation(homeport, "homeport")
    homeport.settings["services"]["app"]["deploy"]["build"]["commands"] = [SCRIPT, "echo more"]
    pi.put(CONFIG, yaml.safe_dump(homeport.settings), mode=0o640)
    pi.run("chgrp", "homeport", CONFIG)
    pi.run("homeport", "reload")
    ended, _ = build(homeport, "changed", "true")
    assert (ended["state"], ended["reason"], ended["fault"]) == ("failed", "build-not-prepared", "world")
    assert "sudo homeport install" in ended["hint"]
    assert "write /etc/homeport-build/app.json" in pi.run("homeport", "doctor", check=False).stdout
    assert "read its configuration again" in pi.run("homeport", "install").stdout
    again = homeport.deploy("changed again")
    assert again["state"] == "succeeded"
    assert "\nmore\n" in log(homeport, again)
    assert invocation(homeport, "homeport") == agent


def test_a_unit_runs_what_root_wrote_whatever_it_is_asked_for(homeport: Installed) -> None:
    """The agent's user, taken over: another release's name, another act, no revision."""
    pi = homeport.pi
    for link, request in (
        ("../../../etc", {}), ("releases/9-fffffff", {}), ("current", {}), ("", {"recipe": "0" * 64}),
        ("", {"act": "sh"}), ("", {"revision": "$(id)"}),
    ):  # fmt: skip
        asked = {"act": "build", "revision": "a" * 40, "run": "x"} | request
        script = 'ln -sfn "${1:-$(readlink current)}" .building; cat > .building-request; chmod 644 .building-request'
        pi.run("sh", "-c", f"cd /srv/app && {script}", "sh", link, user="homeport", given=json.dumps(asked))
        done = pi.run("systemctl", "start", BUILD, user="homeport", check=False)
        assert done.returncode != 0, (link, request)
    pi.run("systemctl", "reset-failed", BUILD)


@pytest.mark.parametrize(
    "command",
    ["start homeport-build@stranger", "start homeport-build@", "enable homeport-build@app", "kill homeport-build@app"],
)  # fmt: skip
def test_the_agents_user_is_refused_other_builds_and_other_verbs(homeport: Installed, command: str) -> None:
    """R-SD-2."""
    assert homeport.pi.run("systemctl", *command.split(), user="homeport", check=False).returncode != 0


MIGRATE = "homeport-migrate@app.service"
DATA = "/srv/app/shared/data"


@pytest.fixture
def migrating(homeport: Installed) -> Iterator[Installed]:
    """The migration is what a version brings, too."""
    deploy = homeport.settings["services"]["app"]["deploy"]
    deploy["migrate"] = ["sh -e ./migrate.sh"]
    configure(homeport)
    yield homeport
    del deploy["migrate"]
    configure(homeport)


def migrate(homeport: Installed, version: str, script: str) -> tuple[dict[str, Any], str]:
    ended = homeport.deploy(version, build__sh="true", migrate__sh=script)
    return ended, log(homeport, ended)


def test_a_migration_runs_as_the_services_user_and_sees_data_and_release_alone(migrating: Installed) -> None:
    closed = "".join(f"{words} >&2 && echo 'OPEN: {words}'\n" for words in REFUSED_MIGRATION)
    script = f"id -un; pwd; echo new > data/by-migration; cat serve.py > /dev/null\nset +e\n{closed}echo all tried\n"
    ended, told = migrate(migrating, "migrates", script)
    assert ended["state"] == "succeeded", told
    assert f"\napp\n/srv/app/releases/{ended['release']}\n" in told
    assert "OPEN: " not in told
    assert "all tried" in told
    assert migrating.pi.run("stat", "--format=%U", f"{DATA}/by-migration").stdout == "app\n"


REFUSED_MIGRATION = (
    "cat /etc/homeport/config.yaml", f"cat {CREDENTIALS}/webhook-secret", "ls /var/lib/homeport", "touch x",
    "touch /srv/app/x", "ls /srv/other", "ls /run/homeport", "ls /run/dbus", "touch /var/cache/homeport-build/app/x",
    "cat /etc/homeport-build/other.json", "ls /run/homeport-build/app",
)  # fmt: skip


def test_a_migration_that_fails_says_how_and_nothing_was_switched(migrating: Installed) -> None:
    before = serves(migrating)
    ended, told = migrate(migrating, "fails to migrate", "echo why; exit 5")
    assert (ended["state"], ended["reason"], ended["fault"]) == ("failed", "migrate-failed", "commit")
    assert "ended with status 5" in told
    assert "\nwhy\n" in told
    assert serves(migrating) == before


@pytest.mark.parametrize("end", ["kill --signal=KILL", "restart"])
def test_a_migration_ends_with_its_agent_and_is_done_anew(migrating: Installed, end: str) -> None:
    """R-SD-7. Also if that one was killed: what comes then finds the data at rest."""
    script = f"echo x >> $HOME/m; test $(wc -l < $HOME/m) -gt 1 && rm $HOME/m && exit 0; touch {DATA}/waits; sleep 1004"
    identity = migrating.push(f"migration and {end}", build__sh="true", migrate__sh=script)
    pi = migrating.pi
    wait_for("the migration", lambda: pi.run("ls", f"{DATA}/waits", check=False).returncode == 0)
    pi.run("systemctl", *end.split(), "homeport")
    state = ("systemctl", "show", "--value", "--property=ActiveState", MIGRATE)
    if end != "restart":
        wait_for("its end", lambda: pi.run(*state).stdout.strip() in ("inactive", "failed"), 4)
    ended = migrating.ended(identity)
    assert ended["state"] == "succeeded", log(migrating, ended)
    pi.run("rm", f"{DATA}/waits")


def test_what_is_reused_is_read_by_later_builds_and_not_written(homeport: Installed) -> None:
    pi, deploy = homeport.pi, homeport.settings["services"]["app"]["deploy"]
    deploy["build"] |= {
        "commands": ["mkdir venv; echo kept > venv/x"],
        "always": ["cat venv/x; echo y > venv/x || echo closed"],
        "reuse": {"key": ["serve.py"], "paths": ["venv"]},
    }
    configure(homeport)
    try:
        first, second = homeport.deploy("reuse 1"), homeport.deploy("reuse 2")
        assert (first["state"], second["state"]) == ("succeeded", "succeeded"), log(homeport, second)
        assert f"with venv of {first['release']}" in json.dumps(second["steps"])
        assert "venv/x: Read-only file system\nclosed\n" in log(homeport, second), (
            "written by its own build only"
        )
        assert pi.run("cat", "/srv/app/current/venv/x", user="app").stdout == "y\n"
    finally:
        del deploy["build"]["reuse"], deploy["build"]["always"]
        deploy["build"]["commands"] = [SCRIPT]
        configure(homeport)


def test_without_polkit_a_build_is_started_by_sudo(homeport: Installed) -> None:
    """R-SD-3."""
    pi = homeport.pi
    pi.run("sh", "-ec", POLKIT_AWAY)
    try:
        configure(homeport)
        ended, told = build(homeport, "by sudo", "id -un")
        identity = homeport.push("by sudo, endless", build__sh="sleep 1005")
        stopped = homeport.ended(identity)
    finally:
        pi.run("sh", "-ec", POLKIT_BACK)
        configure(homeport)
    assert ended["state"] == "succeeded", told
    assert "\nhomeport-build\n" in told
    assert stopped["reason"] == "build-timeout", log(homeport, stopped)


def test_who_wants_it_builds_in_the_agents_unit(homeport: Installed) -> None:
    build_options = homeport.settings["services"]["app"]["deploy"]["build"]
    build_options["isolated"] = False
    said = configure(homeport)
    try:
        assert "remove /etc/homeport-build/app.json" in said
        ended, told = build(homeport, "inside", "id -un")
    finally:
        del build_options["isolated"]
        configure(homeport)
    assert ended["state"] == "succeeded", told
    assert "\nhomeport\n" in told


def test_the_doctor_finds_nothing_wrong(homeport: Installed) -> None:
    """R-MO-7."""
    done = homeport.pi.run("homeport", "doctor", check=False)
    assert done.returncode == 0, done.stdout


def test_uninstall_takes_what_was_made_for_builds_and_install_brings_it_back(homeport: Installed) -> None:
    pi = homeport.pi
    planned = pi.run("homeport", "uninstall", "--purge", "--dry-run").stdout
    for words in ("user homeport-build", "/var/cache/homeport-build", "/etc/homeport-build"):
        assert words in planned
    pi.run("homeport", "uninstall")
    try:
        where = "ls -d /etc/homeport-build /etc/systemd/system/homeport*"
        left = pi.run("sh", "-c", where, check=False).stdout.split()
        assert left == [f"/etc/systemd/system/{BUILD}.d"], "what a person wrote there"
        assert serves(homeport) != ""
    finally:
        pi.run("homeport", "install")
    ended, told = build(homeport, "brought back", "id -un")
    assert "\nhomeport-build\n" in told, ended
