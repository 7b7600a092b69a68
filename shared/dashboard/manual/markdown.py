"""Turn a page of docs/ into HTML: no markup of its own, links to other pages within, and headings that can be linked.

Our own files are read, and are held to the same policy as all else: raw HTML is text, and no element has a style.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

_NOT_IN_ANCHORS = re.compile(r"[^\w\- ]")
_EXTERNAL = ("https://", "http://")


@dataclass(frozen=True)
class Heading:
    """A heading of a page."""

    level: int
    text: str
    anchor: str


@dataclass(frozen=True)
class RenderedPage:
    """A page as HTML."""

    title: str
    html: Markup
    headings: tuple[Heading, ...]  # without the title


@cache
def _parser() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False, "linkify": False}).enable(["table", "strikethrough"])


def rendered(text: str, pages: Collection[str]) -> RenderedPage:
    """Return a page of Markdown as HTML; `pages` are the names of those that links may lead to."""
    parser = _parser()
    tokens = parser.parse(text)
    headings = list(_with_anchors(tokens))
    for token in tokens:
        _tidy(token)
        if token.children is not None:
            token.children = list(_within(token.children, pages))
    html = parser.renderer.render(tokens, parser.options, {})
    html = html.replace("<pre>", '<pre tabindex="0">')  # what scrolls has to be reached by keyboard; texts are escaped
    title = next((each.text for each in headings if each.level == 1), "")
    return RenderedPage(title, Markup(html), tuple(each for each in headings if each.level > 1))  # noqa: S704 - raw HTML is off, so that texts are escaped


def title_of(text: str) -> str:
    """Return the first heading of a page of Markdown, as text."""
    first = next((line for line in text.splitlines() if line.startswith("# ")), "")
    return first.removeprefix("# ").replace("`", "").strip()


def anchor_of(text: str) -> str:
    """Return the anchor of a heading, as GitHub makes it."""
    return _NOT_IN_ANCHORS.sub("", text.strip().lower()).replace(" ", "-")


def _with_anchors(tokens: Sequence[Token]) -> Iterator[Heading]:
    """Set an anchor of its own on each heading; yield the headings."""
    taken: dict[str, int] = {}
    for opening, inline in pairwise(tokens):
        if opening.type != "heading_open":
            continue
        text = "".join(child.content for child in inline.children or () if child.type in ("text", "code_inline"))
        anchor = anchor_of(text)
        count = taken.get(anchor, 0)
        taken[anchor] = count + 1
        anchor = f"{anchor}-{count}" if count else anchor
        opening.attrSet("id", anchor)
        yield Heading(int(opening.tag[1:]), text, anchor)


def _tidy(token: Token) -> None:
    """Turn the style of a table's cell into a class: a page's policy allows no styles."""
    style = token.attrs.pop("style", None)
    if style == "text-align:right":
        token.attrSet("class", "number")


def _within(tokens: Sequence[Token], pages: Collection[str]) -> Iterator[Token]:
    """Yield tokens with links to the pages of the dashboard; what leads nowhere there becomes its text."""
    dropped = 0
    for token in tokens:
        if token.type == "image":  # a file that is not served
            yield Token("text", "", 0, content=token.content)
        elif token.type == "link_open":
            target = _target(str(token.attrGet("href") or ""), pages)
            dropped += not target
            if target:
                token.attrSet("href", target)
                if target.startswith(_EXTERNAL):
                    token.attrSet("rel", "noreferrer noopener")
                yield token
        elif token.type == "link_close" and dropped:
            dropped -= 1
        else:
            yield token


def page_name(path: str) -> str:
    """Return the name of a page by its path below docs/: how-to/verify.md is how-to-verify."""
    return path.removesuffix(".md").replace("/", "-")


def _target(href: str, pages: Collection[str]) -> str:
    """Return where a link leads here; "" where that is nothing that is served."""
    if href.startswith(_EXTERNAL) or href.startswith("#"):
        return href
    file, _, anchor = href.partition("#")
    here, below = page_name(file.removeprefix("../")), page_name(f"how-to/{file}")
    name = here if here in pages else below
    if not file.endswith(".md") or name not in pages:
        return ""
    return f"/docs/{name}" + (f"#{anchor}" if anchor else "")
