"""The example configuration and the reference are what the types say."""

from pathlib import Path

from msgspec import structs

from agent.cli import reference
from agent.core import configuration, settings
from agent.core.settings import ProcessRuntime, Settings
from agent.system import configfile

ROOT = Path(__file__).parents[2]
AGAIN = "run `python -m agent.cli.reference`"


def read(text: str) -> Settings:
    document = configfile.parse(text.encode())
    return configuration.read(document.value, lines=document.lines)


def options() -> str:
    """The commented part of the example, as a file of its own."""
    _, _, rest = reference.example().partition("with its default ---\n")
    return "".join(line[2:] + "\n" for line in rest.splitlines())


def test_the_committed_files_are_what_the_types_say() -> None:
    assert (ROOT / "config.example.yaml").read_text() == reference.example(), AGAIN
    assert (ROOT / "docs" / "configuration.md").read_text() == reference.reference(), AGAIN


def test_the_example_is_right_and_has_no_warning_but_the_embedded_mode() -> None:
    found = read(reference.example())
    assert [problem.path for problem in configuration.warnings(found)] == ["services.scraper.runtime"]
    assert read(reference.MINIMAL) == found


def test_every_option_of_the_example_shows_its_default() -> None:
    service = read(reference.MINIMAL).services["scraper"]
    source, runtime = service.source, service.runtime
    assert isinstance(runtime, ProcessRuntime)
    minimal = {"services": {"scraper": {"source": {"repository": source.repository},
                                        "runtime": {"kind": "process", "command": list(runtime.command)}}}}  # fmt: skip
    assert read(options()) == configuration.read(minimal)


def test_every_example_in_a_comment_is_right_when_it_is_taken() -> None:
    lines = options().splitlines()
    taken: list[str] = []
    for line in lines:
        if "# for example " in line:
            line = line.replace("# for example ", "")  # noqa: PLW2901 - the same line, taken
            name = line.split(":")[0]
            if taken[-1] == f"{name}: []":
                taken.pop()
        taken.append(line)
    found = read("\n".join(taken))
    service = found.services["scraper"]
    assert found.access.tokens
    assert found.github.webhook_secrets
    assert service.health.probes
    assert len(service.backup.sources or ()) == 2


def test_every_option_has_a_docstring_and_stands_in_the_reference() -> None:
    page = reference.reference()
    documented = reference.docstrings()
    for name in (
        "Settings",
        "Service",
        "Health",
        "ProcessRuntime",
        "HttpProbe",
        "SqliteSource",
        "Token",
        "Monitor",
    ):
        block = getattr(settings, name)
        section = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
        for option in structs.fields(block):
            assert documented[name][option.name], (name, option.name)
            assert f"| `{option.name}` |" in section
