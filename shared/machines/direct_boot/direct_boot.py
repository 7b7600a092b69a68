"""Boot an image's own kernel without its boot loader. The files for QEMU are made once for each kernel, and kept.

    HOME/cache/boot/KEY/kernel     vmlinux, or the bzImage where that cannot be entered directly
    HOME/cache/boot/KEY/initrd     busybox, the modules that root and CIDATA need, and guest/init

The busybox is this host's, or the image's own where that is for another architecture. KEY is a hash over the kernel,
the table of its modules and everything that is added, so that an entry never changes.
guest/init mounts the image's root and hands over to the image's systemd; nothing is written into the image. For an
image whose kernel cannot be read or started this way, DirectBootImpossible is raised, and it boots by firmware instead.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...architectures import X86_64, Architecture, of_host, of_program
from ...budget import KERNEL_BOUNDS, Budget
from ...disks.disk import Disk
from ...disks.root_files import RootFiles, RootUnreadable
from ...errors import EnvironmentFault, ImageFileError
from ...host.programs import find_tool
from ...host.scratch import faults, force, locked, scratch_folder
from . import kernel_image, units
from .initramfs import CpioMember, archive
from .installed_kernel import DirectBootImpossible, find_kernel

GUEST = Path(__file__).parent / "guest"
APPLETS = ("cat", "cp", "insmod", "ip", "mkdir", "mount", "poweroff", "sh", "sleep", "switch_root", "usleep")
DRIVERS = ("nvme", "virtio_pci", "virtio_net", "isofs")  # disks, network, CIDATA; the root's file system comes to these
QUIET = ("quiet", "systemd.show_status=false")

PARAMETERS = (
    "net.ifnames=0",  # the card is up before udev sees it, and cannot be renamed then
    "cryptomgr.notests",  # 0.4 s of an emulated CPU
    "init_on_alloc=0",
    "rcupdate.rcu_expedited=1",  # mounts and ends of processes wait for RCU, and nothing else runs meanwhile
    "random.trust_cpu=on",  # without it, programs wait 5 s for random numbers
    "systemd.condition-first-boot=false",  # on a first boot systemd presets all units, which changes the image
    *QUIET,
)
OF_X86_64 = ("no_timer_check",)  # the kernel's test of the timer panics on a busy host, where that may be late

BUSYBOXES = ("/bin/busybox", "/usr/bin/busybox")
_LARGEST_BUSYBOX = 16 << 20  # bytes; Debian's has 2 MB
_ELF64, _PROGRAM_HEADERS_AT, _PROGRAM_HEADER, _LOADER_SEGMENT = 2, 32, 56, 3  # of ELF's headers


@dataclass(frozen=True)
class DirectBoot:
    """The files that QEMU starts, and the part of the kernel's command line that all machines share."""

    kernel: Path
    initrd: Path
    parameters: tuple[str, ...]

    def command_line(self, *, internet: bool, cidata: bool = True) -> str:
        """Return the kernel's whole command line."""
        choices = {"internet": internet, "cidata": cidata}
        said = (f"goldsmith.{name}={'yes' if choice else 'no'}" for name, choice in choices.items())
        return " ".join([*self.parameters, *said])


def prepare_boot(disk: Path, home: Path, architecture: Architecture = X86_64) -> DirectBoot:
    """Find or make what a disk needs to boot directly. Raises DirectBootImpossible, MissingTool, NoSpace."""
    try:
        root = Disk(disk).root
    except RootUnreadable as error:
        raise DirectBootImpossible(str(error)) from error
    budget = Budget(KERNEL_BOUNDS, disk)
    kernel = find_kernel(root, disk, budget, architecture)
    busybox = static_busybox() if runs_here(architecture) else _busybox_of(root, disk, architecture)
    added = {**_overlay(), **_programs(busybox)}
    entry = home / "cache" / "boot" / _key(kernel.image, kernel.tables, added)
    if not _is_whole(entry):
        try:
            modules = kernel.modules([*DRIVERS, str(root.partition.file_system)], budget)
            _make(entry, kernel.image, modules, added, budget)
        except (ValueError, ImageFileError) as error:  # a kernel or module that is damaged, or takes too much
            raise DirectBootImpossible(f"{disk}: {error}") from error
    parameters = (
        f"console={architecture.console}",
        *(OF_X86_64 if architecture == X86_64 else ()),
        *PARAMETERS,
        *units.kernel_parameters(architecture.console),
        f"goldsmith.partition={root.partition.number}",
        f"goldsmith.type={root.partition.file_system}",
    )
    return DirectBoot(entry / "kernel", entry / "initrd", parameters)


