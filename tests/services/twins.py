"""A systemd in memory with the two instances of one service and the units that swap nginx's upstream; and a workshop
whose runtime is the real `BlueGreen` over it. The real systemd and nginx are tried on a virtual Pi."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from agent.adapters.front import Front
from agent.adapters.runtimes.blue_green import BlueGreen
from agent.adapters.runtimes.swap import Swap
from agent.core import settings, upstreams
from agent.core.colours import Colour, instance
from agent.core.model import Launch, Probed
from agent.system.units import UnitState, Verb
from tests.fakes import FakeDisk, FakeReleases
from tests.services.workshop import QUICK, SERVICE, Wire, Workshop, a_workshop

UNIT = "scraper@.service"
PORTS = (9101, 9102)
URL = "http://127.0.0.1/"
SETTINGS: dict[str, Any] = {
    "runtime": {"kind": "systemd", "unit": UNIT},
    "deploy": {"strategy": "blue-green"},
    "blue_green": {"ports": PORTS, "url": URL},
    "health": QUICK | {"probes": [{"kind": "http", "url": "http://127.0.0.1:9101/health"}]},
}


class Twins:
    """`system.units.Units`: what `scraper@blue` and `scraper@green` run, and whom nginx sends users to."""

    def __init__(self, directory: Path, disk: FakeDisk) -> None:
        self._directory = directory
        self._disk = disk
        self._count = 0
        self.running: dict[Colour, tuple[str, str]] = {}
        """The release and the invocation of each colour."""
        self.nginx: Colour | None = None
        """Whom it really sends users to."""
        self.refuses = False
        self.complaint = ""
        """What users who are sent to green complain about."""
        self.used: int | None = None
        self.acts: list[str] = []
        self.moods: dict[str, str] = {}

    @property
    def place(self) -> Path:
        """Where nginx's files are."""
        return self._directory / "nginx"

    def mood(self, colour: Colour | None) -> str:
        """What the instance of this colour is like; "" if it does not run."""
        if colour not in self.running:
            return ""
        release = self.running[colour][0]
        return self.moods.get(release) or self._disk.trees[self._directory / "releases" / release]["app"]

    def reboot(self) -> None:
        """What is enabled and whose link is there starts; nginx reads its files."""
        self.running.clear()
        for colour in Colour:
            self._start(colour)
        path = self.place / Path(upstreams.path_of(SERVICE)).name
        self.nginx = upstreams.served_by(path.read_text(), SERVICE, PORTS) if path.exists() else None

    async def ask(self) -> str:
        """As a user, through nginx."""
        await asyncio.sleep(0)
        if self.nginx is Colour.GREEN and self.complaint:
            return self.complaint
        return "" if self.mood(self.nginx) == "good" else f"502: {self.nginx} is {self.mood(self.nginx)!r}"

    # --- the protocol

    async def look(self, unit: str) -> UnitState:
        await asyncio.sleep(0)
        colour = _colour_of(unit)
        if colour is None or colour not in self.running:
            return UnitState(load="loaded", active="inactive", sub="dead")
        if self.mood(colour) == "crash":
            del self.running[colour]
            return UnitState(load="loaded", active="failed", sub="failed", result="exit-code")
        return UnitState(load="loaded", active="active", sub="running", invocation=self.running[colour][1])

    async def call(self, verb: Verb, unit: str, *, patience: float) -> str:
        del patience
        await asyncio.sleep(0)
        if verb is Verb.RESET_FAILED:
            return "done"
        if asked := upstreams.asked(unit.removeprefix("homeport-upstream@").removesuffix(".service")):
            return self._swap(asked[1])
        colour = _colour_of(unit)
        assert colour is not None, unit
        if verb is Verb.START:
            self._start(colour)
        elif colour in self.running:
            self.acts.append(f"stop {colour}")
            del self.running[colour]
        return "done"

    async def memory(self, unit: str) -> int | None:
        assert _colour_of(unit) in self.running
        return self.used

    async def close(self) -> None:
        """Holds nothing."""

    def _swap(self, colour: Colour) -> str:
        if self.refuses:
            return "failed"
        self.acts.append(f"swap {colour}")
        self.place.mkdir(exist_ok=True)
        path = self.place / Path(upstreams.path_of(SERVICE)).name
        path.write_text(upstreams.text_of(SERVICE, colour, PORTS))
        self.nginx = colour
        return "done"

    def _start(self, colour: Colour) -> None:
        link = self._directory / colour
        if colour in self.running or not link.is_symlink():
            return
        self._count += 1
        self.acts.append(f"start {colour} {link.readlink().name}")
        self.running[colour] = (link.readlink().name, f"i{self._count}")


