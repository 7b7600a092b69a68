from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.build.block_devices.description import (
    BIOS_BOOT,
    EFI_SYSTEM,
    LINUX_ROOT,
    ROOT_LABEL,
    DiskDescription,
    FstabEntry,
    NewFileSystem,
    NewPartition,
    NewVolume,
    NewVolumeGroup,
    file_system_disk,
)
from shared.spec.disk.reading import read_disk
from shared.spec.document import read_document

MIB, GIB = 1 << 20, 1 << 30

TREE = """
- local_loop:
    name: image0
    size: 10GiB
- partitioning:
    base: image0
    label: mbr
    partitions:
      - name: root
        flags: [ boot, primary ]
        size: 54%
        mkfs:
          type: xfs
          mount:
            mount_point: /
            fstab:
              options: "defaults"
              fsck-passno: 1
      - name: var
        size: 40%
        mkfs:
          label: data
          mount:
            mount_point: /var
      - name: swap
        size: 100MB
        mkfs:
          type: swap
          mount:
            mount_point: none
            fstab:
              fsck-passno: 0
              options: "sw"
"""
GRAPH = """
- local_loop: {name: image0, size: 10GiB}
- partitioning:
    base: image0
    name: mbr
    label: mbr
    partitions:
      - {name: root, base: image0, flags: [boot, primary], size: 54%}
      - {name: var, base: image0, size: 40%}
      - {name: swap, base: image0, size: 100MB}
- mkfs: {base: root, name: mkfs_root, type: xfs}
- mount: {base: mkfs_root, name: mount_mkfs_root, mount_point: /}
- fstab: {base: mount_mkfs_root, name: fstab_mount_mkfs_root, fsck-passno: 1, options: defaults}
- mkfs: {base: var, name: mkfs_var, label: data}
- mount: {base: mkfs_var, name: mount_mkfs_var, mount_point: /var}
- mkfs: {base: swap, name: mkfs_swap, type: swap}
- mount: {base: mkfs_swap, name: mount_mkfs_swap, mount_point: none}
- fstab: {base: mount_mkfs_swap, name: fstab_mount_mkfs_swap, fsck-passno: 0, options: sw}
"""
EFI = """
- local_loop: {name: image0}
- partitioning:
    base: image0
    label: gpt
    partitions:
      - name: ESP
        type: 'EF00'
        size: 550MiB
        mkfs: {type: vfat, mount: {mount_point: /boot/efi, fstab: {options: defaults, fsck-passno: 2}}}
      - {name: BSP, type: 'EF02', size: 8MiB}
      - name: root
        size: 100%
        mkfs: {opts: "-i 4096 -O ^has_journal", mount: {mount_point: /, fstab: {options: defaults, fsck-passno: 1}}}
"""
LVM = """
- local_loop: {name: image0}
- partitioning:
    base: image0
    label: gpt
    partitions:
      - {name: one, size: 3G}
      - {name: two, size: 1G}
- lvm:
    name: lvm
    base: [one]
    pvs:
      - {name: pv1, base: one, options: ["--force"]}
      - {name: pv2, base: two}
    vgs:
      - {name: vg, base: [pv1, pv2]}
    lvs:
      - {name: lv_root, base: vg, size: 1800M}
      - {name: lv_tmp, base: vg, extents: 4%VG}
      - {name: lv_rest, base: vg, extents: 100%FREE}
- mkfs: {name: fs_root, base: lv_root, mount: {mount_point: /}}
"""


def value(text: str) -> Any:
    """Return the value of a disk as a spec would have it."""
    document = read_document(f"disk:{text}")
    assert not document.problems
    return document.data["disk"]


def described(text: str) -> DiskDescription:
    found = read_disk(value(text))
    assert found.problems == []
    assert found.description is not None
    return found.description


def problems(text: str) -> dict[str, str]:
    found = read_disk(value(text))
    assert found.description is None
    return {".".join(map(str, at)): what for at, what in found.problems}


def test_the_tree_and_the_graph_are_the_same_disk() -> None:
    found = described(TREE)
    assert found == described(GRAPH)
    assert found == DiskDescription(
        (
            NewFileSystem("mkfs_root", "root", "xfs", "img-rootfs", mount_point="/", fstab=FstabEntry(check=1)),
            NewFileSystem("mkfs_var", "var", label="data", mount_point="/var"),
            NewFileSystem("mkfs_swap", "swap", "swap", "mkfs_swap", fstab=FstabEntry("sw", check=0)),
        ),
        "mbr",
        (
            NewPartition("root", percent=54.0, type="83", boot=True, primary=True),
            NewPartition("var", percent=40.0, type="83"),
            NewPartition("swap", 100_000_000, type="82"),
        ),
        size=10 * GIB,
    )


