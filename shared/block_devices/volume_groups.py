"""LVM's labels and metadata of linear volumes, written as bytes: neither device-mapper nor root is needed.

The format is that of LVM2's text metadata, which has not changed since 2001: lib/format_text/layout.h and
lib/label/label.h of its source. A physical volume has, in bytes from its start:

    512        the label: where the header is
    544        the header: its identifier, size, the places of extents and of metadata
    4096       the metadata's own header, then a ring of texts, of which there is one here
    1 MiB      the first extent
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from ..build.block_devices.layout import EXTENT, EXTENTS_AT, SECTOR_BYTES, PlacedGroup, PlacedVolume
from .identity import DiskIdentity

_CRC_START, _CRC_POLYNOMIAL = 0xF597A6CF, 0xEDB88320  # INITIAL_CRC of lib/misc/crc.h
_LABEL_AT, _HEADER_AT = 512, 32
_METADATA_AT = 4096
_METADATA_BYTES = EXTENTS_AT - _METADATA_AT
_TEXT_AT = 512  # behind the metadata's header
_MAGIC = b" LVM2 x[5A%r0N*>"
_IN_USE = 1  # PV_EXT_USED
_MAKER = "goldsmith"


def volume_group_records(placed: PlacedGroup, identity: DiskIdentity, time: int) -> list[tuple[int, bytes]]:
    """Return what makes areas of a disk a volume group: bytes, each with its place on the disk. `time` in Unix seconds.

    Each physical volume has a copy of the whole metadata.
    """
    text = _text(placed, identity, time).encode() + b"\0"
    records = []
    for index, area in enumerate(placed.areas):
        own = identity.lvm(f"{placed.group.name}/{placed.group.partitions[index]}")
        records += [(area.start + _LABEL_AT, _label(own, area.size)), (area.start + _METADATA_AT, _metadata(text))]
    return records


def _label(own: str, size: int) -> bytes:
    """Return the sector with the label and the header of a physical volume."""
    header = own.replace("-", "").encode() + struct.pack("<Q", size)
    header += struct.pack("<QQ", EXTENTS_AT, 0) + bytes(16)  # to the end; no more of extents
    header += struct.pack("<QQ", _METADATA_AT, _METADATA_BYTES) + bytes(16)
    header += struct.pack("<II", 2, _IN_USE) + bytes(16)  # the header's extension, without a boot area
    sector = bytearray(SECTOR_BYTES)
    struct.pack_into("<8sQII8s", sector, 0, b"LABELONE", _LABEL_AT // SECTOR_BYTES, 0, _HEADER_AT, b"LVM2 001")
    sector[_HEADER_AT : _HEADER_AT + len(header)] = header
    struct.pack_into("<I", sector, 16, _crc(bytes(sector[20:])))
    return bytes(sector)


def _metadata(text: bytes) -> bytes:
    """Return the metadata's header and the text behind it."""
    header = bytearray(_TEXT_AT)
    struct.pack_into("<16sIQQ", header, 4, _MAGIC, 1, _METADATA_AT, _METADATA_BYTES)
    struct.pack_into("<QQII", header, 40, _TEXT_AT, len(text), _crc(text), 0)
    struct.pack_into("<I", header, 0, _crc(bytes(header[4:])))
    return bytes(header) + text


def _text(placed: PlacedGroup, identity: DiskIdentity, time: int) -> str:
    group = placed.group
    return f"""\
{group.name} {{
id = "{identity.lvm(group.name)}"
seqno = 1
format = "lvm2"
status = ["RESIZEABLE", "READ", "WRITE"]
flags = []
extent_size = {EXTENT // SECTOR_BYTES}
max_lv = 0
max_pv = 0
metadata_copies = 0
physical_volumes {{
{"".join(_physical_volumes(placed, identity))}}}
logical_volumes {{
{"".join(_logical_volume(each, placed, identity, time) for each in placed.volumes)}}}
}}
contents = "Text Format Volume Group"
version = 1
description = "{_MAKER}"
creation_host = "{_MAKER}"
creation_time = {time}
"""


def _physical_volumes(placed: PlacedGroup, identity: DiskIdentity) -> Iterator[str]:
    for index, (name, area) in enumerate(zip(placed.group.partitions, placed.areas, strict=True)):
        yield f"""
pv{index} {{
id = "{identity.lvm(f"{placed.group.name}/{name}")}"
device = "/dev/{name}"
status = ["ALLOCATABLE"]
flags = []
dev_size = {area.size // SECTOR_BYTES}
pe_start = {EXTENTS_AT // SECTOR_BYTES}
pe_count = {(area.size - EXTENTS_AT) // EXTENT}
}}
"""


def _logical_volume(volume: PlacedVolume, placed: PlacedGroup, identity: DiskIdentity, time: int) -> str:
    segments, at = "", 0
    for number, segment in enumerate(volume.segments, 1):
        segments += f"""
segment{number} {{
start_extent = {at}
extent_count = {segment.count}
type = "striped"
stripe_count = 1
stripes = [
"pv{segment.volume}", {segment.first}
]
}}
"""
        at += segment.count
    return f"""
{volume.name} {{
id = "{identity.lvm(f"{placed.group.name}/{volume.name}")}"
status = ["READ", "WRITE", "VISIBLE"]
flags = []
creation_time = {time}
creation_host = "{_MAKER}"
segment_count = {len(volume.segments)}
{segments}}}
"""


def _crc(data: bytes) -> int:
    """Return LVM's CRC-32: the usual polynomial from another start, and not inverted at the end."""
    crc = _CRC_START
    for byte in data:
        crc = crc >> 8 ^ _crc_table[(crc ^ byte) & 0xFF]
    return crc


def _table_entry(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (_CRC_POLYNOMIAL if value & 1 else 0)
    return value


_crc_table = [_table_entry(value) for value in range(256)]
