"""What many small questions say together."""

import pytest

from agent.core.model import Outage
from agent.core.outage import COARSE, FINE, QUIET, Asked, measured, pause


def asked(*answers: bool, took: float = 0.01) -> list[Asked]:
    """One question every 100 ms."""
    return [Asked(number / 10, number / 10 + took, answered) for number, answered in enumerate(answers)]


def test_who_asked_nothing_knows_nothing() -> None:
    assert measured([]) is None


@pytest.mark.parametrize(
    ("answers", "seconds", "failed"),
    [
        ((True, True, True), 0.0, 0),
        ((True, False, True), 0.11, 1),
        ((True, False, False, True, True), 0.21, 2),
        ((False, True, False, False, True), 0.11 + 0.21, 3),
        ((True, False, False), 0.11, 2),
        ((False,), 0.01, 1),
    ],
)
def test_without_answer_is_from_the_first_that_failed_to_the_next_that_did_not(
    answers: tuple[bool, ...], seconds: float, failed: int
) -> None:
    found = measured(asked(*answers))
    assert found is not None
    assert found.seconds == pytest.approx(seconds)
    assert (found.failed, found.asked) == (failed, len(answers))


def test_who_waits_was_not_without_an_answer() -> None:
    """A socket-activated service: what comes meanwhile waits in the queue."""
    waits = [Asked(0.0, 0.01, True), Asked(0.06, 0.46, True), Asked(0.51, 0.52, True)]
    assert measured(waits) == Outage(seconds=0.0, longest_wait=0.4, asked=3, failed=0)


def test_what_failed_slowly_is_no_wait() -> None:
    found = measured([Asked(0.0, 10.0, False), Asked(10.1, 10.2, True)])
    assert found is not None
    assert found.seconds == pytest.approx(10.2)
    assert found.longest_wait == pytest.approx(0.1)


def test_it_is_asked_often_until_all_is_quiet() -> None:
    assert [pause(count) for count in (0, 1, QUIET - 1, QUIET, 1000)] == [FINE, FINE, FINE, COARSE, COARSE]
