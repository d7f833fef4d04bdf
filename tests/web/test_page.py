"""The page at `/`: for a stranger, for somebody signed in, and against what outsiders wrote."""

import base64
import hashlib
import re
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

import pytest

from agent.core import access
from agent.core.model import Fault, Release, State
from agent.store.transitions import Change, Limits
from agent.web.look import STYLE
from agent.web.middleware import COOKIE
from tests.web.conftest import KEYS, SHA, SOON, Answer, House, a_body, headers_of

HTML: dict[str, Any] = {"Accept": "text/html,application/xhtml+xml"}


class Reader(HTMLParser):
    """The text, the tags and their attributes of a page; refuses one whose tags do not close."""

    VOID = frozenset({"meta", "link", "input", "br"})

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.text, self.tags, self.open = "", list[tuple[str, dict[str, str | None]]](), list[str]()
        self.feed(answer.body.decode())
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


async def page(house: House) -> Answer:
    return await house.call("GET", "/", Cookie=f"{COOKIE}={access.seal(KEYS[0], SOON)}", **HTML)


async def test_a_stranger_gets_a_place_for_the_token_and_nothing_else(house: House) -> None:
    answer = await house.call("GET", "/", **HTML)
    assert answer.status == 401
    seen = Reader(answer)
    assert "Token" in seen.text
    assert "scraper" not in answer.body.decode()
    assert ("input", "password") in [(tag, attributes.get("type")) for tag, attributes in seen.tags]


async def test_a_program_without_a_token_gets_a_problem_document(house: House) -> None:
    assert (await house.call("GET", "/")).code == "unauthorized"


@pytest.mark.parametrize("signed_in", [True, False])
async def test_only_the_named_script_and_style_may_run(house: House, *, signed_in: bool) -> None:
    """R-UI-5."""
    answer = await (page(house) if signed_in else house.call("GET", "/", **HTML))
    text, policy = answer.body.decode(), answer.headers["Content-Security-Policy"]
    for kind in ("script", "style"):
        (inside,) = re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    for tag, attributes in Reader(answer).tags:
        assert "style" not in attributes
        assert not any(name.startswith("on") for name in attributes)
        assert tag != "script" or not attributes


async def test_an_empty_house_is_shown(house: House) -> None:
    house.states["scraper"] = ("none", "")
    answer = await page(house)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    text = Reader(answer).text
    assert "nothing is live yet" in text
    assert "5.0 GiB free" in text
    assert "None yet." in text


async def test_a_failed_deployment_a_hold_and_a_backup_are_shown(house: House) -> None:
    await house.deliver(a_body())
    journal = house.context.journal
    deployment = await journal.claim("scraper", "c0ffee")
    assert deployment is not None
    deployment = await journal.advance(deployment, State.BUILDING, Change(revision=SHA))
    text = Reader(await page(house)).text
    assert "Going on" in text
    assert "building" in text
    change = Change(reason="build-failed", hint="Push a fix.", fault=Fault.COMMIT, detail="exit status 2")
    await journal.advance(deployment, State.FAILED, change, Limits(2))
    await house.context.services.hold("scraper", actor="me", reason="two bad pushes")
    house.backups.put("20261122-b1", state="partial")
    house.states["scraper"] = ("unhealthy", "refused the connection")
    text = Reader(await page(house)).text
    for part in (
        SHA[:7], "failed", "build-failed", "Push a fix.", "exit status 2", "In quarantine", "two bad pushes",
        "homeport resume scraper", "20261122-b1", "partial", "4 KiB", "unhealthy", "refused the connection",
        "refs/heads/main", "me/scraper", "deploy",
    ):  # fmt: skip
        assert part in text, part


async def test_what_outsiders_wrote_is_inert(house: House) -> None:
    """R-RX-32."""
    evil = "<img src=x onerror=alert(1)>\"'><script>alert(2)</script>"
    body = a_body(ref=evil, repository={"full_name": evil}, sender={"login": evil})
    await house.deliver(body, headers_of(body, X_GitHub_Delivery=evil))
    body = a_body(sender={"login": evil})
    await house.deliver(body, headers_of(body, X_GitHub_Delivery=evil))
    await house.post("/api/v1/services/scraper/hold", {"reason": evil})
    house.states["scraper"] = ("healthy", evil)
    answer = await page(house)
    tags = Reader(answer).tags
    assert "img" not in [tag for tag, _ in tags]
    assert [tag for tag, _ in tags].count("script") == 1
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on")]
    assert "<img src=x" in Reader(answer).text


async def test_the_page_looks_again_by_itself_sooner_while_something_goes_on(house: House) -> None:
    def seconds(answer: Answer) -> str | None:
        return next(a["content"] for tag, a in Reader(answer).tags if a.get("http-equiv") == "refresh")

    assert seconds(await page(house)) == "30"
    await house.post("/deploy")
    assert seconds(await page(house)) == "3"


async def test_a_rollback_by_hand_is_told_apart_from_a_deployment(house: House) -> None:
    await house.post("/api/v1/services/scraper/rollback", {"to": "3-6113728"})
    assert "back to 3-6113728" in Reader(await page(house)).text


