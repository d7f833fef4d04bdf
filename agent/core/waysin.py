"""What lets the agent into a repository, and what makes sure that it is the right one: deploy key, host keys, token.

Host keys are pinned as lines of known_hosts without the name.
"""

import re
from base64 import b64decode
from binascii import Error
from collections.abc import Iterator, Sequence

from agent.core.location import Finding
from agent.core.repository import host_of, refusal, transport
from agent.core.settings import Source

KINDS = (
    "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa",
    "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com",
)  # fmt: skip


def ways_in(source: Source) -> Iterator[Finding]:
    """What is wrong with them, and what does not fit how git gets there."""
    for index, line in enumerate(source.host_keys):
        if problem := mistake(line):
            yield Finding(("host_keys", index), *problem)
    if refusal(source.repository):
        return
    way = transport(source.repository)
    hint = {"https": "for https there is `token`", "ssh": "for ssh there is `key`", "path": ""}[way]
    for name, given, fits in (
        ("key", source.key is not None, "ssh"),
        ("host_keys", bool(source.host_keys), "ssh"),
        ("token", source.token is not None, "https"),
    ):
        if given and way != fits:
            message = f"needs a repository that is reached by {fits}"
            yield Finding((name,), message, hint, relies=(("repository",),))


def mistake(line: str) -> tuple[str, str] | None:
    """Why a line is no host key, and what to write instead; None: it is one."""
    kind, _, rest = line.partition(" ")
    words = line.split()
    if kind not in KINDS:
        named = len(words) > 2 and words[1] in KINDS
        hint = "write it without the host's name" if named else "`ssh-keyscan HOST` shows them"
        return "must be a host key such as `ssh-ed25519 AAAA...`", hint
    if re.search(r"[\x00-\x1f\x7f]", line) or not _is_of_kind(rest.partition(" ")[0], kind):
        return "is cut off, or not one line: its key does not read", "copy the whole line"
    return None


def known_hosts(repository: str, keys: Sequence[str]) -> str:
    """The file that lets ssh accept exactly these keys of the repository's host: sshd(8), SSH_KNOWN_HOSTS."""
    host, port = host_of(repository)
    name = host if port == 22 else f"[{host}]:{port}"
    return "".join(f"{name} {key}\n" for key in keys)


def _is_of_kind(encoded: str, kind: str) -> bool:
    """Each key begins with its own kind, counted: RFC 4253, section 6.6."""
    try:
        key = b64decode(encoded, validate=True)
    except (Error, ValueError):
        return False
    head = len(kind).to_bytes(4, "big") + kind.encode()
    return key.startswith(head) and len(key) > len(head) + 32
