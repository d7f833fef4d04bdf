"""Asks a running service: its probes, its process, and whether it is that process that answered."""

import asyncio
from collections.abc import Sequence

from agent.core import patience
from agent.core.errors import StepFailed
from agent.core.health import Observation, Phase, begin, confirm
from agent.core.model import Launch, Probed, Running
from agent.core.ports import Clock, Probe, Runtime
from agent.core.settings import Health
from agent.services.heartbeat import within


async def observe(runtime: Runtime, probes: Sequence[Probe], launch: Launch, clock: Clock) -> Observation:
    """One look: all probes are asked together, so that it takes as long as the slowest of them; then the process is
    looked at, so that one that ended while it was asked counts as ended. Another release than the launch's is not
    what is meant: it counts as none.
    """
    answers = await _ask(probes, launch)
    confirmed = [await _confirm(runtime, *pair) for pair in zip(probes, answers, strict=True)]
    running = await runtime.look()
    instance = running.instance if running is not None and running.release == launch.release else None
    return Observation(at=clock.monotonic(), instance=instance, probes=confirmed)


async def watch(
    runtime: Runtime, probes: Sequence[Probe], launch: Launch, rules: Health, clock: Clock
) -> str:
    """Watches a release that was just started until it has proved itself; returns a sentence about it.

    Raises StepFailed (process-died, health-timeout, soak-failed) with the service's own last output.
    """
    within(patience.proving(rules), "verifying")
    began = clock.monotonic()
    running = await runtime.look()
    if running is None or running.release != launch.release:
        raise await _failure(runtime, "process-died", "the process ended")
    trial = begin(rules, at=began, instance=running.instance)
    while True:
        trial = trial.judge(await observe(runtime, probes, launch, clock))
        if trial.phase is Phase.HEALTHY:
            return _told(running, trial.soaking_since - began, rules)
        if trial.phase is Phase.FAILED:
            raise await _failure(runtime, trial.code, trial.detail)
        await clock.sleep(trial.pause(clock.monotonic()))


async def _ask(probes: Sequence[Probe], launch: Launch) -> list[Probed]:
    """The answers in the order of the probes. Cancelled, it waits until each of them has tidied up."""
    answers = await asyncio.gather(*(probe.ask(launch) for probe in probes), return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return [answer for answer in answers if isinstance(answer, Probed)]


async def _confirm(runtime: Runtime, probe: Probe, probed: Probed) -> Probed:
    if not probed.healthy or probe.address is None:
        return probed
    return confirm(probed, await runtime.listens(*probe.address))


async def _failure(runtime: Runtime, code: str, detail: str) -> StepFailed:
    """The verdict stands, also if the output cannot be had."""
    try:
        output = await runtime.output()
    except StepFailed as failure:
        output = f"[the output cannot be read: {failure.message}]"
    return StepFailed(code, detail, output=output)


def _told(running: Running, seconds: float, rules: Health) -> str:
    return f"healthy after {seconds:.2f} s, and through {rules.soak:g} s more (pid {running.pid})"
