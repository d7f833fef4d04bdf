"""What the shipped unit refuses the agent is in nobody's way: it can set no setuid or setgid bit, nor give files away.

`homeport install` gives a service's directory the setgid bit, so that all below it has it too.
"""

import json
from pathlib import Path

import pytest

from tests.e2e.documented import Documented
from tests.e2e.pi import Pi

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]

PI = ("--docker-arg", "--network=none")
KEPT = 2


@pytest.fixture(scope="module")
def app(pi: Pi, wheelhouse: Path) -> Documented:
    """Its repository brings a directory with it that is then shared; a first version is live."""
    made = Documented(pi)
    made.settings["services"]["app"]["deploy"] = {"shared": ["data", "seeds"], "keep_releases": KEPT}
    made.install(wheelhouse)
    for name in ("seeds/deep/one", "seeds/two"):
        pi.put(f"/home/me/app/{name}", name, owner="me")
    pi.run("chown", "--recursive", "me", "/home/me/app/seeds")
    ended = made.deploy("first")
    assert ended["state"] == "succeeded", ended
    return made


def test_a_shared_directory_comes_with_what_the_repository_has_in_it(app: Documented) -> None:
    shared = "/srv/app/shared/seeds"
    assert (
        app.pi.run("cat", f"{shared}/deep/one", f"{shared}/two", user="app").stdout
        == "seeds/deep/oneseeds/two"
    )


def test_old_releases_go(app: Documented) -> None:
    """R-RB-11."""
    live = ""
    for number in range(KEPT + 2):
        ended = app.deploy(f"number-{number}")
        assert ended["state"] == "succeeded", ended
        live = ended["release"]
    app.healthy()
    kept = app.pi.run("ls", "/srv/app/releases").stdout.split()
    assert live in kept
    assert len(kept) <= KEPT + 1, app.pi.journal("homeport.service", "--lines=20")


def test_a_restore_can_be_rehearsed(app: Documented) -> None:
    """R-BK-8."""
    app.pi.run("homeport", "backup", "create", "app")
    told = json.loads(app.pi.run("homeport", "--json", "backup", "drill", "app").stdout)
    assert told["tables"] == {"shared/data/app.db": {"starts": len(app.starts())}}, told


def test_after_a_restore_the_service_can_write_its_data_again(app: Documented) -> None:
    """R-BK-7: the files are the agent's then; the service's user has his rights by the access list."""
    made = json.loads(app.pi.run("homeport", "--json", "backup", "create", "app").stdout)
    before = app.starts()
    assert app.deploy("later")["state"] == "succeeded"
    app.pi.run("homeport", "backup", "restore", made["id"])
    app.healthy()
    assert app.starts() == [*before, "later"], "as it was saved, and what lives has written its start"
    app.pi.run(
        "sh", "-ec", "echo more >> /srv/app/shared/data/written; cat /srv/app/shared/data/app.db", user="app"
    )
