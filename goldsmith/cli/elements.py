"""The commands of `goldsmith elements`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from .command_group import CommandGroup
from .options import AsJson, ElementsPathOption, Parameters, named_values

elements = CommandGroup("Elements of diskimage-builder: what they bring, and what they need.")


@elements.command("tree")
def elements_tree(
    spec: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(metavar="[SPEC]", help="A spec with steps of the action elements."),
    ] = None,
    names: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--elements", metavar="NAME,...", help="The elements, instead of those of a spec."),
    ] = None,
    path: ElementsPathOption = None,
    on_image: Annotated[
        bool, typer.Option("--on-image", help="They run in an image that is there: it is the operating system.")
    ] = False,
    parameters: Parameters = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show what does not run, too, and why.")] = False,
    json: AsJson = False,
) -> None:
    """Show the merged hooks of elements, phase by phase, and the element that each comes from."""
    from ..commands.elements import asked_by_spec, asked_by_words, tree

    if spec is None and names is None:
        raise typer.BadParameter("write a SPEC, or --elements NAME,...")
    if spec is not None and (names is not None or path or on_image):
        raise typer.BadParameter("a SPEC has elements, path and image of its own; leave the options out")
    if spec is not None:
        asked = asked_by_spec(spec, named_values(parameters))
    else:
        asked = [asked_by_words(names or "", path or (), on_image=on_image)]
    tree(asked, verbose=verbose, as_json=json)


@elements.command("explain")
def elements_explain(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The element.")],
    path: ElementsPathOption = None,
    json: AsJson = False,
) -> None:
    """Show what an element is for, what it needs and provides, and the variables that it knows."""
    from ..commands.elements import explain as run

    run(name, path or (), as_json=json)
