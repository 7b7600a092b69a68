"""The lineage of an image: what it was made from, and what was made from it, as far as the store knows.

The store has a record of each image of ours with the id of its source. Of these so many are looked at; no more than
MOST_NODES images are in the answer, the nearest first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from urllib.parse import quote

from ...build.build import ImageDocument
from ...build.plan import SourceImage
from ...ownership import find_build, find_image
from ...ports import Image
from ..pictures.lineage import MOST_NODES, LineageEdge, LineageNode
from ..web.served import Served

MOST_ANCESTORS = 20
MOST_RECORDS = 5000  # of images, that are looked at for descendants


@dataclass(frozen=True)
class Lineage:
    """An image between its ancestors and its descendants."""

    nodes: tuple[LineageNode, ...] = ()
    edges: tuple[LineageEdge, ...] = ()
    more: int = 0  # images that are not among the nodes
    is_partial: bool = False  # whether there are more records than were looked at


@dataclass(frozen=True)
class _Kin:
    """An image of a lineage."""

    project: str
    name: str
    id: str
    known: ImageDocument | None

    @property
    def key(self) -> str:
        """Return what tells it from others in the picture."""
        return f"{self.project}/{self.name}/{self.id}"


def lineage_of(image: SourceImage, served: Served) -> Lineage:
    """Return the lineage of an image, by its project, name and id."""
    known = find_image(image.project, image.name, served.backend)
    subject = _Kin(image.project, image.name, image.id, known if known is not None and known.id == image.id else None)
    kin, edges = _ancestors(subject, served)
    below, more, is_partial = _descendants(subject, served, MOST_NODES - len(kin))
    kin += [child for _, child, _ in below]
    edges += [LineageEdge(parent.key, child.key, is_copy) for parent, child, is_copy in below]
    there = _there({each.name: each.id for each in kin if each.project == served.project}, served)
    nodes = [_node(each, there, served) for each in kin]
    nodes = [replace(node, is_subject=True, href="") if node.id == subject.key else node for node in nodes]
    return Lineage(tuple(nodes), tuple(edges), more, is_partial)


def image_address(project: str, name: str) -> str:
    """Return the address of an image's page."""
    return f"/images/{quote(project, safe='')}/{quote(name, safe='')}"


def _ancestors(subject: _Kin, served: Served) -> tuple[list[_Kin], list[LineageEdge]]:
    """Return an image and what it was made from, the oldest first."""
    found, edges, seen = [subject], [], {subject.id}
    while len(found) <= MOST_ANCESTORS and found[-1].known is not None:
        child, known = found[-1], found[-1].known
        if known.copy is not None:
            source = SourceImage(child.project, known.copy.of, known.copy.id)
        else:
            build = find_build(known.build_id, served.backend)
            if build is None or build.plan is None:
                break
            source = build.plan.source
        if not source.id or source.id in seen:
            break
        seen.add(source.id)
        document = find_image(source.project, source.name, served.backend)
        is_same = document is not None and document.id == source.id
        found.append(_Kin(source.project, source.name, source.id, document if is_same else None))
        edges.append(LineageEdge(found[-1].key, child.key, known.copy is not None))
    return found[::-1], edges


def _descendants(subject: _Kin, served: Served, room: int) -> tuple[list[tuple[_Kin, _Kin, bool]], int, bool]:
    """Return what was made from an image, each with its parent; how many more there are; whether some are unseen."""
    made: dict[str, list[ImageDocument]] = defaultdict(list)  # by the id of what they were made from
    records = served.backend.store.image_documents(served.project)
    for each in islice(records, MOST_RECORDS):
        if isinstance(each, ImageDocument) and each.id and each.state == "published":
            made[each.source_id if each.copy is None else each.copy.id].append(each)
    is_partial = next(records, None) is not None
    found: list[tuple[_Kin, _Kin, bool]] = []
    pending, seen, more = [subject], {subject.id}, 0
    for parent in pending:
        for each in sorted(made.get(parent.id, ()), key=lambda known: known.name):
            if each.id in seen:
                continue
            seen.add(each.id)
            child = _Kin(each.project, each.name, each.id, each)
            pending.append(child)
            if len(found) < room:
                found.append((parent, child, each.copy is not None))
            else:
                more += 1
    return found, more, is_partial


def _there(wanted: Mapping[str, str], served: Served) -> Mapping[str, Image]:
    """Return those of some images that are there still, by their names."""
    images = served.backend.compute.every_image(served.project)
    return {image.name: image for image in images if wanted.get(image.name) == image.id}


def _node(each: _Kin, there: Mapping[str, Image], served: Served) -> LineageNode:
    is_ours = each.project == served.project
    image = there.get(each.name) if is_ours else None
    known = each.known
    note, tone = "not of this project" if not is_ours else "deleted", "still"
    if image is not None:
        note, tone = ("active", "good") if image.deprecated is None else (image.deprecated, "wait")
        note = f"{note}, {image.family}" if image.family else note
    if known is not None and known.copy is not None:
        note = f"copy in {known.copy.channel}" + ("" if image is not None else ", deleted")
    if known is not None and known.revoked is not None:
        note, tone = f"revoked: {known.revoked.reason}", "bad"
    has_page = image is not None or known is not None
    return LineageNode(each.key, each.name, note, tone, image_address(each.project, each.name) if has_page else "")
