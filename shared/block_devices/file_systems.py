"""New file systems with files in them, each in its place of a disk's file.

    ext4      mke2fs copies the files and no mount is needed: write_root.py of the sandbox
    vfat      mkfs.vfat and mtools, in a file of its own that is copied into place
    xfs       mkfs.xfs and a mount: its protofile keeps no extended attributes, hard links or times
    btrfs     mkfs.btrfs and a mount: its --rootdir keeps no devices, flags or parts of seconds
    swap      mkswap, whose one page is copied into place

The process is root, of the machine or of a user namespace. Its mounts are its own (user_namespace.py). The kernel
mounts xfs and btrfs for root of a machine with loop devices alone; else a virtual machine does (helper_machine.py).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from ..build.block_devices.description import NewFileSystem
from ..build.block_devices.layout import Area
from ..disks.extents import data_extents
from ..errors import EnvironmentFault, InputError, NoSpace
from ..host.programs import run_tool
from ..sandbox.roots.file_system_settings import FileSystemSettings
from ..sandbox.roots.unpack_root import DeviceNode, UnpackedRoot
from ..sandbox.roots.write_root import FileSystemPlace, write_file_system
from ..sandbox.system_calls import (
    NO_DEVICES,
    attach_loop,
    mount_file_system,
    sync_file_system,
    trim,
    unmount_file_system,
)
from .helper_machine import HelperMachine

INODE_RATIO = 16384  # bytes for each inode of ext4, unless options say another one
_BLOCK = 4096
_PIECE = 1 << 20
_LARGEST_EXT4 = (1 << 32) - 1  # blocks: what mke2fs takes for -E resize=
_FAT32 = 34 << 20  # bytes: the least of one with clusters of a sector
_GET_FLAGS, _SET_FLAGS = 0x80086601, 0x40086602  # FS_IOC_GETFLAGS and FS_IOC_SETFLAGS
_MOUNTED = frozenset(["xfs", "btrfs"])
_FULL = ("Disk full", "No space left", "not enough free space", "ENOSPC")

# The features that the boot loader of Debian 12 reads, whatever the host's mke2fs.conf says.
_FEATURES = (
    "none,sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr,has_journal,extent,huge_file,flex_bg,"
    "metadata_csum,64bit,dir_nlink,extra_isize"
)
_CONFIGURATION = """\
[defaults]
    base_features = none
    default_mntopts = acl,user_xattr
    enable_periodic_fsck = 0
[fs_types]
    ext4 = {
        inode_ratio = 16384
    }
"""


@dataclass(frozen=True)
class FilesToWrite:
    """The files of one file system: a folder, what it cannot hold, and further files by their paths in it.

    `mount_on` is an empty folder for those that have to be mounted; `helper` mounts them where this process may not.
    """

    folder: Path
    mount_on: Path
    helper: HelperMachine | None
    kept: UnpackedRoot
    further: dict[str, bytes]


@dataclass(frozen=True)
class MadeFileSystem:
    """A file system to make: its description with all that was left open in it settled."""

    described: NewFileSystem
    uuid: str
    hash_seed: str
    time: int  # Unix seconds


def make_file_system(made: MadeFileSystem, disk: Path, areas: Sequence[Area], files: FilesToWrite) -> None:
    """Make a file system in areas of a disk's file, which are holes, and write its files. NoSpace, EnvironmentFault."""
    kind = made.described.kind
    if kind == "xfs":
        _refuse_numbers(made.described, files.kept.devices)
    size = sum(area.size for area in areas)
    in_place = kind == "ext4" or (kind in _MOUNTED and files.helper is None)
    if in_place and len(areas) == 1:
        _make(made, FileSystemPlace(disk, areas[0].start, size), files, disk)
        return
    with _file_beside(disk, size) as (descriptor, path):
        _make(made, FileSystemPlace(path, 0, size), files, disk)
        _copy_into(descriptor, size, disk, areas)


def _refuse_numbers(described: NewFileSystem, devices: Iterable[DeviceNode]) -> None:
    """Raise InputError for a device that xfs does not hold: it has 9 bits for the major number, 18 for the minor."""
    for each in devices:
        if each.major >= 1 << 9 or each.minor >= 1 << 18:
            raise InputError(
                f"{described.name}: xfs does not hold {each.path}, a device with the numbers {each.major}, "
                f"{each.minor}; leave it out, or write type: ext4"
            )


