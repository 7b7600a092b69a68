"""Boot an image's own kernel without its boot loader: what QEMU needs for that, made once for each kernel and kept.

    HOME/cache/boot/KEY/kernel     vmlinux, or the bzImage where that cannot be entered directly
    HOME/cache/boot/KEY/initrd     busybox, the modules that root and CIDATA need, and guest/init

KEY is a hash over the kernel, the table of its modules and all that we add, so that an entry never changes. guest/init
mounts the image's root and hands over to the image's systemd; nothing is written into the image. Images whose
kernel cannot be read or started this way raise DirectBootImpossible; they boot by their firmware instead.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..budget import KERNEL, Budget
from ..errors import EnvironmentFault, GoldsmithError, ImageFileError
from . import boot_units, kernel_image
from .initramfs import Member, archive
from .kernel_image import NotAKernel
from .kernel_modules import TABLES, Modules, NoSuchModule, module_name, unpacked_module
from .programs import find
from .root_files import RootFiles, RootUnreadable
from .scratch import faults, scratch_folder

GUEST = Path(__file__).parent / "guest"
APPLETS = ("cat", "cp", "insmod", "ip", "mkdir", "mount", "poweroff", "sh", "sleep", "switch_root", "usleep")
DRIVERS = ("nvme", "virtio_pci", "virtio_net", "isofs")  # disks, network, CIDATA; the root's file system comes to these
FAT = ("vfat", "nls_cp437", "nls_ascii")  # for a CIDATA disk that mtools made; loaded when it is one
QUIET = ("quiet", "systemd.show_status=false")

_LARGEST_KERNEL = 64 << 20  # bytes; Debian's has 8 MB
_LARGEST_TABLE = 16 << 20  # bytes; Debian's largest has 1.5 MB

PARAMETERS = (
    "console=ttyS0",
    "net.ifnames=0",  # the card is up before udev sees it, and cannot be renamed then
    "cryptomgr.notests",  # 0.4 s of an emulated CPU
    "no_timer_check",  # on a busy host an emulated timer may be late, and the kernel panics when its test finds that
    "init_on_alloc=0",
    "rcupdate.rcu_expedited=1",  # mounting and ending processes wait for RCU, and nothing else runs meanwhile
    "random.trust_cpu=on",  # else whatever needs random numbers waits 5 s for them
    "systemd.condition-first-boot=false",  # else systemd presets all units, and so changes the image
    *QUIET,
)


class DirectBootImpossible(GoldsmithError):
    """The image's kernel cannot be started without its firmware; the text says why."""


@dataclass(frozen=True)
class DirectBoot:
    """What QEMU starts: two files, and the kernel's command line but for what differs between machines."""

    kernel: Path
    initrd: Path
    parameters: tuple[str, ...]

    def command_line(self, *, internet: bool, cidata: bool = True) -> str:
        """The kernel's command line."""
        choices = {"internet": internet, "cidata": cidata}
        said = (f"goldsmith.{name}={'yes' if choice else 'no'}" for name, choice in choices.items())
        return " ".join([*self.parameters, *said])


def prepare(disk: Path, home: Path) -> DirectBoot:
    """Find or make what an image's disk needs to boot directly. DirectBootImpossible, MissingTool, NoSpace."""
    try:
        root = RootFiles(disk)
    except RootUnreadable as error:
        raise DirectBootImpossible(str(error)) from error
    kernel = _newest_kernel(root, disk)
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
        budget = Budget(KERNEL, disk)
        try:
            _make(entry, kernel, _modules(root, folder, tables, disk, budget), added, budget)
        except (ValueError, ImageFileError) as error:  # a kernel or module that is damaged, or takes too much
            raise DirectBootImpossible(f"{disk}: {error}") from error
    parameters = (
        *PARAMETERS,
        *boot_units.kernel_parameters(),
        f"goldsmith.root=/dev/nvme0n1p{root.partition.number}",
        f"goldsmith.type={root.partition.file_system}",
    )
    return DirectBoot(entry / "kernel", entry / "initrd", parameters)


def static_busybox() -> bytes:
    """Give the host's busybox, which must need no libraries. Raises MissingTool, EnvironmentFault."""
    path = Path(find("busybox"))
    data = path.read_bytes()
    if b"/lib64/ld-linux" in data[:4096]:
        raise EnvironmentFault(
            f"{path} needs shared libraries; install the one that does not: apt-get install busybox-static"
        )
    return data


