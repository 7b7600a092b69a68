"""The root file system of an image for another processor than this host's, as root_tree.py makes it for this one.

The scripts of its packages are programs for that processor. QEMU runs each of them as a process of this host, since the
kernel is told to start it for files of their kind (binfmt_misc). From Linux 6.7 on a user namespace has such a table of
its own: mmdebstrap runs in one, for root too, and nothing of this host is changed. Before, this host's own table has to
have the entry, which the packages qemu-user-static and binfmt-support make.

The boot loader comes from the same archive, for no package of this host has it: its modules are put where grub-install
would put them.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from ...architectures import Architecture, of_host
from ...errors import EnvironmentFault, InputError
from ...host.programs import ProgramFailed, find_tool, follow_output, run_tool
from ...host.scratch import Scratch
from ...ports import Notify
from .root_tree import TreeContents, root_overlay
from .tree_owner import as_owner

GRUB_MODULES = "boot/grub/arm64-efi"

_TABLE = Path("/proc/sys/fs/binfmt_misc")
_MERGED_USR = "/usr/share/mmdebstrap/hooks/merged-usr"  # as root_tree.py has it
_MISSING = re.compile(r"Unable to locate package (\S+)|Couldn't find any package by \S+ '(\S+)'")
_STAGE = re.compile(r"I: [a-z][^/]*\.\.\.")
_REFUSED = "goldsmith: no table of programs: "
_SOURCES = Path(__file__).resolve().parents[3]

# The magic numbers and the mask of an ELF header, as QEMU's scripts/qemu-binfmt-conf.sh has them. F: the interpreter is
# opened now, and need not be in the new root.
_ENTRY = (
    r":goldsmith-{name}:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x{elf:02x}\x00"
    r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:{interpreter}:F"
)

# $0: the entry; then the command. Its mounts and processes end with it.
_REGISTER = f"""\
mount -t binfmt_misc binfmt_misc {_TABLE} 2>/dev/null && printf '%s' "$0" >{_TABLE}/register ||
    {{ echo "{_REFUSED}the kernel has none for a user namespace" >&2; exit 1; }}