async def test_whoever_reads_is_not_interrupted(house: House) -> None:
    """Where scripts run the script decides when to look again; the browser's own reload is for elsewhere."""
    seen = (await page(house)).body.decode()
    assert '<noscript><meta http-equiv="refresh" content="30"></noscript>' in seen
    assert 'data-again="30"' in seen
    assert "document.hidden" in seen


async def fail(house: House, *, output: str = "") -> None:
    """A push that does not build."""
    await house.deliver(a_body())
    deployment = await house.context.journal.claim("scraper", house.context.config_hash["scraper"])
    assert deployment is not None
    deployment = await house.context.journal.advance(deployment, State.BUILDING, Change(revision=SHA))
    change = Change(reason="build-failed", hint="Raise `a.b`.", fault=Fault.COMMIT, output=output)
    await house.context.journal.advance(deployment, State.FAILED, change, Limits(2))


async def test_what_a_failed_deployment_printed_is_shown_and_inert(house: House) -> None:
    """R-RX-32."""
    await fail(house, output="early\n" + "line\n" * 2000 + "<script>alert(1)</script> no such module\n")
    seen = Reader(answer := await page(house))
    assert "<script>alert(1)</script> no such module" in seen.text
    assert [tag for tag, _ in seen.tags].count("script") == 1
    assert "early" not in seen.text, "only the end of it"
    assert len(answer.body) < 32_000


async def test_a_revision_is_short_and_all_of_it_stands_in_its_title(house: House) -> None:
    await fail(house)
    seen = Reader(answer := await page(house))
    assert SHA not in seen.text
    assert f'<code title="{SHA}">{SHA[:7]}</code>' in answer.body.decode()


async def test_a_hint_shows_code_as_code(house: House) -> None:
    await fail(house)
    answer = await page(house)
    assert "Raise <code>a.b</code>." in answer.body.decode()


async def test_whoever_needs_a_person_stands_at_the_top_and_in_the_title(house: House) -> None:
    assert "All is well" not in Reader(await page(house)).text, "nobody has looked yet"
    house.states["scraper"] = ("healthy", "")
    assert "All is well" in Reader(await page(house)).text
    await fail(house)
    text = Reader(await page(house)).text
    assert "! scraper · homeport" in text
    assert "scraper needs you" in text


async def test_an_unhealthy_service_names_what_starts_it_anew(house: House) -> None:
    await house.deliver(a_body())
    journal = house.context.journal
    deployment = await journal.claim("scraper", "c0ffee")
    assert deployment is not None
    deployment = await journal.advance(deployment, State.BUILDING, Change(revision=SHA))
    assert deployment.release is not None
    live = Release(name=deployment.release, service="scraper", revision=SHA)
    for state in (State.BACKING_UP, State.SWITCHING, State.VERIFYING):
        deployment = await journal.advance(deployment, state, Change())
    await journal.advance(deployment, State.SUCCEEDED, Change(live=live), Limits(2))
    house.states["scraper"] = ("unhealthy", "the process is not running")
    text = Reader(await page(house)).text
    assert "the process is not running" in text
    assert f"homeport deploy scraper --revision {SHA[:7]} --force" in text


async def test_a_frozen_service_says_how_long_and_what_a_person_can_do(house: House) -> None:
    house.context.frozen_until = {"scraper": house.clock.now() + timedelta(hours=5)}.get
    text = Reader(await page(house)).text
    assert "Frozen for another 5\u00a0h" in text
    assert "homeport deploy scraper" in text


async def test_a_quarantine_of_another_configuration_is_not_shown(house: House) -> None:
    await fail(house)
    assert "In quarantine" in Reader(await page(house)).text
    house.context.config_hash = {"scraper": "another"}
    assert "In quarantine" not in Reader(await page(house)).text


async def test_an_ignored_delivery_says_why(house: House) -> None:
    await house.post("/api/v1/services/scraper/hold")
    await house.deliver(a_body())
    assert "held: Look into what failed, then homeport resume SERVICE" in Reader(await page(house)).text


async def test_where_no_token_is_configured_the_login_says_what_to_write(house: House) -> None:
    house.context.keys = ()
    (told,) = re.findall(r"<code>(access: .*?)</code>", (await house.call("GET", "/", **HTML)).body.decode())
    assert "tokens: [{name: me, secret: {file: PATH}, scopes: [admin]}]" in told


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    digits = colour.removeprefix("#")
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_every_text_has_enough_contrast_on_every_ground(scheme: int) -> None:
    """4.5 to 1, WCAG 2.2 AA."""
    block = re.findall(r":root\{(.*?)\}", STYLE, re.DOTALL)[scheme]
    colours = dict(re.findall(r"--(\w+):(#[0-9a-f]{6})\b", block))
    assert colours.keys() >= {"ground", "card", "deep", "ink", "soft", "good", "warn", "bad", "run"}
    for ground in ("ground", "card", "deep"):
        for ink in ("ink", "soft", "good", "warn", "bad", "run"):
            dark, light = sorted((luminance(colours[ground]), luminance(colours[ink])))
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (ground, ink)
