"""The floors hold: who may import whom, where a library lives, and what nobody may write."""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.meta.sources import ROOT, Source, sources

LIBRARIES: dict[str, tuple[str, ...]] = {
    # library -> the only modules (or folders) that may import it
    "git": ("adapters/source/program.py",),
    "psutil": ("system/host.py",),
    "yaml": ("system/configfile.py",),
    "sdnotify": ("system/notify.py",),
    "jsonschema": ("core/findings.py",),
    "backports": ("adapters/backup/codec.py",),
    "sdbus": ("system/bus.py",),
    "rich": ("cli/demo/telling.py",),
    "aiohttp": ("web/", "adapters/probes/http.py", "cli/demo/"),
    "sqlite3": ("store/", "system/sqlite/"),
    "msgspec": ("",),  # the settings library: its values travel through all floors
}
"""Third-party libraries, and sqlite3: all that there are. A new one gets a line here, and one module."""

HEAVY = (
    "git",
    "docker",
    "psutil",
    "jsonschema",
    "rich",
    "sdbus",
    "aiohttp",
    "sqlite3",
    "backports",
    "asyncio",
)
"""What a command that only asks must not pay for; a Pi Zero pays ten times what this machine does."""

HEAVY_FOR_THE_AGENT = ("git", "docker", "psutil", "jsonschema", "rich", "sdbus")
"""What the agent imports when it is first needed."""

CATCH_ALL = {
    "services/supervise.py": "whatever a service fails with, it is started again",
    "web/middleware.py": "whatever a request fails with, it is answered",
    "store/database.py": "handed to whoever waits for the act",
    "system/threads.py": "handed to whoever waits for the thread",
}
"""Where `except Exception` may stand."""


def by_name(name: str) -> Source:
    (found,) = [source for source in sources() if source.name == name]
    return found


def test_the_contracts_of_import_linter_are_kept() -> None:
    """They stand in pyproject.toml; without docstrings, comments and TYPE_CHECKING to hide behind."""
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert "0 broken" in done.stdout


# --- libraries


