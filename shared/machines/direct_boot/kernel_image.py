"""Read Linux kernel files: the version, and what QEMU starts of it.

A bzImage for x86-64 unpacks itself, which takes long on an emulated CPU. QEMU can enter the vmlinux in it directly, by
PVH (Xen's ABI for HVM guests), if it was built for that, as those of Debian, Ubuntu and Google are. Layout:
Documentation/x86/boot.rst. A kernel for arm64 is an Image (Documentation/arm64/booting.rst), which may be compressed as
a whole, or within a program of UEFI that unpacks it (zboot-header.S).
"""

from __future__ import annotations

import re
import struct

from ...architectures import ARM64, X86_64, of_kernel
from ...budget import Budget
from .packed_data import MAGICS, unpack_bytes

_SETUP_SECTORS, _VERSION_AT, _PAYLOAD_AT = 0x1F1, 0x20E, 0x248
_ELF64 = b"\x7fELF\x02\x01"
_NOTE_SEGMENT = 4
_LONGEST_NOTES = 1 << 20  # bytes
_PVH_ENTRY = 18  # XEN_ELFNOTE_PHYS32_ENTRY
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")

_ZBOOT_MAGIC, _ZBOOT_PAYLOAD_AT = b"zimg", 8  # the former at byte 4; at the latter offset and length of the Image
_BANNER = re.compile(rb"Linux version ([!-~]{1,200}) ")  # linux_banner of init/version.c


class NotAKernel(ValueError):
    """The file is not a kernel for x86-64 or arm64."""


def plain_image(kernel: bytes, budget: Budget) -> bytes:
    """Return a kernel for arm64 that is compressed as its Image, and any other file unchanged.

    Raises NotAKernel for a damaged one, MissingTool.
    """
    try:
        if kernel[:2] == b"MZ" and kernel[4:8] == _ZBOOT_MAGIC:
            offset, length = struct.unpack_from("<II", kernel, _ZBOOT_PAYLOAD_AT)
            packed = kernel[offset : offset + length]
        else:
            packed = kernel
        return bytes(unpack_bytes(packed, budget)) if packed.startswith(MAGICS) else kernel
    except (struct.error, ValueError) as error:
        raise NotAKernel(f"its kernel is damaged: {error}") from error


def release(kernel: bytes) -> str:
    """Return the version as `uname -r` shows it, which names the folder of the modules. Raises NotAKernel."""
    kind = of_kernel(kernel)
    if kind == ARM64:
        found = _BANNER.search(kernel)
        if found is None:
            raise NotAKernel("its kernel does not tell its version")
        return found[1].decode("ascii")
    if kind != X86_64:
        raise NotAKernel("it is not a Linux kernel for x86-64 or arm64")
    start = struct.unpack_from("<H", kernel, _VERSION_AT)[0] + 0x200
    text = kernel[start : start + 256].partition(b"\0")[0].decode("ascii", "replace")
    return text.partition(" ")[0]


def unpacked(kernel: bytes, budget: Budget) -> bytes | bytearray | None:
    """Return the vmlinux inside, or None if it cannot be entered by PVH, is packed in an unknown way, or for arm64.

    Raises NotAKernel for a damaged kernel, MissingTool.
    """
    if of_kernel(kernel) != X86_64:
        return None
    try:
        setup = (kernel[_SETUP_SECTORS] or 4) + 1
        offset, length = struct.unpack_from("<II", kernel, _PAYLOAD_AT)
        start = setup * 512 + offset
        payload = kernel[start : start + length]
        if not payload.startswith(MAGICS):
            return None
        # The kernel's build adds the unpacked size, 4 bytes, behind the data of lz4 and zstd.
        vmlinux = unpack_bytes(payload, budget, behind=4)
        return vmlinux if _has_pvh_entry(vmlinux, budget) else None
    except (struct.error, IndexError, ValueError) as error:
        raise NotAKernel(f"its kernel is damaged: {error}") from error


def _has_pvh_entry(vmlinux: bytes | bytearray, budget: Budget) -> bool:
    if vmlinux[:6] != _ELF64 or struct.unpack_from("<H", vmlinux, 18)[0] != X86_64.elf:
        return False
    at, count = struct.unpack_from("<Q", vmlinux, 32)[0], struct.unpack_from("<H", vmlinux, 56)[0]
    for index in range(count):
        kind, _, offset, _, _, size, _, _ = _PROGRAM_HEADER.unpack_from(vmlinux, at + index * _PROGRAM_HEADER.size)
        if kind == _NOTE_SEGMENT and _names_pvh(vmlinux[offset : offset + min(size, _LONGEST_NOTES)], budget):
            return True
    return False


def _names_pvh(notes: bytes | bytearray, budget: Budget) -> bool:
    at = 0
    while at + 12 <= len(notes):
        budget.step()
        name, content, kind = struct.unpack_from("<III", notes, at)
        if kind == _PVH_ENTRY and notes[at + 12 : at + 15] == b"Xen":
            return True
        at += 12 + (name + 3) // 4 * 4 + (content + 3) // 4 * 4
    return False
