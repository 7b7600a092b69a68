"""A virtual machine that fills a new file system, where this host's kernel mounts none for the user.

    kernel      that of the tree of files, otherwise of an image of the catalogue
    initramfs   its modules, busybox, guest/fill, and this host's cp and chattr: no program of the tree is run
    source      an ext4 file system with the files, which any user can write (write_root.py)
    target      the new file system, as mkfs has made it

The machine is always emulated: the root of a user namespace has no group by which it could open /dev/kvm.
"""

from __future__ import annotations

import os
import select
import shlex
import stat
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ..budget import KERNEL_BOUNDS, Budget
from ..disks.disk import Disk
from ..disks.root_files import RootUnreadable
from ..errors import EnvironmentFault, ImageFileError, InputError, NotFound
from ..host.programs import find_tool, run_tool
from ..machines.accelerator import QEMU
from ..machines.direct_boot.direct_boot import GUEST, static_busybox
from ..machines.direct_boot.initramfs import CpioMember, archive
from ..machines.direct_boot.installed_kernel import DirectBootImpossible, InstalledKernel, SystemFiles, find_kernel
from ..machines.direct_boot.kernel_image import unpacked
from ..machines.qemu import CPU, DISK_OPTIONS, MACHINE, NO_LEGACY
from ..sandbox.system_calls import open_in_root

HELPER_PROGRAMS = (QEMU, "busybox", "cp", "chattr", "ldd", "setpriv")

_APPLETS = ("insmod", "mount", "poweroff", "sh", "sleep", "umount", "usleep")
_DRIVERS = ("nvme", "ext4")
_PARAMETERS = "console=ttyS0 quiet cryptomgr.notests no_timer_check init_on_alloc=0 rcupdate.rcu_expedited=1 panic=-1"
_MEMORY = "512M"
_FLAGS: Mapping[int, str] = {0x10: "i", 0x20: "a", 0x40: "d", 0x80: "A"}  # KEPT_FLAGS as chattr calls them
_FILLED = "goldsmith: filled"
_LONGEST = 3600  # seconds
_CONSOLE = 16 << 10  # bytes of the console's end that are kept
_QUOTED_LINES = 6


@dataclass(frozen=True)
class HelperMachine:
    """The files that QEMU starts."""

    kernel: Path
    initrd: Path

    @classmethod
    def in_folder(cls, folder: Path) -> HelperMachine:
        """Return the machine whose files prepare_helper() makes in a folder."""
        return cls(folder / "kernel", folder / "initrd")

    def fill(self, source: Path, target: Path, kind: str, flags: Mapping[str, int]) -> None:
        """Copy all files of one file system into the other one, and set flags of files by their paths.

        Each is a file that holds a file system alone. EnvironmentFault, which quotes the machine's console.
        """
        descriptor = os.memfd_create("initrd")
        try:
            with os.fdopen(os.dup(descriptor), "wb") as file:
                file.write(self.initrd.read_bytes())
                file.write(archive({"flags": CpioMember.file(_script(flags))}))
            console = _console(self._command(source, target, kind, f"/proc/{os.getpid()}/fd/{descriptor}"))
        finally:
            os.close(descriptor)
        lines = [line.strip() for line in console.splitlines() if line.strip()]
        if _FILLED not in lines:
            said = "\n".join(f"    {line}" for line in lines[-_QUOTED_LINES:])
            raise EnvironmentFault(
                f"the machine that fills {kind} has not done so:\n{said}\n"
                "run this as root of a machine with loop devices, or write type: ext4"
            )

    def _command(self, source: Path, target: Path, kind: str, initrd: str) -> list[str]:
        return [
            *(find_tool("setpriv"), "--pdeathsig", "KILL", find_tool(QEMU)),
            *("-nodefaults", "-no-user-config", "-display", "none", "-sandbox", "on", "-no-reboot"),
            *("-accel", "tcg,thread=multi", "-machine", MACHINE + NO_LEGACY, "-cpu", CPU["tcg"], "-m", _MEMORY),
            *("-kernel", str(self.kernel), "-initrd", initrd),
            *("-append", f"{_PARAMETERS} goldsmith.type={kind}"),
            *("-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"),
            *("-drive", f"if=none,id=source,format=raw,readonly=on,file={source}"),
            *("-device", "nvme,drive=source,serial=source"),
            *("-drive", f"if=none,id=target,format=raw,{DISK_OPTIONS},file={target}"),
            *("-device", "nvme,drive=target,serial=target"),
        ]


