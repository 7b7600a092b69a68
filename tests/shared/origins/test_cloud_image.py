"""The files of a distribution's disk image: what is in the archive, and what is refused."""

from __future__ import annotations

import gzip
import os
import resource
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from provisioner.elements.extract_image import is_disk_image, unpacking, wanted_image
from shared.errors import ImageFileError, InputError, NoSpace
from shared.host.programs import run_tool
from shared.origins.cloud_image import pack_cloud_image
from shared.quantities import GIB, MIB
from tests.shared.origins.cloud_disks import EXTENDED_BOOT, LINUX, cloud_disk


@pytest.mark.parametrize(("boot", "label"), [(EXTENDED_BOOT, ""), (LINUX, "BOOT")])
def test_all_files_of_a_disk_are_packed(tmp_path: Path, boot: str, label: str) -> None:
    disk = cloud_disk(tmp_path / "made", boot, label)
    image = tmp_path / "image.qcow2"
    run_tool(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", disk, image])
    archive = tmp_path / "image.tar"
    pack_cloud_image(image, tmp_path, archive, lambda line: None)
    assert not (tmp_path / "image.raw").exists()
    tree = tmp_path / "tree"
    tree.mkdir()
    subprocess.run(unpacking(str(archive), str(tree), str(tmp_path)), check=True)
    own = (tree / "etc/own").stat()
    assert (own.st_uid, own.st_gid, own.st_mode & 0o7777) == (33, 44, 0o4711)
    assert os.getxattr(tree / "etc/own", "user.mine") == b"value"
    assert (tree / "etc/link").readlink() == Path("own")
    assert (tree / "etc/holes").read_bytes() == bytes(4096) + b"data" + bytes(MIB + 1 - 4100)
    assert not (tree / "etc/null").exists()
    assert (tree / "boot/vmlinuz").samefile(tree / "boot/again")
    assert (tree / "boot/efi/EFI/BOOTX64.EFI").read_bytes() == b"MZ" * 3000


def test_a_root_that_cannot_be_read_is_refused_with_a_way_out(tmp_path: Path) -> None:
    disk = cloud_disk(tmp_path / "made", root="xfs")
    with pytest.raises(InputError) as caught:
        pack_cloud_image(disk, tmp_path, tmp_path / "image.tar", lambda line: None)
    assert str(disk) in str(caught.value)
    assert "is xfs" in str(caught.value)
    assert "import that image (source.file), and run the elements in a step" in str(caught.value)


@contextmanager
def small_files() -> Iterator[None]:
    """Let this process write no file of more than 64 MiB, so that a fault fills no disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * MIB, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("holes", [[8 << 40], [20 * MIB, 20 * MIB], [33 * MIB]], ids=["TiB", "together", "just"])
def test_files_that_claim_more_than_their_disk_are_refused_before_they_are_written(
    tmp_path: Path, holes: list[int]
) -> None:
    disk = cloud_disk(tmp_path / "made", holes=holes)
    with small_files(), pytest.raises(ImageFileError) as caught:
        pack_cloud_image(disk, tmp_path, tmp_path / "image.tar", lambda line: None)
    assert f"{disk}: etc/holes{len(holes) - 1} has {holes[-1]} bytes" in str(caught.value)
    assert "more than their disk, which has 33554432" in str(caught.value)
    assert (tmp_path / "image.tar").stat().st_size < 32 * MIB


def test_sparse_files_for_which_there_is_no_room_are_refused_before_they_are_written(tmp_path: Path) -> None:
    """A qcow2 image of some KiB can say that its disk has TiB."""
    state = os.statvfs(tmp_path)
    size = state.f_bavail * state.f_frsize + GIB
    disk = cloud_disk(tmp_path / "made", holes=[size])
    os.truncate(disk, size + GIB)
    with small_files(), pytest.raises(NoSpace, match="MB are needed and"):
        pack_cloud_image(disk, tmp_path, tmp_path / "image.tar", lambda line: None)
    assert (tmp_path / "image.tar").stat().st_size < 32 * MIB


@pytest.mark.parametrize("data", [b"", b"#!/bin/sh\n" * 100, b"QFI\xfb" + bytes(600)], ids=["empty", "text", "qcow2"])
def test_what_is_no_image_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "image").write_bytes(data)
    with pytest.raises(ImageFileError, match="/image: "):
        pack_cloud_image(tmp_path / "image", tmp_path, tmp_path / "image.tar", lambda line: None)


def test_archives_are_told_from_disks(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    for mode in ("w", "w:gz", "w:xz", "w:bz2"):
        with tarfile.open(tmp_path / "a.tar", mode) as archive:
            archive.add(tmp_path / "file", "file")
        assert not is_disk_image(str(tmp_path / "a.tar"))
        assert unpacking(str(tmp_path / "a.tar"), "/t", str(tmp_path))[-2:] == ["-xf", str(tmp_path / "a.tar")]
    (tmp_path / "squash").write_bytes(b"hsqs" + bytes(600))
    assert unpacking(str(tmp_path / "squash"), "/t", str(tmp_path))[0] == "unsquashfs"
    for data in (gzip.compress(bytes(MIB)), b"\x1f\x8bbroken", b"QFI\xfb", b"\xfd7zXZ"):
        (tmp_path / "disk").write_bytes(data)
        assert is_disk_image(str(tmp_path / "disk"))


def test_a_disk_without_an_archive_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(1024))
    assert wanted_image(str(tmp_path)) == ""
    assert unpacking(str(tmp_path / "disk"), "/t", str(tmp_path)) == []
    assert wanted_image(str(tmp_path)) == str(tmp_path / "disk")
    (tmp_path / "images.json").write_text(f'{{"{tmp_path}/disk": "/archive.tar"}}')
    assert unpacking(str(tmp_path / "disk"), "/t", str(tmp_path))[-1] == "/archive.tar"
