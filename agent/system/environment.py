"""What a service and its build see of the agent's environment: where programs and the home are, and nothing else."""

import os
import pwd
from collections.abc import Mapping

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def of_a_child(
    service: str, revision: str, more: Mapping[str, str], inherited: Mapping[str, str] | None = None
) -> dict[str, str]:
    """PATH, HOME, LANG, what the configuration adds, and who it is: HOMEPORT_SERVICE and HOMEPORT_REVISION.

    `inherited` is the agent's own environment unless given.
    """
    own = os.environ if inherited is None else inherited
    return {
        "PATH": own.get("PATH", PATH),
        "HOME": own.get("HOME") or _home(),
        "LANG": own.get("LANG", "C.UTF-8"),
        **more,
        "HOMEPORT_SERVICE": service,
        "HOMEPORT_REVISION": revision,
    }


def own_name() -> str:
    """Whom the agent runs as; "" for a user without a name."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return ""


def number_of(user: str) -> int | None:
    """Of a user of this machine."""
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


def _home() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:  # a user of a container, say: known by number only
        return "/"
