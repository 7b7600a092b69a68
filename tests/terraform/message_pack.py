"""MessagePack, as far as Terraform's values need it: how they travel between Terraform and its providers."""

from __future__ import annotations

import struct
from typing import Any


class Unknown:
    """A value that is known after the apply."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unknown)

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = Unknown()


def pack(value: Any) -> bytes:
    """Encode a value."""
    if value is None:
        return b"\xc0"
    if isinstance(value, Unknown):
        return b"\xd4\x00\x00"  # an extension of type 0
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return b"\xd3" + struct.pack(">q", value)
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, str):
        data = value.encode()
        return b"\xdb" + struct.pack(">I", len(data)) + data
    if isinstance(value, list):
        return b"\xdd" + struct.pack(">I", len(value)) + b"".join(pack(entry) for entry in value)
    if isinstance(value, dict):
        pairs = b"".join(pack(key) + pack(entry) for key, entry in value.items())
        return b"\xdf" + struct.pack(">I", len(value)) + pairs
    raise TypeError(f"{type(value).__name__} has no place in Terraform's values")


def unpack(data: bytes) -> Any:
    """Decode the one value that `data` holds. ValueError for anything else."""
    value, end = _read(data, 0)
    if end != len(data):
        raise ValueError(f"{len(data) - end} bytes follow the value")
    return value


_NUMBERS = {0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q"} | {
    0xD0: ">b",
    0xD1: ">h",
    0xD2: ">i",
    0xD3: ">q",
}
_SINGLE = {0xC0: None, 0xC2: False, 0xC3: True}
_LENGTHS = {  # first byte: kind, bytes of the length
    **{0xC4 + n: ("bytes", 1 << n) for n in range(3)},
    **{0xC7 + n: ("extension", 1 << n) for n in range(3)},
    **{0xD9 + n: ("text", 1 << n) for n in range(3)},
    **{0xDC + n: ("list", 2 << n) for n in range(2)},
    **{0xDE + n: ("map", 2 << n) for n in range(2)},
}


def _read(data: bytes, at: int) -> tuple[Any, int]:
    first = data[at]
    at += 1
    if first < 0x80 or first >= 0xE0:
        return first - (0x100 if first >= 0xE0 else 0), at
    if first in _SINGLE:
        return _SINGLE[first], at
    if first in _NUMBERS:
        end = at + struct.calcsize(_NUMBERS[first])
        return struct.unpack(_NUMBERS[first], data[at:end])[0], end
    if 0xD4 <= first <= 0xD8:  # extensions of 1, 2, 4, 8, 16 bytes: refined or not, all are unknown values
        return UNKNOWN, at + 1 + (1 << first - 0xD4)
    kind, length, at = _length(first, data, at)
    if kind == "extension":
        return UNKNOWN, at + 1 + length
    if kind in ("text", "bytes"):
        found = data[at : at + length]
        return (found.decode() if kind == "text" else found), at + length
    return _collection(kind, length, data, at)


def _length(first: int, data: bytes, at: int) -> tuple[str, int, int]:
    if first < 0x90:
        return "map", first & 0x0F, at
    if first < 0xA0:
        return "list", first & 0x0F, at
    if first < 0xC0:
        return "text", first & 0x1F, at
    kind, size = _LENGTHS[first]
    return kind, int.from_bytes(data[at : at + size], "big"), at + size


def _collection(kind: str, length: int, data: bytes, at: int) -> tuple[Any, int]:
    entries = []
    for _ in range(length * (2 if kind == "map" else 1)):
        entry, at = _read(data, at)
        entries.append(entry)
    return (dict(zip(entries[::2], entries[1::2], strict=True)) if kind == "map" else entries), at
