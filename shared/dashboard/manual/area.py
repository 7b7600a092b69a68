"""Pages of documentation: docs/*.md and docs/how-to/*.md of the tree that runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markupsafe import Markup

from ...errors import NotFound
from ...json_values import to_document
from ..web.pages import DashboardArea, Page, PageDocument, Parameter
from ..web.schemas import TEXT
from ..web.served import Served
from ..web.shapes import schema_of
from .markdown import Heading, RenderedPage, page_name, rendered, title_of

FOLDER = Path(__file__).resolve().parents[3] / "docs"
LONGEST_SEARCH = 100  # characters
EXCERPT = 200  # characters of a line that are told
MOST_FOUND = 50  # lines that have what is looked for
_FIRST = ("README", "tutorial", "command-line", "spec", "architecture", "dashboard", "deployment")
"""The pages that a reader begins with; the others follow by their titles."""


@dataclass(frozen=True)
class PageTitle:
    """A page of the documentation in a list."""

    name: str
    title: str


@dataclass(frozen=True)
class FoundLine:
    """A line of a page that has what was looked for."""

    page: str
    title: str
    section: str  # the heading above it
    anchor: str
    line: str


@dataclass(frozen=True)
class ManualPage:
    """All pages of the documentation, and what was looked for in them."""

    pages: tuple[PageTitle, ...]
    text: str  # that was looked for; ""
    found: tuple[FoundLine, ...]


@dataclass(frozen=True)
class ManualText:
    """One page of the documentation."""

    name: str
    title: str
    text: str  # in Markdown
    headings: tuple[Heading, ...]
    pages: tuple[PageTitle, ...]


def manual_page(_served: Served, arguments: Mapping[str, str]) -> PageDocument:
    """Return all pages, and the lines with `q` in them."""
    text = arguments.get("q", "").strip()[:LONGEST_SEARCH]
    found = _search(text.lower()) if len(text) > 1 else []
    document: PageDocument = to_document(ManualPage(_titles(), text, tuple(found[:MOST_FOUND])))
    return document


def manual_text(_served: Served, _arguments: Mapping[str, str], name: str) -> PageDocument:
    """Return one page. NotFound."""
    texts = _texts()
    if name not in texts:
        raise NotFound(f"there is no page {name[:100]}; see /docs")
    shown = _shown(name)
    page = ManualText(name, shown.title or name, texts[name], shown.headings, _titles())
    document: PageDocument = to_document(page)
    return document


def manual_html(name: str) -> Markup:
    """Return one page as HTML, for its template."""
    return _shown(name).html


@cache
def _shown(name: str) -> RenderedPage:
    texts = _texts()
    return rendered(texts[name], texts.keys())


@cache
def _texts() -> Mapping[str, str]:
    """Read the pages, by their names. They are part of the program, and do not change while it runs."""
    paths = [path.relative_to(FOLDER) for pattern in ("*.md", "how-to/*.md") for path in sorted(FOLDER.glob(pattern))]
    return {page_name(str(path)): (FOLDER / path).read_text(encoding="utf-8") for path in paths}


@cache
def _titles() -> tuple[PageTitle, ...]:
    found = [PageTitle(name, title_of(text) or name) for name, text in _texts().items()]
    order = {name: number for number, name in enumerate(_FIRST)}
    return tuple(sorted(found, key=lambda page: (order.get(page.name, len(order)), page.title.lower())))


def _search(text: str) -> Sequence[FoundLine]:
    found = []
    for page in _titles():
        anchors = {heading.text: heading.anchor for heading in _shown(page.name).headings}
        section = ""
        for line in _texts()[page.name].splitlines():
            if line.startswith("#"):
                section = line.lstrip("#").replace("`", "").strip()
            at = line.lower().find(text)
            if at >= 0:
                anchor = anchors.get(section, "")
                found.append(FoundLine(page.name, page.title, section, anchor, _excerpt(line, at)))
            if len(found) == MOST_FOUND:
                return found
    return found


def _excerpt(line: str, at: int) -> str:
    """Return what is around a place of a line, which may be a whole paragraph."""
    begin = max(0, at - EXCERPT // 3)
    end = begin + EXCERPT
    return ("…" if begin else "") + line[begin:end].strip(" |") + ("…" if line[end:] else "")


MANUAL = DashboardArea(
    name="manual",
    title="Docs",
    pages=(
        Page(
            path="/docs",
            summary="The documentation",
            query=manual_page,
            template="manual.html",
            schema=schema_of(ManualPage),
            parameters=(Parameter("q", "a text that is looked for", TEXT),),
        ),
        Page(
            path="/docs/<name>",
            summary="One page of the documentation",
            query=manual_text,
            template="manual_page.html",
            schema=schema_of(ManualText),
            parameters=(Parameter("name", "the page's name", TEXT, "path"),),
        ),
    ),
)
