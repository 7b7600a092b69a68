"""The picture of a lineage: every image in its place, none on another, and never more than can be read."""

from __future__ import annotations

from itertools import combinations
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from shared.dashboard.pictures.lineage import MOST_NODES, LineageEdge, LineageNode, layout, lineage_picture

SVG = "{http://www.w3.org/2000/svg}"


def nodes(count: int) -> list[LineageNode]:
    return [
        LineageNode(f"n{number}", f"image-{number}", href=f"/images/local/image-{number}") for number in range(count)
    ]


@given(st.integers(1, 30), st.lists(st.tuples(st.integers(0, 32), st.integers(0, 32)), max_size=60))
def test_whatever_the_edges_say_no_image_lies_on_another(count: int, pairs: list[tuple[int, int]]) -> None:
    edges = [LineageEdge(f"n{parent}", f"n{child}") for parent, child in pairs]
    spots = layout(nodes(count), edges)
    assert set(spots) == {f"n{number}" for number in range(count)}
    for one, other in combinations(spots.values(), 2):
        assert abs(one.x - other.x) >= 236 or abs(one.y - other.y) >= 44
    assert min(spot.x for spot in spots.values()) >= 0
    assert min(spot.y for spot in spots.values()) >= 0


def test_a_child_is_right_of_its_parent_and_a_parent_amid_its_children() -> None:
    edges = [LineageEdge("n0", "n1"), LineageEdge("n1", "n2"), LineageEdge("n1", "n3"), LineageEdge("n1", "n4")]
    spots = layout(nodes(5), edges)
    assert spots["n0"].x < spots["n1"].x < spots["n2"].x == spots["n3"].x == spots["n4"].x
    assert spots["n2"].y < spots["n3"].y < spots["n4"].y
    assert spots["n0"].y == spots["n1"].y == spots["n3"].y


def test_more_images_than_can_be_read_are_counted() -> None:
    many = nodes(MOST_NODES + 7)
    edges = [LineageEdge("n0", node.id) for node in many[1:]]
    read = ElementTree.fromstring(lineage_picture(many, edges, more=3))
    assert len(list(read.iter(f"{SVG}rect"))) == MOST_NODES
    assert len(list(read.iter(f"{SVG}path"))) == MOST_NODES - 1
    assert "10 more are not shown" in (read.find(f"{SVG}desc").text or "")  # type: ignore[union-attr]  # it has one


def test_images_lead_to_their_pages_and_show_what_they_are() -> None:
    known = [
        LineageNode("a", "base", "deleted", "still"),
        LineageNode("b", "web", "revoked: <b>", "bad", "", is_subject=True),
        LineageNode("c", "web-dev", "copy in dev", "good", "/images/local/web-dev"),
    ]
    drawn = lineage_picture(known, [LineageEdge("a", "b"), LineageEdge("b", "c", is_copy=True)])
    read = ElementTree.fromstring(drawn)
    assert [link.get("href") for link in read.iter(f"{SVG}a")] == ["/images/local/web-dev"]
    assert [rect.get("class") for rect in read.iter(f"{SVG}rect")] == ["node still", "node bad subject", "node good"]
    assert [path.get("class") for path in read.iter(f"{SVG}path")] == ["edge", "edge copy"]
    assert "Lineage of web" in drawn
    assert "<b>" not in drawn


def test_no_images_are_an_empty_picture() -> None:
    assert ElementTree.fromstring(lineage_picture([], [])).get("role") == "group"
