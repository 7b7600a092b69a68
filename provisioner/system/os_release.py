"""The operating system of an image, from os-release(5). shared/ reads the files of disks with it, too."""

from __future__ import annotations

import os

from .files import read_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

COS = "cos"  # Container-Optimized OS


def system_id(root: str) -> str:
    """Return ID of the os-release below `root`, such as debian; an empty string where there is none."""
    return os_release(root).get("ID", "")


def os_release(root: str) -> Mapping[str, str]:
    """Return the fields of the os-release below `root`; none where there is no such file."""
    for path in ("etc/os-release", "usr/lib/os-release"):
        try:
            text = read_text(os.path.join(root, path), errors="replace")
        except OSError:
            continue
        return read_os_release(text)
    return {}


def read_os_release(text: str) -> Mapping[str, str]:
    """Return the fields; lines without one are left out."""
    fields = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and name.isidentifier():
            fields[name] = _unquoted(value)
    return fields


def distribution(fields: Mapping[str, str]) -> str:
    """Return the distribution as package URLs name it: `debian-12`, `cos-117`, or `arch` where there is no version."""
    return "-".join(filter(None, (fields.get("ID", ""), fields.get("VERSION_ID", ""))))


def _unquoted(value: str) -> str:
    if value.replace("-", "").replace(".", "").isalnum():
        return value
    import shlex  # slow to import on an emulated CPU

    try:
        words = shlex.split(value)
    except ValueError:  # an unclosed quotation mark
        return value
    return words[0] if words else ""