def _newest_kernel(root: RootFiles, disk: Path) -> bytes:
    """Read what the boot loader would start: the newest kernel in /boot, else what the link /vmlinuz leads to."""
    names = root.names("/boot") if root.exists("/boot") else []
    versions = [name for name in names if name.startswith("vmlinuz-") and "rescue" not in name]
    candidates = [f"/boot/{name}" for name in sorted(versions, key=_version_key, reverse=True)]
    for path in (*candidates, "/vmlinuz", "/boot/vmlinuz"):
        entry = root.entry(path)
        if entry is not None and entry.is_file and 0 < entry.size <= _LARGEST_KERNEL:
            return root.read(path)
    raise DirectBootImpossible(f"{disk}: there is no kernel in /boot of its root file system")


def _version_key(name: str) -> list[tuple[int, str]]:
    """Sort 6.1.0-9 before 6.1.0-10: runs of digits as numbers."""
    parts: list[tuple[int, str]] = []
    for character in name:
        if character.isdigit() and parts and parts[-1][1] == "":
            parts[-1] = (parts[-1][0] * 10 + int(character), "")
        else:
            parts.append((int(character), "") if character.isdigit() else (-1, character))
    return parts


def _modules_folder(root: RootFiles, release: str, disk: Path) -> str:
    for folder in (f"/usr/lib/modules/{release}", f"/lib/modules/{release}"):
        if root.exists(f"{folder}/modules.dep"):
            return folder
    raise DirectBootImpossible(f"{disk}: the modules of its kernel {release} are not in /lib/modules")


def _modules(
    root: RootFiles, folder: str, tables: Mapping[str, bytes], disk: Path, budget: Budget
) -> dict[str, Member]:
    """Read the modules that have to be loaded, named so that their order is that of their names; and device nodes."""
    modules = Modules.read({name: data.decode("utf-8", "replace") for name, data in tables.items()})
    try:
        order = modules.order([*DRIVERS, str(root.partition.file_system)])
    except NoSuchModule as error:
        raise DirectBootImpossible(f"{disk}: its kernel has no driver {error}") from error
    members = _read_modules(root, folder, order, "modules", disk, budget)
    members |= {f"nodes/{path}": Member.character_device(*numbers) for path, numbers in modules.nodes.items()}
    if all(name in modules.paths or name in modules.builtin for name in FAT):
        members |= _read_modules(root, folder, modules.order(FAT), "modules-fat", disk, budget)
    return members


def _read_modules(
    root: RootFiles, folder: str, paths: Sequence[str], target: str, disk: Path, budget: Budget
) -> dict[str, Member]:
    members = {}
    for number, path in enumerate(paths):
        name = f"{folder}/{path}"
        data = root.read_all([name]).get(name)
        if data is None:
            raise DirectBootImpossible(f"{disk}: {name} is missing")
        budget.keep(len(data))
        members[f"{target}/{number:03}-{module_name(path)}.ko"] = Member.file(unpacked_module(path, data, budget))
    return members


def _overlay() -> dict[str, Member]:
    """What is copied below /run."""
    unit = (GUEST / "goldsmith.service").read_bytes()
    files = {
        **boot_units.overlay(),
        "systemd/system/goldsmith.service": Member.file(unit),
        "systemd/system/multi-user.target.wants/goldsmith.service": Member.link("../goldsmith.service"),
        "goldsmith/start": Member.file((GUEST / "start").read_bytes(), executable=True),
        "goldsmith/agent": Member.file((GUEST / "agent").read_bytes(), executable=True),
        "goldsmith/cidata": Member.folder(),
        "systemd/network/00-goldsmith.network": Member.file(b"[Match]\nName=eth0\n\n[Link]\nUnmanaged=yes\n"),
    }
    return {f"overlay/{path}": member for path, member in files.items()}


def _programs(busybox: bytes) -> dict[str, Member]:
    return {
        "init": Member.file((GUEST / "init").read_bytes(), executable=True),
        "bin/busybox": Member.file(busybox, executable=True),
        **{f"bin/{name}": Member.link("busybox") for name in APPLETS},
        **{name: Member.folder() for name in ("dev", "modules", "nodes", "proc", "root", "run", "sys")},
    }


def _key(kernel: bytes, tables: Mapping[str, bytes], added: Mapping[str, Member]) -> str:
    digest = hashlib.sha256(hashlib.sha256(kernel).digest())
    digest.update(hashlib.sha256(tables["modules.dep"]).digest())
    digest.update(hashlib.sha256(archive(added)).digest())
    return digest.hexdigest()[:32]


def _make(
    entry: Path, kernel: bytes, modules: Mapping[str, Member], added: Mapping[str, Member], budget: Budget
) -> None:
    """Make an entry of the cache, whole or not at all; somebody else may make the same one meanwhile."""
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
