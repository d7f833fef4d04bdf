"""Reads the YAML file into plain values, and remembers on which line each of them stands.

The values are made here from the parser's events, and not by PyYAML's constructors, because a configuration wants
the rules of YAML 1.2 and nothing that surprises:

- only true and false are booleans: `on`, `off`, `yes`, `no` are strings, and so are `12:30` and `2026-11-22`;
- keys are always text; a key that stands twice is a problem; tags and merge keys are problems;
- aliases are few, and what they blow up to is bounded (R-MO-8: "billion laughs"); so are size, depth and lists.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml

from agent.core.codes import CODES
from agent.core.errors import ConfigError, Problem
from agent.core.location import Location, dotted
from agent.core.text import clean

MAX_BYTES = 256 * 1024
MAX_ALIASES = 64
MAX_NODES = 20_000
"""Values, counted as often as aliases repeat them."""
MAX_ENTRIES = 250
"""Of one list or block: each is compared with the others, and every problem of each is told."""
MAX_DEPTH = 32

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_DECIMAL = re.compile(r"[-+]?[0-9]{1,18}")
_OCTAL = re.compile(r"0o[0-7]{1,20}")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]{1,15}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_TEXT_TAGS = frozenset({"!", "tag:yaml.org,2002:str"})


@dataclass(frozen=True)
class Document:
    """Plain values, the line (from 1) of each dotted path, and what is wrong with the file as such."""

    value: object
    lines: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def read(path: Path) -> Document:
    """Reads a file. Raises ConfigError if it cannot be read at all; other problems are in the document."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        problem = Problem("", f"cannot be read: {clean(reason)}", hint=CODES["config-unreadable"].hint)
        raise ConfigError([problem], file=str(path)) from error
    return parse(data, file=str(path))


def parse(data: bytes, *, file: str = "", loader: type | None = None) -> Document:
    """Reads YAML. `loader`: PyYAML's; by default the fast one, if it was built. Raises ConfigError like `read`."""
    if len(data) > MAX_BYTES:
        raise ConfigError([Problem("", f"is larger than {MAX_BYTES // 1024} KiB")], file=file)
    composer = _Composer(file)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        composer.stop("is not UTF-8 text", line)
    chosen: Any = loader or getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        for event in yaml.parse(text, Loader=chosen):
            composer.take(event)
    except yaml.YAMLError as error:
        composer.stop(f"is not valid YAML: {_reason(error, text)}", _line(error, text))
    except (
        ValueError,
        OverflowError,
    ):  # what PyYAML's own scanner does not expect in an escape or a directive
        composer.stop("is not valid YAML", None)
    return Document(composer.root, composer.lines, composer.problems)


@dataclass
class _Open:
    """A list or a block whose end was not reached yet."""

    value: list[Any] | dict[str, Any]
    location: Location
    anchor: str | None
    nodes_before: int
    key: str | None = None


