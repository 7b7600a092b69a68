import hashlib
import os
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from shared.build.block_devices.description import default_disk
from shared.clock import SystemClock
from shared.disks.disk import Disk
from shared.disks.extents import data_extents
from shared.errors import AlreadyExists, InputError
from shared.images.catalogue import Catalogue
from shared.images.contents import describe_image
from shared.origins.kept_origins import KeptOrigins
from shared.origins.tree_disk import FilledTree, TreeOrder, write_tree_disk
from shared.sandbox.roots.unpack_root import UnpackedRoot
from tests.shared.disks.small_disks import tool
from tests.shared.origins.archives import TIME, Entry, compressed, entry, folder, hard_link, packed, system, write
from tests.shared.origins.containers import archived, layout, saved
from tests.shared.sandbox.ordinary_user import AS_USER, MODES, give, place_for, run
from tests.shared.sandbox.trees import CAPABILITY, on_disk

pytestmark = pytest.mark.slow

KERNEL: list[Entry] = [
    folder("./boot/"),
    entry("./boot/vmlinuz-6.1.0-9", data=b"old kernel"),
    entry("./boot/vmlinuz-6.1.0-10", data=b"kernel"),
    entry("./boot/initrd.img-6.1.0-10", data=b"initrd"),
]
PROGRAMS = ("again", "capable", "sh")


@pytest.fixture
def place(place: Path, mode: str) -> Path:
    (place / "home").mkdir()
    give(place / "home", mode)
    return place


def made_of_rootfs(home: str, file: str) -> Any:
    said: list[str] = []
    image = KeptOrigins(Catalogue(Path(home), SystemClock()), Path(home), said.append).of_rootfs(Path(file))
    return [image.name, image.id, image.disk_size_gb, said]


def make(mode: str, place: Path, data: bytes) -> tuple[str, Path, list[str]]:
    name, _, _, said = run(mode, made_of_rootfs, place / "home", write(place / "root.tar", data))
    return name, place / "home" / "images" / name / "disk.raw", said


def compared(disk: Path) -> str:
    """Return the digest of a disk's data and of where it lies."""
    digest = hashlib.sha256()
    with disk.open("rb") as file:
        for at, length in data_extents(file.fileno(), disk.stat().st_size):
            for start in range(at, at + length, 4096):
                if any(page := os.pread(file.fileno(), 4096, start)):
                    digest.update(start.to_bytes(8, "big") + page)
    return digest.hexdigest()


def refuse(mode: str, place: Path, data: bytes) -> str:
    """Make an image of what cannot be one; nothing may be left."""
    with pytest.raises(InputError) as error:
        make(mode, place, data)
    assert list((place / "home" / "images").iterdir()) == []
    return str(error.value)


