"""The parts of the docs that are made: commands and codes in `docs/commands-and-http.md`, and the headings and hints of
`docs/troubleshooting.md`, whose explanations are written by hand and stay.

python -m tests.meta.pages     # writes them anew; a test keeps pages and code alike
"""

import argparse
import re
from collections.abc import Iterator

from agent.cli.main import parser
from agent.core.codes import CODES, Code
from agent.core.model import Fault
from tests.meta.sources import ROOT

PAGE = ROOT / "docs" / "commands-and-http.md"
TROUBLESHOOTING = ROOT / "docs" / "troubleshooting.md"

EVERYWHERE = ("--help", "--socket", "--url", "--json")
"""Options of every command; the page tells them once, by hand."""


def commands() -> dict[str, argparse.ArgumentParser]:
    """Every command that does something, by what a person types after `homeport`."""
    return dict(_commands(parser(), ""))


def _commands(of: argparse.ArgumentParser, prefix: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    groups = [action for action in of._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield prefix, of
    for group in groups:
        for name, child in group.choices.items():
            yield from _commands(child, f"{prefix} {name}".strip())


def purpose(command: str) -> str:
    """What the command line's own help says of a command."""
    at, text = parser(), ""
    for word in command.split():
        (group,) = (action for action in at._actions if isinstance(action, argparse._SubParsersAction))
        text = next(str(choice.help) for choice in group._choices_actions if choice.dest == word)
        at = group.choices[word]
    return text


def own_actions(of: argparse.ArgumentParser) -> list[argparse.Action]:
    """Its arguments and options, without those of every command."""
    return [action for action in of._actions if not set(EVERYWHERE) & set(action.option_strings)]


def commands_block() -> str:
    """Each command: what is typed, what it does, and its options."""
    lines = []
    for command, child in commands().items():
        actions = own_actions(child)
        typed = " ".join([f"homeport {command}", *(_typed(action) for action in actions)])
        lines += [f"### `{typed}`", "", f"{_sentence(child.description or purpose(command))}", ""]
        told = [f"- `{_spelled(action)}`: {action.help}" for action in actions if action.help]
        lines += [*told, ""] if told else []
    return "\n".join(lines).rstrip()


def _typed(action: argparse.Action) -> str:
    text = _spelled(action)
    optional = action.nargs == "?" or (action.option_strings and not action.required)
    return f"[{text}]" if optional else text


def _spelled(action: argparse.Action) -> str:
    name = action.option_strings[0] if action.option_strings else ""
    value = (
        ""
        if action.nargs == 0
        else str(action.metavar or "|".join(action.choices or ()) or action.dest.upper())
    )
    return f"{name} {value}".strip()


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:].rstrip(".") + "."


def codes_block() -> str:
    """Each code with what to do; a star at those that quarantine the revision."""
    lines = ["| code | what to do |", "|---|---|"]
    for name, code in CODES.items():
        star = " *" if code.fault is Fault.COMMIT else ""
        lines.append(
            f"| [`{name}`](troubleshooting.md#{name}){star} | {code.hint.replace('|', chr(92) + '|')} |"
        )
    return "\n".join(lines)


BLOCKS = {"commands": commands_block, "codes": codes_block}


def between(text: str, mark: str) -> str:
    """What stands between a pair of marks. Raises ValueError if the marks are not there."""
    _, begin, rest = text.partition(f"<!-- {mark} -->\n")
    block, end, _ = rest.partition(f"\n<!-- /{mark} -->")
    if not begin or not end:
        raise ValueError(f"the page has no marks for {mark}")
    return block


_HEADING = re.compile(r"^(###?) (.*)\n", re.MULTILINE)


def troubleshooting(text: str) -> str:
    """The page with a heading and the hint for each code, in the order of `core.codes`. What was written by hand below
    a hint stays, and so do the headings of groups: each before the code that it stood before."""
    preface, *parts = _HEADING.split(text)
    groups: dict[str, str] = {}
    written: dict[str, str] = {}
    group = ""
    for mark, name, body in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        if mark == "##":
            group += f"## {name}\n{body}"
            continue
        groups[name], group = group, ""
        written[name] = re.sub(r"\A\n(?:>.*\n)*", "", body).strip("\n")
    page = preface
    for name, code in CODES.items():
        page += groups.get(name, "") + f"### {name}\n\n> {_told(code)}\n\n"
        page += f"{written[name]}\n\n" if written.get(name) else ""
    return page.rstrip("\n") + "\n"


def _told(code: Code) -> str:
    by_commit = " As a deployment's reason it quarantines the revision." if code.fault is Fault.COMMIT else ""
    return code.hint + by_commit


def main() -> None:
    """Writes the blocks anew."""
    TROUBLESHOOTING.write_text(troubleshooting(TROUBLESHOOTING.read_text(encoding="utf-8")), encoding="utf-8")
    text = PAGE.read_text(encoding="utf-8")
    for mark, block in BLOCKS.items():
        text = text.replace(f"{between(text, mark)}\n<!-- /{mark} -->", f"{block()}\n<!-- /{mark} -->")
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
