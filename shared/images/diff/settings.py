"""Settings that decide how an image's system behaves, read from its files: kernel parameters and sysctl."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from ...disks.root_files import RootFiles
from .tree import FileSystem

_SYSCTL_FOLDERS = ("/etc/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d")
_SYSCTL_CONF = "/etc/sysctl.conf"
# Where boot loaders keep what they start: in the root, in /boot if that is a partition, in the EFI partition.
_GRUB = re.compile(r"/(boot/)?grub2?/grub\.cfg|/efi/([^/]+/)?grub\.cfg", re.IGNORECASE)
_ENTRY = re.compile(r"/(boot/)?loader/entries/[^/]+\.conf", re.IGNORECASE)
_FOLDERS = re.compile(r"/(boot/)?(grub2?|efi|loader)(/[^/]+)?|/boot", re.IGNORECASE)
_LINUX = re.compile(r"^[ \t]*(?:linux|linux16|linuxefi)[ \t]+(\S+)[ \t]*(.*)$", re.MULTILINE)
_OPTIONS = re.compile(r"^[ \t]*options[ \t]+(.*)$", re.MULTILINE)
_PARAMETER = re.compile(r'(?:[^\s"]|"[^"]*(?:"|\Z))+')
_TEXT_BYTES = 128  # of memory that a short text takes in a list or a map
_LARGEST = 1 << 20  # bytes of a file that is looked into


def sysctl(root: RootFiles) -> dict[str, str]:
    """Return the value that each kernel setting has in the end, by its name with dots.

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
            text = root.file_system.read(entry, _LARGEST).decode("utf-8", "replace")
            before = len(settings)
            settings |= _sysctl_lines(text)
            root.file_system.budget.keep(2 * len(text) + 2 * _TEXT_BYTES * (len(settings) - before))
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


def boot_parameters(file_system: FileSystem) -> dict[str, Sequence[str]]:
    """Return the parameters of each kernel that a boot loader starts, by the file and which of its kernels it is."""
    found: dict[str, Sequence[str]] = {}
    for path, text in _boot_files(file_system):
        if _ENTRY.fullmatch(path):
            lines = [("", options) for options in _OPTIONS.findall(text)]
        else:
            lines = _LINUX.findall(text)
        for index, (kernel, parameters) in enumerate(lines, 1):
            key = f"{path} {kernel}".rstrip() + (f" ({index})" if len(lines) > 1 else "")
            words = _PARAMETER.findall(parameters)
            file_system.budget.keep(_TEXT_BYTES * (1 + len(words)) + 2 * len(key) + len(parameters))
            found[key] = words
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
    """Return the parameters that were removed and those that were added, in their order."""
    return _without(before, after), _without(after, before)


def _without(parameters: Sequence[str], others: Sequence[str]) -> list[str]:
    """Leave each of the others out as many times as it is there: the first ones of those that are alike."""
    left_out = Counter(others)
    rest = []
    for parameter in parameters:
        if left_out[parameter]:
            left_out[parameter] -= 1
        else:
            rest.append(parameter)
    return rest


def changed_values(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, tuple[str | None, str | None]]:
    """Return each key whose value differs, with both; None where there is none."""
    keys = sorted({*before, *after})
    return {key: (before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)}
