"""A room: a sandbox on this host's own programs, for work that makes a tree of files.

    /usr, /bin, /lib ...    this host's, read-only
    /etc                    a few files of its own, and what programs of /usr look for: links, libraries, public keys
    /tmp, /var, /root       memory, empty
    /run/goldsmith/job      files of the job, read-only
    /run/goldsmith/tree     the files that are made; with the ids that they will have in an image
    /run/goldsmith/cache    what is kept for the next job

All else is as in a sandbox of a build: namespaces of its own, also for root, no way to this host's addresses, limits,
and no process or mount that outlives this one. It is started with a RoomSpec as JSON. Its output is the job's; its
exit status too, or OWN_FAULT with words on standard error where the room was lost.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from provisioner.system.mounts import mounts

from ..errors import EnvironmentFault, GoldsmithError
from ..host.programs import end_programs_with_this_process
from ..sandbox.assembly import NAME_SERVER, make_devices, mount_kernel_views
from ..sandbox.inside import OWN_FAULT, Entrance, Furniture, die_with_parent, enter, renounce_rights, status_of_process
from ..sandbox.limits import SandboxLimits, alive_pipe, make_limits
from ..sandbox.roots.loop_root import lower_capabilities
from ..sandbox.system_calls import (
    BIND,
    NEW_MOUNTS,
    NO_DEVICES,
    NO_PROGRAMS,
    NO_SET_ID,
    READ_ONLY,
    RECURSIVE,
    REMOUNT,
    bind,
    end_with_parent,
    hide_process,
    keep_mounts_private,
    mount_file_system,
    mount_shifted,
    pivot_root,
    unshare,
)
from ..sandbox.user_namespace import FIRST_ID, IDS, enter_user_namespace, own_id_ranges

PLACE = "/run/goldsmith"
JOB, TREE, CACHE = (f"{PLACE}/{name}" for name in ("job", "tree", "cache"))
RESULT_HANDLE = 3  # the descriptor on which the job tells its result
ROOM_LOST = OWN_FAULT  # the exit status of a room that was lost

_ADDRESS = "169.254.169.254"  # at which nothing answers
_LOOK = 0.5  # seconds between two looks at memory and disk
_ROOM_LEFT = 64 << 20  # bytes that have to stay free where the tree is
_SAID = 64  # bytes of a message from the parent
_ESCAPED = re.compile(r"\\([0-7]{3})")  # in the kernel's list of mounts
_TOP = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_SHOWN = (
    *("alternatives", "ca-certificates", "ca-certificates.conf", "crypto-policies", "debian_version"),
    *("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "mime.types", "os-release", "perl", "protocols", "services"),
    *("apt/trusted.gpg.d", "pki/ca-trust", "pki/rpm-gpg", "pki/tls/certs", "ssl/certs", "ssl/openssl.cnf"),
)
"""What programs of /usr look for in /etc: nothing of it is secret, or tells of a person."""
_FILES: Mapping[str, str] = {
    "passwd": (
        "root:x:0:0:root:/root:/bin/sh\n"
        "_apt:x:42:65534::/nonexistent:/usr/sbin/nologin\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    ),
    "group": "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "hostname": "localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
_FOLDERS = (
    *("dev", "etc", "home", "mnt", "opt", "proc", "root", "run", "srv", "sys", "tmp", "usr", "var"),
    *("etc/apt/apt.conf.d", "etc/apt/preferences.d", "etc/dpkg/dpkg.cfg.d"),
    *("var/cache/apt/archives/partial", "var/lib/apt/lists/partial", "var/lib/dpkg", "var/log", "var/tmp"),
)


@dataclass(frozen=True)
class RoomSpec:
    """What a room is made of. `folder` is its own; it has a folder `job` with files that any user may read."""

    name: str
    folder: str
    command: tuple[str, ...]
    network: bool  # whether it reaches other hosts
    memory: int  # bytes
    control: int  # the socket on which it asks its parent for a network
    result: int  # a pipe
    tree: str | None = None  # a folder, which is made
    cache: str | None = None  # a folder
    also: tuple[str, ...] = ()  # more folders of this host, which are shown in their places

    def encode(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> RoomSpec:
        """Read what encode() has written."""
        document: dict[str, Any] = json.loads(text)
        return cls(**{**document, "command": tuple(document["command"]), "also": tuple(document["also"])})


class _Room:
    """The host's side of one room."""

    def __init__(self, spec: RoomSpec) -> None:
        self._spec = spec
        self._control = socket.socket(fileno=spec.control)
        self._base = 0 if os.geteuid() else FIRST_ID

    def run(self) -> int:
        """Run the job; return its exit status. GoldsmithError; OSError."""
        limits = make_limits(self._spec.name, self._spec.memory)
        alive = alive_pipe(limits)
        if not self._base:
            enter_user_namespace(own_id_ranges())
            _end_with_parent()
        unshare(NEW_MOUNTS)
        keep_mounts_private()
        staging = self._staging()
        tree = None if self._spec.tree is None else Path(self._spec.tree)
        os.chdir(staging)  # the room's root may not pass through the folders that lead here
        furniture = Furniture(
            root=Path("root"),
            cidata=Path("job"),
            run_bytes=0,
            root_uuid="",
            root_label="",
            table="",
            address=_ADDRESS,
            network=self._spec.network,
            limits=limits.resources,
        )
        entrance = enter(furniture, self._control.close, partial(_first_process, self._spec))
        os.close(self._spec.result)
        with entrance.closing(alive):
            self._introduce(entrance, limits, tree)
            status = self._follow(entrance, limits, tree)
        if tree is not None and self._base:
            lower_capabilities(tree, 0)
        return status

    def _staging(self) -> Path:
        """Mount what the room shows, but for the tree, in a folder of this mount namespace."""
        staging = Path(self._spec.folder, "room")
        staging.mkdir(exist_ok=True)
        mount_file_system("room", staging, "tmpfs", options="size=1m,mode=755")
        for name in ("root", "job", "tree", "cache"):
            (staging / name).mkdir()
        bind(Path(self._spec.folder, "job"), staging / "job", READ_ONLY | NO_SET_ID | NO_DEVICES)
        if self._spec.cache is not None:
            os.chown(self._spec.cache, self._base, self._base)
            bind(self._spec.cache, staging / "cache", NO_SET_ID | NO_DEVICES | NO_PROGRAMS)
        if self._spec.tree is not None:
            tree = Path(self._spec.tree)
            tree.mkdir()
            tree.chmod(0o755)
        return staging

    def _introduce(self, entrance: Entrance, limits: SandboxLimits, tree: Path | None) -> None:
        """Do what the new processes wait for. EnvironmentFault."""
        while True:
            text, descriptors = entrance.receive()
            if text == "ready":
                return
            if text == "users":
                for name in ("gid_map", "uid_map"):
                    Path(f"/proc/{entrance.pid}/{name}").write_text(f"0 {self._base} {IDS}\n")
                if tree is not None:
                    self._show_tree(tree, descriptors[0])
                limits.apply(entrance.pid)
            elif text == "network":
                if self._spec.network:
                    self._connect(descriptors[:2])
            elif text != "round":
                why = text.removeprefix("failed: ") or "its first process ended"
                raise EnvironmentFault(f"a sandbox on this host's programs could not be set up: {why}")
            for descriptor in descriptors:
                os.close(descriptor)
            entrance.go_on()

    def _show_tree(self, tree: Path, users: int) -> None:
        if not self._base:
            bind(tree, "tree")
            return
        try:
            mount_shifted(tree, "tree", users)
        except OSError as error:
            raise EnvironmentFault(
                f"this host's kernel cannot shift the ids of files in {tree.parent} ({error.strerror}), which takes "
                "Linux 6.3 in memory; run this as an ordinary user"
            ) from error

    def _connect(self, descriptors: list[int]) -> None:
        socket.send_fds(self._control, [b"network"], descriptors)
        if self._control.recv(_SAID) != b"connected":
            raise EnvironmentFault("a sandbox has no network: its parent could not connect it")

    def _follow(self, entrance: Entrance, limits: SandboxLimits, tree: Path | None) -> int:
        """Wait until the first process ends; return its exit status. EnvironmentFault for one that took too much."""
        poller = select.poll()
        poller.register(entrance.descriptor, select.POLLIN)
        while not poller.poll(_LOOK * 1000):
            why = ""
            if limits.is_exceeded(entrance.pid):
                why = f"used more than {self._spec.memory >> 20} MiB of memory"
            elif tree is not None and _free(tree) < _ROOM_LEFT:
                why = f"left no room on the file system of {tree.parent}"
            if why:
                raise EnvironmentFault(f"the scripts of root.d {why}, and were ended; give this machine more of it")
        text, _ = entrance.receive()
        if text.startswith("ended "):
            return int(text.split()[1])
        why = text.removeprefix("failed: ") or "its first process was ended"
        raise EnvironmentFault(f"a sandbox on this host's programs was lost: {why}")


