"""What tells this machine from others of its image: its machine-id and ssh host keys, of which only digests leave it.

A generator that makes the same key at each boot makes files of that boot, so only two machines show it.
"""

from __future__ import annotations

import hashlib
import os

MACHINE_IDS = ("etc/machine-id", "var/lib/dbus/machine-id")
HOST_KEYS = (  # folder, beginning and end of the names
    ("etc/ssh", "ssh_host_", "_key"),
    ("etc/dropbear", "dropbear_", "_host_key"),
    ("mnt/stateful_partition/etc/ssh", "ssh_host_", "_key"),  # Container-Optimized OS
)
MOST_KEYS = 16  # that are told of
LARGEST = 1 << 16  # bytes of a key


def identity(root: str) -> tuple[str, ...]:
    """Return a line for each of them: its name, and the SHA-256 of it, of a key's public half where there is one."""
    found = [("machine-id", os.path.join(root, MACHINE_IDS[0]))]
    for folder, begin, end in HOST_KEYS:
        try:
            names = sorted(os.listdir(os.path.join(root, folder)))
        except OSError:
            continue
        keys = [name for name in names if name.startswith(begin) and name.endswith(end)][:MOST_KEYS]
        found += [(name, os.path.join(root, folder, name)) for name in keys]
    lines = []
    for name, path in found:
        text = _content(path + ".pub") or _content(path)
        if name == "machine-id":
            text = text if len(text) == 32 else b""  # empty, or `uninitialized`, in an image
        elif text.startswith((b"ssh-", b"ecdsa-")):
            text = b" ".join(text.split()[:2])  # without the comment, which names the host
        if text:
            lines.append(f"{name} {hashlib.sha256(text).hexdigest()}")
    return tuple(lines)


def _content(path: str) -> bytes:
    """Return a file's content; b"" where it is none that can be read."""
    try:
        with open(path, "rb") as file:
            return file.read(LARGEST).strip()
    except OSError:
        return b""
