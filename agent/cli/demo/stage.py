"""The demo's own small world in a temporary directory, and its orderly end.

The agent is a child process with a configuration as a user would write it. It runs in a session of its own, so that
Ctrl-C reaches the demo alone, which then ends the agent, the service (a `process` service outlives its agent by
design) and removes the directory, in this order.
"""

import asyncio
import ctypes
import json
import os
import secrets
import shlex
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import agent
from agent.cli.demo.failure import DemoFailed
from agent.cli.demo.gallery import PER_PAGE, Gallery
from agent.cli.demo.github import NAME, OWNER
from agent.cli.demo.repository import Push, Repository
from agent.core.errors import Unavailable
from agent.core.text import clean_lines, tail
from agent.system.clock import SystemClock
from agent.system.files import remove_tree
from agent.system.threads import in_thread

SERVICE = "scraper"
LONGEST_SOCKET = 100
"""Bytes; the kernel allows 107 (unix(7))."""
STOP_SECONDS = 30.0
PR_SET_CHILD_SUBREAPER = 36  # prctl(2); of no harm where it is not known

CONFIG = """\
# Written by `homeport demo`; every option is in the documentation of the configuration.
listen: {{host: 127.0.0.1, port: {port}, socket: {socket}}}
state_dir: {state}
access:
  tokens: [{{name: demo, secret: {{file: {token}}}, scopes: [admin]}}]
github:
  webhook_secrets: [{{file: {webhook}}}]
services:
  {service}:
    directory: {directory}
    source: {{repository: {repository}, github: {github}, branch: main, poll: 0s}}
    deploy:
      build: {{commands: [{build}], timeout: 2m}}
      shared: [data]
    runtime:
      kind: process
      command: [{python}, -m, scraper]
      environment:
        SCRAPER_PORT: "{service_port}"
        SCRAPER_GALLERY: {gallery}
        SCRAPER_EVERY: "1"
        SCRAPER_DELAY: "0"
      stop_timeout: 10s
    health:
      every: 200ms
      timeout: 30s
      successes: 3
      soak: 1s
      probes: [{{kind: http, url: "http://127.0.0.1:{service_port}/health", status: 200}}]
    backup:
      sources: [{{kind: sqlite, path: shared/data/scraper.db}}]
"""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Where everything is."""

    root: Path
    socket: Path
    port: int
    service_port: int
    token: str
    webhook_secret: bytes
    gallery: Gallery
    repository: Repository
    first: Push
    """The example scraper as it is; the agent has not heard of it yet."""

    @property
    def url(self) -> str:
        """The agent's address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def service_url(self) -> str:
        """The service's address."""
        return f"http://127.0.0.1:{self.service_port}"

    async def run_command(self, *arguments: str) -> str:
        """Runs `homeport ARGUMENTS` against this agent as a user would, and returns what it printed."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "agent", *arguments, "--socket", str(self.socket)),
            cwd=self.root,
            env=_environment(self.root),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(), 60)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        text = clean_lines(output.decode("utf-8", "replace"))
        if process.returncode != 0:
            raise DemoFailed(f"`homeport {shlex.join(arguments)}` failed", details=text)
        return text

    def log(self) -> str:
        """The end of the agent's log."""
        try:
            text = (self.root / "agent.log").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return tail(clean_lines(text), 4000)


@asynccontextmanager
async def set_up(port: int | None) -> AsyncIterator[Stage]:
    """Builds the world, with a running agent that has deployed nothing yet. Nothing of it is left at the end.

    Raises Unavailable(port-taken) and DemoFailed.
    """
    _adopt_orphans()
    async with AsyncExitStack() as stack:
        root = _make_root()  # at once: cut off in a thread it would be left behind
        stack.push_async_callback(in_thread, remove_tree, root)
        gallery = Gallery(published=2 * PER_PAGE)
        gallery_url = await stack.enter_async_context(gallery.serve())
        repository = Repository(root)
        stage = Stage(
            root=root,
            socket=root / "agent.sock",
            port=_checked(port) if port else free_port(),
            service_port=free_port(besides=port),
            token=secrets.token_urlsafe(24),
            webhook_secret=secrets.token_hex(32).encode(),
            gallery=gallery,
            repository=repository,
            first=await repository.create(),
        )
        await in_thread(_write_configuration, stage, gallery_url)
        stack.push_async_callback(_stop_service, stage)
        await stack.enter_async_context(_agent(stage))
        yield stage


