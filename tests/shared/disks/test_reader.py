"""A disk that cannot be read is told by its name and byte, whichever file system is looked for on it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shared.disks.ext4.reader import Ext4
from shared.disks.fat import Fat
from shared.disks.reader import TABLE_PIECE, DiskReader
from shared.errors import ImageFileError


def test_a_disk_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    with pytest.raises(ImageFileError, match=f"{tmp_path}/none: No such file"):
        DiskReader(tmp_path / "none")
    with pytest.raises(ImageFileError, match=f"{tmp_path}: is a folder"):
        DiskReader(tmp_path)


@pytest.mark.parametrize("file_system", [Ext4, Fat])
def test_a_disk_that_is_cut_short_is_told(tmp_path: Path, file_system: type[Ext4 | Fat]) -> None:
    (tmp_path / "short").write_bytes(b"x" * 100)
    with pytest.raises(ImageFileError, match=r"short: ends before byte [0-9]+; copy it again"):
        file_system(DiskReader(tmp_path / "short"), 0, 1 << 20)


def test_pieces_that_are_kept_do_not_grow_with_the_disk(tmp_path: Path) -> None:
    """File systems of one disk, of which a partition table may name a thousand, share them."""
    disk = tmp_path / "disk"
    disk.write_bytes(b"x" * 100)
    os.truncate(disk, 100 << 20)
    with DiskReader(disk) as reader:
        places = range(0, 100 << 20, TABLE_PIECE)
        kept = [reader.piece(at, needed=TABLE_PIECE) for at in places]
        assert kept[0] == b"x" * 100 + bytes(TABLE_PIECE - 100)
        assert sum(map(len, reader.pieces.values())) == 16 << 20
        assert list(reader.pieces) == list(places)[-256:]
        assert reader.piece((100 << 20) - 10, needed=10) == bytes(TABLE_PIECE)
        with pytest.raises(ImageFileError, match=f"ends before byte {(100 << 20) + 1}"):
            reader.piece((100 << 20) - 10, needed=11)
