"""Inputs that are made to exhaust their reader: small generators, and the reader that each is for.

`python -m tests.hostile.inputs NAME FILE` reads one and prints how that ended, as JSON. Without arguments it reads
those that standard input names. Each is read in a process of its own, whose memory can be measured. Sizes are what the
input itself has, about; most claim to be far more.
"""

from __future__ import annotations

import json
import lzma
import os
import resource
import sqlite3
import struct
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from isal import igzip

from provisioner.system.context import unpack_context as unpack_on_vm
from shared.context.members import scan
from shared.context.packing import pack_context
from shared.disks.disk import Disk
from shared.disks.ext4.reader import Ext4
from shared.disks.extents import copy_sparse
from shared.disks.fat import Fat
from shared.disks.reader import DiskReader
from shared.disks.unpack import unpack_disk
from shared.errors import InputError
from shared.images.contents import describe_image
from shared.images.diff.compare import compare_disks
from shared.images.diff.settings import boot_parameters, changed_parameters
from shared.images.file import as_raw
from shared.images.hygiene import look_into
from shared.images.packages import packages
from tests.hostile import disks
from tests.hostile.texts import TEXTS
from tests.shared.disks.small_disks import rooted

MB = 1 << 20
ENOUGH = 3 << 30  # bytes, of what no reader reads as many
OURS = ("ImageFileError", "InputError", "SpecError", "ContextError", "StoreError")  # errors


@dataclass(frozen=True)
class Attack:
    """An input, what reads it, and what the error says; "" where the right answer is given."""

    name: str
    make: Callable[[Path, int], None]
    read: Callable[[Path], object]
    says: str


def header(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, target: str = "") -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type, member.linkname = size, kind, target
    return member.tobuf(tarfile.GNU_FORMAT)


def part(kind: bytes, data: bytes) -> bytes:
    return header("part", len(data), kind) + data + bytes(-len(data) % 512)


def pax(**records: str) -> bytes:
    data = b""
    for key, value in records.items():
        text = f" {key.replace('__', '.')}={value}\n".encode()
        length = len(text) + 1
        while length != len(text) + len(str(length)):
            length += 1
        data += str(length).encode() + text
    return data


def packed(path: Path, parts: Iterable[bytes]) -> None:
    with igzip.open(path, "wb", compresslevel=2) as file:  # type: ignore[no-untyped-call]  # no types in the library
        for data in parts:
            file.write(data)


def gzipped(parts: Callable[[int], Iterator[bytes]], most: int = ENOUGH) -> Callable[[Path, int], None]:
    """Make an archive of parts, with about a thousand times as many bytes as the file shall have, or `most`."""

    def make(path: Path, size: int) -> None:
        packed(path, parts(min(size * 900, most)))

    return make


def plain(parts: Callable[[int], Iterator[bytes]]) -> Callable[[Path, int], None]:
    """Make an archive of parts that is not packed."""

    def make(path: Path, size: int) -> None:
        with path.open("wb") as file:
            file.writelines(parts(size))

    return make


