"""What a git host can do wrong, as moods of a `tests.githost.GitHost`: it speaks the protocol and then misbehaves."""

import hashlib
import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler

Mood = Callable[[BaseHTTPRequestHandler, bytes], bool]

BLOB, TREE = 3, 2


def says(
    status: int, headers: Mapping[str, str] | None = None, *, times: int = 1 << 30, text: str = "no"
) -> Mood:
    """Answers so often with this and nothing else; then it is well."""
    left = times

    def mood(request: BaseHTTPRequestHandler, body: bytes) -> bool:
        nonlocal left
        left -= 1
        if left < 0:
            return False
        request.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(text))}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(text.encode())
        return True

    return mood


def sends(pack: Callable[[], Iterator[bytes]], until: threading.Event | None = None) -> Mood:
    """Answers whoever fetches with this pack, in pieces, as long as somebody reads; then waits for `until`."""

    def mood(request: BaseHTTPRequestHandler, body: bytes) -> bool:
        if b"command=fetch" not in body:
            return False
        request.send_response(200)
        request.send_header("Content-Type", "application/x-git-upload-pack-result")
        request.end_headers()
        try:
            if b"done\n" not in body:
                request.wfile.write(_line(b"acknowledgments\n") + _line(b"ready\n") + b"0001")
            request.wfile.write(_line(b"packfile\n"))
            for piece in pack():
                for at in range(0, len(piece), 60000):
                    request.wfile.write(_line(b"\x01" + piece[at : at + 60000]))
                request.wfile.flush()
            if until is not None:
                until.wait()
        except OSError:  # git has gone
            return True
        return True

    return mood


def _line(data: bytes) -> bytes:
    return b"%04x" % (len(data) + 4) + data


def head(objects: int) -> bytes:
    """How a pack begins: gitformat-pack(5)."""
    return b"PACK" + struct.pack(">II", 2, objects)


def begun(kind: int, size: int) -> bytes:
    """How an object of a pack begins."""
    first, size = (kind << 4) | (size & 15), size >> 4
    said = b""
    while size:
        said += bytes([first | 0x80])
        first, size = size & 127, size >> 7
    return said + bytes([first])


def many_blobs() -> Iterator[bytes]:
    """A pack of files without number that do not get smaller by compression."""
    yield head(100_000)
    while True:
        data = os.urandom(65536)
        yield begun(BLOB, len(data)) + zlib.compress(data, 0)


def one_blob() -> Iterator[bytes]:
    """A pack with one file that has no end: git unpacks so few objects at once."""
    yield head(1) + begun(BLOB, 1 << 50)
    packing = zlib.compressobj(0)
    while True:
        yield packing.compress(os.urandom(65536))


def a_bomb(size: int) -> Callable[[], Iterator[bytes]]:
    """A pack of few bytes with a directory of `size` bytes, which git holds in memory as a whole."""

    def pack() -> Iterator[bytes]:
        whole = head(200)
        packing = zlib.compressobj(9)
        whole += begun(TREE, size)
        for _ in range(size >> 20):
            whole += packing.compress(bytes(1 << 20))
        whole += packing.flush()
        yield whole + hashlib.sha1(whole).digest()

    return pack


def slow(pause: float, until: threading.Event) -> Callable[[], Iterator[bytes]]:
    """A pack that comes at a few bytes in each pause."""

    def pack() -> Iterator[bytes]:
        for piece in many_blobs():
            for at in range(len(piece)):
                if until.wait(pause):
                    return
                yield piece[at : at + 1]

    return pack


def nonsense() -> Iterator[bytes]:
    """A pack with an object of a kind that there is not."""
    yield head(1000) + b"\x50" + bytes(100)


def cut_off() -> Iterator[bytes]:
    """A pack that ends in the middle of its first object."""
    yield head(1000) + begun(BLOB, 65536) + zlib.compress(os.urandom(65536), 0)[:5000]
