"""What is wrong in a document, found against the JSON Schema: every error, as a sentence at a location.

msgspec reads a document fast and stops at its first error. Only when it did, jsonschema is imported and looks for
all of them. Values of options are not repeated in the sentences: one of them may be a secret in the wrong place.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import cache
from typing import Any

import jsonschema

from agent.core import later
from agent.core.codes import CODES
from agent.core.location import Finding, Location
from agent.core.schema import UNIT, schema
from agent.core.text import clean

Error = Any
"""jsonschema's ValidationError; its types leave open what each keyword fixes."""

SHORTENED = 3
"""So many letters of an option's name are enough to guess it: `repo`."""


def explain(document: object) -> list[Finding]:
    """Every error that the schema finds. A block of a kind that does not exist is one finding, not many."""
    found: dict[Location, Finding] = {}
    for error in _validator().iter_errors(document):
        for leaf in _leaves(error):
            for finding in _findings(leaf):
                found.setdefault(finding.location, finding)
    spoken_for = {finding.dropped for finding in found.values() if finding.whole}
    return [
        finding
        for finding in found.values()
        if finding.whole or not any(finding.location[: len(block)] == block for block in spoken_for)
    ]


@cache
def _validator() -> Any:
    # JSON Schema takes 1.0 for an integer; the agent does not
    integers = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    )
    extend: Any = jsonschema.validators.extend
    kind = extend(jsonschema.Draft202012Validator, type_checker=integers)
    return kind(schema())


def _leaves(error: Error) -> Iterator[Error]:
    """The errors that matter below "one of these": those of the branch that was meant."""
    if error.validator != "anyOf":
        yield error
        return
    branches: dict[int, list[Error]] = defaultdict(list)
    for child in error.context or ():
        branches[int(child.schema_path[0])].append(child)
    meant = _meant(error)
    if not meant:
        yield error
    for index in meant:
        for child in branches[index]:
            yield from _leaves(child)


def _meant(error: Error) -> list[int]:
    options: list[Any] = error.validator_value
    mapping = _kinds(error)
    if mapping:
        kind = error.instance.get("kind") if isinstance(error.instance, dict) else None
        wanted = mapping.get(kind) if isinstance(kind, str) else None
        return [index for index, option in enumerate(options) if wanted and option.get("$ref") == wanted]
    rest = [index for index, option in enumerate(options) if option.get("type") != "null"]
    return rest if len(rest) == 1 else []


def _kinds(error: Error) -> dict[str, str]:
    mapping: dict[str, str] = error.schema.get("discriminator", {}).get("mapping", {})
    return mapping


def _findings(error: Error) -> Iterator[Finding]:
    here: Location = tuple(error.absolute_path)
    if error.validator == "additionalProperties":
        known = list(error.schema.get("properties", ()))
        for key in error.instance:
            if key not in known:
                yield _unknown((*here, key), known)
    elif error.validator == "required":
        for key in error.validator_value:
            if key not in error.instance:
                choices = error.schema["properties"][key].get("enum", ())
                yield Finding(
                    (*here, key), f"is missing: {_one_of(choices)}" if choices else "is missing", drop=here
                )
    elif error.validator == "anyOf" and _kinds(error) and isinstance(error.instance, dict):
        yield _kind((*here, "kind"), error.instance.get("kind"), sorted(_kinds(error)))
    elif error.validator == "enum":
        yield _choice(here, error.instance, [str(value) for value in error.validator_value])
    else:
        yield Finding(here, *_sentence(error))


def _unknown(location: Location, known: list[str]) -> Finding:
    if later.is_later_key(location):
        return _not_built_yet(location)
    return Finding(location, "is not an option", _did_you_mean(str(location[-1]), known))


def _choice(location: Location, value: object, choices: list[str]) -> Finding:
    if location[-1:] == ("kind",):
        return _kind(location, value, choices)
    if later.is_later_value(location, value):
        return _not_built_yet(location)
    return Finding(location, f"must be {_one_of(choices)}", _choice_meant(value, choices))


def _kind(location: Location, value: object, choices: list[str]) -> Finding:
    block = location[:-1]
    if later.is_later_value(location, value):
        return replace(_not_built_yet(location), drop=block, whole=True)
    if value is None:
        return Finding(location, f"is missing: {_one_of(choices)}", drop=block)
    return Finding(
        location, f"must be {_one_of(choices)}", _choice_meant(value, choices), drop=block, whole=True
    )


def _not_built_yet(location: Location) -> Finding:
    hint = CODES["not-built-yet"].hint
    return Finding(location, "is not built yet (not-built-yet)", hint)


def _choice_meant(value: object, choices: list[str]) -> str:
    return _did_you_mean(value, choices) if len(choices) > 1 else ""  # the only one is named already


def _did_you_mean(value: object, known: list[str]) -> str:
    if not isinstance(value, str):
        return ""
    word = clean(value, 64).lower()
    near = get_close_matches(word, known, n=1) or [
        name for name in known if len(word) >= SHORTENED and name.startswith(word)
    ]
    return f"did you mean `{near[0]}`?" if near else ""


def _one_of(choices: Sequence[str]) -> str:
    return choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}"


_NOUNS = {
    "object": "a block of options",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "empty",
}
_DURATION = "must be a duration such as 200ms, 30s, 5m, 2h or 30d"
_SIZE = "must be a size such as 64M or 2G"
_SCALAR = "must be text, a number, true, false or null"


def _sentence(error: Error) -> tuple[str, str]:
    """Message and hint."""
    value = error.validator_value
    match error.validator:
        case _ if error.schema.get(UNIT) == "duration":
            return _DURATION, "a duration has a unit"
        case "type":
            return _wrong_type(error)
        case "anyOf" if _kinds(error):
            return f"must be {_NOUNS['object']} with a kind, not {_name(error.instance)}", ""
        case "anyOf":
            return _SIZE if any(UNIT in option for option in value) else _SCALAR, ""
        case "minimum" | "maximum":
            return f"must be at {'least' if error.validator == 'minimum' else 'most'} {value}", ""
        case _:
            empty = error.validator in ("minItems", "minLength")
            return "must not be empty" if empty else f"is not allowed ({error.validator})", ""


def _wrong_type(error: Error) -> tuple[str, str]:
    wanted, given = str(error.validator_value), _name(error.instance)
    if error.schema.get("title") == "SecretRef":
        return (
            "must be a reference: {env: NAME}, {file: PATH} or {credential: NAME}",
            "a secret is never written in the file itself",
        )
    if error.schema.get("title") == "KeyRef":
        return (
            "must be a reference: {file: PATH} or {credential: NAME}",
            "a key is never written in the file itself",
        )
    hint = ""
    if wanted == "string" and given in ("a number", "a whole number", "true or false"):
        hint = "put it in quotes"
    elif wanted == "array" and given == "text":
        hint = "write a list: [one, two]"
    return f"must be {_NOUNS[wanted]}, not {given}", hint


def _name(value: object) -> str:
    return _NAMES.get(type(value), "a block of options")


_NAMES: dict[type, str] = {
    type(None): "empty",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    tuple: "a list",
}
