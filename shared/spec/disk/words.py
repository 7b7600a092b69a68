"""Single values of a disk's description: sizes, partition types, labels and options, checked one by one.

Each function returns the value or raises ValueError with `what is wrong; what to write instead`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...build.block_devices.description import BIOS_BOOT, EFI_SYSTEM, LINUX_ROOT, FileSystemKind
from ...names import nearest, quoted, shown_value

FILE_SYSTEM_KINDS: tuple[FileSystemKind, ...] = ("ext4", "xfs", "btrfs", "vfat", "swap")

_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([A-Za-z]{0,3})")
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?) ?%")
_UNITS: Mapping[str, int] = {  # as diskimage-builder counts them: G is 10^9, GiB is 2^30
    "": 1,
    "B": 1,
    **{f"{unit}iB": 1 << 10 * power for power, unit in enumerate("KMGT", 1)},
    **{f"{unit}{end}": 1000**power for power, unit in enumerate("KMGT", 1) for end in ("", "B")},
}
_LVM_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ?(?:([bskmgt])(?:i?b)?)?", re.IGNORECASE)
_LVM_UNITS: Mapping[str, int] = {  # as lvcreate counts them, in capitals or not; without a unit MiB
    "b": 1,
    "s": 512,
    **{unit: 1 << 10 * power for power, unit in enumerate("kmgt", 1)},
}
_EXTENTS = re.compile(r"([0-9]{1,9})(?:%(VG|PVS|FREE))?", re.IGNORECASE)

_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CODE = re.compile(r"(?:0x)?([0-9a-f]{2}|[0-9a-f]{4})")
_GPT_TYPES: Mapping[str, str] = {  # the codes of sgdisk, which diskimage-builder hands over
    "0700": "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7",
    "8200": "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f",
    "8300": "0fc63daf-8483-4772-8e79-3d69d8477de4",
    "8302": "933ac7e1-2eb4-4f13-b844-0e14e2aef915",
    "8304": LINUX_ROOT,
    "8e00": "e6d6d379-f507-44c2-a23c-238f2a3df928",
    "ea00": "bc13c2ff-59e6-4262-a352-b275fd6f7172",
    "ef00": EFI_SYSTEM,
    "ef02": BIOS_BOOT,
}
_LONGEST_LABEL: Mapping[str, int] = {"ext4": 16, "xfs": 12, "btrfs": 255, "vfat": 11, "swap": 15}
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,62}")
_VFAT_ID = re.compile(r"[0-9A-Fa-f]{4}-?[0-9A-Fa-f]{4}")
_OPTION_VALUE = re.compile(r"[A-Za-z0-9_^,=.%-]{1,100}")
_FSTAB_OPTIONS = re.compile(r"[!-\"$-~]{1,500}")
_MKFS_OPTIONS: Mapping[str, str] = {  # those that change the file system and name neither files nor places on the disk
    "ext4": "-b -i -I -m -N -O -E -J -G -g -e",
    "xfs": "-b -d -i -l -m -n -s",
    "btrfs": "-m -d -n -s -O -R -M",
    "vfat": "-F -s -R -f",
    "swap": "",
}
_WITHOUT_VALUE = frozenset(["-M"])
_KNOWN_KEYS: Mapping[tuple[str, str], frozenset[str]] = {  # where not every key is harmless
    ("ext4", "-E"): frozenset(["stride", "stripe_width", "resize", "packed_meta_blocks", "lazy_itable_init"]),
    ("ext4", "-J"): frozenset(["size", "fast_commit_size"]),
    ("xfs", "-d"): frozenset(["agcount", "agsize", "sunit", "swidth", "su", "sw", "noalign"]),
    ("xfs", "-l"): frozenset(["size", "version", "sunit", "su", "lazy-count"]),
    ("btrfs", "-m"): frozenset(["single", "dup"]),
    ("btrfs", "-d"): frozenset(["single", "dup"]),
}
_REFUSED_FEATURES = frozenset(["quota", "project", "mmp", "journal_dev", "bigalloc", "encrypt", "casefold", "verity"])


_NEEDED_EARLY = ("dev", "proc", "sys", "run", "etc", "bin", "sbin", "lib", "lib64")


def text_of(value: Any) -> str:
    """Return a text, or the number that was written without quotes."""
    if not isinstance(value, (str, int)) or value is True or value is False:
        extra = "; put it in quotes" if isinstance(value, float) else "; write text"
        raise ValueError(f"needs text, not {shown_value(value)}{extra}")
    return str(value)


def part_name(value: Any) -> str:
    """Return the name of a part of the disk."""
    text = text_of(value)
    if not _NAME.fullmatch(text):
        raise ValueError(f"{quoted(text)} is no name; write at most 63 letters, digits and _.+-")
    return text


def bytes_of(value: Any) -> int:
    """Return the bytes of a size in diskimage-builder's units."""
    text = text_of(value)
    match = _SIZE.fullmatch(text)
    unit = _UNITS.get(match[2]) if match else None
    if match is None or unit is None:
        raise ValueError(f"{quoted(text)} is no size; write one such as 550MiB, 4GiB or 10G (10^10 bytes)")
    count = int(float(match[1]) * unit) if "." in match[1] else int(match[1]) * unit
    if not 0 < count <= 1 << 50:
        raise ValueError(f"{quoted(text)} cannot be a size; write more than 0, and at most 1024TiB")
    return count


