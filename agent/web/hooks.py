"""POST /webhook: a delivery comes in, and its answer means that it is on the disk.

Straight down, and nothing is done before its turn: length and headers -> body, bounded in size and time ->
signature on the raw bytes -> out of its form, if it came in one -> strict reading -> decision -> one durable
transaction -> 202. Whatever is wrong has an answer of its own below 500; a client that leaves is nobody's error.

Only what fails to authenticate is counted per client (R-RX-28); a signed delivery is never limited.
"""

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from aiohttp import web

from agent.core import access, github, payload, triggers
from agent.core.errors import HomeportError, Refused, Unavailable
from agent.core.limits import Strikes
from agent.core.model import Delivery
from agent.core.text import clean
from agent.store.inbox import Wanted
from agent.web.context import Context
from agent.web.exchange import Call, answer, remote
from agent.web.intake import LARGE_BODY, Body
from agent.web.problems import problem_of

log = logging.getLogger(__name__)


class Webhook:
    """The route's handler. Each request is answered by the context that it came with."""

    def __init__(self) -> None:
        self._strikes = Strikes()
        self._logged = Strikes()

    async def receive(self, call: Call) -> web.StreamResponse:
        """Answers one request; raises nothing but cancellation (and defects)."""
        try:
            if call.context.stopping:
                raise Unavailable("stopping", "the agent is being stopped")
            form = _is_form(call.request)
            return await self._decide(call.context, *await self._take(call, form=form))
        except HomeportError as error:
            return problem_of(error)

    async def _take(self, call: Call, *, form: bool) -> tuple[payload.Payload, Delivery]:
        """What was delivered, authenticated. The body is not in memory any more when this returns."""
        request = call.request
        signatures = [
            value.encode("utf-8", "surrogateescape")
            for value in request.headers.getall("X-Hub-Signature-256", ())
        ]
        events = request.headers.getall("X-GitHub-Event", ())
        headers = _Headers(
            signatures,
            events[0] if len(events) == 1 else "",
            request.headers.get("X-GitHub-Delivery", ""),
            form,
        )
        context, secrets = call.context, call.context.webhook_secrets
        async with context.intake.body(request, github.MAX_BODY, call.deadline) as body:
            large = len(body) > LARGE_BODY  # it takes long enough to be noticed by others
            opened = (
                await asyncio.to_thread(_open, body, headers, secrets)
                if large
                else _open(body, headers, secrets)
            )
        if opened is None:
            raise self._strike(call)
        return opened.payload, Delivery(
            digest=opened.digest,
            id=opened.payload.guid or opened.digest[:32],
            event=opened.payload.event,
            received_at=context.clock.now(),
            secret=opened.secret,
            repository=clean(opened.payload.repository),
            ref=clean(opened.payload.ref),
            revision=opened.payload.revision,
            sender=clean(opened.payload.sender),
        )

    async def _decide(self, context: Context, said: payload.Payload, delivery: Delivery) -> web.Response:
        if said.event == "ping":
            return self._note(context, delivery, "pong", "")
        decisions = triggers.decide(said, context.settings.services)
        wanted = [
            self._wanted(context, decision)
            for decision in decisions
            if not isinstance(decision, triggers.Ignore)
        ]
        if not wanted:
            return self._note(context, delivery, "ignored", triggers.why(decisions))
        admission = await context.inbox.admit(delivery, wanted)
        for placed in admission.deployments:
            if (
                placed.service in context.settings.services
            ):  # it may be a redelivery from before it was removed
                context.wake(placed.service)
        if admission.decision == "ignored":
            return answer({"decision": "ignored", "delivery": delivery.id, "reason": admission.reason})
        if admission.decision == "deploy":
            log.info(
                "delivery %s: %s %s to %s, signed with secret %d",
                delivery.id,
                delivery.event,
                delivery.revision or delivery.ref,
                ", ".join(placed.service for placed in admission.deployments),
                delivery.secret,
            )
        return answer(
            {
                "decision": admission.decision,
                "delivery": delivery.id,
                "deployments": admission.deployments,
            },
            status=202 if admission.decision == "deploy" else 200,
        )

    def _wanted(self, context: Context, decision: triggers.Deploy | triggers.GoBack) -> Wanted:
        config_hash = context.config_hash.get(decision.service, "")
        if isinstance(decision, triggers.GoBack):
            return Wanted(decision.service, decision.revision, config_hash, back=True)
        return Wanted(
            decision.service,
            decision.revision,
            config_hash,
            requested=decision.requested,
            before=decision.before,
        )

    def _note(self, context: Context, delivery: Delivery, decision: str, reason: str) -> web.Response:
        """Answers what deploys nothing; it is recorded with the next batch."""
        context.inbox.note(msgspec.structs.replace(delivery, decision=decision, reason=reason))
        document = {"decision": decision, "delivery": delivery.id}
        return answer(document | ({"reason": reason} if reason else {}))

    def _strike(self, call: Call) -> Refused:
        """The one answer to whoever has no good signature, whatever was wrong with it; counted per client."""
        request, context = call.request, call.context
        forwarded = request.headers.getall("X-Forwarded-For", ())
        client = access.client(remote(request), forwarded, context.proxies)
        now = context.clock.monotonic()
        wait = self._strikes.strike(client, now)
        if not self._logged.strike("", now):  # a flood of them must not become a flood of lines (F45)
            log.warning("a webhook request from %s has no good signature", client or "the unix socket")
        if wait:
            return Refused(
                429, "too-many-requests", "too many bad signatures", headers={"Retry-After": str(wait)}
            )
        return Refused(401, "signature-invalid", "the signature is missing or wrong")


class _Headers(NamedTuple):
    signatures: Sequence[bytes]
    event: str
    guid: str
    form: bool


class _Opened(NamedTuple):
    secret: int
    digest: str
    payload: payload.Payload


def _open(body: Body, headers: _Headers, secrets: Sequence[bytes]) -> _Opened | None:
    """Authenticates, then reads: the first byte is looked at after the signature was found good. None: it was not.

    Signature and digest are those of the bytes as they came, also where they are a form (R-RX-11)."""
    secret = github.verify(body, headers.signatures, secrets)
    if secret is None:
        return None
    digest = hashlib.sha256(body).hexdigest()
    document = github.unwrap(body) if headers.form else body
    return _Opened(secret, digest, payload.read(headers.event, headers.guid or digest[:32], document))


def _is_form(request: web.BaseRequest) -> bool:
    """Whether the body is a form; else it is JSON. Both uncompressed and in UTF-8, or 415 (R-RX-10)."""
    headers = request.headers
    if "Content-Encoding" in headers:
        raise Refused(415, "content-type", "compressed bodies are not taken", hint="Send it uncompressed.")
    kind = github.media_type(headers.getall("Content-Type", ()))
    if kind not in (github.JSON, github.FORM):
        raise Refused(415, "content-type", "the content type is neither JSON nor a form, in UTF-8")
    return kind == github.FORM
