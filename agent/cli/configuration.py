"""The configuration as `serve` and `check` read it: file, settings and secrets in one go, all problems at once."""

import os.path
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from agent.core import configuration, isolation
from agent.core.codes import CODES
from agent.core.errors import ConfigError, Problem
from agent.core.gitversion import CORRECTIONS, is_before_the_fixes
from agent.core.location import line_of
from agent.core.settings import Settings
from agent.core.text import clean
from agent.system import configfile, programs, zones
from agent.system.secrets import Secrets


@dataclass(frozen=True)
class Loaded:
    """What a file says. With problems, the settings must not be used to run."""

    settings: Settings
    secrets: Secrets
    problems: list[Problem]
    warnings: list[Problem]


def load(path: Path, environ: Mapping[str, str]) -> tuple[Settings, Secrets]:
    """The settings, complete, and their secrets, all resolved. Raises ConfigError with every problem."""
    loaded = look(path, environ, credentials_required=True)
    if loaded.problems:
        raise ConfigError(loaded.problems, file=str(path))
    return loaded.settings, loaded.secrets


def look(path: Path, environ: Mapping[str, str], *, credentials_required: bool) -> Loaded:
    """Like `load`, but answers with the problems. Raises ConfigError only for a file that cannot be read at all.

    A credential exists only where systemd started the program. Unless `credentials_required`, one that cannot be
    looked at for that reason is a warning.
    """
    document = configfile.read(path)
    if document.value is None and not document.problems:
        raise ConfigError([Problem("", "is empty")], file=str(path))
    base = str(Path(os.path.abspath(path)).parent)  # noqa: PTH100 - a link to the file does not move its paths
    examined = configuration.examine(document.value, lines=document.lines, base=base, known=document.problems)
    secrets = Secrets(environ)
    needs, unseen = examined.needs, []
    if not secrets.has_credentials and not credentials_required:
        unseen = [path for path, reference in needs if reference.credential is not None]
        needs = [need for need in needs if need[0] not in unseen]
    told = {problem.path for problem in examined.problems}
    missing = [problem for problem in secrets.resolve_all(needs) if problem.path not in told]
    missing += [problem for problem in _zone_problems(examined.settings, environ) if problem.path not in told]
    warnings = []
    if not examined.problems:
        warnings = [*configuration.warnings(examined.settings), *of_machine(examined.settings)]
    warnings += [Problem(path, "is not looked at: only systemd hands over credentials") for path in unseen]
    return Loaded(
        examined.settings,
        secrets,
        configuration.in_order(_without(secrets, [*examined.problems, *_at_lines(missing, document.lines)])),
        _at_lines(warnings, document.lines),
    )


def of_machine(settings: Settings) -> list[Problem]:
    """What this machine lacks for what the configuration wants: told, not refused."""
    return of_programs(settings) + of_builds(settings)


def of_builds(settings: Settings) -> list[Problem]:
    """Builds that have to be isolated, and nobody has prepared it. (`homeport doctor` looks at what was prepared.)"""
    return [
        Problem(
            f"services.{name}.deploy.build.isolated",
            "is not prepared on this machine: no build will begin",
            hint=CODES["build-not-prepared"].hint,
        )
        for name, service in settings.services.items()
        if service.deploy.build.isolated and not Path(isolation.recipe_path(name)).exists()
    ]


def of_programs(settings: Settings) -> list[Problem]:
    """What this machine's programs lack for what the configuration wants: told, not refused (R-GIT-5)."""
    found = []
    sources = {f"services.{name}.source": service.source for name, service in settings.services.items()}
    with_submodules = [path for path, source in sources.items() if source.submodules]
    if with_submodules and is_before_the_fixes(git := programs.version_of("git")):
        message = f"has an old git: {clean(git)} lacks the corrections of {' and '.join(CORRECTIONS)}"
        hint = "update it, unless your distribution put them in under this number"
        found += [Problem(f"{path}.submodules", message, hint=hint) for path in with_submodules]
    with_lfs = [path for path, source in sources.items() if source.lfs]
    if with_lfs and not programs.version_of("git-lfs"):
        hint = CODES["lfs-failed"].hint
        found += [Problem(f"{path}.lfs", "needs git-lfs, which is not here", hint=hint) for path in with_lfs]
    return found


def _zone_problems(settings: Settings, environ: Mapping[str, str]) -> list[Problem]:
    """A zone that is named must be there; the machine's own is needed only where something goes by local time."""
    if settings.timezone is None and not any(item.deploy.freeze for item in settings.services.values()):
        return []
    try:
        zones.load(settings.timezone, environ)
    except zones.UnknownZone as error:
        hint = "name one such as Europe/Berlin, and install tzdata"
        return [Problem("timezone", str(error), hint=hint)]
    return []


def _without(secrets: Secrets, problems: list[Problem]) -> list[Problem]:
    """A secret that stands where its reference belongs, and elsewhere as well, is not repeated."""
    return [replace(problem, message=secrets.redact(problem.message)) for problem in problems]


def _at_lines(problems: list[Problem], lines: Mapping[str, int]) -> list[Problem]:
    return [replace(problem, line=line_of(lines, problem.path)) for problem in problems]
