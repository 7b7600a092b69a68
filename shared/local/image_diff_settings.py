"""Settings that decide how an image's system behaves, read from its files: kernel parameters and sysctl."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from .image_diff_tree import FileSystem
from .root_files import RootFiles

_SYSCTL_FOLDERS = ("/etc/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d")
_SYSCTL_CONF = "/etc/sysctl.conf"
# Where boot loaders keep what they start: in the root, in /boot if that is a partition, in the EFI partition.
_GRUB = re.compile(r"/(boot/)?grub2?/grub\.cfg|/efi/([^/]+/)?grub\.cfg", re.IGNORECASE)
_ENTRY = re.compile(r"/(boot/)?loader/entries/[^/]+\.conf", re.IGNORECASE)
_FOLDERS = re.compile(r"/(boot/)?(grub2?|efi|loader)(/[^/]+)?|/boot", re.IGNORECASE)
_LINUX = re.compile(r"^\s*(?:linux|linux16|linuxefi)\s+(\S+)[ \t]*(.*)$", re.MULTILINE)
_OPTIONS = re.compile(r"^\s*options\s+(.*)$", re.MULTILINE)
_PARAMETER = re.compile(r'(?:[^\s"]|"[^"]*")+')
_LARGEST = 1 << 20  # bytes of a file that is looked into


def sysctl(root: RootFiles) -> dict[str, str]:
    """Give the value that each kernel setting has in the end, by its name with dots.

    A file of /etc hides one of the same name in /usr/lib; files are read in the order of their names, sysctl.conf last,
    and the last one to name a setting wins, as sysctl.d(5) and sysctl(8) say. What is in /run is in no image.
    """
    chosen: dict[str, str] = {}
    for folder in _SYSCTL_FOLDERS:
        entry = root.entry(folder)
        names = root.names(folder) if entry is not None and entry.is_folder else []
        for name in names:
            if name.endswith(".conf"):
                chosen.setdefault(name, f"{folder}/{name}")
    settings: dict[str, str] = {}
    for path in (*(chosen[name] for name in sorted(chosen)), _SYSCTL_CONF):
        entry = root.entry(path)
        if entry is not None and entry.is_file:  # a link to /dev/null hides a file, and has nothing in it
            settings |= _sysctl_lines(root.file_system.read(entry, _LARGEST).decode("utf-8", "replace"))
    return settings


def _sysctl_lines(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if equals and key[:1] not in ("#", ";"):
            yield _dotted(key.strip().removeprefix("-").strip()), " ".join(value.split())


def _dotted(key: str) -> str:
    """Write net/ipv4/conf/eth0.1/forwarding as net.ipv4.conf.eth0/1.forwarding: the first separator decides."""
    first = next((letter for letter in key if letter in "./"), ".")
    return key.translate(str.maketrans("/.", "./")) if first == "/" else key


def kernel_parameters(file_system: FileSystem) -> dict[str, Sequence[str]]:
    """Give the parameters of each kernel that a boot loader starts, by the file and which of its kernels it is."""
    found: dict[str, Sequence[str]] = {}
    for path, text in _boot_files(file_system):
        if _ENTRY.fullmatch(path):
            lines = [("", options) for options in _OPTIONS.findall(text)]
        else:
            lines = _LINUX.findall(text)
        for index, (kernel, parameters) in enumerate(lines, 1):
            key = f"{path} {kernel}".rstrip() + (f" ({index})" if len(lines) > 1 else "")
            found[key] = _PARAMETER.findall(parameters)
    return found


def _boot_files(file_system: FileSystem) -> Iterator[tuple[str, str]]:
    waiting: list[tuple[str, int]] = [("", file_system.root.number)]
    while waiting:
        path, number = waiting.pop()
        inode = file_system.inode(number)
        if inode.is_file and inode.size <= _LARGEST and (_GRUB.fullmatch(path) or _ENTRY.fullmatch(path)):
            yield path, file_system.read(inode).decode("utf-8", "replace")
        elif inode.is_folder and (not path or _FOLDERS.fullmatch(path)):
            below = [(f"{path}/{name}", number) for name, number in file_system.entries(inode).items()]
            waiting += sorted(below, reverse=True)


def changed_parameters(before: Sequence[str], after: Sequence[str]) -> tuple[list[str], list[str]]:
    """Give the parameters that were removed and those that were added, in their order."""
    left = list(before)
    added = []
    for parameter in after:
        if parameter in left:
            left.remove(parameter)
        else:
            added.append(parameter)
    return left, added


def changed_values(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, tuple[str | None, str | None]]:
    """Give each key whose value differs, with both; None where there is none."""
    keys = sorted({*before, *after})
    return {key: (before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)}
