"""`homeport install --nginx`: writes the sites, has nginx try them, and reloads it. What is a person's stays."""

import argparse
import os
import re
from pathlib import Path

import agent
from agent.core import proxy, upstreams
from agent.core.errors import Refused, StepFailed
from agent.core.settings import Settings
from agent.system import commands, files

NGINX = "nginx.service"


class Proxy:
    """What is to be written for a configuration. Nothing is changed before `apply`."""

    def __init__(self, settings: Settings, options: argparse.Namespace) -> None:
        """Raises Refused where it cannot be done here."""
        _demand(settings, options)
        given = (
            proxy.Certificate(options.certificate, options.certificate_key) if options.certificate else None
        )
        sites, self._notes = proxy.sites(settings, _templates(), given, lambda path: Path(path).is_file())
        self._sites = sites
        self._files = proxy.first_upstreams(settings, _read, os.path.islink)
        for site in sites:
            before = _read(site.path)
            if before and not proxy.is_ours(before):
                self._notes.append(f"{site.path} is yours or was changed by hand: it stays as it is.")
            elif before != site.text:
                self._files[site.path] = site.text
        if "127.0.0.1" not in settings.trusted_proxies and settings.public_url:
            self._notes.append(
                "Write `trusted_proxies: [127.0.0.1]` into the configuration: else nginx is taken for who asks."
            )

    @property
    def paths(self) -> list[str]:
        """The files that would be written."""
        return sorted(self._files)

    def notes(self) -> list[str]:
        """What a person should know and do."""
        return [*self._notes, *(_certbot(site) for site in self._sites if site.awaits), proxy.FIREWALL]

    def apply(self) -> list[str]:
        """Writes them; nginx refuses: all of them are as before. Raises StepFailed."""
        Path(proxy.ACME).mkdir(mode=0o755, exist_ok=True)
        before = {path: _read(path) for path in self._files}
        for path, text in self._files.items():
            _write(path, text)
        tried = commands.run("nginx", "-t")
        if tried.status:
            for path, text in before.items():
                _write(path, text)
            raise StepFailed(
                "not-installable", f"nginx refuses the sites; they were taken back: {tried.text}"
            )
        active = commands.properties(NGINX, ["ActiveState"]).get("ActiveState") == "active"
        if self._files or not active:
            done = commands.run("systemctl", *(("reload",) if active else ("enable", "--now")), NGINX)
            if done.status:
                raise StepFailed("not-installable", f"nginx does not go on with the sites: {done.text}")
        return [f"{path} was written." for path in self.paths] + (
            [f"nginx was {'reloaded' if active else 'started'}."] if self._files or not active else []
        )


def remove_agents() -> list[str]:
    """For `uninstall`: the agent's own site goes unless it is a person's; then it is told among what stays."""
    text = _read(proxy.AGENT_SITE)
    if not text or not proxy.is_ours(text):
        return [f"{proxy.AGENT_SITE} (changed by hand)"] if text else []
    _write(proxy.AGENT_SITE, "")
    if commands.run("nginx", "-t").status == 0:
        commands.run("systemctl", "reload", NGINX)
    return []


def leftovers() -> list[str]:
    """Files for nginx that stay because services need them."""
    place = Path(upstreams.PLACE)
    names = [*place.glob("homeport-upstream-*.conf"), *place.glob("homeport-site-*.conf")]
    return [f"{path} (users reach a service by it)" for path in sorted(names)]


def _demand(settings: Settings, options: argparse.Namespace) -> None:
    if bool(options.certificate) != bool(options.certificate_key):
        raise Refused(400, "not-installable", "--certificate and --certificate-key belong together", hint="")
    if commands.run("nginx", "-v").status:
        raise Refused(409, "not-installable", "nginx is not there", hint="`apt install nginx-light`")
    if not settings.public_url and all(item.blue_green is None for item in settings.services.values()):
        hint = "write `public_url: https://...` into the configuration"
        raise Refused(409, "not-installable", "the agent has no name under which it is reached", hint=hint)
    tried = commands.run("nginx", "-t")
    if tried.status and not _lacks_an_upstream(tried.text):
        hint = "mend that first: `nginx -t`"
        text = f"nginx refuses its present configuration: {tried.text}"
        raise Refused(409, "not-installable", text, hint=hint)


def _lacks_an_upstream(text: str) -> bool:
    """Whether it is only what is about to be written that is lacking."""
    return re.search(r'host not found in upstream "homeport-| in \S*/homeport-upstream-', text) is not None


def _certbot(site: proxy.Site) -> str:
    return (
        f"There is no {site.awaits} yet: the site of {site.host} answers certbot alone. Get one, then run this again:\n"
        f"  certbot certonly --webroot -w {proxy.ACME} -d {site.host} --deploy-hook 'systemctl reload nginx'"
    )


def _templates() -> dict[str, str]:
    """In the wheel they lie in the package; in a checkout beside it."""
    package = Path(agent.__file__).parent
    places = [package / "nginx", package.parent / "nginx"]
    place = next(place for place in places if place.is_dir())
    return {name: (place / name).read_text(encoding="utf-8") for name in proxy.TEMPLATES}


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def _write(path: str, text: str) -> None:
    """An empty text: there is none."""
    place = Path(path)
    if text:
        files.remove_asides(place)
        files.write_atomic(place, text.encode(), mode=0o644)
    elif place.exists():
        place.unlink()
        files.fsync_directory(place.parent)
