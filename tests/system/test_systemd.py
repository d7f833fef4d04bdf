"""How systemd's answers are read, and which way is taken to it. The ways themselves are tried on a virtual Pi (e2e)."""

import shutil
from collections.abc import Sequence

import pytest

from agent.adapters.runtimes.systemd import environment_file
from agent.system.systemctl import CommandUnits, why_of
from agent.system.systemd import Systemd
from agent.system.units import NO_LIMIT, UnitError, UnitState, Verb, Why, state_of

UNIT = "scraper.service"
RUNNING = UnitState(load="loaded", active="active", sub="running")


class Way:
    """A way to systemd that answers, or fails with what it was told to."""

    def __init__(self, *errors: UnitError) -> None:
        self.errors = list(errors)
        self.asked: list[str] = []

    async def look(self, unit: str) -> UnitState:
        self._ask(f"look {unit}")
        return RUNNING

    async def call(self, verb: Verb, unit: str, *, patience: float) -> str:
        self._ask(f"{verb} {unit} {patience:.0f}")
        return "done"

    async def memory(self, unit: str) -> int | None:
        self._ask(f"memory {unit}")
        return 4096

    async def close(self) -> None:
        self.asked.append("close")

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.errors:
            raise self.errors.pop(0)


def refused() -> UnitError:
    return UnitError(Why.REFUSED, "Access denied")


def away() -> UnitError:
    return UnitError(Why.UNREACHABLE, "no bus")


@pytest.fixture(autouse=True)
def _there_is_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")


async def test_where_the_bus_answers_nobody_else_is_asked() -> None:
    bus, command, sudo = Way(), Way(), Way()
    systemd = Systemd(bus, command, sudo)
    assert await systemd.look(UNIT) == RUNNING
    assert await systemd.call(Verb.RESTART, UNIT, patience=7) == "done"
    await systemd.close()
    assert bus.asked == [f"look {UNIT}", f"restart {UNIT} 7", "close"]
    assert command.asked == sudo.asked == []


async def test_where_no_bus_answers_systemctl_is_asked_and_that_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bus, command, sudo = Way(away(), away(), away()), Way(), Way()
    systemd = Systemd(bus, command, sudo)
    for _ in range(2):
        assert await systemd.look(UNIT) == RUNNING
    assert await systemd.call(Verb.START, UNIT, patience=7) == "done"
    assert command.asked == [f"look {UNIT}", f"look {UNIT}", f"start {UNIT} 7"]
    assert [record.message for record in caplog.records] == [
        "no answer on the system bus (no bus): asking systemctl",
        "no answer on the system bus (no bus): using systemctl",
    ]


async def test_what_polkit_refuses_sudo_may_do() -> None:
    """R-SD-3."""
    bus, sudo = Way(refused()), Way()
    assert await Systemd(bus, Way(), sudo).call(Verb.STOP, UNIT, patience=7) == "done"
    assert sudo.asked == [f"stop {UNIT} 7"]


async def test_where_both_refuse_the_first_answer_is_told() -> None:
    with pytest.raises(UnitError, match="Access denied"):
        await Systemd(Way(refused()), Way(), Way(UnitError(Why.REFUSED, "a password is required"))).call(
            Verb.STOP, UNIT, patience=7
        )


@pytest.mark.parametrize("why", [Why.UNKNOWN, Why.MASKED, Why.STUCK, Why.FAILED])
async def test_any_other_error_is_an_answer(why: Why) -> None:
    command, sudo = Way(), Way()
    for asked in ("look", "call"):
        systemd = Systemd(Way(UnitError(why, "no")), command, sudo)
        with pytest.raises(UnitError, match="no"):
            await (systemd.look(UNIT) if asked == "look" else systemd.call(Verb.STOP, UNIT, patience=7))
    assert command.asked == sudo.asked == []


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        (90_000_000, 90.0), (2**64 - 1, NO_LIMIT), ("1min 30s", 90.0), ("infinity", NO_LIMIT), ("2h", NO_LIMIT),
        ("500ms", 0.5), ("1min 500ms", 60.5), ("", NO_LIMIT), ("soon", NO_LIMIT), (None, NO_LIMIT),
    ],
)  # fmt: skip
def test_a_timeout_is_read_from_both_ways(values: object, seconds: float) -> None:
    assert state_of({"TimeoutStopUSec": values}).stop_seconds == seconds


