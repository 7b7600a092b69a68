"""Draw sizes as areas: a squarified treemap (Bruls, Huizing, van Wijk, 2000) of folders, and of the folders in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from .svg import element, fitted, label, picture

WIDTH, HEIGHT = 960.0, 440.0
MOST_CELLS = 150
COLOURS = 8  # classes c0 to c7 of the stylesheet
_HEAD = 20.0  # height of the line above the cells of a folder
_LEAST = 14.0  # a cell that is narrower or lower is part of the folder around it


@dataclass(frozen=True)
class SizedFolder:
    """A folder with all that is below it."""

    path: str
    bytes: int
    files: int
    folders: tuple[SizedFolder, ...] = ()  # the largest ones in it

    @property
    def name(self) -> str:
        """Return its own name, without the folders that it is in."""
        return self.path.rstrip("/").rpartition("/")[2] or self.path


@dataclass(frozen=True)
class Box:
    """A rectangle of the picture."""

    x: float
    y: float
    width: float
    height: float


def squarified(sizes: Sequence[float], box: Box) -> list[Box]:
    """Divide a box into areas in proportion to `sizes`, which fall and are above 0, each as square as can be."""
    boxes: list[Box] = []
    total, rest = sum(sizes), box
    begin = 0
    while begin < len(sizes):
        side = min(rest.width, rest.height)
        scale = rest.width * rest.height / total if total > 0 else 0.0
        end = begin + 1
        while end < len(sizes) and _worst(sizes[begin : end + 1], side, scale) <= _worst(sizes[begin:end], side, scale):
            end += 1
        row = sizes[begin:end]
        placed, rest = _row(row, rest, scale)
        boxes += placed
        total -= sum(row)
        begin = end
    return boxes


def treemap_picture(name: str, root: SizedFolder, size_text: Callable[[int], str]) -> Markup:
    """Return the picture of a folder's contents, two folders deep. `name` is what is measured, for people."""
    cells: list[Markup] = []
    tops = [folder for folder in root.folders if folder.bytes > 0]
    areas = squarified([folder.bytes for folder in tops], Box(0.0, 0.0, WIDTH, HEIGHT))
    for number, (folder, box) in enumerate(zip(tops, areas, strict=True)):
        cells += _folder(folder, box, f"c{number % COLOURS}", size_text, MOST_CELLS - len(cells))
    largest = ", ".join(f"{folder.path} {size_text(folder.bytes)}" for folder in tops[:3])
    return picture(
        "treemap",
        f"Size by folder of {name}",
        f"{size_text(root.bytes)} in all. Largest: {largest or 'none'}. The table has each folder.",
        (WIDTH, HEIGHT),
        *cells,
    )


def _folder(folder: SizedFolder, box: Box, colour: str, size_text: Callable[[int], str], room: int) -> list[Markup]:
    if room <= 0:
        return []
    cells = [_cell(folder, folder.path, box, f"cell {colour}", size_text)]
    inner = Box(box.x + 3, box.y + _HEAD, box.width - 6, box.height - _HEAD - 3)
    below = sorted((each for each in folder.folders if each.bytes > 0), key=lambda each: -each.bytes)
    if inner.width < 2 * _LEAST or inner.height < 2 * _LEAST or not below:
        return cells
    own = folder.bytes - sum(each.bytes for each in below)  # files of the folder itself, and what is small
    sizes = [*(each.bytes for each in below), *([own] if 0 < own <= below[-1].bytes else [])]
    share = sum(sizes) / folder.bytes
    inner = Box(inner.x, inner.y, inner.width * share, inner.height) if share < 1 else inner
    for each, place in zip(below, squarified(sizes, inner), strict=False):
        if place.width >= _LEAST and place.height >= _LEAST and len(cells) < room:
            cells.append(_cell(each, each.name, place, f"cell inner {colour}", size_text))
    return cells


def _cell(folder: SizedFolder, name: str, box: Box, classes: str, size_text: Callable[[int], str]) -> Markup:
    drawn = [
        element("title", f"{folder.path}: {size_text(folder.bytes)}"),
        element("rect", x=box.x, y=box.y, width=box.width, height=box.height, class_=classes),
    ]
    if box.height >= _LEAST + 2:
        room = box.width - 8
        text = f"{name} {size_text(folder.bytes)}"
        shown = text if fitted(text, room) == text else name
        drawn.append(label(shown, box.x + 5, box.y + 14, room, "label inside"))
    return element("g", *drawn)


def _worst(row: Sequence[float], side: float, scale: float) -> float:
    """Return the worst ratio of a row's sides, where `side` is the length of the row."""
    area = sum(row) * scale
    if area <= 0 or side <= 0:
        return float("inf")
    return max(side * side * max(row) * scale / (area * area), area * area / (side * side * min(row) * scale))


def _row(row: Sequence[float], box: Box, scale: float) -> tuple[list[Box], Box]:
    """Place a row along the shorter side of a box; return its boxes, and what is left of the box."""
    area = sum(row) * scale
    placed = []
    if box.width >= box.height:
        thick = min(area / box.height, box.width) if box.height > 0 else 0.0
        y = box.y
        for size in row:
            height = size * scale / thick if thick > 0 else 0.0
            placed.append(Box(box.x, y, thick, height))
            y += height
        return placed, Box(box.x + thick, box.y, max(box.width - thick, 0.0), box.height)
    thick = min(area / box.width, box.height) if box.width > 0 else 0.0
    x = box.x
    for size in row:
        width = size * scale / thick if thick > 0 else 0.0
        placed.append(Box(x, box.y, width, thick))
        x += width
    return placed, Box(box.x, box.y + thick, box.width, max(box.height - thick, 0.0))
