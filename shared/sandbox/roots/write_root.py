"""Write a tree of files back into the disk that it came from, as a new ext4 file system in the place of the old one.

mke2fs makes it with all files, with what the old file system was made with (file_system_settings.py), always the same
bytes for the same tree and time. Then the inodes are set right where mke2fs of e2fsprogs 1.47 does not: it drops parts
of seconds, copies the times of access and change, which are this machine's, and leaves the root's own fields as they
are. Devices, which are in no tree (unpack_root.py), and flags come from what was kept beside it.

The old file system is given up first: its space in the disk's file becomes a hole, and there is no way back.

Beside the contents of its files, a build leaves behind the order and the time in which it made them. mke2fs sorts
names; a dated root has no time after one date, that of the source. Compiled Python knows its source by that one's
time: it is dated the same way, or Python would compile it again at each start.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ...disks.disk import Disk
from ...disks.ext4.layout import SUPERBLOCK_AT, SUPERBLOCK_BYTES
from ...disks.ext4.reader import Ext4, Inode
from ...disks.extents import punch_hole
from ...disks.reader import DiskReader
from ...disks.root_files import RootUnreadable
from ...errors import EnvironmentFault, InputError, NoSpace
from ...host.open_folder import OpenFolder
from ...host.programs import ProgramFailed, run_tool
from ..user_namespace import run_with_all_ids
from .file_system_settings import FileSystemSettings, read_settings
from .inode_fields import InodeFields
from .unpack_root import KEPT_FLAGS, DeviceNode, UnpackedRoot

_FULL = ("Could not allocate", "No space left", "too small", "Not enough space")
_LOST_FOUND = "lost+found"
_NANOSECONDS = 1_000_000_000
_COMPILED = ".pyc"
_HEADER = struct.Struct("<H2sIII")  # importlib: a number of the version, "\r\n", and then see _place_of_time()
_WITH_FLAGS, _PYTHON_2 = 3390, 20000  # the first number with flags (PEP 552), and one between Python 3's and 2's
_UNWRITABLE = frozenset("\n\r")  # in a request to debugfs


def write_root(
    tree: Path, disk: Path, kept: UnpackedRoot, time: int, *, latest: int | None = None, like: Path | None = None
) -> None:
    """Replace a disk's root file system, which has to be ext4, by one of the tree's files that fills its partition.

    `kept` is what unpack_root() returned of it; a device whose folder is gone, or whose place is taken, is left out.
    Times of change, and all of the file system itself, are `time`, in Unix seconds; no file gets a time after `latest`,
    if that is given. Nothing may change the tree. `like` is a disk with the same partitions, whose root file system is
    the one to be replaced, where there is nothing at its place on `disk`.
    NoSpace when the partition is too small; the disk is of no use then, as after any other fault.
    """
    run_with_all_ids(lambda: _write(tree, disk, kept, time, latest, like or disk))


def write_dated_root(tree: Path, disk: Path, kept: UnpackedRoot, date: int, *, like: Path | None = None) -> None:
    """Do what write_root() does, with no time after `date`, in Unix seconds. Compiled Python of the tree is changed."""
    run_with_all_ids(lambda: _date_compiled(tree, date))
    write_root(tree, disk, kept, date, latest=date, like=like)


def remove_devices(tree: Path, devices: Iterable[DeviceNode]) -> None:
    """Remove devices from a tree, and leave the times of their folders as they are. OSError.

    A user namespace cannot hold them: write_root() adds them after all else, for root as well.
    """
    for device in devices:
        *folders, name = device.path.split("/")[1:]
        with suppress(FileNotFoundError, NotADirectoryError), OpenFolder(tree) as folder:
            for each in folders:
                folder.down(each)
            mode = os.stat(name, dir_fd=folder.descriptor, follow_symlinks=False).st_mode
            if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                state = os.fstat(folder.descriptor)
                os.unlink(name, dir_fd=folder.descriptor)
                os.utime(folder.descriptor, ns=(state.st_atime_ns, state.st_mtime_ns))


@dataclass(frozen=True)
class FileSystemPlace:
    """Where a file system is, or will be: a part of a disk's file, in bytes."""

    disk: Path
    start: int
    size: int


