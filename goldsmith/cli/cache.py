"""The commands of `goldsmith cache`."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from .command_group import CommandGroup
from .options import ArchiveArgument, AsJson

cache = CommandGroup("What earlier builds have left on this machine: results of steps, and packages.")


@cache.command("list")
def cache_list(json: AsJson = False) -> None:
    """List the layers, the one that was used last first."""
    from ..commands.machine.cache import list_layers

    list_layers(as_json=json)


@cache.command("prune")
def cache_prune(
    keep: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="SIZE", help="What may stay, such as 5G; the layers that were used last stay."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Remove the layers that no build uses at this moment, and the files of package mirrors."""
    from ..commands.machine.cache import prune as run

    run(keep, as_json=json)


@cache.command("verify")
def cache_verify(json: AsJson = False) -> None:
    """Read all layers, and remove the damaged ones."""
    from ..commands.machine.cache import verify as run

    raise typer.Exit(run(as_json=json))


@cache.command("export")
def cache_export(archive: ArchiveArgument) -> None:
    """Write all layers into an archive, for another machine."""
    from ..commands.machine.cache import export_all as run

    run(archive)


@cache.command("import")
def cache_import(archive: ArchiveArgument) -> None:
    """Add the layers of an archive; their maker decides what the images have that are built with them."""
    from ..commands.machine.cache import add as run

    run(archive)
