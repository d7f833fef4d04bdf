"""The typed configuration: this schema is the reference of every option.

The file is YAML; `system.configfile` reads it into plain values with line numbers, `core.configuration`
turns those into these types or into a list of every problem. What a later version will bring stands in
`core.later` and is answered with "not built yet", so that nothing is silently ignored.

basics.py     what every block of the file is made of: durations, sizes, bounds, references to secrets
agent.py      the agent itself: where it answers, and who may ask it for what
source.py     where revisions come from
deploying.py  how a revision becomes a release and takes over, and when it goes back
runtimes.py   how a service runs
health.py     what is asked of a service, and what counts as healthy
backups.py    what is saved, and what of it stays
file.py       one service, and the whole file
"""

from agent.core.settings.agent import Access, GitHub, Listen, Monitor, Token
from agent.core.settings.backups import ArchiveStore, BackupOptions, FilesSource, Keep, SqliteSource
from agent.core.settings.basics import (
    DAY,
    HOUR,
    MINUTE,
    Bytes,
    KeyRef,
    Options,
    Port,
    Seconds,
    SecretRef,
    Text,
    between,
)
from agent.core.settings.deploying import BlueGreen, Build, Deploy, Freeze, Reuse, Rollback
from agent.core.settings.file import Service, Settings
from agent.core.settings.health import (
    AnyProbe,
    CommandProbe,
    FreshnessProbe,
    Health,
    HttpProbe,
    ProbeOptions,
    Scalar,
    TcpProbe,
    UnitProbe,
)
from agent.core.settings.runtimes import Drain, ProcessRuntime, SystemdRuntime
from agent.core.settings.source import Source

__all__ = [
    "DAY",
    "HOUR",
    "MINUTE",
    "Access",
    "AnyProbe",
    "ArchiveStore",
    "BackupOptions",
    "BlueGreen",
    "Build",
    "Bytes",
    "CommandProbe",
    "Deploy",
    "Drain",
    "FilesSource",
    "Freeze",
    "FreshnessProbe",
    "GitHub",
    "Health",
    "HttpProbe",
    "Keep",
    "KeyRef",
    "Listen",
    "Monitor",
    "Options",
    "Port",
    "ProbeOptions",
    "ProcessRuntime",
    "Reuse",
    "Rollback",
    "Scalar",
    "Seconds",
    "SecretRef",
    "Service",
    "Settings",
    "Source",
    "SqliteSource",
    "SystemdRuntime",
    "TcpProbe",
    "Text",
    "Token",
    "UnitProbe",
    "between",
]
