"""Values that are valid by default; a test names only what it is about."""

import hashlib
from datetime import timedelta
from typing import Any

import msgspec

from agent.core.model import Delivery, Deployment, Release, State, Step, Trigger
from agent.core.settings import Service
from tests.fakes import START

REVISION = "a" * 40
OTHER = "b" * 40


def a_deployment(**differences: Any) -> Deployment:
    """A queued deployment of `scraper` by a push."""
    values: dict[str, Any] = {
        "id": "d1",
        "service": "scraper",
        "revision": REVISION,
        "previous": None,
        "state": State.QUEUED,
        "reason": "",
        "hint": "",
        "trigger": Trigger(kind="webhook", event="push", delivery="guid-1", actor="me"),
        "created_at": START,
        "finished_at": None,
    }
    return Deployment(**(values | differences))


def a_step(name: State, **differences: Any) -> Step:
    """A step that is done."""
    values: dict[str, Any] = {"name": name, "state": "done", "started_at": START, "finished_at": START}
    return Step(**(values | differences))


def a_delivery(body: bytes = b"{}", **differences: Any) -> Delivery:
    """An authenticated push."""
    values: dict[str, Any] = {
        "digest": hashlib.sha256(body).hexdigest(),
        "id": "guid-1",
        "event": "push",
        "received_at": START,
        "repository": "me/scraper",
        "ref": "refs/heads/main",
        "revision": REVISION,
        "sender": "me",
    }
    return Delivery(**(values | differences))


def a_release(name: str, *, confirmed: int | None = None, at: float = 0, revision: str = REVISION) -> Release:
    """A release of `scraper`; `confirmed` is the number of its confirmation, `at` its time after START in seconds."""
    when = None if confirmed is None else START + timedelta(seconds=at)
    return Release(
        name=name, service="scraper", revision=revision, confirmed_at=when, confirmation=confirmed or 0
    )


def a_service(**differences: Any) -> Service:
    """Settings with the minimum; blocks are given as plain values."""
    document: dict[str, Any] = {
        "source": {"repository": "/srv/git/scraper.git"},
        "runtime": {"kind": "process", "command": ["./serve"]},
        "directory": "/srv/scraper",
    }
    return msgspec.convert(
        document | differences, Service, dec_hook=lambda kind, value: kind(value), strict=False
    )
