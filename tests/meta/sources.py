"""The agent's own source files, parsed once."""

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
AGENT = ROOT / "agent"


@dataclass(frozen=True)
class Source:
    """One module. `name` is its path below `agent/`."""

    name: str
    text: str
    tree: ast.Module


@cache
def sources() -> tuple[Source, ...]:
    """All modules of the agent."""
    found = []
    for path in sorted(AGENT.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        found.append(Source(path.relative_to(AGENT).as_posix(), text, ast.parse(text)))
    return tuple(found)
