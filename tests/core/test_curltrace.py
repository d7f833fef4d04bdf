"""The trace that git writes of its requests, between what it says itself."""

import pytest

from agent.core.curltrace import retry_after, without

TRACE = """\
12:00:00.123456 http.c:725              == Info: ALPN: server accepted http/1.1
12:00:00.123456 http.c:672              => Send header, 0000000172 bytes (0x000000ac)
12:00:00.123456 http.c:684              => Send header: GET /me/app.git/info/refs HTTP/1.1
12:00:00.123456 http.c:684              => Send header: Authorization: Basic <redacted>
12:00:00.123456 http.c:684              <= Recv header: HTTP/1.1 {status} Nothing
12:00:00.123456 http.c:684              <= Recv header: Date: Fri, 27 Nov 2026 12:00:00 GMT
12:00:00.123456 http.c:684              <= Recv header: {header}
12:00:00.123456 http.c:684              <= Recv header:
"""
FATAL = "fatal: unable to access 'https://x.org/me/app.git/': The requested URL returned error: 429\n"


def traced(status: int, header: str) -> str:
    return TRACE.format(status=status, header=header)


@pytest.mark.parametrize(
    ("status", "header", "wait"),
    [
        (429, "Retry-After: 30", 30),
        (429, "retry-after:30", 30),
        (403, "Retry-After: 60", 60),
        (503, "Retry-After: Fri, 27 Nov 2026 12:02:00 GMT", 120),
        (503, "Retry-After: Fri, 27 Nov 2026 11:00:00 GMT", 0),
        (503, "Retry-After: Fri, 27 Nov 2026 11:00:00", None),
        (503, "Retry-After: soon", None),
        (503, "Retry-After: -5", None),
        (503, "Retry-After: 99999999999", None),
        (503, "Retry-After: ١٢", None),
        (503, "Retry-After: Fri, 99 Nov 2026 11:00:00 GMT", None),
        (503, "X-Retry-After: 30", None),
        (200, "Retry-After: 30", None),
        (401, "Retry-After: 30", None),
    ],
)
def test_a_server_that_is_limited_says_how_long(status: int, header: str, wait: float | None) -> None:
    """F44"""
    assert retry_after(traced(status, header) + FATAL) == wait


def test_the_last_answer_counts() -> None:
    assert retry_after(traced(429, "Retry-After: 30") + traced(200, "X: y")) is None
    assert retry_after(traced(429, "Retry-After: 30") + traced(429, "Retry-After: 9")) == 9
    assert retry_after(FATAL) is None


def test_nothing_of_the_trace_is_left() -> None:
    """R-GIT-11, R-RX-31: whatever a version of git may forget to black out."""
    said = traced(429, "Retry-After: 30") + FATAL + traced(429, "X: y")
    assert without(said, is_cut=False) == FATAL
    assert without("uthorization: Basic c2VjcmV0\n" + said, is_cut=True) == FATAL


def test_what_the_remote_says_is_not_taken_for_the_trace() -> None:
    assert retry_after(f"remote: {traced(429, 'Retry-After: 30').splitlines()[6]}\n") is None
