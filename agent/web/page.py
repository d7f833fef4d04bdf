"""`/`: how everything is, on one page that needs no script to be read.

Whatever comes from outside goes through `escape` (the standard library's), each value where it is put in. A
browser without a session gets the login page instead.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from html import escape

from aiohttp import web

from agent.core.codes import CODES
from agent.core.model import Backup, Delivery, Deployment, ServiceStatus, State
from agent.core.pipeline import ENDS
from agent.core.text import tail
from agent.web.api.status import service_status
from agent.web.context import Context
from agent.web.exchange import Call
from agent.web.look import ICON, LOGIN_SCRIPT, STATUS_SCRIPT, STYLE, policy

DEPLOYMENTS, BACKUPS, DELIVERIES, PRINTED = 6, 3, 8, 4096
"""How many of each the page shows, and characters of what a failed deployment printed; the API has the rest."""

BUSY_SECONDS, REST_SECONDS = 3, 30
"""When the page looks again: while something goes on, and else."""

_TONE = {
    "healthy": "good", "succeeded": "good", "ok": "good", "done": "good", "deploy": "good", "pong": "good",
    "held": "warn", "unknown": "still", "rolled_back": "warn", "partial": "warn", "interrupted": "warn",
    "unhealthy": "bad", "failed": "bad", "broken": "bad", "bad": "bad",
    "none": "still", "superseded": "still", "unverified": "still", "ignored": "still", "duplicate": "still",
}  # fmt: skip
"""The tone of a word, a colour and a sign; every other word names a state that something is just in."""

_ENDED_BADLY = (State.FAILED, State.ROLLED_BACK, State.BROKEN)


async def show(call: Call) -> web.Response:
    """GET /: the status page."""
    context, now = call.context, call.context.clock.now()
    parts, busy, needy = [], False, []
    for name in context.settings.services:
        status = await service_status(context, name)
        busy = busy or status.current is not None
        if status.hold is not None or _TONE.get(status.health) == "bad" or _ended_badly(status):
            needy.append(name)
        parts.append(await _service(context, name, status, now))
    if context.stale():
        needy.append("the configuration")
    if context.trouble():
        needy.append("the disk")
    deliveries = await context.inbox.deliveries(DELIVERIES)
    parts.append(_deliveries(deliveries.items, now))
    unseen = any(state == "unknown" for state, _ in context.states().values())
    host = _host(await context.host())
    head = f"""<header><h1>homeport</h1>{_summary(needy, unseen=unseen)}
<p class="soft push">{escape(context.version)} · up {_span(timedelta(seconds=context.uptime()))}{host}
<button class="plain" id="leave" type="button" hidden>Sign out {escape(call.principal.name)}</button></p></header>"""
    foot = f'<footer>As of <time datetime="{now.isoformat()}">{now:%Y-%m-%d %H:%M:%S} UTC</time></footer>'
    title = f"! {', '.join(needy)} · homeport" if needy else "homeport"
    body = f"{head}<main>{_stale(context)}{_trouble(context)}{''.join(parts)}</main>{foot}"
    return _document(body, STATUS_SCRIPT, title=title, refresh=BUSY_SECONDS if busy else REST_SECONDS)


def _summary(needy: Sequence[str], *, unseen: bool) -> str:
    """The whole house in three words."""
    tone, told = ("still", "Looking") if unseen else ("good", "All is well")
    if needy:
        tone, told = "warn", f"{', '.join(map(escape, needy))} need{'s' if len(needy) == 1 else ''} you"
    return f'<p class="tone {tone}">{told}</p>'


def _stale(context: Context) -> str:
    """A note while the configuration file cannot be used."""
    config = context.config()
    if config is None or not config.stale:
        return ""
    file = escape(config.file)
    return f"""<div class="note warn"><p>{file} is invalid; the settings before it are in force.
<code class="do">homeport check {file}</code> says what is wrong.</p></div>"""


def _trouble(context: Context) -> str:
    """A note while the state cannot be written, or its disk is too full."""
    trouble = context.trouble()
    return f'<div class="note warn"><p>{escape(trouble)}.</p></div>' if trouble else ""


async def login(call: Call) -> web.Response:
    """What / answers to a browser without a session: 401, and where to put the token."""
    where = "Enter a token that the agent's configuration names under <code>access.tokens</code>."
    if not call.context.keys:
        where = """No token is configured yet. Write one into a file, name it in the agent's configuration,
<code>access: {tokens: [{name: me, secret: {file: PATH}, scopes: [admin]}]}</code>, and run
<code>homeport reload</code>."""
    body = f"""<main class="door"><section class="card"><h1>homeport</h1><p class="soft">{where}</p>
