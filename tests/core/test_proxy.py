"""The sites for nginx: whose name they bear, what is open, and whose files they are. nginx itself tries them in e2e."""

from typing import Any

import pytest

from agent.core import configuration, proxy
from agent.core.colours import Colour
from agent.core.proxy import AGENT_SITE, Certificate, Site, first_upstreams, is_ours, signed, sites
from agent.core.settings import Settings
from agent.core.upstreams import path_of, text_of
from tests.meta.sources import ROOT

TEMPLATES = {name: (ROOT / "nginx" / name).read_text() for name in proxy.TEMPLATES}
BESIDE: dict[str, Any] = {
    "source": {"repository": "/srv/git/x.git"},
    "runtime": {"kind": "systemd", "unit": "my-app@.service"},
    "deploy": {"strategy": "blue-green"},
    "blue_green": {"ports": [9101, 9102], "url": "https://app.example.org/"},
    "health": {"probes": [{"kind": "tcp", "port": 9101}]},
}


def a_configuration(url: str | None = "https://me.example.org", **more: Any) -> Settings:
    document = {"github": {"webhook_secrets": [{"env": "X"}]}} | more
    return configuration.read(document | ({"public_url": url} if url else {}))


def made(settings: Settings, *, there: bool = True, given: Certificate | None = None) -> list[Site]:
    found, notes = sites(settings, TEMPLATES, given, lambda path: there)
    assert notes == []
    return found


def test_the_agents_site_bears_its_name_and_leads_to_where_it_listens() -> None:
    (site,) = made(a_configuration(listen={"port": 8301}))
    assert (site.path, site.host, site.awaits) == (AGENT_SITE, "me.example.org", "")
    assert "pi.example.org" not in site.text
    assert site.text.count("proxy_pass http://127.0.0.1:8301") == 2
    assert "ssl_certificate     /etc/letsencrypt/live/me.example.org/fullchain.pem;" in site.text


def test_a_service_has_a_site_that_passes_to_its_upstream() -> None:
    (site,) = made(a_configuration(url=None, services={"my-app": BESIDE}))
    assert site.path == "/etc/nginx/conf.d/homeport-site-my-app.conf"
    assert "proxy_pass http://homeport-my-app;" in site.text
    assert "$homeport_my_app_connection {" in site.text
    assert "scraper" not in site.text


def test_a_hosts_name_is_taken_as_it_is() -> None:
    beside = BESIDE | {"blue_green": {"ports": [9101, 9102], "url": "https://homeport-scraper.example.org/"}}
    (site,) = made(a_configuration(url=None, services={"my-app": beside}))
    assert site.text.count("server_name homeport-scraper.example.org;") == 2


def test_before_there_is_a_certificate_only_certbot_is_answered() -> None:
    (site,) = made(a_configuration(), there=False)
    assert site.awaits == "/etc/letsencrypt/live/me.example.org/fullchain.pem"
    assert "acme-challenge" in site.text
    assert "443" not in site.text
    assert "proxy_pass" not in site.text


def test_a_certificate_that_is_given_takes_the_place_of_certbots() -> None:
    (site,) = made(a_configuration(), given=Certificate("/c/chain", "/c/key"))
    assert "ssl_certificate     /c/chain;" in site.text
    assert "ssl_certificate_key /c/key;" in site.text
    assert "letsencrypt" not in site.text


def test_at_home_there_may_be_no_tls() -> None:
    (site,) = made(a_configuration("http://pi.local:8080"), there=False)
    assert site.awaits == ""
    assert site.text.count("listen ") == 2
    assert "listen 8080;" in site.text
    assert "ssl" not in site.text
    assert "proxy_pass" in site.text


def test_another_port_than_that_of_https_is_kept() -> None:
    (site,) = made(a_configuration("https://me.example.org:8443"))
    assert "listen 8443 ssl;" in site.text
    assert "return 308 https://$host:8443$request_uri;" in site.text


def test_two_at_one_address_are_a_persons_matter() -> None:
    beside = BESIDE | {"blue_green": {"ports": [9101, 9102], "url": "https://me.example.org/app"}}
    found, notes = sites(a_configuration(services={"my-app": beside}), TEMPLATES, None, lambda path: True)
    assert [site.service for site in found] == [""]
    assert "http://homeport-my-app" in notes[0]


@pytest.mark.parametrize("kept", ["", "upstream homeport-my-app {\n    server", "nonsense"])
def test_an_upstream_that_is_not_whole_is_made_and_one_that_serves_is_left(kept: str) -> None:
    settings = a_configuration(services={"my-app": BESIDE})
    path = path_of("my-app")
    blue, green = (text_of("my-app", colour, (9101, 9102)) for colour in Colour)
    assert first_upstreams(settings, lambda path: kept, lambda link: False) == {path: blue}
    assert first_upstreams(settings, lambda path: green, lambda link: False) == {}


def test_users_stay_where_they_are_when_an_upstream_is_made_anew() -> None:
    """Whom a link names runs. And with other ports in the configuration the old ones are still those that run."""
    settings = a_configuration(services={"my-app": BESIDE})
    path, links = path_of("my-app"), ["/srv/my-app/green"]
    green = text_of("my-app", Colour.GREEN, (9101, 9102))
    assert first_upstreams(settings, lambda path: "", links.__contains__) == {path: green}
    before = text_of("my-app", Colour.GREEN, (8101, 8102))
    assert first_upstreams(settings, lambda path: before, links.__contains__) == {}


def test_a_file_is_known_again_until_somebody_changes_it() -> None:
    text = signed(TEMPLATES["homeport.conf"])
    assert is_ours(text)
    assert not is_ours(text.replace("deny  all", "allow all"))
    assert not is_ours(text + "\n")
    assert not is_ours(TEMPLATES["homeport.conf"])
    assert not is_ours("")
