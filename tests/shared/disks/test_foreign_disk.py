"""Disk images that other programs have made, with their own tools; and those that lead to other files."""

import bz2
import gzip
import lzma
import struct
from pathlib import Path

import pytest

from shared.clock import SystemClock
from shared.disks.foreign_disk import find_format
from shared.errors import ImageFileError
from shared.images.catalogue import Catalogue
from shared.images.file import as_raw, import_image
from tests.shared.disks.small_disks import MIB, os_tree, rooted, tool


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("disk")
    return rooted(folder / "disk.raw", os_tree(folder / "tree"), 16 * MIB)


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue(tmp_path / "home", SystemClock())


def same_disk(found: Path, expected: Path) -> bool:
    """Whether a disk is another, perhaps with zeros behind it: formats round sizes up."""
    data, wanted = found.read_bytes(), expected.read_bytes()
    return data.startswith(wanted) and not any(data[len(wanted) :]) and len(data) - len(wanted) < MIB


@pytest.mark.parametrize(
    ("driver", "options", "name"),
    [
        ("qcow2", ["-c"], "qcow2"),
        ("vmdk", [], "VMDK"),
        ("vmdk", ["-o", "subformat=streamOptimized"], "VMDK"),
        ("vpc", [], "VHD"),
        ("vpc", ["-o", "subformat=fixed"], "VHD"),
        ("vpc", ["-o", "subformat=fixed,force_size"], "VHD"),
        ("vhdx", [], "VHDX"),
        ("vdi", [], "VDI"),
        ("vdi", ["-o", "static=on"], "VDI"),
    ],
)
def test_what_qemu_reads_is_imported(
    catalogue: Catalogue, disk: Path, tmp_path: Path, driver: str, options: list[str], name: str
) -> None:
    file = tmp_path / "a disk, of another.img"  # a comma separates QEMU's options
    tool("qemu-img", "convert", "-O", driver, *options, disk, file)
    found = find_format(file)
    assert found is not None
    assert found.name == name
    import_image(file, "one", catalogue)
    assert same_disk(catalogue.disk("one"), disk)
    assert as_raw(file, tmp_path / "again.raw") == tmp_path / "again.raw"
    assert same_disk(tmp_path / "again.raw", disk)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_disk_that_is_compressed_by_itself(catalogue: Catalogue, disk: Path, tmp_path: Path, pack: object) -> None:
    file = tmp_path / "disk.raw.packed"
    assert callable(pack)
    file.write_bytes(pack(disk.read_bytes()))
    image = import_image(file, "one", catalogue)
    assert catalogue.disk("one").read_bytes() == disk.read_bytes()
    assert image.archive_bytes < 8 * MIB  # sparse


def test_an_archive_that_is_packed_by_xz(catalogue: Catalogue, disk: Path, tmp_path: Path) -> None:
    file = tmp_path / "disk.tar.xz"
    tool("tar", "-C", disk.parent, "-cJSf", file, "disk.raw")
    import_image(file, "one", catalogue)
    assert catalogue.disk("one").read_bytes() == disk.read_bytes()


def refused(catalogue: Catalogue, file: Path, what: str) -> None:
    with pytest.raises(ImageFileError, match=what) as raised:
        import_image(file, "one", catalogue)
    assert str(file) in str(raised.value)
    assert not catalogue.folder.exists() or list(catalogue.folder.iterdir()) == []


def test_a_difference_from_another_disk_is_refused(catalogue: Catalogue, disk: Path, tmp_path: Path) -> None:
    parent = tmp_path / "parent.vmdk"
    tool("qemu-img", "convert", "-O", "vmdk", disk, parent)
    child = tmp_path / "child.vmdk"
    tool("qemu-img", "create", "-q", "-f", "vmdk", "-b", parent, "-F", "vmdk", child)
    refused(catalogue, child, "is the difference from another disk")


def test_a_vmdk_in_several_files_is_refused(catalogue: Catalogue, disk: Path, tmp_path: Path) -> None:
    file = tmp_path / "split.vmdk"
    tool("qemu-img", "convert", "-O", "vmdk", "-o", "subformat=monolithicFlat", disk, file)
    refused(catalogue, file, "whose data are in other files; .* qemu-img convert")


def test_a_vmdk_that_takes_its_descriptors_word_is_refused(catalogue: Catalogue, disk: Path, tmp_path: Path) -> None:
    """QEMU reads a VMDK whose header has no capacity by its descriptor alone, which may name any file."""
    file = tmp_path / "evil.vmdk"
    tool("qemu-img", "convert", "-O", "vmdk", disk, file)
    data = bytearray(file.read_bytes())
    data[12:20] = bytes(8)
    secret = tmp_path / "secret"
    secret.write_bytes(disk.read_bytes())
    descriptor = (
        '# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="monolithicFlat"\n'
        f'RW {16 * MIB // 512} FLAT "{secret}" 0\n'
    ).encode()
    data[512 : 512 + len(descriptor) + 1] = descriptor + b"\0"
    file.write_bytes(data)
    assert "16 MiB" in tool("qemu-img", "info", "-f", "vmdk", file)  # it would be read
    refused(catalogue, file, "is a VMDK without a size")


