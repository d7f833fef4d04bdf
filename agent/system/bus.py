"""systemd over the system bus. Nothing is polled: a job's end is a signal. sdbus lives only here, imported when it is
first needed.

One connection for all services of the agent. It is made anew when it was lost: dbus-daemon restarts with updates.
"""

import asyncio
from collections import OrderedDict
from typing import Any

from agent.system.threads import in_thread
from agent.system.units import OF_SERVICE, OF_UNIT, UnitError, UnitState, Verb, Why, bytes_of, state_of

_SYSTEMD = "org.freedesktop.systemd1"
_PATH = "/org/freedesktop/systemd1"
_MANAGER = f"{_SYSTEMD}.Manager"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_METHODS = {
    Verb.START: "StartUnit",
    Verb.STOP: "StopUnit",
    Verb.RESTART: "RestartUnit",
    Verb.RESET_FAILED: "ResetFailedUnit",
}
_WHY = {
    f"{_SYSTEMD}.NoSuchUnit": Why.UNKNOWN,
    f"{_SYSTEMD}.LoadFailed": Why.UNKNOWN,
    f"{_SYSTEMD}.BadUnitSetting": Why.UNKNOWN,
    f"{_SYSTEMD}.UnitMasked": Why.MASKED,
    "org.freedesktop.DBus.Error.AccessDenied": Why.REFUSED,
    "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired": Why.REFUSED,
    "org.freedesktop.DBus.Error.AuthFailed": Why.REFUSED,
    "org.freedesktop.DBus.Error.Disconnected": Why.UNREACHABLE,
    "org.freedesktop.DBus.Error.ServiceUnknown": Why.UNREACHABLE,
    "org.freedesktop.DBus.Error.NameHasNoOwner": Why.UNREACHABLE,
    "org.freedesktop.DBus.Error.NoReply": Why.UNREACHABLE,
    "org.freedesktop.DBus.Error.Timeout": Why.UNREACHABLE,
    "org.freedesktop.DBus.Error.NoServer": Why.UNREACHABLE,
}
ANSWER_SECONDS = 8.0
"""For one answer of systemd; a job's end may take longer and is waited for by itself."""
JOB_LOOK_SECONDS = 10.0
"""So often it is asked whether the connection still stands while a job is waited for."""
_KEPT = 64
"""Ends of jobs that nobody has asked for yet."""


