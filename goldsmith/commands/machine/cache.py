"""goldsmith cache: what earlier builds have left of their steps on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from shared.errors import InputError
from shared.quantities import parse_size
from shared.runtime import opening

from ...exit_status import NOT_SUCCEEDED
from ...home import home
from ...screen.tables import megabytes, print_json, print_table, relative
from ...screen.text import complain, say

SHOWN = 12  # digits of a key


def list_layers(*, as_json: bool) -> None:
    """Print the layers, the one that was used last first."""
    found = opening.cache_here(home()).layers()
    if as_json:
        print_json([asdict(layer) for layer in found])
        return
    rows = [
        (layer.key[:SHOWN], layer.step, layer.build, layer.engine, megabytes(layer.disk_bytes), relative(layer.used))
        for layer in found
    ]
    print_table(("LAYER", "STEP", "BUILD", "ENGINE", "DATA", "USED"), rows)
    files, size = opening.cache_here(home()).packages()
    if files:
        say(f"packages: {files} files, {megabytes(size)}")
    lists, size = opening.cache_here(home()).kept_files()
    if lists:
        say(f"files of elements: of {lists} lists of elements, {megabytes(size)}")


def prune(keep: str | None, *, as_json: bool) -> None:
    """Remove all, or what was used longest ago until each kind takes no more than `keep`. InputError."""
    cache, most = opening.cache_here(home()), _size(keep)
    gone = cache.prune(most)
    packages = cache.prune_packages(most)
    kept = cache.prune_kept_files(most)
    if as_json:
        print_json({"layers": [asdict(layer) for layer in gone], "packages_bytes": packages, "kept_bytes": kept})
        return
    say(f"removed {_counted(len(gone))}, {megabytes(sum(layer.disk_bytes for layer in gone))}")
    if packages:
        say(f"removed packages, {megabytes(packages)}")
    if kept:
        say(f"removed files of elements, {megabytes(kept)}")


def verify(*, as_json: bool) -> int:
    """Read all layers and remove the damaged ones; return the exit status."""
    damaged: Sequence[str] = opening.cache_here(home()).verify()
    if as_json:
        print_json({"damaged": damaged})
        return NOT_SUCCEEDED if damaged else 0
    for key in damaged:
        complain(f"layer {key[:SHOWN]} was damaged, and is removed; the next build makes it again")
    say(f"removed {_counted(len(damaged))}" if damaged else "all layers are whole")
    return NOT_SUCCEEDED if damaged else 0


def export_all(archive: Path) -> None:
    """Write all layers into an archive. InputError."""
    if archive.is_dir() or not archive.name:
        raise InputError(f"{archive} is a folder; name a file in it, such as {archive / 'layers.tar'}")
    say(f"{archive}: {_counted(opening.cache_here(home()).export(archive))}")


def add(archive: Path) -> None:
    """Add the layers of an archive."""
    say(f"added {_counted(opening.cache_here(home()).add(archive))}")


def _counted(count: int) -> str:
    return f"{count} layer" if count == 1 else f"{count} layers"


def _size(keep: str | None) -> int:
    if keep is None:
        return 0
    try:
        return parse_size(keep)
    except ValueError as error:
        raise InputError(f"--keep: {error}") from error
