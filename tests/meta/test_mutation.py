"""Which mutants `make mutation` counts."""

import json
from pathlib import Path

import pytest

from tests.meta.mutation import count, functions, is_of_words

WRITTEN = """
def x_f__mutmut_orig(a):
    if a > 1:
        raise ValueError("must be one")
    return run("SELECT x", "word")
def x_f__mutmut_1(a):
    if a >= 1:
        raise ValueError("must be one")
    return run("SELECT x", "word")
def x_f__mutmut_2(a):
    if a > 1:
        raise ValueError("MUST BE ONE")
    return run("SELECT x", "word")
def x_f__mutmut_3(a):
    if a > 1:
        raise ValueError("must be one")
    return run("select x", "word")
def x_f__mutmut_4(a):
    if a > 1:
        raise ValueError("must be one")
    return run("XXSELECT xXX", "word")
def x_f__mutmut_5(a):
    if a > 1:
        raise ValueError("must be one")
    return run("SELECT x", "XXwordXX")
def x_f__mutmut_6(a):
    if a > 1:
        raise ValueError(None)
    return run("SELECT x", "word")
"""


@pytest.mark.parametrize(
    ("number", "words"), [(1, False), (2, True), (3, True), (4, False), (5, False), (6, False)]
)
def test_only_words_for_people_and_the_case_of_sql_are_not_counted(number: int, words: bool) -> None:
    names = functions(WRITTEN)
    assert is_of_words(names["x_f__mutmut_orig"], names[f"x_f__mutmut_{number}"]) is words


def test_each_mutant_is_counted_once(tmp_path: Path) -> None:
    (tmp_path / "f.py").write_text(WRITTEN)
    codes = {1: 1, 2: 0, 3: None, 4: 37, 5: 33, 6: 0}
    meta = {
        "exit_code_by_key": {f"agent.core.f.x_f__mutmut_{number}": code for number, code in codes.items()}
    }
    (tmp_path / "f.py.meta").write_text(json.dumps(meta))
    counts = count(tmp_path / "f.py.meta")
    assert counts == {"killed": 1, "words": 1, "not run": 1, "refused": 1, "survived": 2}
