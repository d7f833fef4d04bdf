"""`source.paths`: which changes matter."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.paths import fits, matters, problem_of, touches


@pytest.mark.parametrize(
    ("pattern", "there", "not_there"),
    [
        ("requirements.txt", ["requirements.txt"], ["a/requirements.txt", "requirements.txt.bak", "Requirements.txt"]),
        ("docs/", ["docs/a", "docs/a/b.md", "docs"], ["docs2/a", "a/docs/b"]),
        ("src/**", ["src/a.py", "src/a/b/c.py"], ["src2/a.py", "a/src/b.py"]),
        ("src/*", ["src/a.py"], ["src/a/b.py", "src"]),
        ("src/*.py", ["src/a.py", "src/.py"], ["src/a.pyc", "src/a/b.py"]),
        ("**/requirements.txt", ["requirements.txt", "a/requirements.txt", "a/b/requirements.txt"], ["a/requirements"]),
        ("a/**/z", ["a/z", "a/b/z", "a/b/c/z"], ["a/b", "z"]),
        ("**", ["a", "a/b"], []),
        ("*", ["a"], ["a/b"]),
        ("a*b*c", ["abc", "axbyc", "abbcc"], ["ab", "acb", "a/b/c"]),
        ("**/a*/**/b", ["a/b", "x/a/y/b", "a/a/b/b"], ["b", "a", "xa/b"]),
        ("app/[id].tsx", ["app/[id].tsx"], ["app/i.tsx"]),
        ("what?", ["what?"], ["whatx"]),
        ("ünï/*", ["ünï/ö"], ["uni/o"]),
    ],
)  # fmt: skip
def test_what_a_pattern_fits(pattern: str, there: list[str], not_there: list[str]) -> None:
    assert [path for path in there if not matters([pattern], path)] == []
    assert [path for path in not_there if matters([pattern], path)] == []


def test_the_last_pattern_that_fits_decides() -> None:
    patterns = ["src/**", "!src/tests/", "src/tests/data/"]
    assert matters(patterns, "src/a.py")
    assert not matters(patterns, "src/tests/a.py")
    assert matters(patterns, "src/tests/data/a.json")
    assert not matters(patterns, "README.md")


def test_one_change_that_matters_is_enough() -> None:
    assert touches(["src/**"], ["README.md", "src/a.py"])
    assert not touches(["src/**"], ["README.md", "docs/a.md"])
    assert not touches(["src/**"], [])


@pytest.mark.parametrize(
    "pattern", ["", "/", "!", "/src", "a//b", "./a", "a/../b", "..", "a/**b", "**.js", "src/***", "!/"]
)
def test_a_pattern_that_cannot_mean_anything_is_refused(pattern: str) -> None:
    assert problem_of(["a", pattern], 1)


@pytest.mark.parametrize("pattern", ["a", "a/", "a/b", "**", "**/", "a/**/b", "*", "!a/**", "!**/x/"])
def test_a_pattern_that_means_something_is_taken(pattern: str) -> None:
    assert problem_of(["a", pattern], 1) == ""


def test_the_first_pattern_takes_nothing_out() -> None:
    assert problem_of(["!docs/"], 0)
    assert not problem_of(["**", "!docs/"], 1)


SEGMENT = st.text(st.sampled_from("ab."), min_size=1, max_size=3)
PATHS = st.lists(SEGMENT, min_size=1, max_size=5).map("/".join)
PARTS = st.one_of(st.just("**"), st.text(st.sampled_from("ab.*"), min_size=1, max_size=4))
PATTERNS = (
    st.tuples(st.lists(PARTS, min_size=1, max_size=5), st.booleans())
    .map(lambda drawn: "/".join(drawn[0]) + ("/" if drawn[1] else ""))
    .filter(lambda pattern: not problem_of(["x", pattern], 1))
)


def as_expression(pattern: str) -> str:
    """The same by a regular expression over `/`-terminated segments: another way to say what a pattern means."""
    segments = pattern.removesuffix("/").split("/") + (["**"] if pattern.endswith("/") else [])
    return "".join(
        "(?:[^/]+/)*" if part == "**" else re.escape(part).replace(r"\*", "[^/]*") + "/" for part in segments
    )


@given(PATTERNS, PATHS)
def test_a_pattern_means_what_its_regular_expression_means(pattern: str, path: str) -> None:
    expected = re.fullmatch(as_expression(pattern), path + "/") is not None
    assert fits(pattern, path.split("/")) == expected


@given(PATHS)
def test_a_path_fits_itself_and_a_directory_what_is_in_it(path: str) -> None:
    assert matters([path], path)
    assert matters([f"{path}/"], f"{path}/x/y")
    assert matters(["**"], path)
    assert not matters(["**", f"!{path}"], path)


@given(st.lists(PATTERNS, min_size=1, max_size=4), PATHS)
def test_taking_everything_out_at_the_end_leaves_nothing(patterns: list[str], path: str) -> None:
    assert not matters([*patterns, "!**"], path)
    assert matters([*patterns, "**"], path)


def test_a_hostile_path_costs_no_time() -> None:
    """As a regular expression this takes years: whoever can push must not be able to stop the agent."""
    began = time.perf_counter()
    assert not matters(["*a" * 30 + "b"], "a" * 4000)
    assert not matters(["**/a/" * 20 + "b"], "/".join("a" * 2000))
    assert time.perf_counter() - began < 5
