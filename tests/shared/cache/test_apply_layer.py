"""What an overlay's upper folder holds, applied to a folder; compared with what an overlay of both shows."""

from __future__ import annotations

import os
import stat
import struct
import subprocess
from pathlib import Path

import pytest

from shared.cache.apply_layer import apply_layer
from shared.errors import EnvironmentFault

BASE = 0x70000000


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    path = tmp_path / "layer"
    path.mkdir()
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    (path / "kept").mkdir(parents=True)
    (path / "kept" / "file").write_text("old")
    (path / "gone" / "below").mkdir(parents=True)
    (path / "gone" / "below" / "file").write_text("old")
    (path / "single").write_text("old")
    return path


def apply(layer: Path, root: Path) -> None:
    for path in (layer, *layer.rglob("*")):
        state = path.lstat()
        if state.st_uid < BASE:
            os.chown(path, BASE + state.st_uid, BASE + state.st_gid, follow_symlinks=False)
    handle = os.open(layer, os.O_PATH)
    try:
        apply_layer(handle, root, BASE)
    finally:
        os.close(handle)


def whiteout(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR, 0)


def test_names_are_removed_and_replaced(layer: Path, root: Path) -> None:
    whiteout(layer / "gone")
    whiteout(layer / "never")  # of a name that is not there
    (layer / "kept").mkdir()
    whiteout(layer / "kept" / "file")
    (layer / "single").mkdir()
    (layer / "single" / "inside").write_text("new")
    apply(layer, root)
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*")) == ["kept", "single", "single/inside"]


def test_an_opaque_folder_is_made_anew(layer: Path, root: Path) -> None:
    (layer / "gone").mkdir(mode=0o711)
    os.setxattr(layer / "gone", "user.overlay.opaque", b"y")
    (layer / "gone" / "new").write_text("new")
    apply(layer, root)
    assert [path.name for path in (root / "gone").iterdir()] == ["new"]
    assert stat.S_IMODE((root / "gone").stat().st_mode) == 0o711
    assert os.listxattr(root / "gone") == []


def test_a_file_takes_the_place_of_a_folder(layer: Path, root: Path) -> None:
    (layer / "gone").write_text("new")
    (layer / "single").symlink_to("/etc/passwd")
    apply(layer, root)
    assert (root / "gone").read_text() == "new"
    assert str((root / "single").readlink()) == "/etc/passwd"


def test_links_out_of_the_root_are_not_followed(layer: Path, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("outside")
    (root / "way").symlink_to(outside)
    (layer / "way").mkdir()
    (layer / "way" / "file").write_text("new")
    apply(layer, root)
    assert (outside / "file").read_text() == "outside"
    assert (root / "way" / "file").read_text() == "new"
    assert not (root / "way").is_symlink()


def test_owners_modes_times_and_attributes_are_taken_over(layer: Path, root: Path) -> None:
    file = layer / "file"
    file.write_text("new")
    os.chown(file, BASE + 33, BASE + 42)
    file.chmod(0o4755)
    os.setxattr(file, "user.note", b"noted")
    os.setxattr(file, "security.capability", struct.pack("<6I", 0x03000001, 1 << 10, 0, 0, 0, BASE))
    entries = ((1, 6, 0xFFFFFFFF), (2, 4, BASE + 7), (4, 4, 0xFFFFFFFF), (16, 4, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF))
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(file, "system.posix_acl_access", acl)
    os.utime(file, ns=(1_000_000_000, 1_234_567_891_234_567_891))
    os.utime(layer, ns=(0, 5_000_000_001))
    apply(layer, root)
    state = (root / "file").stat()
    assert (state.st_uid, state.st_gid, state.st_mtime_ns) == (33, 42, 1_234_567_891_234_567_891)
    assert state.st_mode & stat.S_ISUID
    assert os.getxattr(root / "file", "user.note") == b"noted"
    capability = os.getxattr(root / "file", "security.capability")
    assert capability == struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)
    assert struct.unpack_from("<HHI", os.getxattr(root / "file", "system.posix_acl_access"), 12) == (2, 4, 7)
    assert root.stat().st_mtime_ns == 5_000_000_001


def test_hard_links_and_holes_stay(layer: Path, root: Path) -> None:
    (layer / "a").mkdir()
    with (layer / "a" / "sparse").open("wb") as file:
        file.truncate(1 << 30)
        file.seek(1 << 20)
        file.write(b"data")
    (layer / "z").mkdir()
    (layer / "z" / "linked").hardlink_to(layer / "a" / "sparse")
    apply(layer, root)
    one, other = (root / "a" / "sparse").stat(), (root / "z" / "linked").stat()
    assert one.st_ino == other.st_ino
    assert (one.st_size, one.st_blocks < 100) == (1 << 30, True)
    with (root / "a" / "sparse").open("rb") as file:
        file.seek(1 << 20)
        assert file.read(4) == b"data"


def test_pipes_keep_their_modes_and_names(layer: Path, root: Path) -> None:
    before = os.umask(0o077)
    try:
        os.mkfifo(layer / "pipe")
        (layer / "pipe").chmod(0o666)
        (layer / "pipe-too").hardlink_to(layer / "pipe")
        (layer / "link").symlink_to("nowhere")
        (layer / "link-too").hardlink_to(layer / "link")
        apply(layer, root)
    finally:
        os.umask(before)
    assert stat.filemode((root / "pipe").stat().st_mode) == "prw-rw-rw-"
    assert (root / "pipe").stat().st_ino == (root / "pipe-too").stat().st_ino
    assert (root / "link").lstat().st_ino == (root / "link-too").lstat().st_ino


def test_names_of_any_bytes_and_depth(layer: Path, root: Path) -> None:
    (layer / os.fsdecode(b"\xff\n")).mkdir()
    descriptor = os.open(os.fsencode(layer) + b"/\xff\n", os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("deeper", dir_fd=descriptor)
        below = os.open("deeper", os.O_RDONLY, dir_fd=descriptor)
        os.fchown(below, BASE, BASE)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    os.chown(os.fsencode(layer) + b"/\xff\n", BASE, BASE)
    os.chown(layer, BASE, BASE)
    handle = os.open(layer, os.O_PATH)
    apply_layer(handle, root, BASE)
    os.close(handle)
    descriptor = os.open(os.fsencode(root) + b"/\xff\n", os.O_RDONLY)
    for _ in range(1200):
        below = os.open("deeper", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    subprocess.run(["rm", "-rf", layer, root], check=True)  # Python recurses, and pytest with it


def test_files_of_the_hosts_own_users_are_refused(layer: Path, root: Path) -> None:
    (layer / "file").write_text("of root")
    os.chown(layer, BASE, BASE)
    handle = os.open(layer, os.O_PATH)
    with pytest.raises(EnvironmentFault, match="of the host's user 0"):
        apply_layer(handle, root, BASE)
    os.close(handle)
