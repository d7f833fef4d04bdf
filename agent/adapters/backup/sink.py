"""One backup being written: pieces into packs, files into the manifest, and last the manifest's name.

The order is what makes it safe: the mark, the packs, all durable, then the manifest in the mark's place. Before the
manifest has its name nothing refers to the packs, and `discard` or, after a power cut, `sweep` removes them.
"""

import hashlib
from pathlib import Path
from secrets import token_hex

from agent.adapters.backup.manifest import Head, ManifestWriter, Tail, described
from agent.adapters.backup.packing import PackWriter
from agent.adapters.backup.packs import Packs, remove
from agent.adapters.backup.stopping import Stopped, heed
from agent.core.model import Backup, BackupFile, BackupMember
from agent.system.files import fsync_directory, translate

TOKEN = 4
"""Random bytes in a pack's name: `<id>-<token in hex>-<number>`."""


class Sink:
    """Answers `core.ports.BlobSink` for one service's directory."""

    def __init__(self, packs: Path, manifests: Path, scratch: Path, head: Head, stopped: Stopped) -> None:
        self.scratch = scratch
        self.stopped = stopped
        self._head = head
        self._directory = packs
        self._manifests = manifests
        self._known = Packs(packs)
        self._used: set[str] = set()
        self._manifest: ManifestWriter | None = None
        try:
            self._manifest = ManifestWriter(manifests, head)
            # the token: a pack that is there already must never be replaced, whatever ids the caller chooses
            self._writer = PackWriter(packs, f"{head.id}-{token_hex(TOKEN)}")
        except BaseException:
            if self._manifest is not None:
                self._manifest.close()
            self._known.close()
            raise

    def put(self, data: bytes) -> str:
        """Stores a piece unless an intact copy is there."""
        heed(self.stopped)
        address = hashlib.sha256(data).digest()
        if address not in self._writer:
            holder = self._known.holder(address)
            if holder is not None:
                self._used.add(holder)
            else:
                self._add(address, data)
        return address.hex()

    def _add(self, address: bytes, data: bytes) -> None:
        try:
            self._writer.add(address, data)
            if self._writer.full():
                self._close_pack()
        except OSError as error:  # told here: the source would take it for its own
            raise translate(error, str(self._directory)) from error

    def record(self, file: BackupFile) -> None:
        """Notes a file in the manifest."""
        heed(self.stopped)
        assert self._manifest is not None
        self._manifest.record(file)

    def _close_pack(self) -> None:
        name = self._writer.name
        if (path := self._writer.finish()) is not None:
            self._used.add(name)
            self._known.add(path)

    def commit(self, members: tuple[BackupMember, ...]) -> Backup:
        """Makes the backup exist, and tells what its manifest says."""
        assert self._manifest is not None
        self._close_pack()
        fsync_directory(self._directory)
        tail = Tail(
            state="partial" if any(member.state == "partial" for member in members) else "ok",
            files=self._manifest.files,
            bytes=sum(member.bytes for member in members),
            packed_bytes=self._writer.stored_bytes,
            members=members,
            packs=tuple(sorted(self._used)),
        )
        digest = self._manifest.finish(tail)
        fsync_directory(self._manifests)
        return described(self._head, tail, digest, self._manifest.path)

    def discard(self) -> None:
        """Takes back what was written: the manifest first, so that none ever lacks its packs. `close` ends it."""
        if self._manifest is not None:
            self._manifest.withdraw()
        for path in self._writer.finished:
            remove(path)

    def close(self) -> None:
        """Ends the helper thread and lets go of all files; what is unfinished disappears."""
        try:
            self._writer.close()
            if self._manifest is not None:
                self._manifest.close()
        finally:
            self._known.close()
            for left in self.scratch.iterdir():
                left.unlink()
