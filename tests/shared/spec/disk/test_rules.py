"""The key disk in a whole spec."""

from __future__ import annotations

import pytest

from shared.build.block_devices.description import file_system_disk
from shared.errors import SpecError
from shared.spec.model import Spec
from shared.spec.read import parse, read_specs

SPEC = """
name: a
source: {rootfs: root.tar}
steps: []
"""
SPLIT = """
disk:
  - local_loop: {name: d, size: 20GiB}
  - partitioning:
      base: d
      label: mbr
      partitions:
        - {name: boot, size: 1GiB, flags: [primary], mkfs: {type: KIND, mount: {mount_point: PLACE}}}
        - {name: root, size: 100%, flags: [primary], mkfs: {type: ROOT, mount: {mount_point: /}}}
"""


def read(text: str) -> Spec:
    (build,) = read_specs(parse(text, "spec.yaml"))
    return build.spec


def split(place: str, kind: str = "ext4", root: str = "ext4") -> str:
    return SPEC + SPLIT.replace("PLACE", place).replace("KIND", kind).replace("ROOT", root)


def problems(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        read(text)
    return [problem.split(": ", 1)[1] for problem in caught.value.problems]


def test_a_disk_is_read_with_the_spec() -> None:
    assert read(SPEC).disk is None
    assert read(SPEC + "disk: filesystem").disk == file_system_disk()
    disk = read(split("/var")).disk
    assert disk is not None
    assert (disk.table, disk.size, len(disk.partitions)) == ("mbr", 20 << 30, 2)


def test_problems_have_their_places_in_the_text() -> None:
    with pytest.raises(SpecError) as caught:
        read(split("var", kind="ext5"))
    assert [problem.split(";")[0] for problem in caught.value.problems] == [
        "spec.yaml:12:61: disk[1].partitioning.partitions[0].mkfs.type: 'ext5' is no file system that can be made",
        "spec.yaml:12:81: disk[1].partitioning.partitions[0].mkfs.mount.mount_point: 'var' is no place to mount a file "
        "system",
    ]


@pytest.mark.parametrize("source", ["{project: local, image: x}", "{file: x.raw}", "{project: local, family: x}"])
def test_an_image_keeps_its_disk(source: str) -> None:
    text = SPEC.replace("{rootfs: root.tar}", source) + "disk: filesystem"
    (found,) = problems(text)
    assert found.startswith("disk: goes with a source from nothing (rootfs, ")
    assert found.endswith("); an image has a disk: leave it out")


def test_the_size_of_the_output_rules_and_has_to_hold_the_disk() -> None:
    assert read(split("/var") + "output: {disk_size_gb: 20}").output.disk_size_gb == 20
    (text,) = problems(split("/var") + "output: {disk_size_gb: 19}")
    assert text == "output.disk_size_gb: is less than the size of the disk's local_loop; write 20 or more"


@pytest.mark.parametrize(
    ("place", "root", "why"),
    [
        ("/boot/efi", "ext4", None),
        ("/var", "ext4", "/var is a file system of its own"),
        ("/boot/efi", "xfs", "the root is xfs"),
        ("/boot/efi", "btrfs", "the root is btrfs"),
    ],
)
def test_the_chroot_engine_is_refused_where_only_a_machine_changes_the_disk(
    place: str, root: str, why: str | None
) -> None:
    text = split(place, "vfat", root)
    assert read(text).local.engine == "vm"
    assert read(text + "local: {engine: auto}").local.engine == "auto"
    if why is None:
        read(text + "local: {engine: chroot}")
    else:
        (found,) = problems(text + "local: {engine: chroot}")
        assert found == f"local.engine: cannot be chroot, since {why}, which only a machine can change; write vm"
