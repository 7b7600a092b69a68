"""GRUB for both ways to boot, made from the host's grub packages without a mounted file system or root.

Neither way needs GRUB's packages in the image: the boot code reads /boot/grub/grub.cfg of the root file system, which
names /vmlinuz and /initrd.img, the links that Debian's kernel packages keep up to date. A kernel upgrade in the image
is therefore booted without running update-grub.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import MissingTool
from ...host.programs import run_tool

GRUB_SECTOR = 512
_GRUB_LIBRARY = Path("/usr/lib/grub")
_MODULES = (
    "part_gpt",
    "part_msdos",
    "ext2",
    "fat",
    "search",
    "search_fs_uuid",
    "normal",
    "configfile",
    "linux",
    "serial",
    "terminal",
    "test",
    "echo",
    "ls",
    "cat",
    "halt",
    "reboot",
)
_BIOS_MODULES = ("biosdisk",)
_EFI_MODULES = ("efi_gop", "efifwsetup")

# Offsets in boot.img and diskboot.img, from grub-core/boot/i386/pc/{boot,diskboot}.S and include/grub/i386/pc/boot.h.
_BOOT_CODE_SIZE = 440  # what follows is the disk signature and the partition table
_KERNEL_SECTOR_AT = 0x5C  # u64: where core.img starts
_DRIVE_CHECK_AT = 0x66  # a jump that trusts the BIOS's drive number; two no-ops make the code check it
_BLOCK_LIST_AT = GRUB_SECTOR - 12  # in core.img's first sector: u64 start, u16 sectors, u16 segment
_CORE_SEGMENT = 0x820  # 0x8000 + one sector, where diskboot.img loads the rest


@dataclass(frozen=True)
class BiosBoot:
    """The boot loader for a PC BIOS: `boot_code` for bytes 0 to 440 of the disk, `core` for the BIOS boot partition."""

    boot_code: bytes
    core: bytes


def configuration(kernel_parameters: Sequence[str]) -> str:
    """Return the text of /boot/grub/grub.cfg: boot at once, on the serial port as well as on a screen."""
    return f"""\
# Read by the boot loader on every boot. /vmlinuz and /initrd.img are links to the newest installed kernel.
serial --unit=0 --speed=115200
terminal_input console serial
terminal_output console serial
set timeout=0
set gfxpayload=keep
menuentry "Linux" {{
    linux /vmlinuz {" ".join(kernel_parameters)}
    initrd /initrd.img
}}
"""


def bios_boot(root_uuid: str, core_sector: int, scratch: Path) -> BiosBoot:
    """Make the boot code of a disk whose BIOS boot partition starts at `core_sector`. Writes into `scratch`."""
    core = bytearray(_image("i386-pc", "grub-pc-bin", root_uuid, _MODULES + _BIOS_MODULES, scratch))
    core += bytes(-len(core) % GRUB_SECTOR)
    struct.pack_into("<QHH", core, _BLOCK_LIST_AT, core_sector + 1, len(core) // GRUB_SECTOR - 1, _CORE_SEGMENT)
    boot = bytearray((_GRUB_LIBRARY / "i386-pc" / "boot.img").read_bytes()[:_BOOT_CODE_SIZE])
    struct.pack_into("<Q", boot, _KERNEL_SECTOR_AT, core_sector)
    struct.pack_into("<2B", boot, _DRIVE_CHECK_AT, 0x90, 0x90)
    return BiosBoot(bytes(boot), bytes(core))


def efi_program(root_uuid: str, scratch: Path) -> bytes:
    r"""Make \EFI\BOOT\BOOTX64.EFI. Writes into `scratch`."""
    return _image("x86_64-efi", "grub-efi-amd64-bin", root_uuid, _MODULES + _EFI_MODULES, scratch)


def _image(target: str, package: str, root_uuid: str, modules: Sequence[str], scratch: Path) -> bytes:
    if not (_GRUB_LIBRARY / target / "moddep.lst").exists():
        raise MissingTool(f"GRUB for {target}", package)
    early = scratch / f"{target}.cfg"
    early.write_text(f"search --no-floppy --fs-uuid --set=root {root_uuid}\nset prefix=($root)/boot/grub\nnormal\n")
    result = scratch / f"{target}.img"
    run_tool(["grub-mkimage", "-O", target, "-c", early, "-p", "/boot/grub", "-o", result, *modules])
    data = result.read_bytes()
    result.unlink()
    return data
