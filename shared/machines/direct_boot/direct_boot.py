"""Boot an image's own kernel without its boot loader. The files for QEMU are made once for each kernel, and kept.

    HOME/cache/boot/KEY/kernel     vmlinux, or the bzImage where that cannot be entered directly
    HOME/cache/boot/KEY/initrd     busybox, the modules that root and CIDATA need, and guest/init

KEY is a hash over the kernel, the table of its modules and everything that is added, so that an entry never changes.
guest/init mounts the image's root and hands over to the image's systemd; nothing is written into the image. For an
image whose kernel cannot be read or started this way, DirectBootImpossible is raised, and it boots by firmware instead.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...budget import KERNEL_BOUNDS, Budget
from ...disks.disk import Disk
from ...disks.root_files import RootFiles, RootUnreadable
from ...errors import EnvironmentFault, GoldsmithError, ImageFileError
from ...host.programs import find_tool
from ...host.scratch import faults, scratch_folder
from . import kernel_image, units
from .initramfs import CpioMember, archive
from .kernel_image import NotAKernel
from .kernel_modules import TABLES, Modules, NoSuchModule, module_name, unpacked_module

GUEST = Path(__file__).parent / "guest"
APPLETS = ("cat", "cp", "insmod", "ip", "mkdir", "mount", "poweroff", "sh", "sleep", "switch_root", "usleep")
DRIVERS = ("nvme", "virtio_pci", "virtio_net", "isofs")  # disks, network, CIDATA; the root's file system comes to these
MENUS = ("/boot/grub/grub.cfg", "/boot/grub2/grub.cfg")
QUIET = ("quiet", "systemd.show_status=false")

_LARGEST_KERNEL = 64 << 20  # bytes; Debian's has 8 MB
_LARGEST_MENU = 1 << 20  # bytes
_LARGEST_TABLE = 16 << 20  # bytes; Debian's largest has 1.5 MB

PARAMETERS = (
    "console=ttyS0",
    "net.ifnames=0",  # the card is up before udev sees it, and cannot be renamed then
    "cryptomgr.notests",  # 0.4 s of an emulated CPU
    "no_timer_check",  # the kernel's test of the timer panics on a busy host, where an emulated timer may be late
    "init_on_alloc=0",
    "rcupdate.rcu_expedited=1",  # mounts and ends of processes wait for RCU, and nothing else runs meanwhile
    "random.trust_cpu=on",  # without it, programs wait 5 s for random numbers
    "systemd.condition-first-boot=false",  # on a first boot systemd presets all units, which changes the image
    *QUIET,
)


class DirectBootImpossible(GoldsmithError):
    """The image's kernel cannot be started without firmware; the text says why."""


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


def prepare_boot(disk: Path, home: Path) -> DirectBoot:
    """Find or make what a disk needs to boot directly. Raises DirectBootImpossible, MissingTool, NoSpace."""
    try:
        root = Disk(disk).root
    except RootUnreadable as error:
        raise DirectBootImpossible(str(error)) from error
    kernel = _default_kernel(root, disk)
    try:
        folder = _modules_folder(root, kernel_image.release(kernel), disk)
    except NotAKernel as error:
        raise DirectBootImpossible(f"{disk}: {error}") from error
    contents = root.read_all([f"{folder}/{name}" for name in TABLES], _LARGEST_TABLE)
    tables = {path.rpartition("/")[2]: data for path, data in contents.items()}
    busybox = static_busybox()
    added = {**_overlay(), **_programs(busybox)}
    entry = home / "cache" / "boot" / _key(kernel, tables, added)
    if not entry.is_dir():
        budget = Budget(KERNEL_BOUNDS, disk)
        try:
            _make(entry, kernel, _modules(root, folder, tables, disk, budget), added, budget)
        except (ValueError, ImageFileError) as error:  # a kernel or module that is damaged, or takes too much
            raise DirectBootImpossible(f"{disk}: {error}") from error
    parameters = (
        *PARAMETERS,
        *units.kernel_parameters(),
        f"goldsmith.partition={root.partition.number}",
        f"goldsmith.type={root.partition.file_system}",
    )
    return DirectBoot(entry / "kernel", entry / "initrd", parameters)


def static_busybox() -> bytes:
    """Return the host's busybox, which must not need libraries. Raises MissingTool, EnvironmentFault."""
    path = Path(find_tool("busybox"))
    data = path.read_bytes()
    if b"/lib64/ld-linux" in data[:4096]:
        raise EnvironmentFault(
            f"{path} needs shared libraries; install the one that does not: apt-get install busybox-static"
        )
    return data


def _default_kernel(root: RootFiles, disk: Path) -> bytes:
    """Read the kernel of the boot loader's menu, otherwise the newest in /boot, otherwise the target of /vmlinuz."""
    names = root.names("/boot") if root.exists("/boot") else []
    versions = [name for name in names if name.startswith("vmlinuz-") and "rescue" not in name]
    candidates = [f"/boot/{name}" for name in sorted(versions, key=_version_key, reverse=True)]
    for path in (*_first_of_menu(root), *candidates, "/vmlinuz", "/boot/vmlinuz"):
        entry = root.entry(path)
        if entry is not None and entry.is_file and 0 < entry.size <= _LARGEST_KERNEL:
            return root.read(path)
    raise DirectBootImpossible(f"{disk}: there is no kernel in /boot of its root file system")


def _first_of_menu(root: RootFiles) -> list[str]:
    """Return the paths at which the kernel of GRUB's first entry may lie; none where another entry may be the default.

    GRUB's paths are relative to the kernel's file system, which is /boot where that is one of its own.
    """
    for text in root.read_all(MENUS, _LARGEST_MENU).values():
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


def _modules_folder(root: RootFiles, release: str, disk: Path) -> str:
    for folder in (f"/usr/lib/modules/{release}", f"/lib/modules/{release}"):
        if root.exists(f"{folder}/modules.dep"):
            return folder
    raise DirectBootImpossible(f"{disk}: the modules of its kernel {release} are not in /lib/modules")


def _modules(
    root: RootFiles, folder: str, tables: Mapping[str, bytes], disk: Path, budget: Budget
) -> dict[str, CpioMember]:
    """Read the modules to load, under names that sort in the order of loading, and the device nodes."""
    modules = Modules.read({name: data.decode("utf-8", "replace") for name, data in tables.items()}, budget)
    try:
        order = modules.order([*DRIVERS, str(root.partition.file_system)])
    except NoSuchModule as error:
        raise DirectBootImpossible(f"{disk}: its kernel has no driver {error}") from error
    members = {f"nodes/{path}": CpioMember.character_device(*numbers) for path, numbers in modules.nodes.items()}
    for number, path in enumerate(order):
        name = f"{folder}/{path}"
        data = root.read_all([name]).get(name)
        if data is None:
            raise DirectBootImpossible(f"{disk}: {name} is missing")
        budget.keep(len(data))
        members[f"modules/{number:03}-{module_name(path)}.ko"] = CpioMember.file(unpacked_module(path, data, budget))
    return members


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
            try:
                made.rename(entry)
            except OSError:
                if not entry.is_dir():
                    raise
