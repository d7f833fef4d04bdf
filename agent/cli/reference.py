"""Writes `config.example.yaml` and `docs/configuration.md` from the types and docstrings of `core.settings`.

    python -m agent.cli.reference        # in a checkout; a test keeps the files and the types alike

The example is a minimal configuration that works, and below it every option with its default, as comments: without
its first `# ` each of those lines is YAML again, and means the same as leaving it out.
"""

import ast
import inspect
import json
import re
from collections.abc import Iterator
from enum import Enum
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from msgspec import NODEFAULT, Meta, Struct
from msgspec.structs import FieldInfo, fields

from agent.core import settings
from agent.core.settings import Bytes, Seconds, Settings
from agent.core.units import write_duration, write_size

MINIMAL = """\
# The configuration of homeport. These lines are enough; below them stands every option with its default.
# `homeport check FILE` says what is wrong with a file. The reference of all options is docs/configuration.md.
github:
  webhook_secrets: [{env: HOMEPORT_WEBHOOK_SECRET}]
services:
  scraper:
    source: {repository: "https://github.com/me/scraper.git"}
    runtime: {kind: process, command: [python3, -m, scraper]}
    health:
      probes: [{kind: http, url: "http://127.0.0.1:9100/health"}]
"""

_RULE = "# --- every option, with its default ---"

_SAMPLES: dict[str, object] = {
    "SecretRef.env": "HOMEPORT_TOKEN",
    "KeyRef.file": "/etc/homeport/deploy-key",
    "Token.name": "ci",
    "Source.repository": "https://github.com/me/scraper.git",
    "Source.github": "me/scraper",
    "Deploy.workflow": "ci.yml",
    "Rollback.on_workflow": "e2e.yml",
    "Freeze.begin": "fri 17:00",
    "Freeze.end": "mon 08:00",
    "Settings.timezone": "Europe/Berlin",
    "Settings.public_url": "https://pi.example.org",
    "Service.directory": "/srv/scraper",
    "Build.memory": Bytes(1 << 30),
    "BlueGreen.ports": (9101, 9102),
    "BlueGreen.url": "https://scraper.example.org/",
    "BlueGreen.memory": Bytes(200 << 20),
    "Reuse.key": ("requirements.txt",),
    "Reuse.paths": (".venv",),
    "ProcessRuntime.command": ("python3", "-m", "scraper"),
    "Drain.signal": "SIGUSR1",
    "SystemdRuntime.unit": "scraper.service",
    "UnitProbe.unit": "scraper-worker.service",
    "HttpProbe.url": "http://127.0.0.1:9100/health",
    "HttpProbe.json": {"status": "healthy"},
    "TcpProbe.port": 9100,
    "CommandProbe.command": "python3 -m scraper check",
    "FreshnessProbe.sqlite": "shared/data/scraper.db",
    "FreshnessProbe.query": "select max(scraped_at) from workflows",
    "FreshnessProbe.max_age": settings.Seconds(900),
    "FilesSource.paths": ("shared/data",),
    "SqliteSource.path": "shared/data/scraper.db",
}
"""What the example shows where there is no default, or the default is "not given"."""

_WHEN: dict[type[Struct], str] = {
    settings.KeyRef: "for example, with an ssh address,",
    settings.BlueGreen: "for example, with `strategy: blue-green`,",
}
"""Of blocks that do not fit the example: their lines are not meant to be taken as they are."""

_INTRODUCTION = """\
# Configuration

One YAML file, `/etc/homeport/config.yaml` unless `homeport serve --config FILE` names another. `homeport check [FILE]`
says everything that is wrong with it at once, with line numbers; a wrong file never starts (exit status 78).

- The rules are those of YAML 1.2: only `true` and `false` are booleans; `on`, `off`, `yes`, `no` and `12:30` are text.
  The file is UTF-8, at most 256 KiB, with at most 250 entries in one list or block; tags and merge keys are not
  supported.
- A secret is never written in the file. `{env: NAME}`, `{file: PATH}` or `{credential: NAME}` (systemd) says where it
  is. It has at least 16 bytes, and its file is not open to every user. `${NAME}` is not expanded anywhere. What a
  build, a service or git prints is shown with `***` in the place of every such secret and deploy key, also where it is
  in base64, hex, a URL or JSON. Values under `environment` are not secrets to homeport: name a file there instead.
- Durations have a unit: `200ms 30s 5m 2h 30d`. Sizes are `64M 2G` or plain bytes.
- Relative paths in a service are relative to its `directory`; other relative paths are relative to the file, and so is
  `{file: PATH}` of a secret or key wherever it stands.
- Keys that a later version brings are answered with "not built yet".
- A running agent takes up a changed file by [`homeport reload`](commands-and-http.md#a-reload) or SIGHUP.
- An editor that knows YAML's language server completes and checks while you type: `homeport schema >
  homeport.schema.json`, and as the first line of the file `# yaml-language-server: $schema=homeport.schema.json`.

This page is made from `agent/core/settings/` by `python -m agent.cli.reference`, like `config.example.yaml`.
"""