exec "$@"
"""
_TIED = ("setpriv", "--pdeathsig", "KILL")
_CONFINE = (*_TIED, "unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")
_ENTER = (
    "import os, sys; sys.path.insert(0, sys.argv[1])\n"
    "from shared.errors import GoldsmithError\n"
    "from shared.sandbox.user_namespace import IdRanges, enter_user_namespace, own_id_ranges\n"
    "try:\n"
    "    enter_user_namespace(own_id_ranges() if os.geteuid() else IdRanges(0, 0))\n"
    "except GoldsmithError as error:\n"
    "    sys.exit(str(error))\n"
    "os.execvp(sys.argv[2], sys.argv[2:])\n"
)

# $1: the new root. apt and dpkg are this host's.
_FETCH_GRUB = f"""\
set -eu
cd "$1"
mkdir -p {Path(GRUB_MODULES).parent} tmp/goldsmith-grub
cd tmp/goldsmith-grub
APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get -qq download grub-efi-arm64-bin
dpkg-deb -x ./*.deb .
mv usr/lib/grub/arm64-efi "$1/{Path(GRUB_MODULES).parent}/"
cd "$1"
rm -rf tmp/goldsmith-grub
chmod 755 boot/grub
"""


def make_foreign_tree(
    scratch: Scratch, wanted: TreeContents, architecture: Architecture, time: int, progress: Notify
) -> Path:
    """Install packages and our files in a new folder below `scratch`; no time in it is later than `time`.

    Raises as make_tree() does, and EnvironmentFault where this host cannot run the programs of the architecture.
    """
    overlay_file, finish_file, tree = scratch.path / "overlay.tar", scratch.path / "finish", scratch.path / "tree"
    grub_file = scratch.path / "grub"
    overlay_file.write_bytes(root_overlay(wanted.files, time))
    finish_file.write_text(wanted.finish)
    grub_file.write_text(_FETCH_GRUB)
    for path in (finish_file, grub_file):
        path.chmod(0o644)  # read in the user namespace, by another user than ours
    command = [
        *("mmdebstrap", "--mode=root", "--skip=check/qemu", f"--architectures={architecture.debian}"),
        *(f"--variant={wanted.variant}", "--format=directory", f"--hook-dir={_MERGED_USR}"),
        *([f"--include={','.join(wanted.packages)}"] if wanted.packages else []),
        *([f"--keyring={_keyring(scratch.path, wanted.keys)}"] if wanted.keys is not None else []),
        *('--aptopt=APT::Install-Recommends "false"', '--aptopt=Acquire::Languages "none"'),
        *(f"--dpkgopt={option}" for option in (*_excludes(wanted), "force-unsafe-io")),
        f"--customize-hook=tar-in {overlay_file} /",
        f'--customize-hook=sh {grub_file} "$1"',
        f'--customize-hook=chroot "$1" /bin/sh -c "$(cat {finish_file})"',
        *(wanted.source.suite, str(tree), *wanted.source.lines),
    ]
    environment = {"SOURCE_DATE_EPOCH": str(time), **({"INITRD": "No"} if wanted.late_initrd else {})}
    try:
        follow_output(
            [*able_to_run(architecture), *command],
            lambda line: progress(line[3:]) if _STAGE.fullmatch(line) else None,
            environment=environment,
            keep_open=[scratch.lock],
        )
    except ProgramFailed as error:
        raise _explained(error, architecture) from error
    run_tool(as_owner("find", tree / "dev", "-xdev", "-mindepth", "1", "-delete"))
    for newer, touched in (("-newermt", "-m"), ("-newerat", "-a")):
        touch = ("touch", "-h", touched, "-d", f"@{time}")
        run_tool(as_owner("find", tree, newer, f"@{time}", "-exec", *touch, "{}", "+"))
    return tree


def able_to_run(architecture: Architecture) -> list[str]:
    """Return the prefix of a command that runs as root with all ids, and starts programs of an architecture."""
    can_run = of_host(os.uname().machine) == architecture or _is_in_host_table(architecture)
    enter = [*_TIED, sys.executable, "-I", "-S", "-E", "-c", _ENTER, str(_SOURCES)]
    prefix = [*_CONFINE] if can_run and os.geteuid() == 0 else [*enter, *_CONFINE]
    if can_run:
        return prefix
    interpreter = find_tool(f"qemu-{architecture.kernel}-static")
    entry = _ENTRY.format(name=architecture.name, elf=architecture.elf, interpreter=interpreter)
    return [*prefix, "sh", "-c", _REGISTER, entry]


def _is_in_host_table(architecture: Architecture) -> bool:
    """Return whether this host's own table has an entry that works in a new root."""
    try:
        lines = (_TABLE / f"qemu-{architecture.kernel}").read_text().splitlines()
    except OSError:
        return False
    return "enabled" in lines and any(line.startswith("flags:") and "F" in line for line in lines)


def _explained(error: ProgramFailed, architecture: Architecture) -> EnvironmentFault | InputError:
    missing = _MISSING.search(error.output)
    if missing is not None:
        return InputError(f"the archive has no package {missing[1] or missing[2]}; look for its name there")
    if _REFUSED in error.output:
        return EnvironmentFault(
            f"this host cannot run the programs of packages for {architecture.name}: its kernel is older than Linux "
            "6.7, and has no entry of QEMU's; install one, as root: apt-get install qemu-user-static binfmt-support"
        )
    return error


def _excludes(wanted: TreeContents) -> Sequence[str]:
    """Return what dpkg is to leave out, as the file for later packages says it."""
    text = wanted.files.get("etc/dpkg/dpkg.cfg.d/99mmdebstrap", "")
    assert isinstance(text, str)
    return text.splitlines()


def _keyring(folder: Path, keys: bytes) -> Path:
    place = folder / "keys"
    place.mkdir()
    name = "source.asc" if keys.lstrip().startswith(b"-----BEGIN PGP") else "source.gpg"
    (place / name).write_bytes(keys)
    for path in (place, place / name):
        path.chmod(0o755)
    return place
