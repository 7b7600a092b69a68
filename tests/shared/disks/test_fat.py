import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.disks.fat import Fat
from shared.disks.reader import DiskReader
from shared.errors import ImageFileError
from tests.shared.disks.small_disks import MIB, tool

OFFSET = MIB


def make(disk: Path, tree: Path, bits: int, size: int) -> Fat:
    with disk.open("wb") as file:
        file.truncate(OFFSET + size)
    options = ["-F", str(bits), "-i", "1234abcd", "--offset", str(OFFSET // 512), "-s", "1" if bits != 12 else "8"]
    tool("mkfs.vfat", *options, disk, str(size // 1024))
    for path in sorted(tree.iterdir()):
        tool("mcopy", "-s", "-Q", "-i", f"{disk}@@{OFFSET}", path, "::/")
    return Fat(DiskReader(disk), OFFSET, size)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("fat") / "tree"
    (tree / "EFI/BOOT").mkdir(parents=True)
    (tree / "EFI/BOOT/BOOTX64.EFI").write_bytes(os.urandom(700_000))
    (tree / "EFI/empty").write_bytes(b"")
    (tree / "efi-2").mkdir()
    (tree / "efi-2/a name that is longer than eight letters.configuration").write_text("long")
    (tree / "efi-2/größe").write_text("letters")
    (tree / "grub.cfg").write_text("linux /vmlinuz")
    (tree / "many").mkdir()
    for number in range(200):
        (tree / "many" / f"file-number-{number}").write_text(str(number))
    return tree


def found(files: Fat) -> dict[str, bytes | None]:
    all_of_it: dict[str, bytes | None] = {}
    folders = [("", files.root)]
    for path, folder in folders:
        for name, number in files.entries(folder).items():
            inode = files.inode(number)
            all_of_it[f"{path}{name}"] = None if inode.is_folder else files.read(inode)
            if inode.is_folder:
                folders.append((f"{path}{name}/", inode))
    return all_of_it


@pytest.mark.parametrize(("bits", "size"), [(12, 8 * MIB), (16, 16 * MIB), (32, 64 * MIB)])
def test_all_is_as_on_the_host(tmp_path: Path, tree: Path, bits: int, size: int) -> None:
    expected = {
        str(path.relative_to(tree)): None if path.is_dir() else path.read_bytes() for path in sorted(tree.rglob("*"))
    }
    files = make(tmp_path / "disk.raw", tree, bits, size)
    assert found(files) == expected
    assert files.uuid == "1234-ABCD"
    program = files.inode(files.entries(files.inode(files.entries(files.root)["EFI"]))["empty"])
    assert (program.size, list(files.extents(program)), oct(program.mode)) == (0, [], "0o100644")


@settings(max_examples=60)
@given(data=st.data())
def test_whatever_is_damaged_is_said_and_never_hangs(tmp_path: Path, sound: bytes, data: st.DataObject) -> None:
    broken = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.sampled_from([0, 512, 4096, 4608, 20_000, 24_576, 40_960])) + data.draw(
            st.integers(0, 511)
        )
        broken[OFFSET + place] = data.draw(st.integers(0, 255))
    disk = tmp_path / "disk.raw"
    disk.write_bytes(broken)
    with suppress(ImageFileError):
        files = Fat(DiskReader(disk), OFFSET, 8 * MIB)
        names = found_at_most(files, 2000)
        assert names <= 2000


def found_at_most(files: Fat, most: int) -> int:
    """Look at folders until there have been too many: one that is in itself has no end."""
    folders, count = [files.root], 0
    while folders and count < most:
        for number in files.entries(folders.pop()).values():
            inode = files.inode(number)
            count += 1
            if inode.is_folder:
                folders.append(inode)
            else:
                assert sum(length for _, _, length in files.extents(inode)) == inode.size
    return min(count, most)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory, tree: Path) -> bytes:
    disk = tmp_path_factory.mktemp("sound") / "disk.raw"
    make(disk, tree, 12, 8 * MIB)
    return disk.read_bytes()


def test_clusters_that_lead_back_to_themselves(tmp_path: Path, tree: Path) -> None:
    disk = tmp_path / "disk.raw"
    files = make(disk, tree, 16, 16 * MIB)
    folder = files.inode(files.entries(files.root)["many"])
    first = int.from_bytes(folder.block_map, "little")
    with disk.open("r+b") as file:
        reserved = int.from_bytes(disk.read_bytes()[OFFSET + 14 : OFFSET + 16], "little")
        file.seek(OFFSET + reserved * 512 + first * 2)
        file.write(first.to_bytes(2, "little"))
    with pytest.raises(ImageFileError, match=r"disk\.raw: byte \d+: .* is damaged: a folder entry with the name 'file"):
        Fat(DiskReader(disk), OFFSET, 16 * MIB).entries(folder)


def test_a_boot_sector_that_lies(tmp_path: Path, tree: Path) -> None:
    disk = tmp_path / "disk.raw"
    make(disk, tree, 12, 8 * MIB)
    with pytest.raises(ImageFileError, match=r"speaks of \d+ sectors of 512 bytes"):
        Fat(DiskReader(disk), OFFSET, MIB)
    with pytest.raises(ImageFileError, match="ends before byte"):
        Fat(DiskReader(disk), OFFSET + 8 * MIB - 100, MIB)
