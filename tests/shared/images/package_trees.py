"""Package databases below a folder: one that rpm made, and documented samples of those that no tool here makes."""

from __future__ import annotations

from pathlib import Path

from shared.ports import Package
from tests.shared.disks.small_disks import tool

SPEC = """\
Name: {name}
Version: 1.2
Release: 3
{epoch}
Summary: A tiny package
License: GPLv3+ and MIT
Vendor: Example Works
BuildArch: noarch
%description
Nothing.
%files
"""
RPM = "usr/lib/sysimage/rpm"
TINY = Package("tiny", "2:1.2-3", "noarch", "rpm", "tiny-1.2-3.src.rpm", "Example Works", "GPLv3+ and MIT", "fedora-41")

# What apk-tools 2.14 writes: a paragraph a package; F, R, Z and so on are its folders and files.
APK = """\
C:Q1kI5mqFIJ1rHJ0xnHnR4RlDZ3tXw=
P:musl
V:1.2.5-r1
A:x86_64
S:409402
I:667648
T:the musl c library (libc) implementation
U:https://musl.libc.org/
L:MIT
o:musl
m:Timo Teras <timo.teras@iki.fi>
t:1719340210
c:8c8c6a1d8e7aa6eb8a3bf4a3cf3c6fd0dd6c4bd7
p:so:libc.musl-x86_64.so.1=1
F:lib
R:ld-musl-x86_64.so.1
a:0:0:755
Z:Q1WKvCXTtCLVDc8FyF9AnSbYSCKp4=

C:Q1RjtfXJzLs4rcVtbPMQMl5s0WrUw=
P:busybox-binsh
V:1.36.1-r29
A:x86_64
L:GPL-2.0-only
o:busybox
m:Somebody <somebody@example.org>
r:busybox
"""

COS = {
    "installedPackages": [
        {"category": "sys-libs", "name": "zlib", "version": "1.2.11", "ebuild_version": "1.2.11-r4"},
        {"category": "app-shells", "name": "bash", "version": "4.4_p23", "ebuild_version": "4.4_p23"},
    ],
    "buildTimePackages": [
        {"category": "virtual", "name": "pkgconfig", "version": "2", "ebuild_version": "2-r1"},
    ],
}


def put(tree: Path, path: str, data: str | bytes) -> Path:
    file = tree / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data.encode() if isinstance(data, str) else data)
    return file


GONE = """
Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0
"""


def make_rpm_database(folder: Path) -> Path:
    """A database with two packages and what a trusted key is kept as, made by rpm itself, in a folder of its own."""
    for name, epoch in {"tiny": "Epoch: 2", "other": "", "gpg-pubkey": ""}.items():
        (folder / f"{name}.spec").write_text(SPEC.format(name=name, epoch=epoch))
        tool("rpmbuild", "-bb", "--quiet", "-D", f"_topdir {folder}/top", folder / f"{name}.spec")
    built = sorted((folder / "top/RPMS/noarch").iterdir())
    tool("rpm", "--dbpath", folder / "database", "-i", "--nodeps", "--justdb", "--ignorearch", *built)
    return folder / "database"


def rpm_tree(tree: Path, database: Path) -> Path:
    put(tree, "usr/lib/os-release", "ID=fedora\nVERSION_ID=41\n")
    for file in database.iterdir():
        put(tree, f"{RPM}/{file.name}", file.read_bytes())
    return tree
