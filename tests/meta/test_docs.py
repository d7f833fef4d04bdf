"""The docs name everything that there is, and nothing else."""

import ast
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import agent
from agent.cli import main as command_line
from agent.cli.schema import described
from agent.core import configuration
from agent.core.codes import CODES, page_of
from agent.core.model import State
from agent.core.restores import Standing
from agent.system import configfile
from agent.web.hooks import Webhook
from agent.web.server import routes
from tests.meta import pages
from tests.meta.pages import BLOCKS, PAGE, between
from tests.meta.sources import ROOT, Source, sources
from tests.meta.test_codes import is_code

TEXT = PAGE.read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])

ROUTES = routes(Webhook.__new__(Webhook))  # its handler is named, not called

EVENTS = {
    # how a name is put together in the code -> what it can become
    "deployment.{to}": {f"deployment.{state}" for state in State if state is not State.QUEUED},
    "delivery.{'accepted' if placed else 'ignored'}": {"delivery.accepted", "delivery.ignored"},
    "restore.{restore.state}": {f"restore.{state}" for state in Standing},
    "backup.{backup.state}": {f"backup.{state}" for state in ("ok", "partial", "bad", "unverified")},
}
"""Events whose name is no constant where they are written."""


def rows(head: str, text: str = TEXT) -> list[list[str]]:
    """The cells of the table that begins with this line."""
    _, found, rest = text.partition(f"{head}\n")
    assert found, f"the page has no table {head}"
    lines = rest.partition("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


# --- the page of commands and HTTP


@pytest.mark.parametrize("mark", BLOCKS)
def test_what_is_made_is_made_from_the_code_of_now(mark: str) -> None:
    assert between(TEXT, mark) == BLOCKS[mark](), "run `python -m tests.meta.pages`"


def test_every_route_stands_there_with_its_scope_and_no_other() -> None:
    table = {
        (line.split("`")[1], scope.partition(",")[0]) for line, scope, _ in rows("| route | scope | what |")
    }
    there = {(f"{route.method} {route.path}", str(route.scope or "open")) for route in ROUTES}
    assert table == there


def test_every_command_and_option_stands_there() -> None:
    for command, child in pages.commands().items():
        assert f"### `homeport {command}" in TEXT
        for action in child._actions:
            for option in action.option_strings[-1:]:
                assert f"`{option}" in TEXT or f"[{option}" in TEXT or f" {option} " in TEXT, (
                    f"{command} {option}"
                )
    for option in pages.EVERYWHERE:
        assert f"- `{option}" in TEXT


def test_every_exit_status_of_the_code_stands_there() -> None:
    told = {int(status) for status, _ in rows("| exit status | means |")}
    named = {value for name, value in vars(command_line).items() if name.startswith("EXIT_")}
    assert told == named | {0, 130}


def test_every_code_stands_there() -> None:
    block = between(TEXT, "codes")
    assert set(re.findall(r"^\| \[`([a-z-]+)`\]", block, re.MULTILINE)) == CODES.keys()


def test_every_event_stands_there_and_no_other() -> None:
    told = {name.strip("`") for name, _ in rows("| event | when |")}
    assert told == written_events()


@cache
def written_events() -> set[str]:
    found: set[str] = set()
    for source in sources():
        for name in event_names(source):
            found |= EVENTS.get(name, {name})
            assert "{" not in name or name in EVENTS, f"{source.name}: say in EVENTS what {name} can become"
    return found


def event_names(source: Source) -> Iterator[str]:
    """The dotted words that are handed to the event log; of an f-string its source."""
    if not source.name.startswith(("store/", "services/", "app")):
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.JoinedStr):
            text = str(ast.get_source_segment(source.text, node))[2:-1]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        else:
            continue
        if re.fullmatch(
            r"(branch|config|deployment|delivery|service|backup|restore|agent|space|store)\.([a-z_]+|\{.*\})",
            text,
        ):
            yield text


