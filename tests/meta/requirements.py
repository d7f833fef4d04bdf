"""The table of what must hold (`requirements.md`), and the tests that say that they prove it.

A test proves an id by citing it in its docstring (its class's or its module's counts too). The table is the project's
own list of all ids; each has a state:

    proven    tests cite it, and nothing of it is missing
    part      tests cite it, and the last column says what they leave out
    open      nothing cites it yet
    fact      a measurement that the design rests on: a test may cite it, none has to
    dropped   not wanted any more

    python -m tests.meta.requirements     # writes the column "where" anew
"""

import ast
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
TABLE = Path(__file__).with_name("requirements.md")
CITED = ("proven", "part")
STATES = (*CITED, "open", "fact", "dropped")

_ID = re.compile(r"\b(?:R-[A-Z]+-[0-9]+|[FM][0-9]{1,3})\b")
_HEAD = """\
# What must hold

Every requirement (R), fault (F) and measured fact (M) that homeport answers to, by id, and which tests prove it. A
test cites an id in its docstring; `tests/meta/test_requirements.py` keeps table and tests alike, and
`python -m tests.meta.requirements` writes the column "where" anew. A row that is `part` says what is not proven yet.

| id | what must hold | state | where | what is missing |
|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Requirement:
    """A row of the table. `where` are files below `tests/`."""

    id: str
    title: str
    state: str
    where: tuple[str, ...]
    missing: str


def read(text: str) -> list[Requirement]:
    """The rows. Raises ValueError for what is no row below the table's head."""
    rows = []
    for line in text.partition("|---|---|---|---|---|\n")[2].splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) != 5:
            raise ValueError(f"not a row of five cells: {line}")
        name, title, state, where, missing = cells
        rows.append(Requirement(name, title, state, tuple(where.replace("`", "").split()), missing))
    return rows


def write(rows: list[Requirement]) -> str:
    """The table as text."""
    lines = []
    for row in rows:
        where = " ".join(f"`{file}`" for file in row.where)
        lines.append(f"| {row.id} | {row.title} | {row.state} | {where} | {row.missing} |\n")
    return _HEAD + "".join(lines)


def citations() -> dict[str, set[str]]:
    """Which test files cite each id."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in TESTS.rglob("test_*.py"):
        if path.parent == TABLE.parent:
            continue
        file = path.relative_to(TESTS).as_posix()
        for name in cited_in(path.read_text(encoding="utf-8")):
            found[name].add(file)
    return found


def cited_in(source: str) -> set[str]:
    """The ids in the docstrings of a test module."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef) or _is_test(node):
            found.update(_ID.findall(ast.get_docstring(node) or ""))  # type: ignore[arg-type]
    return found


def _is_test(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")


def summary() -> str:
    """One line for the end of a test run."""
    counted = Counter(row.state for row in read(TABLE.read_text(encoding="utf-8")))
    return (
        f"requirements: {counted['proven']} proven, {counted['part']} in part, {counted['open']} open"
        " (tests/meta/requirements.md)"
    )


def main() -> None:
    """Writes the column "where" anew."""
    found = citations()
    rows = read(TABLE.read_text(encoding="utf-8"))
    current = [replace(row, where=tuple(sorted(found.get(row.id, ())))) for row in rows]
    TABLE.write_text(write(current), encoding="utf-8")


if __name__ == "__main__":
    main()
