"""The root file system of a bootstrapped image: which packages, which files of ours, what is taken out again.

mmdebstrap does the work, as root or in a user namespace. Our files go in as one tar (so that they belong to root in
either mode), the rest are commands in the new root.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...block_devices.boot_loader import configuration
from ...errors import InputError
from ...host.programs import ProgramFailed, follow_output, run_tool
from ...host.scratch import Scratch
from .package_source import PackageSource
from .tree_owner import as_owner

BASE_PACKAGES = (
    # boots
    "linux-image-cloud-amd64",
    "initramfs-tools",
    "zstd",
    "systemd-sysv",
    "udev",
    "kmod",
    "dbus",
    "libpam-systemd",
    # network
    "systemd-resolved",
    "systemd-timesyncd",
    "iproute2",
    "netbase",
    "ca-certificates",
    "openssh-server",
    # cloud
    "cloud-init",
    "cloud-guest-utils",
    "fdisk",
    "e2fsprogs",
    "python3",
    # people
    "sudo",
    "curl",
    "less",
    "procps",
    "vim-tiny",
)

# Disks that the root may be on, and all that a CIDATA disk may be on: cloud-init looks for it before udev runs again.
_INITRD_MODULES = ("virtio_pci", "virtio_scsi", "virtio_blk", "sd_mod", "sr_mod", "ata_piix")

# Makes the links of a merged /usr before anything is unpacked; else the package usrmerge does it later, with Perl.
_MERGED_USR = "/usr/share/mmdebstrap/hooks/merged-usr"
_MISSING = re.compile(r"Unable to locate package (\S+)|Couldn't find any package by \S+ '(\S+)'")
_STAGE = re.compile(r"I: [a-z][^/]*\.\.\.")  # what mmdebstrap says about where it is

_NETWORK = """\
# Every Ethernet interface that no other file configures (cloud-init's files sort before this one) asks DHCP.
[Match]
Type=ether
Kind=!*

[Network]
DHCP=yes

