"""`homeport schema`: the JSON Schema of the configuration file, for editors that complete and check while one types."""

import argparse
import json
from typing import Any


def add(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Declares the subcommand."""
    parser = commands.add_parser(
        "schema", parents=[shared], help="print the JSON Schema of the configuration file, for editors"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints it; with and without --json it is the same."""
    del options
    print(json.dumps(described(), indent=2, ensure_ascii=False))
    return 0


def described() -> dict[str, Any]:
    """The schema that the agent itself reads by, with what the reference says of each option."""
    from msgspec.structs import fields

    from agent.cli.reference import docstrings
    from agent.core import settings
    from agent.core.schema import schema

    whole: dict[str, Any] = json.loads(json.dumps(schema()))
    whole["title"] = "The configuration of homeport"
    for block, options in docstrings().items():
        properties = whole["$defs"].get(block, {}).get("properties", {})
        if not properties:
            continue
        written = {option.name: option.encode_name for option in fields(getattr(settings, block))}
        for option, text in options.items():
            properties[written[option]]["description"] = text
    return whole
