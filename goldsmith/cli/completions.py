"""What a shell completes behind arguments and options. A fault offers nothing, and prints nothing over the line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import typer

ELSEWHERE = ("project", "bucket")  # options with which names are not those of this machine


def one_of(*words: str) -> Callable[[str], list[str]]:
    """Return what completes one of these words."""

    def offered(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return offered


def formats(incomplete: str) -> list[str]:
    """Return the formats that the files of an image can have."""
    from ..commands.machine.completion import offered_formats

    return offered_formats(incomplete)


def build_ids(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the ids of builds of this machine."""
    return _names("build", ctx, incomplete)


def image_names(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the names of images of this machine."""
    return _names("image", ctx, incomplete)


def families(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the families of images of this machine."""
    return _names("family", ctx, incomplete)


def _names(kind: Literal["build", "image", "family"], ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    if any(ctx.params.get(option) for option in ELSEWHERE):
        return []
    from ..commands.machine.completion import offered_names

    return offered_names(kind, incomplete)