def needs_helper(kinds: Iterable[str]) -> bool:
    """Return whether this process can make such file systems by a machine alone."""
    return not all(_may_mount(kind) for kind in _MOUNTED.intersection(kinds))


def inode_ratio(described: NewFileSystem) -> int:
    """Return for how many bytes of ext4 there is an inode."""
    options = described.options
    given = options[options.index("-i") + 1] if "-i" in options else ""
    return int(given) if given.isdigit() and int(given) else INODE_RATIO


@cache
def _may_mount(kind: str) -> bool:
    """Return whether this kernel mounts such a file system from a loop device for this process.

    A container often has neither loop devices nor the right to mount. What is tried is an empty file, which is refused
    for what is in it where a file system would be mounted.
    """
    if os.geteuid() != 0 or Path("/proc/self/uid_map").read_text(encoding="ascii").split()[:2] != ["0", "0"]:
        return False
    empty = os.memfd_create("empty")
    try:
        os.ftruncate(empty, _PIECE)
        device, path = attach_loop(f"/proc/self/fd/{empty}", 0, _PIECE)
        try:
            mount_file_system(path, "/", kind, NO_DEVICES)
        finally:
            os.close(device)
    except OSError as error:
        return error.errno in (errno.EINVAL, errno.EUCLEAN)
    finally:
        os.close(empty)
    return False


def _make(made: MadeFileSystem, place: FileSystemPlace, files: FilesToWrite, disk: Path) -> None:
    kind = made.described.kind
    try:
        if kind == "ext4":
            _refuse_further(files)
            write_file_system(files.folder, place, _ext4_settings(made), files.kept, made.time)
        elif kind == "vfat":
            _make_vfat(made, place, files)
        elif kind == "swap":
            _make_swap(made, place)
        elif files.helper is not None:
            _make_in_machine(made, place, files, files.helper, disk)
        else:
            _make_mounted(made, place, files)
    except EnvironmentFault as error:
        if any(word in str(error) for word in _FULL):
            raise NoSpace(
                f"{made.described.name}: the files do not fit into {place.size / 1e6:.0f} MB; give it a larger size"
            ) from error
        raise


def _refuse_further(files: FilesToWrite) -> None:
    if files.further:
        raise ValueError("only vfat is written with further files")


# ext4


def _ext4_settings(made: MadeFileSystem) -> FileSystemSettings:
    described = made.described
    options = list(described.options)
    given: dict[str, str] = {}
    while options:
        key = options.pop(0)
        given[key] = f"{given[key]},{options.pop(0)}" if key in given else options.pop(0)
    block = int(given.pop("-b", str(_BLOCK)))
    extended = [f"hash_seed={made.hash_seed}", *given.pop("-E", "").split(",")]
    if described.mount_point == "/" and not any(each.startswith("resize=") for each in extended):
        extended.append(f"resize={_LARGEST_EXT4}")
    features = given.pop("-O", "")
    arguments = ["-b", str(block), "-I", given.pop("-I", "256"), "-m", given.pop("-m", "0"), "-U", made.uuid]
    arguments += ["-L", described.label or "", "-O", f"{_FEATURES},{features}".rstrip(",")]
    arguments += [word for pair in given.items() for word in pair]
    return FileSystemSettings(
        tuple(arguments),
        tuple(each for each in extended if each),
        _CONFIGURATION,
        block,
        "^metadata_csum" not in features.split(","),
    )


# vfat


