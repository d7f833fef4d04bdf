"""`homeport install`, `doctor` and `uninstall` as root types them on a fresh Pi without a network."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.core.codes import CODES
from tests.e2e.documented import CREDENTIALS, UNIT_TEXT, Documented
from tests.e2e.installed import CONFIG, Installed
from tests.e2e.pi import Pi
from tests.world import SECRET, wait_for

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]  # the first one on a machine makes the Pi's image

PI = ("--docker-arg", "--network=none")

RULE = "/etc/polkit-1/rules.d/50-homeport.rules"
DROP_IN = "/etc/systemd/system/homeport.service.d/10-install.conf"
_POLKITD, _ACTIVATION = "/usr/lib/polkit-1/polkitd", "org.freedesktop.PolicyKit1.service"
_BY_NAME = f"/usr/share/dbus-1/system-services/{_ACTIVATION}"
POLKIT_AWAY = (
    f"mv {_POLKITD} {_POLKITD}.away; mv {_BY_NAME} /root; systemctl stop polkit; systemctl reload dbus"
)
FIRST_FILE_ONLY = """#!/bin/sh
case $2 in *rwX*) /usr/bin/setfacl "$1" "$2" -- "$4"; exit 1;; esac
exec /usr/bin/setfacl "$@"
"""
POLKIT_SAYS_NO = """
polkit.addRule(function(action, subject) {
    return action.lookup("unit") === "app.service" ? polkit.Result.NO : polkit.Result.NOT_HANDLED;
});
"""
POLKIT_BACK = f"mv {_POLKITD}.away {_POLKITD}; mv /root/{_ACTIVATION} {_BY_NAME}; systemctl reload dbus"


BUILT = """
services:
  built:
    source: {repository: /srv/built.git}
    runtime: {kind: process, command: [/bin/true]}
"""


class First:
    """What the very first `install` said and left, before there was a service."""

    def __init__(self, pi: Pi) -> None:
        self.planned = pi.run("/opt/homeport/bin/homeport", "install", "--dry-run").stdout
        self.users_then = pi.get("/etc/passwd")
        self.there_then = pi.run("ls", "/etc/homeport", check=False).returncode == 0
        self.said = pi.run("/opt/homeport/bin/homeport", "install").stdout
        self.secret = pi.get(f"{CREDENTIALS}/webhook-secret").strip()
        self.public = pi.get(f"{CREDENTIALS}/deploy-key.pub").strip()
        self.status = pi.run("systemctl", "status", "homeport", "--no-pager").stdout
        self.config = pi.get(CONFIG)
        self.purged = self._purged(pi)
        pi.run("/opt/homeport/bin/homeport", "install")

    def _purged(self, pi: Pi) -> str:
        """What `uninstall --purge` leaves, with the users of builds as well."""
        pi.run("tee", CONFIG, given=self.config.replace("\nservices: {}\n", BUILT))
        pi.run("homeport", "install", "--no-start")
        assert "homeport-build" in pi.get("/etc/group")
        pi.run("homeport", "uninstall", "--purge")
        places = (
            "/etc/homeport* /var/*/homeport* /etc/systemd/system/homeport* /etc/polkit-1/rules.d/*homeport*"
        )
        files = pi.run("sh", "-c", f"ls -d {places}; rm -r /srv/built", check=False).stdout
        return files + pi.run("sh", "-c", "grep homeport /etc/passwd /etc/group", check=False).stdout


@pytest.fixture(scope="module")
def first(pi: Pi, wheelhouse: Path) -> First:
    """The command is there and nothing else; then it is installed."""
    Installed(pi).install_command(wheelhouse)
    return First(pi)


@pytest.fixture(scope="module")
def homeport(pi: Pi, first: First) -> Installed:
    """One service whose unit is the user's; its first version is live. Deliveries are signed with a secret of ours."""
    made = Documented(pi)
    pi.put("/etc/systemd/system/other.service", UNIT_TEXT)
    made.make_service()
    ended = made.deploy("first")
    assert ended["state"] == "succeeded", ended
    return made


