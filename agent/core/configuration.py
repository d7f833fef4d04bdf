"""From what stands in the file to `Settings`, or to a list of every problem.

    document (plain values, lines)  --msgspec-->  Settings as written  --contradictions-->  --complete-->  Settings
                                    \\-- failed: every error of the schema; the rest is read without those parts,
                                        so that its contradictions are told in the same breath

Pure: the file is read by `system.configfile`, secrets by `system.secrets`, all of it together by `cli.configuration`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from agent.core.contradictions import contradictions, is_loopback
from agent.core.deriving import complete, placed
from agent.core.errors import ConfigError, Problem
from agent.core.location import Finding, Location, dotted, line_of, related, walk
from agent.core.settings import (
    Bytes,
    Deploy,
    KeyRef,
    Seconds,
    SecretRef,
    Settings,
)
from agent.core.triggers import repository_of
from agent.core.units import parse_duration, parse_size

Need = tuple[str, SecretRef | KeyRef]
"""A dotted path in the file, and the secret or the key that it refers to."""


@dataclass(frozen=True)
class Examined:
    """What a document says. With problems, `settings` is only what could be read and must not be used to run."""

    settings: Settings
    problems: list[Problem] = field(default_factory=list)
    needs: list[Need] = field(default_factory=list)


def read(
    document: object, *, lines: Mapping[str, int] | None = None, file: str = "", base: str = "/"
) -> Settings:
    """The settings of a document, complete: paths absolute, defaults derived.

    `lines` maps dotted paths to lines; relative paths start from `base`. Raises ConfigError with every problem.
    """
    examined = examine(document, lines=lines, base=base)
    if examined.problems:
        raise ConfigError(examined.problems, file=file)
    return examined.settings


def examine(
    document: object,
    *,
    lines: Mapping[str, int] | None = None,
    base: str = "/",
    known: Sequence[Problem] = (),
) -> Examined:
    """Like `read`, but answers with what it found. What is `known` already is passed on, and not found twice."""
    try:
        settings = _convert(document)
        found: list[Finding] = []
        parts = _Parts()
    except msgspec.ValidationError as error:
        settings, found, parts = _salvage(document, error)
    for finding in contradictions(settings, base):
        finding = parts.original(finding)  # noqa: PLW2901 - the same finding, at its place in the whole document
        if not parts.echoes(finding):
            found.append(finding)
    problems = [*known, *_problems(found, lines or {}, known)]
    needs = [(dotted(parts.at(location)), placed(secret, base)) for location, secret in _references(settings)]
    return Examined(settings if problems else complete(settings, base), in_order(problems), needs)


def needs_secrets(settings: Settings) -> list[Need]:
    """Every reference to a secret or a key, with the path at which it stands."""
    return [(dotted(location), secret) for location, secret in _references(settings)]


def warnings(settings: Settings) -> list[Problem]:
    """What is allowed and probably not meant. `settings` are complete."""
    found: list[tuple[str, str]] = []
    if not settings.services:
        found.append(("services", "is empty: nothing will be deployed"))
    if not settings.github.webhook_secrets:
        found.append(("github.webhook_secrets", "is empty: /webhook refuses every delivery"))
    if not is_loopback(settings.listen.host) and settings.public_url is None and not settings.hosts:
        found.append(("hosts", "is empty: the page answers only under the address itself"))
    for name, service in settings.services.items():
        here = f"services.{name}"
        if service.runtime.__struct_config__.tag == "process":
            found.append(
                (f"{here}.runtime", "is the embedded mode: only the agent starts and watches the service")
            )
        if service.deploy.on and repository_of(service.source) is None:
            found.append((f"{here}.source", "names no GitHub repository: no delivery will match it"))
        found += [(f"{here}.deploy.{option}", message) for option, message in _useless(service.deploy)]
        if all(probe.when == "live" for probe in service.health.probes):
            which = "no probe that is asked in a deployment" if service.health.probes else "no probes"
            found.append((f"{here}.health", f"has {which}: a process that stays alive counts as healthy"))
        if service.backup.before_deploy == "off":
            found.append((f"{here}.backup.before_deploy", "is off: nothing is saved before a switch"))
    return [Problem(path, message) for path, message in found]


def _useless(deploy: Deploy) -> Iterator[tuple[str, str]]:
    """Options about events that the service does not deploy on."""
    if "workflow_run" not in deploy.on:
        if deploy.workflow is not None:
            yield "workflow", "changes nothing: `on` does not say workflow_run"
        if deploy.workflow_events != ("push",):
            yield "workflow_events", "changes nothing: `on` does not say workflow_run"
    if "release" not in deploy.on and deploy.prereleases:
        yield "prereleases", "changes nothing: `on` does not say release"


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """As they stand in the file."""
    return sorted(problems, key=lambda problem: (problem.line or 0, problem.path))


# --- reading


def _convert(document: object) -> Settings:
    settings = msgspec.convert(document, Settings, dec_hook=decode)
    if isinstance(document, dict):
        _want_kinds(document)
    return settings


def decode(kind: type, value: object) -> object:
    """msgspec's hook for `Seconds` and `Bytes`. Raises ValueError, which msgspec gives its place."""
    if kind is Seconds and isinstance(value, str):
        return parse_duration(value)
    if kind is Bytes and isinstance(value, str):
        return parse_size(value)
    if kind is Bytes and isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return Bytes(value)
    raise ValueError("must be a duration or a size")


