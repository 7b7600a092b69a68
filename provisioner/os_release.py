"""Which operating system lies below a root, as os-release(5) tells it."""

from __future__ import annotations

import os

COS = "cos"  # Container-Optimized OS


def system_id(root: str) -> str:
    """Give ID of os-release below `root`, such as debian; an empty string where there is none."""
    for path in ("etc/os-release", "usr/lib/os-release"):
        try:
            with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
                found = [line[3:].strip().strip("\"'") for line in file if line.startswith("ID=")]
        except OSError:
            continue
        return found[-1] if found else ""
    return ""
