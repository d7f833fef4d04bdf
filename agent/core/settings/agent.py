"""The agent itself: where it answers, and who may ask it for what."""

from typing import Annotated

from msgspec import Meta

from agent.core.model import Scope
from agent.core.settings.basics import DAY, Options, Seconds, SecretRef, Text, between


class Listen(Options, frozen=True, kw_only=True):
    """Where the agent answers."""

    host: str = "127.0.0.1"
    """The address for webhooks, the API and the page; anything but loopback needs a token."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 8300
    """The TCP port; 0 takes a free one."""
    socket: str = "/run/homeport/agent.sock"
    """The unix socket that the command line talks to."""


class Token(Options, frozen=True, kw_only=True):
    """A name for whoever calls the API with this secret."""

    name: Text
    """Who calls; stands in events as the actor."""
    secret: SecretRef
    """At least 16 bytes."""
    scopes: Annotated[tuple[Scope, ...], Meta(min_length=1)] = (Scope.READ,)
    """What it may do: read, deploy, admin."""


class Access(Options, frozen=True, kw_only=True):
    """Who may use the API over TCP."""

    tokens: tuple[Token, ...] = ()
    """Bearer tokens; also what logs a browser in."""


class GitHub(Options, frozen=True, kw_only=True):
    """What connects the agent with GitHub."""

    webhook_secrets: tuple[SecretRef, ...] = ()
    """The webhook's secret; two of them while it is being rotated. Without one, /webhook refuses everything."""


class Monitor(Options, frozen=True, kw_only=True):
    """Watching outside of deployments."""

    every: Annotated[Seconds, between(0.1, DAY)] = Seconds(15)
    """How often each live service is asked."""