def partition_share(value: Any) -> tuple[int | None, float | None]:
    """Return the bytes of a partition, or the percent of what is free."""
    text = text_of(value)
    match = _PERCENT.fullmatch(text)
    if match is None:
        return bytes_of(value), None
    percent = float(match[1])
    if not 0 < percent <= 100:
        raise ValueError(f"{quoted(text)} is out of range; write more than 0% and at most 100%, of what is free there")
    return None, percent


def volume_size(value: Any) -> int:
    """Return the bytes of a logical volume, in lvcreate's units."""
    text = text_of(value)
    match = _LVM_SIZE.fullmatch(text)
    count = int(float(match[1]) * _LVM_UNITS[(match[2] or "m").lower()]) if match else 0
    if not 0 < count <= 1 << 50:
        raise ValueError(f"{quoted(text)} is no size of a volume; write one such as 1800M or 4G, in binary units")
    return count


def volume_extents(value: Any) -> tuple[int | None, float | None, bool]:
    """Return the extents of a logical volume, or the percent and whether it is of the free ones."""
    text = text_of(value)
    match = _EXTENTS.fullmatch(text)
    if match is None or int(match[1]) == 0 or (match[2] and int(match[1]) > 100):
        raise ValueError(f"{quoted(text)} are no extents; write a number, or one such as 28%VG or 100%FREE")
    if match[2] is None:
        return int(match[1]), None, False
    return None, float(match[1]), match[2].upper() == "FREE"


def partition_type(value: Any, table: str) -> str:
    """Return a partition's type: a GUID of a GPT, two hex digits of an MBR."""
    text = text_of(value).lower()
    if table == "gpt" and _GUID.fullmatch(text):
        return text
    match = _CODE.fullmatch(text)
    code = match[1] if match else ""
    if table == "gpt":
        found = _GPT_TYPES.get(code if len(code) == 4 else f"{code}00")
        if found is None:
            known = ", ".join(code.upper() for code in _GPT_TYPES)
            raise ValueError(f"{quoted(text)} is no type that is known; write one of {known}, or a GUID")
        return found
    if code == "ef02":
        raise ValueError("is for a GPT: behind an MBR there is room for what a BIOS starts; leave the partition out")
    code = code[:2] if len(code) == 4 and code.endswith("00") else code
    if len(code) != 2 or code in ("00", "05", "0f", "85", "ee"):
        raise ValueError(f"{quoted(text)} is no type in an MBR; write two hex digits, such as '83', '82' or 'ef'")
    return code


