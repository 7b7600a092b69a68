"""ISO 9660 as another program reads it."""

from __future__ import annotations

import subprocess
from pathlib import Path


def isoinfo(image: Path, *arguments: str) -> bytes:
    """Run isoinfo, which comes with genisoimage, and return its output."""
    return subprocess.run(["isoinfo", "-i", image, *arguments], check=True, capture_output=True).stdout
