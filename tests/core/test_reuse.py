"""What may be taken over from an earlier release."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.core.model import Release
from agent.core.reuse import ABSENT, builders, recipe
from tests.build import a_release, a_service

REUSE = {"key": ["lock"], "paths": [".venv"]}


def recipe_of(lock: str = "1", **build: Any) -> str:
    return recipe(a_service(deploy={"build": {"commands": ["make"], "reuse": REUSE} | build}), {"lock": lock})


def test_the_same_ingredients_have_the_same_recipe() -> None:
    assert recipe_of() == recipe_of()
    assert len(recipe_of()) == 64
    # Written down: a version that digests otherwise builds everything anew, once.
    assert recipe_of() == "b9776fa91f9807a93d5fbbc124a3bfec5c5ceeefd7176bd6e3415f0311ee4053"
    assert recipe_of(nice=19, io="idle", memory=1 << 30, timeout=5, always=["x"]) == recipe_of()


@pytest.mark.parametrize(
    "other",
    [
        {"lock": "2"},
        {"lock": ABSENT},
        {"commands": ["make", "make"]},
        {"commands": ["make "]},
        {"environment": {"A": "1"}},
        {"reuse": {"key": ["lock"], "paths": [".venv", "other"]}},
    ],
)
def test_whatever_decides_what_is_built_changes_it(other: dict[str, Any]) -> None:
    assert recipe_of(**other) != recipe_of()


def test_the_services_own_environment_is_the_builds_too() -> None:
    runtime = {"kind": "process", "command": ["./serve"], "environment": {"A": "1"}}
    build = {"commands": ["make"], "reuse": REUSE}
    assert recipe(a_service(deploy={"build": build}, runtime=runtime), {"lock": "1"}) == recipe_of(
        environment={"A": "1"}
    )


def test_files_that_swap_their_contents_are_another_recipe() -> None:
    service = a_service(deploy={"build": {"commands": ["make"], "reuse": REUSE}})
    assert recipe(service, {"a": "1", "b": "2"}) != recipe(service, {"a": "2", "b": "1"})
    assert recipe(service, {"b": "2", "a": "1"}) == recipe(service, {"a": "1", "b": "2"})


def made(name: str, confirmed: int | None, recipe: str = "r", built_by: str = "") -> Release:
    return replace(a_release(name, confirmed=confirmed), recipe=recipe, built_by=built_by)


def test_only_a_confirmed_release_of_the_same_recipe_that_is_there_lends() -> None:
    releases = [
        made("1-a", 1), made("2-b", None), made("3-c", 3, "other"), made("4-d", 4), made("5-e", 5), made("6-f", 6, ""),
    ]  # fmt: skip
    assert builders(releases, "r", there=["1-a", "2-b", "3-c", "4-d", "6-f"]) == ["4-d", "1-a"]
    assert builders(releases, "", there=["6-f"]) == []


def test_who_links_stands_for_who_really_built() -> None:
    releases = [made("1-a", 1), made("2-b", 2, built_by="1-a"), made("3-c", 3, built_by="1-a")]
    assert builders(releases, "r", there=["1-a", "2-b", "3-c"]) == ["1-a"]
    assert builders(releases, "r", there=["2-b", "3-c"]) == [], "it was removed by hand"


_names = ["1-a", "2-b", "3-c", "4-d"]


@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.integers(1, 9)),
            st.sampled_from(["", "r", "s"]),
            st.sampled_from(["", *_names]),
        ),
        max_size=4,
    ),
    st.sets(st.sampled_from(_names)),
)
def test_whatever_the_journal_says_only_what_is_there_lends(
    rows: list[tuple[int | None, str, str]], there: set[str]
) -> None:
    releases = [made(name, *row) for name, row in zip(_names, rows, strict=False)]
    found = builders(releases, "r", there)
    assert set(found) <= there
    assert len(found) == len(set(found))