def _want_kinds(document: dict[str, Any]) -> None:
    """msgspec wants a `kind` only where there are several; the file has it everywhere, so that more can come."""
    for service in document.get("services", {}).values():
        blocks = [service["runtime"]]
        if "store" in service.get("backup", {}):
            blocks.append(service["backup"]["store"])
        if any("kind" not in block for block in blocks):
            raise msgspec.ValidationError("a block has no kind")


_FILLERS: dict[str, object] = {
    "repository": "/",
    "source": {"repository": "/"},
    "runtime": {"kind": "process", "command": ["true"]},
}
"""What stands in for a required part that is wrong, so that the rest of its service can be looked at."""


class _Parts:
    """Which parts of a document were left out or filled in, and where the kept ones stood before."""

    def __init__(self) -> None:
        self.dropped: set[Location] = set()
        self._filled: set[Location] = set()
        self._moved: dict[Location, Location] = {}

    def without(self, document: object, findings: Sequence[Finding]) -> object:
        """The whole document without all parts that were wrong before, and what these findings are about."""
        for finding in findings:
            if (
                finding.is_missing
                and finding.location[-1] in _FILLERS
                and finding.location not in self._filled
            ):
                self._filled.add(finding.location)
            else:
                self.dropped.add(finding.dropped)
        self._moved = {}
        return {} if () in self.dropped else self._reduce(document, (), ())

    def _reduce(self, value: object, here: Location, there: Location) -> object:
        if isinstance(value, dict):
            kept = {key: item for key, item in value.items() if (*here, key) not in self.dropped}
            reduced = {key: self._reduce(item, (*here, key), (*there, key)) for key, item in kept.items()}
            filled = {str(location[-1]) for location in self._filled if location[:-1] == here}
            return reduced | {key: _FILLERS[key] for key in filled}
        if not isinstance(value, list | tuple):
            return value
        result: list[object] = []
        for index, item in enumerate(value):
            before, after = (*here, index), (*there, len(result))
            if before not in self.dropped:
                self._moved[after] = before
                result.append(self._reduce(item, before, after))
        return result

    def at(self, location: Location) -> Location:
        """Where a location of the reduced document stands in the whole one."""
        for length in range(len(location), 0, -1):
            if location[:length] in self._moved:
                return (*self._moved[location[:length]], *location[length:])
        return location

    def original(self, finding: Finding) -> Finding:
        """A finding in the reduced document, as one in the whole one."""
        return Finding(
            self.at(finding.location),
            finding.message,
            finding.hint,
            drop=self.at(finding.dropped),
            relies=tuple(self.at(other) for other in finding.relies),
            whole=finding.whole,
        )

    def echoes(self, finding: Finding) -> bool:
        """Whether a finding may only be there because something was left out."""
        places = (finding.location, *finding.relies)
        return any(related(place, dropped) for place in places for dropped in self.dropped | self._filled)


def _salvage(document: object, error: msgspec.ValidationError) -> tuple[Settings, list[Finding], _Parts]:
    """Every error of the schema, and what can be read without the parts that are wrong."""
    from agent.core.findings import explain

    found = explain(document) or [Finding((), f"cannot be read: {error}")]
    parts, wrong = _Parts(), found
    while True:
        rest = parts.without(document, wrong)
        try:
            return _convert(rest), found, parts
        except msgspec.ValidationError:
            # what was left out may be required by what is around it
            wrong = [parts.original(finding) for finding in explain(rest)] or [Finding((), "")]


def _problems(found: Sequence[Finding], lines: Mapping[str, int], known: Sequence[Problem]) -> list[Problem]:
    told = {problem.path for problem in known}
    return [
        Problem(path, finding.message, line_of(lines, path), finding.hint)
        for finding in found
        if (path := dotted(finding.location)) not in told
    ]


def _references(settings: Settings) -> list[tuple[Location, SecretRef | KeyRef]]:
    return [
        (location, value) for location, value, _ in walk(settings) if isinstance(value, SecretRef | KeyRef)
    ]
