"""Reads the two kinds of pages with the standard library's parser: no page, however broken, raises.

A gallery page links its workflows with `<a class="workflow" href>`, the next page with `<a rel="next" href>`.
A workflow page carries its fields as microdata: `itemprop="name"` and so on, in the element's text or in its
`content`, `datetime` or `href` attribute (https://html.spec.whatwg.org/multipage/microdata.html).
"""

from dataclasses import dataclass
from html.parser import HTMLParser

_VALUE_IN = {"meta": "content", "time": "datetime", "link": "href", "data": "value"}
# Elements without an end tag: https://html.spec.whatwg.org/multipage/syntax.html#void-elements
_VOID = frozenset(
    ["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"]
)


@dataclass(frozen=True)
class GalleryPage:
    """The links as they stand in the page, each once."""

    workflows: tuple[str, ...]
    next: str | None


def read_gallery_page(html: str) -> GalleryPage:
    """The links of a gallery page."""
    parser = _Links()
    parser.feed(html)
    parser.close()
    return GalleryPage(tuple(dict.fromkeys(parser.workflows)), parser.next)


def read_workflow_page(html: str) -> dict[str, str]:
    """The raw fields of a workflow page by their `itemprop`; the first of a name counts."""
    parser = _Fields()
    parser.feed(html)
    parser.close()
    return {name: " ".join(text.split()) for name, text in parser.fields.items()}


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.workflows: list[str] = []
        self.next: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        target = found.get("href")
        if tag != "a" or not target:
            return
        if "workflow" in (found.get("class") or "").split():
            self.workflows.append(target)
        elif "next" in (found.get("rel") or "").split():
            self.next = target


class _Fields(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self._open: str | None = None
        self._depth = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._open is not None:
            self._depth += tag not in _VOID
            return
        found = dict(attrs)
        name = found.get("itemprop")
        if not name or name in self.fields:
            return
        value = found.get(_VALUE_IN.get(tag, ""))
        self.fields[name] = value or ""
        if value is None and tag not in _VOID:
            self._open, self._depth = name, 1

    def handle_endtag(self, tag: str) -> None:
        if self._open is not None and tag not in _VOID:
            self._depth -= 1
            if self._depth == 0:
                self._open = None

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self.fields[self._open] += data
