"""F53 with every clock of the process, not only the agent's own: libfaketime under the real agent."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.world import Home, a_home, wait_for

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]

LIBRARIES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib/faketime/libfaketimeMT.so.1")
YEARS_1970 = "-56y"
PATIENCE = 200.0


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A build that is the time server: it sets the clock right."""
    with a_home(tmp_path / "home") as made:
        made.settings["services"]["app"]["health"]["timeout"] = "60s"
        made.settings["services"]["app"]["health"]["probes"][0]["timeout"] = "20s"
        made.settings["services"]["app"]["deploy"]["build"] = {
            "commands": [f"test ! -e sync || {{ printf +0y > {tmp_path}/clock; sleep 2; }}"]
        }
        made.save()
        yield made


def start(home: Home, clock: Path, offset: str) -> None:
    """The monotonic clock stays as it is, and the agent hands nothing of this on to what it starts."""
    (library,) = [str(found) for pattern in LIBRARIES for found in Path("/").glob(pattern[1:])]
    clock.write_text(offset)
    home.start(more={
        "LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    })  # fmt: skip


def test_a_pi_without_a_clock_boots_deploys_and_is_set_right_in_the_middle_of_a_build(
    home: Home, tmp_path: Path
) -> None:
    """F53, R-PL-7."""
    home.start()
    first = home.ended(home.push("one"), PATIENCE)
    before = home.service()
    assert home.stop() == 0
    start(home, tmp_path / "clock", YEARS_1970)
    assert home.service() == before, "the very same process"
    deployed = home.ended(home.push("two"), PATIENCE)
    assert (deployed["state"], deployed["created_at"][:3]) == ("succeeded", "197")
    revision = home.remotes["app"].commit("three", sync="")
    body = home.push_body(revision)
    ended = home.ended(home.deliver(revision, body=body).document["deployments"][0]["id"], PATIENCE)
    assert (ended["state"], ended["created_at"][:3], ended["finished_at"][:2]) == ("succeeded", "197", "20")
    assert home.stop() == 0
    home.start()
    assert home.deliver(revision, body=body).document["decision"] == "duplicate"
    told = home.get("/api/v1/deployments").document["items"]
    assert [item["id"] for item in told] == [ended["id"], deployed["id"], first["id"]]
    assert len(home.get("/api/v1/backups").document["items"]) == 3
    assert wait_for("the service", home.service)["version"] == "three"
