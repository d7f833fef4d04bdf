"""nginx's upstream of a service that runs side by side: its file, and the unit that writes it.

nginx's first process is root, and includes the file: who writes it could make root write anywhere. So the agent does
not. It starts a unit of root's, whose name says which service gets which colour; the ports stand in a table that only
root writes.
"""

import json
import re
from collections.abc import Mapping

from agent.core.colours import Colour, port_of

TABLE = "/etc/homeport/upstreams.json"
"""What `homeport install` made of the configuration: `{"scraper": [9101, 9102]}`."""
UNIT = "homeport-upstream@.service"
PLACE = "/etc/nginx/conf.d"
"""What nginx includes in its http block; in Debian's nginx, and in nginx.org's."""

Ports = tuple[int, int]

_SERVER = re.compile(r"^ *server 127\.0\.0\.1:([0-9]{1,5});$", re.MULTILINE)
_FILE = """\
# Made by homeport, which writes it anew when it changes over: {service} is served by {colour}.
upstream {name} {{
    server 127.0.0.1:{port};
}}
"""


def unit_of(service: str, colour: Colour) -> str:
    """The unit that sends the users of a service to this colour."""
    return UNIT.replace("@.", f"@{service}-{colour}.")


def asked(instance: str) -> tuple[str, Colour] | None:
    """What the unit's instance says; None if it says nothing that can be done."""
    service, _, colour = instance.rpartition("-")
    return (service, Colour(colour)) if service and colour in list(Colour) else None


def name_of(service: str) -> str:
    """What a site's `proxy_pass` names: `http://homeport-scraper`."""
    return f"homeport-{service}"


def path_of(service: str) -> str:
    """The file of its upstream."""
    return f"{PLACE}/homeport-upstream-{service}.conf"


def text_of(service: str, colour: Colour, ports: Ports) -> str:
    """The file."""
    return _FILE.format(service=service, colour=colour, name=name_of(service), port=port_of(colour, ports))


def is_whole(text: str) -> bool:
    """Whether nginx can send users somewhere by it: to ports of the service, or to those that it had before."""
    return len(_SERVER.findall(text)) == 1 and text.rstrip().endswith("}")


def served_by(text: str, service: str, ports: Ports) -> Colour | None:
    """The colour that a file names; None for one that is not whole or not of this service."""
    for colour in Colour:
        if text == text_of(service, colour, ports):
            return colour
    port = int(_SERVER.findall(text)[0]) if is_whole(text) else 0
    return next((colour for colour in Colour if port == port_of(colour, ports)), None)


def table_of(services: Mapping[str, Ports]) -> str:
    """The table's text."""
    return json.dumps({name: list(ports) for name, ports in sorted(services.items())}, indent=1) + "\n"


def ports_in(text: str, service: str) -> Ports | None:
    """What the table says of a service; None: nothing that is one."""
    try:
        first, second = json.loads(text)[service]
    except (ValueError, TypeError, KeyError):
        return None
    return (first, second) if isinstance(first, int) and isinstance(second, int) else None


def is_used(configuration: str, service: str) -> bool:
    """Whether some site of nginx's whole configuration (`nginx -T`) passes requests to the upstream."""
    name = re.escape(name_of(service))
    wanted = rf"^\s*(?:location\b.*\{{\s*)?[a-z]+_pass\s+[\"']?(?:[a-z]+://)?{name}[/;:\"'$\s]"
    return re.search(wanted, configuration, re.MULTILINE) is not None
