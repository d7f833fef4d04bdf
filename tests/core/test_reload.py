"""What a reload changes, from two configurations."""

import msgspec

from agent.core.reload import Difference, difference, in_force
from agent.core.score import overall
from agent.core.settings import Listen, Settings
from tests.build import a_service


def settings(**differences: object) -> Settings:
    return msgspec.structs.replace(Settings(services={"one": a_service()}), **differences)


def test_the_same_file_changes_nothing() -> None:
    assert difference(settings(), settings()) == Difference()


def test_services_are_added_changed_and_removed() -> None:
    before = settings(services={"stays": a_service(), "changes": a_service(), "goes": a_service()})
    after = settings(
        services={
            "comes": a_service(),
            "changes": a_service(deploy={"keep_releases": 9}),
            "stays": a_service(),
        }
    )
    found = difference(before, after)
    assert (found.added, found.changed, found.removed) == (("comes",), ("changes",), ("goes",))
    assert found.restart_needed == ()


def test_another_time_zone_changes_who_has_a_freeze_and_another_secret_who_uses_it() -> None:
    freezes = a_service(deploy={"freeze": [{"from": "22:00", "to": "06:00"}]})
    before = settings(services={"freezes": freezes, "plain": a_service(), "goes": a_service()})
    after = settings(
        services={"freezes": freezes, "plain": a_service(), "comes": a_service()}, timezone="Asia/Tokyo"
    )
    assert difference(before, after).changed == ("freezes",)
    assert difference(before, after, {"plain", "comes", "goes"}).changed == ("freezes", "plain")
    assert difference(after, after).changed == ()


def test_what_listens_and_where_the_state_lies_waits_for_a_restart_and_nothing_else_does() -> None:
    wanted = settings(
        listen=Listen(port=9000, socket="/tmp/other.sock"),
        state_dir="/elsewhere",
        hosts=("pi.local",),
        services={},
    )
    found = difference(settings(), wanted)
    assert found.restart_needed == ("listen.port", "listen.socket", "state_dir")
    counts = in_force(settings(), wanted)
    assert (counts.listen, counts.state_dir) == (settings().listen, settings().state_dir)
    assert (counts.hosts, counts.services) == (("pi.local",), {})
    assert difference(counts, wanted).restart_needed == found.restart_needed, "it is said each time"


def test_while_the_file_is_invalid_the_agent_is_degraded() -> None:
    """R-SD-8."""
    assert overall({"app": "healthy"}, ailing=True) == ("degraded", 75)
    assert overall({}, ailing=True) == ("degraded", 75)
    assert overall({"app": "held"}, ailing=True) == ("degraded", 75)
    assert overall({"app": "unhealthy"}, ailing=True) == ("unhealthy", 0)
    assert overall({"app": "healthy"}) == ("healthy", 100)
