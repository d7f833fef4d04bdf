"""The schema that editors use says the same as the agent."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from agent.cli import reference
from agent.cli.schema import described
from agent.core import configuration, later
from agent.system import configfile
from tests.cli.test_reference import options
from tests.meta.sources import ROOT

MINIMUM: dict[str, Any] = {
    "source": {"repository": "https://github.com/me/scraper.git"},
    "runtime": {"kind": "process", "command": ["true"]},
}


def document(text: str) -> Any:
    return configfile.parse(text.encode()).value


@pytest.fixture(scope="module")
def validator() -> Any:
    """As an editor has it."""
    jsonschema.Draft202012Validator.check_schema(described())
    return jsonschema.Draft202012Validator(described())


def blocks() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = described()["$defs"]
    return {name: block for name, block in found.items() if "properties" in block}


def test_the_command_prints_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "agent", "schema"], capture_output=True, check=True, cwd=ROOT
    )
    assert json.loads(done.stdout) == described()


def test_the_example_configuration_is_valid(validator: Any) -> None:
    assert list(validator.iter_errors(document((ROOT / "config.example.yaml").read_text()))) == []
    assert list(validator.iter_errors(document(options()))) == [], "also with every option taken"


PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_the_docs_write_into_the_file_is_right(page: Path) -> None:
    """Each block is a whole file, or a part of one that begins at its top or at the top of a service."""
    for block in re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        part = configfile.parse(block.encode())
        assert part.problems == [], f"{page.name}: {block}"
        assert isinstance(part.value, dict)
        whole = part.value
        if not whole.keys() <= blocks()["Settings"]["properties"].keys():
            whole = {"services": {"scraper": MINIMUM | whole}}
        found = configuration.examine(whole)
        assert found.problems == [], f"{page.name}: {block}"


def test_what_is_wrong_is_wrong_in_the_editor_too(validator: Any) -> None:
    wrong = document("services: {app: {sauce: 1, health: {every: often}}}")
    paths = {".".join(map(str, error.absolute_path)) for error in validator.iter_errors(wrong)}
    assert paths == {"services.app", "services.app.health.every"}


def test_every_option_is_described() -> None:
    bare = [
        f"{name}.{option}"
        for name, block in blocks().items()
        for option, value in block["properties"].items()
        if option != "kind" and not value.get("description")
    ]
    assert bare == []


def test_every_option_of_every_block_stands_in_the_example() -> None:
    """Those that say the same in another way (a secret by file or credential) once; of several kinds of a block what is
    required."""
    text = reference.example()
    missing = [
        f"{name}.{option}"
        for name, block in blocks().items()
        for option in block["properties"]
        if ("kind" not in block["properties"] or option in block["required"])
        and not re.search(rf"[\s{{,#]{option}:", text)
    ]
    assert set(missing) <= {"SecretRef.file", "SecretRef.credential", "KeyRef.file", "KeyRef.credential"}


def test_what_is_not_built_yet_is_not_in_the_schema() -> None:
    text = json.dumps(described())
    for pattern in later.LATER_KEYS:
        if "." not in pattern:
            assert f'"{pattern}":' not in text
