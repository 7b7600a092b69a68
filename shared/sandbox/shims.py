"""Programs that replace, during a build, those that need a booted system: first in the steps' PATH, never in the image.

systemctl itself needs none: with SYSTEMD_OFFLINE=1 it enables, disables, masks and presets units as files, and ignores
what only a running systemd could do.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

FOLDER = "/run/goldsmith/shims"
CONDITIONAL_FOLDER = "/run/goldsmith/conditional-shims"  # of those that are in FOLDER while the image has the real one
PROGRAMS_FOLDER = "/usr/sbin"  # of the real ones
POLICY = "/usr/sbin/policy-rc.d"
POLICY_TEXT = """#!/bin/sh
# Goldsmith's, during a build: no package starts a service, since none is to run in an image that is being built.
exit 101
"""

_IGNORED = """#!/bin/sh
# Nothing to do in an image that is being built: there is no booted system.
echo "goldsmith: {name} $*: left out, since the system is not booted (local.engine: chroot)" >&2
"""
_SYSCTL = """#!/bin/sh
# Values are set at the boot of the image, from its files; they can be read here, and no more.
for word; do
    case $word in
    -w | --write | -p* | --load* | --system | *=*)
        echo "goldsmith: sysctl $*: left out, since the system is not booted (local.engine: chroot)" >&2
        exit 0
        ;;
    esac
done
for real in /usr/sbin/sysctl /sbin/sysctl; do
    [ ! -x "$real" ] || exec "$real" "$@"
done
echo "sysctl: not found" >&2
exit 127
"""
_GRUB_INSTALL = """#!/bin/sh
# There is no disk to install to. What the program says about itself, the image's own says.
for word; do
    case $word in
    --version | -V | --help | --usage)
        for real in /usr/sbin/grub-install /sbin/grub-install; do
            [ ! -x "$real" ] || exec "$real" "$@"
        done
        echo "grub-install: not found" >&2
        exit 127
        ;;
    esac
done
echo "goldsmith: grub-install $*: left out, since the system is not booted (local.engine: chroot)" >&2
"""
_GRUB_MKCONFIG = """#!/bin/sh
# Runs the image's own program, which calls grub-probe by its path, with the one beside this file in its place: there is
# no disk that the real one could ask. Its scripts have it as a variable.
for real in /usr/sbin/grub-mkconfig /sbin/grub-mkconfig; do
    [ -f "$real" ] || continue
    grub_probe=@PROBE@
    export grub_probe
    text=$(sed "s|^grub_probe=.*|grub_probe=$grub_probe|" "$real") || exit
    exec sh -c "$text" "$real" "$@"
done
echo "grub-mkconfig: not found" >&2
exit 127
"""
_HOSTNAMECTL = """#!/bin/sh
# Sets the image's name as the real one does, without its service.
case ${1-} in
set-hostname | hostname)
    shift
    for word; do
        case $word in
        -*) ;;
        *)
            printf '%s\\n' "$word" >/etc/hostname
            exit
            ;;
        esac
    done
    ;;
esac
cat /etc/hostname 2>/dev/null
"""
_TIMEDATECTL = """#!/bin/sh
# Sets the image's time zone as the real one does, without its service.
if [ "${1-}" = set-timezone ] && [ -n "${2-}" ]; then
    if [ ! -f "/usr/share/zoneinfo/$2" ]; then
        echo "Failed to set time zone: Invalid or not installed time zone '$2'" >&2
        exit 1
    fi
    exec ln -sfn "../usr/share/zoneinfo/$2" /etc/localtime
