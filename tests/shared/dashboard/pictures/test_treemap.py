"""The treemap: areas in proportion, within their box, beside each other, and never more than can be read."""

from __future__ import annotations

from itertools import combinations
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.dashboard.pictures.treemap import (
    HEIGHT,
    MOST_CELLS,
    WIDTH,
    Box,
    SizedFolder,
    squarified,
    treemap_picture,
)

SVG = "{http://www.w3.org/2000/svg}"
SIZES = st.lists(st.integers(1, 10**12), min_size=1, max_size=40).map(lambda sizes: sorted(sizes, reverse=True))


@given(SIZES)
def test_areas_are_in_proportion_and_within_the_box(sizes: list[int]) -> None:
    box = Box(10, 20, 300, 200)
    boxes = squarified(sizes, box)
    assert len(boxes) == len(sizes)
    for size, each in zip(sizes, boxes, strict=True):
        assert each.width * each.height == pytest.approx(60_000 * size / sum(sizes), rel=1e-6, abs=1e-6)
        assert each.x >= 10 - 1e-6
        assert each.y >= 20 - 1e-6
        assert each.x + each.width <= 310 + 1e-6
        assert each.y + each.height <= 220 + 1e-6


@given(SIZES)
def test_areas_do_not_lie_on_each_other(sizes: list[int]) -> None:
    for one, other in combinations(squarified(sizes, Box(0, 0, 300, 200)), 2):
        beside = one.x + one.width <= other.x + 1e-6 or other.x + other.width <= one.x + 1e-6
        below = one.y + one.height <= other.y + 1e-6 or other.y + other.height <= one.y + 1e-6
        assert beside or below


def test_the_example_of_the_paper_is_as_square_as_there() -> None:
    boxes = squarified([6, 6, 4, 3, 2, 2, 1], Box(0, 0, 6, 4))
    ratios = [max(each.width / each.height, each.height / each.width) for each in boxes]
    assert ratios[:2] == [pytest.approx(1.5), pytest.approx(1.5)]
    assert max(ratios) < 3


def folder(path: str, size: int, *below: SizedFolder) -> SizedFolder:
    return SizedFolder(path, size, 1, below)


def test_folders_have_their_names_and_sizes() -> None:
    usr = folder("/usr", 900, folder("/usr/lib", 600), folder("/usr/<script>", 250))
    drawn = treemap_picture("web", folder("/", 1000, usr, folder("/var", 100)), lambda count: f"{count} B")
    read = ElementTree.fromstring(drawn)
    titles = [each.text for each in read.iter(f"{SVG}title")]
    assert titles == ["Size by folder of web", "/usr: 900 B", "/usr/lib: 600 B", "/usr/<script>: 250 B", "/var: 100 B"]
    assert [rect.get("class") for rect in read.iter(f"{SVG}rect")] == [
        "cell c0",
        "cell inner c0",
        "cell inner c0",
        "cell c1",
    ]
    assert "<script" not in drawn


def test_folders_are_bounded() -> None:
    tops = [folder(f"/{n}", 100, *(folder(f"/{n}/{m}", 10) for m in range(10))) for n in range(60)]
    read = ElementTree.fromstring(treemap_picture("web", folder("/", 6000, *tops), str))
    cells = list(read.iter(f"{SVG}rect"))
    assert 60 <= len(cells) <= MOST_CELLS
    for cell in cells:
        assert float(cell.get("x") or 0) + float(cell.get("width") or 0) <= WIDTH + 0.2
        assert float(cell.get("y") or 0) + float(cell.get("height") or 0) <= HEIGHT + 0.2


def test_an_empty_image_is_an_empty_picture() -> None:
    read = ElementTree.fromstring(treemap_picture("none", folder("/", 0, folder("/etc", 0)), str))
    assert list(read.iter(f"{SVG}rect")) == []