@pytest.mark.parametrize("moved", [True, False])
def test_a_vmdk_with_a_parent_where_qemu_looks_for_one_is_refused(
    catalogue: Catalogue, disk: Path, tmp_path: Path, moved: bool
) -> None:
    """QEMU looks in the second sector and 19 more, whatever the header says: there it may lead to any file."""
    file = tmp_path / "evil.vmdk"
    tool("qemu-img", "convert", "-O", "vmdk", disk, file)
    data = bytearray(file.read_bytes())
    data += bytes(-len(data) % 512)
    descriptor = bytes(data[512 : 21 * 512])
    other = tmp_path / "other.vmdk"
    secret = tmp_path / "secret"
    secret.write_bytes(b"the host's own " * MIB)
    other.write_text(f'# Disk DescriptorFile\nversion=1\nCID=1\nRW {16 * MIB // 512} FLAT "{secret}" 0\n')
    if moved:  # the header leads to a sound one
        struct.pack_into("<QQ", data, 28, len(data) // 512, 20)
        data += descriptor
    else:  # it tells of the beginning alone
        struct.pack_into("<QQ", data, 28, 1, 1)
    parent = f'parentCID=1\nparentFileNameHint="{other}"\n'.encode()
    evil = descriptor.partition(b"\0")[0].replace(b"parentCID=ffffffff\n", b"")
    evil = evil.ljust(600, b"\n") + parent
    data[512 : 21 * 512] = evil.ljust(20 * 512, b"\0")
    file.write_bytes(data)
    assert f"backing file: {other}" in tool("qemu-img", "info", "-f", "vmdk", file)  # it would be read
    refused(catalogue, file, "is the difference from another disk")


def test_a_vhd_is_a_difference_by_either_of_its_footers(catalogue: Catalogue, disk: Path, tmp_path: Path) -> None:
    file = tmp_path / "disk.img"
    tool("qemu-img", "convert", "-O", "vpc", disk, file)
    data = bytearray(file.read_bytes())
    struct.pack_into(">I", data, 60, 4)
    file.write_bytes(data)
    refused(catalogue, file, "is the difference from another disk")


def test_a_disk_with_very_many_faults_is_refused_at_the_first(catalogue: Catalogue, tmp_path: Path) -> None:
    """2 KiB that speak of 64 Mi blocks, all of them the first one: 2.4 GB of errors, if they were all told."""
    file = tmp_path / "evil.vdi"
    tool("qemu-img", "create", "-f", "vdi", file, "1G")
    data = bytearray(file.read_bytes()[:2048])
    struct.pack_into("<QIII", data, 368, 64 << 40, MIB, 0, 64 << 20)
    file.write_bytes(data)
    refused(catalogue, file, "qemu-img check says that it is damaged: ERROR: block index 0 also used by 0")


def test_a_disk_that_needs_more_memory_than_any_is_refused(catalogue: Catalogue, tmp_path: Path) -> None:
    """The counts of clusters of 512 bytes, 2 bytes for each, of a file that has holes alone."""
    file = tmp_path / "evil.qcow2"
    tool("qemu-img", "create", "-f", "qcow2", "-o", "cluster_size=512", file, "1G")
    with file.open("r+b") as opened:
        opened.truncate(4 << 40)
    refused(catalogue, file, "qemu-img check says that it is damaged: ")


@pytest.mark.parametrize(("driver", "at"), [("vpc", 60), ("vdi", 76)])
def test_other_kinds_of_differences_are_refused(
    catalogue: Catalogue, disk: Path, tmp_path: Path, driver: str, at: int
) -> None:
    file = tmp_path / "disk.img"
    tool("qemu-img", "convert", "-O", driver, disk, file)
    data = bytearray(file.read_bytes())
    place = len(data) - 512 + at if driver == "vpc" else at
    data[place : place + 4] = struct.pack(">I" if driver == "vpc" else "<I", 4)
    file.write_bytes(data)
    refused(catalogue, file, "is the difference from another disk")


@pytest.mark.parametrize("driver", ["vmdk", "vpc", "vhdx", "vdi", "qcow2"])
@pytest.mark.parametrize("part", [600, 2])
def test_what_is_cut_short_is_refused(catalogue: Catalogue, disk: Path, tmp_path: Path, driver: str, part: int) -> None:
    file = tmp_path / "disk.img"
    tool("qemu-img", "convert", "-O", driver, disk, file)
    size = file.stat().st_size
    with file.open("r+b") as opened:
        opened.truncate(part if part > 512 else size // part)
    refused(catalogue, file, "cut short|damaged|cannot be converted|no partition table|no GPT header")


def test_a_disk_larger_than_any_is_refused_before_it_is_written(catalogue: Catalogue, tmp_path: Path) -> None:
    file = tmp_path / "huge.qcow2"
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=2M", file, "100T")
    refused(catalogue, file, "is a disk of 109951162777600 bytes; the most is")