def label_of(value: Any, kind: str) -> str:
    """Return the label of a file system."""
    text = text_of(value)
    most = _LONGEST_LABEL[kind]
    if len(text.encode("utf-8", "surrogatepass")) > most:
        raise ValueError(f"{quoted(text)} is too long for {kind}; write at most {most} characters")
    odd = kind == "vfat" and (not text.isascii() or set(text) & set('"*+,./:;<=>?[\\]|'))
    if not text or not text.isprintable() or odd or text != text.strip():
        raise ValueError(f"{quoted(text)} is no label; write letters, digits, - and _")
    return text


def default_label(name: str, kind: str) -> str | None:
    """Return the label of a file system that is given none: its name, where that is one."""
    try:
        return label_of(name.upper() if kind == "vfat" else name, kind)
    except ValueError:
        return None


def uuid_of(value: Any, kind: str) -> str:
    """Return the UUID of a file system; vfat has one of 8 hex digits."""
    text = text_of(value)
    if kind == "vfat":
        if not _VFAT_ID.fullmatch(text):
            raise ValueError(f"{quoted(text)} is no identifier of vfat; write one such as 1A2B-3C4D")
        plain = text.replace("-", "").upper()
        return f"{plain[:4]}-{plain[4:]}"
    if not _GUID.fullmatch(text.lower()):
        raise ValueError(f"{quoted(text)} is no UUID; write one such as 4c81b2f0-7d3e-4d3a-9a6a-0b8a6c5e2f11")
    return text.lower()


def file_system_kind(value: Any) -> FileSystemKind:
    """Return the kind of a file system."""
    text = text_of(value)
    for kind in FILE_SYSTEM_KINDS:
        if text == kind:
            return kind
    raise ValueError(f"{quoted(text)} is no file system that can be made; {nearest(text, FILE_SYSTEM_KINDS)}")


def mkfs_options(value: Any, kind: str) -> tuple[str, ...]:
    """Return the options of a file system's program, of those that are known to do no more than their name says."""
    text = text_of(value)
    words, found = text.split(), list[str]()
    allowed = _MKFS_OPTIONS[kind].split()
    while words:
        option = words.pop(0)
        if option not in allowed:
            remedy = nearest(option, allowed) if allowed else "leave opts out"
            raise ValueError(f"{quoted(option)} is no option of mkfs for {kind} here; {remedy}")
        found.append(option)
        if option in _WITHOUT_VALUE:
            continue
        given = words.pop(0) if words else ""
        if not _OPTION_VALUE.fullmatch(given) or given.startswith("-"):
            raise ValueError(f"{option} needs a value of letters, digits and ,=^.%, not {quoted(given)}; write one")
        keys = {part.partition("=")[0].lstrip("^") for part in given.split(",")}
        known = _KNOWN_KEYS.get((kind, option))
        if refused := sorted(keys - known if known else keys & _REFUSED_FEATURES):
            raise ValueError(f"{option} {refused[0]} cannot be set here; leave it out")
        found.append(given)
    return tuple(found)


def mount_place(value: Any) -> str:
    """Return an absolute path without a `/` at its end."""
    text = text_of(value)
    parts = text.split("/")[1:]
    if text == "/":
        return text
    odd = not text.startswith("/") or {"", ".", ".."} & set(parts) or not text.isprintable() or " " in text
    if odd or len(text) > 200 or "\\" in text or "#" in text:
        raise ValueError(f"{quoted(text)} is no place to mount a file system; write an absolute path such as /var")
    if parts[0] in _NEEDED_EARLY:
        raise ValueError(
            f"{quoted(text)} is needed by the system before file systems are mounted; choose another place"
        )
    return text


def fstab_options(value: Any) -> str:
    """Return the fourth field of a line of fstab."""
    text = text_of(value)
    if not _FSTAB_OPTIONS.fullmatch(text):
        raise ValueError(f"{quoted(text)} are no options of mount; write them with commas and no spaces")
    return text


def whole(value: Any, most: int) -> int:
    """Return a number from 0."""
    text = text_of(value)
    if not text.isascii() or not text.isdigit() or int(text[:9]) > most:
        raise ValueError(f"cannot be {quoted(text)}; write a whole number from 0 to {most}")
    return int(text)
