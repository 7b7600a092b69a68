"""Orders of images and what comes of them, for tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.spec.diskimage_builder.command_line import placed_words, read_image_command
from shared.spec.diskimage_builder.draft import FoundElements, OrderDraft, draft_order
from shared.spec.diskimage_builder.options import ImageOrder
from shared.spec.diskimage_builder.variables import take_environment


def order_of(*words: str, **environment: str) -> ImageOrder:
    """Return the order of a command line in an environment."""
    order = read_image_command(placed_words(["disk-image-create", *words]))
    take_environment(order, environment)
    return order


def draft_of(*words: str, disk: Any = None, **environment: str) -> OrderDraft:
    """Return the document of a command line."""
    return draft_order(
        order_of(*words, **environment), FoundElements("elements", ("../other",), disk, "that of a test")
    )


def values_of(*words: str, disk: Any = None, **environment: str) -> Mapping[str, Any]:
    """Return the values of the document of a command line that is right."""
    draft = draft_of(*words, disk=disk, **environment)
    assert not problems_of_draft(draft)
    found: Mapping[str, Any] = draft.document.data
    return found


def problems_of_draft(draft: OrderDraft) -> list[str]:
    """Return the problems of a document as people read them, without their places."""
    return [f"{each.shown}: {each.text}" for each in draft.document.problems]