fi
echo "goldsmith: timedatectl $*: left out, since the system is not booted (local.engine: chroot)" >&2
"""
_MKINITRAMFS = r"""#!/bin/sh
# Makes an initrd as the real one does, once: a package of a kernel asks for it, and then initramfs-tools asks again.
# It is made anew where a file of the image has changed meanwhile.
root=''
real=$root/usr/sbin/mkinitramfs
[ -x "$real" ] || { echo "mkinitramfs: not found" >&2; exit 127; }
[ "$#" = 3 ] && [ "$1" = -o ] && [ "$2" != "${2%.new}" ] || exec "$real" "$@"
case $3 in
'' | */* | .*) exec "$real" "$@" ;;
esac
before=${2%.new} made=$root/run/goldsmith/initrds/$3
of_the_image() {
    printf '%s\n' "$@" "$(umask)"
    env -0 | LC_ALL=C grep -Ezv '^(DPKG_[A-Z_]*|DEB_MAINT_PARAMS|PWD|OLDPWD|SHLVL|_)=' | LC_ALL=C sort -z | tr '\0' '\n'
    find "$root/" -xdev '(' -path "$root/boot/initrd*" -o -path "$root/boot/grub" -o -path "$root/var/cache" \
        -o -path "$root/var/lib/apt" -o -path "$root/var/lib/dpkg" -o -path "$root/var/lib/goldsmith" \
        -o -path "$root/var/lib/initramfs-tools" -o -path "$root/var/lib/systemd" -o -path "$root/var/log" \
        -o -path "$root/var/tmp" -o -path "$root/etc" -o -path "$root/dev" -o -path "$root/proc" -o -path "$root/run" \
        -o -path "$root/sys" -o -path "$root/tmp" ')' -prune \
        -o ! -type d -printf '%p %i %m %s %T@ %C@\n' &&
        find "$root/etc" '(' -type f -o -type l ')' -printf '%p %m %l\n' -type f -exec sha256sum '{}' +
}
image=$(of_the_image "$@" 2>/dev/null) && now=$(printf '%s' "$image" | sha256sum) || exec "$real" "$@"
if [ -f "$made" ] && [ -f "$before" ] && [ "$(cat "$made")" = "$now $(sha256sum <"$before")" ]; then
    echo "goldsmith: mkinitramfs $*: left out, since it has made $before of the same files" >&2
    exec cp -p "$before" "$2"
fi
"$real" "$@" || exit
{ mkdir -p "${made%/*}" && printf '%s\n' "$now $(sha256sum <"$2")" >"$made"; } || rm -f "$made"
exit 0
"""
_LEFT_OUT = (
    *("modprobe", "insmod", "rmmod", "udevadm", "swapon", "swapoff", "needrestart"),
    *("shutdown", "poweroff", "halt"),
)
_LABEL = re.compile(r"[A-Za-z0-9._-]{1,16}")
_PARTITION_MAPS = {"gpt": "gpt", "mbr": "msdos", "none": ""}  # by GRUB's names
_GRUB_PROBE = """#!/bin/sh
# Answers for the root file system, whose disk cannot be seen here; @UUID@ is its id.
target=fs previous=''
for word; do
    case $previous in
    -t | --target) target=$word ;;
    esac
    case $word in
    --target=*) target=${word#--target=} ;;
    esac
    previous=$word
done
case $target in
device) echo /dev/disk/by-uuid/@UUID@ ;;
fs_uuid) echo @UUID@ ;;
fs_label) echo '@LABEL@' ;;
fs) echo ext2 ;;
partmap) echo @TABLE@ ;;
esac
"""


def shims(uuid: str, table: str, label: str = "") -> Mapping[str, str]:
    """Return the programs that are always in FOLDER by their names.

    `uuid` and `label` are the root file system's, `table` gpt, mbr or none.
    """
    probe = _GRUB_PROBE.replace("@UUID@", uuid).replace("@LABEL@", label if _LABEL.fullmatch(label) else "")
    return {
        **{name: _IGNORED.format(name=name) for name in _LEFT_OUT},
        "grub-mkconfig": _GRUB_MKCONFIG.replace("@PROBE@", f"{FOLDER}/grub-probe"),
        "grub-install": _GRUB_INSTALL,
        "sysctl": _SYSCTL,
        "hostnamectl": _HOSTNAMECTL,
        "timedatectl": _TIMEDATECTL,
        "grub-probe": probe.replace("@TABLE@", _PARTITION_MAPS[table]),
    }


def conditional_shims() -> Mapping[str, str]:
    """Return the programs of CONDITIONAL_FOLDER by their names.

    Scripts ask whether such a program is there, to know what makes the initrd: it must not be there for nothing. The
    package that brings the real one may come in the middle of a step (provisioner/steps/apt_locks.py).
    """
    return {"mkinitramfs": _MKINITRAMFS}


def place_conditional_shims(root: Path) -> None:
    """Write them below a root, and put those that stand in for a program of it into FOLDER, which is there. OSError."""
    folder = _below(root, CONDITIONAL_FOLDER)
    folder.mkdir()
    for name, text in conditional_shims().items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
        if os.access(_below(root, PROGRAMS_FOLDER) / name, os.X_OK):
            (_below(root, FOLDER) / name).symlink_to(f"{CONDITIONAL_FOLDER}/{name}")


def _below(root: Path, path: str) -> Path:
    return root / path.lstrip("/")