class LinkedReleases(FakeReleases):
    """Whose `current`, and whose directories, are really there as well."""

    def __init__(self, disk: FakeDisk, root: Path) -> None:
        super().__init__(disk, root)
        self._here = root

    async def begin(self, name: str) -> bool:
        self.path(name).mkdir(parents=True, exist_ok=True)
        return await super().begin(name)

    async def point(self, name: str) -> None:
        await super().point(name)
        self._unlink()
        (self._here / "current").symlink_to(f"releases/{name}")

    async def clear(self) -> None:
        await super().clear()
        self._unlink()

    def _unlink(self) -> None:
        (self._here / "current").unlink(missing_ok=True)


class TwinProbe:
    """A service that says how it is, whichever colour is asked."""

    address = None

    def __init__(self, twins: Twins, runtime: BlueGreen) -> None:
        self._twins = twins
        self._runtime = runtime

    async def ask(self, launch: Launch) -> Probed:
        colour = await self._runtime.colour_of(launch)
        mood = self._twins.mood(colour)
        return Probed(healthy=mood == "good", detail=f"{colour} is {mood}", seconds=0.01)


class WiredTwins(BlueGreen):
    """Whose links, too, pass the wire."""

    wire: Wire

    async def _write(self, act: Callable[..., None], *arguments: object) -> None:
        await self.wire.act("link.write", lambda: super(WiredTwins, self)._write(act, *arguments))


def side_by_side(shop: Workshop, twins: Twins, directory: Path) -> WiredTwins:
    """The real runtime, as an agent makes it at its start."""
    options, rules = shop.settings.runtime, shop.settings.blue_green
    assert isinstance(options, settings.SystemdRuntime)
    assert rules is not None
    units, front = shop._wired("units", twins), Front(rules.url).port
    table = directory / "upstreams.json"
    table.write_text(upstreams.table_of({SERVICE: PORTS}))
    silent = ("/bin/true",)
    swap = Swap(
        SERVICE, PORTS, front=front, noted=directory / "state" / "serving", units=units, clock=shop.clock,
        complaint=twins.ask, journal=silent, table=table, place=twins.place,
    )  # fmt: skip
    runtime = WiredTwins(
        options, rules, swap, state=directory / "state", directory=directory, units=units, clock=shop.clock,
        journal=silent,
    )  # fmt: skip
    runtime.wire = shop.wire
    return runtime


class TwinShop(Workshop):
    """A workshop with it."""

    twins: Twins
    directory: Path

    def settle_in(self, directory: Path) -> None:
        """The machine, then an agent."""
        self.directory = directory
        self.releases = LinkedReleases(self.disk, directory)
        self.twins = Twins(directory, self.disk)
        self.hire()

    def _tools(self) -> dict[str, Any]:
        if not hasattr(self, "twins"):
            return super()._tools()
        runtime = side_by_side(self, self.twins, self.directory)
        probe = self._wired("probe", TwinProbe(self.twins, runtime))
        wired = self._wired("runtime", runtime)
        return {"runtime": wired, "beside": wired, "probes": (probe,), "probes_at_rest": (probe,)}

    def colours(self) -> dict[str, str]:
        """What runs."""
        return {str(colour): release for colour, (release, _) in self.twins.running.items()}


@asynccontextmanager
async def twin_workshop(directory: Path, **differences: Any) -> AsyncIterator[TwinShop]:
    """With a real, empty state.db."""
    async with a_workshop(TwinShop, **(SETTINGS | differences)) as shop:
        assert isinstance(shop, TwinShop)
        shop.settle_in(directory)
        yield shop


def _colour_of(unit: str) -> Colour | None:
    return next((colour for colour in Colour if unit == instance(UNIT, colour)), None)
