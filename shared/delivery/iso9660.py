"""Write an ISO 9660 file system with Rock Ridge as a stream, without mkisofs, which a function does not have.

The sizes of all files are known before the first byte is written. Every file therefore has its place at once, and
contents of any length pass through without being held. Names are kept as given (Rock Ridge). The owner is root, and
only root may read: the cidata holds the key that signs reports. Equal files give equal bytes.

ECMA-119 defines the sectors: 16 and 17 describe the volume, then come two path tables, the root folder, and the files
in the order of their names. IEEE P1281 and P1282 (SUSP, RRIP) define the fields behind each record of the folder.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ..errors import InputError

ISO_SECTOR = 2048
FILE_LIMIT = (1 << 32) - 1  # bytes; a length has 32 bits

_DESCRIPTOR, _TABLE_LITTLE, _TABLE_BIG, _ROOT, _FIRST_FILE = 16, 18, 19, 20, 21
_FILE_MODE, _FOLDER_MODE = 0o100400, 0o040500
_STAMP = bytes([80, 1, 1, 0, 0, 0, 0])  # 1980-01-01; any fixed time would do
_NO_DATE = b"0" * 16 + b"\0"
_SELF, _PARENT = b"\0", b"\1"


@dataclass(frozen=True)
class FileStream:
    """A file's contents that need not be in memory: exactly `size` bytes."""

    size: int
    parts: Iterable[bytes]


Content = bytes | FileStream


def image_size(files: Mapping[str, Content]) -> int:
    """Return the number of bytes that iso_image() yields."""
    return ISO_SECTOR * (_FIRST_FILE + sum(_sectors(_size(content)) for content in files.values()))


def iso_image(files: Mapping[str, Content], label: str) -> Iterator[bytes]:
    """Yield the volume `label` with these files, at most about fifteen with plain names of up to 100 characters.

    InputError for a file of 4 GiB or more, and for a stream that is not as long as it was said to be.
    """
    ordered = sorted(files.items())
    for name, content in ordered:
        if _size(content) > FILE_LIMIT:
            raise InputError(f"{name} has {_size(content)} bytes; a file of this disk can have {FILE_LIMIT} at most")
    yield bytes(ISO_SECTOR * _DESCRIPTOR)
    yield _volume_descriptor(label, image_size(files) // ISO_SECTOR)
    yield (b"\xffCD001\1").ljust(ISO_SECTOR, b"\0")
    yield _path_table("<").ljust(ISO_SECTOR, b"\0")
    yield _path_table(">").ljust(ISO_SECTOR, b"\0")
    yield _root_folder(ordered).ljust(ISO_SECTOR, b"\0")
    for name, content in ordered:
        yield from _padded(name, content)


def _size(content: Content) -> int:
    return len(content) if isinstance(content, bytes) else content.size


def _sectors(size: int) -> int:
    return -(-size // ISO_SECTOR)


def _padded(name: str, content: Content) -> Iterator[bytes]:
    parts = (content,) if isinstance(content, bytes) else content.parts
    left = _size(content)
    for part in parts:
        left -= len(part)
        if left < 0:
            break
        yield part
    if left:
        raise InputError(
            f"{name} does not have the {_size(content)} bytes that it was said to have; start the build again"
        )
    yield bytes(-_size(content) % ISO_SECTOR)


def _both(value: int, width: str) -> bytes:
    """Encode a number with its low byte first, and again with its high byte first."""
    return struct.pack("<" + width, value) + struct.pack(">" + width, value)


def _volume_descriptor(label: str, sectors: int) -> bytes:
    blank = b" "
    return b"".join(
        [
            b"\1CD001\1\0",
            blank * 32,  # system
            label.encode("ascii").ljust(32),
            bytes(8),
            _both(sectors, "I"),
            bytes(32),
            _both(1, "H") + _both(1, "H") + _both(ISO_SECTOR, "H"),  # volumes of the set, this one's number, block size
            _both(len(_path_table("<")), "I"),
            struct.pack("<II", _TABLE_LITTLE, 0) + struct.pack(">II", _TABLE_BIG, 0),
            _record(_SELF, _ROOT, ISO_SECTOR, folder=True),
            blank * (4 * 128),  # set, publisher, preparer, application
            blank * (3 * 37),  # names of files about them
            _NO_DATE * 4,  # created, modified, expires, effective
            b"\1",
        ]
    ).ljust(ISO_SECTOR, b"\0")


def _path_table(order: str) -> bytes:
    """Return the table of all folders: the root, which is its own parent."""
    return struct.pack(order + "BBIH", 1, 0, _ROOT, 1) + _SELF + b"\0"


def _root_folder(files: list[tuple[str, Content]]) -> bytes:
    own = _attributes(_FOLDER_MODE, 2) + _stamps()
    # SP announces such fields, ER names them
    records = _record(_SELF, _ROOT, ISO_SECTOR, folder=True, fields=_field(b"SP", b"\xbe\xef\0") + own + _extension())
    records += _record(_PARENT, _ROOT, ISO_SECTOR, folder=True, fields=own)
    sector = _FIRST_FILE
    for number, (name, content) in enumerate(files):
        fields = _attributes(_FILE_MODE, 1) + _stamps() + _field(b"NM", b"\0" + name.encode("ascii"))
        records += _record(b"F%07d.;1" % number, sector, _size(content), fields=fields)
        sector += _sectors(_size(content))
    if len(records) > ISO_SECTOR:
        raise InputError(f"{len(files)} files do not fit into one folder of this disk")
    return records


def _record(name: bytes, sector: int, size: int, *, folder: bool = False, fields: bytes = b"") -> bytes:
    body = b"\0" + _both(sector, "I") + _both(size, "I") + _STAMP
    body += bytes([2 if folder else 0, 0, 0]) + _both(1, "H") + bytes([len(name)]) + name
    body += b"\0" * (len(name) % 2 == 0) + fields
    body += b"\0" * (len(body) % 2 == 0)
    return bytes([len(body) + 1]) + body


def _field(signature: bytes, data: bytes) -> bytes:
    return signature + bytes([len(data) + 4, 1]) + data


def _attributes(mode: int, links: int) -> bytes:
    return _field(b"PX", _both(mode, "I") + _both(links, "I") + _both(0, "I") + _both(0, "I"))


def _stamps() -> bytes:
    return _field(b"TF", b"\x0e" + _STAMP * 3)  # modified, accessed, attributes changed


def _extension() -> bytes:
    name = b"RRIP_1991A"
    return _field(b"ER", bytes([len(name), 0, 0, 1]) + name)