# --- the first time


def test_a_dry_run_tells_every_change_and_makes_none(first: First) -> None:
    assert first.planned.endswith("Nothing was changed.\n")
    assert "homeport:" not in first.users_then
    assert not first.there_then
    planned = [line for line in first.planned.splitlines() if line.startswith("make")]
    assert len(planned) == 12
    assert planned == [line for line in first.said.splitlines() if line.startswith("make")]
    for act in ("journald would be restarted", "would start with the machine", "The agent would be started"):
        assert act in first.planned


def test_the_agent_runs_under_systemd_after_one_command(first: First) -> None:
    assert "Active: active (running)" in first.status
    assert "enabled" in first.status
    assert "The agent was started; it is healthy." in first.said


def test_a_webhook_secret_is_made_and_shown(first: First) -> None:
    assert len(bytes.fromhex(first.secret)) == 32
    assert first.secret in first.said


def test_the_deploy_keys_public_half_is_shown(first: First) -> None:
    assert first.public.startswith("ssh-ed25519 ")
    assert first.public in first.said


def test_a_purge_leaves_nothing_of_the_agent(first: First) -> None:
    assert first.purged == ""


def test_who_may_read_what(homeport: Installed) -> None:
    """R-SD-4."""
    looked = homeport.pi.run(
        "stat", "--format=%n %U:%G %a", "/etc/homeport", CONFIG, CREDENTIALS, f"{CREDENTIALS}/webhook-secret",
        f"{CREDENTIALS}/deploy-key", "/srv/app", RULE, "/var/lib/homeport",
    ).stdout.splitlines()  # fmt: skip
    assert looked == [
        "/etc/homeport root:homeport 750", f"{CONFIG} root:homeport 640", f"{CREDENTIALS} root:root 700",
        f"{CREDENTIALS}/webhook-secret root:root 600", f"{CREDENTIALS}/deploy-key root:root 600",
        "/srv/app homeport:homeport 2755", f"{RULE} root:root 644", "/var/lib/homeport homeport:homeport 700",
    ]  # fmt: skip


# --- again


def test_a_second_run_changes_nothing_and_says_so(homeport: Installed) -> None:
    pi = homeport.pi
    before = pi.run("systemctl", "show", "--property=InvocationID", "homeport").stdout
    done = json.loads(pi.run("homeport", "--json", "install").stdout)
    assert done["changes"] == []
    assert done["secrets"] == {}
    assert "Nothing had to be changed." in done["notes"]
    assert pi.run("systemctl", "show", "--property=InvocationID", "homeport").stdout == before
    assert pi.get(f"{CREDENTIALS}/webhook-secret") == SECRET


def test_an_invalid_configuration_changes_nothing(homeport: Installed) -> None:
    pi, right = homeport.pi, homeport.pi.get(CONFIG)
    rule = pi.get(RULE)
    pi.put(CONFIG, right.replace("app.service", "ssh"))
    try:
        done = pi.run("homeport", "install", check=False)
    finally:
        pi.run("tee", CONFIG, given=right)
        pi.run("homeport", "install")  # the mode
    assert done.returncode == 78
    assert "must be a unit's full name" in done.stderr
    assert pi.get(RULE) == rule
    homeport.healthy()  # it may have seen the wrong file meanwhile, and looks again


def test_what_is_refused_is_refused_before_anything_is_changed(homeport: Installed) -> None:
    """A service's directory on a way that somebody else could turn elsewhere; a right that is missing is not given."""
    pi, right = homeport.pi, homeport.pi.get(CONFIG)
    document = yaml.safe_load(right)
    document["services"]["mine"] = document["services"]["app"] | {
        "directory": "/home/me/mine", "runtime": {"kind": "systemd", "unit": "mine.service"},
    }  # fmt: skip
    pi.run("tee", CONFIG, given=yaml.safe_dump(document))
    try:
        done = pi.run("homeport", "install", check=False)
        rule = pi.get(RULE)
    finally:
        pi.run("tee", CONFIG, given=right)
        pi.run("homeport", "install")
    assert done.returncode == 1
    assert "which belongs to me" in done.stderr
    assert "mine.service" not in rule
    homeport.healthy()