def _make_vfat(made: MadeFileSystem, place: FileSystemPlace, files: FilesToWrite) -> None:
    """Write it with mtools: names and contents are all that it has."""
    described = made.described
    size = ("-F", "32", *(("-s", "1") if place.size < 260 << 20 else ())) if place.size >= _FAT32 else ()
    chosen = described.options if "-F" in described.options else (*size, *described.options)
    label = ("-n", described.label) if described.label else ()
    serial = made.uuid.replace("-", "")
    run_tool(["mkfs.vfat", "--invariant", *chosen, *label, "-i", serial, place.disk])  # in this order: -i counts
    settled = {"SOURCE_DATE_EPOCH": str(made.time), "TZ": "UTC", "MTOOLS_SKIP_CHECK": "1", "LC_ALL": "C.UTF-8"}
    taken: dict[str, str] = {}
    folders = [""]
    for path, state in _walk(files.folder):
        if not (stat.S_ISDIR(state.st_mode) or stat.S_ISREG(state.st_mode)):
            raise InputError(
                f"{described.mount_point}{path}: vfat holds files and folders alone; remove it, or choose another type"
            )
        other = taken.setdefault(path.lower(), path)
        if other != path or set(path) & set('"*:<>?\\|'):
            raise InputError(f"{described.mount_point}{path}: vfat cannot hold this name beside the others; rename it")
        folders += [path] if stat.S_ISDIR(state.st_mode) else []
    further = {path: data for path, data in sorted(files.further.items()) if path.lower() not in taken}
    for path in further:
        above = path.rpartition("/")[0]
        while above and above.lower() not in taken:
            taken[above.lower()] = above
            folders.append(above)
            above = above.rpartition("/")[0]
    for folder in sorted(set(folders) - {""}):
        run_tool(["mmd", "-i", place.disk, f"::{folder}"], environment=settled)
    for path, state in _walk(files.folder):
        if stat.S_ISREG(state.st_mode):
            _copy_to_vfat(place, f"{files.folder}{path}", path, settled)
    for path, data in further.items():
        source = os.memfd_create("further")
        try:
            os.write(source, data)
            os.utime(source, (made.time, made.time))
            _copy_to_vfat(place, str(_path_of(source)), path, settled)
        finally:
            os.close(source)


def _copy_to_vfat(place: FileSystemPlace, source: str, path: str, settled: dict[str, str]) -> None:
    run_tool(["mcopy", "-m", "-i", place.disk, source, f"::{path}"], environment=settled)


