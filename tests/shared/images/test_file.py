import gzip
import io
import os
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from shared.clock import SystemClock
from shared.errors import AlreadyExists, ImageFileError, InputError
from shared.images.catalogue import Catalogue
from shared.images.contents import describe_image
from shared.images.file import import_image, name_of_file, source_name
from tests.shared.disks.small_disks import MIB, os_tree, partitioned, rooted, tool

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("disk")
    return rooted(folder / "disk.raw", os_tree(folder / "tree"), 16 * MIB)


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue(tmp_path / "home", SystemClock())


def packed(path: Path, *options: str, folder: Path, member: str = "disk.raw") -> Path:
    tool("tar", "-C", folder, "-czf", path, *options, member)
    return path


def refused(catalogue: Catalogue, file: Path, what: str) -> None:
    with pytest.raises(ImageFileError, match=what) as raised:
        import_image(file, "one", catalogue)
    assert file.name in str(raised.value)
    assert not catalogue.folder.exists() or list(catalogue.folder.iterdir()) == []


def test_raw(catalogue: Catalogue, disk: Path, tmp_path: Path) -> None:
    file = tmp_path / "anything.tar.gz"  # content decides, not the name
    file.write_bytes(disk.read_bytes())
    said: list[str] = []
    image = import_image(file, "one", catalogue, family="f", progress=said.append)
    assert (image.name, image.family, image.description) == ("one", "f", "imported from anything.tar.gz")
    assert catalogue.disk("one").read_bytes() == disk.read_bytes() == file.read_bytes()
    assert len(said) == 2


@pytest.mark.parametrize("options", [["-c"], []])
def test_qcow2(catalogue: Catalogue, disk: Path, tmp_path: Path, options: list[str]) -> None:
    file = tmp_path / "disk.img"
    tool("qemu-img", "convert", *options, "-O", "qcow2", disk, file)
    import_image(file, "one", catalogue)
    assert catalogue.disk("one").read_bytes() == disk.read_bytes()


@pytest.mark.parametrize(
    "options",
    [["-S", "--format=oldgnu"], ["--format=gnu"], ["-S", "--format=gnu"], ["-S", "--format=posix"], ["--format=ustar"]],
)
def test_tar_gz(catalogue: Catalogue, disk: Path, tmp_path: Path, options: list[str]) -> None:
    image = import_image(packed(tmp_path / "disk.bin", *options, folder=disk.parent), "one", catalogue)
    assert catalogue.disk("one").read_bytes() == disk.read_bytes()
    assert image.archive_bytes < 8 * MIB


def test_a_dot_before_the_member_is_usual(catalogue: Catalogue, disk: Path, tmp_path: Path) -> None:
    import_image(packed(tmp_path / "a.tar.gz", "-S", folder=disk.parent, member="./disk.raw"), "one", catalogue)


def test_many_extents(catalogue: Catalogue, tmp_path: Path) -> None:
    source = partitioned(tmp_path / "disk.raw", "label: gpt\nstart=2048, type=linux\n", 16 * MIB)
    with source.open("r+b") as file:
        for number in range(300):
            file.seek(2 * MIB + number * 40_960)
            file.write(os.urandom(4096))
    import_image(packed(tmp_path / "a.tar.gz", "-S", "--format=oldgnu", folder=tmp_path), "one", catalogue)
    assert catalogue.disk("one").read_bytes() == source.read_bytes()


def archive(path: Path, *members: tuple[tarfile.TarInfo, bytes], tail: bytes = b"") -> Path:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    path.write_bytes(gzip.compress(buffer.getvalue() + tail, 1))
    return path


def member(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, size: int | None = None) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(data) if size is None else size
    info.linkname = "/etc/passwd" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
    return info


@pytest.mark.parametrize("name", ["other.raw", "/disk.raw", "../disk.raw", "a/disk.raw", "disk.raw/..", "\x1b[2J"])
def test_another_member_is_refused(catalogue: Catalogue, tmp_path: Path, name: str) -> None:
    refused(catalogue, archive(tmp_path / "a.tar.gz", (member(name, b"x"), b"x")), "holds disk.raw and nothing else")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_a_member_that_is_no_file_is_refused(catalogue: Catalogue, tmp_path: Path, kind: bytes) -> None:
    refused(catalogue, archive(tmp_path / "a.tar.gz", (member("disk.raw", kind=kind), b"")), "should be a file")