def test_a_secret_is_shown_also_if_what_comes_after_it_fails(homeport: Installed) -> None:
    """The next run finds it, and would not show it."""
    pi, place = homeport.pi, "/etc/systemd/journald.conf.d"
    pi.run("sh", "-ec", f"rm {CREDENTIALS}/webhook-secret; mv {place} {place}.away; touch {place}")
    try:
        done = pi.run("homeport", "install", check=False)
        made = pi.get(f"{CREDENTIALS}/webhook-secret").strip()
    finally:
        pi.run("sh", "-ec", f"rm {place}; mv {place}.away {place}")
        pi.put(f"{CREDENTIALS}/webhook-secret", SECRET, mode=0o600)
        pi.run("homeport", "install")
    assert done.returncode == 1
    assert f"{place}: File exists" in done.stderr
    assert made in done.stdout


def test_of_a_failure_a_program_reads_one_object(homeport: Installed) -> None:
    """What was done until then stands in it, with what went wrong."""
    pi, bad = homeport.pi, "/etc/systemd/system/homeport.service.d/99-bad.conf"
    pi.run("rm", DROP_IN)
    pi.put(bad, "[Service]\nUser=nobody-of-this-name\n")
    try:
        done = pi.run("homeport", "--json", "install", check=False)
    finally:
        pi.run("rm", bad)
        pi.run("systemctl", "daemon-reload")
        pi.run("systemctl", "reset-failed", "homeport")
        pi.run("systemctl", "restart", "homeport")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert DROP_IN in [change["name"] for change in document["changes"]]
    assert document["code"] in CODES
    assert document["detail"] in done.stderr
    assert homeport.healthy() < 30


def test_one_at_a_time_installs(homeport: Installed) -> None:
    """Two would make two secrets, and show both."""
    done = homeport.pi.run(
        "flock", "/var/lib/homeport-upgrade/agent.lock", "homeport", "install", check=False
    )
    assert done.returncode == 1
    assert "already running" in done.stderr


# --- rights


def test_the_agent_deploys_through_the_rule(homeport: Installed) -> None:
    """R-SD-2. The secret came by LoadCredential=: R-SD-4."""
    before = homeport.pi.run("systemctl", "show", "--property=InvocationID", "app").stdout
    ended = homeport.deploy("by-the-rule")
    assert ended["state"] == "succeeded", ended
    answer = homeport.service()
    assert answer is not None
    assert answer["version"] == "by-the-rule"
    assert homeport.pi.run("systemctl", "show", "--property=InvocationID", "app").stdout != before


def test_the_services_own_user_reads_releases_and_writes_what_is_shared(homeport: Installed) -> None:
    pi = homeport.pi
    assert pi.run("stat", "--format=%U", "/srv/app/shared/data/app.db").stdout == "app\n"
    pi.run("cat", "/srv/app/current/serve.py", user="app")
    for words in (
        "touch /srv/app/current/serve.py",
        "touch /srv/app/x",
        "ls /var/lib/homeport",
        f"cat {CONFIG}",
    ):
        assert pi.run(*words.split(), user="app", check=False).returncode != 0, words
    pi.run("touch", "/srv/app/shared/data/by-the-service", user="app")
    pi.run("homeport", "backup", "create", "app")
    pi.run("rm", "/srv/app/shared/data/by-the-service", user="homeport")


