"""The reading of a spec's `disk`: diskimage-builder's tree or graph of block devices, checked whole.

Its tree is its graph written shorter: an entry that lies in another one has that as its `base`, and a `name` made of
the two. So everything is flattened first, then looked at kind by kind; a problem names the key as it was written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from ...build.block_devices.description import (
    BIOS_BOOT,
    LINUX_ROOT,
    ROOT_LABEL,
    DiskDescription,
    FileSystemKind,
    FstabEntry,
    NewFileSystem,
    NewPartition,
    NewVolume,
    NewVolumeGroup,
    file_system_disk,
)
from ...build.block_devices.layout import DoesNotFit, place_disk
from ...names import nearest, quoted, shown_value, unknown_key
from ...quantities import MIB
from . import words

if TYPE_CHECKING:  # of a module with pydantic, which build VMs have not
    from ..closed import BrokenRule, Loc

T = TypeVar("T")

_KEYS: Mapping[str, tuple[str, ...]] = {
    "local_loop": ("name", "size", "partitioning", "mkfs"),
    "partitioning": ("name", "base", "label", "align", "partitions"),
    "lvm": ("name", "base", "pvs", "vgs", "lvs"),
    "mkfs": ("name", "base", "type", "label", "uuid", "opts", "mount"),
    "mount": ("name", "base", "mount_point", "fstab"),
    "fstab": ("name", "base", "options", "dump-freq", "fsck-passno"),
}
_NESTED = ("partitioning", "mkfs", "mount", "fstab")
_PARTITION = ("name", "base", "size", "type", "flags", "mkfs")
_PHYSICAL = ("name", "base", "options")
_GROUP = ("name", "base", "options")
_VOLUME = ("name", "base", "options", "size", "extents")
_BASES: Mapping[str, str] = {
    "partitioning": "a local_loop",
    "mkfs": "a partition, a volume or a local_loop",
    "mount": "a mkfs",
    "fstab": "a mount",
}
_LINUX_TYPES = {"gpt": "0fc63daf-8483-4772-8e79-3d69d8477de4", "mbr": "83"}
_LVM_TYPES = {"gpt": "e6d6d379-f507-44c2-a23c-238f2a3df928", "mbr": "8e"}
_SWAP_TYPES = {"gpt": "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", "mbr": "82"}
_XFS_ROOT_LABEL = "img-rootfs"  # as in diskimage-builder: the usual one is too long for xfs
_MOST_ENTRIES = 200
_MOST_PARTITIONS = 100  # a GPT has 128, and an MBR's logical ones end somewhere
_NOWHERE = ("none", "swap")  # the mount points of swap


class DiskReading(NamedTuple):
    """What a value describes: a disk, or the problems that it has, with the keys below `disk`."""

    description: DiskDescription | None
    problems: list[BrokenRule]


def read_disk(value: Any) -> DiskReading:
    """Read the value of `disk`, whatever it is."""
    if value == "filesystem":
        return DiskReading(file_system_disk(), [])
    if not isinstance(value, (tuple, list)) or not value:
        shown = shown_value(value) if value not in ((), []) else "an empty list"
        return DiskReading(None, [((), f"cannot be {shown}; write filesystem, or a list of local_loop and others")])
    reading = _Reading()
    reading.flatten(value)
    description = reading.description()
    return DiskReading(None if reading.problems else description, reading.problems)


@dataclass
class _Entry:
    """One entry of the graph."""

    kind: str
    at: Loc
    keys: Mapping[str, Any]
    name: str
    base: str | None


class _Reading:
    """Collects the entries, then makes the values, and all problems on the way."""

    def __init__(self) -> None:
        self.problems: list[BrokenRule] = []
        self._entries: dict[str, list[_Entry]] = {kind: [] for kind in _KEYS}
        self._names: dict[str, tuple[str, Loc]] = {}

    def flatten(self, value: tuple[Any, ...] | list[Any]) -> None:
        """Take the list apart."""
        if len(value) > _MOST_ENTRIES:
            self._wrong((), f"has too many entries; write at most {_MOST_ENTRIES}")
            return
        for index, item in enumerate(value):
            if not isinstance(item, Mapping) or len(item) != 1:
                what = f"{len(item)} keys" if isinstance(item, Mapping) else shown_value(item)
                self._wrong(
                    (index,), f"needs one key, such as partitioning, not {what}; write each in an entry of its own"
                )
                continue
            ((kind, keys),) = item.items()
            if kind not in _KEYS:
                self._wrong((index, kind), unknown_key(kind, _KEYS))
            else:
                self._enter(kind, keys, (index, kind), None)

    def _enter(self, kind: str, keys: Any, at: Loc, above: str | None) -> None:
        """Enter one entry and those in it."""
        if not isinstance(keys, Mapping):
            self._wrong(
                at, f"needs keys and values, not {shown_value(keys)}; the keys here are: {', '.join(_KEYS[kind])}"
            )
            return
        self._refuse_unknown(keys, _KEYS[kind], at)
        base = self._value(keys, "base", at, words.part_name, above) if kind != "lvm" else None
        name = self._value(keys, "name", at, words.part_name, f"{kind}_{base}" if base else "lvm")
        if kind == "local_loop" and "name" not in keys:
            self._wrong((*at, "name"), "is missing; write one such as image0")
        entry = _Entry(kind, at, keys, name, base)
        self._entries[kind].append(entry)
        self._take_name(name, kind, (*at, "name"))
        for nested in _NESTED:
            if nested in keys and nested in _KEYS[kind]:
                self._enter(nested, keys[nested], (*at, nested), name)
        if kind == "partitioning":
            for place, partition in self._items(keys, "partitions", at, _PARTITION):
                if "mkfs" in partition and isinstance(partition.get("name"), str):
                    self._enter("mkfs", partition["mkfs"], (*place, "mkfs"), partition["name"])

    def description(self) -> DiskDescription | None:
        """Make the description; what is wrong is in `problems`."""
        loops = self._entries["local_loop"]
        if not loops:
            self._wrong((), "has no local_loop, which is the disk; begin with the lines local_loop: and name: image0")
            return None
        for second in loops[1:]:
            self._wrong(second.at, "is a second disk; an image has one: leave it out")
        disk = loops[0]
        size = self._value(disk.keys, "size", disk.at, words.bytes_of, None)
        tables = self._entries["partitioning"]
        for second in tables[1:]:
            self._wrong(second.at, "is a second partition table; leave it out")
        table = tables[0] if tables else None
        partitions, label = self._partitions(table, disk) if table else ((), None)
        groups = self._groups({each.name for each in partitions})
        places = {each.name for each in partitions} - {name for group in groups for name in group.partitions}
        places |= {volume.name for group in groups for volume in group.volumes}
        file_systems = self._file_systems(places if table else {disk.name})
        partitions = tuple(self._typed(each, label or "gpt", file_systems, groups) for each in partitions)
        align = self._value(table.keys, "align", table.at, words.bytes_of, MIB) if table else MIB
        if table and (align % 4096 or align > 64 * MIB):
            self._wrong((*table.at, "align"), "is no alignment; write a multiple of 4KiB, at most 64MiB")
        if self.problems:
            return None
        found = DiskDescription(file_systems, label, partitions, groups, size, align)
        self._check_whole(found, table, disk)
        return found

    # Partitions

    def _partitions(self, table: _Entry, disk: _Entry) -> tuple[tuple[NewPartition, ...], Literal["gpt", "mbr"] | None]:
        if table.base != disk.name:
            self._wrong((*table.at, "base"), f"is not the disk; write base: {disk.name}")
        label = self._table_kind(table)
        found, first_logical = [], ""
        for place, keys in self._items(table.keys, "partitions", table.at, _PARTITION):
            name = self._required(keys, "name", place, words.part_name, "")
            self._take_name(name, "partition", (*place, "name"))
            size, percent = self._required(keys, "size", place, words.partition_share, (MIB, None))
            kind = self._value(keys, "type", place, lambda text: words.partition_type(text, label), "")
            flags = self._flags(keys, place)
            is_primary = "primary" in flags or label == "gpt"
            if not is_primary:
                first_logical = first_logical or name
            elif first_logical:
                self._wrong(
                    (*place, "flags"), f"is primary and comes after {first_logical}, which is not; write it first"
                )
            if "base" in keys and keys["base"] not in (table.base, table.name):
                self._wrong((*place, "base"), f"is not the disk; write base: {disk.name}, or leave it out")
            found.append(NewPartition(name, size, percent, kind, "boot" in flags, is_primary and label == "mbr"))
        self._check_count(found, table, label, has_logical=bool(first_logical))
        return tuple(found), label

    def _table_kind(self, table: _Entry) -> Literal["gpt", "mbr"]:
        label = table.keys.get("label")
        if label in ("gpt", "mbr"):
            return "gpt" if label == "gpt" else "mbr"
        what = f"cannot be {shown_value(label)}" if "label" in table.keys else "is missing"
        self._wrong((*table.at, "label"), f"{what}; write gpt or mbr")
        return "gpt"

    def _check_count(self, found: list[NewPartition], table: _Entry, label: str, *, has_logical: bool) -> None:
        at = (*table.at, "partitions")
        if not found:
            self._wrong(at, "has no partition; write one with name and size")
        if label == "mbr" and sum(each.primary for each in found) + has_logical > 4:
            self._wrong(at, "has too many primary ones; an MBR has 4, and 3 beside others")
        if len(found) > _MOST_PARTITIONS:
            self._wrong(at, f"has too many entries; write at most {_MOST_PARTITIONS}")
        if sum(each.boot for each in found) > 1:
            self._wrong(at, "has the flag boot more than once; leave one")

    def _flags(self, keys: Mapping[str, Any], at: Loc) -> tuple[str, ...]:
        flags = keys.get("flags", ())
        if not isinstance(flags, (tuple, list)):
            self._wrong((*at, "flags"), f"needs a list, not {shown_value(flags)}; write [boot, primary]")
            return ()
        for index, flag in enumerate(flags):
            if flag not in ("boot", "primary"):
                self._wrong(
                    (*at, "flags", index), f"cannot be {shown_value(flag)}; {nearest(str(flag), ('boot', 'primary'))}"
                )
        return tuple(flag for flag in flags if isinstance(flag, str))

    def _typed(
        self,
        partition: NewPartition,
        table: str,
        file_systems: tuple[NewFileSystem, ...],
        groups: tuple[NewVolumeGroup, ...],
    ) -> NewPartition:
        """Return a partition with a type where it has none: what lies on it says which."""
        kind = partition.type
        if not kind:
            kind = _LINUX_TYPES[table]
            if any(partition.name in group.partitions for group in groups):
                kind = _LVM_TYPES[table]
            for each in file_systems:
                if each.base == partition.name and each.kind == "swap":
                    kind = _SWAP_TYPES[table]
                if each.base == partition.name and each.mount_point == "/" and table == "gpt":
                    kind = LINUX_ROOT
        return NewPartition(partition.name, partition.size, partition.percent, kind, partition.boot, partition.primary)

    # Volumes

    def _groups(self, partitions: set[str]) -> tuple[NewVolumeGroup, ...]:
        physical: dict[str, str] = {}
        groups: dict[str, tuple[str, ...]] = {}
        volumes: dict[str, list[NewVolume]] = {}
        for entry in self._entries["lvm"]:
            for place, keys in self._items(entry.keys, "pvs", entry.at, _PHYSICAL):
                name = self._required(keys, "name", place, words.part_name, "")
                base = self._required(keys, "base", place, words.part_name, "")
                self._take_name(name, "physical volume", (*place, "name"))
                self._refuse_options(keys, place)
                if base and base not in partitions:
                    self._wrong((*place, "base"), f"{quoted(base)} is no partition; {_one_of(partitions)}")
                elif base in physical.values():
                    self._wrong((*place, "base"), f"{quoted(base)} is a physical volume already; choose another")
                physical[name] = base
            for place, keys in self._items(entry.keys, "vgs", entry.at, _GROUP):
                name = self._required(keys, "name", place, words.part_name, "")
                self._take_name(name, "volume group", (*place, "name"))
                self._refuse_options(keys, place)
                groups[name] = tuple(self._group_bases(keys, place, physical, groups))
                volumes[name] = []
            for place, keys in self._items(entry.keys, "lvs", entry.at, _VOLUME):
                self._volume(keys, place, volumes)
        for name, used in volumes.items():
            if not used:
                self._wrong(self._names[name][1], f"the volume group {name} has no volume; add one to lvs")
        return tuple(
            NewVolumeGroup(name, tuple(physical.get(base, "") for base in bases), tuple(volumes[name]))
            for name, bases in groups.items()
        )

    def _group_bases(
        self, keys: Mapping[str, Any], at: Loc, physical: Mapping[str, str], groups: Mapping[str, tuple[str, ...]]
    ) -> Iterator[str]:
        given = keys.get("base", ())
        bases = given if isinstance(given, (tuple, list)) else (given,)
        if not bases:
            self._wrong((*at, "base"), "is missing; write the names of its physical volumes, such as [pv]")
        taken = {base for others in groups.values() for base in others}
        for index, base in enumerate(bases):
            if base not in physical:
                shown = quoted(str(base))
                self._wrong((*at, "base", index), f"{shown} is no physical volume; {_one_of(set(physical))}")
            elif base in taken:
                self._wrong((*at, "base", index), f"{quoted(base)} is in a volume group already; choose another")
            else:
                taken.add(base)
                yield base

    def _volume(self, keys: Mapping[str, Any], at: Loc, volumes: dict[str, list[NewVolume]]) -> None:
        name = self._required(keys, "name", at, words.part_name, "")
        base = self._required(keys, "base", at, words.part_name, "")
        self._take_name(name, "logical volume", (*at, "name"))
        self._refuse_options(keys, at)
        if ("size" in keys) == ("extents" in keys):
            self._wrong(at, "needs size or extents, one of the two; write one such as size: 1800M or extents: 28%VG")
        size = self._value(keys, "size", at, words.volume_size, None)
        extents = self._value(keys, "extents", at, words.volume_extents, (None, None, False))
        if base not in volumes:
            if base:
                self._wrong((*at, "base"), f"{quoted(base)} is no volume group; {_one_of(set(volumes))}")
            return
        volumes[base].append(NewVolume(name, size, *extents))

    # File systems

    def _file_systems(self, places: set[str]) -> tuple[NewFileSystem, ...]:
        mounts = self._by_base("mount", {each.name for each in self._entries["mkfs"]})
        entries = self._by_base("fstab", {each.name for each in self._entries["mount"]})
        self._by_base("mkfs", places)
        found: list[NewFileSystem] = []
        labels: dict[str, str] = {}
        taken: dict[str, str] = {}
        for entry in self._entries["mkfs"]:
            kind: FileSystemKind = self._value(entry.keys, "type", entry.at, words.file_system_kind, "ext4")
            mount = mounts.get(entry.name)
            place = self._mount_point(mount, kind) if mount else None
            if place and mount and place in taken:
                what = "is a second root" if place == "/" else "is mounted twice"
                self._wrong(
                    (*mount.at, "mount_point"), f"{place} {what}, first by {taken[place]}; choose another place"
                )
            if place:
                taken.setdefault(place, entry.name)
            label = self._label(entry, kind, place, labels)
            if label:
                labels.setdefault(label, entry.name)
            line = entries.get(mount.name) if mount else None
            own = self._value(entry.keys, "uuid", entry.at, partial(words.uuid_of, kind=kind), None)
            options = self._value(entry.keys, "opts", entry.at, partial(words.mkfs_options, kind=kind), ())
            fstab = self._fstab(line) if line else None
            found.append(NewFileSystem(entry.name, entry.base or "", kind, label, own, options, place, fstab))
        if "/" not in taken:
            self._wrong((), "mounts no root file system; write mount_point: / below one mkfs")
        return tuple(found)

    def _by_base(self, kind: str, bases: set[str]) -> dict[str, _Entry]:
        """Return the entries of a kind by what they lie on; one each."""
        found: dict[str, _Entry] = {}
        for entry in self._entries[kind]:
            if entry.base is None:
                self._wrong((*entry.at, "base"), f"is missing; write the name of {_BASES[kind]}")
            elif entry.base not in bases:
                self._wrong((*entry.at, "base"), f"{quoted(entry.base)} is not {_BASES[kind]}; {_one_of(bases)}")
            elif entry.base in found:
                self._wrong((*entry.at, "base"), f"{quoted(entry.base)} has a {kind} already; leave one")
            else:
                found[entry.base] = entry
        return found

    def _mount_point(self, mount: _Entry, kind: str) -> str | None:
        if kind == "swap":
            point = mount.keys.get("mount_point", "none")
            if point not in _NOWHERE:
                self._wrong((*mount.at, "mount_point"), "cannot be a folder, as swap has no files; write none")
            return None
        place: str | None = self._required(mount.keys, "mount_point", mount.at, words.mount_place, None)
        if place == "/" and kind == "vfat":
            self._wrong((*mount.at, "mount_point"), "cannot be vfat, which has no owners; write type: ext4")
        return place

    def _label(self, entry: _Entry, kind: str, place: str | None, labels: Mapping[str, str]) -> str | None:
        if "label" in entry.keys:
            if kind == "xfs" and entry.keys["label"] == ROOT_LABEL:
                return _XFS_ROOT_LABEL
            label: str | None = self._value(entry.keys, "label", entry.at, partial(words.label_of, kind=kind), None)
            if label and label in labels:
                self._wrong(
                    (*entry.at, "label"), f"{quoted(label)} is the label of {labels[label]} too; choose another"
                )
            return label
        if place == "/":
            return _XFS_ROOT_LABEL if kind == "xfs" else ROOT_LABEL
        own = words.default_label(entry.name, kind)
        return None if own in labels else own

    def _fstab(self, line: _Entry) -> FstabEntry:
        return FstabEntry(
            self._value(line.keys, "options", line.at, words.fstab_options, "defaults"),
            self._value(line.keys, "dump-freq", line.at, lambda value: words.whole(value, 1), 0),
            self._value(line.keys, "fsck-passno", line.at, lambda value: words.whole(value, 9), 2),
        )

    # The whole

    def _check_whole(self, found: DiskDescription, table: _Entry | None, disk: _Entry) -> None:
        parts = {name: at for name, (_, at) in self._names.items()}
        if found.size is not None:
            try:
                place_disk(found, found.size // MIB * MIB)
            except DoesNotFit as error:
                self._wrong(parts.get(error.part, disk.at), str(error).partition(": ")[2])
        if table is None:
            return
        for each in found.partitions:
            if each.type == BIOS_BOOT and (each.size or MIB) < 256 << 10:
                self._wrong(parts[each.name], "is too small for a boot loader; write size: 1MiB at least")
            if each.type == BIOS_BOOT and any(other.base == each.name for other in found.file_systems):
                self._wrong(parts[each.name], "is for the boot loader and cannot have a file system; leave mkfs out")
            efi = [other for other in found.file_systems if other.base == each.name and each == found.efi]
            if each == found.efi and (not efi or efi[0].kind != "vfat"):
                self._wrong(
                    parts[each.name], "is for EFI and needs a file system that firmware reads; write mkfs: type: vfat"
                )

    # Keys

    def _items(
        self, keys: Mapping[str, Any], key: str, at: Loc, known: tuple[str, ...]
    ) -> Iterator[tuple[Loc, Mapping[str, Any]]]:
        items = keys.get(key, ())
        if not isinstance(items, (tuple, list)):
            self._wrong((*at, key), f"needs a list, not {shown_value(items)}; write entries that begin with - name:")
            return
        for index, item in enumerate(items):
            place = (*at, key, index)
            if not isinstance(item, Mapping):
                self._wrong(
                    place, f"needs keys and values, not {shown_value(item)}; the keys here are: {', '.join(known)}"
                )
                continue
            self._refuse_unknown(item, known, place)
            yield place, item

    def _refuse_unknown(self, keys: Mapping[str, Any], known: tuple[str, ...], at: Loc) -> None:
        for key in keys:
            if key not in known:
                self._wrong((*at, key), unknown_key(key, known))

    def _refuse_options(self, keys: Mapping[str, Any], at: Loc) -> None:
        """Refuse options of LVM's programs, none of which run, but those that only answer their questions."""
        options = keys.get("options", ())
        given = options if isinstance(options, (tuple, list)) else (options,)
        for index, option in enumerate(given):
            if option not in ("--force", "-f", "-ff", "--yes", "-y"):
                self._wrong((*at, "options", index), f"{quoted(str(option))} has no effect here; leave it out")

    def _value(self, keys: Mapping[str, Any], key: str, at: Loc, read: Callable[[Any], T], otherwise: Any) -> Any:
        if key not in keys:
            return otherwise
        try:
            return read(keys[key])
        except ValueError as error:
            self._wrong((*at, key), str(error))
            return otherwise

    def _required(self, keys: Mapping[str, Any], key: str, at: Loc, read: Callable[[Any], T], otherwise: Any) -> Any:
        if key not in keys:
            self._wrong((*at, key), "is missing; add this key")
            return otherwise
        return self._value(keys, key, at, read, otherwise)

    def _take_name(self, name: str, kind: str, at: Loc) -> None:
        if not name:
            return
        if name in self._names:
            other = self._names[name][0]
            self._wrong(at, f"{quoted(name)} is the name of a {other} too; choose another")
            return
        self._names[name] = kind, at

    def _wrong(self, at: Loc, text: str) -> None:
        if (at, text) not in self.problems:
            self.problems.append((at, text))


def _one_of(names: set[str]) -> str:
    return f"write one of: {', '.join(sorted(names - {''}))}" if names - {""} else "there is none"