def prepare_helper(tree: Path, disks: Sequence[Path], kinds: Iterable[str], folder: Path) -> str:
    """Make a machine's files in a folder, of the first kernel that mounts such file systems: the tree's, or a disk's.

    The process has to be able to read all of the tree. InputError where there is none.
    """
    wanted = [*_DRIVERS, *sorted(set(kinds))]
    refusals = []
    with ExitStack() as stack:
        candidates: list[tuple[Path, SystemFiles | None]] = [(tree, _TreeFiles(tree, stack))]
        candidates += [(disk, None) for disk in disks]
        for subject, files in candidates:
            try:
                budget = Budget(KERNEL_BOUNDS, subject)
                kernel = find_kernel(files or stack.enter_context(Disk(subject)).root, subject, budget)
                _make(kernel, kernel.modules(wanted, budget), HelperMachine.in_folder(folder), budget)
            except (RootUnreadable, DirectBootImpossible, ImageFileError, ValueError) as error:
                refusals.append(str(error).replace(str(tree), "the tree of files"))
            else:
                return ""
    raise InputError(
        f"{' and '.join(sorted(set(kinds)))}: without root and loop devices, a machine with a kernel of the tree or of "
        f"an image has to mount it, and there is none ({'; '.join(refusals)}); add a kernel's package, have an image "
        "with one (goldsmith images bootstrap debian-12), run this as root of a machine with loop devices, or write "
        "type: ext4"
    )


def _make(kernel: InstalledKernel, modules: Mapping[str, CpioMember], machine: HelperMachine, budget: Budget) -> None:
    machine.kernel.write_bytes(unpacked(kernel.image, budget) or kernel.image)
    machine.initrd.write_bytes(archive({**_programs(), **modules}))


def _programs() -> dict[str, CpioMember]:
    members = {
        "init": CpioMember.file((GUEST / "fill").read_bytes(), executable=True),
        "bin/busybox": CpioMember.file(static_busybox(), executable=True),
        **{f"bin/{name}": CpioMember.link("busybox") for name in _APPLETS},
        **{name: CpioMember.folder() for name in ("dev", "modules", "proc", "source", "sys", "target")},
    }
    for name in ("cp", "chattr"):
        path = find_tool(name)
        members[f"programs/{name}"] = CpioMember.file(Path(path).read_bytes(), executable=True)
        for library in _libraries(path):
            members[library.lstrip("/")] = CpioMember.file(Path(library).read_bytes(), executable=True)
    return members


def _libraries(program: str) -> list[str]:
    """Return the files that a program loads: ldd writes `NAME => FILE (ADDRESS)`, or `FILE (ADDRESS)`."""
    words = run_tool(["ldd", program]).split()
    return [word for word, behind in pairwise(words) if word.startswith("/") and behind.startswith("(0x")]


def _script(flags: Mapping[str, int]) -> bytes:
    """Return the commands that set flags of files in the working directory, of those that are there."""
    lines = []
    for path, value in sorted(flags.items()):
        letters = "".join(letter for bit, letter in _FLAGS.items() if value & bit)
        name = shlex.quote(f".{path}")
        lines.append(f"[ ! -e {name} ] || chattr +{letters} {name} || fail 'flags are not set'\n")
    return os.fsencode("".join(lines))


def _console(command: Sequence[str]) -> str:
    """Run a machine to its end, and return the end of what it said. EnvironmentFault when it takes too long."""
    said = b""
    deadline = time.monotonic() + _LONGEST
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        waiting = select.poll()
        waiting.register(process.stdout, select.POLLIN)
        try:
            while waiting.poll(max(0.0, deadline - time.monotonic()) * 1000):
                piece = os.read(process.stdout.fileno(), _CONSOLE)
                if not piece:
                    return said.decode("utf-8", "replace")
                said = (said + piece)[-_CONSOLE:]
        finally:
            process.kill()
    raise EnvironmentFault(f"a machine that copies files has not ended within {_LONGEST} s")


class _TreeFiles:
    """The files of a tree, by their paths in it: no link leads out of it."""

    def __init__(self, tree: Path, stack: ExitStack) -> None:
        self._tree = tree
        self._root = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        stack.callback(os.close, self._root)

    def exists(self, path: str) -> bool:
        try:
            os.close(self._open(path, os.O_PATH))
        except OSError:
            return False
        return True

    def names(self, folder: str) -> list[str]:
        try:
            descriptor = self._open(folder, os.O_DIRECTORY)
        except OSError as error:
            raise NotFound(f"there is no folder {folder} in {self._tree}") from error
        try:
            with os.scandir(descriptor) as entries:
                return sorted(entry.name for entry in entries)
        finally:
            os.close(descriptor)

    def read_all(self, paths: Iterable[str], limit: int | None = None) -> dict[str, bytes]:
        found = {}
        for path in paths:
            with suppress(OSError), os.fdopen(self._open(path, os.O_NONBLOCK), "rb") as file:
                if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    found[path] = file.read(-1 if limit is None else limit)
        return found

    def _open(self, path: str, flags: int) -> int:
        return open_in_root(self._root, os.fsencode(path), os.O_RDONLY | flags)
