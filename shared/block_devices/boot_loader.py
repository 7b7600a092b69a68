"""GRUB for both ways to boot, made from the host's grub packages without a mounted file system or root.

Neither way needs GRUB's packages in the image: the boot code reads grub.cfg of the file system that has /boot, which
names the links that kernel packages keep up to date, or looks for the newest kernel. A kernel upgrade in the image is
therefore booted without running update-grub.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import MissingTool
from ..host.programs import run_tool

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


_FIND_KERNEL = """\
for link in $boot/vmlinuz /vmlinuz; do
    if [ -z "$kernel" -a -f "$link" ]; then
        set kernel=$link
        regexp --set=1:folder '(.*)/vmlinuz' $link
        set initrd=$folder/initrd.img
    fi
done
if [ -z "$kernel" ]; then
    for file in $boot/vmlinuz-*; do
        if [ -f "$file" ]; then
            if [ -z "$newest" ]; then
                set newest=$file
            elif [ "$file" -nt "$newest" ]; then
                set newest=$file
            fi
        fi
    done
    set kernel=$newest
    regexp --set=1:version 'vmlinuz-(.*)' "$kernel"
    for file in $boot/initrd.img-$version $boot/initramfs-$version.img $boot/initrd-$version; do
        if [ -f "$file" ]; then set initrd=$file; fi
    done
fi
"""


@dataclass(frozen=True)
class GrubHome:
    """Where GRUB finds its configuration: on the file system of a UUID, in `folder`; `modules` beside the usual."""

    uuid: str
    folder: str = "/boot/grub"
    modules: tuple[str, ...] = ()


@dataclass(frozen=True)
class BiosBoot:
    """The boot loader for a PC BIOS: `boot_code` for bytes 0 to 440 of the disk, `core` for its own place behind."""

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


def searching_configuration(kernel_parameters: Sequence[str], boot: str) -> str:
    """Return the text of a grub.cfg that boots the kernel of the links in `boot` or `/`, else the newest in `boot`.

    `boot` is the folder of kernels on its own file system: /boot, or nothing where that is mounted at /boot.
    """
    return f"""\
# Read by the boot loader on every boot.
serial --unit=0 --speed=115200
terminal_input console serial
terminal_output console serial
set timeout=0
set gfxpayload=keep
set boot={boot}
{_FIND_KERNEL}menuentry "Linux" {{
    linux $kernel {" ".join(kernel_parameters)}
    if [ -n "$initrd" ]; then initrd $initrd; fi
}}
"""


def bios_boot(home: GrubHome, core_sector: int, scratch: Path) -> BiosBoot:
    """Make the boot code of a disk that has the core image from `core_sector` on. Writes into `scratch`."""
    core = bytearray(_image("i386-pc", "grub-pc-bin", home, _MODULES + _BIOS_MODULES, scratch))
    core += bytes(-len(core) % GRUB_SECTOR)
    struct.pack_into("<QHH", core, _BLOCK_LIST_AT, core_sector + 1, len(core) // GRUB_SECTOR - 1, _CORE_SEGMENT)
    boot = bytearray((_GRUB_LIBRARY / "i386-pc" / "boot.img").read_bytes()[:_BOOT_CODE_SIZE])
    struct.pack_into("<Q", boot, _KERNEL_SECTOR_AT, core_sector)
    struct.pack_into("<2B", boot, _DRIVE_CHECK_AT, 0x90, 0x90)
    return BiosBoot(bytes(boot), bytes(core))


def efi_program(home: GrubHome, scratch: Path) -> bytes:
    r"""Make \EFI\BOOT\BOOTX64.EFI. Writes into `scratch`."""
    return _image("x86_64-efi", "grub-efi-amd64-bin", home, _MODULES + _EFI_MODULES, scratch)


def _image(target: str, package: str, home: GrubHome, modules: Sequence[str], scratch: Path) -> bytes:
    if not (_GRUB_LIBRARY / target / "moddep.lst").exists():
        raise MissingTool(f"GRUB for {target}", package)
    early = scratch / f"{target}.cfg"
    early.write_text(f"search --no-floppy --fs-uuid --set=root {home.uuid}\nset prefix=($root){home.folder}\nnormal\n")
    result = scratch / f"{target}.img"
    wanted = [*modules, *home.modules]
    run_tool(["grub-mkimage", "-O", target, "-c", early, "-p", home.folder, "-o", result, *wanted])
    data = result.read_bytes()
    result.unlink()
    return data
