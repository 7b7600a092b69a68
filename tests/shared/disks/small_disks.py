"""Small partitioned disks for tests, made with the system's own tools."""

import os
import subprocess
import tempfile
from pathlib import Path

MIB = 1 << 20
ENVIRONMENT = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
LINUX_ROOT = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"
EFI = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"


def tool(*arguments: str | Path, stdin: str = "") -> str:
    done = subprocess.run(
        [str(argument) for argument in arguments], input=stdin, capture_output=True, text=True, env=ENVIRONMENT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def partitioned(path: Path, table: str, size: int = 32 * MIB) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    tool("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", path, stdin=table)
    return path


def add_ext4(disk: Path, start: int, size: int, tree: Path) -> None:
    tool("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-E", f"offset={start}", "-d", tree, disk, str(size // 4096))


def rooted(path: Path, tree: Path, size: int = 32 * MIB) -> Path:
    """A GPT disk with an ESP of 1 MiB in partition 15 and an ext4 root, the rest, in partition 1."""
    sectors = (size - 3 * MIB) // 512
    table = f"label: gpt\nstart=4096, size={sectors}, type={LINUX_ROOT}\n15: start=2048, size=2048, type={EFI}\n"
    partitioned(path, table, size)
    add_ext4(path, 2 * MIB, size - 3 * MIB, tree)
    return path


def left_clean(path: Path, *folders: str) -> Path:
    """What a VM leaves that has finished its work: a GPT disk whose ext4 root has these folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as tree:
        for folder in folders:
            (Path(tree) / folder).mkdir(parents=True)
        return rooted(path, Path(tree))


def os_tree(folder: Path) -> Path:
    """The few files of a Debian root that Goldsmith looks at."""
    for name in ("etc", "usr/lib", "usr/bin", "boot", "var/lib/dpkg", "usr/lib/modules/6.1.0-9-cloud-amd64"):
        (folder / name).mkdir(parents=True)
    (folder / "usr/lib/os-release").write_text('PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n')
    (folder / "etc/os-release").symlink_to("../usr/lib/os-release")
    (folder / "lib").symlink_to("usr/lib")
    (folder / "bin").symlink_to("/usr/bin")
    (folder / "usr/bin/python3.11").write_bytes(b"\x7fELF")
    (folder / "usr/bin/python3").symlink_to("python3.11")
    (folder / "boot/vmlinuz-6.1.0-9-cloud-amd64").write_bytes(b"MZ kernel")
    (folder / "vmlinuz").symlink_to("boot/vmlinuz-6.1.0-9-cloud-amd64")
    (folder / "var/lib/dpkg/status").write_text(STATUS)
    return folder


STATUS = """\
Package: zlib1g
Status: install ok installed
Architecture: amd64
Version: 1:1.2.13.dfsg-1
Description: compression library
 Status: a line of text, not a field

Package: adduser
Status: install ok installed
Architecture: all
Version: 3.134

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0
"""
