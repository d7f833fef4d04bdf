"""What a configuration leaves out and follows from the rest: absolute paths, the GitHub repository, what is saved."""

from typing import TypeVar

from msgspec.structs import replace as changed

from agent.core.contradictions import directory_of, place
from agent.core.repository import is_github_name, is_path
from agent.core.settings import (
    AnyProbe,
    FilesSource,
    HttpProbe,
    KeyRef,
    SecretRef,
    Service,
    Settings,
    SqliteSource,
    SystemdRuntime,
    UnitProbe,
)
from agent.core.triggers import repository_of

Reference = TypeVar("Reference", bound=SecretRef | KeyRef)


def complete(settings: Settings, base: str) -> Settings:
    """Derives what was left out: absolute paths, the GitHub repository, what a backup saves."""
    services = {name: _complete_service(name, service, base) for name, service in settings.services.items()}
    listen = changed(settings.listen, socket=place(settings.listen.socket, base))
    tokens = tuple(changed(token, secret=placed(token.secret, base)) for token in settings.access.tokens)
    secrets = tuple(placed(secret, base) for secret in settings.github.webhook_secrets)
    return changed(
        settings,
        listen=listen,
        state_dir=place(settings.state_dir, base),
        access=changed(settings.access, tokens=tokens),
        github=changed(settings.github, webhook_secrets=secrets),
        services=services,
    )


def placed(reference: Reference, base: str) -> Reference:
    """A reference to a secret or a key, the path of its file absolute."""
    return reference if reference.file is None else changed(reference, file=place(reference.file, base))


def _complete_service(name: str, service: Service, base: str) -> Service:
    directory = directory_of(name, service, base)
    source = service.source
    if source.key is not None:
        source = changed(source, key=placed(source.key, base))
    if source.token is not None:
        source = changed(source, token=placed(source.token, base))
    if is_path(source.repository):
        source = changed(source, repository=place(source.repository, directory))
    if source.github is None and (github := repository_of(source)) and is_github_name(github):
        source = changed(source, github=github)
    shared = tuple(path.rstrip("/") for path in service.deploy.shared)
    unit = service.runtime.unit if isinstance(service.runtime, SystemdRuntime) else None
    probes = tuple(_completed(probe, base, unit) for probe in service.health.probes)
    build = service.deploy.build
    if build.reuse is not None:
        paths = tuple(path.rstrip("/") for path in build.reuse.paths)
        build = changed(build, reuse=changed(build.reuse, paths=paths))
    saved = service.backup.sources
    if saved is None:
        saved = (FilesSource(paths=tuple(f"shared/{path}" for path in shared)),) if shared else ()
    return changed(
        service,
        directory=directory,
        source=source,
        deploy=changed(service.deploy, shared=shared, build=build),
        health=changed(service.health, probes=probes),
        backup=changed(service.backup, sources=tuple(_trimmed(item) for item in saved)),
    )


def _trimmed(source: FilesSource | SqliteSource) -> FilesSource | SqliteSource:
    if isinstance(source, FilesSource):
        return changed(source, paths=tuple(path.rstrip("/") for path in source.paths))
    return source


def _completed(probe: AnyProbe, base: str, unit: str | None) -> AnyProbe:
    if isinstance(probe, UnitProbe) and probe.unit is None:
        return changed(probe, unit=unit)
    if isinstance(probe, HttpProbe) and probe.bearer is not None:
        return changed(probe, bearer=placed(probe.bearer, base))
    return probe
