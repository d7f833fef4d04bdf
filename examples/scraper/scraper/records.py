"""Raw fields become a valid `Workflow`, or every reason why not; the invalid never reaches the database."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")
_COUNT = re.compile(r"[0-9]{1,9}")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class Invalid(Exception):
    """The record is kept out. `problems` has one sentence per field."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, kw_only=True, slots=True)
class Workflow:
    """One valid record."""

    id: str
    name: str
    author: str
    nodes: int
    views: int
    modified: str
    """YYYY-MM-DD."""
    description: str


def validate(fields: Mapping[str, str]) -> Workflow:
    """The record in these fields (as `pages.read_workflow_page` finds them). Raises Invalid, nothing else."""
    problems: list[str] = []

    def text(field: str, longest: int, *, needed: bool = True) -> str:
        value = fields.get(field, "").strip()
        if needed and not value:
            problems.append(f"{field} is missing")
        elif len(value) > longest:
            problems.append(f"{field} has {len(value)} characters, {longest} are allowed")
        elif any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
            problems.append(f"{field} contains control characters")
        return value

    def pattern(field: str, shape: re.Pattern[str], wanted: str) -> str:
        value = fields.get(field, "").strip()
        if not shape.fullmatch(value):
            problems.append(f"{field} is not {wanted}: {value[:40]!r}")
            return ""
        return value

    identifier = pattern("identifier", _ID, "1 to 64 of a-z, 0-9 and inner hyphens")
    nodes = pattern("nodes", _COUNT, "a whole number")
    views = pattern("views", _COUNT, "a whole number")
    modified = pattern("dateModified", _DAY, "a day like 2026-11-22")
    if modified and not _is_day(modified):
        problems.append(f"dateModified is not in the calendar: {modified}")
    name, author = text("name", 200), text("author", 100)
    description = text("description", 2000, needed=False)
    if problems:
        raise Invalid(problems)
    return Workflow(
        id=identifier,
        name=name,
        author=author,
        nodes=int(nodes),
        views=int(views),
        modified=modified,
        description=description,
    )


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
