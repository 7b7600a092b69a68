"""What a sandbox sees: the image's root, with /proc, /sys, /dev and /run of its own. Runs inside, before any step.

/proc        of the sandbox's own processes
/sys         read-only
/dev         null, zero, full, random, urandom, tty; own terminals (pts) and shared memory (shm); two FIFOs that the
             host reads: console, and ttyS2 for the reports of the provisioner
/run         memory, as on a machine; with the files of the job, the shims and a resolv.conf
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import stat
import struct
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from .shims import FOLDER, POLICY, POLICY_TEXT, place_conditional_shims
from .system_calls import (
    BIND,
    NO_DEVICES,
    NO_PROGRAMS,
    NO_SET_ID,
    READ_ONLY,
    RECURSIVE,
    bind,
    keep_mounts_private,
    mount_file_system,
    pivot_root,
)

CIDATA_FOLDER = "run/goldsmith/cidata"
CONSOLE, REPORTS = "dev/console", "dev/ttyS2"
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2", "ptmx": "pts/ptmx"}
_QUIET = NO_SET_ID | NO_DEVICES | NO_PROGRAMS
LONGEST_NAME = 64  # bytes, of a host
LARGEST = 1 << 20  # bytes, of a file of the image that is looked at
NAME_SERVER = "10.0.2.3"  # slirp4netns(1)
_RESOLV_CONF = Path("/etc/resolv.conf")
_KEPT = Path("/etc/resolv.conf.goldsmith")  # clean_machine.py knows this name, and the next
_LENT = Path("/run/goldsmith/resolv.conf")
_ALSO_LENT = ("systemd/resolve/resolv.conf", "systemd/resolve/stub-resolv.conf", "resolvconf/resolv.conf")
_SET_FLAGS, _SET_ADDRESS, _UP = 0x8914, 0x8916, 0x1  # of a network interface
_INTERFACE = struct.Struct("=16s24s")


def assemble_root(root: Path, cidata: Path, run_bytes: int) -> None:
    """Mount all that belongs to the sandbox below `root`, and make that the root. OSError."""
    keep_mounts_private()
    mount_file_system(root, root, flags=BIND | RECURSIVE)  # a mount of an older namespace cannot become the root
    for name in ("proc", "sys", "dev", "run"):
        _folder(root / name)
    mount_kernel_views(root)
    mount_file_system("run", root / "run", "tmpfs", NO_SET_ID | NO_DEVICES, f"size={run_bytes},mode=755")
    (root / CIDATA_FOLDER).mkdir(parents=True)
    bind(cidata, root / CIDATA_FOLDER)
    make_devices(root / "dev", run_bytes)
    for name in (CONSOLE, REPORTS):
        os.mkfifo(root / name, 0o600)
    pivot_root(root)


def mount_kernel_views(root: Path) -> None:
    """Mount /proc of the sandbox's own processes, and /sys read-only, in folders that are there. OSError."""
    mount_file_system("proc", root / "proc", "proc", _QUIET)
    try:
        mount_file_system("sys", root / "sys", "sysfs", _QUIET | READ_ONLY)
    except OSError:  # the host's own is covered in part, as in a container: then there is none
        mount_file_system("sys", root / "sys", "tmpfs", _QUIET | READ_ONLY, "size=0,mode=555")


def _folder(path: Path) -> None:
    """Make a mount point unless the image has one. A link in its place leads nowhere else: it is refused."""
    if path.is_symlink() or not path.is_dir():
        path.mkdir()


def make_devices(dev: Path, shared_bytes: int) -> None:
    """Mount the devices that a sandbox has at `dev`. OSError."""
    mount_file_system("dev", dev, "tmpfs", NO_SET_ID | NO_PROGRAMS, "size=1m,mode=755")
    for name in _DEVICES:
        (dev / name).touch()
        bind(f"/dev/{name}", dev / name)
    for name, target in _LINKS.items():
        (dev / name).symlink_to(target)
    for name in ("pts", "shm", "mqueue"):
        (dev / name).mkdir()
    mount_file_system(
        "pts", dev / "pts", "devpts", NO_SET_ID | NO_PROGRAMS, "newinstance,ptmxmode=0666,mode=0620,gid=5"
    )
    mount_file_system("shm", dev / "shm", "tmpfs", NO_SET_ID | NO_DEVICES, f"mode=1777,size={shared_bytes}")