def runs_here(architecture: Architecture) -> bool:
    """Return whether this host's processor runs the programs of an architecture."""
    return of_host(os.uname().machine) == architecture


def static_busybox() -> bytes:
    """Return the host's busybox, which must not need libraries. Raises MissingTool, EnvironmentFault."""
    path = Path(find_tool("busybox"))
    data = path.read_bytes()
    if _needs_libraries(data):
        raise EnvironmentFault(
            f"{path} needs shared libraries; install the one that does not: apt-get install busybox-static"
        )
    return data


def _busybox_of(root: RootFiles, disk: Path, architecture: Architecture) -> bytes:
    """Return an image's own busybox: no program of this host runs in its machine. DirectBootImpossible."""
    for data in root.read_all(BUSYBOXES, _LARGEST_BUSYBOX).values():
        has_all = all(b"\0%s\0" % name.encode() in data for name in APPLETS)
        if of_program(data) == architecture and has_all and not _needs_libraries(data):
            return data
    raise DirectBootImpossible(
        f"{disk}: the initrd of a machine for {architecture.name} has the image's own busybox, and it has none that "
        "needs no libraries (add the package busybox-static to it)"
    )


def _needs_libraries(program: bytes) -> bool:
    """Return whether an ELF file of 64 bits, or any other file, cannot run by itself."""
    if program[:4] != b"\x7fELF" or program[4:5] != bytes([_ELF64]):
        return True
    at = int.from_bytes(program[_PROGRAM_HEADERS_AT : _PROGRAM_HEADERS_AT + 8], "little")
    count = int.from_bytes(program[56:58], "little")
    starts = (at + index * _PROGRAM_HEADER for index in range(count))
    return any(int.from_bytes(program[start : start + 4], "little") == _LOADER_SEGMENT for start in starts)


def _overlay() -> dict[str, CpioMember]:
    """Return the files that guest/init copies to /run."""
    unit = (GUEST / "goldsmith.service").read_bytes()
    files = {
        **units.unit_overlay(),
        "systemd/system/goldsmith.service": CpioMember.file(unit),
        "systemd/system/multi-user.target.wants/goldsmith.service": CpioMember.link("../goldsmith.service"),
        "goldsmith/start": CpioMember.file((GUEST / "start").read_bytes(), executable=True),
        "goldsmith/agent": CpioMember.file((GUEST / "agent").read_bytes(), executable=True),
        "goldsmith/cidata": CpioMember.folder(),
        "systemd/network/00-goldsmith.network": CpioMember.file(b"[Match]\nName=eth0\n\n[Link]\nUnmanaged=yes\n"),
    }
    return {f"overlay/{path}": member for path, member in files.items()}


def _programs(busybox: bytes) -> dict[str, CpioMember]:
    return {
        "init": CpioMember.file((GUEST / "init").read_bytes(), executable=True),
        "bin/busybox": CpioMember.file(busybox, executable=True),
        **{f"bin/{name}": CpioMember.link("busybox") for name in APPLETS},
        **{name: CpioMember.folder() for name in ("dev", "modules", "nodes", "proc", "root", "run", "sys")},
    }


def _key(kernel: bytes, tables: Mapping[str, bytes], added: Mapping[str, CpioMember]) -> str:
    digest = hashlib.sha256(hashlib.sha256(kernel).digest())
    digest.update(hashlib.sha256(tables["modules.dep"]).digest())
    digest.update(hashlib.sha256(archive(added)).digest())
    return digest.hexdigest()[:32]


def _make(
    entry: Path, kernel: bytes, modules: Mapping[str, CpioMember], added: Mapping[str, CpioMember], budget: Budget
) -> None:
    """Make an entry of the cache, whole or not at all. Another process may make the same one meanwhile."""
    with faults(entry.parent):
        entry.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(entry.parent) as scratch:
            made = scratch.path / "entry"
            made.mkdir()
            (made / "kernel").write_bytes(kernel_image.unpacked(kernel, budget) or kernel)
            (made / "initrd").write_bytes(archive({**added, **modules}))
            for path in (made / "kernel", made / "initrd", made):
                force(path)
            with locked(entry.parent):
                if _is_whole(entry):
                    return
                if entry.is_dir():
                    entry.rename(scratch.path / "damaged")
                made.rename(entry)
                force(entry.parent)


def _is_whole(entry: Path) -> bool:
    """Return whether an entry has its files. Those of the release before were not on the disk before their name."""
    try:
        return all((entry / name).stat().st_size for name in ("kernel", "initrd"))
    except (FileNotFoundError, NotADirectoryError):
        return False
