"""The processors that images are made for, and what each is called by the programs that a machine of it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .errors import InputError


@dataclass(frozen=True)
class Architecture:
    """One kind of processor. `name` is Compute Engine's in lower case, as specs, plans and catalogues have it."""

    name: str
    elf: int  # e_machine of the headers of its programs
    kernel: str  # as uname(1) names it
    debian: str  # as packages of Debian and Ubuntu name it
    emulator: str  # QEMU's program
    emulator_package: str
    boot_program: str  # of UEFI, in \EFI\BOOT of a medium
    root_type: str  # the root partition's, as the Discoverable Partitions Specification has it
    console: str  # the first serial port, as Linux names it


X86_64 = Architecture(
    name="x86_64",
    elf=62,
    kernel="x86_64",
    debian="amd64",
    emulator="qemu-system-x86_64",
    emulator_package="qemu-system-x86",
    boot_program="BOOTX64.EFI",
    root_type="4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
    console="ttyS0",
)
ARM64 = Architecture(
    name="arm64",
    elf=183,
    kernel="aarch64",
    debian="arm64",
    emulator="qemu-system-aarch64",
    emulator_package="qemu-system-arm",
    boot_program="BOOTAA64.EFI",
    root_type="b921b045-1df0-41c3-af44-4c6f280d3fae",
    console="ttyAMA0",
)
ARCHITECTURES: Mapping[str, Architecture] = {each.name: each for each in (X86_64, ARM64)}


_ELF_HEAD = 20  # bytes
_MACHINES: Mapping[int, str] = {
    3: "i386",
    8: "mips",
    20: "ppc",
    21: "ppc64",
    22: "s390x",
    40: "arm",
    **{each.elf: each.name for each in ARCHITECTURES.values()},
    243: "riscv64",
    258: "loongarch64",
}  # e_machine of ELF headers (linux/elf-em.h)


def find_architecture(name: str) -> Architecture:
    """Return an architecture by its name. InputError for one that no machine of Goldsmith's has."""
    found = ARCHITECTURES.get(name)
    if found is None:
        known = " and ".join(ARCHITECTURES)
        raise InputError(f"no machine here has the architecture {name!r}; name an image for {known}")
    return found


def of_program(head: bytes) -> Architecture | None:
    """Return the architecture of a program, of which `head` are the first 20 bytes at least; None for another one."""
    return ARCHITECTURES.get(program_machine(head) or "")


def program_machine(head: bytes) -> str | None:
    """Return what a program's processor is called, of one that Goldsmith does not know too; None for no ELF file."""
    if len(head) < _ELF_HEAD or not head.startswith(b"\x7fELF"):
        return None
    number = int.from_bytes(head[18:20], "little" if head[5] == 1 else "big")
    return _MACHINES.get(number, f"machine {number} of ELF")


def of_kernel(head: bytes) -> Architecture | None:
    """Return the architecture of a Linux kernel, of which `head` are the first 518 bytes; None for a packed one."""
    if head[0x202:0x206] == b"HdrS":
        return X86_64
    return ARM64 if head[0x38:0x3C] == b"ARM\x64" else None


def of_host(machine: str) -> Architecture | None:
    """Return the architecture that uname(1) names; None for another one."""
    return next((each for each in ARCHITECTURES.values() if each.kernel == machine), None)