def write_file_system(
    tree: Path,
    place: FileSystemPlace,
    settings: FileSystemSettings,
    kept: UnpackedRoot,
    time: int,
    latest: int | None = None,
) -> None:
    """Write an ext4 file system with a tree's files into a hole of a disk's file, as write_root() does.

    The process has to be root, of the machine or of a user namespace. NoSpace when the place is too small.
    """
    environment = {"E2FSPROGS_FAKE_TIME": str(time), "SOURCE_DATE_EPOCH": str(time), "LC_ALL": "C"}
    _make(tree, place, settings, environment)
    _add_names(tree, place, kept, environment)
    with _opened(place) as files:
        _Settling(tree, files, kept, time, latest, checksums=settings.checksums).all()


def _write(tree: Path, disk: Path, kept: UnpackedRoot, time: int, latest: int | None, like: Path) -> str:
    with Disk(like) as opened, Disk(disk) as target:
        try:
            root = opened.root
        except RootUnreadable as error:
            raise InputError(f"{error}; write engine: vm") from error
        [partition] = [each for each in target.table.partitions if each.number == root.partition.number]
        place = FileSystemPlace(disk, partition.start, partition.size)
        superblock = opened.reader.read(root.partition.start + SUPERBLOCK_AT, SUPERBLOCK_BYTES)
        settings = read_settings(root.file_system, superblock, place.size)
    _punch(place)
    write_file_system(tree, place, settings, kept, time, latest)
    return ""


@contextmanager
def _opened(place: FileSystemPlace) -> Iterator[Ext4]:
    with DiskReader(place.disk) as reader:
        yield Ext4(reader, place.start, place.size)


