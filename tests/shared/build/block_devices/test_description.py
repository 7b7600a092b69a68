from dataclasses import replace

import pytest

from shared.build.block_devices.description import (
    DiskDescription,
    NewFileSystem,
    NewPartition,
    NewVolume,
    NewVolumeGroup,
    default_disk,
    file_system_disk,
)
from shared.json_values import Unreadable

LVM = DiskDescription(
    (NewFileSystem("r", "lv", mount_point="/"), NewFileSystem("v", "var", "xfs", mount_point="/var")),
    "mbr",
    (NewPartition("pv", 1 << 30, type="8e"), NewPartition("var", percent=100.0, type="83")),
    (NewVolumeGroup("vg", ("pv",), (NewVolume("lv", percent=100.0, of_free=True),)),),
)


@pytest.mark.parametrize("description", [default_disk(), file_system_disk(), LVM])
def test_a_description_survives_json(description: DiskDescription) -> None:
    assert DiskDescription.from_json(description.to_json()) == description


@pytest.mark.parametrize("document", [None, [], {"file_systems": "x"}, {"file_systems": [], "table": "bsd"}])
def test_another_document_is_refused(document: object) -> None:
    with pytest.raises(Unreadable):
        DiskDescription.from_json(document)


def test_file_systems_are_mounted_in_the_order_of_their_paths() -> None:
    places = ["/var/log", "/var-data", "/", "/var", "/boot"]
    systems = [NewFileSystem(place, place, mount_point=place) for place in places]
    systems.append(NewFileSystem("s", "s", "swap"))
    found = DiskDescription(tuple(systems)).mounted()
    assert [each.mount_point for each in found] == ["/", "/boot", "/var", "/var/log", "/var-data"]


def test_a_root_on_lvm_and_a_disk_that_nothing_starts_are_warned_of() -> None:
    assert list(default_disk().warnings()) == []
    assert list(file_system_disk().warnings()) == []
    (text,) = LVM.warnings()
    assert "guest agent does not grow it" in text
    default = default_disk()
    unbootable = replace(default, file_systems=default.file_systems[1:], partitions=default.partitions[2:])
    (text,) = unbootable.warnings()
    assert "EF02" in text
