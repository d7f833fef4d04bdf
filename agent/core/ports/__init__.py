"""What the services need from the outside, as Protocols; `adapters/` answers them.

Rules for every method, unless it says otherwise:
- it is a coroutine and never blocks the loop; it may be cancelled at any await and leaves nothing running;
- it can be run twice: what is already done is left as it is;
- it raises `StepFailed` with a code of `core.codes` for an honest "no", and nothing else on purpose;
- when it returns, what it wrote is on the device (fsync or syncfs), so that the journal may say "done".

machine.py   what the machine gives: time, secrets, space put aside, a hint that there is work
releases.py  from a repository to a release on the disk
running.py   what runs, and how it is asked how it is
backups.py   where data lies, where it is kept, and how it comes back
"""

from agent.core.ports.backups import BackupSource, BackupStore, BlobSink, Place
from agent.core.ports.machine import Clock, Reserve, Secrets, Wake
from agent.core.ports.releases import Builder, Heard, Releases, Source, unheard
from agent.core.ports.running import Beside, Knock, Probe, Runtime

__all__ = [
    "BackupSource",
    "BackupStore",
    "Beside",
    "BlobSink",
    "Builder",
    "Clock",
    "Heard",
    "Knock",
    "Place",
    "Probe",
    "Releases",
    "Reserve",
    "Runtime",
    "Secrets",
    "Source",
    "Wake",
    "unheard",
]