def test_a_second_member_is_refused(catalogue: Catalogue, disk: Path, tmp_path: Path) -> None:
    data = disk.read_bytes()
    members = ((member("disk.raw", data), data), (member("more", b"x"), b"x"))
    refused(catalogue, archive(tmp_path / "a.tar.gz", *members), "'more'")


def test_what_is_hidden_behind_the_end_is_refused(catalogue: Catalogue, disk: Path, tmp_path: Path) -> None:
    data = disk.read_bytes()
    file = archive(tmp_path / "a.tar.gz", (member("disk.raw", data), data), tail=os.urandom(3 * MIB))
    refused(catalogue, file, "goes on after the end")


def test_an_empty_archive_is_refused(catalogue: Catalogue, tmp_path: Path) -> None:
    refused(catalogue, archive(tmp_path / "a.tar.gz"), "is empty")


@pytest.mark.parametrize("size", [0, 1 << 50])
def test_a_size_that_no_disk_has_is_refused(catalogue: Catalogue, tmp_path: Path, size: int) -> None:
    file = tmp_path / "a.tar.gz"
    file.write_bytes(gzip.compress(member("disk.raw", size=size).tobuf(tarfile.GNU_FORMAT) + bytes(1024)))
    refused(catalogue, file, "bytes; a disk has up to")


@pytest.mark.parametrize("damage", ["cut", "cut early", "flipped", "crc", "not a tar"])
def test_a_damaged_archive_is_refused(catalogue: Catalogue, disk: Path, tmp_path: Path, damage: str) -> None:
    file = packed(tmp_path / "a.tar.gz", "-S", "--format=oldgnu", folder=disk.parent)
    data = bytearray(file.read_bytes())
    if damage == "cut":
        del data[len(data) // 2 :]
    elif damage == "cut early":
        del data[14:]
    elif damage == "flipped":
        data[len(data) // 2] ^= 0xFF
    elif damage == "crc":
        data[-6] ^= 0xFF
    else:
        data = bytearray(gzip.compress(os.urandom(100_000)))
    file.write_bytes(data)
    refused(catalogue, file, "is damaged, or cut short|nor a sound tar archive")


def test_a_sparse_map_that_leads_out_is_refused(catalogue: Catalogue, tmp_path: Path) -> None:
    head = bytearray(member("disk.raw", b"x" * 512).tobuf(tarfile.GNU_FORMAT))
    head[156:157] = b"S"
    head[386:410] = b"00777777000\x0000000001000\x00"
    head[483:495] = b"00000010000\x00"
    head[148:156] = b"        "
    head[148:156] = f"{sum(head):06o}\0 ".encode()
    file = tmp_path / "a.tar.gz"
    file.write_bytes(gzip.compress(bytes(head) + bytes(512 + 1024)))
    refused(catalogue, file, "map of disk.raw is damaged")


def test_a_truncated_raw_disk_is_refused(catalogue: Catalogue, disk: Path, tmp_path: Path) -> None:
    file = tmp_path / "short.raw"
    file.write_bytes(disk.read_bytes()[: 10 * MIB])
    refused(catalogue, file, "truncated")


def test_a_truncated_disk_inside_an_archive_is_refused(catalogue: Catalogue, disk: Path, tmp_path: Path) -> None:
    data = disk.read_bytes()[: 10 * MIB]
    with pytest.raises(ImageFileError, match="truncated"):
        import_image(archive(tmp_path / "a.tar.gz", (member("disk.raw", data), data)), "one", catalogue)
    assert list(catalogue.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "is empty"),
        (b"hello\n", "byte"),
        (bytes(4096), "no partition table"),
        (b"KDMV" + bytes(600), "is a VMDK without a size"),
        (b"\xfd7zXZ\0" + bytes(600), "is damaged, or cut short"),
        (b"\x28\xb5\x2f\xfd" + bytes(600), "compressed with zstd; .* zstd -d .*file.raw"),
        (b"PK\x03\x04" + bytes(600), "a zip archive; .* unzip "),
        (b"QFI\xfb\0\0\0\3", "cut short"),
        (bytes(257) + b"ustar" + bytes(600), "not compressed"),
    ],
)
def test_other_files_are_refused(catalogue: Catalogue, tmp_path: Path, data: bytes, what: str) -> None:
    file = tmp_path / "file.raw"
    file.write_bytes(data)
    refused(catalogue, file, what)


