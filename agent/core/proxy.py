"""nginx before the agent and before services that run side by side: which sites there are, and their text.

The texts are those of `nginx/`, with the names of this machine put in. A file that `install` wrote carries the hash of
its text: one that somebody changed since, or wrote himself, is his.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from agent.core import upstreams
from agent.core.colours import Colour
from agent.core.settings import Settings

AGENT_SITE = f"{upstreams.PLACE}/homeport.conf"
ACME = "/var/lib/homeport-acme"
"""Where certbot puts what it is asked for by the authority (`--webroot -w`)."""
TEMPLATES = ("homeport.conf", "blue-green.conf")
FIREWALL = """\
A firewall is advised, and not changed here. For example, in /etc/nftables.conf, if 192.168.0.0/16 is your network:
  table inet filter {
    chain input {
      type filter hook input priority 0; policy drop;
      ct state established,related accept
      iif lo accept
      meta l4proto { icmp, ipv6-icmp } accept
      tcp dport { 80, 443 } accept
      ip saddr 192.168.0.0/16 tcp dport 22 accept
      ip6 saddr fe80::/10 tcp dport 22 accept
      ip saddr 192.168.0.0/16 udp dport 5353 accept comment "pi.local"
    }
  }
Look at it with `nft -c -f /etc/nftables.conf`, then `systemctl enable --now nftables`."""

_MADE = "# Made by `homeport install --nginx`; change it, and it is yours. {digest}\n"
_LINE = re.compile(r"# Made by `homeport install --nginx`; [^\n]* ([0-9a-f]{64})\n")


@dataclass(frozen=True)
class Certificate:
    """Paths of the chain and of its key."""

    chain: str
    key: str


@dataclass(frozen=True)
class Site:
    """One file for nginx. `service` is "" for the agent's own; `awaits` names the certificate that is not there yet."""

    service: str
    host: str
    path: str
    text: str
    awaits: str = ""


def certificate_of(host: str) -> Certificate:
    """Where certbot puts it."""
    place = f"/etc/letsencrypt/live/{host}"
    return Certificate(f"{place}/fullchain.pem", f"{place}/privkey.pem")


def sites(
    settings: Settings,
    templates: Mapping[str, str],
    given: Certificate | None,
    there: Callable[[str], bool],
) -> tuple[list[Site], list[str]]:
    """The sites that this configuration needs, and what a person must do himself. `given` is for all of them, else each
    has one of certbot; `there` tells whether a file is."""
    found, notes, taken = [], [], set[tuple[str, int]]()
    for service, url in _addresses(settings):
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        if (host, port) in taken:
            notes.append(
                f"{service} has the address of another one ({host}): pass requests to"
                f" http://{upstreams.name_of(service)} in a site of your own, as nginx/blue-green.conf does."
            )
            continue
        taken.add((host, port))
        certificate = given or certificate_of(host)
        whole = parts.scheme == "http" or (there(certificate.chain) and there(certificate.key))
        text = _named(templates[TEMPLATES[bool(service)]], service, host, settings)
        text = _with(text, parts.scheme, port, certificate, whole=whole)
        path = f"{upstreams.PLACE}/homeport-site-{service}.conf" if service else AGENT_SITE
        found.append(Site(service, host, path, signed(text), "" if whole else certificate.chain))
    return found, notes


def first_upstreams(
    settings: Settings, read: Callable[[str], str], is_link: Callable[[str], bool]
) -> dict[str, str]:
    """Upstream files by path, for services whose own is not there or not whole: a site that names one needs it. The
    colour that runs has a link in the service's directory."""
    wanted = {}
    for name, service in settings.services.items():
        if service.blue_green is None:
            continue
        ports, path = service.blue_green.ports, upstreams.path_of(name)
        if not upstreams.is_whole(read(path)):
            runs = {colour for colour in Colour if is_link(f"{service.directory}/{colour}")}
            colour = Colour.GREEN if runs == {Colour.GREEN} else Colour.BLUE
            wanted[path] = upstreams.text_of(name, colour, ports)
    return wanted


def signed(text: str) -> str:
    """The text with the line by which it is known again."""
    return _MADE.format(digest=hashlib.sha256(text.encode()).hexdigest()) + text


def is_ours(text: str) -> bool:
    """Whether `install` wrote it, and nobody has changed it since."""
    line = _LINE.match(text)
    return line is not None and hashlib.sha256(text[line.end() :].encode()).hexdigest() == line[1]


def _addresses(settings: Settings) -> list[tuple[str, str]]:
    own = [("", settings.public_url)] if settings.public_url else []
    beside = [
        (name, service.blue_green.url)
        for name, service in sorted(settings.services.items())
        if service.blue_green is not None
    ]
    return [*own, *beside]


def _named(text: str, service: str, host: str, settings: Settings) -> str:
    if not service:
        to = settings.listen.host if ":" not in settings.listen.host else f"[{settings.listen.host}]"
        text = text.replace("127.0.0.1:8300", f"{to}:{settings.listen.port}")
        return text.replace("pi.example.org", host)
    text = text.replace("homeport-scraper", upstreams.name_of(service))
    text = text.replace("homeport_scraper", f"homeport_{service.replace('-', '_')}")
    return text.replace("scraper.example.org", host)  # last: a host may hold any of these words


def _with(text: str, scheme: str, port: int, certificate: Certificate, *, whole: bool) -> str:
    """The servers that it takes: with TLS one that leads there, and once there is a certificate the one itself."""
    head, first, second = text.split("\nserver {\n")
    if scheme == "http":
        lines = (line for line in second.splitlines(keepends=True) if "    ssl_" not in line)
        plain = "".join(lines).replace("443 ssl;", f"{port};")
        return f"{head}\nserver {{\n{plain}"
    if port != 443:
        first = first.replace("https://$host$", f"https://$host:{port}$")
        second = second.replace("443 ssl;", f"{port} ssl;")
    for was, now in zip(
        re.findall(r"/etc/letsencrypt/live/\S+(?=;)", second),
        (certificate.chain, certificate.key),
        strict=True,
    ):
        second = second.replace(was, now)
    return "\nserver {\n".join((head, first, second) if whole else (head, first))
