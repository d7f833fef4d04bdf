"""The bytes of a GitHub delivery: authenticated, unwrapped, parsed. Pure.

- The signature covers the body and nothing else: the event's name and the GUID come from headers that anybody
  who caught one signed body can change. What identifies a delivery is the digest of its bytes.
- Nothing is parsed before the signature was found good (R-RX-7): `verify` first, `parse` after it.

What the document says is read by `core.payload`; what it leads to is decided by `core.triggers`.

Sources: https://docs.github.com/en/webhooks/webhook-events-and-payloads and .../validating-webhook-deliveries.
"""

import hmac
import json
import math
import re
from collections.abc import Sequence
from typing import Any, NoReturn
from urllib.parse import unquote_to_bytes

from agent.core.errors import Refused

Body = bytes | bytearray

MAX_BODY = 25 * 1024 * 1024
"""Bytes. GitHub does not send an event that is larger."""

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"

_SIGNATURE = re.compile(rb"\Asha256=([0-9a-f]{64})\Z")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_UTF_8 = ("utf-8", "utf8")


def verify(body: Body, signatures: Sequence[bytes], secrets: Sequence[bytes]) -> int | None:
    """Which of the secrets signed `body`, counted from 0; None if none did.

    `signatures` are the values of every X-Hub-Signature-256 header, as bytes: `compare_digest` raises TypeError
    for a str with other characters than ASCII. Two headers are none. Every secret is tried, so that the time
    that it takes does not tell which one matched.
    """
    match = _SIGNATURE.match(signatures[0]) if len(signatures) == 1 else None
    if match is None:
        return None
    given = bytes.fromhex(match[1].decode("ascii"))
    found: int | None = None
    for index, secret in enumerate(secrets):
        good = hmac.compare_digest(hmac.digest(secret, body, "sha256"), given)
        if good and secret and found is None:  # an empty secret never verifies, whatever was configured
            found = index
    return found


def media_type(content_types: Sequence[str]) -> str | None:
    """What the Content-Type headers say the body is, in lower case; None if they are not one, or not in UTF-8."""
    if len(content_types) != 1:
        return None
    kind, *parameters = content_types[0].split(";")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in _UTF_8:
            return None
    return kind.strip().lower()


def is_json(content_types: Sequence[str]) -> bool:
    """Whether the Content-Type headers say: one JSON document in UTF-8 (R-RX-10)."""
    return media_type(content_types) == JSON


# --- a form

_FIELD = b"payload="
_PLAIN = bytes(set(range(0x21, 0x7F)) - set(b"&;"))
"""What may stand in the value of a form's only field: no blanks, nothing that must be escaped, no other field."""
_HALF_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_PIECE = 16 * 1024
"""Bytes that are unescaped at once: the standard library makes an object of each escape."""


def unwrap(form: Body) -> bytearray:
    """The document in a form-encoded delivery: the value of its only field, `payload` (R-RX-11).

    Raises Refused(400, body-invalid). It needs little more memory than its result, whatever the form holds.
    """
    start = len(_FIELD)
    if not form.startswith(_FIELD):
        refuse("the body is not a form whose only field is `payload`")
    document = bytearray()
    while start < len(form):
        end = _piece_end(form, start)
        piece = bytes(form[start:end])
        if piece.translate(None, _PLAIN) or _HALF_ESCAPE.search(piece):
            refuse("the body is not a form whose only field is `payload`")
        document += unquote_to_bytes(piece.replace(b"+", b" "))
        start = end
    return document


def _piece_end(form: Body, start: int) -> int:
    """Where the piece that begins at `start` ends; never inside of an escape."""
    end = start + _PIECE
    if end >= len(form):
        return len(form)
    escape = form.rfind(b"%", end - 2, end)
    return end if escape < 0 else escape


# --- strict JSON


def parse(body: Body) -> dict[str, Any]:
    """Strict JSON: one object, UTF-8, no key twice, only numbers and characters that exist.

    Raises Refused(400, body-invalid); nothing else, however deep or large the document is.
    """
    try:
        document = _STRICT.decode(str(body, "utf-8"))
        if _SURROGATE.search(body):
            json.dumps(document, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):  # the former is also UnicodeError and JSONDecodeError
        refuse("the body is not strict JSON")
    if not isinstance(document, dict):
        refuse("the body is not a JSON object")
    return document


def _object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number is too large")
    return number


_STRICT = json.JSONDecoder(object_pairs_hook=_object_of, parse_constant=_no_constant, parse_float=_finite)


def refuse(message: str) -> NoReturn:
    """The one answer to an authenticated body that is not what it says it is."""
    raise Refused(400, "body-invalid", message) from None
