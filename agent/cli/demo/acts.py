"""The five acts. Each does what a person or GitHub would do, waits for the end, and checks what must be true then."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import aiohttp

from agent.cli.demo.failure import DemoFailed, must
from agent.cli.demo.gallery import PER_PAGE
from agent.cli.demo.github import Signed, sign
from agent.cli.demo.repository import Edit, Push
from agent.cli.demo.stage import SERVICE, Stage
from agent.cli.demo.telling import Telling
from agent.cli.demo.watch import Watch
from agent.core.model import State
from agent.core.pipeline import ENDS
from agent.core.text import clean

DEPLOYMENT_SECONDS = 120.0
NOTHING_HAPPENS_SECONDS = 1.0

VERSION = "scraper/__init__.py"
GOOD = Edit(VERSION, '__version__ = "1.0.0"', '__version__ = "1.1.0"')
BROKEN = (
    Edit(VERSION, '__version__ = "1.1.0"', '__version__ = "1.2.0"'),
    Edit(
        "scraper/store.py",
        "create index if not exists workflows_url on workflows (url);",
        "create index if not exists workflows_url on workflows (url);\n"
        "create index if not exists workflows_popular on workflows (popularity);",
    ),
)
"""An index over a column that nobody added: it builds, it starts, and it dies at its database."""


@dataclass
class Play:
    """The acts on their stage. `agent` is a session that carries the token."""

    stage: Stage
    watch: Watch
    agent: aiohttp.ClientSession
    telling: Telling
    good: Signed = field(init=False)
    broken: Signed = field(init=False)
    deployments: dict[str, str] = field(default_factory=dict)
    """The revision's deployment, by revision."""
    live: str = ""
    """The revision that must serve."""

    def acts(self) -> Sequence[tuple[str, Callable[[], Awaitable[None]]]]:
        """In order, with their titles."""
        return (
            ("first deployment", self.first_deployment),
            ("a good push goes live", self.good_push),
            ("a broken push is rolled back", self.broken_push),
            ("a redelivery changes nothing", self.redelivery),
            ("restore drill", self.restore_drill),
        )

    async def first_deployment(self) -> None:
        """The example scraper as it is goes live and fills its database."""
        push = self.stage.first
        _, ended = await self._deliver(push, State.SUCCEEDED)
        self.live = push.after
        await self._serves(push.after, "1.0.0")
        records = await self._all_scraped()
        kept_out = self.stage.gallery.published - self.stage.gallery.valid
        self.telling.line(f"  {short(push.after)} is live in {lasted(ended)}: {steps(ended)}")
        self.telling.line(
            f"  it scraped {records} workflows into its database; {kept_out} invalid ones were kept out"
        )

    async def good_push(self) -> None:
        """A new version takes over, with the data of the old one."""
        self.stage.gallery.published += PER_PAGE
        before = await self._all_scraped()
        push = await self.stage.repository.change("Version 1.1.0", GOOD)
        self.good, ended = await self._deliver(push, State.SUCCEEDED)
        must(ended["previous"] == self.live, "the deployment does not name the version that it replaced")
        was, self.live = self.live, push.after
        await self._serves(push.after, "1.1.0")
        records = await self._records()
        must(records == before, f"there were {before} records before and {records} after the switch")
        backup = await self._backup(ended)
        seen = self.watch.seen()
        self.telling.line(f"  {short(push.after)} replaced {short(was)} in {lasted(ended)}: {steps(ended)}")
        self.telling.line(
            f"  the service was {seen}; backup {backup['id']} was read back before; {records} records kept"
        )

    async def broken_push(self) -> None:
        """A version that cannot serve bounces back; the old one goes on with its data."""
        before = await self._ids()
        push = await self.stage.repository.change("Rank by popularity", *BROKEN)
        self.broken, ended = await self._deliver(push, State.ROLLED_BACK)
        must(ended["reason"], "a rollback must have a reason")
        await self._serves(self.live, "1.1.0")
        after = await self._ids()
        must(before <= after, f"{len(before - after)} records of the old version are gone")
        status = await self._service()
        must(any(each["revision"] == push.after for each in status["quarantine"]), "it is not in quarantine")
        must(status["hold"] is None, "one rollback must not hold the service")
        seen = self.watch.seen()
        self.telling.line(
            f"  {short(push.after)} was rolled back in {lasted(ended)} ({ended['reason']}): {steps(ended)}"
        )
        self.telling.line(
            f"  {short(self.live)} serves again, with all its {len(before)} records; the service was {seen}"
        )

    async def redelivery(self) -> None:
        """The same signed bytes again, also under other headers, are the same delivery."""
        since = (await self._service())["live"]["since"]
        self.watch.begin()
        answers = []
        for signed, revision in ((self.good, 1), (self.broken, 2)):
            for again in (signed, signed.under_new_headers()):
                status, document, seconds = await self._send(again)
                answers.append(seconds)
                must(status == 200, f"it was answered {status}")
                must(document["decision"] == "duplicate", f"it was taken for {document['decision']}")
                known = [each["id"] for each in document["deployments"]]
                expected = list(self.deployments.values())[revision]
                must(known == [expected], "it was answered with other deployments than the first time")
        await asyncio.sleep(NOTHING_HAPPENS_SECONDS)
        listed = (await self._get("/api/v1/deployments"))["items"]
        must(len(listed) == 3, f"there are {len(listed)} deployments instead of 3")
        service = await self._service()
        must(service["current"] is None, "a deployment is running")
        must(service["live"]["since"] == since, "the service was deployed anew")
        await self._serves(self.live, "1.1.0")
        seen = self.watch.seen()
        must(not seen.missed, f"the service was {seen}")
        self.telling.line(
            "  the good and the broken push, each with its old and with new headers: 4 duplicates,"
            f" answered in {max(answers) * 1000:.0f} ms at most"
        )
        self.telling.line(f"  still 3 deployments; the service was {seen}")

    async def restore_drill(self) -> None:
        """The newest backup is read back, restored elsewhere and compared, its rows counted."""
        expected = await self._records()  # as when it was made: the gallery has not grown since
        self.stage.gallery.published += PER_PAGE
        grown = await self._all_scraped()
        newest = (await self._get("/api/v1/backups"))["items"][0]
        proof = json.loads(await self.stage.run_command("backup", "drill", SERVICE, "--json"))
        must(proof["id"] == newest["id"], f"{proof['id']} was drilled instead of the newest backup")
        rows = sum(tables.get("workflows", 0) for tables in proof["tables"].values())
        must(rows == expected, f"{rows} rows were restored; there were {expected} when the backup was made")
        shown = (await self._service())["last_proven_restore"]
        must(shown == proof, "the status does not show it")
        self.telling.line(
            f"  backup {newest['id']}: every byte read back, restored to a scratch directory and compared there"
            f" in {proof['seconds']:.2f} s (files: {proof['files']}, bytes: {proof['bytes']})"
        )
        self.telling.line(
            f"  the restored database is sound and has its {rows} rows of then; the live one has {grown} by now"
        )

    # --- steps of the acts

    async def _deliver(self, push: Push, end: State) -> tuple[Signed, dict[str, Any]]:
        """Sends the push's delivery and sees its deployment through to the expected end."""
        self.watch.begin()
        signed = sign(push, self.stage.webhook_secret)
        status, document, seconds = await self._send(signed)
        must(status == 202, f"the delivery was answered {status}: {clean(json.dumps(document))}")
        must(len(document["deployments"]) == 1, "the delivery did not make one deployment")
        self.telling.line(f"  signed push of {short(push.after)} answered 202 in {seconds * 1000:.0f} ms")
        deployment = document["deployments"][0]["id"]
        self.deployments[push.after] = deployment
        ended = await self._ended(deployment)
        if ended["state"] != end:
            details = "\n".join(
                f"{step['name']}: {step['state']} {step['detail']}" for step in ended["steps"]
            )
            message = (
                f"the deployment ended {ended['state']} instead of {end} ({ended['reason']}: {ended['hint']})"
            )
            raise DemoFailed(message, details=details)
        must(ended["revision"] == push.after, "it deployed another revision than the pushed one")
        return signed, ended

    async def _ended(self, deployment: str) -> dict[str, Any]:
        limit = time.monotonic() + DEPLOYMENT_SECONDS
        while time.monotonic() < limit:
            found: dict[str, Any] = await self._get(f"/api/v1/deployments/{deployment}")
            if found["state"] in ENDS:
                return found
            self.telling.waiting(f"  {found['state']} ...")
            await asyncio.sleep(0.1)
        raise DemoFailed(f"the deployment did not end within {DEPLOYMENT_SECONDS:.0f} s")

    async def _serves(self, revision: str, version: str) -> None:
        """The right version answers, and the agent says the same."""
        live = (await self._service())["live"]
        must(live is not None, "nothing is live")
        must(live["revision"] == revision, f"{short(live['revision'])} is live instead of {short(revision)}")
        health = await self._get_service("/health")
        told = (health["status"], health["version"], health["revision"])
        must(told == ("healthy", version, revision), f"the service says {told}")

    async def _all_scraped(self) -> int:
        """Waits until the database holds everything valid that the gallery shows."""
        wanted, limit = self.stage.gallery.valid, time.monotonic() + 30
        while (records := await self._records()) != wanted:
            must(time.monotonic() < limit, f"{records} of {wanted} workflows were scraped within 30 s")
            self.telling.waiting(f"  scraping: {records} of {wanted} ...")
            await asyncio.sleep(0.1)
        return wanted

    async def _records(self) -> int:
        return int((await self._get_service("/health"))["records"])

    async def _ids(self) -> set[str]:
        return {record["id"] for record in await self._get_service("/?limit=1000")}

    async def _service(self) -> dict[str, Any]:
        return dict((await self._get("/status"))["services"][SERVICE])

    async def _backup(self, deployment: dict[str, Any]) -> dict[str, Any]:
        """The backup that was made for this deployment."""
        for backup in (await self._get("/api/v1/backups"))["items"]:
            if backup["deployment"] == deployment["id"]:
                must(backup["state"] == "ok", f"its backup is {backup['state']}: {backup['reason']}")
                return dict(backup)
        raise DemoFailed("no backup was made before the switch")

    async def _send(self, signed: Signed) -> tuple[int, dict[str, Any], float]:
        began = time.monotonic()
        url = f"{self.stage.url}/webhook"
        async with self.agent.post(url, data=signed.body, headers=signed.headers) as response:
            document = await response.json(content_type=None)
            return response.status, document, time.monotonic() - began

    async def _get(self, path: str) -> Any:
        return await self._json("GET", self.stage.url + path)

    async def _get_service(self, path: str) -> Any:
        return await self._json("GET", self.stage.service_url + path)

    async def _json(self, method: str, url: str, **more: Any) -> Any:
        mine = url.startswith(self.stage.url)
        headers = {"Authorization": f"Bearer {self.stage.token}"} if mine else {}
        async with self.agent.request(method, url, headers=headers, **more) as response:
            text = await response.text()
            must(response.status < 300, f"{method} {url} was answered {response.status}: {clean(text)}")
            return json.loads(text)


def short(revision: str) -> str:
    """As git shows it."""
    return revision[:7]


def lasted(deployment: dict[str, Any]) -> str:
    """From the delivery to the end."""
    return f"{_between(deployment['created_at'], deployment['finished_at']):.1f} s"


def steps(deployment: dict[str, Any]) -> str:
    """What the deployment did, each with its seconds."""
    return ", ".join(
        f"{step['name']} {_between(step['started_at'], step['finished_at']):.2f}"
        for step in deployment["steps"]
        if step["finished_at"] and step["name"] != State.QUEUED
    )


def _between(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
