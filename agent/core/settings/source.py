"""Where revisions come from."""

from typing import Annotated

from agent.core.settings.basics import DAY, Bytes, KeyRef, Options, Seconds, SecretRef, Text, between


class Source(Options, frozen=True, kw_only=True):
    """Where a service's revisions come from."""

    repository: str
    """A URL (https, ssh) or a path."""
    github: str | None = None
    """Whose deliveries count, `owner/name`; read off the URL if it can be."""
    branch: str = "main"
    """The branch that is deployed."""
    poll: Annotated[Seconds, between(0, DAY)] = Seconds(300)
    """How often the branch's tip is asked for, for pushes whose delivery was lost; `0s` never, else at least `10s`."""
    paths: tuple[Text, ...] = ()
    """Only changes of these paths deploy by themselves: `src/**`, `requirements.txt`, `docs/`, `!docs/drafts/`."""
    key: KeyRef | None = None
    """With ssh: the deploy key, a private key without a passphrase. Without it the user's own keys are tried."""
    host_keys: tuple[str, ...] = ()
    """With ssh: the host's public keys, such as `ssh-ed25519 AAAA...`; no others are accepted then. Without them, what
    known_hosts says counts."""
    token: SecretRef | None = None
    """With https: a token that may read the repository."""
    submodules: bool = False
    """Whether submodules are filled; otherwise they are empty directories. They must lie on the repository's host."""
    lfs: bool = False
    """Whether Git LFS pointers are replaced by their files; needs the program git-lfs."""
    timeout: Annotated[Seconds, between(10, DAY)] = Seconds(300)
    """The deadline of one fetch, or of whatever else git is asked for. The first one brings the whole history: a large
    repository on a slow line needs more."""
    max_size: Annotated[Bytes, between(1 << 20, 1 << 50)] = Bytes(4 << 30)
    """How much of the disk the mirror of the repository may take, and its submodules together: a fetch that takes more
    is ended."""
