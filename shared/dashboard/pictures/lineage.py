"""Draw a lineage: each image to the right of the one that it was made from.

An image is made from one other, so that all of them are a forest: each has a line of its own as its children lie one
below the other, and no two edges cross.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from .svg import element, label, picture

MOST_NODES = 60
_WIDTH, _HEIGHT = 236.0, 44.0
_GAP_X, _GAP_Y = 56.0, 14.0
_MARGIN = 8.0


@dataclass(frozen=True)
class LineageNode:
    """An image in the picture."""

    id: str
    name: str
    note: str = ""  # the line below its name
    tone: str = ""  # good, bad, wait or still, as words have colours
    href: str = ""  # "" for one that has no page
    is_subject: bool = False  # the image that the page is about


@dataclass(frozen=True)
class LineageEdge:
    """That an image was made from another, or is its copy in a channel."""

    parent: str
    child: str
    is_copy: bool = False


@dataclass(frozen=True)
class Spot:
    """The place of a node."""

    x: float
    y: float


def layout(nodes: Sequence[LineageNode], edges: Sequence[LineageEdge]) -> Mapping[str, Spot]:
    """Return where each node is. An edge to an unknown node, a second parent and a circle are left out."""
    known = {node.id for node in nodes}
    parents: dict[str, str] = {}
    for edge in edges:
        is_new = edge.child in known and edge.parent in known and edge.child not in parents
        if is_new and not _leads_to(edge.parent, edge.child, parents):
            parents[edge.child] = edge.parent
    children: dict[str, list[str]] = defaultdict(list)
    for node in nodes:
        if node.id in parents:
            children[parents[node.id]].append(node.id)
    column: dict[str, int] = {}
    for node in nodes:
        if node.id not in parents:
            _columns(node.id, children, column)
    row: dict[str, float] = {}
    free = 0.0
    for name in reversed(list(column)):  # children before their parents, the last ones first
        below = [row[child] for child in children[name]]
        row[name] = (min(below) + max(below)) / 2 if below else free
        free -= 0 if below else 1
    top = min(row.values(), default=0.0)
    return {
        name: Spot(
            _MARGIN + column[name] * (_WIDTH + _GAP_X),
            _MARGIN + (row[name] - top) * (_HEIGHT + _GAP_Y),
        )
        for name in column
    }


def lineage_picture(nodes: Sequence[LineageNode], edges: Sequence[LineageEdge], more: int = 0) -> Markup:
    """Return the picture of at most MOST_NODES nodes. `more` images are told of, and not shown."""
    shown = nodes[:MOST_NODES]
    more += len(nodes) - len(shown)
    spots = layout(shown, edges)
    width = max((spot.x for spot in spots.values()), default=0.0) + _WIDTH + _MARGIN
    height = max((spot.y for spot in spots.values()), default=0.0) + _HEIGHT + _MARGIN
    subject = next((node.name for node in shown if node.is_subject), "an image")
    told = f"{len(shown)} images, from left to right: each was made from the one that it is joined to on its left."
    told += f" {more} more are not shown." if more else ""
    return picture(
        "lineage",
        f"Lineage of {subject}",
        told,
        (width, height),
        *(_edge(edge, spots) for edge in edges if edge.parent in spots and edge.child in spots),
        *(_node(node, spots[node.id]) for node in shown),
        has_links=True,
    )


def _leads_to(start: str, wanted: str, parents: Mapping[str, str]) -> bool:
    """Return whether a node is another one, or comes after it."""
    while start != wanted and start in parents:
        start = parents[start]
    return start == wanted


def _columns(root: str, children: Mapping[str, Sequence[str]], column: dict[str, int]) -> None:
    """Write down the depth of a node and of all that come after it, each before its children."""
    pending = [(root, 0)]
    while pending:
        name, depth = pending.pop()
        column[name] = depth
        pending += [(child, depth + 1) for child in reversed(children[name])]


def _edge(edge: LineageEdge, spots: Mapping[str, Spot]) -> Markup:
    start, end = spots[edge.parent], spots[edge.child]
    x, y = start.x + _WIDTH, start.y + _HEIGHT / 2
    to_y, half = end.y + _HEIGHT / 2, (end.x - x) / 2
    path = f"M{x:.1f} {y:.1f} C{x + half:.1f} {y:.1f} {end.x - half:.1f} {to_y:.1f} {end.x:.1f} {to_y:.1f}"
    return element("path", d=path, class_="edge copy" if edge.is_copy else "edge")


def _node(node: LineageNode, spot: Spot) -> Markup:
    classes = " ".join(filter(None, ("node", node.tone, "subject" if node.is_subject else "")))
    room = _WIDTH - 20
    drawn = element(
        "g",
        element("rect", x=spot.x, y=spot.y, width=_WIDTH, height=_HEIGHT, rx=6.0, class_=classes),
        label(node.name, spot.x + 10, spot.y + 18, room, "label name"),
        label(node.note, spot.x + 10, spot.y + 35, room, "label note"),
    )
    return element("a", drawn, href=node.href) if node.href else drawn