def _free(folder: Path) -> int:
    state = os.statvfs(folder)
    return state.f_bavail * state.f_frsize


# Inside


def _first_process(spec: RoomSpec, furniture: Furniture, connection: socket.socket) -> int:
    """Be the first process of the room: assemble it, run the job, and return its exit status."""
    die_with_parent(connection)
    hide_process()
    _assemble(spec, furniture.root)
    with suppress(OSError):
        socket.sethostname("localhost")
    renounce_rights()
    job = os.fork()
    if not job:
        try:
            _become_job(spec)
        finally:
            os._exit(127)
    os.close(spec.result)
    connection.sendall(b"ready")
    connection.close()
    while True:
        ended, status = os.wait()  # of processes that scripts have left, too
        if ended == job:
            return status_of_process(status)


def _become_job(spec: RoomSpec) -> None:
    os.setsid()
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    if spec.result == RESULT_HANDLE:
        os.set_inheritable(spec.result, True)
    else:
        os.dup2(spec.result, RESULT_HANDLE)
    os.umask(0o022)
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
    os.execve(spec.command[0], spec.command, {**environment, "LC_ALL": "C.UTF-8"})  # noqa: S606 - ours


def _assemble(spec: RoomSpec, root: Path) -> None:
    """Mount all that belongs to the room, and make it the root. OSError."""
    keep_mounts_private()
    mount_file_system("room", root, "tmpfs", NO_SET_ID | NO_DEVICES, f"size={spec.memory // 2},mode=755")
    for name in _FOLDERS:
        (root / name).mkdir(parents=True)
    for name in ("tmp", "var/tmp"):
        (root / name).chmod(0o1777)
    (root / "var/lib/dpkg/status").touch()
    for place in (*(Path("/", name) for name in _TOP), Path("/usr"), *map(Path, spec.also)):
        _show(place, root / str(place).lstrip("/"))
    _furnish_etc(root / "etc", network=spec.network)
    mount_kernel_views(root)
    make_devices(root / "dev", spec.memory // 4)
    for name, shown, wanted in (("job", JOB, True), ("tree", TREE, spec.tree), ("cache", CACHE, spec.cache)):
        target = root / shown.lstrip("/")
        target.mkdir(parents=True)
        if wanted:
            mount_file_system(name, target, flags=BIND | RECURSIVE)
    pivot_root(root)


def _show(place: Path, target: Path) -> None:
    """Show a file or folder of this host at `target`, read-only; a link as it is, and nothing where nothing is."""
    if place.is_symlink():
        target.symlink_to(place.readlink())
    elif place.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        if place.is_dir():
            target.mkdir(exist_ok=True)
        else:
            target.touch()
        mount_file_system(place, target, flags=BIND | RECURSIVE)
        for mount in (str(target), *_mounts_below(target)):  # no absolute paths: they may lead through closed folders
            flags = READ_ONLY | NO_SET_ID | NO_DEVICES | _no_programs(mount)
            mount_file_system("none", mount, flags=BIND | REMOUNT | flags)


def _mounts_below(folder: Path) -> list[str]:
    """Return what is mounted below a folder."""
    shown = str(folder.absolute())
    escaped = "".join(f"\\{ord(letter):03o}" if letter in " \t\n\\" else letter for letter in shown)
    paths = {mount.path.removeprefix(escaped) for mount in mounts() if mount.path.startswith(f"{escaped}/")}
    return [str(folder) + _ESCAPED.sub(lambda found: chr(int(found[1], 8)), path) for path in sorted(paths)]


def _no_programs(mount: str) -> int:
    """Return the flag of a mount without programs where the host's is one: it cannot be taken away."""
    return NO_PROGRAMS if os.statvfs(mount).f_flag & os.ST_NOEXEC else 0


def _furnish_etc(etc: Path, *, network: bool) -> None:
    for name, text in _FILES.items():
        (etc / name).write_text(text)
    (etc / "resolv.conf").write_text(f"nameserver {NAME_SERVER}\n" if network else "")
    (etc / "mtab").symlink_to("/proc/self/mounts")
    for name in _SHOWN:
        place = Path("/etc", name)
        if not place.parent.is_symlink():
            (etc / name).parent.mkdir(parents=True, exist_ok=True)
            with suppress(PermissionError):
                _show(place, etc / name)


def _end_with_parent() -> None:
    parent = os.getppid()
    end_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


def main(arguments: list[str]) -> int:
    """Run the room of the RoomSpec in `arguments`."""
    _end_with_parent()
    end_programs_with_this_process()
    try:
        return _Room(RoomSpec.decode(arguments[0])).run()
    except GoldsmithError as error:
        sys.stderr.write(f"{error}\n")
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        sys.stderr.write(f"a sandbox on this host's programs was lost: {place}{error.strerror or error}\n")
    return ROOM_LOST
