"""When a service is started again by itself, and when nobody tries any more."""

import pytest

from agent.core.healing import PAUSES, WITHIN, Restarts

SETTLING = 20.0


def after(*at: float) -> Restarts:
    restarts = Restarts()
    for time in at:
        restarts = restarts.after(time)
    return restarts


@pytest.mark.parametrize(
    ("at", "now", "limit", "due"),
    [
        ((), 0.0, 1, 0.0),
        ((), 0.0, 0, None),
        ((100.0,), 100.0, 3, PAUSES[1]),
        ((100.0,), 129.0, 3, 1.0),
        ((100.0,), 130.0, 3, 0.0),
        ((100.0,), 110.0, 1, 20.0),  # the last one may still help
        ((100.0,), 130.0, 1, None),
        ((100.0, 130.0), 131.0, 3, 119.0),
        ((100.0, 130.0, 250.0), 849.0, 3, 1.0),
        ((100.0, 130.0, 250.0), 850.0, 3, None),
        ((100.0, 130.0, 250.0), 850.0, 4, 0.0),
        ((100.0, 130.0, 250.0, 850.0, 1450.0), 1451.0, 9, 599.0),
        ((100.0, 130.0, 250.0), 100.0 + WITHIN, 3, 0.0),  # the first one does not count any more
    ],
)
def test_when_the_next_restart_may_be(
    at: tuple[float, ...], now: float, limit: int, due: float | None
) -> None:
    assert after(*at).due(now, limit, SETTLING) == due


def test_a_service_that_needs_long_to_start_is_given_that_time() -> None:
    assert after(100.0).due(150.0, 3, 300.0) == 250.0


@pytest.mark.parametrize(
    ("limit", "settling"), [(3, 20.0), (3, 1200.0), (9, 20.0), (100, 20.0), (1, 90000.0)]
)
def test_who_stays_unwell_is_given_up_after_so_many_tries_however_long_they_take(
    limit: int, settling: float
) -> None:
    restarts, now = Restarts(), 0.0
    while (due := restarts.due(now, limit, settling)) is not None:
        now += due
        if due == 0.0:
            restarts = restarts.after(now)
            now += 15.0
        assert now < 1e7, "for ever"
    assert len(restarts.at) == limit


def test_what_is_an_hour_old_is_forgotten() -> None:
    assert after(0.0, 10.0, 20.0).due(WITHIN - 1, 3, SETTLING) is None
    assert after(0.0, 10.0, 20.0).due(WITHIN, 3, SETTLING) == 0.0
