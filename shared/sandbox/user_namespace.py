"""A user namespace with a full range of ids, in which an ordinary user may give files to root and to any other user.

    in the namespace    on the host
    0 to 65535          the first 65536 subordinate ids of the user (/etc/subuid and /etc/subgid)
    65536               the user, so that files of the user's home stay writable; not mapped when root enters

Only newuidmap and newgidmap, which are setuid root, may write such maps for an ordinary user. They are run by a helper
that is forked before: the kernel takes maps of a namespace from a process outside of it.

The root of the namespace may do anything with the user's own files that it sees. It is for Goldsmith's own work on
trees of files; code of an image has to see nothing of the host.
"""

from __future__ import annotations

import errno
import os
import pwd
import signal
import subprocess
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import EnvironmentFault, GoldsmithError, ImageFileError, InputError, NoSpace
from ..host.programs import find_tool
from .system_calls import NEW_MOUNTS, NEW_USERS, end_with_parent, keep_mounts_private, show_process, unshare

IDS = 65536
"""How many ids a namespace has, for the files and processes of an image."""

FIRST_ID = 0x70000000
"""The first of them on the host, for one of root: no user's, and none that systemd-nspawn(1) gives."""

_LEAST_FIRST = 100_000  # of a range that is proposed, as useradd's SUB_UID_MIN
_ALL_IDS = 0xFFFFFFFF  # that the first namespace of a machine maps
_KINDS = (ImageFileError, InputError, NoSpace, EnvironmentFault, GoldsmithError)  # the nearest one first
_SETTINGS = Path("/proc/sys")


@dataclass(frozen=True)
class IdRanges:
    """The first of the 65536 host ids that users have in a namespace, and that groups have."""

    users: int
    groups: int


def own_id_ranges(users: Path = Path("/etc/subuid"), groups: Path = Path("/etc/subgid")) -> IdRanges:
    """Return this user's subordinate ids. EnvironmentFault, with the line to add, where there are too few."""
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    return IdRanges(
        subordinate_ids(users, name, uid, "--add-subuids"), subordinate_ids(groups, name, uid, "--add-subgids")
    )


def subordinate_ids(path: Path, name: str, uid: int, option: str) -> int:
    """Return the first id of a user's first range of at least 65536 in a file as subuid(5) describes.

    EnvironmentFault where there is none; `option` is usermod's that would add one.
    """
    longest, free = 0, _LEAST_FIRST
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        lines = []
    except OSError as error:
        raise EnvironmentFault(f"{path}: {error.strerror}") from error
    for line in lines:
        owner, _, numbers = line.strip().partition(":")
        first, _, count = numbers.partition(":")
        if not (first.isdecimal() and count.isdecimal()):
            continue
        if owner in (name, str(uid)):
            if int(count) >= IDS:
                return int(first)
            longest = max(longest, int(count))
        free = max(free, int(first) + int(count))
    found = f"has a range of only {longest} ids for {name}" if longest else f"has no range of ids for {name}"
    raise EnvironmentFault(
        f"{path}: {found}, and {IDS} are needed to work on an image's files without root; add the line "
        f"{name}:{free}:{IDS} (as root: usermod {option} {free}-{free + IDS - 1} {name})"
    )


def enter_user_namespace(ranges: IdRanges) -> None:
    """Make this process, which must have one thread, root in a new user namespace without groups of the host.

    EnvironmentFault where that is not possible. The process may then be in a namespace without ids, and has to end.
    """
    programs: list[str] = []
    maps = [[0, ranges.users, IDS], [0, ranges.groups, IDS]]
    if os.geteuid():
        programs = [find_tool("newuidmap"), find_tool("newgidmap")]
        maps[0] += [IDS, os.getuid(), 1]
        maps[1] += [IDS, os.getgid(), 1]
    process = os.getpid()
    ready, entered = os.pipe()
    told, result = os.pipe()
    helper = os.fork()
    if helper == 0:
        os.close(entered)
        os.close(told)
        _help(process, ready, result, programs, maps)
    os.close(ready)
    os.close(result)
    try:
        _unshare()
        os.write(entered, b"!")
    finally:
        os.close(entered)
        with os.fdopen(told, encoding="utf-8", errors="replace") as file:
            complaint = file.read()
        os.waitpid(helper, 0)
    if complaint:
        raise EnvironmentFault(complaint)
    try:
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    except OSError as error:
        raise refusal(error) from error
    show_process()  # else this process's files in /proc belong to the host's root


def is_in_user_namespace() -> bool:
    """Return whether this process is in another user namespace than the machine's first one."""
    return Path("/proc/self/uid_map").read_text(encoding="ascii").split() != ["0", "0", str(_ALL_IDS)]


