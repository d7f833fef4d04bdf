"""Rights of a named user in an access control list."""

import os
import struct
from pathlib import Path

import pytest

from agent.system import access

LIST = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry)
    for entry in (
        (0x01, 7, 2**32 - 1), (0x02, 7, 12345), (0x02, 5, 12346), (0x04, 5, 2**32 - 1), (0x10, 7, 2**32 - 1),
        (0x20, 0, 2**32 - 1),
    )
)  # fmt: skip
"""Of the owner, two users by name, the group, the mask and others: linux/posix_acl_xattr.h."""


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A directory with two users in its list."""
    try:
        os.setxattr(tmp_path, "system.posix_acl_access", LIST)
    except OSError as error:
        pytest.skip(f"this file system keeps no access lists: {error}")
    return tmp_path


def entries(path: Path) -> dict[int, int]:
    """The rights of users by name."""
    found = struct.iter_unpack("<HHI", os.getxattr(path, "system.posix_acl_access")[4:])
    return {who: rights for tag, rights, who in found if tag == 0x02}


def test_only_the_named_users_rights_change(listed: Path) -> None:
    mode = listed.stat().st_mode
    for rights in (access.NOTHING, access.READ, access.ALL):
        assert access.limit(listed, 12345, rights)
        assert entries(listed) == {12345: rights, 12346: 5}
    assert listed.stat().st_mode == mode


def test_who_is_not_in_the_list_is_not_put_there(listed: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    assert not access.limit(listed, 1, access.ALL)
    assert not access.limit(plain, 1, access.ALL)
    assert entries(listed) == {12345: 7, 12346: 5}


def test_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        access.limit(tmp_path / "gone", 1, access.ALL)
