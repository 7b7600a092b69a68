"""The folders of a path of elements, unpacked from the packed context that has them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from provisioner.system.context import ContextError

from ..context.outside import packed_inputs
from ..errors import InputError
from .packed_links import PackedContext, PackedFile, unpack_places


@contextmanager
def unpacked_path(
    path: Sequence[str], archive: Path | PackedContext, beside: Path | None = None
) -> Iterator[tuple[Path, ...]]:
    """Yield the folders; an InputError of the block names them as the spec does.

    They are in a new folder in `beside`, which for an archive in a file is that file's own unless another is given.
    """
    if isinstance(archive, Path):
        beside, archive = beside or archive.parent, PackedFile(archive)
    places: list[str] = packed_inputs("elements", {"path": path})["path"]
    with tempfile.TemporaryDirectory(prefix="goldsmith-elements-", dir=beside) as name:
        folder = Path(name).resolve()
        try:
            unpack_places(archive, folder, places)
            yield tuple(folder / place for place in places)
        except ContextError as error:
            raise InputError(str(error)) from error
        except InputError as error:
            text = str(error)
            for place, written in zip(places, path, strict=True):
                text = text.replace(str(folder / place), written.rstrip("/"))
            raise InputError(text) from error