def imported(source: Source) -> Iterator[str]:
    """The top-level names of everything that a module imports, wherever in it, also by name."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source.name}: imports are absolute"
            yield str(node.module).partition(".")[0]
        elif isinstance(node, ast.Constant) and "import_module" in source.text:
            by_word = re.fullmatch(r"(backports|compression)\.\w+", str(node.value))
            yield from [by_word[1]] if by_word else []


def strays(source: Source) -> list[str]:
    """What a module imports and must not."""
    found = []
    for name in sorted(set(imported(source))):
        allowed = LIBRARIES.get(name)
        if allowed is None:
            known = name == "agent" or name in sys.stdlib_module_names or name == "compression"  # 3.14's own
            found += [] if known else [f"{source.name} imports {name}, which has no module of its own yet"]
        elif not any(source.name == place or (place.endswith("/") and source.name.startswith(place)) or not place
                     for place in allowed):  # fmt: skip
            found.append(f"{source.name} imports {name}, which lives in {', '.join(allowed)}")
    return found


def test_a_library_lives_in_one_module() -> None:
    assert [line for source in sources() for line in strays(source)] == []


def test_each_library_of_the_list_is_really_used() -> None:
    used = {name for source in sources() for name in imported(source)}
    assert LIBRARIES.keys() - used == set()


@pytest.mark.parametrize(
    "text",
    ["import yaml", "from git.cmd import Git", "def f():\n    import sqlite3", "import requests",
     "importlib.import_module('backports.zstd')"],
)  # fmt: skip
def test_a_stray_import_is_found(text: str) -> None:
    assert len(strays(Source("services/planted.py", text, ast.parse(text)))) == 1


# --- what is loaded when


def loaded_after(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter holds afterwards."""
    script = (
        f"import sys\n{code}\nprint('loaded:', *sorted({{name.partition('.')[0] for name in sys.modules}}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    return set(done.stdout.rpartition("loaded:")[2].split())


def test_the_command_line_imports_nothing_heavy() -> None:
    assert loaded_after("import agent.cli.main") & set(HEAVY) == set()


@pytest.mark.parametrize(
    "arguments", [["--help"], ["backup", "--help"], ["status", "--socket", "/nonexistent"]]
)
def test_a_command_that_asks_imports_nothing_heavy(arguments: list[str]) -> None:
    code = f"from agent.cli.main import run\ntry:\n    run({arguments!r})\nexcept SystemExit:\n    pass"
    assert loaded_after(code) & set(HEAVY) == set()


def test_the_agent_imports_what_is_heavy_when_it_is_needed() -> None:
    assert loaded_after("import agent.app") & set(HEAVY_FOR_THE_AGENT) == set()


def test_the_package_itself_costs_nothing() -> None:
    assert loaded_after("import agent") & {"importlib_metadata", "email", "json", "zipfile"} == set()


# --- what nobody may write


def handlers(source: Source) -> Iterator[ast.ExceptHandler]:
    return (node for node in ast.walk(source.tree) if isinstance(node, ast.ExceptHandler))


def catches(handler: ast.ExceptHandler) -> set[str]:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return {"everything" if kind is None else ast.unparse(kind) for kind in kinds}


def test_every_exception_is_caught_in_the_named_places_only() -> None:
    found = {
        source.name for source in sources() for handler in handlers(source) if "Exception" in catches(handler)
    }
    assert found == CATCH_ALL.keys()
    quiet = {source.name for source in sources() if "BLE001" in source.text}
    assert quiet <= CATCH_ALL.keys()


def test_a_cancellation_is_never_swallowed() -> None:
    """`except BaseException` cleans up and raises again."""
    for source in sources():
        for handler in handlers(source):
            assert "everything" not in catches(handler), f"{source.name}:{handler.lineno}"
            if "BaseException" in catches(handler):
                last = handler.body[-1]
                assert isinstance(last, ast.Raise), f"{source.name}:{handler.lineno}"
                assert last.exc is None, f"{source.name}:{handler.lineno}"


def test_no_error_is_passed_over_in_silence() -> None:
    for source in sources():
        for handler in handlers(source):
            silent = all(isinstance(line, ast.Pass) or ast.unparse(line) == "..." for line in handler.body)
            assert not silent, f"{source.name}:{handler.lineno}"
        for call in ast.walk(source.tree):
            if isinstance(call, ast.Call) and ast.unparse(call.func).rpartition(".")[2] == "suppress":
                kinds = {ast.unparse(kind) for kind in call.args}
                assert not kinds & {"Exception", "BaseException"}, f"{source.name}:{call.lineno}"


def test_nothing_is_left_for_later_in_the_code() -> None:
    for source in sources():
        comments = [
            token.string
            for token in tokenize.generate_tokens(io.StringIO(source.text).readline)
            if token.type == tokenize.COMMENT
        ]
        assert not [comment for comment in comments if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", comment)], (
            source.name
        )
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Assert):
                assert ast.unparse(node.test) not in ("False", "0"), f"{source.name}:{node.lineno}"
            assert not (isinstance(node, ast.Name) and node.id == "NotImplementedError"), source.name


def test_no_import_hides_from_the_floors() -> None:
    for source in sources():
        names = {node.id for node in ast.walk(source.tree) if isinstance(node, ast.Name)}
        assert "TYPE_CHECKING" not in names, source.name
        assert "__import__" not in names, source.name
    assert [source.name for source in sources() if "import_module" in source.text] == [
        "adapters/backup/codec.py"
    ]


IMPURE = {"open", "print", "input", "now", "utcnow", "today", "time", "monotonic", "sleep", "read_text", "read_bytes",
          "write_text", "write_bytes", "getenv", "urandom", "token_hex"}  # fmt: skip


def test_core_decides_and_does_nothing_else() -> None:
    """No clock, no file, no environment, no chance: also not by a name that import-linter does not see."""
    for source in sources():
        if source.name.startswith("core/"):
            called = {ast.unparse(node.func).rpartition(".")[2] for node in ast.walk(source.tree)
                      if isinstance(node, ast.Call)}  # fmt: skip
            assert called & IMPURE == set(), source.name
            assert set(imported(source)) & {"os", "io", "time", "secrets", "random", "logging"} == set()


def test_the_map_of_the_house_names_every_floor() -> None:
    text = by_name("__init__.py").text
    floors = {source.name.partition("/")[0] for source in sources() if "/" in source.name}
    assert [floor for floor in floors if f"{floor}/" not in text] == []
