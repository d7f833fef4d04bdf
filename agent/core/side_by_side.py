"""What is wrong in how a service runs side by side: a rule for `core.contradictions`."""

from collections.abc import Iterator

from agent.core.colours import is_template, names_port
from agent.core.location import Finding, Location
from agent.core.settings import BlueGreen, Service, Settings, SystemdRuntime
from agent.core.shapes import url_problem

Found = Iterator[Finding]

_STRATEGY: Location = ("deploy", "strategy")


def service(options: Service) -> Found:
    """Blue-green needs a template unit, two ports, a probe that asks there, and nginx in front."""
    wanted, block, runtime = options.deploy.strategy == "blue-green", options.blue_green, options.runtime
    template = isinstance(runtime, SystemdRuntime) and is_template(runtime.unit)
    if template and not wanted:
        hint = "write `deploy: {strategy: blue-green}`, or name one instance"
        yield Finding(
            ("runtime", "unit"), "is a template: which instance is meant?", hint, relies=(_STRATEGY,)
        )
    if block is not None and not wanted:
        yield Finding(("blue_green",), "is only for `deploy.strategy: blue-green`", relies=(_STRATEGY,))
    if not wanted:
        return
    if not isinstance(runtime, SystemdRuntime):
        message = "must be systemd: systemd keeps both instances apart"
        yield Finding(("runtime", "kind"), message, relies=(_STRATEGY,))
    elif not template:
        hint = f"write `{runtime.unit.partition('@')[0].removesuffix('.service')}@.service`"
        message = "must be a template, of which there can be two instances"
        yield Finding(("runtime", "unit"), message, hint, relies=(_STRATEGY,))
    if block is None:
        hint = "for example {ports: [9101, 9102], url: https://pi.example.org/}"
        yield Finding(
            ("blue_green",), "is missing: `deploy.strategy` says blue-green", hint, relies=(_STRATEGY,)
        )
        return
    yield from _ports(options, block)
    if problem := url_problem(block.url):
        yield Finding(("blue_green", "url"), problem)


def _ports(options: Service, block: BlueGreen) -> Found:
    first, second = block.ports
    if first == second:
        yield Finding(
            ("blue_green", "ports", 1), "is the first one again", relies=(("blue_green", "ports", 0),)
        )
    if "PORT" in options.runtime.environment:
        message = "is set by the agent itself: each instance has its own"
        yield Finding(("runtime", "environment", "PORT"), message, relies=(("blue_green",),))
    trial = [probe for probe in options.health.probes if probe.when != "live"]
    if not any(names_port(probe, first) for probe in trial):
        message = f"must have a probe that asks at port {first}, which stands for whichever instance is asked"
        hint = f"for example {{kind: http, url: http://127.0.0.1:{first}/health}}"
        yield Finding(("health", "probes"), message, hint, relies=(("blue_green", "ports"),))
    for index, probe in enumerate(options.health.probes):
        if first != second and names_port(probe, second):
            message = f"asks at port {second}: write {first}, which stands for whichever instance is asked"
            yield Finding(("health", "probes", index), message, relies=(("blue_green", "ports"),))


def ports(settings: Settings) -> Found:
    """Two services at one port; or a service at the agent's own."""
    owners: dict[int, Location] = {settings.listen.port: ("listen", "port")}
    for name, options in settings.services.items():
        for index, port in enumerate(options.blue_green.ports if options.blue_green else ()):
            here: Location = ("services", name, "blue_green", "ports", index)
            owner = owners.setdefault(port, here)
            if owner[:2] != here[:2]:
                yield Finding(here, "is taken by another one", relies=(owner,))
