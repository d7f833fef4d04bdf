"""What is wrong in how a service is fetched, built, started and gone back from: rules for `core.contradictions`."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from agent.core.colours import Colour, instance, is_template
from agent.core.freeze import wrong_windows
from agent.core.location import Finding, Location
from agent.core.paths import problem_of
from agent.core.payload import WORKFLOWS, is_file
from agent.core.refs import is_name
from agent.core.repository import is_github_name, refusal
from agent.core.settings import Build, Deploy, Drain, ProcessRuntime, Reuse, Rollback, Source, SystemdRuntime
from agent.core.shapes import host_and_port, inside_problem, overlap, unit_problem
from agent.core.units import write_duration
from agent.core.waysin import ways_in

Found = Iterator[Finding]

SHORTEST_POLL = 10.0
"""Seconds: a remote that is asked more often takes it for an attack."""
RESERVED = frozenset({"HOMEPORT_SERVICE", "HOMEPORT_REVISION", "HOMEPORT_WORKS_IN"})
"""Variables that the agent itself sets for a service."""


def _source(source: Source) -> Found:
    if problem := refusal(source.repository):
        yield Finding(("repository",), *problem)
    if source.github is not None and not is_github_name(source.github):
        yield Finding(("github",), "must be owner/name")
    if problem := _branch_problem(source.branch):
        yield Finding(("branch",), *problem)
    yield from ways_in(source)
    if 0 < source.poll < SHORTEST_POLL:
        yield Finding(("poll",), f"must be at least {write_duration(SHORTEST_POLL)}, or 0s for never")
    for index in range(len(source.paths)):
        if message := problem_of(source.paths, index):
            yield Finding(("paths", index), message)


def _branch_problem(branch: str) -> tuple[str, str] | None:
    if branch.startswith("-"):
        return "must not begin with a dash: git would take it for an option", ""
    if branch.startswith("refs/"):
        return "must be the branch's name alone", f"write `{branch.removeprefix('refs/heads/')}`"[:80]
    if branch in ("@", "HEAD") or not is_name(branch):
        return "is not a valid name of a branch", ""
    return None


def _trigger(deploy: Deploy) -> Found:
    if "workflow_run" in deploy.on and deploy.workflow is None:
        message, hint = "is missing: `on` says workflow_run", "name the workflow's file, `ci.yml` for example"
        yield Finding(("workflow",), message, hint, relies=(("on",),))
    if deploy.workflow is not None and (problem := _workflow_problem(deploy.workflow)):
        yield Finding(("workflow",), *problem)


def _rollback(rollback: Rollback) -> Found:
    workflow = rollback.on_workflow
    if workflow is not None and (problem := _workflow_problem(workflow)):
        yield Finding(("on_workflow",), *problem)


def _workflow_problem(workflow: str) -> tuple[str, str] | None:
    """A workflow is named by its file, without directories, or by its name."""
    if not workflow.strip() or re.search(r"[\x01-\x1f\x7f]", workflow):
        return "must be the name of a workflow or of its file", ""
    if is_file(workflow) and "/" in workflow:
        hint = f"write `{workflow.rpartition('/')[2]}`"[:80]
        return f"must be the name of a file in {WORKFLOWS}, without directories", hint
    return None


def _deploy(deploy: Deploy) -> Found:
    yield from _trigger(deploy)
    shared = [path.rstrip("/") for path in deploy.shared]
    for index, path in enumerate(shared):
        if problem := inside_problem(path):
            yield Finding(("shared", index), problem)
        elif ".git" in path.lower().split("/"):
            yield Finding(("shared", index), "must not be git's own directory")
        for earlier in shared[:index]:
            if overlap(path, earlier):
                yield Finding(("shared", index), "is shared twice: one path is, or contains, the other")
    yield from (finding.below(("freeze",)) for finding in wrong_windows(deploy.freeze))
    yield from _commands(("migrate",), deploy.migrate)
    reuse = deploy.build.reuse
    for name, paths in (("key", reuse.key), ("paths", reuse.paths)) if reuse else ():
        for index, path in enumerate(paths):
            if any(overlap(path.rstrip("/"), other) for other in shared):
                location: Location = ("build", "reuse", name, index)
                yield Finding(location, "is, or touches, a shared path", relies=(("shared",),))


def _build(build: Build) -> Found:
    yield from _commands(("commands",), build.commands)
    yield from _commands(("always",), build.always)
    yield from _environment(build.environment)


def _reuse(reuse: Reuse) -> Found:
    paths = [path.rstrip("/") for path in reuse.paths]
    for name, given in (("key", list(reuse.key)), ("paths", paths)):
        for index, path in enumerate(given):
            if problem := inside_problem(path):
                yield Finding((name, index), problem)
            elif any(overlap(path, other) for other in given[:index]):
                yield Finding((name, index), "stands there twice: one path is, or contains, the other")
    for index, path in enumerate(reuse.key):
        if any(overlap(path, other) for other in paths):
            yield Finding(("key", index), "must not lie in what is reused", relies=(("paths",),))


def _commands(location: Location, commands: Iterable[str]) -> Found:
    for index, command in enumerate(commands):
        if not command.strip():
            yield Finding((*location, index), "must not be empty")


def _runtime(runtime: ProcessRuntime) -> Found:
    if not runtime.command[0].strip():
        yield Finding(("command", 0), "must name a program")
    yield from _environment(runtime.environment)
    yield from _listen(runtime)


def _listen(runtime: ProcessRuntime) -> Found:
    seen: set[tuple[str, int]] = set()
    for index, address in enumerate(runtime.listen):
        try:
            place = host_and_port(address)
        except ValueError:
            yield Finding(("listen", index), "must be an IP address and a port, such as 127.0.0.1:9100")
            continue
        if place in seen:
            yield Finding(("listen", index), "stands there twice")
        seen.add(place)
    for name in runtime.environment if runtime.listen else ():
        if name.startswith("LISTEN_"):
            yield Finding(("environment", name), "is set by the agent itself", relies=(("listen",),))


def _drain(drain: Drain) -> Found:
    if (drain.signal is None) == (drain.command is None):
        yield Finding((), "needs either `signal` or `command`", relies=(("signal",), ("command",)))


def _unit(runtime: SystemdRuntime) -> Found:
    named = instance(runtime.unit, Colour.BLUE) if is_template(runtime.unit) else runtime.unit
    if problem := unit_problem(named, ("service",)):
        yield Finding(("unit",), problem)
    elif runtime.unit == "homeport.service":
        yield Finding(("unit",), "is the agent itself")
    yield from _environment(runtime.environment)


def _environment(environment: Iterable[str]) -> Found:
    for name in environment:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            yield Finding(("environment", name), "is not a valid name of an environment variable")
        elif name in RESERVED:
            yield Finding(("environment", name), "is set by the agent itself")


RULES: dict[type, tuple[Callable[[Any], Found], ...]] = {
    Source: (_source,),
    Deploy: (_deploy,),
    Rollback: (_rollback,),
    Build: (_build,),
    Reuse: (_reuse,),
    ProcessRuntime: (_runtime,),
    Drain: (_drain,),
    SystemdRuntime: (_unit,),
}
