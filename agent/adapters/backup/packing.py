"""Writing packs: pieces are gathered into frames, compressed in a helper thread, and written in order.

How a pack lies on the disk stands in `packs`.
"""

import contextlib
import hashlib
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from agent.adapters.backup import codec
from agent.adapters.backup.packs import (
    END,
    FOOTER,
    FRAME,
    FRAME_BYTES,
    PACK,
    PACK_BYTES,
    PARTIAL,
    PIECE,
    Place,
)

_IN_FLIGHT = 3
_WRITE_BEHIND = 4 * 1024 * 1024


class PackWriter:
    """Writes new packs, one after the other. A helper thread compresses meanwhile; the writing is in order."""

    def __init__(self, directory: Path, stem: str) -> None:
        """Packs are named `<stem>-<number>`."""
        self.finished: list[Path] = []
        self.stored_bytes = 0
        self._directory = directory
        self._stem = stem
        self._codec = codec.best()
        self._compress = codec.compressor(self._codec)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="homeport-pack")
        self._file: BinaryIO | None = None
        self._written = 0
        self._behind = 0
        self._reset()

    def _reset(self) -> None:
        self._frames: list[tuple[int, int, int]] = []
        self._pieces: dict[bytes, Place] = {}
        self._buffer = bytearray()
        self._flushed = 0
        self._flight: deque[tuple[int, Future[bytes]]] = deque()

    @property
    def name(self) -> str:
        """The name of the pack that is being written."""
        return f"{self._stem}-{len(self.finished)}"

    def __contains__(self, address: bytes) -> bool:
        return address in self._pieces

    def add(self, address: bytes, data: bytes) -> None:
        """Takes a piece that is nowhere yet."""
        if self._file is None:
            self._open()
        self._pieces[address] = Place(self._flushed, len(self._buffer), len(data))
        self._buffer += data
        if len(self._buffer) >= FRAME_BYTES:
            self._flush()

    def full(self) -> bool:
        """Whether the current pack is long enough to be finished."""
        return self._written >= PACK_BYTES

    def finish(self) -> Path | None:
        """Ends the current pack: it is durable under its name but for the directory's fsync. None: it was empty."""
        if self._file is None:
            return None
        self._flush()
        self._drain(0)
        self._write_tables()
        self._file.flush()
        os.fsync(self._file.fileno())
        path = self._directory / f"{self.name}{PACK}"
        path.with_suffix(PARTIAL).replace(path)
        self._file.close()
        self._file = None
        self.stored_bytes += self._written
        self.finished.append(path)
        self._reset()
        return path

    def close(self) -> None:
        """Ends the helper thread; a pack that was not finished disappears."""
        self._worker.shutdown(cancel_futures=True)
        if self._file is not None:
            (self._directory / f"{self.name}{PARTIAL}").unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # the full disk that ended it says so once more
                self._file.close()
            self._file = None

    def _open(self) -> None:
        path = self._directory / f"{self.name}{PARTIAL}"
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(handle, "wb", buffering=1024 * 1024)
        self._head = f"homeport pack 1 {self._codec} {self.name}\n".encode()
        self._written = self._behind = 0
        self._write(self._head)

    def _write(self, data: bytes) -> None:
        assert self._file is not None
        self._file.write(data)
        self._written += len(data)
        if self._written - self._behind >= _WRITE_BEHIND:
            # On dirty pages this starts the writing, so that the fsync at the end finds little left to wait for.
            os.posix_fadvise(self._file.fileno(), self._behind, _WRITE_BEHIND, os.POSIX_FADV_DONTNEED)
            self._behind = self._written

    def _flush(self) -> None:
        if not self._buffer:
            return
        frame, self._buffer = self._buffer, bytearray()  # handed over, not copied
        self._flushed += 1
        self._flight.append((len(frame), self._worker.submit(self._compress, frame)))
        self._drain(_IN_FLIGHT)

    def _drain(self, most: int) -> None:
        while len(self._flight) > most:
            length, future = self._flight.popleft()
            stored = future.result()
            self._frames.append((self._written, len(stored), length))
            self._write(stored)

    def _write_tables(self) -> None:
        at = self._written
        tables = b"".join(FRAME.pack(*frame) for frame in self._frames)
        tables += b"".join(PIECE.pack(address, *self._pieces[address]) for address in sorted(self._pieces))
        digest = hashlib.sha256(self._head + tables).digest()
        self._write(tables)
        self._write(FOOTER.pack(at, len(self._frames), len(self._pieces), digest, END))
