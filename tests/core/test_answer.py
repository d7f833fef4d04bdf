"""What a body must say."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.answer import differs, lacks, same
from agent.core.settings import Scalar

DOCUMENT = {"status": "healthy", "db": {"rows": 3, "open": True, "last": None, "": 1}, "list": [1], "a.b": 1}


def complaint(**wanted: Scalar) -> str:
    return differs(
        json.dumps(DOCUMENT).encode(), {key.replace("__", "."): value for key, value in wanted.items()}
    )


@pytest.mark.parametrize(
    "wanted",
    [{}, {"status": "healthy"}, {"db__rows": 3}, {"db__rows": 3.0}, {"db__open": True}, {"db__last": None},
     {"status": "healthy", "db__rows": 3, "db__last": None}],
)  # fmt: skip
def test_what_is_as_it_must_be(wanted: dict[str, Scalar]) -> None:
    assert complaint(**wanted) == ""


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"status": "sick"}, 'status is "healthy" instead of "sick"'),
        ({"db__rows": "3"}, 'db.rows is 3 instead of "3"'),
        ({"db__rows": 4}, "db.rows is 3 instead of 4"),
        ({"db__rows": True}, "db.rows is 3 instead of true"),
        ({"db__open": 1}, "db.open is true instead of 1"),
        ({"db__open": "true"}, 'db.open is true instead of "true"'),
        ({"db__last": 0}, "db.last is null instead of 0"),
        ({"db__last": ""}, 'db.last is null instead of ""'),
        ({"db": "x"}, 'db is {"rows":3,"open":true,"last":null,"":1} instead of "x"'),
        ({"db__none": None}, "there is no db.none"),
        ({"list__0": 1}, "there is no list.0"),
        ({"a__b": 1}, "there is no a.b"),
        ({"status__x": 1}, "there is no status.x"),
        ({"x": 1, "y": 2}, "there is no x, there is no y"),
    ],
)
def test_what_is_not(wanted: dict[str, Scalar], said: str) -> None:
    assert complaint(**wanted) == said


@pytest.mark.parametrize("body", [b"", b"{", b"\xff{}", b"[" * 100000, b'{"a": NaN}', b'{"a": 1}{'])
def test_what_is_no_json(body: bytes) -> None:
    assert differs(body, {"a": 1}) == "the body is not JSON"


@pytest.mark.parametrize("body", [b"[]", b"null", b'"a"', b"1"])
def test_what_is_json_but_no_object(body: bytes) -> None:
    assert differs(body, {"a": 1}) == "the body is not a JSON object"


def test_a_key_that_is_no_utf_8_is_no_json() -> None:
    """Found by fuzzing: msgspec raises another error for it than for a value."""
    assert differs(b'{"a\xa0": 1}', {"a": 1}) == "the body is not JSON"


def test_text_that_is_there_and_text_that_is_not() -> None:
    assert lacks("grüße".encode(), "üß") == ""
    assert lacks(b"\xff ok", "ok") == ""
    assert lacks(b"", "ok") == 'the body does not contain "ok"'


SCALARS: st.SearchStrategy[Scalar] = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from([0.0, 1.0, 1.5, -1.0]),
    st.sampled_from(["", "1", "true", "null", "1.0"]),
)  # fmt: skip


@given(SCALARS, SCALARS)
def test_equal_is_what_json_calls_equal(found: Scalar, wanted: Scalar) -> None:
    def kind(value: Scalar) -> str:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return "number" if number else type(value).__name__

    assert same(found, wanted) == (kind(found) == kind(wanted) and found == wanted)


@given(st.dictionaries(st.text(min_size=1).filter(lambda key: "." not in key), SCALARS), st.binary())
def test_every_object_is_as_itself_and_nothing_raises(document: dict[str, Scalar], body: bytes) -> None:
    assert differs(json.dumps(document).encode(), document) == ""
    assert isinstance(differs(body, document), str)
