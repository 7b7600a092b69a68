"""What machine types take and bring, by their names."""

from __future__ import annotations

import pytest

from shared.build.machine_types import (
    default_disk_type,
    has_local_ssd,
    is_moved,
    needs_gvnic,
    processor_of,
    smallest_disk_gb,
)


@pytest.mark.parametrize(
    ("disk_type", "machine_types"),
    [
        (
            "pd-standard",
            "n1-standard-1 e2-medium n2-standard-4 n2d-highcpu-8 c2-standard-4 t2a-standard-1 t2d-standard-1",
        ),
        (
            "pd-standard",
            "f1-micro g1-small custom-2-4096 n2-custom-4-8192 a2-highgpu-1g m1-ultramem-40 m2-ultramem-208",
        ),
        ("pd-balanced", "c3-standard-4 c3-standard-4-lssd c3d-standard-4 g2-standard-4 h3-standard-88 m3-ultramem-32"),
        ("pd-balanced", "z3-highmem-88 a3-highgpu-8g"),
        (
            "hyperdisk-balanced",
            "c4-standard-2 c4a-standard-2 c4d-standard-2 n4-standard-2 n4d-standard-2 x4-megamem-960",
        ),
        (
            "hyperdisk-balanced",
            "m4-megamem-28 a4-highgpu-8g a4x-highgpu-4g a3-ultragpu-8g g4-standard-48 h4d-standard-192",
        ),
        ("hyperdisk-balanced", "n5-standard-2 c12x-standard-2"),
    ],
)
def test_the_default_disk_is_one_that_the_machine_takes(disk_type: str, machine_types: str) -> None:
    assert {name: default_disk_type(name) for name in machine_types.split()} == dict.fromkeys(
        machine_types.split(), disk_type
    )


def test_later_series_have_google_s_network_interface_alone() -> None:
    names = "custom-2-4096 f1-micro e2-medium n1-standard-1 n2d-standard-2 t2d-standard-1 c3-standard-4 n4-standard-2"
    names += " c4a-standard-2 c3-standard-192-metal"
    assert [name for name in names.split() if needs_gvnic(name)] == ["c3-standard-4", "n4-standard-2", "c4a-standard-2"]


def test_disks_have_a_least_size() -> None:
    found = [smallest_disk_gb(kind) for kind in ("hyperdisk-balanced", "hyperdisk-extreme", "pd-standard", "pd-ssd")]
    assert found == [4, 64, 0, 0]


def test_what_machines_bring_and_allow() -> None:
    names = (
        "a2-highgpu-1g",
        "a2-ultragpu-1g",
        "a3-highgpu-8g",
        "g2-standard-4",
        "c4-standard-4-lssd",
        "z3-highmem-8",
        "n1-standard-1",
    )
    assert [is_moved(name) for name in names] == [False, False, False, False, True, True, True]
    still = (
        "h3-standard-88",
        "h4d-standard-192",
        "c3-standard-192-metal",
        "z3-highmem-192-highlssd-metal",
        "ct6e-standard-1t",
    )
    assert [is_moved(name) for name in still] == [False] * len(still)
    assert [has_local_ssd(name) for name in names] == [False, True, True, False, True, True, False]


def test_processors_of_arm_are_known_by_their_series() -> None:
    arm = ("t2a-standard-1", "c4a-highmem-8-lssd", "c4a-standard-96-metal", "n4a-standard-1", "a4x-highgpu-4g")
    others = ("n1-standard-1", "c4-standard-2", "n4-standard-2", "t2d-standard-1", "custom-2-4096", "a4-highgpu-8g")
    assert {processor_of(name).name for name in arm} == {"arm64"}
    assert {processor_of(name).name for name in others} == {"x86_64"}