<form id="enter"><input hidden autocomplete="username" value="homeport">
<label>Token <input id="token" type="password" autocomplete="current-password" required></label>
<button>Sign in</button><p id="said" class="tone bad" role="alert"></p></form>
<noscript><p>Signing in needs JavaScript. The command <code>homeport status</code> shows the same.</p></noscript>
</section></main>"""
    return _document(body, LOGIN_SCRIPT, status=401)


def _document(
    body: str, script: str, *, status: int = 200, title: str = "homeport", refresh: int = 0
) -> web.Response:
    """Where scripts run they look again (and only while somebody looks); elsewhere the browser reloads."""
    again = f'<noscript><meta http-equiv="refresh" content="{refresh}"></noscript>' if refresh else ""
    text = f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>
<meta name="viewport" content="width=device-width,initial-scale=1">{again}
<link rel="icon" href="{ICON}"><style>{STYLE}</style></head>
<body data-again="{refresh}">{body}<script>{script}</script></body></html>"""
    headers = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy(script)}
    return web.Response(status=status, body=text.encode(), headers=headers)


# --- a service


async def _service(context: Context, name: str, status: ServiceStatus, now: datetime) -> str:
    recent = await context.journal.deployments(name, DEPLOYMENTS)
    backups = (await context.backups.list(name))[:BACKUPS]
    printed = None
    if status.last is not None and _ended_badly(status):
        printed = await context.journal.output(status.last.id)
    return f"""<section class="card"><div class="line"><h2>{escape(name)}</h2>{_badge(status.health)}
<span>{_live(name, status, now)}</span></div>
{_notes(name, status, printed or "", now)}{_quarantine(context, name, status)}{_progress(status.current, now)}
<h3>Deployments</h3>{_rows(_deployment(item, now) for item in recent.items if item.state in ENDS)}
<h3>Backups</h3>{_rows(_backup(item, now) for item in backups)}</section>"""


def _live(name: str, status: ServiceStatus, now: datetime) -> str:
    if status.live is None:
        return f"nothing is live yet; {_command(f'homeport deploy {name}')} begins"
    if not status.live.proven:
        return f"{_short(status.live.revision)} should run, but did not come up"
    return f"{_short(status.live.revision)} is live for {_time(status.live.since, _span(now - status.live.since))}"


def _notes(name: str, status: ServiceStatus, printed: str, now: datetime) -> str:
    """What a person should know, the most urgent first, each with what to do next."""
    notes = []
    if status.health == "unhealthy":
        again = ""
        if status.live is not None:
            command = f"homeport deploy {name} --revision {status.live.revision[:7]} --force"
            again = f" {_command(command)} starts it anew."
        notes.append(f'<div class="note bad"><p>Unhealthy: {escape(status.health_detail)}.{again}</p></div>')
    if status.hold is not None:
        by = f" by {escape(status.hold.actor)}" if status.hold.actor else ""
        notes.append(
            f'<div class="note warn"><p>Held {_ago(status.hold.since, now)}{by}: {escape(status.hold.reason)}.'
            f" Pushes wait. {_command(f'homeport resume {name}')} lets them go on.</p></div>"
        )
    if status.frozen_until is not None:
        notes.append(
            f'<div class="note still"><p>Frozen for another {_span(status.frozen_until - now)}: pushes wait until then.'
            f" {_command(f'homeport deploy {name}')} deploys all the same.</p></div>"
        )
    last = status.last
    if last is not None and _ended_badly(status):
        shown = escape(tail(printed.rstrip(), PRINTED))
        output = f"<details><summary>What was printed</summary><pre>{shown}</pre></details>" if shown else ""
        notes.append(
            f'<div class="note {_tone(last.state)}"><p>{_what(last)} {_word(last.state)}'
            f" ({escape(last.reason)}). {_prose(last.hint)}</p>{output}</div>"
        )
    return "".join(notes)


def _ended_badly(status: ServiceStatus) -> bool:
    return status.last is not None and status.last.state in _ENDED_BADLY


def _quarantine(context: Context, name: str, status: ServiceStatus) -> str:
    """The revisions that a push would not deploy again; those of another configuration do not count any more."""
    mine = [item for item in status.quarantine if item.config_hash == context.config_hash.get(name, "")]
    if not mine:
        return ""
    return f'<p class="soft">In quarantine: {", ".join(_short(item.revision) for item in mine[:5])}</p>'


def _progress(current: Deployment | None, now: datetime) -> str:
    if current is None:
        return ""
    return f"""<h3>Going on</h3><div class="line">{_what(current)}
{_badge(current.state)}<span class="soft">{_ago(current.created_at, now)}</span></div>{_steps(current)}"""


