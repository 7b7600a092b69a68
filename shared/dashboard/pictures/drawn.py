"""The pictures as templates ask for them: of the documents that queries return."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flask import Flask
from markupsafe import Markup

from .lineage import LineageEdge, LineageNode, lineage_picture
from .treemap import SizedFolder, treemap_picture


def add_pictures(app: Flask, size_text: Callable[[int], str]) -> None:
    """Add what draws to the templates of an application."""
    app.jinja_env.globals.update(
        lineage_graph=draw_lineage,
        treemap_graph=lambda name, folder: treemap_picture(name, _folder(folder), size_text),
    )


def draw_lineage(document: Mapping[str, Any]) -> Markup:
    """Return the picture of a lineage."""
    nodes = [LineageNode(**node) for node in document["nodes"]]
    return lineage_picture(nodes, [LineageEdge(**edge) for edge in document["edges"]], document["more"])


def _folder(document: Mapping[str, Any]) -> SizedFolder:
    below = tuple(_folder(each) for each in document["folders"])
    return SizedFolder(document["path"], document["bytes"], document["files"], below)
