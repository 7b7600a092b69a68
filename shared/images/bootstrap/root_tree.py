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
from pathlib import Path

from ...block_devices.boot_loader import configuration
from ...host.programs import follow_output, run_tool
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


def files(root_uuid: str, source: PackageSource) -> Mapping[str, str]:
    """Return the text of each of our files, by its path in the root file system."""
    return {
        "etc/apt/apt.conf.d/99mmdebstrap": 'Acquire::Languages "none";\n',
        "etc/apt/sources.list": "".join(f"{line}\n" for line in source.lines),
        "etc/cloud/cloud.cfg.d/10_datasources.cfg": _CLOUD,
        "etc/default/locale": "LANG=C.UTF-8\n",
        "etc/dpkg/dpkg.cfg.d/99mmdebstrap": "".join(f"{line}\n" for line in _EXCLUDES),
        "etc/fstab": f"UUID={root_uuid} / ext4 defaults,x-systemd.growfs 0 1\n",
        "etc/hostname": "localhost\n",
        "etc/hosts": _HOSTS,
        "etc/initramfs-tools/conf.d/modules": "MODULES=list\nCOMPRESS=zstd\n",
        "etc/initramfs-tools/modules": "".join(f"{module}\n" for module in _INITRD_MODULES),
        "etc/systemd/network/80-ethernet-dhcp.network": _NETWORK,
        "etc/systemd/system/ssh-host-keys.service": _HOST_KEYS,
        "etc/systemd/system/ssh.service.d/host-keys.conf": _NEEDS_HOST_KEYS,
        "boot/grub/grub.cfg": configuration([f"root=UUID={root_uuid}", "ro", "console=tty0", "console=ttyS0,115200"]),
    }


def root_overlay(members: Mapping[str, str], time: int) -> bytes:
    """Pack files as a tar whose bytes depend on them and `time` (Unix seconds) alone. Folders are those above them."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for folder in sorted({str(parent) for name in members for parent in Path(name).parents} - {"."}):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o755, time
            archive.addfile(entry)
        for name, text in sorted(members.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(text.encode()), 0o644, time
            archive.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


def make_tree(
    scratch: Scratch,
    source: PackageSource,
    packages: Sequence[str],
    root_uuid: str,
    time: int,
    progress: Callable[[str], None],
) -> Path:
    """Install packages and our files in a new folder below `scratch`; no time in it is later than `time`.

    `progress` gets a line for each stage. Raises MissingTool, and EnvironmentFault with what mmdebstrap said.
    """
    overlay_file, finish_file, tree = scratch.path / "overlay.tar", scratch.path / "finish", scratch.path / "tree"
    overlay_file.write_bytes(root_overlay(files(root_uuid, source), time))
    finish_file.write_text(FINISH)
    finish_file.chmod(0o644)  # read in the user namespace, by another user than ours
    command = _mmdebstrap(tree, source, packages, overlay_file, finish_file)
    environment = {"SOURCE_DATE_EPOCH": str(time), "INITRD": "No"}  # one initrd at the end, not one a package
    follow_output(
        [*_confined(), *command],
        lambda line: progress(line[3:]) if _STAGE.fullmatch(line) else None,
        environment=environment,
        keep_open=[scratch.lock],
    )
    # What mmdebstrap had in /dev depends on its mode. Nothing of this machine is mounted there any more.
    run_tool(as_owner("find", tree / "dev", "-xdev", "-mindepth", "1", "-delete"))
    for newer, touched in (("-newermt", "-m"), ("-newerat", "-a")):
        touch = ("touch", "-h", touched, "-d", f"@{time}")
        run_tool(as_owner("find", tree, newer, f"@{time}", "-exec", *touch, "{}", "+"))
    return tree


def _confined() -> list[str]:
    """Return the prefix of mmdebstrap's command with which all of its processes end with it.

    Without root it makes a process namespace of its own.
    """
    return ["unshare", "--pid", "--mount-proc", "--fork", "--kill-child"] if os.geteuid() == 0 else []


def _mmdebstrap(
    tree: Path, source: PackageSource, packages: Sequence[str], overlay_file: Path, finish_file: Path
) -> list[str]:
    return [
        "mmdebstrap",
        f"--mode={'root' if os.geteuid() == 0 else 'unshare'}",
        "--variant=apt",
        "--format=directory",
        f"--hook-dir={_MERGED_USR}",
        f"--include={','.join(packages)}",
        '--aptopt=APT::Install-Recommends "false"',
        '--aptopt=Acquire::Languages "none"',
        *(f"--dpkgopt={option}" for option in (*_EXCLUDES, "force-unsafe-io")),
        f"--customize-hook=tar-in {overlay_file} /",
        f'--customize-hook=chroot "$1" /bin/sh -c "$(cat {finish_file})"',
        source.suite,
        str(tree),
        *source.lines,
    ]
