"""Puts the agent together: builds the objects, starts the services, stops them in order.

What a reload can change lives in three places, and is exchanged there without a wait in between: the roster (who works
for which service), the monitor (what is looked at), and the server's context (what requests see).

The order of the start is the order of trust: the lock, the state and its migrations, what recovery needs, the
listeners; only then "ready". The order of the end is the reverse: nothing is accepted any more, what is under way
is left where the journal says that it is, the state is closed last.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, tzinfo
from functools import partial
from pathlib import Path

from msgspec import structs

from agent import __version__
from agent.adapters.backup import Place, a_store, sources_of
from agent.core import settings as options
from agent.core.configuration import needs_secrets
from agent.core.errors import ConfigError, Unavailable
from agent.core.model import Deployment, State
from agent.core.reload import Difference, Reloaded, difference, in_force
from agent.core.restores import RESTORED
from agent.core.settings import Settings
from agent.parts import hashes_of, keys_of, site_of, webhook_secrets_of, zone_of
from agent.services.backup import Backups, Readers
from agent.services.deployer import Deployer
from agent.services.drill import Drills
from agent.services.handover import moves, obstacle
from agent.services.healing import Healer
from agent.services.heartbeat import Heartbeat
from agent.services.lanes import Lane
from agent.services.monitor import Monitor
from agent.services.poller import Poller
from agent.services.progress import Progress
from agent.services.pruning import Pruning
from agent.services.reloading import Reloading
from agent.services.restore import Restores
from agent.services.room import Room
from agent.services.roster import Crew, Derived, Roster
from agent.services.site import Site
from agent.services.supervise import supervise
from agent.services.watchdog import Watchdog
from agent.store.backups import BackupRows
from agent.store.database import Database
from agent.store.events import EventLog
from agent.store.inbox import Inbox
from agent.store.journal import Journal
from agent.store.polls import Polls
from agent.store.restores import RestoreRows
from agent.store.rollbacks import Rollbacks
from agent.store.services import ServiceRows
from agent.system import files, memory, notify
from agent.system.ballast import Ballast
from agent.system.clock import SystemClock
from agent.system.host import Host
from agent.system.secrets import Secrets
from agent.system.systemd import Systemd
from agent.system.threads import in_thread
from agent.web.context import Context
from agent.web.server import Server

Load = Callable[[], tuple[Settings, Secrets]]
"""Reads the configuration file anew. Blocking; raises ConfigError with every problem."""

STARTED = (State.SUCCEEDED, State.ROLLED_BACK, State.BROKEN)
"""A deployment with a release that ended so has started a process."""


class Agent:
    """Everything that runs, by name. `settings` must have been checked; `load` reads `file` once more for a reload."""

    def __init__(self, settings: Settings, secrets: Secrets, load: Load, file: Path) -> None:
        self._settings = settings
        self._secrets = secrets
        self.clock = SystemClock()
        self.units = Systemd()
        self._state_dir = state_dir = Path(settings.state_dir)
        self.ballast = Ballast(state_dir / "ballast")
        self.database = Database(state_dir / "state.db", reserve=self.ballast)
        self.journal = Journal(self.database, self.clock)
        self.services = ServiceRows(self.database, self.clock)
        self.rollbacks = Rollbacks(self.database, self.clock)
        self.events = EventLog(self.database)
        self.heartbeat = Heartbeat(self.clock)
        self.roster = Roster(self.clock, self.heartbeat)
        self.sites, self.locks = self.roster.sites, self.roster.locks
        self.progress = Progress()
        self.pollers: dict[str, Poller] = {}
        self._polls = Polls(self.database, self.clock)
        self._building = asyncio.Lock()
        self._make_data(state_dir)
        zone = zone_of(settings)
        for name in settings.services:
            self.roster.assign(self._make_crew(name, settings, zone))
        self.room = Room(
            self.database, self.events, self.clock, why=lambda: self.ballast.why,
            restore=lambda: in_thread(self.ballast.restore), wake=self._wake_all,
        )  # fmt: skip
        self.monitor = Monitor(
            self.sites, self.services, self.events, self.roster.busy,
            settings.monitor.every, self.clock, beside=self.room.look,
        )  # fmt: skip
        self.reloading = self._make_reloading(load, file)
        self._started_under = {name: service.runtime for name, service in settings.services.items()}
        self.server = Server(self._make_context(state_dir, secrets))
        self.watchdog = Watchdog(
            self.heartbeat, self.clock, every=notify.watchdog_seconds(), feed=notify.alive,
            tell=notify.status, services=lambda: len(self._settings.services),
        )  # fmt: skip

    def _make_data(self, state_dir: Path) -> None:
        """What keeps the services' data: backups, their rules, restores, drills."""
        store, readers = a_store(state_dir / "backups", version=__version__), Readers()
        rows, restores = BackupRows(self.database, self.clock), RestoreRows(self.database, self.clock)
        self._restored = restores
        places = Derived(self.sites, lambda site: Place(Path(site.settings.directory)))
        sources = Derived(self.sites, lambda site: sources_of(site.settings))
        self.pruning = Pruning(
            store=store, rows=rows, restores=restores, journal=self.journal, services=self.services,
            keep=Derived(self.sites, lambda site: site.settings.backup.keep), places=places,
            locks=self.locks, readers=readers, clock=self.clock,
        )  # fmt: skip
        self.backups = Backups(
            store=store, sources=sources, rows=rows, locks=self.locks, clock=self.clock, readers=readers,
            tidy=self.pruning.tidy,
        )  # fmt: skip
        self.restores = Restores(
            sites=self.sites, places=places, store=store, backups=self.backups, pruning=self.pruning,
            sources=Derived(self.sites, lambda site: tuple(one.source for one in sources_of(site.settings))),
            rows=restores, services=self.services, locks=self.locks, clock=self.clock,
        )  # fmt: skip
        self.drills = Drills(
            store=store, backups=self.backups, rows=restores, readers=readers, clock=self.clock
        )

    def _site_of(self, name: str, settings: Settings, zone: tzinfo = UTC) -> Site:
        service = settings.services[name]
        return site_of(
            name, service, self._state_dir, self._secrets, self.clock, self.units, zone, self._ensure_room,
            self._building,
        )  # fmt: skip

    def _make_crew(self, name: str, settings: Settings, zone: tzinfo) -> Crew:
        site, service = self._site_of(name, settings, zone), settings.services[name]
        self.pollers.pop(name, None)
        beside: dict[str, Callable[[], Awaitable[None]]] = {}
        if service.source.poll:
            poller = Poller(site, self._polls, partial(self.roster.wake, name), self.clock, random.random)
            self.pollers[name], beside[f"poller {name}"] = poller, poller.run
        if service.health.restarts or service.rollback.probation:
            beside[f"healer {name}"] = self._make_healer(site).run
        return Crew(site=site, lane=self._make_lane(site), beside=beside)

    def _make_healer(self, site: Site) -> Healer:
        return Healer(
            site, self.services, self.rollbacks, self.events, self.locks[site.name], self.clock,
            every=lambda: self._settings.monitor.every,
            health=lambda: self.monitor.health().get(site.name, ("unknown", "")),
            look=partial(self._look_at, site.name), in_hand=self._in_hand,
            wake=partial(self.roster.wake, site.name),
        )  # fmt: skip

    async def _in_hand(self, name: str) -> bool:
        """Whether a deployment or a restore that was begun says what is to run, or a person must: data that could not
        be put back."""
        if any(deployment.service == name for deployment in await self.journal.unfinished()):
            return True
        newest = next(iter(await self._restored.of(name)), None)
        return newest is not None and (newest.state not in RESTORED or newest.reason == "restore-failed")

    async def _look_at(self, name: str) -> None:
        await self.monitor.look(name)

    def _make_lane(self, site: Site) -> Lane:
        deployer = Deployer(
            site, self.journal, self.services, self.rollbacks, self.restores, self.clock, self.progress
        )
        return Lane(
            site, deployer, self.journal, self.services, self.rollbacks, self.locks[site.name], self.clock,
            self._ended, settle=partial(self.restores.recover, site.name),
            tidy=partial(self._tidy, site.name), short=lambda: self.database.short,
        )  # fmt: skip

    async def _ensure_room(self) -> None:
        await in_thread(self.ballast.ensure)

    def _wake_all(self) -> None:
        for name in self._settings.services:
            self.roster.wake(name)

    async def _tidy(self, name: str) -> None:
        """After a deployment: what it has filled, on the disk and in memory, is given back."""
        await self.pruning.tidy(name)
        await in_thread(memory.give_back)

    def _make_reloading(self, load: Load, file: Path) -> Reloading[tuple[Settings, Secrets]]:
        return Reloading(
            str(file),
            stamp=lambda: in_thread(files.stamp, file),
            load=lambda: in_thread(self._load, load),
            apply=self._apply,
            events=self.events,
            clock=self.clock,
        )

    def _make_context(self, state_dir: Path, secrets: Secrets) -> Context:
        return Context(
            settings=self._settings,
            journal=self.journal,
            inbox=Inbox(self.database, self.clock),
            services=self.services,
            rollbacks=self.rollbacks,
            events=self.events,
            backups=self.backups,
            restores=self.restores,
            pruning=self.pruning,
            drills=self.drills,
            progress=self.progress,
            clock=self.clock,
            version=__version__,
            started=self.clock.monotonic(),
            webhook_secrets=webhook_secrets_of(self._settings, secrets),
            keys=keys_of(self._settings, secrets),
            config_hash=hashes_of(self._settings),
            wake=self.roster.wake,
            regard=self.monitor.regard,
            health=self.monitor.health,
            host=partial(in_thread, Host(state_dir).figures),
            polled=lambda name: self.pollers[name].last if name in self.pollers else None,
            frozen_until=lambda name: self.sites[name].freeze.until(self.clock.now()),
            trouble=self.room.trouble,
            config=self.reloading.status,
            reload=self.reloading.reload,
            redact=secrets.redact,
        )

    def _ended(self, deployment: Deployment) -> None:
        self.monitor.ended(deployment)
        if deployment.release is not None and deployment.state in STARTED:
            self._started_under[deployment.service] = self.sites[deployment.service].settings.runtime

    async def run(self, ready: Callable[[], None], stop: asyncio.Event) -> None:
        """Works until `stop` is set. Raises Unavailable before `ready` if it cannot begin."""
        watched: asyncio.Task[None] | None = None
        await in_thread(self.ballast.restore)
        await self.database.open()
        try:
            await self.backups.adopt()
            await self.monitor.prime()
            await self.server.start()
            ready()
            watched = asyncio.create_task(supervise("watchdog", self.watchdog.run, self.clock))
            await self._work(stop)
        finally:
            await self.server.stop()
            await self.units.close()
            await self.database.close()
            if watched is not None:
                watched.cancel()

    async def _work(self, stop: asyncio.Event) -> None:
        """The long-running services; told to stop, each is cancelled at its next await, the switch excepted."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.roster.run())]
            loops = {
                "monitor": self.monitor.run, "backups": self.backups.settle, "reloading": self.reloading.run,
            }  # fmt: skip
            for name, run in loops.items():
                beat = self.heartbeat.of(name)
                tasks.append(group.create_task(supervise(name, run, self.clock, beat)))
            await stop.wait()
            self.heartbeat.end()  # how long a stop may take says the unit
            for task in tasks:  # at once: no switch is begun while requests are let finish
                task.cancel()
            await self.server.stop()
        await self.journal.stop_in_order()

    # --- a reload

    def _load(self, load: Load) -> tuple[Settings, Secrets]:
        """Reads the file; what is wrong with it does not repeat a secret that is in use."""
        try:
            return load()
        except ConfigError as error:
            hidden = [
                replace(
                    problem,
                    path=self._secrets.redact(problem.path),
                    message=self._secrets.redact(problem.message),
                )
                for problem in error.problems
            ]
            raise ConfigError(hidden, file=error.file) from error

    async def _apply(self, loaded: tuple[Settings, Secrets]) -> Reloaded:
        """Puts another configuration in force. All that can fail comes before the exchange, which waits for nothing:
        nobody ever sees a part of it."""
        wanted, secrets = loaded
        settings = in_force(self._settings, wanted)
        differs = difference(self._settings, wanted, self._rotated(settings, secrets))
        zone = zone_of(settings)
        context = replace(
            self.server.context,
            settings=settings,
            webhook_secrets=webhook_secrets_of(settings, secrets),
            keys=keys_of(settings, secrets),
            config_hash=hashes_of(settings),
        )
        await self._demand_successors(settings, differs.changed)
        await self.monitor.prime(differs.added)
        live = [name for name in settings.services if await self.services.live(name) is not None]
        if self.server.context.stopping:
            raise Unavailable("stopping", "the agent is being stopped")
        busy = tuple(name for name in differs.changed + differs.removed if self.roster.busy(name))
        self._exchange(settings, secrets, context, differs, zone)
        return Reloaded(
            file=self.reloading.status().file,
            loaded_at=self.clock.now(),
            after_deployment=busy,
            older_runtime=tuple(name for name in live if self._runs_older(name)),
            **structs.asdict(differs),
        )

    async def _demand_successors(self, settings: Settings, changed: Sequence[str]) -> None:
        """Raises ConfigError for services that could not go on as what the file makes of them."""
        found = [
            await obstacle(self._site_of(name, settings), self.services)
            for name in changed
            if moves(self._settings.services[name], settings.services[name])
        ]
        if problems := [problem for problem in found if problem is not None]:
            raise ConfigError(problems, file=self.reloading.status().file)

    def _exchange(
        self, settings: Settings, secrets: Secrets, context: Context, differs: Difference, zone: tzinfo
    ) -> None:
        self._secrets.adopt(secrets)
        crews = [self._make_crew(name, settings, zone) for name in differs.added + differs.changed]
        self._settings, self.server.context = settings, context
        for crew in crews:
            self.roster.assign(crew)
        for name in differs.removed:
            self.pollers.pop(name, None)
            self.roster.dismiss(name)
        self.monitor.watch(tuple(settings.services), settings.monitor.every)
        self.watchdog.report()

    def _rotated(self, settings: Settings, secrets: Secrets) -> set[str]:
        """The services that name a secret which is another one now, though its reference is the same."""
        return {
            path.split(".")[1]
            for path, reference in needs_secrets(settings)
            if path.startswith("services.")
            and isinstance(reference, options.SecretRef)
            and self._secrets.get(reference) != secrets.get(reference)
        }

    def _runs_older(self, name: str) -> bool:
        """Whether what runs was started with another `runtime` than the one in force, as far as this agent knows."""
        now = self._settings.services[name].runtime
        return self._started_under.setdefault(name, now) != now