def _punch(place: FileSystemPlace) -> None:
    """Make the place a hole of the disk's file."""
    try:
        descriptor = os.open(place.disk, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise EnvironmentFault(f"{place.disk}: {error.strerror}") from error
    try:
        punch_hole(descriptor, place.start, place.size)
    except OSError as error:
        raise EnvironmentFault(
            f"{place.disk}: its file system makes no holes in files ({error.strerror}); "
            "keep images on ext4, xfs, btrfs or tmpfs"
        ) from error
    finally:
        os.close(descriptor)


def _make(tree: Path, place: FileSystemPlace, settings: FileSystemSettings, environment: dict[str, str]) -> None:
    extended = (
        f"offset={place.start}",
        "nodiscard,lazy_itable_init=1,lazy_journal_init=1,assume_storage_prezeroed=1",
        *settings.extended,
    )
    where = (place.disk, str(place.size // settings.block))
    configuration = os.memfd_create("mke2fs.conf")
    try:
        os.write(configuration, settings.configuration.encode())
        run_tool(
            ["mke2fs", "-q", "-F", "-t", "ext4", *settings.arguments, "-E", ",".join(extended), "-d", tree, *where],
            environment={**environment, "MKE2FS_CONFIG": f"/proc/self/fd/{configuration}"},
            keep_open=[configuration],
        )
    except ProgramFailed as error:
        if any(word in error.output for word in _FULL):
            raise NoSpace(
                f"the image's disk is too small: {_bytes_of(tree) / 1e6:.0f} MB of files, "
                f"{place.size / 1e6:.0f} MB; write output.disk_size_gb"
            ) from error
        raise
    finally:
        os.close(configuration)


def _bytes_of(tree: Path) -> int:
    """Return what the files of a tree take on this machine."""
    return int(run_tool(["du", "-sk", "--", tree]).split()[0]) * 1024


def _add_names(tree: Path, place: FileSystemPlace, kept: UnpackedRoot, environment: dict[str, str]) -> None:
    """Add the devices, as names alone, and remove the folder that mke2fs has added to the tree's, if it has."""
    requests = []
    with _opened(place) as files:
        for device in sorted(kept.devices, key=lambda device: device.path):
            parent = _folder(files, device.path)
            name = device.path.rpartition("/")[2]
            if parent is None or name in files.entries(parent):
                continue
            if _UNWRITABLE & set(name):
                raise InputError(f"{place.disk}: the device {device.path!r} cannot be written here; write engine: vm")
            quoted = name.replace('"', '""')
            requests.append(f'cd <{parent.number}>\nmknod "{quoted}" {device.kind} 0 0\n')
    if not os.path.lexists(tree / _LOST_FOUND):
        requests.append(f"cd <2>\nrmdir {_LOST_FOUND}\n")
    if requests:
        arguments = ["debugfs", "-w", "-f", "-", f"{place.disk}?offset={place.start}"]
        run_tool(arguments, stdin="".join(requests), environment=environment)


def _folder(files: Ext4, path: str) -> Inode | None:
    """Return the folder that a path is in, no link followed; None where it is gone."""
    inode = files.root
    for part in path.split("/")[1:-1]:
        number = files.entries(inode).get(part)
        if number is None:
            return None
        inode = files.inode(number)
        if not inode.is_folder:
            return None
    return inode


class _Settling:
    """Sets the inodes of a new file system as the files of its tree are."""

    def __init__(
        self, tree: Path, files: Ext4, kept: UnpackedRoot, time: int, latest: int | None, *, checksums: bool
    ) -> None:
        self._tree = tree
        self._files = files
        self._kept = kept
        self._devices = {device.path: device for device in kept.devices}
        self._time = time * _NANOSECONDS
        self._latest = None if latest is None else latest * _NANOSECONDS
        self._checksums = checksums
        self._done: set[int] = set()

    def all(self) -> None:
        """Walk through both in step."""
        descriptor = os.open(self._files.disk, os.O_WRONLY | os.O_CLOEXEC)
        try:
            with OpenFolder(self._tree) as folder:
                walk = self._files.walk()
                _, root = next(walk)
                self._settle(descriptor, "/", root, os.fstat(folder.descriptor))
                depth = 0
                for path, inode in walk:
                    parent, _, name = path.rpartition("/")
                    while depth > parent.count("/"):
                        folder.up()
                        depth -= 1
                    self._settle(descriptor, path, inode, _state(folder, name))
                    if inode.is_folder:
                        folder.down(name)
                        depth += 1
            os.fsync(descriptor)  # the disk gets its name next
        except OSError as error:
            raise EnvironmentFault(f"{self._tree}: {error.strerror}; leave it alone while it is written") from error
        finally:
            os.close(descriptor)

    def _settle(self, descriptor: int, path: str, inode: Inode, state: os.stat_result | None) -> None:
        if inode.number in self._done:
            return
        if inode.links > 1:
            self._done.add(inode.number)
        fields = InodeFields(self._files.record(inode.number))
        if state is not None:
            if stat.S_IFMT(state.st_mode) != stat.S_IFMT(inode.mode):
                raise EnvironmentFault(f"{self._tree}: {path!r} was changed while it was written; leave it alone")
            fields.set_permissions(state.st_mode)
            fields.set_owner(state.st_uid, state.st_gid)
            self._set_times(fields, state.st_mtime_ns)
            if inode.is_file or inode.is_folder:
                fields.add_flags(self._kept.flags.get(path, 0) & KEPT_FLAGS)
        elif path in self._devices:
            self._make_device(fields, self._devices[path])
        else:
            raise EnvironmentFault(f"{self._tree}: {path!r} was removed while it was written; leave it alone")
        record = fields.changed(checksums=self._checksums)
        if record is not None:
            layout = self._files.layout
            group, index = divmod(inode.number - 1, layout.inodes_per_group)
            os.pwrite(descriptor, record, self._files.offset + self._files.table(group) + index * layout.inode)

    def _set_times(self, fields: InodeFields, modified: int) -> None:
        if self._latest is not None:
            modified = min(modified, self._latest)
        fields.set_times(modified, self._time, modified, self._time)

    def _make_device(self, fields: InodeFields, device: DeviceNode) -> None:
        fields.set_permissions(device.mode)
        fields.set_owner(device.user, device.group)
        self._set_times(fields, device.mtime_ns)
        fields.set_device(device.major, device.minor)


def _state(folder: OpenFolder, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder.descriptor, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _date_compiled(tree: Path, date: int) -> str:
    try:
        with OpenFolder(tree) as folder:
            for name in folder.files():
                if name.endswith(_COMPILED):
                    state = os.stat(name, dir_fd=folder.descriptor, follow_symlinks=False)
                    if stat.S_ISREG(state.st_mode) and state.st_mtime > date:
                        _date_file(folder.descriptor, name, date)
    except OSError as error:
        raise EnvironmentFault(f"{tree}: {error.strerror}; leave it alone while it is written") from error
    return ""


def _date_file(folder: int, name: str, date: int) -> None:
    descriptor = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        header = os.pread(descriptor, _HEADER.size, 0)
        place = _place_of_time(header)
        if place and int.from_bytes(header[place : place + 4], "little") > date:
            os.pwrite(descriptor, struct.pack("<I", date & 0xFFFFFFFF), place)
    finally:
        os.close(descriptor)


def _place_of_time(header: bytes) -> int:
    """Return where a compiled file has the time of its source; 0 where it has a hash instead, or is none."""
    if len(header) < _HEADER.size:
        return 0
    version, mark, flags, _, _ = _HEADER.unpack(header)
    if mark != b"\r\n":
        return 0
    if not _WITH_FLAGS <= version < _PYTHON_2:
        return 4
    return 0 if flags else 8
