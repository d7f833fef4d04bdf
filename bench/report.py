"""What a benchmark found, as Markdown. Each report is one section of `docs/benchmarks.md`, between two marks."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"

INTRODUCTION = """\
# Benchmarks

Written by `make bench`; edited by nobody. Every section was measured beside its peer in one run, on the machine
that the section names. Figures are medians; a ratio is homeport's median over the peer's of the same run. A goal that
is missed stays here as missed.
"""


@dataclass(frozen=True)
class Table:
    """Rows of finished text."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """With its title above."""
        lines = [f"**{self.title}**", "", _row(self.columns), _row(["---"] * len(self.columns))]
        return "\n".join([*lines, *(_row(row) for row in self.rows)])


@dataclass(frozen=True)
class Goal:
    """What was wanted. `met` None: not measured in this run."""

    what: str
    wanted: str
    measured: str
    met: bool | None


@dataclass(frozen=True)
class Report:
    """One benchmark's section. `method` says what was done, `notes` what the reader must know."""

    name: str
    title: str
    method: Sequence[str]
    tables: Sequence[Table] = ()
    goals: Sequence[Goal] = ()
    notes: Sequence[str] = field(default=())

    def markdown(self, machine: str) -> str:
        """The section without its marks."""
        parts = [f"## {self.title}", f"{machine}\n\n" + " ".join(self.method)]
        parts += [table.markdown() for table in self.tables]
        if self.goals:
            rows = [(goal.what, goal.wanted, goal.measured, _VERDICTS[goal.met]) for goal in self.goals]
            parts.append(Table("Goals", ("", "goal", "measured", ""), rows).markdown())
        if self.notes:
            parts.append("\n".join(f"- {note}" for note in self.notes))
        return "\n\n".join(parts)


_VERDICTS = {True: "met", False: "**missed**", None: "not measured"}


def goal(
    what: str,
    wanted: str,
    value: float | None,
    measured: str,
    *,
    most: float | None = None,
    least: float = 0.0,
) -> Goal:
    """A goal over a number, which is None if it could not be measured."""
    if value is None:
        return Goal(what, wanted, "–", None)
    return Goal(what, wanted, measured.format(value), value >= least and (most is None or value <= most))


def middle(values: Sequence[float]) -> float | None:
    """The median, or None of nothing."""
    return median(values) if values else None


def ratio(ours: float | None, theirs: float | None) -> float | None:
    """Ours over theirs, if both were measured."""
    return ours / theirs if ours is not None and theirs else None


def show(value: float | None, form: str = "{:.0f}") -> str:
    """A figure, or a dash where there is none."""
    return "–" if value is None else form.format(value)


def put(page: str, report: Report, machine: str) -> str:
    """The page with this report's section in its place, or at the end if it is new."""
    start, end = f"<!-- {report.name} -->", f"<!-- end of {report.name} -->"
    section = f"{start}\n{report.markdown(machine)}\n{end}"
    known = re.compile(re.escape(start) + ".*?" + re.escape(end), re.DOTALL)
    if known.search(page):
        return known.sub(lambda _: section, page, count=1)
    return f"{page.rstrip()}\n\n{section}\n"


def write(reports: Sequence[Report], machine: str) -> None:
    """Puts the reports into the page."""
    sections = PAGE.read_text().partition("<!--") if PAGE.exists() else ("", "", "")
    page = f"{INTRODUCTION}\n{''.join(sections[1:])}"
    for report in reports:
        page = put(page, report, machine)
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
