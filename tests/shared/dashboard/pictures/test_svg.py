"""Elements of SVG: nothing that is drawn is ever markup, and labels stay within their room."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.dashboard.pictures.svg import CHARACTER, element, fitted, label, picture

SVG = "{http://www.w3.org/2000/svg}"


@given(st.text(), st.text())
def test_any_text_makes_a_whole_document(text: str, other: str) -> None:
    drawn = picture("x", text, other, (10, 20), label(text, 1, 2, 50), element("g", other, class_=text))
    read = ElementTree.fromstring(drawn)
    assert {each.tag.removeprefix(SVG) for each in read.iter()} <= {"svg", "title", "desc", "text", "g"}


def test_markup_is_text() -> None:
    hostile = "<script>alert(1)</script>\"'&"
    drawn = element("text", hostile, title=hostile)
    assert "<script" not in drawn
    read = ElementTree.fromstring(drawn)
    assert (read.text, read.get("title")) == (hostile, hostile)


@given(st.text(max_size=80), st.floats(0, 400))
def test_a_label_fits_and_keeps_both_ends(text: str, room: float) -> None:
    shown = fitted(text, room)
    assert len(shown) * CHARACTER <= room or not shown
    if shown not in (text, ""):
        head, _, tail = shown.partition("…")
        assert text.startswith(head)
        assert text.endswith(tail)


@pytest.mark.parametrize(("has_links", "role"), [(False, "img"), (True, "group")])
def test_a_picture_is_named_for_those_who_cannot_see_it(has_links: bool, role: str) -> None:
    read = ElementTree.fromstring(picture("chart", "Sizes", "Two bars.", (10, 20), has_links=has_links))
    names = {each.get("id"): each.text for each in read}
    assert read.get("role") == role
    assert [names[name] for name in (read.get("aria-labelledby") or "").split()] == ["Sizes", "Two bars."]
    assert read.get("viewBox") == "0 0 10 20"
    assert "style" not in read.attrib
