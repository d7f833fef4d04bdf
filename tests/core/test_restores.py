"""Which paths a restore swaps."""

import pytest

from agent.core.model import BackupMember
from agent.core.restores import Contents, Part, part_of, removed, swapped


def members(*sources: str) -> list[BackupMember]:
    """Members of a backup; `!` in front: nothing was there."""
    return [
        BackupMember(source=source.lstrip("!"), kind="files", state="absent" if source[0] == "!" else "ok")
        for source in sources
    ]


@pytest.mark.parametrize(
    ("sources", "paths"),
    [
        ((), {}),
        (("data",), {"data": True}),
        (("!data",), {"data": False}),
        (("data", "data/app.db"), {"data": True}),
        (("!data", "data/app.db"), {"data": True}),  # the database came into being in between
        (("!data", "!data/app.db"), {"data": False}),
        (("data", "data2", "!other/x"), {"data": True, "data2": True, "other/x": False}),
        (("data/", "./data/app.db"), {"data": True}),
    ],
)
def test_what_lies_inside_of_another_members_path_comes_with_it(
    sources: tuple[str, ...], paths: dict[str, bool]
) -> None:
    assert swapped(members(*sources)) == paths


def test_a_source_that_was_taken_out_of_the_configuration_is_named_if_the_backup_has_it() -> None:
    assert removed(members("data/", "logs", "!old", "app.db"), ["data", "./app.db"]) == ["logs"]


@pytest.mark.parametrize(
    ("path", "part"),
    [("data", "data"), ("data/x/y", "data"), ("data2", None), ("dat", None), ("logs/x", "logs")],
)
def test_a_file_belongs_to_the_path_that_it_lies_in(path: str, part: str | None) -> None:
    assert part_of(path, {"data": 1, "logs": 2}) == part


def test_a_directory_that_is_swapped_whole_has_every_file() -> None:
    assert part_of("anything", {"": 1}) == ""


def test_contents_are_summed_up() -> None:
    contents = Contents(
        parts=(Part(path="a", files=2, bytes=30), Part(path="b", files=1, bytes=4)), tables={}
    )
    assert (contents.files, contents.bytes) == (3, 34)