def run_with_all_ids(work: Callable[[], str], *, own_mounts: bool = False) -> str:
    """Run `work` as root of a user namespace, in a forked child, and return its text.

    A caller that is root already, of the machine or of a namespace, runs it itself, unless the work is to have
    `own_mounts`: what it mounts then is seen by no other process, and goes with it. Open descriptors stay open. Errors
    of Goldsmith reach the caller as the next class of shared/errors.py, any other one as a RuntimeError that quotes it.
    """
    is_root = os.geteuid() == 0
    if is_root and not own_mounts:
        return work()
    ranges = None if is_root else own_id_ranges()
    source, sink = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(source)
        _work(work, ranges, sink, parent, own_mounts=own_mounts)
    os.close(sink)
    try:
        with os.fdopen(source, "rb") as file:
            kind, _, text = file.read().partition(b":")
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        _, status = os.waitpid(child, 0)
    found = text.decode("utf-8", "surrogateescape")
    if kind == b"done":
        return found
    if kind == b"fault":
        raise RuntimeError(found)
    for each in _KINDS:
        if kind.decode() == each.__name__:
            raise each(found)
    ended = os.waitstatus_to_exitcode(status)
    raise EnvironmentFault(f"a process in a user namespace ended with status {ended}, and without a result")


def refusal(error: OSError, settings: Path = _SETTINGS) -> EnvironmentFault:
    """Return the error for a kernel that refused a user namespace, with the setting that makes it do so."""
    for name, refuses, value in (
        ("kernel.unprivileged_userns_clone", "0", "1"),
        ("user.max_user_namespaces", "0", "15000"),
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
    ):
        try:
            present = (settings / name.replace(".", "/")).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if present == refuses:
            return EnvironmentFault(
                f"the kernel lets no ordinary user make user namespaces: {name} is {present}; "
                f"allow them, as root, with: sysctl -w {name}={value}"
            )
    if error.errno in (errno.ENOSPC, errno.EUSERS):
        return EnvironmentFault(
            "there are too many user namespaces, or too many in each other; "
            "raise the limit, as root, with: sysctl -w user.max_user_namespaces=15000"
        )
    return EnvironmentFault(
        f"the kernel refuses a user namespace: {error.strerror}; "
        "a container or a chroot may forbid it: run this outside of it, or as root"
    )


def _help(process: int, ready: int, result: int, programs: list[str], maps: list[list[int]]) -> None:
    """Write the maps of a process that says that it is in its namespace, tell what goes wrong, and end."""
    try:
        if os.read(ready, 1):
            os.write(result, _write_maps(process, programs, maps).encode())
    finally:
        os._exit(0)


def _write_maps(process: int, programs: list[str], maps: list[list[int]]) -> str:
    """Write the maps of users and groups of a process; return what went wrong."""
    if not programs:
        try:
            for name, numbers in zip(("uid_map", "gid_map"), maps, strict=True):
                Path(f"/proc/{process}/{name}").write_text(" ".join(map(str, numbers)) + "\n", encoding="ascii")
        except OSError as error:
            return f"the ids of a user namespace cannot be set: {error.filename}: {error.strerror}"
        return ""
    for program, numbers in zip(programs, maps, strict=True):
        done = subprocess.run(
            [program, str(process), *map(str, numbers)], capture_output=True, text=True, errors="replace", check=False
        )
        if done.returncode:
            return (
                f"{program} ended with status {done.returncode}: {(done.stderr or done.stdout).strip()}; it has to be "
                "setuid root, in a process without no_new_privs: install it again with: "
                "apt-get install --reinstall uidmap"
            )
    return ""


def _work(work: Callable[[], str], ranges: IdRanges | None, sink: int, parent: int, *, own_mounts: bool) -> None:
    """Do the work of run_with_all_ids() in its child, tell the result, and end."""
    status = 1
    try:
        with os.fdopen(sink, "wb") as file:
            try:
                if ranges is not None:
                    enter_user_namespace(ranges)
                end_with_parent(signal.SIGKILL)
                if own_mounts:
                    _leave_mounts()
                if os.getppid() == parent:
                    file.write(b"done:" + work().encode("utf-8", "surrogateescape"))
                    status = 0
            except GoldsmithError as error:
                kind = next(each for each in _KINDS if isinstance(error, each))
                file.write(f"{kind.__name__}:{error}".encode("utf-8", "surrogateescape"))
            except BaseException:  # noqa: BLE001 - the parent raises it, with where it was
                file.write(b"fault:" + traceback.format_exc().encode("utf-8", "surrogateescape"))
    finally:
        os._exit(status)


def _leave_mounts() -> None:
    try:
        unshare(NEW_MOUNTS)
        keep_mounts_private()
    except OSError as error:
        raise EnvironmentFault(
            f"the kernel refuses mounts of its own to this process ({error.strerror}): a container may forbid it; "
            "run this outside of it"
        ) from error


def _unshare() -> None:
    try:
        unshare(NEW_USERS)
    except OSError as error:
        raise refusal(error) from error
