"""Find the kernel that a system would start, and the modules of it that a machine needs, among the system's files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ...architectures import X86_64, Architecture, of_kernel
from ...budget import Budget
from ...errors import GoldsmithError, ImageFileError
from . import kernel_image
from .initramfs import CpioMember
from .kernel_image import NotAKernel
from .kernel_modules import TABLES, Modules, NoSuchModule, module_name, unpacked_module

MENUS = ("/boot/grub/grub.cfg", "/boot/grub2/grub.cfg")

_LARGEST_KERNEL = 64 << 20  # bytes; Debian's has 8 MB
_LARGEST_MENU = 1 << 20  # bytes
_LARGEST_TABLE = 16 << 20  # bytes; Debian's largest has 1.5 MB


class DirectBootImpossible(GoldsmithError):
    """The image's kernel cannot be started without firmware; the text says why."""


class SystemFiles(Protocol):
    """The files of a system by absolute paths, links followed inside of it, as RootFiles has them."""

    def exists(self, path: str) -> bool:
        """Return whether there is anything at a path."""

    def names(self, folder: str) -> list[str]:
        """List a folder's names in order. NotFound when it is none."""

    def read_all(self, paths: Iterable[str], limit: int | None = None) -> dict[str, bytes]:
        """Read many files, or the first `limit` bytes of each; those that do not exist are left out."""


@dataclass(frozen=True)
class InstalledKernel:
    """A kernel with the folder and the tables of its modules. `subject` is what errors call the system."""

    image: bytes
    folder: str
    tables: Mapping[str, bytes]
    files: SystemFiles
    subject: Path

    def modules(self, wanted: Iterable[str], budget: Budget) -> dict[str, CpioMember]:
        """Read the modules to load, under names that sort in the order of loading, and the device nodes.

        DirectBootImpossible, ImageFileError, ValueError for a damaged one.
        """
        tables = {name: data.decode("utf-8", "replace") for name, data in self.tables.items()}
        modules = Modules.read(tables, budget)
        try:
            order = modules.order(wanted)
        except NoSuchModule as error:
            raise DirectBootImpossible(f"{self.subject}: its kernel has no driver {error}") from error
        members = {f"nodes/{path}": CpioMember.character_device(*numbers) for path, numbers in modules.nodes.items()}
        for number, path in enumerate(order):
            name = f"{self.folder}/{path}"
            data = self.files.read_all([name]).get(name)
            if data is None:
                raise DirectBootImpossible(f"{self.subject}: {name} is missing")
            budget.keep(len(data))
            unpacked = unpacked_module(path, data, budget)
            members[f"modules/{number:03}-{module_name(path)}.ko"] = CpioMember.file(unpacked)
        return members


def find_kernel(files: SystemFiles, subject: Path, budget: Budget, wanted: Architecture = X86_64) -> InstalledKernel:
    """Find the kernel of the boot loader's menu, otherwise the newest in /boot, otherwise the target of /vmlinuz.

    DirectBootImpossible, also for another architecture's than the wanted one.
    """
    try:
        image = kernel_image.plain_image(_default_kernel(files, subject), budget)
        release = kernel_image.release(image)
    except (NotAKernel, ImageFileError) as error:
        raise DirectBootImpossible(f"{subject}: {error}") from error
    kind = of_kernel(image)
    if kind is not None and kind != wanted:
        raise DirectBootImpossible(f"{subject}: its kernel is for {kind.name}, and the machine has {wanted.name}")
    folder = _modules_folder(files, release, subject)
    contents = files.read_all([f"{folder}/{name}" for name in TABLES], _LARGEST_TABLE)
    tables = {path.rpartition("/")[2]: data for path, data in contents.items()}
    return InstalledKernel(image, folder, tables, files, subject)


def _default_kernel(files: SystemFiles, subject: Path) -> bytes:
    names = files.names("/boot") if files.exists("/boot") else []
    versions = [name for name in names if name.startswith("vmlinuz-") and "rescue" not in name]
    candidates = [f"/boot/{name}" for name in sorted(versions, key=_version_key, reverse=True)]
    for path in (*_first_of_menu(files), *candidates, "/vmlinuz", "/boot/vmlinuz"):
        image = files.read_all([path], _LARGEST_KERNEL + 1).get(path, b"")
        if 0 < len(image) <= _LARGEST_KERNEL:
            return image
    raise DirectBootImpossible(f"{subject}: there is no kernel in /boot of its root file system")


def _first_of_menu(files: SystemFiles) -> list[str]:
    """Return the paths at which the kernel of GRUB's first entry may lie; none where another entry may be the default.

    GRUB's paths are relative to the kernel's file system, which is /boot where that is one of its own.
    """
    for text in files.read_all(MENUS, _LARGEST_MENU).values():
        lines = [line.split() for line in text.decode("utf-8", "replace").splitlines()]
        settings = [words[1].partition("=") for words in lines if len(words) == 2 and words[0] == "set"]
        chosen = {value.strip("\"'") for name, _, value in settings if name == "default"} - {"0", "${next_entry}"}
        kernels = [words[1] for words in lines if len(words) > 1 and words[0] in ("linux", "linux16", "linuxefi")]
        if kernels and not chosen and ["blscfg"] not in lines:
            return [kernels[0], f"/boot{kernels[0]}"] if kernels[0].startswith("/") else []
    return []


def _version_key(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts 6.1.0-9 before 6.1.0-10, with runs of digits as numbers."""
    parts: list[tuple[int, str]] = []
    for character in name:
        if character.isdecimal() and parts and parts[-1][1] == "":
            parts[-1] = (parts[-1][0] * 10 + int(character), "")
        else:
            parts.append((int(character), "") if character.isdecimal() else (-1, character))
    return parts


def _modules_folder(files: SystemFiles, release: str, subject: Path) -> str:
    for folder in (f"/usr/lib/modules/{release}", f"/lib/modules/{release}"):
        if files.exists(f"{folder}/modules.dep"):
            return folder
    raise DirectBootImpossible(f"{subject}: the modules of its kernel {release} are not in /lib/modules")