class _Composer:
    """Makes values of events."""

    def __init__(self, file: str) -> None:
        self.root: object = None
        self.lines: dict[str, int] = {}
        self.problems: list[Problem] = []
        self._file = file
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[object, int]] = {}
        self._aliases = self._nodes = self._documents = 0

    def take(self, event: Any) -> None:
        """The next event of the parser."""
        match event:
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    self.stop("holds more than one document", _start(event))
            case yaml.AliasEvent():
                self._alias(event)
            case yaml.ScalarEvent():
                self._scalar(event)
            case yaml.SequenceStartEvent():
                self._begin(event, [])
            case yaml.MappingStartEvent():
                self._begin(event, {})
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                self._end()

    def stop(self, message: str, line: int | None) -> NoReturn:
        """What makes the rest of the file unreadable."""
        problems = [*self.problems, Problem("", message, line)]
        raise ConfigError(problems, file=self._file) from None

    def _alias(self, event: Any) -> None:
        line = _start(event)
        self._aliases += 1
        if self._aliases > MAX_ALIASES:
            self.stop(f"uses more than {MAX_ALIASES} aliases", line)
        if event.anchor not in self._anchors:
            self.stop(f"uses the alias *{clean(event.anchor, 64)}, which is not defined before it", line)
        value, nodes = self._anchors[event.anchor]
        if self._wants_key() and not isinstance(value, str):
            self.stop("has a key that is not text", line)
        self._count(nodes, line)
        self._place(value, line)

    def _scalar(self, event: Any) -> None:
        line, as_text = _start(event), bool(event.style) or event.tag in _TEXT_TAGS
        if any("\ud800" <= letter <= "\udfff" for letter in event.value):
            self.stop("holds half of a character (a surrogate)", line)
        if self._wants_key():
            self._refuse_tag(event, line)
            if event.value == "<<" and not as_text:
                self.problems.append(Problem(self._at("<<"), "is a merge key, which is not supported", line))
            self._place(event.value, line)
        else:
            location = self._place(event.value if as_text else _plain(event.value), line)
            self._refuse_tag(event, line, location)
        self._count(1, line)
        if event.anchor:
            self._anchors[event.anchor] = (event.value if as_text else _plain(event.value), 1)

    def _begin(self, event: Any, value: list[Any] | dict[str, Any]) -> None:
        line = _start(event)
        if self._wants_key():
            self.stop("has a key that is not text", line)
        if len(self._open) >= MAX_DEPTH:
            self.stop(f"is nested more than {MAX_DEPTH} levels deep", line)
        location = self._place(value, line)
        self._refuse_tag(event, line, location)
        self._open.append(_Open(value, location, event.anchor, self._nodes))
        self._count(1, line)

    def _end(self) -> None:
        closed = self._open.pop()
        if closed.anchor:
            self._anchors[closed.anchor] = (closed.value, self._nodes - closed.nodes_before)

    def _wants_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1].value, dict) and self._open[-1].key is None

    def _place(self, value: object, line: int) -> Location:
        """Puts a value where it belongs, and returns its location."""
        if not self._open:
            self.root = value
            return ()
        parent = self._open[-1]
        if len(parent.value) >= MAX_ENTRIES and parent.key is None:
            self.stop(f"holds more than {MAX_ENTRIES} entries in one list or block", line)
        if isinstance(parent.value, list):
            location: Location = (*parent.location, len(parent.value))
            parent.value.append(value)
        elif parent.key is None:
            return self._begin_key(parent, str(value), line)
        else:
            location = (*parent.location, parent.key)
            parent.value[parent.key], parent.key = value, None
            return location
        self.lines[dotted(location)] = line
        return location

    def _begin_key(self, parent: _Open, key: str, line: int) -> Location:
        location = (*parent.location, key)
        path = dotted(location)
        if isinstance(parent.value, dict) and key in parent.value:
            message = f"stands there twice, first on line {self.lines.get(path, '?')}"
            self.problems.append(Problem(path, message, line))
        self.lines[path] = line
        parent.key = key
        return location

    def _at(self, key: str) -> str:
        return dotted((*self._open[-1].location, key))

    def _refuse_tag(self, event: Any, line: int, location: Location = ()) -> None:
        allowed = {"!", f"tag:yaml.org,2002:{_KINDS[type(event)]}"}
        if event.tag is not None and event.tag not in allowed:
            path = dotted(location)
            self.problems.append(
                Problem(path, "has a tag, which is not supported", line, "write the plain value")
            )

    def _count(self, nodes: int, line: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            self.stop(f"holds more than {MAX_NODES} values", line)


_KINDS = {yaml.ScalarEvent: "str", yaml.SequenceStartEvent: "seq", yaml.MappingStartEvent: "map"}


def _plain(text: str) -> object:
    """The value of an unquoted scalar: the core schema of YAML 1.2 (section 10.3)."""
    if text in _NULL:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _DECIMAL.fullmatch(text):
        return int(text)
    if _OCTAL.fullmatch(text) or _HEXADECIMAL.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    return float(text.replace(".", "", 1)) if _NOT_FINITE.fullmatch(text) else text


def _start(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _reason(error: yaml.YAMLError, text: str) -> str:
    parts = (
        getattr(error, "context", None),
        getattr(error, "problem", None) or getattr(error, "reason", None),
    )
    reason = clean(", ".join(part for part in parts if part) or "unreadable")
    return f"{reason} (indent with spaces, not with a tab)" if "\t" in _source_at(error, text) else reason


def _source_at(error: yaml.YAMLError, text: str) -> str:
    """What stands before the place of an error in its line, and the first character there."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return ""
    lines = text.split("\n")
    return lines[mark.line][: mark.column + 1] if mark.line < len(lines) else ""


def _line(error: yaml.YAMLError, text: str) -> int | None:
    for mark in _marks(error):
        return int(mark.line) + 1
    position = getattr(error, "position", None)
    return text.count("\n", 0, position) + 1 if isinstance(position, int) else None


def _marks(error: yaml.YAMLError) -> Iterator[Any]:
    for name in ("problem_mark", "context_mark"):
        mark = getattr(error, name, None)
        if mark is not None:
            yield mark
