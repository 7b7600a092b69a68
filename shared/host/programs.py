"""Run one program of the host to its end: list arguments, no shell, and an error that quotes what it said."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from ..errors import EnvironmentFault, MissingTool

PACKAGES: Mapping[str, str] = {
    "apt-helper": "apt",
    "busybox": "busybox-static",
    "chattr": "e2fsprogs",
    "cp": "coreutils",
    "debugfs": "e2fsprogs",
    "dumpe2fs": "e2fsprogs",
    "grub-mkimage": "grub-common",
    "gzip": "gzip",
    "ldd": "libc-bin",
    "lz4": "lz4",
    "mcopy": "mtools",
    "mke2fs": "e2fsprogs",
    "mkfs.btrfs": "btrfs-progs",
    "mkfs.vfat": "dosfstools",
    "mkfs.xfs": "xfsprogs",
    "mkswap": "util-linux",
    "mmd": "mtools",
    "mmdebstrap": "mmdebstrap",
    "qemu-aarch64-static": "qemu-user-static",
    "qemu-img": "qemu-utils",
    "qemu-system-aarch64": "qemu-system-arm",
    "qemu-system-x86_64": "qemu-system-x86",
    "prlimit": "util-linux",
    "resize2fs": "e2fsprogs",
    "setpriv": "util-linux",
    "sfdisk": "fdisk",
    "unshare": "util-linux",
    "slirp4netns": "slirp4netns",
    "socat": "socat",
    "newgidmap": "uidmap",
    "newuidmap": "uidmap",
    "sqfs2tar": "squashfs-tools-ng",
    "tar": "tar",
    "tar2sqfs": "squashfs-tools-ng",
    "unsquashfs": "squashfs-tools",
    "zstd": "zstd",
}
"""Which Debian package has a program that Goldsmith runs."""

_QUOTED_LINES = 12
_PARENT_DEATH = 1  # PR_SET_PDEATHSIG of linux/prctl.h
_before_programs: Callable[[], object] | None = None
_SYSTEM_FOLDERS = "/usr/local/sbin:/usr/sbin:/sbin:/usr/lib/apt"  # not on a user's PATH in Debian: mke2fs, apt-helper


class ProgramFailed(EnvironmentFault):
    """A program ended with an error; the text quotes its last lines."""

    def __init__(self, program: str, status: int, output: str) -> None:
        lines = [line for line in output.strip().splitlines() if line.strip()][-_QUOTED_LINES:]
        super().__init__(f"{program} ended with status {status}:\n" + "\n".join(f"    {line}" for line in lines))
        self.program = program
        self.status = status
        self.output = output


def find_tool(program: str) -> str:
    """Return the program's path. Raises MissingTool."""
    path = shutil.which(program, path=os.environ.get("PATH", os.defpath) + ":" + _SYSTEM_FOLDERS)
    if path is None:
        raise MissingTool(program, PACKAGES.get(Path(program).name, program))
    return path


def run_tool(
    arguments: Sequence[str | Path],
    *,
    stdin: str | None = None,
    environment: Mapping[str, str] | None = None,
    keep_open: Sequence[int] = (),
) -> str:
    """Run a program and give its standard output as text.

    `environment` is added to this process's, and the program inherits the descriptors in `keep_open`.
    Raises MissingTool when there is no such program, ProgramFailed when it ends with another status than 0.
    """
    done = complete(arguments, stdin=stdin, environment=environment, keep_open=keep_open)
    if done.returncode:
        raise ProgramFailed(str(arguments[0]), done.returncode, done.stderr or done.stdout)
    return done.stdout


def end_programs_with_this_process() -> None:
    """Have the kernel kill the programs that this process runs from now on when it ends, however it does."""
    global _before_programs
    library = ctypes.CDLL(None)
    _before_programs = partial(library.prctl, _PARENT_DEATH, signal.SIGKILL, 0, 0, 0)


def complete(
    arguments: Sequence[str | Path],
    *,
    stdin: str | None = None,
    environment: Mapping[str, str] | None = None,
    keep_open: Sequence[int] = (),
) -> subprocess.CompletedProcess[str]:
    """Run a program whose exit status does not tell everything; give that, its output and its complaints."""
    return subprocess.run(
        [find_tool(str(arguments[0])), *(str(argument) for argument in arguments[1:])],
        preexec_fn=_before_programs,  # None but in a process with one thread
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        env={**os.environ, **(environment or {})},
        pass_fds=tuple(keep_open),
        check=False,
    )


def follow_output(
    arguments: Sequence[str | Path],
    each_line: Callable[[str], None],
    *,
    environment: Mapping[str, str] | None = None,
    keep_open: Sequence[int] = (),
) -> None:
    """Run a long program and hand over each line that it writes, as it comes. It dies with this process.

    The program inherits the descriptors in `keep_open`. Raises as run_tool() does; when `each_line` raises, the
    program is killed first.
    """
    command = [find_tool("setpriv"), "--pdeathsig", "KILL", find_tool(str(arguments[0])), *map(str, arguments[1:])]
    last: deque[str] = deque(maxlen=_QUOTED_LINES)
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, **(environment or {})},
        pass_fds=tuple(keep_open),
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                last.append(line)
                each_line(line.rstrip())
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise ProgramFailed(str(arguments[0]), process.returncode, "".join(last))
