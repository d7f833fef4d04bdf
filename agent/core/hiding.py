"""The forms in which a secret may turn up in what programs print: in plain, in JSON, in a URL, in hex, in base64. Pure.

A form is searched for as it stands. So base64 gets the six that do not depend on what stands around the secret (an
echoed header that is encoded whole holds other words before it, a JSON document more after it). What is left visible
of it are single letters, which tell less than eight bits.
"""

import html
import json
from base64 import b64encode
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

LONG_ENOUGH = 16
"""Characters of the shortest form: what is shorter also stands elsewhere."""

_WRAPPED = (64, 76)
"""After so many characters programs break lines of base64: openssl and PEM, and base64(1)."""


def hide(text: str, known: Iterable[str]) -> str:
    """The text with each of the `forms` in it replaced by ***."""
    for form in known:  # ten times as fast as one regular expression of all of them
        if form in text:
            text = text.replace(form, "***")
    return text


def forms(secrets: Iterable[bytes]) -> tuple[str, ...]:
    """Every form of every secret, the longest first, so that no rest of one stays visible."""
    found = {form for secret in secrets for form in _forms(secret) if len(form) >= LONG_ENOUGH}
    return tuple(sorted(found, key=lambda form: (-len(form), form)))


def _forms(secret: bytes) -> Iterator[str]:
    for text in {secret.decode("utf-8", "replace"), secret.decode("utf-8", "surrogateescape")}:
        yield text
        yield from _quoted(text)
        # a program that prints it line by line shows its lines
        for line in text.splitlines():
            if not line.startswith("-----"):  # the frame of a key says nothing
                yield line
                yield from _quoted(line)
    for url in (quote(secret, safe=""), quote(secret), quote_plus(secret)):
        yield from (url, _lower_escapes(url))
    yield from (secret.hex(), secret.hex().upper())
    for encoded in _base64(secret):
        yield from (
            encoded,
            encoded.replace("+", "-").replace("/", "_"),
            encoded.replace("/", "\\/"),
            quote(encoded, safe=""),
        )
    whole = b64encode(secret).decode().rstrip("=")
    for width in _WRAPPED:
        yield from (whole[at : at + width] for at in range(0, len(whole), width))


def _quoted(text: str) -> Iterator[str]:
    """As JSON, as the JSON of others (PHP, Go), as Python, a shell and HTML write it."""
    for ascii_only in (True, False):
        encoded = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        yield encoded
        yield encoded.replace("/", "\\/")
        yield "".join(f"\\u{ord(letter):04x}" if letter in "<>&" else letter for letter in encoded)
    yield repr(text)[1:-1]
    yield repr(text.encode("utf-8", "surrogateescape"))[2:-1]
    yield text.replace("'", "'\\''")
    yield html.escape(text)
    yield html.escape(text, quote=False)


def _lower_escapes(url: str) -> str:
    head, *rest = url.split("%")
    return head + "".join(f"%{part[:2].lower()}{part[2:]}" for part in rest)


def _base64(secret: bytes) -> Iterator[str]:
    """What of its base64 is the same wherever it stands: three alignments, without the letters at their edges that
    also hold bits of a neighbour."""
    for before in range(3):
        encoded = b64encode(bytes(before) + secret).decode().rstrip("=")
        begin = (0, 2, 3)[before]
        end = len(encoded) - bool((before + len(secret)) % 3)
        yield encoded[begin:end]
