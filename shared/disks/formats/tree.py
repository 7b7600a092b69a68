"""The files of a root file system in the order of an archive, with all that an archive keeps of them.

A folder comes before its contents, names are sorted by their bytes, and of several names of one file the later ones are
hard links to the first. Sockets are left out, since no archive has them, and so is ext4's own /lost+found.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ...archives import pax
from ...archives.pax import TarEntry
from ...errors import ImageFileError
from ..ext4.reader import Ext4, Inode

Runs = list[tuple[int, int]]
"""(offset, length) of the data of a file, in order; what is between is zeros."""

_KINDS = {
    stat.S_IFREG: pax.FILE,
    stat.S_IFLNK: pax.LINK,
    stat.S_IFCHR: pax.CHARACTERS,
    stat.S_IFBLK: pax.BLOCKS,
    stat.S_IFDIR: pax.FOLDER,
    stat.S_IFIFO: pax.PIPE,
}
_LONGEST_NAME = 32768  # bytes of a path; Linux opens none of more than 4095
_FEW_RUNS = 64
_RUN_BYTES = 160  # of memory that a run takes
_LINK_BYTES = 200  # and the first name of a file with several, beside its letters
_LOST_FOUND = b"lost+found"
_ACL = ("system.posix_acl_access", "system.posix_acl_default")
_ACL_WITH_ID = {0x02, 0x08}  # the tags of a named user and a named group
_NO_ID = 0xFFFFFFFF


class TreeMember(NamedTuple):
    """One member, and the file that its contents are in."""

    entry: TarEntry
    inode: Inode


def tree_members(files: Ext4) -> Iterator[TreeMember]:
    """Yield the root folder, called `./`, and all that is below it, with names that begin with no slash.

    ImageFileError where the file system is damaged.
    """
    first: dict[int, bytes] = {}  # the first name of files that have several, by inode
    seen = {files.root.number}
    yield TreeMember(_entry(files, b"./", files.root), files.root)
    below = [_names(files, files.root, b"")]
    while below:
        for name, number in below[-1]:
            inode = files.inode(number)
            if stat.S_ISSOCK(inode.mode) or (name == _LOST_FOUND and inode.is_folder):
                continue
            if inode.is_folder:
                if number in seen or len(name) > _LONGEST_NAME:
                    raise ImageFileError(f"{files.disk}: folder {name[:80]!r} is in two places, or in too many folders")
                seen.add(number)
                yield TreeMember(_entry(files, name + b"/", inode), inode)
                below.append(_names(files, inode, name + b"/"))
                break
            if number in first:
                yield TreeMember(_hard_link(name, first[number], inode), inode)
                continue
            if inode.links > 1:
                files.budget.keep(len(name) + _LINK_BYTES)
                first[number] = name
            yield TreeMember(_entry(files, name, inode), inode)
        else:
            below.pop()


def data_runs(files: Ext4, inode: Inode) -> Runs:
    """Return where a file has data, pieces that touch in one."""
    place = files.place(inode)
    if place is not None:  # nearly always
        return [(0, inode.size)] if inode.size else []
    runs: Runs = []
    whole = True
    for start, at, length in files.extents(inode):
        whole = False
        if at is None:
            continue
        if runs and sum(runs[-1]) == start:
            runs[-1] = runs[-1][0], runs[-1][1] + length
            continue
        if len(runs) >= _FEW_RUNS:
            files.budget.keep(_RUN_BYTES)
        runs.append((start, length))
    return [(0, inode.size)] if whole and inode.size else runs  # contents that are in the inode have no extents


def _names(files: Ext4, folder: Inode, path: bytes) -> Iterator[tuple[bytes, int]]:
    entries = files.entries(folder).items()
    files.budget.step(len(path) * len(entries) // 64)
    return iter(sorted((path + name.encode("utf-8", "surrogateescape"), number) for name, number in entries))


def _entry(files: Ext4, name: bytes, inode: Inode) -> TarEntry:
    return TarEntry(
        name=name,
        kind=_KINDS[stat.S_IFMT(inode.mode)],
        mode=0o777 if inode.is_link else stat.S_IMODE(inode.mode),
        user=inode.user,
        group=inode.group,
        size=inode.size if inode.is_file else 0,
        mtime_ns=inode.mtime_ns,
        target=files.link(inode).encode("utf-8", "surrogateescape") if inode.is_link else b"",
        device=(os.major(inode.device), os.minor(inode.device)) if inode.is_device else (0, 0),
        attributes=_attributes(files.attributes(inode), files, inode) if inode.extra or inode.attribute_block else {},
    )


def _hard_link(name: bytes, first: bytes, inode: Inode) -> TarEntry:
    mode = stat.S_IMODE(inode.mode)
    return TarEntry(name, pax.HARD_LINK, mode, inode.user, inode.group, 0, inode.mtime_ns, first)


def _attributes(found: Mapping[str, bytes], files: Ext4, inode: Inode) -> dict[bytes, bytes]:
    """Return attributes as getxattr(2) has them; ext4 keeps access control lists in a shorter form."""
    return {
        name.encode("utf-8", "surrogateescape"): _access_list(value, files, inode) if name in _ACL else value
        for name, value in found.items()
    }


def _access_list(value: bytes, files: Ext4, inode: Inode) -> bytes:
    """Turn an access control list of the disk (fs/ext4/acl.h) into the one of linux/posix_acl_xattr.h."""
    damaged = f"{files.disk}: inode {inode.number} has a damaged access control list; check it with e2fsck"
    entries, at = [struct.pack("<I", 2)], 4
    try:
        (version,) = struct.unpack_from("<I", value)
        while at < len(value):
            tag, rights = struct.unpack_from("<HH", value, at)
            identity = struct.unpack_from("<I", value, at + 4)[0] if tag in _ACL_WITH_ID else _NO_ID
            entries.append(struct.pack("<HHI", tag, rights, identity))
            at += 8 if tag in _ACL_WITH_ID else 4
    except struct.error as error:
        raise ImageFileError(damaged) from error
    if version != 1:
        raise ImageFileError(damaged)
    return b"".join(entries)
