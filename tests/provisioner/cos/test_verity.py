"""Hash trees: byte for byte those of veritysetup, and OpenSSL's SHA-256 behind them."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from provisioner.cos.cos import OEM
from provisioner.cos.disk_layout import fit_oem, wanted_layout
from provisioner.cos.relocation import relocate
from provisioner.cos.verity import BLOCK, Seal, VerityError, fast_sha256, seal, tree_blocks
from provisioner.protocol import DiskLayout
from provisioner.system.partition_table import read_table
from tests.provisioner.cos.disk import ENVIRONMENT, make_cos_disk, tool

MIB = 1 << 20
SALT = bytes(range(32))


def options(blocks: int) -> list[str]:
    return [
        *("--data-block-size=4096", "--hash-block-size=4096", f"--data-blocks={blocks}"),
        *(f"--hash-offset={blocks * BLOCK}", "--no-superblock", "--format=0", f"--salt={SALT.hex()}"),
    ]


def verified(path: Path, found: Seal) -> bool:
    """Return whether veritysetup verifies all of a partition."""
    command = ["veritysetup", "verify", str(path), str(path), found.root_hash, *options(found.blocks)]
    return subprocess.run(command, capture_output=True, env=ENVIRONMENT).returncode == 0


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("blocks", [1, 2, 127, 128, 129, 1025, 16385])
def test_tree_is_that_of_veritysetup(tmp_path: Path, blocks: int) -> None:
    """seal-oem: veritysetup format, all blocks of 4096 bytes, no superblock, format 0, the tree behind the data."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    some = random.Random(blocks)
    data = b"".join(bytes(BLOCK) if some.random() < 0.3 else some.randbytes(BLOCK) for _ in range(blocks))
    for path in (ours, theirs):
        path.write_bytes(data + b"\xff" * BLOCK * tree_blocks(blocks) + b"beyond")
    found = seal(str(ours), 0, blocks, SALT)
    said = tool("veritysetup", "format", theirs, theirs, *options(blocks))
    assert f"Root hash:      \t{found.root_hash}\n" in said
    assert ours.read_bytes() == theirs.read_bytes()
    assert found == Seal(found.root_hash, SALT.hex(), blocks, blocks * 8)
    assert verified(ours, found)
    assert seal(str(ours), 0, blocks, SALT) == found


def test_any_changed_byte_is_found(tmp_path: Path) -> None:
    """seal-oem: one flipped byte of data, or of the tree, and the partition is not what was sealed."""
    path = tmp_path / "partition"
    path.write_bytes(random.Random(1).randbytes(300 * BLOCK) + bytes(10 * BLOCK))
    found = seal(str(path), 0, 300, SALT)
    for offset in (0, 150 * BLOCK + 7, 300 * BLOCK - 1, 300 * BLOCK, 301 * BLOCK + 5):
        flip(path, offset)
        assert not verified(path, found)
        flip(path, offset)
    assert verified(path, found)
    flip(path, 305 * BLOCK)  # behind the tree: not covered
    assert verified(path, found)


def test_offset_is_kept_to(tmp_path: Path) -> None:
    """In a disk file, only the tree is written."""
    disk, partition = tmp_path / "disk", tmp_path / "partition"
    data = random.Random(2).randbytes(200 * BLOCK)
    around = b"\xee" * 5 * BLOCK
    disk.write_bytes(around + data + bytes(3 * BLOCK) + around)
    found = seal(str(disk), len(around), 200, SALT)
    after = disk.read_bytes()
    assert after[: len(around)] == after[-len(around) :] == around
    partition.write_bytes(after[len(around) : -len(around)])
    assert partition.read_bytes()[: len(data)] == data
    assert verified(partition, found)


@pytest.mark.parametrize(("offset", "blocks"), [(0, 100), (0, 99), (8 * BLOCK, 92), (0, 0), (0, -1), (0, 1 << 40)])
def test_tree_without_room_is_refused(tmp_path: Path, offset: int, blocks: int) -> None:
    path = tmp_path / "partition"
    path.write_bytes(b"\x01" * 99 * BLOCK)
    with pytest.raises(VerityError, match=r"blocks and their hash tree take .* ask for a larger partition"):
        seal(str(path), offset, blocks, SALT)
    assert path.read_bytes() == b"\x01" * 99 * BLOCK


@pytest.mark.parametrize(
    ("layout", "kept"),
    [
        (DiskLayout(reclaim=True, oem_size=32 * MIB, oem_blocks=4096), 4096),
        (DiskLayout(reclaim=True, oem_size=47 * MIB, oem_blocks=6144), 6144),
    ],
)
def test_relocated_oem_is_sealed(tmp_path: Path, layout: DiskLayout, kept: int) -> None:
    """With seal-oem and no oem_size: partition 32M, file system 4096 blocks; with one: twice it, half for the tree."""
    disk = make_cos_disk(tmp_path / "disk", size=256 * MIB, root_sectors=65536)
    before = disk.files(OEM)
    table = read_table(str(disk.path))
    grown = disk.copy(tmp_path / "grown", 64 * MIB)
    targets = wanted_layout(table, layout, 320 * MIB // 512)
    relocate(str(grown.path), targets, str(tmp_path / "journal"), lambda _: None)
    partition = grown.extract(OEM, tmp_path / "partition")
    size = partition.stat().st_size
    fit_oem(str(partition), layout.oem_blocks)
    with partition.open("r+b") as file:
        file.truncate(size)  # resize2fs cuts files off behind the file system, devices have their size
    found = seal(str(partition), 0, kept, SALT)
    assert verified(partition, found)
    with grown.path.open("r+b") as file:
        file.seek(grown.table()[OEM].start * 512)
        file.write(partition.read_bytes())
    assert grown.files(OEM) == before
    flip(partition, kept * BLOCK // 2)
    assert not verified(partition, found)


def test_openssl_hashes_though_it_is_kept_away_at_the_start() -> None:
    """do_without_openssl() of __main__.py blocks OpenSSL, whose SHA-256 is four times as fast; here it comes back."""
    program = (
        "import sys; sys.modules['_hashlib'] = None\n"
        "import hashlib; assert 'openssl' not in repr(hashlib.sha256)\n"
        "from provisioner.cos.verity import fast_sha256; print(fast_sha256().__name__)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (said.stdout, said.stderr) == ("openssl_sha256\n", "")
    assert fast_sha256()(b"").hexdigest().startswith("e3b0c44298fc1c14")
