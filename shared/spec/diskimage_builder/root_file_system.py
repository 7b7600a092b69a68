"""The root file system of a disk in diskimage-builder's words, and what the command line says of it.

Of the disk's own description, what it says itself wins: so it is in diskimage-builder for the file system of `/`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_ROOT = "/"
EXT4 = "ext4"


@dataclass(frozen=True)
class RootOptions:
    """What is asked of the root file system and of the disk; None leaves it to the disk."""

    kind: str | None = None
    label: str | None = None
    of_ext4: str = ""  # options that all ext4 roots get, and no others
    options: str = ""
    size: str | None = None


def with_root_options(disk: Any, asked: RootOptions) -> tuple[Any, list[str]]:
    """Return a disk with what is asked of its root, and the names of options without effect, as the disk says it."""
    value = _copy(_WHOLE_DISK if disk is None else disk)
    without_effect = []
    root = next(_root_file_systems(value), None)
    if root is not None:
        kind = root.setdefault("type", asked.kind) if asked.kind else root.get("type", EXT4)
        if asked.label is not None and root.setdefault("label", asked.label) != asked.label:
            without_effect.append("root-label")
        options = f"{asked.of_ext4 if kind == EXT4 else ''} {asked.options}".strip()
        if options and root.setdefault("opts", options) != options and asked.options:
            without_effect.append("mkfs-options")
    loop = next(_maps_of(value, "local_loop"), None)
    if asked.size is not None and loop is not None and loop.setdefault("size", asked.size) != asked.size:
        without_effect.append("image-size")
    return value, without_effect


_WHOLE_DISK = [
    {
        "local_loop": {
            "name": "image0",
            "mkfs": {
                "name": "mkfs_root",
                "mount": {"mount_point": "/", "fstab": {"options": "defaults", "fsck-passno": 1}},
            },
        }
    }
]
"""What disk-image-create makes where no element says otherwise: one file system."""


def _copy(value: Any) -> Any:
    """Return a value with lists and dicts that can be changed."""
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, (tuple, list)) else value


def _root_file_systems(disk: Any) -> Iterator[dict[str, Any]]:
    """Yield the `mkfs` of `/`, in a tree or in a flat list that names bases."""
    bases = {mount.get("base") for mount in _maps_of(disk, "mount") if mount.get("mount_point") == _ROOT} - {None}
    for made in _maps_of(disk, "mkfs"):
        mount = made.get("mount")
        inside = isinstance(mount, Mapping) and mount.get("mount_point") == _ROOT
        if inside or made.get("name", f"mkfs_{made.get('base')}") in bases:
            yield made


def _maps_of(value: Any, key: str) -> Iterator[dict[str, Any]]:
    """Yield all mappings at a key, wherever they are."""
    if isinstance(value, dict):
        if isinstance(value.get(key), dict):
            yield value[key]
        for item in value.values():
            yield from _maps_of(item, key)
    elif isinstance(value, list):
        for item in value:
            yield from _maps_of(item, key)