@asynccontextmanager
async def _agent(stage: Stage) -> AsyncIterator[None]:
    """The agent as a child process. It has 30 s to end: what it is doing is cut off and recorded, not waited for."""
    with (stage.root / "agent.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "agent", "serve", "--config", str(stage.root / "config.yaml")),
            cwd=stage.root,
            env=_environment(stage.root),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        await _answers(stage, process)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _answers(stage: Stage, process: asyncio.subprocess.Process) -> None:
    """Waits for the agent's first good answer."""
    import aiohttp

    from agent.cli.demo.watch import ask

    limit = asyncio.get_running_loop().time() + 60  # a Pi Zero takes several seconds for its imports
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
        while await ask(session, f"{stage.url}/health") is None:
            if process.returncode is not None:
                message = f"the agent ended with status {process.returncode} instead of serving"
                raise DemoFailed(message, details=stage.log())
            if asyncio.get_running_loop().time() > limit:
                raise DemoFailed("the agent does not answer", details=stage.log())
            await asyncio.sleep(0.05)


async def _stop_service(stage: Stage) -> None:
    """Ends what the agent left running: the next agent would have gone on with it, but there will be none."""
    from agent.cli.configuration import load
    from agent.parts import site_of
    from agent.system.systemd import Systemd

    settings, known = await in_thread(load, stage.root / "config.yaml", os.environ)
    service, state = settings.services[SERVICE], Path(settings.state_dir)
    site = site_of(SERVICE, service, state, known, SystemClock(), Systemd())
    await site.runtime.stop()


def _adopt_orphans() -> None:
    """Makes the service this process's child when the agent ends, so that stopping it also takes its status.

    In a container whose first process does not do that, it would stay in the process list as a zombie.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _make_root() -> Path:
    """A new directory, readable for its owner only, short enough for a socket's path."""
    root = Path(tempfile.mkdtemp(prefix="homeport-demo-"))
    if len(os.fsencode(root / "agent.sock")) <= LONGEST_SOCKET:
        return root.resolve()
    root.rmdir()
    return Path(tempfile.mkdtemp(prefix="homeport-demo-", dir="/tmp"))


def _write_configuration(stage: Stage, gallery_url: str) -> None:
    token, webhook = stage.root / "token", stage.root / "webhook-secret"
    for path, secret in ((token, stage.token.encode()), (webhook, stage.webhook_secret)):
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secret)
    strings = {
        "socket": str(stage.socket),
        "state": str(stage.root / "state"),
        "token": str(token),
        "webhook": str(webhook),
        "directory": str(stage.root / "service"),
        "repository": str(stage.repository.bare),
        "github": f"{OWNER}/{NAME}",
        "build": shlex.join([sys.executable, "-m", "compileall", "-q", "scraper"]),
        "python": sys.executable,
        "gallery": gallery_url,
    }
    quoted = {
        name: json.dumps(text, ensure_ascii=False) for name, text in strings.items()
    }  # valid as YAML too
    text = CONFIG.format(port=stage.port, service_port=stage.service_port, service=SERVICE, **quoted)
    (stage.root / "config.yaml").write_text(text, encoding="utf-8")


def _environment(home: Path) -> dict[str, str]:
    """Nothing of the person's own but the path; `agent` is found also where it was never installed."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(Path(agent.__file__).parent.parent),
    }


def free_port(*, besides: int | None = None) -> int:
    """A free loopback port, not one that the kernel gives to outgoing connections.

    From that range a client that asks a stopped service over and over would sooner or later be given the service's
    own port, and the service could not come back.
    """
    outgoing = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii")
    lowest, highest = map(int, outgoing.split())
    ports: Sequence[int] = [*range(10000, lowest), *range(highest + 1, 65536)] or range(10000, 65536)
    for _ in range(1000):
        port = secrets.choice(ports)
        if port != besides and _is_free(port):
            return port
    raise Unavailable("port-taken", "there is no free port on loopback")


def _checked(port: int) -> int:
    if not _is_free(port):
        raise Unavailable("port-taken", f"port {port} is taken", hint="Choose another one with --port.")
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
