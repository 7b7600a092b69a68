"""The files of shell functions that elements read from the folder that _LIB names."""

from __future__ import annotations

import os

_FUNCTIONS = r"""# Goldsmith's, for scripts of elements that read functions from $_LIB. All have die and unmount_dir.

# Set BOOTDIR, and the names in it of the newest kernel below a root (KERNEL) and of what it boots with (RAMDISK).
select_boot_kernel_initrd() {
    local root=${1%/} version name
    BOOTDIR=$root/boot
    KERNEL='' RAMDISK=''
    if [ -n "${DIB_BAREMETAL_KERNEL_PATTERN:-}" ] && [ -n "${DIB_BAREMETAL_INITRD_PATTERN:-}" ]; then
        KERNEL=$(_goldsmith_newest "$DIB_BAREMETAL_KERNEL_PATTERN")
        RAMDISK=$(_goldsmith_newest "$DIB_BAREMETAL_INITRD_PATTERN")
    else
        for name in 'vmlinu?-*generic' 'vmlinu?-*' 'Image-*'; do
            KERNEL=$(_goldsmith_newest "$name")
            [ -z "$KERNEL" ] || break
        done
        version=${KERNEL#*-}
        for name in "initrd.img-$version" "initramfs-$version.img" "initrd-$version" "initramfs-$version"; do
            [ -z "$KERNEL" ] || [ ! -e "$BOOTDIR/$name" ] || RAMDISK=$name
        done
    fi
    if [ -z "$KERNEL" ] || [ -z "$RAMDISK" ]; then
        printf 'there is no kernel with its initrd in %s; install one in an element\n' "$BOOTDIR"
        exit 1
    fi
}

# Print the name of the newest file in BOOTDIR that a pattern matches, by its version.
_goldsmith_newest() {
    local path
    while read -r path; do
        printf '%s\n' "${path##*/}"
    done < <(compgen -G "$BOOTDIR/$1" | grep -v debug | LC_ALL=C sort -rV | head -n 1)
}

# Run a command in the image.
run_in_target() {
    HOME=/root chroot "$TMP_MOUNT_PATH" sh -c "$*"
}
"""
_FILES = ("common-functions", "img-functions")


def write_library(folder: str) -> None:
    """Write the files. OSError."""
    os.mkdir(folder)
    for name in _FILES:
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(_FUNCTIONS)
