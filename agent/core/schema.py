"""The JSON Schema of the configuration file, made from the types of `core.settings`.

The types say what the agent holds (seconds as a number); the schema says what stands in the file (`30s`). So each
block is made anew by msgspec with the file's types in the place of the agent's, and msgspec describes that.
"""

from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Meta, Struct

from agent.core.settings import Bytes, Seconds, Settings
from agent.core.units import DURATION, SIZE, write_duration, write_size

UNIT = "x-homeport-unit"
"""The schema's own word: the text is a `duration` or a `size`."""

_Duration = Annotated[str, Meta(pattern=DURATION, extra_json_schema={UNIT: "duration"})]
_Size = Annotated[str, Meta(pattern=SIZE, extra_json_schema={UNIT: "size"})] | Annotated[int, Meta(ge=0)]


@cache
def schema() -> dict[str, Any]:
    """The whole file as a JSON Schema, draft 2020-12. Do not change what it returns: it is made once."""
    described = msgspec.json.schema(_written(Settings))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **described}


def _written(kind: Any) -> Any:
    """The type that stands in the file where the settings hold `kind`."""
    if kind is Seconds:
        return _Duration
    if kind is Bytes:
        return _Size
    if isinstance(kind, type) and issubclass(kind, Struct):
        return _block(kind)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is None or origin is Literal:
        return kind
    if origin is Annotated:
        return Annotated[(_written(arguments[0]), *arguments[1:])]
    inner = tuple(_written(argument) for argument in arguments)
    return Union[inner] if origin in (Union, UnionType) else origin[inner]  # noqa: UP007 - it is made of values


@cache
def _block(kind: type[Struct]) -> type[Struct]:
    config = kind.__struct_config__
    options: list[Any] = []
    for option in msgspec.structs.fields(kind):
        if option.default is not NODEFAULT:
            default = msgspec.field(default=_text(option.default), name=option.encode_name)
        elif option.default_factory is not NODEFAULT:
            default = msgspec.field(default_factory=option.default_factory, name=option.encode_name)
        else:
            default = msgspec.field(name=option.encode_name)
        options.append((option.name, _written(option.type), default))
    return msgspec.defstruct(
        kind.__name__, options, kw_only=True, forbid_unknown_fields=True,
        tag_field=config.tag_field, tag=config.tag, namespace={"__doc__": kind.__doc__},
    )  # fmt: skip


def _text(default: object) -> object:
    if isinstance(default, Seconds):
        return write_duration(default)
    return write_size(default) if isinstance(default, Bytes) else default