def open_ports() -> tuple[int, int]:
    """Open the console and the port of the reports for reading. They do not end when their last writer closes them."""
    flags = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC
    return os.open(f"/{CONSOLE}", flags), os.open(f"/{REPORTS}", flags)


def furnish(programs: Mapping[str, str], *, network: bool) -> None:
    """Put the shims, the name server and the sandbox's name in their places, below its root."""
    Path(FOLDER).mkdir(parents=True)
    for name, text in programs.items():
        path = Path(FOLDER, name)
        path.write_text(text)
        path.chmod(0o755)
    place_conditional_shims(Path("/"))
    _lend_names(network=network)
    _deny_services()
    with suppress(OSError):
        told = _regular_file(Path("/etc/hostname"), LONGEST_NAME)
        socket.sethostname((told or b"").decode("utf-8", "replace").strip() or "localhost")


def listen_at(address: str, port: int) -> socket.socket:
    """Return a socket that listens at another address, which the loopback interface of this network namespace gets.

    A process of another namespace that gets the socket serves the sandbox, which reaches nothing else of it.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        given = struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))
        fcntl.ioctl(probe, _SET_FLAGS, _INTERFACE.pack(b"lo", struct.pack("=H", _UP)))
        fcntl.ioctl(probe, _SET_ADDRESS, _INTERFACE.pack(b"lo:1", given))
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen()
    return listener


def _lend_names(*, network: bool) -> None:
    """Name the sandbox's name server, as the direct boot does; the provisioner takes it back at the end."""
    text = "# The sandbox's; there is no name server without the internet.\n"
    text += f"nameserver {NAME_SERVER}\n" if network else ""
    for place in (_LENT, *(Path("/run", each) for each in _ALSO_LENT)):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    if _RESOLV_CONF.is_symlink():
        return
    if not _RESOLV_CONF.exists():
        with suppress(OSError):
            _RESOLV_CONF.symlink_to(_LENT)
        return
    own = _regular_file(_RESOLV_CONF, LARGEST)
    if own is None:
        return
    if not os.path.lexists(_KEPT):
        staged = _KEPT.with_name(_KEPT.name + ".new")
        staged.unlink(missing_ok=True)
        staged.write_bytes(own)
        shutil.copystat(_RESOLV_CONF, staged)
        staged.replace(_KEPT)
    if own == _regular_file(_KEPT, LARGEST):
        _RESOLV_CONF.write_text(text)


def _regular_file(path: Path, most: int) -> bytes | None:
    """Read a file of the image; None for a link, for what is no regular file, and for one of more than `most` bytes."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        data = os.read(handle, most + 1) if stat.S_ISREG(os.fstat(handle).st_mode) else None
    finally:
        os.close(handle)
    return None if data is None or len(data) > most else data


def _deny_services() -> None:
    """Keep maintainer scripts from starting services: policy-rc.d, where packages are Debian's."""
    path = Path(POLICY)
    if not Path("/usr/sbin/invoke-rc.d").exists() or os.path.lexists(path):
        return
    times = path.parent.stat()
    path.write_text(POLICY_TEXT)
    path.chmod(0o755)
    os.utime(path.parent, ns=(times.st_atime_ns, times.st_mtime_ns))


def allow_services() -> None:
    """Remove policy-rc.d again, unless it is the image's own."""
    path = Path(POLICY)
    if _regular_file(path, LARGEST) != POLICY_TEXT.encode():
        return
    times = path.parent.stat()
    path.unlink()
    os.utime(path.parent, ns=(times.st_atime_ns, times.st_mtime_ns))
