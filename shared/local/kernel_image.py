"""Linux kernel files (bzImage): which version is it, and what is the kernel inside, that QEMU can start by itself.

A bzImage unpacks itself, which an emulated CPU takes long for. The vmlinux in it can be entered directly (PVH: Xen's
ABI for HVM guests, which QEMU speaks) when it was built so, and Debian's, Ubuntu's and Google's are. Layout:
Documentation/x86/boot.rst.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

from .programs import ProgramFailed, find

_SETUP_SECTORS, _MAGIC, _VERSION_AT, _PAYLOAD_AT = 0x1F1, 0x202, 0x20E, 0x248
_ELF64 = b"\x7fELF\x02\x01"
_MACHINE_X86_64 = 62
_NOTE_SEGMENT = 4
_PVH_ENTRY = 18  # XEN_ELFNOTE_PHYS32_ENTRY
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")


class NotAKernel(ValueError):
    """Not a bzImage for x86-64."""


def release(kernel: bytes) -> str:
    """Give the version as `uname -r` shows it: the name of the folder with its modules. Raises NotAKernel."""
    if kernel[_MAGIC : _MAGIC + 4] != b"HdrS":
        raise NotAKernel("it is not a Linux kernel for x86")
    start = struct.unpack_from("<H", kernel, _VERSION_AT)[0] + 0x200
    text = kernel[start : start + 256].partition(b"\0")[0].decode("ascii", "replace")
    return text.partition(" ")[0]


def unpacked(kernel: bytes, scratch: Path) -> bytes | None:
    """Give the vmlinux inside, if it can be entered by PVH; None when it cannot, or is packed in a way not known here.

    `scratch` is a folder for temporary files. Raises MissingTool, ProgramFailed.
    """
    setup = (kernel[_SETUP_SECTORS] or 4) + 1
    offset, length = struct.unpack_from("<II", kernel, _PAYLOAD_AT)
    start = setup * 512 + offset
    payload = kernel[start : start + length]
    for magic, unpack in _UNPACK.items():
        if payload.startswith(magic):
            vmlinux = unpack(payload, scratch)
            return vmlinux if _has_pvh_entry(vmlinux) else None
    return None


def _has_pvh_entry(vmlinux: bytes) -> bool:
    if vmlinux[:6] != _ELF64 or struct.unpack_from("<H", vmlinux, 18)[0] != _MACHINE_X86_64:
        return False
    at, count = struct.unpack_from("<Q", vmlinux, 32)[0], struct.unpack_from("<H", vmlinux, 56)[0]
    for index in range(count):
        kind, _, offset, _, _, size, _, _ = _PROGRAM_HEADER.unpack_from(vmlinux, at + index * _PROGRAM_HEADER.size)
        if kind == _NOTE_SEGMENT and _names_pvh(vmlinux[offset : offset + size]):
            return True
    return False


def _names_pvh(notes: bytes) -> bool:
    at = 0
    while at + 12 <= len(notes):
        name, content, kind = struct.unpack_from("<III", notes, at)
        if kind == _PVH_ENTRY and notes[at + 12 : at + 15] == b"Xen":
            return True
        at += 12 + (name + 3) // 4 * 4 + (content + 3) // 4 * 4
    return False


def _by_program(*command: str) -> Callable[[bytes, Path], bytes]:
    """Unpack by a program of the host; the kernel's build puts the unpacked size, 4 bytes, behind what that reads."""

    def unpack(payload: bytes, scratch: Path) -> bytes:
        packed = scratch / "payload"
        packed.write_bytes(payload[:-4])
        done = subprocess.run([find(command[0]), *command[1:], packed], capture_output=True, check=False)
        if done.returncode:
            raise ProgramFailed(command[0], done.returncode, done.stderr.decode(errors="replace"))
        return done.stdout

    return unpack


_UNPACK: dict[bytes, Callable[[bytes, Path], bytes]] = {
    b"\x02\x21\x4c\x18": _by_program("lz4", "-dcq"),
    b"\x28\xb5\x2f\xfd": _by_program("zstd", "-dcq"),
    b"\x1f\x8b": lambda payload, _: zlib.decompressobj(31).decompress(payload),
    b"\xfd7zXZ\0": lambda payload, _: lzma.LZMADecompressor().decompress(payload),
    b"\x5d\0\0": lambda payload, _: lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress(payload),
    b"BZh": lambda payload, _: bz2.BZ2Decompressor().decompress(payload),
}
"""How each kind of payload is unpacked, by its first bytes."""
