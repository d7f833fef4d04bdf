"""Backups: sources (what is saved) and stores (where to). Adding one costs a file, a line here, a contract test.

A source hands pieces and files to a sink; a store keeps them, proves them and gives them back. Read `packs`,
`manifest` and `archive` in that order for how the agent's own store lies on the disk.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from agent.adapters.backup.archive import ArchiveStore
from agent.adapters.backup.files import Tree
from agent.adapters.backup.place import Place
from agent.adapters.backup.sqlite import SqliteDatabase
from agent.core.ports import BackupSource, BackupStore
from agent.core.settings import ArchiveStore as ArchiveOptions
from agent.core.settings import FilesSource, Service, SqliteSource

__all__ = ["STORES", "Place", "a_store", "sources_of"]

STORES: dict[type, type[ArchiveStore]] = {ArchiveOptions: ArchiveStore}


def a_store(root: Path, options: ArchiveOptions | None = None, *, version: str = "") -> BackupStore:
    """The store that a service's configuration asks for, below `root`. `version`: homeport's, for the manifests."""
    return STORES[type(options or ArchiveOptions())](root, version=version)


def sources_of(service: Service) -> Sequence[BackupSource]:
    """A service's sources, by default its shared paths. Each knows what the others cover, so nothing comes twice."""
    directory = Path(service.directory)
    options = service.backup.sources
    if options is None:
        options = (FilesSource(paths=tuple(f"shared/{path}" for path in service.deploy.shared)),)
    databases = _distinct(directory, [source.path for source in options if isinstance(source, SqliteSource)])
    trees = _distinct(
        directory, [path for source in options if isinstance(source, FilesSource) for path in source.paths]
    )
    sources: list[BackupSource] = [SqliteDatabase(directory, path) for path in databases.values()]
    for at, path in trees.items():
        covered = [*databases, *(other for other in trees if other != at and other.is_relative_to(at))]
        sources.append(Tree(directory, path, covered))
    return sources


def _distinct(directory: Path, paths: Sequence[str]) -> dict[Path, str]:
    """Configured paths by where they lie, each once."""
    distinct: dict[Path, str] = {}
    for path in paths:
        distinct.setdefault(Path(os.path.normpath(directory / path)), path)
    return distinct