def test_access_that_a_cut_left_unfinished_is_given_again(homeport: Installed) -> None:
    """By a setfacl that comes no further than the first file that the service may write."""
    pi, shim = homeport.pi, "/usr/local/sbin/setfacl"
    pi.run("setfacl", "-b", "/srv/app/shared", "/srv/app/shared/data")
    pi.put(shim, FIRST_FILE_ONLY, mode=0o755)
    try:
        failed = pi.run("homeport", "install", check=False)
    finally:
        pi.run("rm", shim)
        pi.run("homeport", "install")
    assert failed.returncode == 1
    assert "runuser failed" in failed.stderr
    pi.run("touch", "/srv/app/shared/data/again", user="app")
    pi.run("rm", "/srv/app/shared/data/again", user="app")


@pytest.mark.parametrize(
    "command",
    [
        "systemctl restart other", "systemctl start other", "systemctl restart homeport", "systemctl stop dbus",
        "systemctl kill app", "systemctl reload app", "systemctl try-restart app", "systemctl daemon-reload",
        "systemctl enable app", "systemctl mask app", "systemctl set-property app CPUWeight=50",
        "systemctl start reboot.target", "systemd-run id", "systemd-run --unit=app.service id",
        "systemd-run --unit=app-2.service id", "sudo -n true", "cat /etc/homeport/credentials/webhook-secret",
        "touch /etc/homeport/config.yaml",
    ],
)  # fmt: skip
def test_the_agents_user_is_refused_everything_else(homeport: Installed, command: str) -> None:
    """R-SD-2."""
    done = homeport.pi.run(*command.split(), user="homeport", check=False)
    assert done.returncode != 0, f"{done.stdout}{done.stderr}"


def test_the_agents_user_may_restart_its_unit(homeport: Installed) -> None:
    """The guard itself: what is refused above is refused for what it asks."""
    homeport.pi.run("systemctl", "restart", "app", user="homeport")


def test_without_polkit_it_goes_by_sudo_and_that_is_said(homeport: Installed) -> None:
    """R-SD-3."""
    pi = homeport.pi
    pi.run("sh", "-ec", POLKIT_AWAY)
    try:
        said = pi.run("homeport", "install").stdout
        ended = homeport.deploy("by-sudo")
        others = [
            pi.run(
                "sudo", "-n", "/usr/bin/systemctl", *words.split(), user="homeport", check=False
            ).returncode
            for words in (
                "restart other.service",
                "restart app.service other.service",
                "enable app.service",
                "status",
            )
        ]
        lines = pi.get("/etc/sudoers.d/homeport")
        found = [check for check in diagnosed(homeport)["checks"] if check["name"] == "rights"]
        exposed = pi.run("systemd-analyze", "security", "--no-pager", "homeport").stdout
    finally:
        pi.run("sh", "-ec", POLKIT_BACK)
        again = pi.run("homeport", "install").stdout
    assert "by sudo, since there is no polkit" in said
    assert ended["state"] == "succeeded", ended
    assert all(others)
    assert [(check["level"], check["says"].split()[0]) for check in found] == [("ok", "sudo")]
    assert "level for homeport.service: 5.7" in exposed
    assert "*" not in lines
    assert "by polkit" in again
    assert pi.run("ls", "/etc/sudoers.d/homeport", check=False).returncode != 0


# --- doctor


def diagnosed(homeport: Installed) -> dict[str, Any]:
    done = homeport.pi.run("homeport", "--json", "doctor", check=False)
    document: dict[str, Any] = json.loads(done.stdout)
    assert document["ok"] is (done.returncode == 0)
    return document


def errors(document: dict[str, Any]) -> str:
    return "\n".join(
        f"{check['name']}: {check['says']}" for check in document["checks"] if check["level"] == "error"
    )


def test_the_doctor_finds_nothing_wrong_with_what_was_installed(homeport: Installed) -> None:
    """R-MO-7."""
    found = diagnosed(homeport)
    assert found["ok"], errors(found)
    names = " ".join(check["name"] for check in found["checks"])
    for name in ("configuration", "git", "python", "agent", "unit app.service", "installed", "secret", "space",
                 "clock", "rights", "agent at boot", "backups of app", "service app", "memory", "limits of memory",
                 "writes of the agent", "writes to the disk"):  # fmt: skip
        assert name in names


