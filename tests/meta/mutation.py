"""What `make mutation` found, as the table of tests/meta/mutation.md: `python -m tests.meta.mutation`.

mutmut changes core and store in one place at a time and runs the tests that come by. A change that mypy refuses never
gets past `make check`; of the others a test should notice each. Not counted are changes of words for people, and of
upper and lower case in SQL: they would be tested by writing them down twice.
"""

import ast
import copy
import json
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parents[2] / "mutants"
NEVER_RUN, SURVIVED, NO_TEST, REFUSED = None, 0, 33, 37
"""mutmut's codes for what became of a mutant; every other one is a way to die."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(source: str) -> dict[str, Function]:
    """Every function of a module that mutmut has written, the mutants and the originals, by name."""
    return {
        node.name: node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def is_of_words(original: Function, mutant: Function) -> bool:
    """Whether they differ in nothing but one text for people, or in the case of letters of SQL."""
    before, after = _texts(original), _texts(mutant)
    changed = [(old, new) for old, new in zip(before, after, strict=False) if old != new]
    if len(before) != len(after) or len(changed) != 1 or _shape(original) != _shape(mutant):
        return False
    old, new = changed[0]
    first = old.strip().partition(" ")[0]
    is_sql = len(first) > 2 and first.isupper()
    return " " in old.strip() and (not is_sql or old.lower() == new.lower())


def _texts(function: Function) -> list[str]:
    return [
        node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


def _shape(function: Function) -> str:
    """All of it but its name and its texts."""
    bare = copy.deepcopy(function)
    bare.name = ""
    for node in ast.walk(bare):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
    return ast.dump(bare)


def count(meta: Path) -> Counter[str]:
    """How the mutants of one module ended."""
    names = functions(meta.with_suffix("").read_text())
    counts: Counter[str] = Counter()
    for key, code in json.loads(meta.read_text())["exit_code_by_key"].items():
        name = key.rpartition(".")[2]
        original = names[name.partition("__mutmut_")[0] + "__mutmut_orig"]
        if code is NEVER_RUN:
            counts["not run"] += 1
        elif code == REFUSED:
            counts["refused"] += 1
        elif is_of_words(original, names[name]):
            counts["words"] += 1
        else:
            counts["survived" if code in (SURVIVED, NO_TEST) else "killed"] += 1
    return counts


def row(name: str, counts: Counter[str]) -> str:
    """A line of the table."""
    run = counts["killed"] + counts["survived"]
    share = f"{100 * counts['killed'] / run:.0f} %" if run else "-"
    cells = [
        counts.total(),
        counts["refused"],
        counts["words"],
        counts["not run"],
        run,
        counts["killed"],
        share,
    ]
    return f"| {name} | " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    total: Counter[str] = Counter()
    print("| module | mutants | refused by mypy | words | not run | tested | killed | |")
    print("|---|---|---|---|---|---|---|---|")
    for each in sorted(HERE.glob("agent/*/*.py.meta")):
        if found := count(each):
            total += found
            print(row("/".join(each.with_suffix("").parts[-2:]).removesuffix(".py"), found))
    print(row("all", total))