def test_an_event_is_seen_wherever_it_is_written() -> None:
    """The guard itself: what is handed to the log as it stands there is among what the scan finds."""
    calls = [
        (source, call.args[1])
        for source in sources()
        for call in ast.walk(source.tree)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "events.append"
    ]
    assert len(calls) >= 7
    for source, argument in calls:
        assert isinstance(argument, ast.Constant | ast.JoinedStr), (
            f"{source.name}: a name that nobody can look up"
        )
        text = str(ast.get_source_segment(source.text, argument)).removeprefix("f").strip('"')
        assert text in event_names(source)


def test_the_page_speaks_of_no_route_that_does_not_exist() -> None:
    known = {route.path for route in ROUTES}
    for page in DOCS:
        for path in re.findall(
            r"`(?:GET |POST |DELETE )?(/(?:api|webhook|status|health|deploy)[^`?]*)", page.read_text()
        ):
            assert path in known, f"{page.name}: {path}"


def test_the_docs_speak_of_no_command_that_does_not_exist() -> None:
    commands = set(pages.commands())
    groups = {command.split()[0] for command in commands}
    for page in DOCS:
        for words in re.findall(
            r"(?<![/\w.-])homeport ((?:[a-z]+ ?)+)", "\n".join(code_of(page.read_text()))
        ):
            first, *rest = words.split()
            if words == "backups ":  # the first line of a store's `format`, no command
                continue
            assert first in groups, f"{page.name}: homeport {words}"
            if first not in commands:
                assert rest, f"{page.name}: homeport {words}"
                assert f"{first} {rest[0]}" in commands, f"{page.name}: homeport {words}"


def code_of(text: str) -> list[str]:
    """What stands in a page as code: blocks and words in backticks."""
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    return [*blocks, *re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))]


def test_the_docs_use_no_code_that_does_not_exist() -> None:
    """A word in backticks that is called a code or reason."""
    for page in DOCS:
        for word in re.findall(r"(?:code|reason|503|404|ends) `([a-z-]+)`", page.read_text()):
            assert not is_code(word) or word in CODES, f"{page.name}: {word}"


# --- troubleshooting


def test_the_page_of_codes_has_each_with_its_hint_and_no_other() -> None:
    """Every refusal, failure and reason leads to a heading that explains it."""
    text = pages.TROUBLESHOOTING.read_text(encoding="utf-8")
    assert text == pages.troubleshooting(text), "run `python -m tests.meta.pages`"
    assert re.findall(r"^### (.*)$", text, re.MULTILINE) == list(CODES)


@pytest.mark.parametrize("code", CODES)
def test_what_a_problem_points_to_is_there(code: str) -> None:
    file, _, heading = page_of(code).partition("#")
    assert heading in headings(ROOT / file)


def test_what_was_written_by_hand_stays_when_the_page_is_made_anew() -> None:
    first, second, third = list(CODES)[:3]
    by_hand = "By hand.\n\n```sh\nls\n```\n"
    old = f"# Title\n\nIntro.\n\n## Group\n\nAbout it.\n\n### {first}\n\n> old hint\n\n{by_hand}"
    old += f"\n## Next\n\n### {third}\n\n> old\n\n### no-more\n\n> gone\n\nGone.\n"
    new = pages.troubleshooting(old)
    assert new.startswith(
        f"# Title\n\nIntro.\n\n## Group\n\nAbout it.\n\n### {first}\n\n> {CODES[first].hint}\n\n{by_hand}\n"
        f"### {second}\n\n> {CODES[second].hint}\n\n## Next\n\n### {third}\n"
    )
    assert "no-more" not in new
    assert pages.troubleshooting(new) == new


# --- all pages


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_a_link_leads_to_an_existing_file_and_heading(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("https://", "http://")):
            continue
        file, _, heading = target.partition("#")
        place = page.parent / file if file else page
        assert place.is_file(), f"{page.name}: {target}"
        assert not heading or heading in headings(place), f"{page.name}: {target}"


def headings(page: Path) -> set[str]:
    found = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_a_path_of_the_checkout_that_is_named_exists(page: Path) -> None:
    for word in code_of(page.read_text(encoding="utf-8")):
        if re.fullmatch(r"(agent|tests|docs|examples)/[\w./-]+", word):
            assert (ROOT / word).exists(), f"{page.name}: {word}"