PLANTED = {
    f"chmod 644 {CREDENTIALS}/webhook-secret": "open to every user",
    "mv /etc/systemd/system/app.service /root && systemctl mask -q app": "unit app.service: is masked",
    f"sed -i s/app.service/ssh.service/ {RULE}": f"write {RULE}",
    f"rm {DROP_IN}": f"make {DROP_IN}",
    "chmod 755 /etc/homeport": "was root:homeport 0755",
    "systemctl disable -q homeport": "nobody starts it with the machine",
    "systemctl stop homeport": "no agent answers",
}
"""What is spoilt -> what the doctor says of it."""


def test_the_doctor_finds_what_is_wrong_and_install_mends_it(homeport: Installed) -> None:
    """R-MO-7."""
    pi = homeport.pi
    before = pi.get("/etc/systemd/system/app.service")
    try:
        pi.run("sh", "-ec", "\n".join(PLANTED))
        found = errors(diagnosed(homeport))
        again = errors(diagnosed(homeport))
    finally:
        pi.run("systemctl", "unmask", "-q", "app")
        pi.put("/etc/systemd/system/app.service", before)
        pi.run("systemctl", "daemon-reload")
        pi.run("homeport", "install")
    for said in PLANTED.values():
        assert said in found
    assert again == found, "looking changes nothing"
    assert diagnosed(homeport)["ok"]


def test_the_doctor_asks_polkit_itself(homeport: Installed) -> None:
    """R-MO-7: a rule of somebody else's that says no comes before what was installed, and changes no file of ours."""
    pi, mine = homeport.pi, "/etc/polkit-1/rules.d/10-mine.rules"
    pi.put(mine, POLKIT_SAYS_NO)
    try:
        said = "rights: polkit refuses the agent: restart app.service"
        wait_for("polkitd's look at its rules", lambda: said in errors(diagnosed(homeport)))
    finally:
        pi.run("rm", mine)
    wait_for("polkitd's look at its rules", lambda: diagnosed(homeport)["ok"])


def test_the_doctor_says_what_only_root_can_see(homeport: Installed) -> None:
    """R-MO-7."""
    done = homeport.pi.run("homeport", "doctor", user="me", check=False)
    assert "only root can look at" in done.stdout
    assert done.returncode == 0, done.stdout


# --- uninstall


def test_uninstall_takes_the_agent_and_leaves_the_service(homeport: Installed) -> None:
    pi = homeport.pi
    planned = pi.run("homeport", "uninstall", "--dry-run").stdout
    assert "Nothing was removed." in planned
    homeport.healthy()  # the test before has restarted the agent
    try:
        said = pi.run("homeport", "uninstall").stdout
        assert pi.run("systemctl", "is-active", "homeport", check=False).stdout.strip() == "inactive"
        for gone in ("/etc/systemd/system/homeport.service", DROP_IN, RULE):
            assert pi.run("ls", gone, check=False).returncode != 0
        for left in (CONFIG, "/var/lib/homeport/state.db", "/srv/app/current/serve.py"):
            pi.run("ls", left)
        assert pi.run("systemctl", "restart", "app", user="homeport", check=False).returncode != 0
        assert homeport.service() is not None
        for stays in ("/etc/homeport", "/var/lib/homeport", "/srv/app", "user homeport"):
            assert stays in said
    finally:
        pi.run("homeport", "install")
    assert homeport.deploy("after-all")["state"] == "succeeded"


def test_only_root_can_install(homeport: Installed) -> None:
    refused: Callable[..., Any] = homeport.pi.run
    for command in ("install", "uninstall"):
        done = refused("homeport", command, user="me", check=False)
        assert done.returncode == 1
        assert "only root can do this" in done.stderr
