"""Reading the YAML file."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from agent.core.errors import ConfigError, Problem
from agent.system import configfile
from agent.system.configfile import MAX_BYTES, MAX_DEPTH, Document

LOADERS: list[Any] = [yaml.SafeLoader, yaml.CSafeLoader]


def value_of(text: str) -> Any:
    document = configfile.parse(text.encode())
    assert document.problems == []
    return document.value


def problems_of(text: str | bytes, loader: Any = None) -> list[Problem]:
    data = text.encode() if isinstance(text, str) else text
    try:
        return configfile.parse(data, loader=loader).problems
    except ConfigError as error:
        return error.problems


@pytest.mark.parametrize(
    "word",
    [
        "on",
        "off",
        "yes",
        "no",
        "On",
        "YES",
        "y",
        "n",
        "12:30",
        "190:20:30",
        "2026-11-22",
        "2026-11-22T10:00:00Z",
        "1_000",
        "0b1",
        "=",
        "tRUE",
        "1.2.3",
        "0x",
    ],
)
def test_only_true_and_false_are_booleans_and_times_are_text(word: str) -> None:
    assert value_of(f"a: {word}") == {"a": word}


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("false", False), ("null", None), ("~", None), ("", None), ("8300", 8300), ("-5", -5),
     ("0755", 755), ("0o17", 15), ("0x1F", 31), ("1.5", 1.5), ("1e3", 1000.0), (".5", 0.5), ("-.inf", float("-inf")),
     ('"true"', "true"), ("'8300'", "8300"), ("!!str 8300", "8300"), ("|\n  x\n  y\n", "x\ny\n")],
)  # fmt: skip
def test_the_core_schema_of_yaml_1_2(text: str, value: object) -> None:
    found = value_of(f"a: {text}")["a"]
    assert found == value
    assert type(found) is type(value)


def test_not_a_number_is_read_and_does_not_stop_anything() -> None:
    assert str(value_of("a: .nan")["a"]) == "nan"


def test_keys_are_text_whatever_they_look_like() -> None:
    assert value_of("on: 1\n8080: 2\ntrue: 3\n~: 4") == {"on": 1, "8080": 2, "true": 3, "~": 4}


def test_every_value_has_the_line_of_its_key() -> None:
    document = configfile.parse(b"# head\na:\n  b: 1\n  c:\n    - x\n    - d: 2\n")
    assert document.lines == {"a": 2, "a.b": 3, "a.c": 4, "a.c[0]": 5, "a.c[1]": 6, "a.c[1].d": 6}


@pytest.mark.parametrize("loader", LOADERS)
def test_a_key_that_stands_twice_is_a_problem(loader: Any) -> None:
    found = problems_of("a:\n  b: 1\n  c: 2\n  b: 3\n", loader)
    assert [(problem.path, problem.line) for problem in found] == [("a.b", 4)]
    assert "first on line 2" in found[0].message


@pytest.mark.parametrize(
    "text", ["a: !!python/object/apply:os.system [x]", "a: !x y", "a: !!set {}", "a: !!int 5"]
)
@pytest.mark.parametrize("loader", LOADERS)
def test_tags_are_refused(text: str, loader: Any) -> None:
    assert [problem.path for problem in problems_of(text, loader)] == ["a"]


def test_merge_keys_are_refused() -> None:
    found = problems_of("a: &x {b: 1}\nc:\n  <<: *x\n")
    assert [(problem.path, problem.line) for problem in found] == [("c.<<", 3)]


def test_all_problems_of_the_file_come_together() -> None:
    assert [problem.line for problem in problems_of("a: 1\na: 2\nb: !x 3\nc: {d: 1, d: 2}\ne: [")] == [
        2,
        3,
        4,
        6,
    ]


def test_an_alias_repeats_a_value() -> None:
    assert value_of("a: &x {b: [1]}\nc: *x\nd: &y text\n*y : e") == {
        "a": {"b": [1]}, "c": {"b": [1]}, "d": "text", "text": "e"
    }  # fmt: skip


@pytest.mark.parametrize("loader", LOADERS)
def test_aliases_are_few(loader: Any) -> None:
    """R-MO-8."""
    assert problems_of(f"a: &x 1\nb: [{'*x,' * 64}]", loader) == []
    assert "more than 64 aliases" in problems_of(f"a: &x 1\nb: [{'*x,' * 65}]", loader)[0].message


@pytest.mark.parametrize("loader", LOADERS)
def test_a_billion_laughs_are_counted_and_not_built(loader: Any) -> None:
    """R-MO-8."""
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 7)]
    assert "holds more than" in problems_of("\n".join(lines), loader)[0].message


@pytest.mark.parametrize("text", ["a: *nobody", "a: &x [*x]", "&x a: *x\nb: &y {c: *y}"])
def test_an_alias_of_nothing_or_of_itself_is_a_problem(text: str) -> None:
    assert "not defined before it" in problems_of(text)[0].message


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize(
    "text", ["[" * 2000, "- " * 2000, "{a: " * 2000, "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)]
)
def test_depth_is_bounded(text: str, loader: Any) -> None:
    assert "levels deep" in problems_of(text, loader)[0].message


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize(
    "text",
    ["a: [", "a: b: c", "\ta: 1", "a: \0", 'a: "\\ud800"', 'a: "\\U99999999"', "? [a]\n: 1", "{{a: 1}: 2}",
     "---\na: 1\n---\nb: 2\n", "%YAML 9.9\n---\na", "&x [1]: 2", "a: &x [1]\n*x : 2", "@", "a: `x`"],
)  # fmt: skip
def test_what_is_not_yaml_is_a_problem_with_its_line(text: str, loader: Any) -> None:
    found = problems_of(text, loader)
    assert len(found) == 1
    assert found[0].message


def test_a_syntax_error_names_its_line() -> None:
    assert [problem.line for problem in problems_of("a: 1\nb:\n  c: d: e\n")] == [3]


def test_bytes_that_are_not_utf_8_are_a_problem_with_its_line() -> None:
    found = problems_of(b"a: 1\nb: \xff\n")
    assert [(problem.message, problem.line) for problem in found] == [("is not UTF-8 text", 2)]


def test_a_file_full_of_nul_bytes_is_a_problem() -> None:
    """What a file system may leave after a power cut."""
    assert problems_of(b"\0" * 512)


def test_size_is_bounded(tmp_path: Path) -> None:
    """R-MO-8."""
    path = tmp_path / "config.yaml"
    path.write_bytes(b"#" * MAX_BYTES)
    assert configfile.read(path).value is None
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(ConfigError) as caught:
        configfile.read(path)
    assert "larger than 256 KiB" in caught.value.problems[0].message


@pytest.mark.parametrize("name", ["missing.yaml", ".", "with\0nul"])
def test_a_file_that_cannot_be_read_is_a_configuration_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configfile.read(tmp_path / name)
    assert "cannot be read" in caught.value.problems[0].message
    assert caught.value.file == str(tmp_path / name)


def test_a_byte_order_mark_is_skipped() -> None:
    assert value_of("\ufeffa: 1") == {"a": 1}


PIECES = st.sampled_from(["a", ": ", "- ", "\n", "  ", "[", "]", "{", "}", ", ", "&x ", "*x", "!!str ", "!", '"', "'",
                          "|", "\\", "?", "<<", "#", "%", "@", "---\n", "\t", "1e9", "~", "é", "\u2028"])  # fmt: skip


@given(st.one_of(st.text(), st.lists(PIECES, max_size=40).map("".join)), st.sampled_from(LOADERS))
@example('"\\U99999999"', yaml.SafeLoader)
@example(f"%YAML 1.{'9' * 5000}\n---\n", yaml.SafeLoader)
@example("9" * 5000, yaml.SafeLoader)
def test_no_text_raises_anything_but_a_configuration_error(text: str, loader: Any) -> None:
    try:
        document = configfile.parse(text.encode("utf-8", "replace"), loader=loader)
    except ConfigError:
        return
    assert isinstance(document, Document)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_configuration_error(data: bytes) -> None:
    problems_of(data)


TEXT = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]))
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | TEXT,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(TEXT.filter(lambda key: key != "<<"), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(PLAIN, st.sampled_from(LOADERS))
def test_json_is_yaml_and_reads_as_the_same_values(value: object, loader: Any) -> None:
    document = configfile.parse(json.dumps(value, ensure_ascii=False).encode(), loader=loader)
    assert document.problems == []
    assert json.dumps(document.value) == json.dumps(value)  # tells 1 from true
