"""The filter, by running it over system calls as the kernel does."""

from __future__ import annotations

import errno
import struct

import pytest

from shared.sandbox.seccomp import filter_of

ALLOWED, ERROR = 0x7FFF0000, 0x00050000
X86_64, I386, ARM64, RISCV = 0xC000003E, 0x40000003, 0xC00000B7, 0xC00000F3
NEW_USERS, NEW_PROCESSES = 0x10000000, 0x20000000


def verdict(machine: str, architecture: int, number: int, *arguments: int) -> int:
    """Return what the filter says of a call: the few instructions of classic BPF that it has."""
    words = [struct.unpack("=HBBI", piece) for piece in _pieces(filter_of(machine))]
    data = struct.pack("<IIQ6Q", number, architecture, 0, *(*arguments, 0, 0, 0, 0, 0, 0)[:6])
    held, at = 0, 0
    while True:
        code, yes, no, value = words[at]
        at += 1
        if code == 0x06:
            return int(value)
        if code == 0x20:
            held = int.from_bytes(data[value : value + 4], "little")
            continue
        matches = {0x15: held == value, 0x35: held >= value, 0x45: bool(held & value)}[code]
        at += yes if matches else no


def _pieces(program: bytes) -> list[bytes]:
    return [program[at : at + 8] for at in range(0, len(program), 8)]


@pytest.mark.parametrize(
    ("architecture", "number", "arguments", "expected"),
    [
        (X86_64, 1, (), ALLOWED),  # write
        (X86_64, 165, (), ALLOWED),  # mount
        (X86_64, 101, (), ALLOWED),  # ptrace
        (X86_64, 105, (), ALLOWED),  # setuid; arm64's init_module
        (X86_64, 175, (), errno.EPERM),  # init_module
        (X86_64, 169, (), errno.EPERM),  # reboot
        (X86_64, 321, (), errno.EPERM),  # bpf
        (X86_64, 435, (), errno.ENOSYS),  # clone3
        (X86_64, 425, (), errno.ENOSYS),  # io_uring_setup
        (X86_64, 56, (NEW_PROCESSES,), ALLOWED),  # clone
        (X86_64, 56, (NEW_USERS | 17,), errno.EPERM),
        (X86_64, 272, (NEW_USERS,), errno.EPERM),  # unshare
        (X86_64, 16, (0, 0x5401), ALLOWED),  # ioctl TCGETS
        (X86_64, 16, (0, 0x5412), errno.EPERM),  # TIOCSTI
        (X86_64, 16, (0, 0x100000000 | 0x5412), errno.EPERM),  # the kernel looks at 32 bits as well
        (X86_64, 41, (1,), ALLOWED),  # socket AF_UNIX
        (X86_64, 41, (40,), errno.EAFNOSUPPORT),  # AF_VSOCK
        (X86_64, 74, (), 0),  # fsync succeeds without effect
        (X86_64, 162, (), 0),  # sync
        (X86_64, 26, (), ALLOWED),  # msync, which tells whether memory is mapped
        (I386, 144, (), ALLOWED),
        (X86_64, 0x40000001, (), errno.ENOSYS),  # x32's write
        (I386, 128, (), errno.EPERM),  # init_module
        (I386, 4, (), ALLOWED),  # write
        (I386, 310, (NEW_USERS,), errno.EPERM),
        (RISCV, 64, (), errno.ENOSYS),
    ],
)
def test_calls_on_x86_64(architecture: int, number: int, arguments: tuple[int, ...], expected: int) -> None:
    wanted = expected if expected == ALLOWED else ERROR | expected
    assert verdict("x86_64", architecture, number, *arguments) == wanted


@pytest.mark.parametrize(
    ("architecture", "number", "arguments", "expected"),
    [
        (ARM64, 64, (), ALLOWED),  # write
        (ARM64, 74, (), ALLOWED),  # signalfd4; x86-64's fsync
        (ARM64, 267, (), 0),  # syncfs
        (ARM64, 227, (), ALLOWED),  # msync
        (ARM64, 105, (), errno.EPERM),  # init_module
        (ARM64, 220, (NEW_USERS,), errno.EPERM),  # clone
        (ARM64, 198, (38,), errno.EAFNOSUPPORT),  # socket AF_ALG
        (X86_64, 1, (), errno.ENOSYS),
    ],
)
def test_calls_on_arm64(architecture: int, number: int, arguments: tuple[int, ...], expected: int) -> None:
    wanted = expected if expected == ALLOWED else ERROR | expected
    assert verdict("aarch64", architecture, number, *arguments) == wanted


def test_an_unknown_architecture_is_an_error() -> None:
    with pytest.raises(KeyError):
        filter_of("sparc")
