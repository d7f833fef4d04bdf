"""The README says what is true."""

from pathlib import Path

from agent.core.pipeline import diagram

ROOT = Path(__file__).resolve().parents[2]


def test_the_readme_draws_the_table_of_the_pipeline() -> None:
    """Written by `python tests/meta/test_readme.py`."""
    text = (ROOT / "README.md").read_text()
    assert block() in text, "run: python tests/meta/test_readme.py"


def block() -> str:
    """The diagram as it stands in the README."""
    return f"<!-- pipeline -->\n```mermaid\n{diagram()}\n```\n<!-- /pipeline -->"


if __name__ == "__main__":
    readme = ROOT / "README.md"
    head, _, rest = readme.read_text().partition("<!-- pipeline -->")
    _, _, tail = rest.partition("<!-- /pipeline -->")
    readme.write_text(head + block() + tail)
