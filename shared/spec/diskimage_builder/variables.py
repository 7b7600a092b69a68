"""The variables of disk-image-create's environment: those that stand for options, and those that elements see."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from ..cloudbuild.native_draft import Origin
from ..document import Position
from .options import ImageOrder, OrderText

ELEMENTS_PATH = "ELEMENTS_PATH"
BLOCK_DEVICE_CONFIG = "DIB_BLOCK_DEVICE_CONFIG"
FILE_SYSTEM_TYPE = "FS_TYPE"
OVERWRITE = "OVERWRITE_OLD_IMAGE"
CHECKSUMS = "DIB_CHECKSUM"

_STAND_FOR: Mapping[str, str] = {  # options by the variables that have their values where the options are not used
    "ARCH": "arch",
    "DIB_DEFAULT_INSTALLTYPE": "install-type",
    "DIB_IMAGE_CACHE": "image-cache",
    "DIB_IMAGE_EXTRA_SIZE": "image-extra-size",
    "DIB_IMAGE_SIZE": "image-size",
    "DIB_JOURNAL_SIZE": "mkfs-journal-size",
    "DIB_MIN_TMPFS": "min-tmpfs",
    "IMAGE_NAME": "imagename",
    "MAX_ONLINE_RESIZE": "max-online-resize",
    "QEMU_IMG_OPTIONS": "qemu-img-options",
    "ROOT_LABEL": "root-label",
}
_SWITCHES: Mapping[str, tuple[str, tuple[str, ...]]] = {  # options, and the values that mean that they are not used
    CHECKSUMS: ("checksum", ("", "0")),
    "DIB_NO_TMPFS": ("no-tmpfs", ("", "0")),
    "DIB_OFFLINE": ("offline", ("",)),
    "SKIP_BASE": ("skip-base", ("", "0")),
}
TRACE = "DIB_DEBUG_TRACE"
_READ_HERE = (BLOCK_DEVICE_CONFIG, FILE_SYSTEM_TYPE, ELEMENTS_PATH, OVERWRITE, TRACE)
_WITHOUT_MEANING = (
    *("ACI_MANIFEST", "DIB_ARGS", "DIB_ENV", "DIB_GZIP_BIN", "DIB_LOCKFILES", "DIB_NO_TIMESTAMP", "DIB_PYTHON_EXEC"),
    *("DIB_QUIET", "DIB_SHOW_IMAGE_USAGE", "DIB_SHOW_IMAGE_USAGE_FULL", "TMP_DIR"),
)
"""Variables that say how its programs run; elements that read one of them get what this machine's step says."""
OWN_VARIABLES = (*_STAND_FOR, *_SWITCHES, *_READ_HERE, *_WITHOUT_MEANING)
OF_FILES = ("DIB_APT_CONF", "DIB_APT_SOURCES", "DIB_DEV_USER_AUTHORIZED_KEYS", "DIB_DPKG_MANIFEST", "DIB_YUM_REPO_CONF")
"""Variables that name a file of the machine that builds, which scripts of extra-data.d read."""
_GENERAL = ("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "PWD", "SHELL", "SHLVL", "TERM", "TMPDIR", "USER", "_")
_SECRET = re.compile(r"PASSW|SECRET|TOKEN|PRIVATE|CREDENTIAL|ACTIVATION_KEY|API_?KEY")


def take_environment(order: ImageOrder, environment: Mapping[str, str]) -> None:
    """Add the variables that disk-image-create reads of its environment, unless the order clears it.

    What the order sets itself wins.
    """
    if order.last("clear") is None:
        for name, value in environment.items():
            if name.startswith("DIB_") or name in OWN_VARIABLES:
                order.environment.setdefault(name, _from_outside(name, value))
    for name, key in _STAND_FOR.items():
        found = order.environment.get(name)
        if found is not None and found.text:
            order.given.setdefault(key, [found])
    for name, (key, off) in _SWITCHES.items():
        found = order.environment.get(name)
        if found is not None and found.text not in off:
            order.given.setdefault(key, [found])
    found = order.environment.get(TRACE)
    if found is not None and found.text in ("1", "2"):
        order.given.setdefault("debug-trace", [found] * int(found.text))


def take_known(order: ImageOrder, environment: Mapping[str, str], known: Collection[str]) -> None:
    """Add the variables that the chosen elements give a default to, where the environment has them."""
    if order.last("clear") is None:
        for name in sorted(known):
            if name in environment and name not in _GENERAL and name not in OWN_VARIABLES:
                order.environment.setdefault(name, _from_outside(name, environment[name]))


def variables_of_elements(order: ImageOrder) -> dict[str, OrderText]:
    """Return the variables that the scripts of elements see, sorted by name."""
    return {name: text for name, text in sorted(order.environment.items()) if name not in OWN_VARIABLES}


def looks_secret(name: str) -> bool:
    """Return whether a variable's name says that its value is for few eyes."""
    return _SECRET.search(name) is not None


def _from_outside(name: str, value: str) -> OrderText:
    return OrderText(value, Origin(Position(1, 1), name))
