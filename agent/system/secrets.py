"""Secrets by reference: from the environment, a file, or a credential that systemd hands over.

A secret is read once and stays in memory. One that is missing, empty, shorter than 16 bytes, or readable by
everybody is a problem of the configuration (R-RX-5, R-SD-4): the agent never verifies with an empty key.
"""

import base64
import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from agent.core.errors import ConfigError, Problem
from agent.core.hiding import LONG_ENOUGH, forms, hide
from agent.core.settings import KeyRef, SecretRef

MIN_BYTES = LONG_ENOUGH
_ENV_NAME = re.compile(r"[A-Z_][A-Z0-9_]{0,63}|[A-Za-z_][A-Za-z0-9_]{0,31}")
MAX_BYTES = 64 * 1024
_OPENSSH = b"openssh-key-v1\0"


class Secrets:
    """Resolves references, and hides every secret that it ever resolved."""

    def __init__(self, environ: Mapping[str, str], credentials_directory: Path | None = None) -> None:
        """`credentials_directory` is systemd's; by default the one that `environ` names."""
        named = environ.get("CREDENTIALS_DIRECTORY")
        self._environ = environ
        self._credentials = credentials_directory or (Path(named) if named else None)
        self._resolved: dict[SecretRef, bytes] = {}
        self._known: set[bytes] = set()
        self._forms: tuple[str, ...] = ()

    @property
    def has_credentials(self) -> bool:
        """Whether systemd handed over credentials: without, nobody can tell if one of them exists."""
        return self._credentials is not None

    def get(self, reference: object) -> bytes:
        """The secret's bytes, without one line's end after them. Raises ConfigError if it cannot be used."""
        if not isinstance(reference, SecretRef):
            raise TypeError(f"not a reference to a secret: {type(reference).__name__}")
        if reference not in self._resolved:
            try:
                secret = _checked(self._read(reference))
            except _Unusable as error:
                raise ConfigError([Problem("", f"{_named(reference)} {error}", hint=error.hint)]) from error
            self._resolved[reference] = secret
            self._hide({secret})
        return self._resolved[reference]

    def key_file(self, reference: object) -> Path:
        """See `core.ports.Secrets`. Its rules are those of ssh(1), which refuses in fewer words."""
        if not isinstance(reference, KeyRef):
            raise TypeError(f"not a reference to a key: {type(reference).__name__}")
        try:
            path = self._path(reference)
            key = _read_file(path, for_ssh=True)
            _check_key(key)
        except _Unusable as error:
            raise ConfigError([Problem("", f"{_named(reference)} {error}", hint=error.hint)]) from error
        self._hide({key})  # ssh reads it, and so can a build, which may print it
        return path

    def resolve_all(self, needs: Iterable[tuple[str, SecretRef | KeyRef]]) -> list[Problem]:
        """Resolves each of `core.configuration.needs_secrets`; a problem for each that cannot be used."""
        problems: list[Problem] = []
        tokens: dict[bytes, str] = {}
        for path, reference in needs:
            try:
                if isinstance(reference, KeyRef):
                    self.key_file(reference)
                    continue
                secret = self.get(reference)
            except ConfigError as error:
                problems += (Problem(path, problem.message, hint=problem.hint) for problem in error.problems)
                continue
            if path.startswith("access.tokens"):
                if secret in tokens:
                    message = f"is the same secret as {tokens[secret]}: nobody could tell who calls"
                    problems.append(Problem(path, message))
                tokens.setdefault(secret, path)
        return problems

    def adopt(self, newer: "Secrets") -> None:
        """From now on what `newer` resolved. What was known before stays hidden, and what only the settings before
        refer to stays known: a deployment may still be at it."""
        self._resolved |= newer._resolved
        self._hide(newer._known)

    def redact(self, text: str) -> str:
        """The text with every resolved secret replaced by ***, also where it is encoded: see `core.hiding`."""
        return hide(text, self._forms)

    def _hide(self, secrets: set[bytes]) -> None:
        if not secrets <= self._known:
            self._known |= secrets
            self._forms = forms(self._known)

    def _read(self, reference: SecretRef) -> bytes:
        if reference.env is not None:
            if reference.env not in self._environ:
                raise _Unusable("is not set")
            return os.fsencode(self._environ[reference.env])
        return _read_file(self._path(reference))

    def _path(self, reference: SecretRef | KeyRef) -> Path:
        if reference.file is not None:
            return Path(reference.file)
        if self._credentials is None:
            raise _Unusable(
                "cannot be read: systemd handed over no credentials", "add LoadCredential= to the unit"
            )
        return self._credentials / str(reference.credential)


class _Unusable(Exception):
    """Why a secret cannot be used, as the end of a sentence."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.hint = hint


def _named(reference: SecretRef | KeyRef) -> str:
    if isinstance(reference, SecretRef) and reference.env is not None:
        # what cannot be a name may be the secret itself, in the wrong place
        named = f" {reference.env}" if _ENV_NAME.fullmatch(reference.env) else " that it names"
        return f"the environment variable{named}"
    if reference.file is not None:
        return f"the file {reference.file}"
    return f"the credential {reference.credential}"


def _read_file(path: Path, *, for_ssh: bool = False) -> bytes:
    try:
        # not blocking: a named pipe must not stop the start
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise _Unusable(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        status = os.fstat(handle)
        mode = status.st_mode
        if not stat.S_ISREG(mode):
            raise _Unusable("is not a regular file")
        if mode & (stat.S_IRWXO if for_ssh else stat.S_IROTH | stat.S_IWOTH):
            hint = "chmod 0600 it" if for_ssh else "chmod 0640 it, with the group homeport"
            raise _Unusable("is open to every user of this machine", hint)
        if for_ssh and mode & stat.S_IRWXG and status.st_uid == os.geteuid():
            raise _Unusable("is open to its group, and ssh takes no such key", "chmod 0600 it")
        return os.read(handle, MAX_BYTES + 1)
    except OSError as error:
        raise _Unusable(f"cannot be read: {error.strerror}") from error
    finally:
        os.close(handle)


def _check_key(data: bytes) -> None:
    head, _, rest = data.strip().partition(b"\n")
    if not (head.startswith(b"-----BEGIN ") and head.rstrip().endswith(b"PRIVATE KEY-----")):
        hint = "name the file without .pub; make one with `ssh-keygen -t ed25519 -N ''`"
        raise _Unusable("is no private key", hint)
    if b"ENCRYPTED" in data or _is_locked(rest.partition(b"-----END")[0]):
        raise _Unusable(
            "is locked by a passphrase, which nobody can type", "make one without: `ssh-keygen -N ''`"
        )


def _is_locked(body: bytes) -> bool:
    """Whether OpenSSH's own format names a cipher: PROTOCOL.key begins with a magic word and the cipher's name."""
    try:
        key = base64.b64decode(b"".join(body.split()))
    except ValueError:
        return False
    return key.startswith(_OPENSSH) and key[len(_OPENSSH) + 4 :][:4] != b"none"


def _checked(data: bytes) -> bytes:
    secret = data[:-1] if data.endswith(b"\n") else data
    secret = secret[:-1] if data.endswith(b"\r\n") else secret
    if not secret.strip():
        raise _Unusable("is empty")
    if len(secret) < MIN_BYTES:
        raise _Unusable(f"is shorter than {MIN_BYTES} bytes", "make one with `openssl rand -hex 32`")
    if len(secret) > MAX_BYTES:
        raise _Unusable(f"is longer than {MAX_BYTES} bytes")
    return secret
