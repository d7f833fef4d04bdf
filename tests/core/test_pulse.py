"""Promises to come by again, and how long each piece of work may take."""

import pytest

from agent.core import patience
from agent.core.pulse import Pulse, told
from agent.core.settings import HttpProbe, ProcessRuntime, Seconds, Source, SystemdRuntime
from agent.system.units import JOB_MARGIN, NO_LIMIT
from tests.build import a_service


def broken(pulse: Pulse, now: float) -> list[str]:
    return [promise.who for promise in pulse.broken(now)]


def test_a_promise_is_kept_until_it_is_due_and_broken_after() -> None:
    """R-SD-6."""
    pulse = Pulse()
    pulse.promise("monitor", 100.0)
    assert broken(pulse, 100.0) == []
    assert broken(pulse, 100.1) == ["monitor"]


def test_who_comes_by_has_kept_it_however_late() -> None:
    pulse = Pulse()
    pulse.promise("monitor", 100.0)
    assert broken(pulse, 500.0) == ["monitor"]
    pulse.promise("monitor", 600.0)
    assert broken(pulse, 500.0) == []


def test_one_loop_does_not_speak_for_another() -> None:
    """R-SD-6: the longest overdue is named first."""
    pulse = Pulse()
    for who, due in (("lane a", 300.0), ("lane b", 200.0), ("monitor", 900.0)):
        pulse.promise(who, due)
    assert broken(pulse, 400.0) == ["lane b", "lane a"]
    pulse.promise("lane a", 900.0)
    assert broken(pulse, 400.0) == ["lane b"]


def test_who_waits_for_what_may_never_come_promises_nothing() -> None:
    pulse = Pulse()
    pulse.promise("reloading", 100.0)
    pulse.release("reloading")
    pulse.release("nobody")
    assert broken(pulse, 1e9) == []


@pytest.mark.parametrize(
    ("services", "doing", "text"),
    [
        (0, {}, "0 services"),
        (1, {}, "1 service"),
        (2, {"lane scraper": "building"}, "2 services; scraper: building"),
        (2, {"lane a": "fetching", "lane b": "verifying"}, "2 services; a: fetching; b: verifying"),
    ],
)
def test_what_goes_on_is_one_line(services: int, doing: dict[str, str], text: str) -> None:
    assert told(services, doing) == text


def test_who_does_nothing_to_speak_of_is_not_spoken_of() -> None:
    pulse = Pulse()
    pulse.promise("monitor", 100.0)
    pulse.promise("lane a", 100.0, "building")
    assert pulse.doing() == {"lane a": "building"}


# --- how long work may take


def test_what_the_configuration_bounds_may_take_so_long_and_more() -> None:
    """R-SD-6: a long build, a slow start and a long soak are no reason to be ended."""
    service = a_service(
        deploy={"build": {"timeout": 20 * 3600}},
        health={
            "timeout": 3 * 3600, "soak": 2 * 3600, "every": 600,
            "probes": [{"kind": "tcp", "port": 1, "timeout": 240}],
        },
        runtime={"kind": "process", "command": ["x"], "stop_timeout": 3600},
    )  # fmt: skip
    assert patience.commands(service.deploy) > 20 * 3600
    assert patience.proving(service.health) > 5 * 3600 + 2 * 600 + 2 * 240
    assert isinstance(service.runtime, ProcessRuntime)
    assert patience.switching(service.runtime) > 3600
    assert patience.asking(service.health) > 240
    assert patience.switching(SystemdRuntime(unit="app.service")) > 2 * (2 * NO_LIMIT + JOB_MARGIN)


def test_the_slowest_probe_counts() -> None:
    probes = (HttpProbe(url="http://x/", timeout=Seconds(5)), HttpProbe(url="http://y/", timeout=Seconds(90)))
    assert patience.asking(a_service().health) < 90 + patience.MARGIN
    assert patience.asking(a_service(health={"probes": probes}).health) == 90 + patience.MARGIN


def test_how_many_objects_a_repository_has_bounds_nothing() -> None:
    plain = patience.laying_out(Source(repository="/r"))
    assert plain < patience.laying_out(Source(repository="/r", lfs=True)) == patience.DATA
    assert plain < patience.laying_out(Source(repository="/r", submodules=True))


def test_a_repository_may_take_as_long_as_is_said() -> None:
    plain, slow = Source(repository="/r"), Source(repository="/r", timeout=Seconds(7200))
    for bound in (patience.fetching, patience.polling, patience.laying_out):
        assert bound(slow) - bound(plain) >= slow.timeout - plain.timeout


def test_by_default_a_stuck_step_is_found_within_two_hours() -> None:
    """R-SD-6: but for data, of which there may be any amount."""
    service = a_service()
    assert isinstance(service.runtime, ProcessRuntime)
    for seconds in (
        patience.fetching(service.source), patience.polling(service.source),
        patience.laying_out(service.source), patience.FILES,
        patience.commands(service.deploy), patience.switching(service.runtime), patience.proving(service.health),
    ):  # fmt: skip
        assert patience.MARGIN < seconds < 2 * 3600