class BusUnits:
    """`system.units.Units` over D-Bus. It belongs to the event loop in which it is first used."""

    def __init__(self) -> None:
        self._bus: Any = None
        self._slot: Any = None
        self._opening = asyncio.Lock()
        self._jobs: dict[str, asyncio.Future[str]] = {}
        self._ended: OrderedDict[str, str] = OrderedDict()

    async def look(self, unit: str) -> UnitState:
        """See the protocol."""
        (path,) = await self._manager("LoadUnit", unit)
        values: dict[str, object] = {}
        for interface, names in ((f"{_SYSTEMD}.Unit", OF_UNIT), (f"{_SYSTEMD}.Service", OF_SERVICE)):
            if interface.endswith("Unit") or unit.endswith(".service"):
                asked = [self._ask(path, _PROPERTIES, "Get", "ss", interface, name) for name in names]
                for name, (answer,) in zip(names, await asyncio.gather(*asked), strict=True):
                    values[name] = answer[1]
        return state_of(values)

    async def call(self, verb: Verb, unit: str, *, patience: float) -> str:
        """See the protocol."""
        if verb is Verb.RESET_FAILED:
            await self._manager(_METHODS[verb], unit)
            return "done"
        (job,) = await self._manager(_METHODS[verb], unit, "replace")
        try:
            async with asyncio.timeout(patience):
                return await self._end_of(job, unit)
        except TimeoutError:
            text = f"systemd's job to {verb} {unit} has not ended after {patience:.0f} s"
            raise UnitError(Why.STUCK, text) from None

    async def memory(self, unit: str) -> int | None:
        """See the protocol."""
        (path,) = await self._manager("LoadUnit", unit)
        names = ("MemoryCurrent", "ControlGroup")
        asked = [self._ask(path, _PROPERTIES, "Get", "ss", f"{_SYSTEMD}.Service", name) for name in names]
        (current,), (group,) = await asyncio.gather(*asked)
        return await in_thread(bytes_of, current[1], group[1])

    async def close(self) -> None:
        """See the protocol."""
        self._lose(self._bus)

    # --- jobs

    async def _end_of(self, job: str, unit: str) -> str:
        if job in self._ended:
            return self._ended.pop(job)
        end: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._jobs[job] = end
        try:
            while not end.done():
                await asyncio.wait({end}, timeout=JOB_LOOK_SECONDS)
                if not end.done():  # a connection that is lost says nothing by itself
                    await self._manager("GetUnit", unit)
            return end.result()
        finally:
            self._jobs.pop(job, None)

    def _removed(self, message: Any) -> None:
        """JobRemoved: number, job, unit, result. It may come before the caller knows which job is his."""
        _, job, _, result = message.get_contents()
        waiting = self._jobs.get(job)
        if waiting is not None and not waiting.done():
            waiting.set_result(result)
            return
        self._ended[job] = result
        while len(self._ended) > _KEPT:
            self._ended.popitem(last=False)

    # --- the connection

    async def _manager(self, method: str, *words: str) -> tuple[Any, ...]:
        return await self._ask(_PATH, _MANAGER, method, "s" * len(words), *words)

    async def _ask(
        self, path: str, interface: str, method: str, signature: str, *words: str
    ) -> tuple[Any, ...]:
        """One call. Where the connection was lost meanwhile, it is tried once more: every verb can run twice."""
        try:
            return await self._once(path, interface, method, signature, *words)
        except UnitError as error:
            if error.why is not Why.UNREACHABLE:
                raise
            return await self._once(path, interface, method, signature, *words)

    async def _once(
        self, path: str, interface: str, method: str, signature: str, *words: str
    ) -> tuple[Any, ...]:
        from sdbus import SdBusBaseError

        bus: Any = None
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                bus = await self._connected()
                message = bus.new_method_call_message(_SYSTEMD, path, interface, method)
                if words:
                    message.append_data(signature, *words)
                answer = await bus.call_async(message)
            return tuple(answer.parse_to_tuple())
        except (SdBusBaseError, OSError, TimeoutError) as error:
            found = _translated(error)
            if found.why is Why.UNREACHABLE:
                self._lose(bus)
            raise found from error

    async def _connected(self) -> Any:
        """The connection. Its signals are asked for before anybody uses it; one that fails meanwhile is closed."""
        from sdbus import sd_bus_open_system

        async with self._opening:
            if self._bus is None:
                bus = sd_bus_open_system()
                try:
                    slot = await bus.match_signal_async(
                        _SYSTEMD, _PATH, _MANAGER, "JobRemoved", self._removed
                    )
                    await bus.call_async(bus.new_method_call_message(_SYSTEMD, _PATH, _MANAGER, "Subscribe"))
                except BaseException:
                    bus.close()
                    raise
                self._bus, self._slot = bus, slot
            return self._bus

    def _lose(self, bus: Any) -> None:
        """This connection is of no use any more; whoever waits for a job is told. A late error of an earlier one
        changes nothing."""
        if bus is None or bus is not self._bus:
            return
        self._bus, self._slot = None, None
        for waiting in self._jobs.values():
            if not waiting.done():
                waiting.set_exception(UnitError(Why.UNREACHABLE, "the connection to systemd was lost"))
        self._ended.clear()
        bus.close()


def _translated(error: Exception) -> UnitError:
    """An error that the library does not know has its name and its text as arguments."""
    text = str(error.args[-1]) if error.args else type(error).__name__
    named = len(error.args) > 1 and str(error.args[0]).startswith("org.")
    name = str(error.args[0]) if named else str(getattr(error, "dbus_error_name", ""))
    ours = name.startswith((_SYSTEMD, "org.freedesktop.PolicyKit"))
    return UnitError(_WHY.get(name, Why.FAILED if ours else Why.UNREACHABLE), text)
