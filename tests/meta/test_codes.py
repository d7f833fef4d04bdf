"""Every code that can be told is in `core.codes`, and every code there is told somewhere."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from agent.core.codes import CODES
from tests.meta.sources import AGENT, Source, sources

_CODE = re.compile(r"[a-z]+(-[a-z]+)*")

WHERE: dict[str, int | str] = {
    # what is called -> which argument is the code
    "HomeportError": 0, "StepFailed": 0, "Unavailable": 0, "Conflict": 0, "Refused": 1, "problem": 1,
    "Ignore": -1, "Change": "reason", "_failed": 0, "_failure": -1, "hint_of": 0, "_pass_over": -1, "damaged": -1,
}  # fmt: skip
"""-1: whichever argument looks like a code."""

HANDED_ON = {
    # module, argument as it stands there -> where the codes come from
    "adapters/builder.py: task.failed": "the task, of a build or a migration",
    "adapters/builder.py: work.task.failed": "the task, of a build or a migration",
    "adapters/transcript.py: task.failed": "the task, of a build or a migration",
    "adapters/transcript.py: task.timed_out": "the task, of a build or a migration",
    "adapters/runtimes/swap.py: error.code": "the table of system.units",
    "adapters/runtimes/swap.py: why.code": "the error that was caught",
    "adapters/runtimes/started.py: error.code": "the table of system.units",
    "adapters/runtimes/systemd.py: error.code": "the table of system.units",
    "adapters/workshop.py: error.code": "the table of system.units",
    "adapters/source/layout.py: failure.code": "the error that was caught",
    "adapters/source/program.py: code": "core.gitwords, a table of TABLES",
    "cli/client.py: known": "an answer's code if it is one of ours, else `internal`",
    "services/rollback.py: failure.code": "the error that was caught",
    "services/step.py: failure.code": "the error that was caught",
    "services/step.py: code": "hint_of, whose callers name it",
    "services/gate.py: reason": "core.order, and the bars of the gate itself",
    "services/health.py: code": "_failure, whose callers name it, or core.health",
    "store/rollbacks.py: reason": "_pass_over, whose callers name it",
    "store/journal.py: answer.reason": "core.guard, a table of TABLES",
    "store/waiting.py: end.reason": "core.order",
    "web/problems.py: error.code": "the error that was caught",
}
"""Codes that are no constant where they are told."""

TABLES = (
    "core/gitwords.py",
    "core/guard.py",
    "core/health.py",
    "core/order.py",
    "core/polling.py",
    "core/triggers.py",
    "services/gate.py",
    "system/files.py",
)
"""Modules in which every word that looks like a code is one."""


@dataclass(frozen=True)
class Told:
    """A code as it stands at a call: a constant, or the expression."""

    source: Source
    line: int
    code: str | None
    expression: str


def told() -> list[Told]:
    return [found for source in sources() for found in told_in(source)]


def told_in(source: Source) -> Iterator[Told]:
    for call in ast.walk(source.tree):
        if isinstance(call, ast.Call) and (name := name_of(call.func)) in WHERE:
            for value in arguments(call, WHERE[name]):
                code = (
                    value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None
                )
                yield Told(source, call.lineno, code, ast.unparse(value))


def name_of(function: ast.expr) -> str:
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


def arguments(call: ast.Call, which: int | str) -> list[ast.expr]:
    """What may be the code of a call; one argument may hold two (`a if ... else b`)."""
    if isinstance(which, str):
        found = [keyword.value for keyword in call.keywords if keyword.arg == which]
    elif which == -1:
        found = [value for value in call.args if isinstance(value, ast.Constant) and is_code(value.value)]
    else:
        found = call.args[which : which + 1] + [word.value for word in call.keywords if word.arg == "code"]
    return [
        part
        for value in found
        for part in ([value.body, value.orelse] if isinstance(value, ast.IfExp) else [value])
    ]


def is_code(value: object) -> bool:
    return isinstance(value, str) and "-" in value and _CODE.fullmatch(value) is not None


def test_every_code_that_is_told_is_known() -> None:
    unknown = [
        f"{item.source.name}:{item.line} {item.code}"
        for item in told()
        if item.code and item.code not in CODES
    ]
    assert unknown == []


def test_where_a_code_is_no_constant_it_is_known_where_it_comes_from() -> None:
    handed_on = {f"{item.source.name}: {item.expression}" for item in told() if item.code is None}
    assert handed_on == HANDED_ON.keys(), "say in HANDED_ON where the code comes from"


@pytest.mark.parametrize("name", TABLES)
def test_every_code_in_a_table_is_known(name: str) -> None:
    (source,) = [source for source in sources() if source.name == name]
    constants = [node.value for node in ast.walk(source.tree) if isinstance(node, ast.Constant)]
    assert {value for value in constants if is_code(value)} - CODES.keys() == set()


def test_every_code_is_told_somewhere() -> None:
    words = {
        node.value
        for source in sources()
        if source.name != "core/codes.py"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert CODES.keys() - words == set(), "nothing tells it: take it out"


def test_the_scan_sees_what_it_must_see() -> None:
    """The guard itself."""
    text = 'raise Refused(409, "no-such-code", "x")\nraise StepFailed("a-b" if x else y, "z")\nIgnore(name, "not-one")'
    found = list(told_in(Source("planted.py", text, ast.parse(text))))
    assert [(item.code, item.expression) for item in found] == [
        ("no-such-code", "'no-such-code'"), ("a-b", "'a-b'"), (None, "y"), ("not-one", "'not-one'"),
    ]  # fmt: skip
    assert len(told()) > 100


@pytest.mark.parametrize("code", CODES)
def test_a_hint_is_a_sentence_that_says_what_to_do(code: str) -> None:
    hint = CODES[code].hint
    assert _CODE.fullmatch(code)
    assert hint[0].isupper() or hint[0] == "`"
    assert hint.endswith(".")
    assert len(hint.split()) >= 3
    assert "  " not in hint
    assert hint.count("`") % 2 == 0


MESSAGES = {"StepFailed": 1, "Unavailable": 1, "Conflict": 1, "Refused": 2}
"""What is raised -> which argument is the message; `_failed` and the like pass it on."""

NAMES = ("Idempotency-Key", "`", "--", ".")
"""A message may begin with a name as it is written."""


def messages() -> Iterator[tuple[str, ast.expr]]:
    """Every message that stands where it is told, and where."""
    for source in sources():
        for call in ast.walk(source.tree):
            if isinstance(call, ast.Call) and (which := MESSAGES.get(name_of(call.func))) is not None:
                yield from ((f"{source.name}:{call.lineno}", value) for value in call.args[which : which + 1])


def test_a_message_says_what_happened_as_a_clause_to_which_the_hint_is_the_rest() -> None:
    """`homeport: MESSAGE [code]`, and below it the hint: no full stop, no capital, no single word, no jargon."""
    wrong, literal = [], 0
    for place, value in messages():
        if isinstance(value, ast.JoinedStr):
            text = "".join(part.value if isinstance(part, ast.Constant) else "X" for part in value.values)  # type: ignore[misc]
        elif isinstance(value, ast.Constant) and isinstance(value.value, str):
            text = value.value
        else:
            continue
        literal += 1
        if not text:  # of a code whose hint alone is wanted
            continue
        begins_well = text[0].islower() or text[0] == "X" or text.startswith(NAMES)
        reads_well = len(text.split()) >= 2 and text[-1] not in ".!" and "  " not in text
        told_as_a_person_would = not re.search(r"(?i)exception|errno|traceback|\bnull\b|\bNone\b", text)
        if not (begins_well and reads_well and told_as_a_person_would):
            wrong.append(f"{place} {text}")
    assert wrong == []
    assert literal > 100


def test_the_agent_is_where_it_is_looked_for() -> None:
    assert (AGENT / "core" / "codes.py").is_file()
