"""The mounts, as the kernel lists them: see proc_pid_mountinfo(5)."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List


class Mount:
    """One line of mountinfo. Spaces and newlines in paths stay escaped, as the kernel writes them."""

    def __init__(self, line: str) -> None:
        fields = line.rstrip("\n").split(" ")
        end = fields.index("-", 6)  # of the optional fields
        self.device = fields[2]  # MAJOR:MINOR, as stat(2) shows it in the files
        self.path = fields[4]
        self.kind, self.source = fields[end + 1 : end + 3]
        self.options = {*fields[5].split(","), *",".join(fields[end + 3 :]).split(",")}  # of the mount, and of the disk


def mounts(root: str = "/") -> List[Mount]:
    """Return what is mounted on the machine whose /proc is below `root`, in the kernel's order. OSError."""
    path = os.path.join(root, "proc/self/mountinfo")
    with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        return [Mount(line) for line in file]
