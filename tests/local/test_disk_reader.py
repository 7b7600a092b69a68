"""A disk that cannot be read is told by its name and byte, whichever file system is looked for on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import ImageFileError
from shared.local.ext4 import Ext4
from shared.local.fat import Fat


@pytest.mark.parametrize("reader", [Ext4, Fat])
def test_what_cannot_be_read_is_told(tmp_path: Path, reader: type[Ext4 | Fat]) -> None:
    with pytest.raises(ImageFileError, match=f"{tmp_path}/none: No such file"):
        reader(tmp_path / "none", 0, 1 << 20)
    with pytest.raises(ImageFileError, match=f"{tmp_path}: is a folder"):
        reader(tmp_path, 0, 1 << 20)
    (tmp_path / "short").write_bytes(b"x" * 100)
    with pytest.raises(ImageFileError, match=r"short: ends before byte [0-9]+; copy it again"):
        reader(tmp_path / "short", 0, 1 << 20)
