"""What the body of an answer must say: bytes and wishes in, a complaint out."""

from collections.abc import Mapping

import msgspec

from agent.core.settings import Scalar

_NOTHING = object()


def lacks(body: bytes, text: str) -> str:
    """Why a body is not right that must contain `text`; "" if it is."""
    return "" if text in body.decode("utf-8", "replace") else f"the body does not contain {_written(text)}"


def differs(body: bytes, wanted: Mapping[str, Scalar]) -> str:
    """Why a body is not right that must be a JSON object with these values at these dotted paths; "" if it is."""
    if not wanted:
        return ""
    try:
        document = msgspec.json.decode(body)
    except (
        msgspec.DecodeError,
        UnicodeDecodeError,
        RecursionError,
    ):  # the second one: of a key that is not UTF-8
        return "the body is not JSON"
    if not isinstance(document, dict):
        return "the body is not a JSON object"
    complaints = [_complaint(path, _found(document, path), value) for path, value in wanted.items()]
    return ", ".join(filter(None, complaints))


def same(found: object, wanted: Scalar) -> bool:
    """Equal as in JSON, which has one kind of number, and whose `true` is no 1 and whose `"3"` is no 3."""
    if isinstance(wanted, bool) or isinstance(found, bool):
        return found is wanted
    if isinstance(wanted, int | float):
        return isinstance(found, int | float) and found == wanted
    return type(found) is type(wanted) and found == wanted


def _found(document: object, path: str) -> object:
    for part in path.split("."):
        if not isinstance(document, dict) or part not in document:
            return _NOTHING
        document = document[part]
    return document


def _complaint(path: str, found: object, wanted: Scalar) -> str:
    if found is _NOTHING:
        return f"there is no {path}"
    return "" if same(found, wanted) else f"{path} is {_written(found)} instead of {_written(wanted)}"


def _written(value: object) -> str:
    return msgspec.json.encode(value).decode()