def example() -> str:
    """The text of `config.example.yaml`."""
    return "\n".join([MINIMAL, _RULE, *("# " + line if line else "#" for line in _block(Settings, 0)), ""])


def reference() -> str:
    """The text of `docs/configuration.md`: a table for each block."""
    text = [_INTRODUCTION]
    for block in _blocks(Settings):
        text += [f"## {block.__name__}", "", inspect.cleandoc(block.__doc__ or ""), ""]
        text += ["| option | type | default | what it is |", "|---|---|---|---|"]
        if tag := block.__struct_config__.tag:
            text.append(f"| `kind` | `{tag}` | required | Which kind this block is. |")
        documented = docstrings()[block.__name__]
        for option in _options(block):
            cells = (
                f"`{option.encode_name}`",
                _kind(option.type),
                _default_cell(option),
                documented[option.name],
            )
            text.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        text.append("")
    return "\n".join(text)


@cache
def docstrings() -> dict[str, dict[str, str]]:
    """The string below each option, by block and option, read off the source. Do not change what it returns."""
    return {
        block.__name__: {
            option: said
            for kind in reversed(block.__mro__)
            if issubclass(kind, settings.Options)
            for option, said in _said(kind)
        }
        for block in _blocks(Settings)
    }


def _said(kind: type[Struct]) -> tuple[tuple[str, str], ...]:
    """The options that a block itself brings, each with the string below it."""
    (block,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(block, ast.ClassDef)
    found = []
    for option, text in zip(block.body, block.body[1:], strict=False):
        if isinstance(option, ast.AnnAssign) and isinstance(option.target, ast.Name):
            said = text.value if isinstance(text, ast.Expr) else None
            words = said.value if isinstance(said, ast.Constant) else ""
            found.append((option.target.id, " ".join(str(words).split())))
    return tuple(found)


# --- the example


def _block(kind: type[Struct], depth: int) -> Iterator[str]:
    pad = "  " * depth
    if tag := kind.__struct_config__.tag:
        yield f"{pad}kind: {tag}"
    for option in fields(kind):
        yield f"{pad}# {docstrings()[kind.__name__][option.name]}"
        inner = _structs(option.type)
        sample = _SAMPLES.get(f"{kind.__name__}.{option.name}")
        if get_origin(option.type) is dict and inner:
            yield f"{pad}{option.encode_name}:"
            yield f"{pad}  scraper:"
            yield from _block(inner[0], depth + 2)
        elif inner and not _is_list(option.type) and (inner == (option.type,) or _is_required(option)):
            yield f"{pad}{option.encode_name}:"
            yield from _block(inner[0], depth + 1)
            yield from (f"{pad}# or {option.encode_name}: {_flow_block(other)}" for other in inner[1:])
        else:
            yield from (pad + line for line in _line(option, inner, sample))


def _is_required(option: FieldInfo) -> bool:
    return _default(option) is NODEFAULT


def _line(option: FieldInfo, inner: tuple[type[Struct], ...], sample: object) -> Iterator[str]:
    default = _default(option)
    if inner:  # blocks: an example of each kind
        if default is not None:
            yield f"{option.encode_name}: {_flow(default)}"
        blocks = ", ".join(_flow_block(kind) for kind in inner)
        text = blocks if not _is_list(option.type) else f"[{blocks}]"
        yield f"# {_WHEN.get(inner[0], 'for example')} {option.encode_name}: {text}"
    elif default is NODEFAULT:
        yield f"{option.encode_name}: {_flow(sample)}"
    elif default in (None, ""):
        yield f"# for example {option.encode_name}: {_flow(sample)}"
    else:
        yield f"{option.encode_name}: {_flow(default)}"


def _flow(value: object) -> str:  # noqa: PLR0911 - a table of types
    """A value on one line."""
    match value:
        case Seconds():
            return write_duration(value)
        case Bytes():
            return write_size(value)
        case Enum():
            return str(value.value)
        case dict():
            return f"{{{', '.join(f'{_flow(key)}: {_flow(item)}' for key, item in value.items())}}}"
        case str():
            plain = re.fullmatch(r"[A-Za-z./-][\w./-]*", value) and value not in ("true", "false", "null")
            return value if plain else json.dumps(value, ensure_ascii=False)
        case tuple():
            return f"[{', '.join(_flow(item) for item in value)}]"
        case _:
            return json.dumps(value)


def _flow_block(kind: type[Struct]) -> str:
    parts = [f"kind: {kind.__struct_config__.tag}"] if kind.__struct_config__.tag else []
    for option in _options(kind):
        sample = _SAMPLES.get(f"{kind.__name__}.{option.name}")
        inner = _structs(option.type)
        if sample is None and _default(option) is not NODEFAULT and kind.__struct_config__.tag:
            continue  # of several kinds it shows what makes them differ
        if inner:
            parts.append(f"{option.encode_name}: {_flow_block(inner[0])}")
        elif (value := sample if sample is not None else _default(option)) is not None:
            parts.append(f"{option.encode_name}: {_flow(value)}")
    return "{" + ", ".join(parts) + "}"


# --- the types


def _blocks(kind: type[Struct]) -> list[type[Struct]]:
    """The block and all blocks inside of it, each once, from the outside in."""
    found = [kind]
    for option in fields(kind):
        for inner in _structs(option.type):
            found += [block for block in _blocks(inner) if block not in found]
    return found


def _structs(kind: Any) -> tuple[type[Struct], ...]:
    if isinstance(kind, type) and issubclass(kind, Struct):
        return (kind,)
    return tuple(block for argument in get_args(kind) for block in _structs(argument))


def _options(kind: type[Struct]) -> list[FieldInfo]:
    """A block's own options, then those that it shares with others; what is required stands first."""
    return sorted(
        fields(kind),
        key=lambda option: (option.name not in kind.__annotations__, _default(option) is not NODEFAULT),
    )


def _is_list(kind: Any) -> bool:
    return get_origin(kind) is tuple or any(_is_list(argument) for argument in get_args(kind))


def _default(option: FieldInfo) -> Any:
    return option.default_factory() if option.default_factory is not NODEFAULT else option.default


def _default_cell(option: FieldInfo) -> str:
    default = _default(option)
    if default is NODEFAULT:
        return "required"
    return "" if default in (None, "") or isinstance(default, Struct) else f"`{_flow(default)}`"


_WORDS: dict[object, str] = {
    settings.Scalar: "text, number, `true`, `false` or `null`",
    str: "text",
    int: "whole number",
    Seconds: "duration",
    Bytes: "size",
    bool: "true or false",
}


def _kind(kind: Any) -> str:  # noqa: PLR0911 - a table of types
    """A type in words."""
    if kind == settings.Scalar:
        return _WORDS[kind]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _kind(arguments[0]) + "".join(
            _limits(note, arguments[0]) for note in arguments[1:] if isinstance(note, Meta)
        )
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin is tuple:
        return f"list of {_kind(arguments[0]).removesuffix(', not empty')}"
    if origin is dict:
        return f"{_kind(arguments[1])} by name"
    if arguments:
        return " or ".join(_kind(argument) for argument in arguments if argument is not NoneType)
    if issubclass(kind, Struct):
        return f"[{kind.__name__}](#{kind.__name__.lower()})"
    return _WORDS.get(kind) or " or ".join(f"`{member.value}`" for member in kind)


def _limits(meta: Meta, kind: type) -> str:
    if meta.extra:
        write = write_size if kind is Bytes else write_duration
        return f", {write(meta.extra['at_least'])} to {write(meta.extra['at_most'])}"
    if meta.ge is not None:
        return f", {meta.ge} to {meta.le}"
    return ", not empty" if meta.min_length else ""


def main() -> None:
    """Writes both files into the checkout that this module lies in."""
    root = Path(__file__).parents[2]
    (root / "config.example.yaml").write_text(example(), encoding="utf-8")
    (root / "docs" / "configuration.md").write_text(reference(), encoding="utf-8")


if __name__ == "__main__":
    main()
