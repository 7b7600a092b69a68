"""Programs for another processor on this host: the kernel starts QEMU for them, in a namespace of their own."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from shared.architectures import ARM64, X86_64, of_host
from shared.host.programs import complete
from shared.images.bootstrap.foreign_tree import able_to_run

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


def test_a_program_for_another_processor_runs_and_leaves_no_trace(tmp_path: Path) -> None:
    table = sorted(Path("/proc/sys/fs/binfmt_misc").iterdir())
    program = arm_program(tmp_path / "program")
    done = complete([*able_to_run(ARM64), program])
    assert (done.returncode, done.stderr) == (42, "")
    assert sorted(Path("/proc/sys/fs/binfmt_misc").iterdir()) == table


def test_a_program_for_this_processor_needs_nothing() -> None:
    own = of_host(os.uname().machine)
    assert own in (X86_64, ARM64)
    done = complete([*able_to_run(own), "sh", "-c", "exit 42"])
    assert (done.returncode, done.stderr) == (42, "")