[DHCPv4]
UseMTU=yes
UseDomains=yes
"""

_CLOUD = """\
# Only the places that this image is meant for are asked: looking for every other cloud costs seconds.
datasource_list: [NoCloud, GCE, None]
locale: false
ssh_genkeytypes: [ed25519, ecdsa]
"""

# The last line as in Compute Engine's own images: cloud-init asks the metadata server by its name, also before or
# without any name server.
_HOSTS = """\
127.0.0.1 localhost
::1 localhost ip6-localhost ip6-loopback
169.254.169.254 metadata.google.internal metadata
"""

_HOST_KEYS = """\
[Unit]
Description=Make the SSH host keys that are missing
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key
ExecStart=/usr/bin/ssh-keygen -q -t ecdsa -N "" -f /etc/ssh/ssh_host_ecdsa_key
"""

_NEEDS_HOST_KEYS = """\
[Unit]
Wants=ssh-host-keys.service
After=ssh-host-keys.service
"""

_EXCLUDES = (
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
)

# What a tree of packages alone is finished with. Kernels and initramfs-tools make the same initrd twice, and none with
# INITRD=No.
PLAIN_FINISH = """\
set -eu
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
unset INITRD
if [ -x /usr/sbin/update-initramfs ]; then
    for kernel in /boot/vmlinu[xz]-*; do
        [ -e "$kernel" ] || continue
        version=${kernel#/boot/vmlinu?-}
        update-initramfs -c -k "$version"
        ! command -v linux-update-symlinks >/dev/null || linux-update-symlinks install "$version" "$kernel"
    done
    for link in /vmlinuz /initrd.img /boot/vmlinuz /boot/initrd.img; do
        [ "$(readlink "$link")" != "$(readlink "$link.old")" ] || rm -f "$link.old"
    done
fi
rm -f /etc/resolv.conf
rm -f /var/cache/debconf/*-old /var/lib/dpkg/*-old /etc/*- /var/cache/apt/*.bin
find /var/log -type f -delete
"""

# Run in the new root while /dev, /proc and /sys of this machine are mounted in it: nothing below them may be touched.
FINISH = """\
set -eu
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
systemctl --quiet enable systemd-networkd.service
systemctl --quiet disable ssh.service
systemctl --quiet enable ssh.socket
systemctl --quiet disable e2scrub_reap.service e2scrub_all.timer
unset INITRD
update-initramfs -c -k all
for kernel in /boot/vmlinuz-*; do linux-update-symlinks install "${kernel#/boot/vmlinuz-}" "$kernel"; done
test -e /vmlinuz && test -e /initrd.img
rm -f /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub /vmlinuz.old /initrd.img.old
rm -f /var/cache/debconf/*-old /var/lib/dpkg/*-old /etc/*- /var/cache/apt/*.bin
find /var/log -type f -delete
"""


@dataclass(frozen=True)
class TreeContents:
    """The contents of a root file system: packages, files of ours by their paths, and a script that is run at the end.

    `variant` is mmdebstrap's; `keys` those that sign the packages, where apt of this machine has others. With
    `late_initrd`, kernels get no initrd before the script makes one.
    """

    source: PackageSource
    packages: tuple[str, ...]
    variant: str
    files: Mapping[str, str | bytes]
    finish: str
    documents: bool  # manuals and the like
    late_initrd: bool
    keys: bytes | None = None


def cloud_contents(
    source: PackageSource, packages: Sequence[str], keys: bytes | None = None, *, root_kind: str = "ext4"
) -> TreeContents:
    """Return the contents of a system that boots, has a network and takes orders from a cloud.

    `root_kind` is the file system that the root will be: ext4, which is built into the kernels, or one whose module the
    initrd gets.
    """
    modules = (*_INITRD_MODULES, *([root_kind] if root_kind != "ext4" else []))
    members: Mapping[str, str | bytes] = {
        "etc/apt/apt.conf.d/99mmdebstrap": 'Acquire::Languages "none";\n',
        "etc/apt/sources.list": _lines(source.lines),
        "etc/cloud/cloud.cfg.d/10_datasources.cfg": _CLOUD,
        "etc/default/locale": "LANG=C.UTF-8\n",
        "etc/dpkg/dpkg.cfg.d/99mmdebstrap": _lines(_EXCLUDES),
        "etc/hostname": "localhost\n",
        "etc/hosts": _HOSTS,
        "etc/initramfs-tools/conf.d/modules": "MODULES=list\nCOMPRESS=zstd\n",
        "etc/initramfs-tools/modules": _lines(modules),
        "etc/systemd/network/80-ethernet-dhcp.network": _NETWORK,
        "etc/systemd/system/ssh-host-keys.service": _HOST_KEYS,
        "etc/systemd/system/ssh.service.d/host-keys.conf": _NEEDS_HOST_KEYS,
        **_key_file(keys),
    }
    return TreeContents(source, tuple(packages), "apt", members, FINISH, documents=False, late_initrd=True, keys=keys)


def plain_contents(
    source: PackageSource, packages: Sequence[str], variant: str, keys: bytes | None = None
) -> TreeContents:
    """Return the contents of a variant of mmdebstrap with more packages, and nothing else."""
    members: Mapping[str, str | bytes] = {
        "etc/apt/sources.list": _lines(source.lines),
        "etc/hostname": "localhost\n",
        "etc/hosts": _HOSTS,
        **_key_file(keys),
    }
    return TreeContents(
        source, tuple(packages), variant, members, PLAIN_FINISH, documents=True, late_initrd=True, keys=keys
    )


def boot_files(root_uuid: str) -> Mapping[str, str]:
    """Return what finds the root file system by its UUID, where a disk is assembled around the tree."""
    return {
        "etc/fstab": f"UUID={root_uuid} / ext4 defaults,x-systemd.growfs 0 1\n",
        "boot/grub/grub.cfg": configuration([f"root=UUID={root_uuid}", "ro", "console=tty0", "console=ttyS0,115200"]),
    }


def _lines(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _key_file(keys: bytes | None) -> Mapping[str, bytes]:
    """Return the file from which apt in the image takes keys; its ending tells how they are written."""
    return {} if keys is None else {f"etc/apt/trusted.gpg.d/{_key_name(keys)}": keys}


def _key_name(keys: bytes) -> str:
    return "source.asc" if keys.lstrip().startswith(b"-----BEGIN PGP") else "source.gpg"


def root_overlay(members: Mapping[str, str | bytes], time: int) -> bytes:
    """Pack files as a tar whose bytes depend on them and `time` (Unix seconds) alone. Folders are those above them."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for folder in sorted({str(parent) for name in members for parent in Path(name).parents} - {"."}):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o755, time
            archive.addfile(entry)
        for name, text in sorted(members.items()):
            data = text.encode() if isinstance(text, str) else text
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(data), 0o644, time
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def make_tree(scratch: Scratch, wanted: TreeContents, time: int, progress: Callable[[str], None]) -> Path:
    """Install packages and our files in a new folder below `scratch`; no time in it is later than `time`.

    `progress` gets a line for each stage. Raises MissingTool, InputError for a package that is not there, and
    EnvironmentFault with what mmdebstrap said.
    """
    overlay_file, finish_file, tree = scratch.path / "overlay.tar", scratch.path / "finish", scratch.path / "tree"
    overlay_file.write_bytes(root_overlay(wanted.files, time))
    finish_file.write_text(wanted.finish)
    finish_file.chmod(0o644)  # read in the user namespace, by another user than ours
    command = _mmdebstrap(tree, wanted, overlay_file, finish_file, _keyring(scratch.path, wanted.keys))
    environment = {"SOURCE_DATE_EPOCH": str(time)}
    if wanted.late_initrd:
        environment["INITRD"] = "No"  # one initrd at the end, not one a package
    try:
        _run(command, environment, scratch, progress)
    except ProgramFailed as error:
        missing = _MISSING.search(error.output)
        if missing is None:
            raise
        raise InputError(f"the archive has no package {missing[1] or missing[2]}; look for its name there") from error
    # What mmdebstrap had in /dev depends on its mode. Nothing of this machine is mounted there any more.
    run_tool(as_owner("find", tree / "dev", "-xdev", "-mindepth", "1", "-delete"))
    for newer, touched in (("-newermt", "-m"), ("-newerat", "-a")):
        touch = ("touch", "-h", touched, "-d", f"@{time}")
        run_tool(as_owner("find", tree, newer, f"@{time}", "-exec", *touch, "{}", "+"))
    return tree


def _run(
    command: Sequence[str], environment: Mapping[str, str], scratch: Scratch, progress: Callable[[str], None]
) -> None:
    follow_output(
        [*_confined(), *command],
        lambda line: progress(line[3:]) if _STAGE.fullmatch(line) else None,
        environment=environment,
        keep_open=[scratch.lock],
    )


def _keyring(folder: Path, keys: bytes | None) -> Path | None:
    """Write keys where mmdebstrap's apt reads them, in any user namespace; return the folder."""
    if keys is None:
        return None
    place = folder / "keys"
    place.mkdir()
    (place / _key_name(keys)).write_bytes(keys)
    for path in (place, place / _key_name(keys)):
        path.chmod(0o755)
    return place


def _confined() -> list[str]:
    """Return the prefix of mmdebstrap's command with which all of its processes end with it.

    Without root it makes a process namespace of its own.
    """
    return ["unshare", "--pid", "--mount-proc", "--fork", "--kill-child"] if os.geteuid() == 0 else []


def _mmdebstrap(
    tree: Path, wanted: TreeContents, overlay_file: Path, finish_file: Path, keyring: Path | None
) -> list[str]:
    excludes = () if wanted.documents else _EXCLUDES
    return [
        "mmdebstrap",
        f"--mode={'root' if os.geteuid() == 0 else 'unshare'}",
        f"--variant={wanted.variant}",
        "--format=directory",
        f"--hook-dir={_MERGED_USR}",
        *([f"--include={','.join(wanted.packages)}"] if wanted.packages else []),
        *([f"--keyring={keyring}"] if keyring else []),
        '--aptopt=APT::Install-Recommends "false"',
        '--aptopt=Acquire::Languages "none"',
        *(f"--dpkgopt={option}" for option in (*excludes, "force-unsafe-io")),
        f"--customize-hook=tar-in {overlay_file} /",
        f'--customize-hook=chroot "$1" /bin/sh -c "$(cat {finish_file})"',
        wanted.source.suite,
        str(tree),
        *wanted.source.lines,
    ]
