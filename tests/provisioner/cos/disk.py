"""A disk with the layout of Container-Optimized OS, made with the usual tools, without root and loop devices.

It has twelve partitions with the places, types and attributes of the real one; ext4 with files in STATE and OEM; a vfat
with a grub.cfg and kernels in EFI-SYSTEM; code in the first sector. It is sparse: 10 GB take some 30 MB.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shared.disks.extents import data_extents

SECTOR = 512
MIB = 1 << 20
STATE, ROOT_A, ROOT_B, OEM, EFI_SYSTEM = 1, 3, 5, 8, 12

LINUX = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
KERNEL = "FE3A2A5D-4F32-41A7-B725-ACCC3285A309"
ROOT = "3CB8E202-3B7E-47DD-8A3C-7FF2A13CFCEC"
RESERVED = "2E0A753D-9E48-43B0-8337-B15192CB1B5E"
FIRMWARE = "CAB6E88E-ABF3-4102-A07A-D4BB9BE3C1D3"
EFI = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"

# number, name, type, start, sectors, attributes (bits 48 to 51: priority; 56: booted well). ROOT-A and STATE follow.
FIXED = (
    (11, "RWFW", FIRMWARE, 64, 16384, ""),
    (6, "KERN-C", KERNEL, 16448, 1, ""),
    (7, "ROOT-C", ROOT, 16449, 1, ""),
    (9, "reserved", RESERVED, 16450, 1, ""),
    (10, "reserved", RESERVED, 16451, 1, ""),
    (2, "KERN-A", KERNEL, 20480, 32768, "GUID:49,56"),
    (4, "KERN-B", KERNEL, 53248, 32768, "GUID:48,56"),
    (8, "OEM", LINUX, 86016, 32768, ""),
    (12, "EFI-SYSTEM", EFI, 249856, 65536, "LegacyBIOSBootable"),
)
ROOT_B_START = 315392

ENVIRONMENT = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}


def tool(*arguments: str | Path | int, stdin: str = "", fine: tuple[int, ...] = (0,)) -> str:
    """Run a program; return its standard output."""
    done = subprocess.run(
        [str(argument) for argument in arguments], input=stdin, capture_output=True, text=True, env=ENVIRONMENT
    )
    assert done.returncode in fine, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Place:
    """A partition, as sfdisk reads it, in sectors."""

    start: int
    size: int
    type: str
    uuid: str
    name: str
    attributes: str


@dataclass(frozen=True)
class CosDisk:
    """A disk file."""

    path: Path

    def table(self) -> dict[int, Place]:
        """Return the table as sfdisk reads it, after sfdisk has found no errors in it."""
        assert "No errors detected" in tool("sfdisk", "--verify", self.path)
        listed = json.loads(tool("sfdisk", "--json", self.path))["partitiontable"]["partitions"]
        return {
            int(entry["node"].removeprefix(str(self.path))): Place(
                entry["start"], entry["size"], entry["type"], entry["uuid"], entry["name"], entry.get("attrs", "")
            )
            for entry in listed
        }

    def copy(self, path: Path, grown: int = 0) -> CosDisk:
        """Copy the disk, and make the copy `grown` bytes larger."""
        tool("cp", "--sparse=always", self.path, path)
        os.truncate(path, self.path.stat().st_size + grown)
        return CosDisk(path)

    def fingerprint(self, start: int, sectors: int) -> str:
        """Return a hash of a range, the same whether its zeros are holes or not."""
        digest = hashlib.sha256()
        with self.path.open("rb") as file:
            for offset, length in _within(file.fileno(), start * SECTOR, (start + sectors) * SECTOR):
                for at in range(offset, offset + length, 4096):
                    block = os.pread(file.fileno(), min(4096, offset + length - at), at)
                    if any(block):
                        digest.update(f"{at - start * SECTOR}:".encode() + block)
        return digest.hexdigest()

    def efi_file(self, name: str) -> bytes:
        """Read a file of EFI-SYSTEM."""
        image = f"{self.path}@@{self.table()[EFI_SYSTEM].start * SECTOR}"
        return tool("mtype", "-i", image, f"::{name}").encode()

    def extract(self, number: int, path: Path) -> Path:
        """Copy a partition to a file of its own."""
        place = self.table()[number]
        with self.path.open("rb") as file, path.open("wb") as target:
            target.truncate(place.size * SECTOR)
            for offset, length in _within(file.fileno(), place.start * SECTOR, (place.start + place.size) * SECTOR):
                os.pwrite(target.fileno(), os.pread(file.fileno(), length, offset), offset - place.start * SECTOR)
        return path

    def files(self, number: int) -> dict[str, str]:
        """Return the files of an ext4 by their paths, with type and contents, after e2fsck has found no errors."""
        with tempfile.TemporaryDirectory() as name:
            image = self.extract(number, Path(name, "partition"))
            tool("e2fsck", "-f", "-n", image)
            dumped = Path(name, "dumped")
            dumped.mkdir()
            tool("debugfs", "-R", f"rdump / {dumped}", image)
            found = {path.relative_to(dumped).as_posix(): _description(path) for path in dumped.rglob("*")}
            asked = Path(name, "asked")
            asked.write_text("".join(f"stat /{path}\n" for path in found))
            answers = tool("debugfs", "-f", asked, image).split("debugfs: stat /")[1:]
        for answer in answers:  # which a copy does not show: the number of hard links, attributes
            path = answer.splitlines()[0]
            found[path] += " ".join(re.findall(r"Links: [0-9]+|user\..*", answer))
        return found


def _within(descriptor: int, begin: int, end: int) -> list[tuple[int, int]]:
    runs = [(max(offset, begin), min(offset + length, end)) for offset, length in data_extents(descriptor, end)]
    return [(start, stop - start) for start, stop in runs if start < stop]


def _description(path: Path) -> str:
    status = path.lstat()
    if path.is_symlink():
        return f"link to {path.readlink()} "
    if path.is_dir():
        return f"{status.st_mode:o} "
    return f"{status.st_mode:o} {status.st_mtime:.0f} {hashlib.sha256(path.read_bytes()).hexdigest()} "


def make_cos_disk(
    path: Path, *, size: int = 10 << 30, root_sectors: int = 4194304, efi_files: Mapping[str, bytes] | None = None
) -> CosDisk:
    """Make a disk; with smaller root partitions, it may be smaller. `efi_files` are added to the usual files."""
    with path.open("wb") as file:
        file.truncate(size)
    root_a = ROOT_B_START + root_sectors
    state = root_a + root_sectors
    partitions = [
        *FIXED,
        (5, "ROOT-B", ROOT, ROOT_B_START, root_sectors, ""),
        (3, "ROOT-A", ROOT, root_a, root_sectors, ""),
        (1, "STATE", LINUX, state, size // SECTOR - 33 - state, ""),  # ends within a page, as the real one
    ]
    script = ["label: gpt", "first-lba: 64"]
    for number, name, kind, start, sectors, attributes in partitions:
        uuid = f"8AC60384-1187-9E49-91CE-3ABD8DA2{number:04X}"
        attrs = f', attrs="{attributes}"' if attributes else ""
        script.append(f'{number}: start={start}, size={sectors}, type={kind}, uuid={uuid}, name="{name}"{attrs}')
    tool("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", path, stdin="\n".join(script))
    with path.open("r+b") as file:
        file.write(random.Random(0).randbytes(440))  # the place of syslinux's code
    disk = CosDisk(path)
    _fill(disk, {"vmlinuz.A": b"kernel A" * 999, "vmlinuz.B": b"kernel B" * 999, **(efi_files or {})})
    return disk


def _fill(disk: CosDisk, efi_files: Mapping[str, bytes]) -> None:
    table = disk.table()
    with tempfile.TemporaryDirectory() as name:
        for number, seed in ((STATE, 1), (OEM, 8)):
            tree = Path(name, str(number))
            _make_tree(tree, random.Random(seed), table[number].size * SECTOR // 8)
            _make_ext4(disk.path, table[number], tree)
        files = {"efi/boot/grub.cfg": grub_cfg(table).encode(), **_kernels(efi_files)}
        vfat = _make_vfat(Path(name, "vfat"), table[EFI_SYSTEM].size * SECTOR, files)
        with disk.path.open("r+b") as file:
            file.seek(table[EFI_SYSTEM].start * SECTOR)
            file.write(vfat.read_bytes())


def _make_vfat(path: Path, size: int, files: Mapping[str, bytes]) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    tool("mkfs.vfat", "-F", 16, path)
    tool("mmd", "-i", path, "::efi", "::efi/boot", "::syslinux")
    for target, data in files.items():
        source = path.with_name("file")
        source.write_bytes(data)
        tool("mcopy", "-i", path, source, f"::{target}")
    return path


def _kernels(files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {name if "/" in name else f"syslinux/{name}": data for name, data in files.items()}


def _make_ext4(disk: Path, place: Place, tree: Path) -> None:
    options = f"offset={place.start * SECTOR},nodiscard,lazy_itable_init=1,lazy_journal_init=1"
    blocks = place.size * SECTOR // 4096
    tool("mke2fs", "-q", "-F", "-t", "ext4", "-b", 4096, "-m", 0, "-E", options, "-d", tree, disk, blocks)
    device = f"{disk}?offset={place.start * SECTOR}"
    tool("debugfs", "-w", "-R", "ea_set /first/0 user.origin goldsmith", device)


def _make_tree(tree: Path, source: random.Random, most: int) -> None:
    """Make folders, files, holes and links: at most 16 MB, or `most` bytes."""
    rest = min(most, 16 * MIB)
    for folder in ("first", "second/deeper", "third"):
        (tree / folder).mkdir(parents=True)
        for number in range(40):
            size = min(rest, source.choice((0, 1, 100, 4096, 5000, 70_000, 300_000)))
            (tree / folder / str(number)).write_bytes(source.randbytes(size))
            rest -= size
    (tree / "link").symlink_to("second/deeper/7")
    (tree / "dangling").symlink_to("/nowhere/" + "x" * 100)
    os.link(tree / "first" / "3", tree / "third" / "hard")
    with (tree / "holes").open("wb") as file:
        file.seek(3 * MIB)
        file.write(b"behind a hole")
        file.truncate(5 * MIB)


def grub_cfg(table: Mapping[int, Place]) -> str:
    """Return a configuration of the boot loader in the system's own form."""
    common = "init=/usr/lib/systemd/systemd boot=local rootwait ro noresume loglevel=7 console=ttyS0 cros_efi"
    entries = []
    for letter, number in (("A", ROOT_A), ("B", ROOT_B)):
        uuid = table[number].uuid
        entries.append(
            f'menuentry "local image {letter}" {{\n  linux /syslinux/vmlinuz.{letter} {common}'
            f"      root=PARTUUID={uuid}\n}}\n"
        )
    for letter, number in (("A", ROOT_A), ("B", ROOT_B)):
        uuid = table[number].uuid
        entries.append(
            f'menuentry "verified image {letter}" {{\n  linux /syslinux/vmlinuz.{letter} {common} root=/dev/dm-0 '
            f'dm="1 vroot none ro 1,0 4077568 verity payload=PARTUUID={uuid} hashtree=PARTUUID={uuid} '
            f'hashstart=4077568 alg=sha256 root_hexdigest={"ab" * 32} salt={"cd" * 32}"\n}}\n'
        )
    return GRUB_HEAD + "\n".join(entries)


GRUB_HEAD = """\
defaultA=2
defaultB=3
gptpriority $grubdisk 2 prioA
gptpriority $grubdisk 4 prioB

if [ $prioA -lt $prioB ]; then
  set default=$defaultB
else
  set default=$defaultA
fi

set timeout=0
# These variables aren't any other boot loader's.

"""
