"""diskimage-builder itself, run on this machine, to compare its images with ours.

It needs root, sudo, kpartx and device-mapper. Root needs no sudo, and the kernel has partitions of loop devices of its
own, which partx(8) tells it of: programs of these names stand in for the real ones.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

SECONDS = 3600.0  # that one image may take
_REQUIREMENT = "diskimage-builder==3.43.0"
_SUDO = """#!/bin/bash
while [[ ${1-} == -* ]]; do
    case $1 in
    -u | -g) shift 2 ;;
    --) shift; break ;;
    *) shift ;;
    esac
done
exec env "$@"
"""
_KPARTX = """#!/bin/bash
set -eu
device=${*: -1}
name=${device##*/}
mkdir -p /dev/mapper
if [[ $1 == -d* ]]; then
    rm -f /dev/mapper/"$name"p*
    partx -d "$device" || true
else
    partx -u "$device"
    for part in "$device"p*; do ln -sf "$part" "/dev/mapper/${part##*/}"; done
fi
"""
_NOTHING = "#!/bin/sh\n"


class OriginalBuilder:
    """disk-image-create in an environment of Python of its own."""

    def __init__(self, folder: Path) -> None:
        """Install it into a new folder, from PyPI."""
        self._folder = folder
        self._python = folder / "python"
        subprocess.run([sys.executable, "-m", "venv", self._python], check=True)
        install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:")
        subprocess.run([self._python / "bin/python", *install, _REQUIREMENT], check=True)
        for name, text in {"sudo": _SUDO, "kpartx": _KPARTX, "dmsetup": _NOTHING}.items():
            program = folder / "programs" / name
            program.parent.mkdir(exist_ok=True)
            program.write_text(text)
            program.chmod(0o755)
        (folder / "work").mkdir()

    def make(self, words: Sequence[str], variables: Mapping[str, str]) -> None:
        """Run a command line. AssertionError has the end of its output."""
        path = os.pathsep.join([str(self._folder / "programs"), str(self._python / "bin"), os.environ["PATH"]])
        own = {"TMP_DIR": str(self._folder / "work"), "DIB_IMAGE_CACHE": str(self._folder / "cache")}
        done = subprocess.run(
            ["disk-image-create", *words],
            env={**os.environ, "DIB_NO_TMPFS": "1", **own, **variables, "PATH": path},
            executable=self._python / "bin/disk-image-create",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self._folder,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout.decode(errors="replace")[-8000:]
