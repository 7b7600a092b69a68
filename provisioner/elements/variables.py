"""The variables that scripts of elements see, and the folders that they name.

    WORK/mnt       TMP_MOUNT_PATH, TARGET_ROOT: the root of the image, for phases of the build machine
    WORK/hooks     TMP_HOOKS_PATH: the folders of all elements, merged; scripts in the image have it at /tmp/in_target.d
    WORK/tmp       /tmp of the phases of the build machine
    WORK/home      their HOME: nothing of a person's is there
    WORK/cache     DIB_IMAGE_CACHE
    WORK/lib       _LIB: files of shell functions
    WORK/image     TMP_IMAGE_DIR

WORK is TMP_BUILD_DIR, a folder of the job's state, which is removed at the step's end.
"""

from __future__ import annotations

import json
import os
import sys

from ..system.files import read_text
from ..system.os_release import os_release
from ..system.process import output_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Dict

    from .model import Element

WORK = "dib_build.goldsmith"  # with a dot: scripts look for what is behind the last one
IN_TARGET = "/tmp/in_target.d"  # noqa: S108 - a name that elements know

_ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "armhf",
    "ppc64le": "ppc64el",
    "i686": "i386",
}
_DISTRIBUTIONS = {"opensuse-leap": "opensuse", "opensuse-tumbleweed": "opensuse", "sles": "opensuse", "ol": "rhel"}
_BY_CODE_NAME = ("debian", "ubuntu")
_BY_LABEL = "/dev/disk/by-label"
_PROBE = "/run/goldsmith/shims/grub-probe"  # of a sandbox
_FILE_SYSTEM, _LABEL = "ext4", "cloudimg-rootfs"


def work_folders(work: str) -> Mapping[str, str]:
    """Return the folders of a step's work by the variables that name them."""
    return {
        "TMP_BUILD_DIR": work,
        "TMP_HOOKS_PATH": os.path.join(work, "hooks"),
        "TMP_IMAGE_DIR": os.path.join(work, "image"),
        "TMP_MOUNT_PATH": os.path.join(work, "mnt"),
        "TARGET_ROOT": os.path.join(work, "mnt"),
    }


def script_variables(
    elements: Sequence[Element], path: Iterable[str], asked: Iterable[str], root: str, work: str, own: Mapping[str, str]
) -> Dict[str, str]:
    """Return what all scripts see, before environment.d changes it; `own` are those of the step's inputs.

    DIB_ENV is empty: elements write it into the image, and it would hold the values of all variables.
    """
    return {
        **_of_the_image(root),
        "DIB_CHECKSUM": "0",
        "DIB_DEBUG_TRACE": "0",
        "DIB_DEFAULT_INSTALLTYPE": "source",
        "DIB_IMAGE_CACHE": os.path.join(work, "cache"),
        "DIB_LOCKFILES": os.path.join(work, "locks"),
        "DIB_MIN_TMPFS": "2",
        "DIB_NO_TMPFS": "1",
        "DIB_OFFLINE": "",
        "DIB_PYTHON_EXEC": sys.executable,
        "IMAGE_NAME": "image",
        "IMAGE_TYPE": "raw",
        "IMAGE_BLOCK_DEVICE": "",
        "IMAGE_BLOCK_DEVICES": "",
        "SYSTEMD_OFFLINE": "1",  # systemctl(1): units are changed as files, and none is started, also on a booted VM
        **own,
        **work_folders(work),
        "DIB_ARGS": " ".join(asked),
        "DIB_ENV": "",
        "_LIB": os.path.join(work, "lib"),
        "ELEMENTS_PATH": ":".join(path),
        "IMAGE_ELEMENT": " ".join(element.name for element in elements),
        "IMAGE_ELEMENT_YAML": json.dumps({element.name: element.folder for element in elements}),
        "LC_ALL": "C",
    }


def _of_the_image(root: str) -> Dict[str, str]:
    """Return what an image says about itself, where elements of its distribution would say it."""
    fields = os_release(root)
    distribution = fields.get("ID", "")
    release = fields.get("VERSION_CODENAME", "") if distribution in _BY_CODE_NAME else ""
    kinds = _file_systems(root)
    found = {
        "ARCH": _ARCHITECTURES.get(os.uname().machine, os.uname().machine),
        "DIB_BOOT_LABEL": kinds.get("/boot", ("", ""))[1],
        "DIB_MOUNTPOINTS": "|".join(kinds),
        "DIB_RELEASE": release or fields.get("VERSION_ID", ""),
        "DIB_ROOT_FSTYPE": kinds.get("/", ("", ""))[0] or _FILE_SYSTEM,
        "DIB_ROOT_LABEL": root_label(root) or _LABEL,
        "DISTRO_NAME": _DISTRIBUTIONS.get(distribution, distribution),
        "FS_TYPE": kinds.get("/", ("", ""))[0] or _FILE_SYSTEM,
    }
    init = _init_system(root)
    if init:
        found["DIB_INIT_SYSTEM"] = init
    if not _has_program(root, "python2") and _has_program(root, "python3"):
        found["DIB_PYTHON_VERSION"] = "3"
    return found


def root_label(root: str) -> str:
    """Return the label of the root file system; "" where it has none, or none can be seen."""
    named = _file_systems(root)["/"][1]
    if named:
        return named
    try:
        device = os.stat(root).st_dev
        for name in os.listdir(_BY_LABEL):
            if os.stat(os.path.join(_BY_LABEL, name)).st_rdev == device:
                return name
    except OSError:  # a sandbox, which sees no disk
        pass
    if not os.path.exists(_PROBE):
        return ""
    return output_of([_PROBE, "--target=fs_label", "/"], 5.0).decode("utf-8", "replace").strip()


def _file_systems(root: str) -> Mapping[str, tuple[str, str]]:
    """Return the kind and the label of each file system that fstab mounts, by its place."""
    try:
        lines = read_text(os.path.join(root, "etc/fstab")).splitlines()
    except OSError:
        lines = []
    found = {"/": ("", "")}
    for words in (line.split() for line in lines if not line.lstrip().startswith("#")):
        if len(words) > 2 and words[1].startswith("/") and "=" in words[0]:
            name, _, value = words[0].partition("=")
            found[words[1]] = (words[2], value if name == "LABEL" else "")
    return found


def _init_system(root: str) -> str:
    """Return the init system of an image, as dib-init-system calls it; "" for none that it knows."""
    for path, name in (
        ("usr/lib/systemd/systemd", "systemd"),
        ("lib/systemd/systemd", "systemd"),
        ("sbin/openrc", "openrc"),
        ("sbin/initctl", "upstart"),
        ("etc/init.d/rc", "sysv"),
    ):
        if os.path.lexists(os.path.join(root, path)):
            return name
    return ""


def _has_program(root: str, name: str) -> bool:
    return any(os.path.lexists(os.path.join(root, folder, name)) for folder in ("usr/bin", "usr/local/bin", "bin"))