def test_the_project_stands_alone() -> None:
    """Nobody who has only the checkout is sent to pages that he does not have."""
    for path in [
        *DOCS,
        *(ROOT / "agent").rglob("*.py"),
        *(ROOT / "tests").rglob("*.py"),
        ROOT / "pyproject.toml",
    ]:
        if path == Path(__file__).resolve():
            continue
        for word in ("RELIABILITY.md", "CONTRACT.md", "DESIGN.md", "LIBRARIES.md", "../shared"):
            assert word not in path.read_text(encoding="utf-8"), f"{path.relative_to(ROOT)} speaks of {word}"


# --- the README


def test_the_configuration_of_the_readme_is_accepted() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    document = configfile.parse(block.encode())
    assert document.problems == []
    settings = configuration.read(document.value, lines=document.lines)
    assert list(settings.services) == ["scraper"]
    environment = re.search(r'HOMEPORT_SOCKET="\$HOME/(\S+)"', README)
    assert environment is not None
    assert settings.listen.socket.endswith(environment[1]), "the command line would look for another socket"


def test_the_targets_that_the_readme_names_are_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z0-9-]+):.*##", makefile, re.MULTILINE))
    named = {target for text in code_of(README) for target in re.findall(r"\bmake ([a-z0-9-]+)", text)}
    assert named
    assert named <= targets
    assert {"demo", "test", "check", "e2e", "bench"} <= targets


# --- what the pages type


def typed(page: Path) -> Iterator[str]:
    """Every call of `homeport` in a page's blocks and words of code."""
    for text in code_of(page.read_text(encoding="utf-8")):
        for line in text.replace("\\\n", " ").splitlines():
            for call in re.findall(r"(?:^|\$\(|&& |-- )\s*homeport [^#|;&)]*", line):
                yield call.strip().removeprefix("$(").removeprefix("&& ").removeprefix("-- ").strip()


def parses(words: list[str]) -> bool:
    try:
        command_line.parser().parse_args(words)
    except SystemExit as end:  # --help and --version end, too
        return not end.code
    return True


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_a_command_that_a_page_types_is_one_that_homeport_takes(page: Path) -> None:
    """Its name, its options, and how many arguments: parsed by the command line itself."""
    for call in typed(page):
        words = shlex.split(call)[1:]
        if not words or any(mark in call for mark in "[…<") or call == "homeport backups 1":
            continue
        names = sorted((name for name in pages.commands() if call.startswith(f"homeport {name}")), key=len)
        bare = bool(names) and call == f"homeport {names[-1]}"
        if bare and not call.startswith("homeport backup "):
            continue  # a command as a word of a sentence; that it exists says another test
        assert parses(words), f"{page.name}: {call}"


def option_paths() -> set[str]:
    """Every option as the pages write it: from the top of the file, and within a service from its own top."""
    blocks = described()["$defs"]

    def below(block: str, prefix: str) -> Iterator[str]:
        for option, value in blocks[block]["properties"].items():
            yield f"{prefix}{option}"
            for inner in set(re.findall(r"#/\$defs/(\w+)", json.dumps(value))):
                if "properties" in blocks[inner]:
                    yield from below(inner, f"{prefix}{option}.")

    return {*below("Settings", ""), *below("Service", "")}


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_an_option_that_a_page_names_exists(page: Path) -> None:
    """A dotted word in backticks that begins with a block of the file."""
    known, events = option_paths(), written_events()  # once: it reads the whole of the code
    blocks = {path.partition(".")[0] for path in known if "." in path}
    for word in re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)(?::[^`]*)?`", page.read_text(encoding="utf-8")):
        if word.partition(".")[0] in blocks and word not in events:
            assert word in known, f"{page.name}: {word}"


def test_the_scan_of_typed_commands_sees_what_it_must_see(tmp_path: Path) -> None:
    """The guard itself."""
    planted = tmp_path / "page.md"
    planted.write_text(
        "`homeport status`\n```sh\nsudo true && homeport reload --now  # x\n(cd /; homeport check F)\n```\n"
    )
    assert list(typed(planted)) == ["homeport reload --now", "homeport status"]


# --- the version


def test_the_version_is_the_one_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert agent.__version__ == project["version"]
    assert f"## {project['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_json_examples_are_json() -> None:
    for page in DOCS:
        for block in re.findall(r"```json\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            json.loads(block)