def test_a_file_system_without_a_table_is_refused_however_it_is_packed(catalogue: Catalogue, tmp_path: Path) -> None:
    bare, other = tmp_path / "bare.raw", tmp_path / "bare.qcow2"
    tool("mke2fs", "-q", "-F", "-t", "ext4", bare, "8M")
    tool("qemu-img", "convert", "-O", "qcow2", bare, other)
    for file in (bare, other):
        refused(catalogue, file, "no partition table; give a whole disk, not a file system")


def test_no_file_and_a_folder(catalogue: Catalogue, tmp_path: Path) -> None:
    refused(catalogue, tmp_path / "nothing", "No such file")
    (tmp_path / "folder").mkdir()
    refused(catalogue, tmp_path / "folder", "is a folder")


def test_a_qcow2_that_needs_other_files_is_refused_before_they_are_opened(
    catalogue: Catalogue, disk: Path, tmp_path: Path
) -> None:
    file = tmp_path / "disk.qcow2"
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", disk, "-F", "raw", file)
    refused(catalogue, file, "has a backing file")
    file.unlink()
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", f"data_file={tmp_path}/data,data_file_raw=on", file, "8M")
    refused(catalogue, file, "keeps its data in another file")


@pytest.mark.parametrize(("at", "value", "what"), [(32, 2, "is encrypted"), (76, 2, "marked as corrupt")])
def test_a_qcow2_that_cannot_be_read_is_refused(
    catalogue: Catalogue, tmp_path: Path, at: int, value: int, what: str
) -> None:
    file = tmp_path / "disk.qcow2"
    tool("qemu-img", "create", "-q", "-f", "qcow2", file, "8M")
    data = bytearray(file.read_bytes())
    data[at : at + 4] = struct.pack(">I", value)
    file.write_bytes(data)
    refused(catalogue, file, what)


def test_a_damaged_qcow2_is_refused(catalogue: Catalogue, disk: Path, tmp_path: Path) -> None:
    file = tmp_path / "disk.qcow2"
    tool("qemu-img", "convert", "-O", "qcow2", disk, file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    refused(catalogue, file, "is damaged|cannot be converted")


def test_a_taken_name_and_a_bad_one_are_seen_before_anything_is_read(catalogue: Catalogue, disk: Path) -> None:
    import_image(disk, "one", catalogue)
    with pytest.raises(AlreadyExists):
        import_image(disk.parent / "nothing", "one", catalogue)
    with pytest.raises(InputError, match="Not A Name"):
        import_image(disk.parent / "nothing", "Not A Name", catalogue)


FULL = """
import sys
from pathlib import Path
from shared.errors import GoldsmithError
from shared.images.catalogue import Catalogue
from shared.clock import SystemClock
from shared.images.file import import_image

catalogue = Catalogue(Path(sys.argv[1]), SystemClock())
try:
    import_image(Path(sys.argv[2]), "one", catalogue)
except GoldsmithError as error:
    print(type(error).__name__, error)
print([path.name for path in catalogue.folder.iterdir()])
"""
ON_A_SMALL_FILE_SYSTEM = 'mount -t tmpfs -o size=4m none "$1" && exec "$2" -c "$3" "$1" "$4"'


@pytest.mark.parametrize("kind", ["raw", "qcow2", "sparse tar.gz", "tar.gz"])
def test_a_full_file_system_is_said_and_left_as_it_was(tmp_path: Path, kind: str) -> None:
    source = partitioned(tmp_path / "disk.raw", "label: gpt\nstart=2048, type=linux\n", 16 * MIB)
    with source.open("r+b") as file:
        file.seek(4 * MIB)
        file.write(os.urandom(8 * MIB))
    file_of_kind = {"raw": source, "qcow2": tmp_path / "a.qcow2"}.get(kind, tmp_path / "a.tar.gz")
    if kind == "qcow2":
        tool("qemu-img", "convert", "-O", "qcow2", source, file_of_kind)
    elif kind != "raw":
        packed(file_of_kind, *(["-S"] if kind.startswith("sparse") else []), folder=tmp_path)
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    shell = ["sh", "-c", ON_A_SMALL_FILE_SYSTEM, "sh", str(home), sys.executable, FULL, str(file_of_kind)]
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", *shell], capture_output=True, text=True, cwd=ROOT, check=True
    )
    said, left = done.stdout.splitlines()
    assert said.startswith("NoSpace "), done.stdout
    assert str(home) in said
    assert left == "[]"


