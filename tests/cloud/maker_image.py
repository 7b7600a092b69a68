"""An image for VMs that make roots, without a download: Debian 12 with the programs of this host that it lacks."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from shared.clock import SystemClock
from shared.disks.disk import Disk
from shared.disks.ext4.reader import Ext4, Inode
from shared.disks.root_files import RootFiles
from shared.host.programs import find_tool
from shared.images.catalogue import Catalogue
from shared.planning.origins import MAKER_PROGRAMS

MAKER = "maker"
QEMU = "qemu-img"  # which VMs have that write files of images
_FOLDERS = ("usr/bin", "usr/sbin", "bin", "sbin")
_PACKAGES = (
    *(
        "base-files",
        "base-passwd",
        "bash",
        "coreutils",
        "dash",
        "debianutils",
        "diffutils",
        "dpkg",
        "findutils",
        "grep",
    ),
    *("gzip", "hostname", "libacl1", "libattr1", "libaudit1", "libaudit-common", "libblkid1", "libbz2-1.0", "libc-bin"),
    *("libc6", "libcap-ng0", "libcap2", "libcom-err2", "libcrypt1", "libcrypto", "libdb5.3", "libexpat1", "libffi8"),
    *("libgcc-s1", "libgcrypt20", "libgmp10", "libgpg-error0", "liblz4-1", "liblzma5", "libmd0", "libmount1"),
    *("libncursesw6", "libpam-modules", "libpam-modules-bin", "libpam-runtime", "libpam0g", "libpcre2-8-0"),
    *("libpython3-stdlib", "libpython3.11-minimal", "libpython3.11-stdlib", "libreadline8", "libselinux1"),
    *("libsemanage2", "libsemanage-common", "libsepol2", "libsmartcols1", "libssl3", "libsystemd0", "libtinfo6"),
    *("libtirpc3", "libnsl2", "libudev1", "libuuid1", "libzstd1", "login", "mawk", "media-types", "mount", "passwd"),
    *("python3", "python3-minimal", "python3.11", "python3.11-minimal", "sed", "sudo", "tar", "util-linux"),
    *("util-linux-extra", "zlib1g", "libsqlite3-0", "libgssapi-krb5-2"),
)
_FOLDERS_OF_ALL = ("/dev", "/proc", "/sys", "/run", "/tmp", "/mnt", "/root", "/var/tmp", "/usr/local/bin")
_ALSO = ("/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/var/lib/dpkg/status", "/etc/pam.d/", "/etc/nss")
_NOT = ("/usr/share/doc/", "/usr/share/locale/", "/usr/share/man/")
_LIBRARY = re.compile(r"=> (/\S+)")


def add_maker_image(home: Path, disk: Path) -> None:
    """Add the image MAKER to a catalogue, made of a disk of Debian, unless it is there."""
    catalogue = Catalogue(home, SystemClock())
    if catalogue.get(MAKER) is not None:
        return
    with catalogue.staging() as scratch:
        made = scratch.path / "disk.raw"
        subprocess.run(["cp", "--sparse=always", disk, made], check=True)
        _add_files(made)
        catalogue.add(made, MAKER, transfer="move")


def _add_files(disk: Path) -> None:
    with Disk(disk) as opened:
        root = opened.root
        missing = [name for name in (*MAKER_PROGRAMS, QEMU) if not _is_in(root, name)]
        wanted = dict.fromkeys(file for name in missing for file in _files_of(name))
        new = [file for file in wanted if not root.exists(str(file))]
        folders = sorted({parent for file in new for parent in file.parents if not root.exists(str(parent))})
        start = root.partition.start
    requests = [f"mkdir {folder}" for folder in folders]
    for file in new:
        mode = 0o100755 if file.stat().st_mode & 0o100 else 0o100644
        requests += [f"write {file.resolve()} {file}", f"set_inode_field {file} mode 0{mode:o}"]
    command = [find_tool("debugfs"), "-w", "-f", "-", f"{disk}?offset={start}"]
    subprocess.run(command, input="\n".join(requests), text=True, check=True, capture_output=True)


def _is_in(root: RootFiles, name: str) -> bool:
    return root.exists(name) if name.startswith("/") else any(root.exists(f"/{each}/{name}") for each in _FOLDERS)


def _files_of(name: str) -> Iterator[Path]:
    """Yield the files of this host that a program needs: itself and its libraries, or a folder's files."""
    if name.startswith("/"):
        yield from (file for file in sorted(Path(name).parent.iterdir()) if file.is_file())
        return
    found = shutil.which(name)
    assert found is not None, f"{name} is missing on this host; see setup/apt-packages.sh"
    program = Path(found)
    yield Path("/usr", *program.resolve().parts[-2:]).with_name(program.name)
    linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    yield from (Path("/usr/lib/x86_64-linux-gnu", Path(path).name) for path in _LIBRARY.findall(linked))


def small_root(disk: Path, target: Path) -> None:
    """Pack as tar.gz what steps need of the root of a disk of Debian, in which no system boots."""
    with tarfile.open(target, "w:gz", compresslevel=1) as archive, Disk(disk) as opened:
        root = opened.root
        wanted = _names_of_packages(root)
        above = {*_FOLDERS_OF_ALL, *(str(parent) for path in wanted for parent in PurePosixPath(path).parents)}
        for path, inode in root.file_system.walk():
            if path in above or (not path.startswith(_NOT) and (path in wanted or path.startswith(_ALSO))):
                _pack(archive, root.file_system, path, inode)


def _names_of_packages(root: RootFiles) -> frozenset[str]:
    """Return the paths of the packages' files, links above them followed."""
    lists = [f"/var/lib/dpkg/info/{name}{kind}.list" for name in _PACKAGES for kind in ("", ":amd64")]
    told = (line for found in root.read_all(lists).values() for line in found.decode().splitlines())
    names = set(told)
    merged = {f"/usr{name}" for name in names if name.split("/")[1] in ("bin", "sbin", "lib", "lib64")}
    return frozenset(names | merged | {"/bin", "/sbin", "/lib", "/lib64"})


def _pack(archive: tarfile.TarFile, files: Ext4, path: str, inode: Inode) -> None:
    member = tarfile.TarInfo(path.lstrip("/") or ".")
    member.mode, member.uid, member.gid, member.mtime = inode.mode & 0o7777, inode.user, inode.group, 1_700_000_000
    data = b""
    if inode.is_folder:
        member.type = tarfile.DIRTYPE
    elif inode.is_link:
        member.type, member.linkname = tarfile.SYMTYPE, files.link(inode)
    elif inode.is_file:
        data = files.read(inode)
        member.size = len(data)
    else:
        return
    archive.addfile(member, io.BytesIO(data))
