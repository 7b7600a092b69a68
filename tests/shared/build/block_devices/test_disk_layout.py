"""OEM size rules: what is asked for, what is reclaimed, how large the disk has to be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.protocol import DiskLayout
from shared.build.block_devices.disk_layout import (
    RECLAIMED,
    SMALLEST_OEM,
    disk_layout,
    needed_disk_gb,
    partition_size,
)
from shared.quantities import GIB, MIB

SEALED, QUIET = ("run-script", "seal-oem"), ("disable-auto-update",)
SIZES = st.integers(SMALLEST_OEM, 100 * GIB)


@pytest.mark.parametrize(
    ("oem_mib", "sealed", "reclaim", "gb"),
    [
        pytest.param(16, False, False, 11, id="without seal-oem: 10 + ceil_GB(oem_size)"),
        pytest.param(1024, False, False, 11, id="exactly one GB"),
        pytest.param(1025, False, False, 12, id="one MB more"),
        pytest.param(2046, False, True, 10, id="without seal-oem, reclaiming: sda3 is just enough"),
        pytest.param(2047, False, True, 11, id="without seal-oem, reclaiming: one MB more than sda3"),
        pytest.param(16, False, True, 10, id="not below zero"),
        pytest.param(1023, True, True, 10, id="with seal-oem: twice 1023 MB is just sda3"),
        pytest.param(1024, True, True, 11, id="with seal-oem: 10 + ceil_GB(2 x oem_size - reclaimed)"),
        pytest.param(5 << 10, True, True, 19, id="with seal-oem: 2 x 5 GB without 2046 MB"),
    ],
)
def test_disk_that_an_oem_size_needs(oem_mib: int, sealed: bool, reclaim: bool, gb: int) -> None:
    """OEM size rules: disk_size_gb >= 10 + ceil_GB(...)."""
    assert needed_disk_gb(oem_mib * MIB, sealed=sealed, reclaim=reclaim) == gb
    assert needed_disk_gb(oem_mib * MIB, sealed=sealed, reclaim=reclaim, image_gb=20) == gb + 10


@pytest.mark.parametrize(
    ("oem_size", "actions", "layout"),
    [
        pytest.param(None, ("run-script",), None, id="nothing is asked for"),
        pytest.param(None, QUIET, DiskLayout(reclaim=True), id="disable-auto-update reclaims sda3"),
        pytest.param(
            None,
            SEALED,
            DiskLayout(reclaim=True, oem_size=32 * MIB, oem_blocks=4096),
            id="seal-oem without oem_size: partition 32M, file system 4096 blocks",
        ),
        pytest.param(
            500 * MIB,
            SEALED,
            DiskLayout(reclaim=True, oem_size=999 * MIB, oem_blocks=500 * 256),
            id="seal-oem with an oem_size: the file system takes it, the partition twice that",
        ),
        pytest.param(500 * MIB, (), DiskLayout(oem_size=499 * MIB), id="1 MB smaller"),
        pytest.param(500 * MIB + 4096, QUIET, DiskLayout(reclaim=True, oem_size=499 * MIB), id="whole MB"),
    ],
)
def test_layout(oem_size: int | None, actions: tuple[str, ...], layout: DiskLayout | None) -> None:
    assert disk_layout(oem_size, actions) == layout


def test_disk_over_the_images_is_waited_for() -> None:
    """Disk over 10 GB together with an OEM size or a reclaim: the disk is created at 10 GB, and resized."""
    assert disk_layout(500 * MIB, (), disk_gb=11) == DiskLayout(oem_size=499 * MIB, disk_size=11 * GIB)
    assert disk_layout(None, QUIET, disk_gb=20) == DiskLayout(reclaim=True, disk_size=20 * GIB)
    assert disk_layout(None, SEALED, image_gb=20, disk_gb=20) == disk_layout(None, SEALED)
    assert disk_layout(None, (), disk_gb=20) is None


@given(SIZES, st.booleans(), st.booleans())
def test_partition_always_fits_on_the_least_disk(oem_size: int, sealed: bool, reclaim: bool) -> None:
    room = (needed_disk_gb(oem_size, sealed=sealed, reclaim=reclaim) - 10) * GIB + (RECLAIMED if reclaim else 0)
    asked = partition_size(oem_size, sealed=sealed)
    assert asked % MIB == 0
    assert asked + MIB <= room


@given(SIZES)
def test_hash_tree_fits_behind_a_sealed_file_system(oem_size: int) -> None:
    layout = disk_layout(oem_size, SEALED)
    assert layout is not None
    assert layout.oem_size is not None
    assert layout.oem_blocks is not None
    blocks = layout.oem_blocks
    tree = 0
    while blocks > 1:
        blocks = -(-blocks // 128)  # 32 bytes of hash for each block of 4 KiB
        tree += blocks
    assert (layout.oem_blocks + tree) * 4096 <= layout.oem_size
