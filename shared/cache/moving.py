"""Layers in an archive, from one machine to another: tar, with extended attributes, holes and the numbers of owners.

The files of a layer are compared with its digest when a build uses it. Who has made an archive decides what the images
of the builds have that use it, as with any source image.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from ..errors import InputError
from ..host.programs import ProgramFailed, run_tool
from .layer_store import CONTENT, LARGEST_RECORD, LAYER_KEY, RECORD, LayerRecord, LayerStore, is_content

_TAR = ("tar", "--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "--sparse", "--format=pax")


def export_layers(store: LayerStore, archive: Path) -> int:
    """Write all layers that are whole into an archive, compressed if its name says so; return their number."""
    with ExitStack() as stack:
        keys = []
        for record in sorted(store.records(), key=lambda record: record.made):
            opened = store.open(record.key)
            if opened is not None:
                stack.callback(opened.close)
                keys.append(record.key)
        staged = archive.with_name(f".{archive.name}.part")
        names = [f"{key}/{name}" for key in keys for name in ("content", RECORD)]
        run_tool(
            [*_TAR, *_compression(archive), "-cf", staged, "-C", store.folder, "--files-from=-"], stdin="\n".join(names)
        )
        staged.replace(archive)
        return len(keys)


def import_layers(store: LayerStore, archive: Path, remove: Callable[[Path], object]) -> int:
    """Add the layers of an archive that are not there; return their number. InputError for anything else."""
    staged = store.folder / f".gone-import-{secrets.token_hex(4)}"  # swept away if this process dies
    staged.mkdir(mode=0o700)
    lock = os.open(staged, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        try:
            run_tool([*_TAR, *_compression(archive), "-xpf", archive, "-C", staged])
        except ProgramFailed as error:
            raise InputError(f"{archive}: is no archive of layers: {error}") from error
        return sum(_add(store, place) for place in sorted(staged.iterdir()))
    finally:
        os.close(lock)
        remove(staged)


def _add(store: LayerStore, place: Path) -> bool:
    """Move a layer to its place, unless there is one."""
    try:
        handle = os.open(place / RECORD, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            is_file = stat.S_ISREG(os.fstat(handle).st_mode)
            record = LayerRecord.decode(file.read(LARGEST_RECORD) if is_file else b"")
        if not is_content(place / CONTENT):
            return False
    except (OSError, ValueError):
        return False
    if not LAYER_KEY.fullmatch(place.name) or record.key != place.name or (store.folder / place.name).exists():
        return False
    place.rename(store.folder / place.name)
    return True


def _compression(archive: Path) -> list[str]:
    return {".zst": ["--zstd"], ".gz": ["--gzip"], ".xz": ["--xz"]}.get(archive.suffix, [])
