"""Swap that the build has used is empty in the image, and usable."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from provisioner.machine.swap import NoSwap, active_areas, empty_area, empty_swap, is_blank, named_areas, page_of

MIB = 1 << 20
SECRET = b"SECRET-IN-MEMORY"


def area(path: Path, size: int = 4 * MIB) -> Path:
    """Make a swap file that holds memory, as mkswap leaves a file that was used before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(SECRET * (size // len(SECRET)))
    path.chmod(0o600)
    subprocess.run(["mkswap", "-L", "ours", str(path)], check=True, capture_output=True)
    assert SECRET in path.read_bytes()
    return path


def test_an_area_keeps_its_first_page_and_nothing_else(tmp_path: Path) -> None:
    path = area(tmp_path / "swapfile")
    before = path.read_bytes()
    assert not is_blank(str(path), page_of(before))
    empty_area(str(path))
    after = path.read_bytes()
    assert after[:4096] == before[:4096]
    assert (len(after), after.count(0, 4096)) == (len(before), len(before) - 4096)
    assert is_blank(str(path), page_of(after))
    told = subprocess.run(["blkid", "-p", "-o", "value", "-s", "LABEL", str(path)], check=True, capture_output=True)
    assert told.stdout == b"ours\n"


def test_blocks_that_were_never_written_count_as_unknown_until_they_are(tmp_path: Path) -> None:
    """Blocks from fallocate read as zeros, as a hole does, and the kernel swaps into them."""
    path = tmp_path / "swapfile"
    with path.open("wb") as file:
        file.truncate(4 * MIB)
    subprocess.run(["mkswap", str(path)], check=True, capture_output=True)
    os.sync()
    assert not is_blank(str(path), 65536)
    empty_area(str(path))
    assert is_blank(str(path), 65536)


@pytest.mark.parametrize("data", [b"", b"x" * 8192, SECRET * 100_000])
def test_what_is_no_swap_is_never_written_to(tmp_path: Path, data: bytes) -> None:
    """An fstab may name anything."""
    path = tmp_path / "data"
    path.write_bytes(data)
    with pytest.raises(NoSwap):
        empty_area(str(path))
    assert path.read_bytes() == data


def test_swap_that_fstab_names_is_emptied_also_when_it_is_off(tmp_path: Path) -> None:
    named, other = area(tmp_path / "swap file"), area(tmp_path / "other")
    (tmp_path / "etc").mkdir()
    (tmp_path / "data").write_bytes(SECRET)
    (tmp_path / "etc/fstab").write_text(
        "# /other none swap sw 0 0\n/swap\\040file none swap sw 0 0\n/data x swap\n/gone none swap\n"
    )
    assert empty_swap(str(tmp_path)) == []
    assert is_blank(str(named), 4096)
    assert not is_blank(str(other), 4096)
    assert (tmp_path / "data").read_bytes() == SECRET


def test_which_swap_is_on() -> None:
    swaps = (
        "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/swap\\040file file 524284 0 -2\n"
        "/dev/zram0 partition 1 0 100\n/dev/sda2                               partition\t1\t0\t-3\n"
    )
    assert active_areas(swaps) == ["/swap file", "/dev/sda2"]
    assert active_areas("") == []


def test_how_fstab_names_swap() -> None:
    text = 'UUID=1-2 none swap sw\nPARTLABEL="a" none swap sw\n/dev/vdb none swap\nLABEL=root / ext4\n'
    assert named_areas(text) == ["/dev/disk/by-uuid/1-2", "/dev/disk/by-partlabel/a", "/dev/vdb"]


@pytest.mark.parametrize("page", [4096, 16384, 65536])
def test_pages_of_all_machines_are_known(page: int) -> None:
    head = bytearray(65536)
    head[page - 10 : page] = b"SWAPSPACE2"
    assert page_of(bytes(head)) == page
    assert page_of(bytes(65536)) == page_of(b"") == 0
