"""What is said to be proven is proven, and nothing is proven that the table does not know."""

import re

import pytest

from tests.meta.requirements import CITED, STATES, TABLE, Requirement, citations, cited_in, read, write

ROWS = read(TABLE.read_text(encoding="utf-8"))
AGAIN = "run `python -m tests.meta.requirements`"


def test_the_table_holds_every_fault_and_every_measured_fact_once() -> None:
    ids = [row.id for row in ROWS]
    assert len(ids) == len(set(ids))
    assert {f"F{number}" for number in range(1, 101)} <= set(ids)
    assert {f"M{number}" for number in range(1, 15)} <= set(ids)
    for area in {match[1] for name in ids if (match := re.match(r"R-([A-Z]+)-", name))}:
        numbers = sorted(int(name.rpartition("-")[2]) for name in ids if name.startswith(f"R-{area}-"))
        assert numbers == list(range(1, len(numbers) + 1)), f"R-{area} has a gap"


def test_every_row_is_whole() -> None:
    for row in ROWS:
        assert row.title, row.id
        assert row.state in STATES, row.id
        if row.state in ("part", "open", "dropped"):
            assert row.missing, (
                f"{row.id} is {row.state}: say what is missing, or since when it is not wanted"
            )
        if row.state == "proven":
            assert not row.missing, f"{row.id} is proven: then nothing is missing"


def test_the_table_is_written_as_it_is_read() -> None:
    assert write(ROWS) == TABLE.read_text(encoding="utf-8"), AGAIN


def test_the_table_and_the_tests_agree() -> None:
    assert disagreements(ROWS, citations()) == []


def test_a_disagreement_is_found() -> None:
    """The guard itself: each of these was planted."""
    rows = [a_row("F1", "proven"), a_row("F2", "open"), a_row("F3", "dropped"), a_row("M1", "fact")]
    found = disagreements(rows, {"F2": {"a.py"}, "F3": {"a.py"}, "F4": {"a.py"}})
    assert [line.split()[0] for line in found] == ["F4", "F1", "F2", "F3"]
    assert disagreements([a_row("F1", "part", "b.py")], {"F1": {"a.py"}}) == [
        f"F1 is not cited by b.py: {AGAIN}"
    ]


@pytest.mark.parametrize(
    ("source", "ids"),
    [
        ('"""R-GIT-1, F7."""', {"R-GIT-1", "F7"}),
        ('def test_it():\n    """F10: as M2 says."""', {"F10", "M2"}),
        ('async def test_it():\n    """R-RX-12."""', {"R-RX-12"}),
        ('def helper():\n    """F10."""', set()),
        ("def test_it():\n    # F10\n    pass", set()),
        ('def test_it():\n    """UTF8, F1234, XR-GIT-1"""', set()),
    ],
)
def test_only_the_docstring_of_a_test_cites(source: str, ids: set[str]) -> None:
    assert cited_in(source) == ids


def a_row(id: str, state: str, *where: str) -> Requirement:
    return Requirement(id, "it holds", state, where, "")


def disagreements(rows: list[Requirement], cited: dict[str, set[str]]) -> list[str]:
    """What is wrong, as sentences."""
    known = {row.id for row in rows}
    unknown = sorted(cited.keys() - known)
    found = [f"{name} is not in the table, but {', '.join(sorted(cited[name]))} cites it" for name in unknown]
    for row in rows:
        files = cited.get(row.id, set())
        if row.state in CITED and not files:
            found.append(f"{row.id} is {row.state} by the table, but no test cites it")
        if row.state in ("open", "dropped") and files:
            found.append(f"{row.id} is {row.state} by the table, but {', '.join(sorted(files))} cites it")
        found += [
            f"{row.id} is not cited by {file}: {AGAIN}" for file in row.where if files and file not in files
        ]
    return found