def test_an_image_has_all_of_an_archive_and_is_made_once(mode: str, place: Path) -> None:
    odd = b"\xff\xfe".decode("utf-8", "surrogateescape")
    more = [
        entry("./usr/bin/capable", data=b"x", mode=0o755, uid=33, pax_headers={
            "SCHILY.xattr.security.capability": CAPABILITY.decode("utf-8", "surrogateescape")
        }),
        hard_link("./usr/bin/again", "./usr/bin/capable"),
        entry("./null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        entry(f"./{odd}", data=b"any bytes", pax_headers={"mtime": f"{TIME}.5"}),
    ]  # fmt: skip
    data = packed(system(more=more))
    name, disk, said = make(mode, place, data)
    assert name.startswith("rootfs-")
    assert said[-1] == "writing the disk"
    found = on_disk(disk)
    assert (found["/usr/bin/capable"]["owner"], found["/usr/bin/again"]["owner"]) == ([33, 0], [33, 0])
    assert found["/usr/bin/capable"]["same as"] == found["/usr/bin/again"]["same as"]
    assert list(found["/usr/bin/capable"]["attributes"]) == ["security.capability"]
    assert found["/null"]["device"] == 0x103
    assert found[f"/{odd}"]["mtime"] == TIME * 10**9 + 5 * 10**8
    assert found["/etc"]["mtime"] == TIME * 10**9
    expected = {"bin", "etc", "etc/os-release", "null", "usr", "usr/bin", odd, *map("usr/bin/{}".format, PROGRAMS)}
    ours = {"etc/fstab", "boot", "boot/grub", "boot/grub/grub.cfg"}
    assert found.keys() == {"/", *(f"/{path}" for path in expected | ours)}
    contents = describe_image(disk)
    assert (contents.system, contents.architecture, contents.kernel) == ("Tiny 1", "x86_64", None)
    assert (contents.bios, contents.efi, disk.stat().st_size) == (True, True, 1 << 30)
    tool("e2fsck", "-fn", f"{disk}?offset={66 << 20}")
    again, _, said = make(mode, place, data)
    assert (again, said) == (name, ["reading " + str(place / "root.tar")])
    run(mode, made_of_rootfs, place / "home", place / "root.tar")
    assert [path.name for path in (place / "home" / "images").iterdir()] == [name]


def test_every_user_makes_the_same_bytes() -> None:
    """The times of a disk are those of its files, and all its identifiers come from its content."""
    data = packed(system(more=KERNEL))
    digests = set()
    for mode in MODES:
        with place_for(mode) as place:
            (place / "home").mkdir()
            give(place / "home", mode)
            _, disk, _ = make(mode, place, data)
            digests.add(compared(disk))
    assert len(digests) == 1


def test_a_tree_with_a_kernel_is_made_bootable(mode: str, place: Path) -> None:
    _, disk, _ = make(mode, place, compressed(packed(system(more=KERNEL)), "zst"))
    contents = describe_image(disk)
    assert (contents.kernel, contents.bios, contents.efi) == ("6.1.0-10", True, True)
    with Disk(disk) as opened:
        fstab, menu = (opened.root.read(path).decode() for path in ("/etc/fstab", "/boot/grub/grub.cfg"))
        assert fstab.split()[:2] == ["LABEL=cloudimg-rootfs", "/"]
        assert f"root=UUID={UUID(bytes=opened.root.file_system.layout.uuid)}" in menu


def test_what_is_refused_leaves_nothing(mode: str, place: Path) -> None:
    told = refuse(mode, place, packed(system(machine=183)))
    assert "/bin/sh in it is a program for arm64" in told
    assert "give one for x86_64" in told
    assert "is a program for machine 4321 of ELF" in refuse(mode, place, packed(system(machine=4321)))
    data = packed(system())
    assert str(place / "root.tar") in refuse(mode, place, data[: data.index(b"./usr/bin/sh") + 520])


def made_with_xfs(home: str, file: str) -> str:
    catalogue = Catalogue(Path(home), SystemClock())
    usual = default_disk()
    file_systems = tuple(replace(each, kind="xfs") if each == usual.root else each for each in usual.file_systems)
    disk = replace(usual, file_systems=file_systems)
    return KeptOrigins(catalogue, Path(home), lambda line: None, disk).of_rootfs(Path(file)).name


@pytest.mark.parametrize("mode", [AS_USER])
def test_kernels_that_fill_file_systems_are_looked_for_in_all_images(mode: str, place: Path) -> None:
    name, disk, _ = make(mode, place, packed(system()))
    with pytest.raises(InputError) as error:
        run(mode, made_with_xfs, place / "home", place / "root.tar")
    assert "the tree of files: there is no kernel in /boot" in str(error.value)
    assert f"{disk}: there is no kernel in /boot" in str(error.value)
    assert [path.name for path in (place / "home" / "images").iterdir()] == [name]


def test_a_name_that_another_image_has_is_not_taken_for_it(tmp_path: Path) -> None:
    file = write(tmp_path / "root.tar", packed(system()))
    catalogue = Catalogue(tmp_path, SystemClock())
    origins = KeptOrigins(catalogue, tmp_path, print)
    name = origins.of_rootfs(file).name
    catalogue.delete(name)
    catalogue.add(file, name)
    with pytest.raises(AlreadyExists, match=f"goldsmith images delete {name}"):
        origins.of_rootfs(file)


def test_the_time_of_a_disk_may_come_from_the_environment(tmp_path: Path) -> None:
    file = write(tmp_path / "root.tar", packed(system()))
    environment: dict[str, str] = {}
    origins = KeptOrigins(Catalogue(tmp_path, SystemClock()), tmp_path, print, environment=environment)
    plain = origins.of_rootfs(file).name
    environment["SOURCE_DATE_EPOCH"] = "1500000000"
    dated = origins.of_rootfs(file).name
    assert dated != plain
    disk = tmp_path / "images" / dated / "disk.raw"
    assert "Fri Jul 14" in tool("dumpe2fs", "-h", f"{disk}?offset={66 << 20}")
    environment["SOURCE_DATE_EPOCH"] = "yesterday"
    with pytest.raises(InputError, match="SOURCE_DATE_EPOCH is no date: 'yesterday'"):
        origins.of_rootfs(file)


def made_of_container(home: str, place: str) -> Any:
    image = KeptOrigins(Catalogue(Path(home), SystemClock()), Path(home), lambda line: None).of_container(Path(place))
    return [image.name, image.id]


def test_a_container_is_its_layers_over_each_other(mode: str, place: Path) -> None:
    first = packed(system(more=[entry("./etc/old", data=b"1"), entry("./usr/kept", data=b"1")]))
    second = packed([entry("etc/.wh.old"), hard_link("etc/again", "usr/kept"), entry("bin/tool", data=b"22")])
    made = [
        run(mode, made_of_container, place / "home", write(place / "image", archived(files, way)))
        for files in (layout([first, second], way="zst"), saved([first, second]))
        for way in ("tar", "gz")
    ]
    assert (made[0], made[2]) == (made[1], made[3])
    for name, _ in made[::2]:
        assert name.startswith("oci-")
        found = on_disk(place / "home" / "images" / name / "disk.raw")
        assert {"/etc/again", "/usr/kept", "/usr/bin/tool", "/usr/bin/sh"} <= found.keys()
        assert found["/etc/again"]["same as"] == found["/usr/kept"]["same as"]
        assert "/etc/old" not in found
    assert [path for path in (place / "home").rglob(".*") if path.name != ".scratch"] == []


def test_a_layer_that_is_not_what_its_digest_says_is_refused(mode: str, place: Path) -> None:
    files = layout([packed(system()), packed([entry("a", data=b"1")])], way="tar")
    path = next(path for path, data in files.items() if data == packed([entry("a", data=b"1")]))
    wrong = {**files, path: packed([entry("a", data=b"2")])}
    damaged = saved([packed(system())])
    path = next(path for path in damaged if path.endswith("layer.tar"))
    for bad in (wrong, {**damaged, path: packed(system(machine=183))}):
        file = write(place / "image", archived(bad))
        with pytest.raises(InputError, match=r"is damaged: layer . is not what its digest says"):
            run(mode, made_of_container, place / "home", file)
    assert list((place / "home" / "images").iterdir()) == []


def made_beside(home: str) -> Any:
    """Make a disk in a scratch folder, as images are made, with the tree beside it; return what is left there."""

    def fill(tree: Path) -> FilledTree:
        (tree / "etc").mkdir(parents=True)
        return FilledTree(UnpackedRoot((), {}, {}), TIME)

    with Catalogue(Path(home), SystemClock()).staging() as scratch:
        order = TreeOrder(default_disk(), "a tree", "key", None, 0)
        write_tree_disk(order, fill, scratch.path / "disk.raw", lambda line: None, in_memory=False)
        return [sorted(path.name for path in scratch.path.iterdir()), list((scratch.path / "trees").iterdir())]


def test_a_tree_may_be_beside_its_disk(mode: str, place: Path) -> None:
    assert run(mode, made_beside, place / "home") == [["disk.raw", "trees"], []]
