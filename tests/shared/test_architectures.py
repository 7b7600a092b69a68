"""Processors: what programs and kernels tell, and names that no machine here has."""

from __future__ import annotations

import struct

import pytest

from shared.architectures import ARM64, X86_64, find_architecture, of_host, of_kernel, of_program, program_machine
from shared.errors import InputError


def head(machine: int, order: str = "<") -> bytes:
    return b"\x7fELF\x02" + (b"\x01" if order == "<" else b"\x02") + bytes(10) + struct.pack(f"{order}HH", 2, machine)


@pytest.mark.parametrize(
    ("program", "name"),
    [
        (head(62), "x86_64"),
        (head(183), "arm64"),
        (head(243), "riscv64"),
        (head(22, ">"), "s390x"),
        (head(999), "machine 999 of ELF"),
        (head(62)[:19], None),
        (b"#!/bin/sh\n" * 9, None),
        (b"", None),
    ],
)
def test_a_program_tells_its_processor(program: bytes, name: str | None) -> None:
    assert program_machine(program) == name
    assert of_program(program) == {"x86_64": X86_64, "arm64": ARM64}.get(name or "")


def test_a_kernel_tells_its_processor() -> None:
    assert of_kernel(bytes(0x202) + b"HdrS") == X86_64
    assert of_kernel(b"MZ".ljust(0x38, b"\0") + b"ARM\x64") == ARM64
    assert of_kernel(b"MZ" * 512) is None


def test_names_of_others_are_known() -> None:
    assert (of_host("aarch64"), of_host("x86_64"), of_host("riscv64")) == (ARM64, X86_64, None)
    assert find_architecture("arm64") == ARM64
    with pytest.raises(InputError, match="no machine here has the architecture 'riscv64'; name an image for x86_64"):
        find_architecture("riscv64")
