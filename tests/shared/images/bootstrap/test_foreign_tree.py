"""Programs for another processor on this host: the kernel starts QEMU for them, in a namespace of their own."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from shared.architectures import ARM64, X86_64, of_host
from shared.host.programs import complete
from shared.images.bootstrap.foreign_tree import able_to_run
from tests.shared.sandbox.ordinary_user import AS_USER, MODES, give, place_for
from tests.system.as_user import as_ordinary_user
from tests.system.command import ROOT

RUN = """\
import sys
from shared.architectures import ARM64
from shared.host.programs import complete
from shared.images.bootstrap.foreign_tree import able_to_run
done = complete([*able_to_run(ARM64), "sh", "-c", sys.argv[1]])
print(done.returncode, done.stderr)
"""
CODE = struct.pack("<3I", 0xD2800540, 0xD2800BA8, 0xD4000001)
"""movz x0, 42; movz x8, 93; svc 0: exit with status 42"""


def arm_program(path: Path) -> Path:
    """A program for arm64, whole in one segment."""
    at = 0x400000
    size = 120 + len(CODE)
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head += struct.pack("<HHIQQQIHHHHHH", 2, ARM64.elf, 1, at + 120, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    path.write_bytes(head + struct.pack("<IIQQQQQQ", 1, 5, 0, at, at, size, size, 4096) + CODE)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("mode", MODES)
def test_a_program_for_another_processor_runs_and_leaves_no_trace(mode: str) -> None:
    """The first process has all ids of the namespace, and the write access of the user that started it."""
    enter = as_ordinary_user() if mode == AS_USER else ()
    table = sorted(Path("/proc/sys/fs/binfmt_misc").iterdir())
    with place_for(mode) as place:
        program = give(arm_program(place / "program"), mode)
        script = f"mkdir {place}/tree && chown 9:65535 {place}/tree && exec {program}"
        line = [*enter, sys.executable, "-c", RUN, script]
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.stdout, done.stderr) == ("42 \n", "")
        assert (place / "tree").stat().st_gid - (place / "tree").stat().st_uid == 65535 - 9
    assert sorted(Path("/proc/sys/fs/binfmt_misc").iterdir()) == table


def test_a_program_for_this_processor_needs_nothing() -> None:
    own = of_host(os.uname().machine)
    assert own in (X86_64, ARM64)
    done = complete([*able_to_run(own), "sh", "-c", "exit 42"])
    assert (done.returncode, done.stderr) == (42, "")
