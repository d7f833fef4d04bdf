"""What can be set, from environment variables. Every problem is reported at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit


class SettingsError(Exception):
    """The environment cannot be used. `problems` has one sentence per variable."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Durations are seconds."""

    gallery: str
    """The first page of the gallery; only pages of the same origin are read."""
    host: str = "127.0.0.1"
    port: int = 9100
    data: Path = Path("data")
    """The directory of scraper.db; homeport keeps it across releases."""
    every: float = 900.0
    """From the end of one scrape to the beginning of the next."""
    concurrency: int = 2
    """Requests at the same time."""
    delay: float = 0.25
    """From the beginning of one request to the beginning of the next."""
    deadline: float = 15.0
    """Of one request, all of it."""
    retries: int = 3
    """Further tries of a request that failed in a way that may pass."""
    agent: str = "homeport-example-scraper"
    """How it names itself: put an address there under which you can be reached."""
    revision: str = ""
    """The commit that runs; homeport sets HOMEPORT_REVISION."""


def read_settings(environment: Mapping[str, str]) -> Settings:
    """The settings of this environment. Raises SettingsError."""
    problems: list[str] = []

    def number(name: str, default: float, least: float, most: float) -> float:
        text = environment.get(name, "").strip()
        try:
            value = float(text) if text else default
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            problems.append(f"{name}={text!r} is not a number from {least:g} to {most:g}")
            return default
        return value

    gallery = environment.get("SCRAPER_GALLERY", "").strip()
    address = urlsplit(gallery)
    if address.scheme not in ("http", "https") or not address.netloc:
        problems.append("SCRAPER_GALLERY must be the http(s) address of the gallery's first page")
    settings = Settings(
        gallery=gallery,
        host=environment.get("SCRAPER_HOST", "").strip() or Settings.host,
        port=int(number("SCRAPER_PORT", Settings.port, 0, 65535)),
        data=read_data_directory(environment),
        every=number("SCRAPER_EVERY", Settings.every, 0.1, 604800),
        concurrency=int(number("SCRAPER_CONCURRENCY", Settings.concurrency, 1, 32)),
        delay=number("SCRAPER_DELAY", Settings.delay, 0, 60),
        deadline=number("SCRAPER_DEADLINE", Settings.deadline, 0.1, 600),
        retries=int(number("SCRAPER_RETRIES", Settings.retries, 0, 10)),
        agent=environment.get("SCRAPER_AGENT", "").strip() or Settings.agent,
        revision=environment.get("HOMEPORT_REVISION", "").strip(),
    )
    if problems:
        raise SettingsError(problems)
    return settings


def read_data_directory(environment: Mapping[str, str]) -> Path:
    """Where the database lies; all that `init-db` needs to know."""
    return Path(environment.get("SCRAPER_DATA", "").strip() or Settings.data)
