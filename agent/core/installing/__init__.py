"""What an installed homeport consists of, and what has to change for it: values in, values out.

`wanted` says how the machine must look; `compare` says what is to be done to one part of it. Files that are a person's
(the configuration, secrets, keys) are made if they are missing, and never written again. The order is the order in
which it is done.

names.py   names and places of what is installed
parts.py   one part of the machine: how it must look, how it looks, and what is to be done to it
asked.py   what a configuration asks of the machine: units, users, rights, credentials
builds.py  the parts for builds and migrations that run as users of their own
whole.py   the whole of it, in the order in which it is done, and who has to notice
"""

from agent.core.installing.asked import (
    Facts,
    credentials_of,
    isolated_of,
    migrated_of,
    names_of,
    rights_of,
    swaps_of,
    units_of,
)
from agent.core.installing.names import (
    COMMAND,
    CONFIG,
    CREDENTIALS,
    DEPLOY_KEY,
    DROP_IN,
    ETC,
    HOME,
    JOURNAL,
    PREFIX,
    RULE,
    SERVICE,
    SHIPPED,
    SUDOERS,
    UNITS,
    USER,
    WEBHOOK_SECRET,
)
from agent.core.installing.parts import Change, Kind, Seen, Wanted, compare
from agent.core.installing.whole import reloads_agent, reloads_systemd, restarts_agent, wanted

__all__ = [
    "COMMAND",
    "CONFIG",
    "CREDENTIALS",
    "DEPLOY_KEY",
    "DROP_IN",
    "ETC",
    "HOME",
    "JOURNAL",
    "PREFIX",
    "RULE",
    "SERVICE",
    "SHIPPED",
    "SUDOERS",
    "UNITS",
    "USER",
    "WEBHOOK_SECRET",
    "Change",
    "Facts",
    "Kind",
    "Seen",
    "Wanted",
    "compare",
    "credentials_of",
    "isolated_of",
    "migrated_of",
    "names_of",
    "reloads_agent",
    "reloads_systemd",
    "restarts_agent",
    "rights_of",
    "swaps_of",
    "units_of",
    "wanted",
]