def test_a_gpt_has_places_for_both_ways_to_boot() -> None:
    found = described(EFI)
    assert [each.type for each in found.partitions] == [EFI_SYSTEM, BIOS_BOOT, LINUX_ROOT]
    assert found.efi == NewPartition("ESP", 550 * MIB, type=EFI_SYSTEM)
    assert found.has_bios_place
    assert found.root.options == ("-i", "4096", "-O", "^has_journal")
    assert found.file_systems[0].label == "MKFS_ESP"


def test_volumes_have_the_sizes_that_lvcreate_would_give_them() -> None:
    found = described(LVM)
    volumes = (
        NewVolume("lv_root", 1800 * MIB),
        NewVolume("lv_tmp", percent=4.0),
        NewVolume("lv_rest", percent=100.0, of_free=True),
    )
    assert found.groups == (NewVolumeGroup("vg", ("one", "two"), volumes),)
    assert {each.type for each in found.partitions} == {"e6d6d379-f507-44c2-a23c-238f2a3df928"}
    assert found.root.label == ROOT_LABEL


def test_filesystem_is_short_for_a_local_loop_with_one_file_system() -> None:
    assert read_disk("filesystem").description == file_system_disk()
    found = described("\n- local_loop: {name: image0, mkfs: {name: root, mount: {mount_point: /}}}")
    assert found == DiskDescription((NewFileSystem("root", "image0", label=ROOT_LABEL, mount_point="/"),))


@pytest.mark.parametrize("given", ["filesystems", "", 3, True, (), {}, {"local_loop": {}}, None])
def test_other_values_are_refused(given: Any) -> None:
    ((at, text),) = read_disk(given).problems
    assert at == ()
    assert "write filesystem, or a list" in text


def test_all_problems_come_at_once_and_name_their_keys() -> None:
    found = problems("""
- local_loop: {name: image0, sise: 3G, size: 3X}
- partitioning:
    base: image1
    label: dos
    align: 3MB
    partitions:
      - {name: root, flags: [boot, primry], size: 120%, typ: 83}
      - {name: root, size: 2GiB, type: '9999'}
      - {size: 8e00}
      - just text
- mkfs: {base: rot, type: ext5, uuid: 12, opts: "-d /etc", mount: {mount_point: var}}
- lvmm: {}
- {a: 1, b: 2}
""")
    assert found == {
        "0.local_loop.sise": "unknown key; did you mean size?",
        "0.local_loop.size": "'3X' is no size; write one such as 550MiB, 4GiB or 10G (10^10 bytes)",
        "1.partitioning.base": "is not the disk; write base: image0",
        "1.partitioning.label": "cannot be the text 'dos'; write gpt or mbr",
        "1.partitioning.align": "is no alignment; write a multiple of 4KiB, at most 64MiB",
        "1.partitioning.partitions.0.flags.1": "cannot be the text 'primry'; did you mean primary?",
        "1.partitioning.partitions.0.size": "'120%' is out of range; write more than 0% and at most 100%, of what is "
        "free there",
        "1.partitioning.partitions.0.typ": "unknown key; did you mean type?",
        "1.partitioning.partitions.1.name": "'root' is the name of a partition too; choose another",
        "1.partitioning.partitions.1.type": "'9999' is no type that is known; write one of 0700, 8200, 8300, 8302, "
        "8304, 8E00, EA00, EF00, EF02, or a GUID",
        "1.partitioning.partitions.2.name": "is missing; add this key",
        "1.partitioning.partitions.2.size": "needs text, not the number 8.0; put it in quotes",
        "1.partitioning.partitions.3": "needs keys and values, not the text 'just text'; the keys here are: name, "
        "base, size, type, flags, mkfs",
        "2.mkfs.base": "'rot' is not a partition, a volume or a local_loop; write one of: root",
        "2.mkfs.type": "'ext5' is no file system that can be made; did you mean ext4?",
        "2.mkfs.uuid": "'12' is no UUID; write one such as 4c81b2f0-7d3e-4d3a-9a6a-0b8a6c5e2f11",
        "2.mkfs.opts": "'-d' is no option of mkfs for ext4 here; write one of: -b, -i, -I, -m, -N, -O, -E, -J, -G, "
        "-g, -e",
        "2.mkfs.mount.mount_point": "'var' is no place to mount a file system; write an absolute path such as /var",
        "3.lvmm": "unknown key; did you mean lvm?",
        "4": "needs one key, such as partitioning, not 2 keys; write each in an entry of its own",
        "": "mounts no root file system; write mount_point: / below one mkfs",
    }