def _walk(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the path below a folder, with `/` in front, and the state of each file, in order."""
    waiting = [""]
    while waiting:
        above = waiting.pop()
        for entry in sorted(os.scandir(f"{folder}{above}"), key=lambda entry: entry.name):
            path = f"{above}/{entry.name}"
            yield path, entry.stat(follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                waiting.append(path)


# swap


def _make_swap(made: MadeFileSystem, place: FileSystemPlace) -> None:
    label = ("-L", made.described.label) if made.described.label else ()
    run_tool(["mkswap", "-q", "-U", made.uuid, *label, place.disk])


# xfs and btrfs


def _format(made: MadeFileSystem, path: str | Path) -> None:
    described = made.described
    label = ("-L", described.label) if described.label else ()
    identity = ("-m", f"uuid={made.uuid}") if described.kind == "xfs" else ("-U", made.uuid)
    quiet = [f"mkfs.{described.kind}", "-q", "-f"]
    run_tool([*quiet, *identity, *label, *described.options, path], environment={"SOURCE_DATE_EPOCH": str(made.time)})


def _make_in_machine(
    made: MadeFileSystem, place: FileSystemPlace, files: FilesToWrite, helper: HelperMachine, disk: Path
) -> None:
    """Make it in a file, and let a machine copy what is in an ext4 file system beside it."""
    size = 2 * place.size  # sparse: room for tables of the inodes that another file system makes as it needs them
    source = replace(made, described=NewFileSystem("source", "source", options=("-i", "4096")))
    with _file_beside(disk, size) as (_, path):
        whole = FileSystemPlace(path, 0, size)
        write_file_system(files.folder, whole, _ext4_settings(source), files.kept, made.time)
        _format(made, place.disk)
        helper.fill(path, place.disk, made.described.kind, files.kept.flags)


def _make_mounted(made: MadeFileSystem, place: FileSystemPlace, files: FilesToWrite) -> None:
    """Make it on a loop device, mount it over an empty folder that nothing else sees, and copy."""
    described = made.described
    try:
        device, path = attach_loop(place.disk, place.start, place.size)
    except OSError as error:
        raise EnvironmentFault(
            f"there is no loop device for {described.kind} ({error.strerror or error}); write type: ext4"
        ) from error
    try:
        _format(made, path)
        mounted = files.mount_on
        try:
            mount_file_system(path, mounted, described.kind, NO_DEVICES)
        except OSError as error:
            raise EnvironmentFault(
                f"this host's kernel does not mount {described.kind} ({error.strerror}); write type: ext4"
            ) from error
        try:
            run_tool(["cp", "--archive", "--reflink=never", "--", f"{files.folder}/.", f"{mounted}/"])
            for made_device in files.kept.devices:
                _make_device(mounted, made_device)
            for flagged, flags in files.kept.flags.items():
                _set_flags(f"{mounted}{flagged}", flags)
            sync_file_system(mounted)
            trim(mounted)
        finally:
            unmount_file_system(mounted)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"{described.name}: the files do not fit; give it a larger size") from error
        raise EnvironmentFault(f"{described.name}: its files cannot be written: {error}") from error
    finally:
        os.close(device)


def _make_device(mounted: Path, device: DeviceNode) -> None:
    path = f"{mounted}{device.path}"
    folder = Path(path).parent
    if os.path.lexists(path) or not folder.is_dir():
        return
    state = folder.stat()
    kind = stat.S_IFCHR if device.kind == "c" else stat.S_IFBLK
    os.mknod(path, kind | device.mode, os.makedev(device.major, device.minor))
    os.chown(path, device.user, device.group)
    Path(path).chmod(device.mode)
    os.utime(path, ns=(device.mtime_ns, device.mtime_ns))
    os.utime(folder, ns=(state.st_atime_ns, state.st_mtime_ns))


def _set_flags(path: str, flags: int) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        (present,) = struct.unpack("=I", fcntl.ioctl(descriptor, _GET_FLAGS, bytes(8))[:4])
        fcntl.ioctl(descriptor, _SET_FLAGS, struct.pack("=Q", present | flags))
    finally:
        os.close(descriptor)


# Files of their own


@contextmanager
def _file_beside(disk: Path, size: int) -> Iterator[tuple[int, Path]]:
    """Make a file without a name on the disk's file system: nothing of it is left, however this ends."""
    descriptor = os.open(disk.parent, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, size)
        yield descriptor, _path_of(descriptor)
    finally:
        os.close(descriptor)


def _path_of(descriptor: int) -> Path:
    """Return a path by which the programs that this process runs open a file of its own."""
    return Path(f"/proc/{os.getpid()}/fd/{descriptor}")


def _copy_into(source: int, size: int, disk: Path, areas: Sequence[Area]) -> None:
    """Copy what is not zero into areas of the disk, one after the other."""
    target = os.open(disk, os.O_WRONLY | os.O_CLOEXEC)
    try:
        at = 0
        for area in areas:
            for start, length in data_extents(source, min(at + area.size, size), at):
                for piece_at in range(start, start + length, _PIECE):
                    piece = os.pread(source, min(_PIECE, start + length - piece_at), piece_at)
                    _write_pages(target, piece, area.start + piece_at - at)
            at += area.size
    finally:
        os.close(target)


def _write_pages(target: int, piece: bytes, place: int) -> None:
    """Write the pages of a piece that are not all zeros, those side by side at once."""
    if piece.count(0) == len(piece):
        return
    begin: int | None = None
    for at in range(0, len(piece), _BLOCK):
        page = piece[at : at + _BLOCK]
        if page.count(0) == len(page):
            if begin is not None:
                os.pwrite(target, piece[begin:at], place + begin)
                begin = None
        elif begin is None:
            begin = at
    if begin is not None:
        os.pwrite(target, piece[begin:], place + begin)


def below(kept: UnpackedRoot, place: str, others: Sequence[str]) -> UnpackedRoot:
    """Return what was kept of the files below a mount point, by their paths from there; not of those below `others`."""

    def inside(path: str) -> str | None:
        deeper = [other for other in others if len(other) > len(place) and f"{path}/".startswith(f"{other}/")]
        if deeper or not (place == "/" or f"{path}/".startswith(f"{place}/")):
            return None
        return path if place == "/" else path[len(place) :] or "/"

    devices = tuple(replace(each, path=path) for each in kept.devices if (path := inside(each.path)) is not None)
    flags = {path: value for name, value in kept.flags.items() if (path := inside(name)) is not None}
    return UnpackedRoot(devices, flags, kept.dropped)
