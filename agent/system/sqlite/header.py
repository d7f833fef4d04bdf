"""Which file is a SQLite database, by its first bytes."""

HEADER = b"SQLite format 3\0"
START = 100
"""How much of a file tells whether it is one: its header (sqlite.org/fileformat2.html#the_database_header)."""
SIDECARS = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database: part of it, meaningless without it."""


def is_database(start: bytes) -> bool:
    """Whether a file whose first START bytes these are is a SQLite database, by what SQLite itself asks of one."""
    return (
        len(start) >= START
        and start.startswith(HEADER)
        and start[21:24] == b"\x40\x20\x20"
        and page_size(start) in {1 << power for power in range(9, 17)}
    )


def page_size(start: bytes) -> int:
    """The page size that the start of a database tells; 4096 for an empty one."""
    if not start.startswith(HEADER) or len(start) < START:
        return 4096
    size = int.from_bytes(start[16:18], "big")
    return 65536 if size == 1 else size