@pytest.mark.parametrize(
    ("written", "size"),
    [
        *[("1048576", MIB), ("1048576B", MIB), ("1024KiB", MIB), ("5 MiB", 5 * MIB), ("1.5GiB", 3 * GIB // 2)],
        *[("0.5TiB", GIB << 9), ("2000K", 2_000_000), ("2000KB", 2_000_000), ("3M", 3_000_000), ("3MB", 3_000_000)],
        *[("2G", 2 * 10**9), ("2.5GB", 25 * 10**8), ("1T", 10**12), ("1TB", 10**12)],
    ],
)
def test_sizes_are_written_in_every_form(written: str, size: int) -> None:
    text = TREE.replace("10GiB", "1.5TiB").replace("54%", "1%").replace("40%", "1%").replace("100MB", f"'{written}'")
    assert described(text).partitions[2].size == size


@pytest.mark.parametrize(
    "written", ["1XB", "-1GiB", "GiB", "1.GiB", "1e9", "0", "0MiB", "1 Gi B", "1,5GiB", "101%", "0%", "-5%", ""]
)
def test_what_is_no_size_is_told_where_it_stands(written: str) -> None:
    found = problems(TREE.replace("100MB", f"'{written}'"))
    assert list(found) == ["1.partitioning.partitions.2.size"]


PARTITIONED = """
- local_loop: {{name: d, size: 4GiB}}
- partitioning: {{base: d, label: {label}, partitions: [{partitions}]}}
{rest}
"""
ROOT = "- mkfs: {name: r, base: root, mount: {mount_point: /}}"
LARGE = "{name: root, size: 100%}"


PARTS, MKFS = "1.partitioning.partitions", "2.mkfs"
TWO = "{name: root, size: 1GiB}, {name: b, size: 1GiB}"


@pytest.mark.parametrize(
    ("label", "partitions", "rest", "at", "text"),
    [
        ("gpt", "{name: root, size: 3GiB}, {name: b, size: 2GiB}", ROOT, PARTS + ".1.name", "2048 MiB do not"),
        ("gpt", LARGE + ", {name: b, size: 1MiB}", ROOT, PARTS + ".1.name", "into the 0 MiB that are left"),
        ("gpt", LARGE, ROOT + "\n- mkfs: {name: s, base: root}", "3.mkfs.base", "'root' has a mkfs already"),
        (
            "gpt",
            TWO,
            ROOT + "\n- mkfs: {name: s, base: b, mount: {mount_point: /}}",
            "3.mkfs.mount.mount_point",
            "is a second root, first by r",
        ),
        (
            "gpt",
            TWO,
            ROOT + "\n- mkfs: {name: s, base: b, label: cloudimg-rootfs}",
            "3.mkfs.label",
            "is the label of r too",
        ),
        (
            "gpt",
            LARGE,
            ROOT + "\n- mount: {name: m, base: nix, mount_point: /x}",
            "3.mount.base",
            "'nix' is not a mkfs",
        ),
        ("gpt", LARGE, ROOT + "\n- mount: {name: m, base: m, mount_point: /x}", "3.mount.base", "'m' is not a mkfs"),
        ("gpt", LARGE, ROOT + "\n- fstab: {base: r}", "3.fstab.base", "'r' is not a mount"),
        ("gpt", LARGE, ROOT + "\n- local_loop: {name: e}", "3.local_loop", "second disk"),
        (
            "gpt",
            LARGE,
            "- mkfs: {base: root, type: vfat, mount: {mount_point: /}}",
            MKFS + ".mount.mount_point",
            "has no owners",
        ),
        (
            "gpt",
            LARGE,
            "- mkfs: {base: root, mount: {mount_point: /etc}}",
            MKFS + ".mount.mount_point",
            "needed by the system",
        ),
        (
            "gpt",
            LARGE,
            "- mkfs: {base: root, label: much-too-long-for-it, mount: {mount_point: /}}",
            MKFS + ".label",
            "at most 16",
        ),
        (
            "gpt",
            "{name: root, size: 1GiB}, {name: e, size: 9MiB, type: EF00}",
            ROOT,
            PARTS + ".1.name",
            "firmware reads",
        ),
        (
            "gpt",
            "{name: root, size: 1GiB}, {name: e, size: 9KiB, type: EF02}",
            ROOT,
            PARTS + ".1.name",
            "too small for a boot",
        ),
        ("gpt", "{name: root, size: 1GiB, type: 8e00}", ROOT, PARTS + ".0.type", "put it in quotes"),
        ("mbr", "{name: root, size: 1GiB, type: EF02}", ROOT, PARTS + ".0.type", "leave the partition out"),
        (
            "mbr",
            "{name: root, size: 1GiB}, {name: b, size: 1GiB, flags: [primary]}",
            ROOT,
            PARTS + ".1.flags",
            "comes after root",
        ),
        (
            "mbr",
            ", ".join(f"{{name: p{n}, size: 1MiB, flags: [primary]}}" for n in range(4)) + ", " + LARGE,
            ROOT,
            PARTS,
            "too many primary",
        ),
        (
            "mbr",
            "{name: root, size: 1GiB, flags: [boot]}, {name: b, size: 1GiB, flags: [boot]}",
            ROOT,
            PARTS,
            "boot more than once",
        ),
        (
            "gpt",
            LARGE,
            ROOT.replace("/}", "/, fstab: {fsck-passno: -1}}"),
            MKFS + ".mount.fstab.fsck-passno",
            "whole number",
        ),
        ("gpt", LARGE, ROOT.replace("/}", "/, fstab: {options: a b}}"), MKFS + ".mount.fstab.options", "no spaces"),
        (
            "gpt",
            LARGE,
            ROOT.replace("base: root", "base: root, opts: '-E offset=4096'"),
            MKFS + ".opts",
            "-E offset cannot be set",
        ),
        (
            "gpt",
            LARGE,
            ROOT.replace("base: root", "base: root, type: btrfs, opts: '-r /etc'"),
            MKFS + ".opts",
            "'-r' is no option",
        ),
        ("gpt", LARGE, ROOT.replace("base: root", "base: root, opts: '-i'"), MKFS + ".opts", "-i needs a value"),
    ],
)
def test_what_cannot_be_made_is_refused(label: str, partitions: str, rest: str, at: str, text: str) -> None:
    found = problems(PARTITIONED.format(label=label, partitions=partitions, rest=rest))
    assert text in found[at]


@pytest.mark.parametrize(
    ("old", "new", "at", "text"),
    [
        ("base: two}", "base: three}", "2.lvm.pvs.1.base", "'three' is no partition; write one of: one, two"),
        ("base: two}", "base: one}", "2.lvm.pvs.1.base", "'one' is a physical volume already"),
        ("[pv1, pv2]", "[pv1, pv1]", "2.lvm.vgs.0.base.1", "'pv1' is in a volume group already"),
        ("[pv1, pv2]", "[pv3]", "2.lvm.vgs.0.base.0", "'pv3' is no physical volume"),
        ("base: vg, size: 1800M", "base: vh, size: 1800M", "2.lvm.lvs.0.base", "'vh' is no volume group"),
        ("extents: 4%VG", "extents: 4%X", "2.lvm.lvs.1.extents", "no extents"),
        ("extents: 4%VG", "extents: 4%VG, size: 3M", "2.lvm.lvs.1", "one of the two"),
        ('["--force"]', '["--metadatasize", "3"]', "2.lvm.pvs.0.options.0", "has no effect here"),
        ("size: 1800M", "size: 1800X", "2.lvm.lvs.0.size", "no size of a volume"),
        ("{name: lv_tmp", "{name: lv_root", "2.lvm.lvs.1.name", "is the name of a logical volume too"),
        ("name: image0}", "name: image0, size: 2GiB}", "1.partitioning.partitions.0.name", "do not fit"),
        ("size: 1800M", "extents: 90%VG", "2.lvm.lvs.1.name", None),
    ],
)
def test_volumes_that_cannot_be_made_are_refused(old: str, new: str, at: str, text: str | None) -> None:
    assert LVM.count(old) == 1
    changed = LVM.replace(old, new)
    if text is None:
        described(changed)
        return
    assert text in problems(changed)[at]


_KEYS = (
    *("name", "base", "size", "local_loop", "partitioning", "partitions", "mkfs", "mount", "lvm", "pvs", "vgs", "lvs"),
    *("label", "type", "flags", "mount_point", "fstab", "options", "opts", "extents", "uuid", "align"),
)
_WORDS = st.text(max_size=8) | st.sampled_from(["image0", "root", "/", "100%"])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=4),
    max_leaves=30,
)


@given(_VALUES)
def test_no_value_is_too_odd(written: Any) -> None:
    found = read_disk(written)
    assert (found.description is None) == bool(found.problems)
    assert all("; " in text or "there is none" in text for _, text in found.problems)
