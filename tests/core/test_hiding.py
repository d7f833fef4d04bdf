"""The forms in which a secret is found and hidden."""

import base64
import html
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.hiding import LONG_ENOUGH, forms, hide

SECRET = "pa/ss+wo'rd\"<&>\\é and 0123456789abcdef"


def hidden(text: str, secret: str = SECRET) -> str:
    return hide(text, forms([secret.encode()]))


@pytest.mark.parametrize(
    "write",
    [
        str, json.dumps, lambda text: json.dumps(text, ensure_ascii=False),
        lambda text: json.dumps(text).replace("/", "\\/"),
        repr, lambda text: repr(text.encode()), quote, quote_plus, lambda text: quote(text,
        safe="").replace("%C3%A9", "%c3%a9")
        .replace("%2F", "%2f").replace("%2B", "%2b").replace("%3C", "%3c").replace("%3E", "%3e").replace("%5C", "%5c"),
        lambda text: text.encode().hex(), lambda text: text.encode().hex().upper(), html.escape,
    ],
)  # fmt: skip
def test_a_secret_is_hidden_in_every_notation(write: Callable[[str], str]) -> None:
    """R-RX-31."""
    told = hidden(f"before {write(SECRET)} after")
    assert "***" in told
    assert "0123456789abcdef" not in told
    assert b"0123456789abcdef".hex() not in told.lower()


@given(st.binary(min_size=LONG_ENOUGH, max_size=90), st.binary(max_size=20), st.binary(max_size=20))
def test_a_secret_is_hidden_in_base64_whatever_stands_around_it(
    secret: bytes, before: bytes, after: bytes
) -> None:
    """R-RX-31: a header or a document that is encoded whole has other words before and behind it."""
    known = forms([secret])
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        told = hide(encode(before + secret + after).decode(), known)
        assert "***" in told
        assert len(told) <= len(encode(before)) + len(encode(after)) + 12


def test_the_lines_of_base64_are_hidden_where_a_program_breaks_them() -> None:
    """R-RX-31: base64(1) after 76 letters, openssl after 64."""
    secret = bytes(range(33, 126)) * 2
    whole = base64.b64encode(secret).decode()
    for width in (64, 76):
        lines = [whole[at : at + width] for at in range(0, len(whole), width)]
        told = hide("\n".join(lines), forms([secret]))
        assert not [line for line in lines[:-1] if line in told]


def test_nothing_short_and_no_frame_of_a_key_is_taken_for_a_secret() -> None:
    frame = ("-----BEGIN OPENSSH PRIVATE KEY-----\n", "-----END OPENSSH PRIVATE KEY-----\n")
    key = f"{frame[0]}b3BlbnNzaC1rZXktdjEAAAAABG5vbmU\nAAAA\n{frame[1]}"
    assert all(len(form) >= LONG_ENOUGH for form in forms([key.encode()]))
    assert hidden("-----BEGIN OPENSSH PRIVATE KEY----- AAAA", key).startswith(
        "-----BEGIN OPENSSH PRIVATE KEY----- AAAA"
    )
    assert hidden("it says b3BlbnNzaC1rZXktdjEAAAAABG5vbmU here", key) == "it says *** here"
