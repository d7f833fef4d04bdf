"""Compression, behind one name per format: zstd where Python has it or backports.zstd brings it, else zlib.

Level 2: measured on 195 MB of rows and JSON it takes two thirds of level 3's time for 1 % more bytes, and is several
times as fast as zlib and smaller; high levels cost a Pi tens of megabytes of memory (level 19: 92 MB). The format is
written into every pack and every manifest's name, so that each store reads all of them.
"""

import gzip
import importlib
import io
import zlib
from collections.abc import Callable
from functools import cache
from typing import IO, Any, cast

from agent.core.errors import StepFailed

LEVEL = 2
_ZLIB_LEVEL = 3
_WINDOW_LOG = 23
"""8 MiB: what a frame may ask its reader to hold. Ours ask for less; the library would hold 128 MiB."""


class Damaged(Exception):
    """What should be readable is not what was written."""


@cache
def _zstd() -> Any:
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


def best() -> str:
    """The format that new packs and manifests get: `zstd` or `zlib`."""
    return "zstd" if _zstd() is not None else "zlib"


def _need_zstd() -> Any:
    if (module := _zstd()) is None:
        raise StepFailed("backup-failed", "this backup is zstd-compressed", hint="Install backports.zstd.")
    return module


def compressor(codec: str) -> Callable[[bytes | bytearray], bytes]:
    """A function that makes one self-contained frame, with a checksum, of each piece. For one thread."""
    if codec == "zlib":
        return lambda data: zlib.compress(data, _ZLIB_LEVEL)
    zstd = _need_zstd()
    options = {
        zstd.CompressionParameter.compression_level: LEVEL,
        zstd.CompressionParameter.checksum_flag: 1,
    }
    engine = zstd.ZstdCompressor(options=options)
    whole = zstd.ZstdCompressor.FLUSH_FRAME
    return lambda data: cast("bytes", engine.compress(data, whole))


def decompress(codec: str, frame: bytes, length: int) -> bytes:
    """The `length` bytes of a frame; never more. Raises Damaged."""
    if codec == "zlib":
        inflate = zlib.decompressobj()
        try:
            data = inflate.decompress(frame, length)
        except zlib.error as error:
            raise Damaged(str(error)) from error
        # the checksum is only read when the end is: ask for what must not be there
        surplus = inflate.decompress(inflate.unconsumed_tail, 1)
        if not inflate.eof or surplus or inflate.unused_data or len(data) != length:
            raise Damaged("a frame has another length than its index says")
        return data
    zstd = _need_zstd()
    engine = zstd.ZstdDecompressor(options=_reading(zstd))
    try:
        data = engine.decompress(frame, length)
        surplus = b"" if engine.eof else engine.decompress(b"", 1)
    except zstd.ZstdError as error:
        raise Damaged(str(error)) from error
    if not engine.eof or surplus or engine.unused_data or len(data) != length:
        raise Damaged("a frame has another length than its index says")
    return cast("bytes", data)


def suffix(codec: str) -> str:
    """What a compressed file's name ends with, so that common tools open it."""
    return {"zstd": "zst", "zlib": "gz"}[codec]


def writer(codec: str, file: IO[bytes]) -> IO[bytes]:
    """A compressing stream over `file`, which stays open when it is closed."""
    if codec == "zlib":
        return cast(
            "IO[bytes]",
            gzip.GzipFile(fileobj=file, mode="wb", compresslevel=_ZLIB_LEVEL, mtime=0, filename=""),
        )
    zstd = _need_zstd()
    options = {
        zstd.CompressionParameter.compression_level: LEVEL,
        zstd.CompressionParameter.checksum_flag: 1,
    }
    return cast("IO[bytes]", zstd.ZstdFile(file, "w", options=options))


def reader(codec: str, file: IO[bytes]) -> IO[bytes]:
    """A decompressing stream over `file`. Its lines are read by `lines`, which translates what is damaged."""
    if codec == "zlib":
        return cast("IO[bytes]", gzip.GzipFile(fileobj=file, mode="rb"))
    zstd = _need_zstd()
    return cast("IO[bytes]", io.BufferedReader(zstd.ZstdFile(file, "r", options=_reading(zstd))))


def _reading(zstd: Any) -> dict[Any, int]:
    return {zstd.DecompressionParameter.window_log_max: _WINDOW_LOG}


def damages() -> tuple[type[Exception], ...]:
    """What a decompressing stream may raise when its bytes are damaged or cannot be read."""
    zstd = _zstd()
    return (OSError, EOFError, zlib.error, gzip.BadGzipFile, *(() if zstd is None else (zstd.ZstdError,)))
