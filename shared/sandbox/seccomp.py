"""The system calls that no step may make: a seccomp(2) filter for the sandbox's processes.

A sandbox has no rights over the host whatever it calls: this keeps hostile code away from the parts of the kernel in
which mistakes are found most often, and that no build needs. Calls for which programs have another way fail as on an
old kernel (ENOSYS), others as for a user without rights (EPERM).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from .system_calls import NEW_USERS

# Name: number on x86-64, arm64 and i386, from the kernel's tables; None where the architecture has no such call.
_FORBIDDEN: Mapping[str, tuple[int | None, int | None, int | None]] = {
    "acct": (163, 89, 51),
    "add_key": (248, 217, 286),
    "bpf": (321, 280, 357),
    "delete_module": (176, 106, 129),
    "fanotify_init": (300, 262, 338),
    "finit_module": (313, 273, 350),
    "init_module": (175, 105, 128),
    "ioperm": (173, None, 101),
    "iopl": (172, None, 110),
    "kcmp": (312, 272, 349),
    "kexec_file_load": (320, 294, None),
    "kexec_load": (246, 104, 283),
    "keyctl": (250, 219, 288),
    "lookup_dcookie": (212, 18, 253),
    "nfsservctl": (180, 42, 169),
    "open_by_handle_at": (304, 265, 342),
    "perf_event_open": (298, 241, 336),
    "quotactl": (179, 60, 131),
    "quotactl_fd": (443, 443, 443),
    "reboot": (169, 142, 88),
    "request_key": (249, 218, 287),
    "setns": (308, 268, 346),
    "swapoff": (168, 225, 115),
    "swapon": (167, 224, 87),
    "socketcall": (None, None, 102),  # the family is in memory, where no filter can see it
    "syslog": (103, 116, 103),
    "userfaultfd": (323, 282, 374),
}
_ABSENT: Mapping[str, tuple[int, int, int]] = {
    "clone3": (435, 435, 435),  # its flags are in memory, where no filter can see them
    "fsconfig": (431, 431, 431),
    "fsmount": (432, 432, 432),
    "fsopen": (430, 430, 430),
    "fspick": (433, 433, 433),
    "io_uring_enter": (426, 426, 426),
    "io_uring_register": (427, 427, 427),
    "io_uring_setup": (425, 425, 425),
    "mount_setattr": (442, 442, 442),
    "move_mount": (429, 429, 429),
    "open_tree": (428, 428, 428),
    "open_tree_attr": (467, 467, 467),
}
_WITHOUT_EFFECT: Mapping[str, tuple[int, int, int]] = {  # not msync: programs ask it whether memory is mapped
    "fdatasync": (75, 83, 148),
    "fsync": (74, 82, 118),
    "sync": (162, 81, 36),
    "sync_file_range": (277, 84, 314),
    "syncfs": (306, 267, 344),
}
_CLONE, _UNSHARE, _IOCTL, _SOCKET = (56, 220, 120), (272, 97, 310), (16, 29, 54), (41, 198, 359)
_TERMINAL_INPUT = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX: they type into a terminal
_FAMILIES = (1, 2, 10, 16)  # of sockets: Unix, IPv4, IPv6, netlink
_ARCHITECTURES = {"x86_64": ((0xC000003E, 0), (0x40000003, 2)), "aarch64": ((0xC00000B7, 1),)}
_X32 = 0x40000000  # x86-64's calls with 32-bit pointers have numbers from here

_LOAD, _EQUAL, _AT_LEAST, _ANY_OF, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_AT, _SECOND_AT = 0, 4, 16, 24  # in struct seccomp_data, little-endian
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_SET_SECCOMP, _FILTER = 22, 2


@dataclass
class _Program:
    """A filter in classic BPF. Jumps lead forward to labels."""

    words: list[tuple[int, str, str, int]] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)

    def add(self, code: int, value: int, yes: str = "", no: str = "") -> None:
        self.words.append((code, yes, no, value))

    def label(self, name: str) -> None:
        self.labels[name] = len(self.words)

    def encoded(self) -> bytes:
        def distance(name: str, at: int) -> int:
            return self.labels[name] - at - 1 if name else 0

        return b"".join(
            struct.pack("=HBBI", code, distance(yes, at), distance(no, at), value)
            for at, (code, yes, no, value) in enumerate(self.words)
        )


def _one_architecture(program: _Program, audit: int, column: int) -> None:
    """Add the part for one architecture: a call that it refuses goes to a return of its own."""
    name = f"{audit:x}"
    program.add(_EQUAL, audit, no=f"not {name}")
    program.add(_LOAD, _NUMBER_AT)
    if column == 0:
        program.add(_AT_LEAST, _X32, yes=f"absent {name}")
    for numbers in _FORBIDDEN.values():
        if numbers[column] is not None:
            program.add(_EQUAL, numbers[column] or 0, yes=f"forbidden {name}")
    for absent in _ABSENT.values():
        program.add(_EQUAL, absent[column], yes=f"absent {name}")
    for ignored in _WITHOUT_EFFECT.values():
        program.add(_EQUAL, ignored[column], yes=f"ignored {name}")
    for number in (_CLONE[column], _UNSHARE[column]):
        program.add(_EQUAL, number, yes=f"flags {name}")
    program.add(_EQUAL, _IOCTL[column], yes=f"ioctl {name}")
    program.add(_EQUAL, _SOCKET[column], yes=f"socket {name}")
    program.add(_RETURN, _ALLOW)
    program.label(f"flags {name}")
    program.add(_LOAD, _FIRST_AT)
    program.add(_ANY_OF, NEW_USERS, yes=f"forbidden {name}")
    program.add(_RETURN, _ALLOW)
    program.label(f"ioctl {name}")
    program.add(_LOAD, _SECOND_AT)
    for request in _TERMINAL_INPUT:
        program.add(_EQUAL, request, yes=f"forbidden {name}")
    program.add(_RETURN, _ALLOW)
    program.label(f"socket {name}")
    program.add(_LOAD, _FIRST_AT)
    for family in _FAMILIES:
        program.add(_EQUAL, family, yes=f"allowed {name}")
    program.add(_RETURN, _ERROR | errno.EAFNOSUPPORT)
    program.label(f"allowed {name}")
    program.add(_RETURN, _ALLOW)
    program.label(f"forbidden {name}")
    program.add(_RETURN, _ERROR | errno.EPERM)
    program.label(f"absent {name}")
    program.add(_RETURN, _ERROR | errno.ENOSYS)
    program.label(f"ignored {name}")
    program.add(_RETURN, _ERROR)  # of number 0, which is success
    program.label(f"not {name}")


def filter_of(machine: str) -> bytes:
    """Return the filter for an architecture, as uname(1) names it. KeyError for one that is not known."""
    program = _Program()
    program.add(_LOAD, _ARCHITECTURE_AT)
    for audit, column in _ARCHITECTURES[machine]:
        _one_architecture(program, audit, column)
    program.add(_RETURN, _ERROR | errno.ENOSYS)
    return program.encoded()


def forbid_calls() -> None:
    """Put the filter on this process and on all that it will start. OSError; needs rights in its user namespace."""
    words = filter_of(os.uname().machine)
    held = ctypes.create_string_buffer(words)
    whole = ctypes.create_string_buffer(struct.pack("@HP", len(words) // 8, ctypes.addressof(held)))
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_SET_SECCOMP, _FILTER, whole, 0, 0):
        raise OSError(ctypes.get_errno(), f"the kernel takes no seccomp filter: {os.strerror(ctypes.get_errno())}")