def _deployment(item: Deployment, now: datetime) -> str:
    took = ""
    if item.state in ENDS and item.finished_at is not None:
        took = f" · took {_span(item.finished_at - item.created_at)}"
    if item.outage is not None:
        took += f" · outage {item.outage.seconds:.2f}\u00a0s" if item.outage.failed else " · no outage"
    trigger = " · ".join(filter(None, (item.trigger.kind, item.trigger.event, item.trigger.actor)))
    hint = f"<p>{escape(item.reason)}: {_prose(item.hint)}</p>" if item.reason else ""
    return f"""<details><summary class="line">{_what(item)}{_badge(item.state)}
<span class="soft">{escape(item.reason)}</span><span class="soft push">{escape(trigger)}
 · {_ago(item.created_at, now)}{took}</span></summary>{_steps(item)}{hint}</details>"""


def _steps(item: Deployment) -> str:
    lines = []
    for step in item.steps:
        took = _span(step.finished_at - step.started_at) if step.finished_at else ""
        detail = _short(item.revision) if step.detail == item.revision else escape(step.detail)
        lines.append(
            f'<li><span class="tone {_tone(step.state)}">{_word(step.name)}</span>'
            f' <span class="soft">{_word(step.state)} {took} {detail}</span></li>'
        )
    return f'<ol class="steps">{"".join(lines)}</ol>'


def _backup(item: Backup, now: datetime) -> str:
    return f"""<div class="line"><code>{escape(item.id)}</code>{_badge(item.state)}
<span class="soft">{escape(item.reason)}</span><span class="soft push">{_size(item.bytes)},
 {_size(item.stored_bytes)} added · {_ago(item.at, now)}</span></div>"""


def _deliveries(items: Sequence[Delivery], now: datetime) -> str:
    return (
        f'<section class="card"><h2>Deliveries</h2>{_rows(_delivery(item, now) for item in items)}</section>'
    )


def _delivery(item: Delivery, now: datetime) -> str:
    hint = CODES[item.reason].hint if item.reason in CODES else ""
    why = f'<p class="soft">{escape(item.reason)}: {_prose(hint)}</p>' if item.reason else ""
    return f"""<div class="line"><span>{escape(item.event)}</span>{_badge(item.decision)}
<span class="soft">{escape(item.repository)} {escape(item.ref)}</span><span class="soft push">
<code title="{escape(item.id)}">{escape(item.id[:8])}</code> · {_ago(item.received_at, now)}</span></div>{why}"""


def _rows(rows: Iterable[str]) -> str:
    lines = "".join(f"<li>{row}</li>" for row in rows)
    return f'<ul class="rows">{lines}</ul>' if lines else '<p class="soft">None yet.</p>'


# --- words


def _badge(state: str) -> str:
    return f'<span class="badge tone {_tone(state)}">{_word(state)}</span>'


def _tone(state: str) -> str:
    return _TONE.get(state, "run")


def _word(state: str) -> str:
    return escape({"none": "not deployed"}.get(state, state.replace("_", " ")))


def _command(text: str) -> str:
    """What to type; a line breaks between its words only."""
    return f'<code class="do">{" ".join(f"<span>{escape(word)}</span>" for word in text.split())}</code>'


def _prose(text: str) -> str:
    """A sentence of ours: what stands in `backquotes` is code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _what(item: Deployment) -> str:
    """What it deploys; or where a person went back to."""
    if item.target is None or item.trigger.kind != "manual":
        return _short(item.revision or item.requested)
    return f"back to {_short(item.revision or item.target or 'the release before')}"


def _short(revision: str | None) -> str:
    """Seven digits as on the command line, all of them in the title; or the name that was asked for."""
    if not revision:
        return "<code>tip</code>"
    digits = len(revision) in (40, 64)
    return f'<code title="{escape(revision)}">{escape(revision[:7] if digits else revision)}</code>'


def _ago(at: datetime, now: datetime) -> str:
    return _time(at, "just now" if now - at < timedelta(seconds=1) else f"{_span(now - at)} ago")


def _time(at: datetime, text: str) -> str:
    return f'<time datetime="{at.isoformat()}" title="{at:%Y-%m-%d %H:%M:%S} UTC">{text}</time>'


def _span(length: timedelta) -> str:
    seconds = max(0.0, length.total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size)}\u00a0{unit}"
    return f"{int(seconds)}\u00a0s" if seconds >= 10 else f"{seconds:.1f}\u00a0s"


def _size(number: int) -> str:
    amount = float(number)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"


def _host(figures: object) -> str:
    free = figures.get("disk_free_bytes") if isinstance(figures, dict) else None
    return f" · {_size(free)} free" if isinstance(free, int) else ""
