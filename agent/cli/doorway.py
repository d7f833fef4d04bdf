"""What `homeport doctor` looks at of nginx: whom it sends users to, and what they get there."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

from agent.adapters.front import Front
from agent.core import checkup, installing, upstreams
from agent.core.checkup import Check
from agent.core.colours import Colour
from agent.core.settings import BlueGreen, Service, Settings
from agent.system import commands


def looked_at(settings: Settings) -> Iterator[Check]:
    """nginx before services that change over side by side."""
    for name, service in settings.services.items():
        if service.blue_green is not None:
            yield from _service(name, service, service.blue_green)
    if os.geteuid() == 0 and (tried := commands.run("nginx", "-t")).status != commands.NOT_THERE:
        yield checkup.of_nginx(tried.status, tried.text)


def _service(name: str, service: Service, rules: BlueGreen) -> Iterator[Check]:
    path = Path(upstreams.path_of(name))
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    yield checkup.of_upstream(str(path), upstreams.served_by(text, name, rules.ports))
    for unit in installing.names_of(service):
        enabled = commands.run("systemctl", "is-enabled", unit).text
        yield checkup.of_colour(unit, enabled)
    # before the first deployment there is nobody who could answer
    if any((Path(service.directory) / colour).is_symlink() for colour in Colour):
        front = Front(rules.url, verify_tls=rules.verify_tls)
        yield checkup.of_users(rules.url, asyncio.run(front.complaint()))