def test_what_is_not_told_is_as_for_a_unit_that_never_ran() -> None:
    state = state_of({"MainPID": "x", "InvocationID": b""})
    assert (state.load, state.active, state.invocation, state.pid, state.runs) == (
        "not-found", "inactive", "", 0, False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("active", "runs"),
    [
        ("active", True),
        ("reloading", True),
        ("activating", False),
        ("deactivating", False),
        ("failed", False),
    ],
)
def test_what_is_up_runs(active: str, runs: bool) -> None:
    assert state_of({"ActiveState": active}).runs is runs


@pytest.mark.parametrize(
    ("printed", "why"),
    [
        ("Failed to start x.service: Unit x.service not found.", Why.UNKNOWN),
        ("Failed to reset failed state of unit x.service: Unit x.service not loaded.", Why.UNKNOWN),
        ("Failed to start x.service: Unit x.service has a bad unit file setting.", Why.UNKNOWN),
        ("Failed to start x.service: Unit x.service is masked.", Why.MASKED),
        ("Failed to start x.service: Access denied", Why.REFUSED),
        ("Failed to start x.service: Interactive authentication required.", Why.REFUSED),
        ("sudo: a password is required", Why.REFUSED),
        ("System has not been booted with systemd as init system (PID 1). Can't operate.", Why.UNREACHABLE),
        ("Failed to connect to bus: No such file or directory", Why.UNREACHABLE),
        ("Job for x.service failed because the control process exited with error code.", Why.FAILED),
        ("", Why.FAILED),
    ],
)
def test_what_systemctl_prints_is_understood(printed: str, why: Why) -> None:
    assert why_of(printed) is why


class Said(CommandUnits):
    """systemctl, without one: what it would be called with, and an answer."""

    def __init__(self, answer: str | UnitError) -> None:
        super().__init__(("sudo", "-n"))
        self.answer, self.called = answer, []  # type: ignore[var-annotated]

    async def _run(self, command: Sequence[str], patience: float) -> str:
        self.called.append((tuple(command), patience))
        if isinstance(self.answer, UnitError):
            raise self.answer
        return self.answer


async def test_sudo_is_asked_with_exactly_the_line_that_sudoers_allows() -> None:
    """R-SD-3: no wildcards, so nothing else stands in it."""
    way = Said("")
    assert await way.call(Verb.RESET_FAILED, UNIT, patience=5) == "done"
    assert way.called == [(("sudo", "-n", "/usr/bin/systemctl", "reset-failed", UNIT), 5)]


async def test_a_job_that_failed_is_a_result_and_any_other_error_is_one() -> None:
    assert await Said(UnitError(Why.FAILED, "x")).call(Verb.START, UNIT, patience=5) == "failed"
    with pytest.raises(UnitError, match="x"):
        await Said(UnitError(Why.MASKED, "x")).call(Verb.START, UNIT, patience=5)


async def test_a_program_that_is_not_there_is_no_way() -> None:
    with pytest.raises(UnitError) as error:
        await CommandUnits(program="/nonexistent/systemctl").look(UNIT)
    assert error.value.why is Why.UNREACHABLE


def test_an_environment_file_is_written_as_systemd_reads_it() -> None:
    """systemd.exec(5), EnvironmentFile: in double quotes, with four characters escaped."""
    assert environment_file({"A": "x", "B": 'a"b\\c`d$e'}) == 'A="x"\nB="a\\"b\\\\c\\`d\\$e"\n'
