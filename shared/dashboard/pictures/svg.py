"""Elements of SVG, in which every text and every attribute is escaped.

A page's policy allows no styles of their own: elements have classes, whose colours the stylesheet has for light and
dark. A picture has a title and a description for those who cannot see it, and the page has a table of the same values.
"""

from __future__ import annotations

import re

from markupsafe import Markup, escape

CHARACTER = 7.3  # user units that a character of the pictures' fixed font takes, of 12 in height
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def element(tag: str, *children: str, **attributes: str | float) -> Markup:
    """Return an element. `class_` is written as class, and other underscores as dashes; children are escaped."""
    names = {name: name.rstrip("_").replace("_", "-") for name in attributes}
    written = "".join(f' {names[name]}="{escape(_value(value))}"' for name, value in attributes.items())
    inside = Markup("").join(escape(_clean(child)) for child in children)
    return Markup(f"<{tag}{written}>{inside}</{tag}>")  # noqa: S704 - tags and names are ours, the rest is escaped


def picture(
    name: str, title: str, description: str, size: tuple[float, float], *parts: str, has_links: bool = False
) -> Markup:
    """Return a whole picture. `name` tells it from others of its page; what has links is a group, as those are read."""
    width, height = size
    return element(
        "svg",
        element("title", title, id=f"{name}-title"),
        element("desc", description, id=f"{name}-desc"),
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        class_=f"graph {name}",
        role="group" if has_links else "img",
        aria_labelledby=f"{name}-title {name}-desc",
        viewBox=f"0 0 {_value(width)} {_value(height)}",
        width=width,
        height=height,
    )


def label(text: str, x: float, y: float, room: float, class_: str = "label", anchor: str = "start") -> Markup:
    """Return a text that is cut in its middle where `room` is too small for it; the whole is its tooltip."""
    shown = fitted(text, room)
    parts = [element("title", text), shown] if shown != text else [shown]
    return element("text", *parts, x=x, y=y, class_=class_, text_anchor=anchor)


def fitted(text: str, room: float) -> str:
    """Return a text as it fits into so many user units; "" where not even three characters do."""
    most = int(room / CHARACTER)
    if len(text) <= most:
        return text
    if most < 3:
        return ""
    head = most // 2
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"


def _value(value: str | float) -> str:
    return _clean(value) if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")


def _clean(text: str) -> str:
    """Return a text without what XML cannot hold; markup stays markup."""
    if not _CONTROL.search(text):
        return text
    cleaned = _CONTROL.sub("�", text)
    return Markup(cleaned) if isinstance(text, Markup) else cleaned  # noqa: S704 - it was escaped before
