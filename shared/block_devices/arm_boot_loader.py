"""GRUB for machines of arm64, which boot by UEFI alone: as boot_loader.py makes it for PCs, from modules in the tree.

GRUB does not drive the serial port there: UEFI's console is on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError
from ..host.programs import run_tool
from .boot_loader import GrubHome, searching_configuration

ARM_GRUB = ("boot/grub/arm64-efi", "usr/lib/grub/arm64-efi")
"""Where a tree may have GRUB's modules: as grub-install puts them, and as the package does."""

_TARGET = "arm64-efi"
_MODULES = (
    *("part_gpt", "part_msdos", "ext2", "fat", "search", "search_fs_uuid", "normal", "configfile", "linux"),
    *("terminal", "test", "echo", "ls", "cat", "halt", "reboot", "efi_gop", "efifwsetup"),
)
_OF_A_PC = ("serial ", "terminal_")


def arm_configuration(kernel_parameters: Sequence[str], boot: str) -> str:
    """Return the text of a grub.cfg as searching_configuration() does, without a PC's serial port."""
    lines = searching_configuration(kernel_parameters, boot).splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(_OF_A_PC))


def arm_efi_program(home: GrubHome, tree: Path, scratch: Path) -> bytes:
    r"""Make \EFI\BOOT\BOOTAA64.EFI of the modules in a tree. Writes into `scratch`. InputError where there are none."""
    library = next((tree / place for place in ARM_GRUB if _is_inside(tree, tree / place / "moddep.lst")), None)
    if library is None:
        raise InputError(
            "there is no GRUB for arm64 in the tree of files, with which UEFI starts such a disk; add the package "
            "grub-efi-arm64-bin to it, or describe a disk without an EFI partition"
        )
    early = scratch / f"{_TARGET}.cfg"
    early.write_text(f"search --no-floppy --fs-uuid --set=root {home.uuid}\nset prefix=($root){home.folder}\nnormal\n")
    result = scratch / f"{_TARGET}.img"
    place = ("-O", _TARGET, "-d", library, "-c", early, "-p", home.folder, "-o", result)
    run_tool(["grub-mkimage", *place, *_MODULES, *home.modules])
    data = result.read_bytes()
    result.unlink()
    return data


def _is_inside(tree: Path, path: Path) -> bool:
    """Return whether a file of a tree is there, and no link leads out of the tree."""
    return path.is_file() and path.resolve().is_relative_to(tree.resolve())