def long_name(total: int) -> Iterator[bytes]:
    yield header("././@LongLink", total // MB * MB, tarfile.GNUTYPE_LONGNAME)
    for _ in range(total // MB):
        yield bytes(MB)
    yield header("disk.raw") + bytes(1024)


def sparse_map(total: int) -> Iterator[bytes]:
    size = total // MB * MB
    yield part(tarfile.XHDTYPE, pax(GNU__sparse__major="1", GNU__sparse__minor="0", GNU__sparse__realsize="1048576"))
    first = f"{size // 4}\n".encode()
    yield header("disk.raw", len(first) + size)
    yield first
    for _ in range(size // MB):
        yield b"0\n0\n" * (MB // 4)


def old_sparse_map(total: int) -> Iterator[bytes]:
    first = bytearray(header("disk.raw", 512, tarfile.GNUTYPE_SPARSE))
    first[482] = 1  # the map goes on in the next block
    first[148:156] = b" " * 8
    first[148:156] = b"%06o\0 " % sum(first)
    yield bytes(first)
    block = (b"00000000001\0" * 42 + b"\1").ljust(512, b"\0")
    for _ in range(total // MB):
        yield block * (MB // 512)


def headers_without_members(total: int) -> Iterator[bytes]:
    piece = part(tarfile.XHDTYPE, pax(mtime="1"))
    for _ in range(total // (len(piece) * 100)):
        yield piece * 100


def members(name: str, total: int) -> Iterator[bytes]:
    block = header(name) * 2048
    for _ in range(total // len(block)):
        yield block
    yield bytes(1024)


def members_with_global_records(total: int) -> Iterator[bytes]:
    yield part(tarfile.XGLTYPE, pax(**{f"k{number}": "v" for number in range(60_000)}))
    yield from members("a", total)


def deep_names(total: int) -> Iterator[bytes]:
    name = "a/" * 250_000 + "b"
    for number in range(max(4, total // 500_000 // 4)):
        yield part(tarfile.GNUTYPE_LONGNAME, f"{number}/{name}".encode()) + header("x")
    yield bytes(1024)


def deep_folders(total: int) -> Iterator[bytes]:
    for number in range(min(100_000, total // 360_000)):
        yield part(tarfile.GNUTYPE_LONGNAME, f"{number}/{'a/' * 2030}b".encode()) + header("x")
    yield bytes(1024)


def links(total: int) -> Iterator[bytes]:
    """A maze: each link leads through the one before, forty times."""
    far = "a/../" * 500
    yield header("a", kind=tarfile.DIRTYPE)
    for number in range(min(30_000, total // 360_000)):
        yield part(tarfile.GNUTYPE_LONGLINK, f"{far}l{max(0, number - 1)}".encode())
        yield header(f"l{number}", kind=tarfile.SYMTYPE)
    yield bytes(1024)


def zeros(total: int) -> Iterator[bytes]:
    yield header("disk.raw", total // MB * MB)
    for _ in range(total // MB):
        yield bytes(MB)
    yield bytes(1024)


def many_gzip_members(path: Path, size: int) -> None:
    one = igzip.compress(b"")
    path.write_bytes(one * (size // len(one)))


def gzip_with_a_long_name(path: Path, size: int) -> None:
    path.write_bytes(b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * size)


def greedy_xz(path: Path, size: int) -> None:
    """An archive whose dictionary shall have 1.5 GiB."""
    del size
    data = bytearray(lzma.compress(header("a") + bytes(9 * 1024)))
    end = 12 + (data[12] + 1) * 4 - 4  # of the block's header, where its checksum is
    data[data.index(b"\x21\x01", 12) + 2] = 40  # the dictionary's size: 4 GiB - 1
    data[end : end + 4] = struct.pack("<I", crc32(data[12:end]))
    path.write_bytes(data)


def fifo(path: Path, size: int) -> None:
    del size
    os.mkfifo(path)


def listed(path: Path) -> object:
    """List a context as `goldsmith validate` does."""
    found = scan(path)
    if found.problems:
        raise InputError(found.problems[0])
    return len(found.members or ())


def packed_anew(path: Path) -> object:
    with tempfile.TemporaryDirectory() as folder:
        return pack_context(path, Path(folder, "context.tar")).size


def on_vm(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        unpack_on_vm(str(path), folder)


def unpacked(path: Path) -> object:
    disk = path.with_suffix(".unpacked")
    try:
        unpack_disk(path, disk)
        return disk.stat().st_size
    finally:
        disk.unlink(missing_ok=True)


ARCHIVES = (
    Attack("name of hundreds of megabytes", gzipped(long_name), unpacked, "for one name"),
    Attack("map of hundreds of megabytes", gzipped(sparse_map), unpacked, "bytes of memory"),
    Attack("old map without an end", gzipped(old_sparse_map), unpacked, "bytes of memory"),
    Attack("headers and no member", gzipped(headers_without_members), unpacked, "no member comes"),
    Attack("disk of zeros", gzipped(zeros, 1 << 40), unpacked, ""),
    Attack("gzip members of nothing", many_gzip_members, unpacked, "nor a sound tar archive"),
    Attack("gzip with a long name", gzip_with_a_long_name, unpacked, "damaged, or cut short"),
    Attack("archive that is a FIFO", fifo, lambda path: as_raw(path, path.with_suffix(".raw")), "is a FIFO"),
    Attack("context of one name on a VM", plain(lambda total: members("a", total)), on_vm, ""),
    Attack("context of one long name on a VM", plain(long_name), on_vm, "a name of"),
    Attack("context of one name, again and again", gzipped(lambda total: members("a", total)), listed, "takes more"),
    Attack("context of .git alone", gzipped(lambda total: members(".git/a", total)), listed, "takes more"),
    Attack("context with a long name", gzipped(long_name), listed, "for one name"),
    Attack("context with a map", gzipped(sparse_map), listed, "bytes of memory"),
    Attack("context of headers", gzipped(headers_without_members), listed, "no member comes"),
    Attack("context with records for all", gzipped(members_with_global_records), listed, "bytes of memory"),
    Attack("context of deep names", gzipped(deep_names), listed, "takes more"),
    Attack("context of deep folders", gzipped(deep_folders), listed, "takes more"),
    Attack("context of zeros", gzipped(zeros), packed_anew, "takes more"),
    Attack("context that is a maze of links", gzipped(links), listed, "leads out of the context or in a circle"),
    Attack("context that asks for memory", greedy_xz, listed, "no whole tar archive"),
)


def with_file(path: str, contents: Callable[[int], bytes]) -> Callable[[Path, int], None]:
    """Make a disk whose ext4 root has one file, of about `size` bytes."""

    def make(disk: Path, size: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, path)
            file.parent.mkdir(parents=True)
            file.write_bytes(contents(size))
            rooted(disk, Path(folder), (size * 5 // 4 + 16 * MB) // MB * MB)

    return make


def many_packages(size: int) -> bytes:
    return b"".join(
        b"Package: p%d\nVersion: 1\nStatus: x installed\n\n" % number for number in range(max(size, 8 * MB) // 44)
    )


def equal_tags(size: int) -> bytes:
    """An ndb database of one header, with one tag again and again."""
    store = b"a" * size
    head = struct.pack(">2I", 4096, len(store)) + struct.pack(">4I", 1000, 6, 0, 1) * 4096 + store
    return ndb([(8 * 256, 7)], [(7, head)])


def one_header_for_all(size: int) -> bytes:
    """An ndb database whose slots lead to the same header."""
    entry = struct.pack(">4I", 1000, 6, 0, 1) * 4000
    head = struct.pack(">2I", 4000, 2) + entry + b"a\0"
    pages = max(8, size // 4096)
    return ndb([(pages * 256, 7)] * (pages * 256 - 2), [(7, head)], pages)


def ndb(slots: list[tuple[int, int]], blobs: list[tuple[int, bytes]], pages: int = 8) -> bytes:
    data = struct.pack("<4s4I", b"RpmP", 0, 0, pages, 0).ljust(32, b"\0")
    data += b"".join(struct.pack("<4s3I", b"Slot", number, block, 1) for block, number in slots)
    free = struct.pack("<4s3I", b"Slot", 0, 0, 0)
    data += free * ((pages * 4096 - len(data)) // 16)
    for number, blob in blobs:
        data += struct.pack("<4s3I", b"BlbS", number, 0, len(blob)) + blob
    return data


def busy_schema(size: int) -> bytes:
    """An SQLite database whose column is a function that takes minutes."""
    del size
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rpmdb.sqlite")
        connection = sqlite3.connect(path)
        busy = "instr(zeroblob(30000000), CAST(zeroblob(15000000) || 'x' AS BLOB))"
        # The rows first: SQLite works the column out for each that is added.
        connection.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob AS (abs(hnum)))")
        connection.executemany("INSERT INTO Packages (hnum) VALUES (?)", [(number,) for number in range(1000)])
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_schema SET sql = replace(sql, 'abs(hnum)', ?)", (busy,))
        connection.commit()
        connection.close()
        return path.read_bytes()


def list_of_lists(size: int) -> bytes:
    return b'{"installedPackages":[' + b"[]," * (size // 3) + b"[]]}"


def listed_packages(path: Path) -> object:
    return len(packages(Disk(path).root) or ())


def compared(path: Path) -> object:
    """Compare a disk with a copy whose inodes have other times, so that nothing is known to be the same."""
    other = path.with_suffix(".other")
    copy_sparse(path, other)
    with other.open("r+b") as file:
        file.seek(disks.START + 2 * disks.BLOCK)
        table = file.read(16384 * disks.INODE)
        file.seek(disks.START + 2 * disks.BLOCK)
        file.write(
            b"".join(table[at : at + 16] + b"time" + table[at + 20 : at + 128] for at in range(0, len(table), 128))
        )
    return compare_disks(path, other).same


def looked_into(path: Path) -> object:
    return len(look_into(Disk(path), None))


def looked_into_beside(path: Path) -> object:
    """Look into a disk that is the same as its source's."""
    source = path.with_suffix(".source")
    copy_sparse(path, source)
    return len(look_into(Disk(path), Disk(source)))


def many_parameters(size: int) -> bytes:
    del size
    return b"linux /a" + b" a" * (MB // 2 - 10)


def parameters_compared(path: Path) -> object:
    file_system = Disk(path).root.file_system
    [words] = boot_parameters(file_system).values()
    return list(map(len, changed_parameters(words, [*words, "b"])))


def walked(path: Path) -> object:
    size = path.stat().st_size - disks.START
    with DiskReader(path) as reader:
        file_system = Ext4(reader, disks.START, size)
        return sum(1 for _ in file_system.walk())


def fat_names(path: Path) -> object:
    with DiskReader(path) as reader:
        file_system = Fat(reader, disks.START, path.stat().st_size - disks.START)
        return len(file_system.entries(file_system.root))


DPKG, RPM = "var/lib/dpkg/status", "usr/lib/sysimage/rpm"
DISKS = (
    Attack("disk that is a FIFO", fifo, describe_image, "is a FIFO"),
    Attack("folders that share their names", disks.shared_folders, walked, "entries"),
    Attack("folders that share their names, checked", disks.shared_folders, looked_into, "entries"),
    Attack("folders that share their names, compared", disks.shared_folders, compared, "entries"),
    Attack("deep folders", disks.deep_folders, walked, "in too many folders"),
    Attack("deep folders, checked", disks.deep_folders, looked_into, ""),
    Attack("files that share their contents", disks.shared_contents, looked_into, "bytes of contents"),
    Attack("files that share their contents, compared", disks.shared_contents, compared, "bytes of contents"),
    Attack("files that share their maps", disks.shared_maps, compared, "is damaged"),
    Attack("file that claims a terabyte", disks.large_file, listed_packages, "too many for a list"),
    Attack("partitions that are one", disks.one_for_all_partitions, looked_into_beside, "takes more"),
    Attack("swap of all partitions", disks.one_swap_for_all_partitions, looked_into_beside, "takes more"),
    Attack("kernel's parameters", with_file("boot/grub/grub.cfg", many_parameters), parameters_compared, ""),
    Attack("name without an end", disks.long_fat_name, fat_names, "a name of more than 20 parts"),
    Attack("packages without an end", with_file(DPKG, many_packages), listed_packages, "bytes of memory"),
    Attack("list of empty lines", with_file(DPKG, lambda size: b"\n" * size), listed_packages, ""),
    Attack("list of one line", with_file(DPKG, lambda size: b"\xff" * size), listed_packages, ""),
    Attack("rpm's header of equal tags", with_file(f"{RPM}/Packages.db", equal_tags), listed_packages, "no name"),
    Attack("rpm's header for all", with_file(f"{RPM}/Packages.db", one_header_for_all), listed_packages, "no name"),
    Attack("rpm's busy schema", with_file(f"{RPM}/rpmdb.sqlite", busy_schema), listed_packages, "is damaged"),
    Attack("list of lists", with_file("etc/cos-package-info.json", list_of_lists), listed_packages, "list"),
)


ATTACKS = {attack.name: attack for attack in (*ARCHIVES, *DISKS, *(Attack(*one) for one in TEXTS))}


def peak() -> int:
    """Most memory that this program has had, in MB: getrusage() would tell that of the process that started it, too."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1]) >> 10


def main() -> None:
    """Read the inputs that the lines of standard input name, each in a process of its own: most of one is imports."""
    for line in sys.stdin:
        name, path = line.rstrip("\n").split("\t")
        child = os.fork()
        if not child:
            os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
            try:
                read_one(name, Path(path))
                sys.stdout.flush()
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            sys.stdout.write(json.dumps({"kind": "", "text": f"ended with {status}", "peak": ENOUGH}) + "\n")
            sys.stdout.flush()


def read_one(name: str, path: Path) -> None:
    """Read one input and print how that ended."""
    attack = ATTACKS[name]
    kind = text = ""
    try:
        attack.read(path)
    except Exception as error:  # noqa: BLE001 - the test looks at what it is
        kind, text = type(error).__name__, str(error)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    seconds = usage.ru_utime + usage.ru_stime
    ended = {"kind": kind, "text": text[:500], "peak": peak(), "seconds": seconds}
    sys.stdout.write(json.dumps(ended) + "\n")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        read_one(sys.argv[1], Path(sys.argv[2]))
    else:
        main()