def test_what_is_inside_is_described(disk: Path) -> None:
    found = describe_image(disk)
    assert (found.system, found.kernel, found.table) == ("Debian GNU/Linux 12 (bookworm)", "6.1.0-9-cloud-amd64", "gpt")
    assert (found.python3, found.cloud_init, found.bios, found.efi) == (True, False, False, False)
    assert "partitions:  GPT" in str(found)


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    found = describe_image(partitioned(tmp_path / "disk.raw", "label: gpt\nstart=2048, type=linux\n"))
    assert found.system is None
    assert found.python3 is None
    assert found.unreadable is not None
    assert found.unreadable in str(found)


def arm_disk(folder: Path) -> Path:
    tree = os_tree(folder / "arm")
    (tree / "usr/bin/sh").write_bytes(b"\x7fELF\x02\x01".ljust(18, b"\0") + struct.pack("<H", 183))
    return rooted(folder / "arm.raw", tree, 16 * MIB)


def test_the_architecture_is_that_of_the_disk_s_programs(catalogue: Catalogue, disk: Path, tmp_path: Path) -> None:
    arm = arm_disk(tmp_path)
    assert import_image(arm, "arm", catalogue).architecture == "arm64"
    with pytest.raises(InputError, match=r"arm\.raw: is for arm64, not for x86_64; leave --architecture out"):
        import_image(arm, "two", catalogue, architecture="x86_64")
    with pytest.raises(InputError, match="no machine here has the architecture 'sparc'"):
        import_image(arm, "two", catalogue, architecture="sparc")
    assert import_image(disk, "given", catalogue, architecture="arm64").architecture == "arm64"  # it does not tell
    assert [image.name for image in catalogue.list()] == ["given", "arm"]


def test_a_kernel_tells_the_architecture_where_no_program_does(tmp_path: Path) -> None:
    tree = os_tree(tmp_path / "tree")
    kernel = next((tree / "boot").glob("vmlinuz-*"))
    kernel.write_bytes(b"MZ".ljust(0x38, b"\0") + b"ARM\x64" + bytes(2000))
    assert describe_image(rooted(tmp_path / "disk.raw", tree, 16 * MIB)).architecture == "arm64"


def test_an_efi_program_at_the_removable_path_is_found(disk: Path, tmp_path: Path) -> None:
    table = "label: gpt\nstart=2048, size=8M, type=uefi\n"
    image = partitioned(tmp_path / "disk.raw", table)
    partition = f"{image}@@{MIB}"
    tool("mkfs.vfat", "--offset", "2048", image, str(8 << 10))
    assert not describe_image(image).efi
    tool("mmd", "-i", partition, "::/EFI", "::/EFI/BOOT")
    tool("mcopy", "-i", partition, disk.parent / "tree/etc/os-release", "::/EFI/BOOT/bootx64.efi")
    assert describe_image(image).efi
    assert describe_image(image).architecture == "x86_64"  # there is no root to tell it
    tool("mcopy", "-i", partition, disk.parent / "tree/etc/os-release", "::/EFI/BOOT/BOOTAA64.EFI")
    assert describe_image(image).architecture is None


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("my_Disk.tar.gz", "my-disk"),
        ("Debian 12.qcow2", "debian-12"),
        ("12.raw", "image"),
        ("a.b.c", "a-b"),
        ("noble-server-cloudimg-amd64.img", "noble-server-cloudimg-amd64"),
        ("x" * 80, "x" * 63),
    ],
)
def test_names_are_made_of_file_names(file: str, name: str) -> None:
    assert name_of_file(Path(file)) == name


def test_a_files_name_changes_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / ("x" * 80 + ".raw")
    file.write_bytes(b"1")
    first = source_name(file)
    assert source_name(file) == first
    assert len(first) == 63
    os.utime(file, ns=(0, 12345))
    assert source_name(file) != first
    with pytest.raises(ImageFileError, match="nothing"):
        source_name(tmp_path / "nothing")
