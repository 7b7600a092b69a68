"""Exports of a small disk: every format has what is in it, however odd, and a file is whole or not there."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import struct
import subprocess
import tarfile
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from shared.archives import pax
from shared.archives.crc32 import crc32
from shared.archives.pax import TarEntry, padding, pax_header
from shared.archives.sparse_tar import trailer
from shared.build.build import ExportedImage
from shared.build.export_formats import EXPORT_FORMATS, chosen_formats
from shared.disks.disk import Disk
from shared.disks.formats.disk_files import check_disk_file
from shared.disks.formats.export import export_formats
from shared.disks.formats.halt import Halt
from shared.disks.formats.listing import Expected, compare, look_into_archive
from shared.disks.formats.tree import tree_members
from shared.disks.formats.tree_export import WAYS
from shared.disks.formats.tree_files import Proof, TreeSource
from shared.disks.formats.tree_stream import expected_in_squashfs, survey_of
from shared.disks.formats.work import ExportOrigin
from shared.disks.root_files import RootUnreadable
from shared.errors import GoldsmithError, ImageFileError, InputError
from shared.host.programs import run_tool
from tests.shared.disks.ext4_trees import in_image, varied_tree
from tests.shared.disks.small_disks import MIB, partitioned, rooted, tool

CAPABILITY = b"\x01\x00\x00\x02\x00\x20" + bytes(14)


def export(disk: Path, out: Path, *formats: str, stop: threading.Event | None = None) -> ExportedImage:
    out.mkdir(exist_ok=True)
    targets = {known: out / f"x{known.ending}" for known in chosen_formats(formats)}

    def progress(_done: int, _total: int) -> None:
        if stop is not None and stop.is_set():
            raise KeyboardInterrupt

    origin = ExportOrigin("x", "X86_64", 1_700_000_000.0)
    return export_formats(disk, targets, out, origin, level="fast", progress=progress)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk whose root has something of everything, attributes and owners too."""
    folder = tmp_path_factory.mktemp("disk")
    tree = varied_tree(folder / "tree")
    (tree / ("n" * 200)).write_text("long")
    (tree / '-back\\slash "q" ').write_text("quoted")
    for name in (b"\x80\xff", "é".encode(), b"\xf0\x9f\x98\x80"):  # whose order differs in bytes and in letters
        (tree / os.fsdecode(name)).write_bytes(name)
    os.utime(tree / '-back\\slash "q" ', ns=(0, -1_500_000_000))
    os.utime(tree / "é", ns=(0, 1_234_567_890_123_456_789))
    disk = rooted(folder / "disk.raw", tree, 48 * MIB)
    debugfs = [
        'set_inode_field "/é" uid 3000000',
        'set_inode_field "/é" gid 70000',
        "mknod null c 1 3",
        "mknod socket p",
        "set_inode_field socket mode 0140755",
        f'ea_set -f {folder / "capability"} "/é" security.capability',
        f'ea_set -f {folder / "value"} "/é" user.a=b%c',
        "set_inode_field / mode 040751",
        "set_inode_field / uid 5",
    ]
    (folder / "capability").write_bytes(CAPABILITY)
    (folder / "value").write_bytes(b"x=1\n\x00")
    (folder / "orders").write_text("\n".join(debugfs))
    tool("debugfs", "-w", "-f", folder / "orders", f"{disk}?offset={2 * MIB}")
    return disk


@pytest.fixture(scope="module")
def made(disk: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All formats of it, but those that end alike."""
    out = tmp_path_factory.mktemp("out")
    done = export(disk, out, *(name for name in EXPORT_FORMATS if name != "qcow2-compressed"))
    assert [file.format for file in done.files] == [name for name in EXPORT_FORMATS if name != "qcow2-compressed"]
    for file in done.files:
        path = out / f"x{EXPORT_FORMATS[file.format].ending}"
        assert (file.bytes, file.sha256) == (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
    assert done.archive is not None
    assert done.archive.sha256 == done.files[0].sha256
    return out


@pytest.mark.parametrize("name", ["raw", "qcow2", "vmdk", "vhd"])
def test_a_disk_file_holds_the_disk(disk: Path, made: Path, tmp_path: Path, name: str) -> None:
    path = made / f"x{EXPORT_FORMATS[name].ending}"
    plain = tmp_path / "plain.raw"
    run_tool(["qemu-img", "convert", "-f", {"vhd": "vpc"}.get(name, name), "-O", "raw", path, plain])
    assert plain.read_bytes() == disk.read_bytes()
    assert path.stat().st_blocks * 512 < 12 * MIB  # sparse, of 48 MiB


def test_a_compressed_qcow2_is_smaller(disk: Path, made: Path, tmp_path: Path) -> None:
    export(disk, tmp_path, "qcow2-compressed")
    run_tool(["qemu-img", "compare", "-f", "raw", "-F", "qcow2", disk, tmp_path / "x.qcow2"])
    assert (tmp_path / "x.qcow2").stat().st_size < (made / "x.qcow2").stat().st_size / 2


@pytest.mark.parametrize("name", ["qcow2", "vmdk", "vhd"])
def test_a_disk_file_is_the_same_bytes_each_time(disk: Path, tmp_path: Path, name: str) -> None:
    found = []
    for number in range(2):
        export(disk, tmp_path / str(number), name)
        [path] = (tmp_path / str(number)).glob(f"*.{name}")
        found.append(path.read_bytes())
        info = run_tool(["qemu-img", "info", path])
        assert "warning" not in info
        time.sleep(1.1)  # a VHD's time is in whole seconds
    assert found[0] == found[1]
    if name == "vhd":
        footer = found[0][-512:]
        assert struct.unpack_from(">I", footer, 24) == (1_700_000_000 - 946_684_800,)
        assert footer[68:84] == hashlib.sha256(found[0][:-512]).digest()[:16]
        assert (sum(footer[:64]) + sum(footer[68:])) ^ 0xFFFFFFFF == struct.unpack_from(">I", footer, 64)[0]
    if name == "vmdk":
        assert re.search(rb"\nCID=(?!00000000)[0-9a-f]{8}\n", found[0])


def test_a_vhd_is_as_azure_takes_it(disk: Path, tmp_path: Path) -> None:
    """Fixed, of whole MiB, with the size in its footer: a disk of another size is extended."""
    odd = tmp_path / "odd.raw"
    odd.write_bytes(disk.read_bytes())
    os.truncate(odd, 48 * MIB + 4096)
    tool("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--relocate", "gpt-bak-std", odd)
    export(odd, tmp_path, "vhd")
    data = (tmp_path / "x.vhd").read_bytes()
    footer = data[49 * MIB :]
    assert (len(data), footer[:8], footer[60:64]) == (49 * MIB + 512, b"conectix", b"\0\0\0\2")
    assert int.from_bytes(footer[48:56], "big") == 49 * MIB
    (tmp_path / "plain.raw").write_bytes(data[: 49 * MIB])
    with Disk(tmp_path / "plain.raw") as opened:
        assert opened.root.read("/setuid") == b"\x7fELF"


def run_bytes(*command: str | Path, data: bytes = b"") -> bytes:
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


def members(stream: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(stream), errors="surrogateescape") as tar:
        found = tar.getmembers()
    assert [member.name.encode("utf-8", "surrogateescape") for member in found]
    return {member.name: member for member in found}


def test_an_archive_holds_the_tree(disk: Path, made: Path) -> None:
    with Disk(disk) as opened:
        wanted = in_image(opened.root.file_system)
    with tarfile.open(made / "x.rootfs.tar", errors="surrogateescape") as tar:
        found = {"/" if member.name == "." else f"/{member.name}": member for member in tar.getmembers()}
        assert set(found) == set(wanted) - {"/socket"}
        for path, member in found.items():
            seen = wanted[path]
            assert (member.uid, member.gid, member.mode) == (*seen.owner, seen.mode & 0o7777), path
            if path != "/":
                assert member.mtime // 1 == seen.mtime
            if member.isfile() or member.islnk():
                contents = tar.extractfile(member)
                assert contents is not None
                assert contents.read() == seen.contents, path
            elif member.issym():
                assert member.linkname == seen.contents
        attributes = found["/é"].pax_headers
    assert found["/setuid"].islnk()  # the second name of deep/er/hard
    assert (found["/null"].devmajor, found["/null"].devminor, found["/null"].ischr()) == (1, 3, True)
    assert attributes["SCHILY.xattr.security.capability"].encode("utf-8", "surrogateescape") == CAPABILITY
    assert attributes["SCHILY.xattr.user.a%3Db%25c"].encode() == b"x=1\n\x00"
    assert found["/sparse"].issparse()
    names = [path.encode("utf-8", "surrogateescape") for path in found if path != "/"]
    assert [name for name in names if b"/" not in name[1:]] == sorted(name for name in names if b"/" not in name[1:])


def test_compressed_archives_hold_the_same_stream(made: Path) -> None:
    plain = (made / "x.rootfs.tar").read_bytes()
    for command in (["gzip", "-dc"], ["zstd", "-dc"]):
        ending = {"gzip": "gz", "zstd": "zst"}[command[0]]
        assert run_bytes(*command, made / f"x.rootfs.tar.{ending}") == plain


def test_a_squashfs_holds_the_tree(made: Path) -> None:
    listing = os.fsdecode(run_bytes("unsquashfs", "-lln", "-UTC", made / "x.squashfs"))
    lines = {line.partition("squashfs-root")[2]: line for line in listing.splitlines() if "squashfs-root" in line}
    assert lines[""].startswith("drwxr-x--x 5/0 ")
    assert lines["/setuid"].startswith("-rwsr-xr-x ")
    assert lines["/null"].startswith("c")
    assert " 3000000/70000 " in lines["/é"]
    assert "2009-02-13 23:31" in lines["/é"]
    sparse = run_bytes("unsquashfs", "-cat", made / "x.squashfs", "sparse")
    assert (len(sparse), sparse[70_000:70_006]) == (3_000_004, b"middle")


def blobs(path: Path) -> Mapping[str, bytes]:
    with tarfile.open(path) as tar:
        return {member.name: _read(tar, member) for member in tar.getmembers()}


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    contents = tar.extractfile(member)
    assert contents is not None
    return contents.read()


def test_an_oci_image_is_a_layout_with_one_layer_without_sparse_files(made: Path) -> None:
    found = blobs(made / "x.oci.tar")
    for name, data in found.items():
        if name.startswith("blobs/"):
            assert name == f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"

    def blob(told: dict[str, Any]) -> bytes:
        data = found[f"blobs/sha256/{told['digest'].removeprefix('sha256:')}"]
        assert len(data) == told["size"]
        return data

    assert json.loads(found["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    [told] = json.loads(found["index.json"])["manifests"]
    manifest = json.loads(blob(told))
    config = json.loads(blob(manifest["config"]))
    [layer] = manifest["layers"]
    plain = run_bytes("gzip", "-dc", data=blob(layer))
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(plain).hexdigest()}"]
    assert (config["architecture"], config["os"], config["created"]) == ("amd64", "linux", "2023-11-14T22:13:20Z")
    inside = members(plain)
    assert not any(member.issparse() for member in inside.values())
    assert set(inside) == set(members((made / "x.rootfs.tar").read_bytes()))


def test_the_same_disk_gives_the_same_bytes(disk: Path, made: Path, tmp_path: Path) -> None:
    same = ("raw", "qcow2", "tar", "tar.gz", "tar.zst", "squashfs", "oci")
    export(disk, tmp_path, *same)
    for name in same:
        ending = EXPORT_FORMATS[name].ending
        assert (tmp_path / f"x{ending}").read_bytes() == (made / f"x{ending}").read_bytes(), name


def test_an_access_control_list_is_as_the_system_call_has_it(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_text("x")
    disk = rooted(tmp_path / "disk.raw", tree)
    none = b"\xff\xff\xff\xff"
    listed = b"\2\0\0\0" + b"\1\0\6\0" + none + b"\2\0\6\0" + b"\x21\0\0\0" + b"\4\0\4\0" + none
    listed += b"\x10\0\6\0" + none + b"\x20\0\4\0" + none
    (tmp_path / "acl").write_bytes(listed)  # which debugfs turns into what ext4 keeps
    tool(
        "debugfs", "-w", "-R", f"ea_set -f {tmp_path / 'acl'} /file system.posix_acl_access", f"{disk}?offset={2 * MIB}"
    )
    export(disk, tmp_path / "out", "tar", "squashfs")  # in which there are none
    value = members((tmp_path / "out/x.rootfs.tar").read_bytes())["file"].pax_headers[
        "SCHILY.xattr.system.posix_acl_access"
    ]
    assert value.encode("utf-8", "surrogateescape") == listed


def test_a_time_before_1970_with_a_fraction_is_proved(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/old").write_text("x")
    disk = rooted(tmp_path / "disk.raw", tmp_path / "tree")
    orders = tmp_path / "orders"
    orders.write_text("set_inode_field /old mtime @-2\nset_inode_field /old mtime_extra 2000000000\n")
    tool("debugfs", "-w", "-f", orders, f"{disk}?offset={2 * MIB}")
    export(disk, tmp_path / "out", "tar", "squashfs")
    assert members((tmp_path / "out/x.rootfs.tar").read_bytes())["old"].mtime == -1.5


def test_a_name_that_is_a_whiteout_is_refused_for_oci_alone(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/.wh.passwd").write_text("x")
    disk = rooted(tmp_path / "disk.raw", tmp_path / "tree")
    with pytest.raises(InputError, match=r"cannot hold the file b'\.wh\.passwd'.*leave the format oci out"):
        export(disk, tmp_path / "out", "tar", "oci")
    assert not list((tmp_path / "out").iterdir())
    export(disk, tmp_path / "out", "tar", "squashfs")


def test_a_hole_of_a_terabyte_is_proved_without_its_zeros(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    with (tmp_path / "tree/lastlog").open("wb") as file:
        file.truncate(1 << 40)
        file.seek(1 << 39)
        file.write(b"middle")
    disk = rooted(tmp_path / "disk.raw", tmp_path / "tree")
    export(disk, tmp_path / "out", "tar", "tar.zst")
    assert (tmp_path / "out/x.rootfs.tar").stat().st_size <= 20480
    with pytest.raises(InputError, match=r"holds no sparse files.*leave the format oci out"):
        export(disk, tmp_path / "out", "oci")


def test_a_file_system_that_was_not_unmounted_is_refused(disk: Path, tmp_path: Path) -> None:
    copy = tmp_path / "disk.raw"
    copy.write_bytes(disk.read_bytes())
    tool("debugfs", "-w", "-R", "feature needs_recovery", f"{copy}?offset={2 * MIB}")
    with pytest.raises(InputError, match="was not unmounted"):
        export(copy, tmp_path / "out", "tar")
    export(copy, tmp_path / "out", "qcow2")


def test_a_root_that_cannot_be_read_has_no_tree(tmp_path: Path) -> None:
    disk = partitioned(tmp_path / "disk.raw", "label: gpt\nstart=2048, size=20480\n")
    with pytest.raises(RootUnreadable):
        export(disk, tmp_path / "out", "squashfs")
    export(disk, tmp_path / "out", "raw")


def test_a_damaged_tree_leaves_no_file_of_any_format(disk: Path, tmp_path: Path) -> None:
    copy = tmp_path / "disk.raw"
    copy.write_bytes(disk.read_bytes())
    tool("debugfs", "-w", "-R", 'set_inode_field "/deep/of-600000" block[0] 99', f"{copy}?offset={2 * MIB}")
    with pytest.raises(ImageFileError, match="is damaged"):
        export(copy, tmp_path / "out", "raw", "vmdk", "tar", "tar.zst", "squashfs", "oci", "gce")
    assert not [path.name for path in (tmp_path / "out").iterdir() if path.name.startswith("x.")]


def test_an_interrupt_ends_all_and_leaves_nothing(disk: Path, tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(KeyboardInterrupt):
        export(disk, tmp_path / "out", "vmdk", "squashfs", "tar.gz", stop=stop)
    assert not list((tmp_path / "out").iterdir())
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("export")]


def test_what_a_killed_export_has_left_is_replaced(disk: Path, made: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for ending in (".qcow2", ".squashfs", ".rootfs.tar"):
        (out / f"x{ending}").write_bytes(b"half")
    export(disk, out, "qcow2", "squashfs", "tar")
    assert (out / "x.rootfs.tar").read_bytes() == (made / "x.rootfs.tar").read_bytes()


def test_a_file_that_is_not_what_was_written_is_refused(disk: Path, tmp_path: Path) -> None:
    """Each proof, on a file of another disk, which is whole and of the right format."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "setuid").write_bytes(b"\x7fELF")
    other = rooted(tmp_path / "other.raw", tree, 48 * MIB)
    formats = chosen_formats(name for name in EXPORT_FORMATS if name not in ("gce", "qcow2-compressed"))
    export(other, tmp_path / "out", *(known.name for known in formats))
    halt = Halt()
    with Disk(disk) as opened:
        survey = survey_of(opened.root.file_system)
    source = TreeSource(ExportOrigin("x", "X86_64", 0.0), survey.root)
    expected = expected_in_squashfs()
    with Disk(disk) as opened:
        for entry, _inode in tree_members(opened.root.file_system):
            expected.member(entry)
    proof = Proof("ab" * 32, expected.seen, contents=True)
    for known in formats:
        target = tmp_path / f"out/x{known.ending}"
        check = (
            partial(check_disk_file, disk, target, known.name, halt)
            if known.of == "disk"
            else partial(WAYS[known.name][1], target, proof, source, halt)
        )
        with pytest.raises(GoldsmithError):
            check()


@pytest.mark.parametrize("change", ["name", "mode", "owner", "time", "attribute", "contents"])
def test_gnu_tar_sees_each_kind_of_change(tmp_path: Path, change: str) -> None:
    entry = TarEntry(b"a", pax.FILE, 0o644, 1, 2, 3, 10**18, attributes={b"user.x": b"1"})
    changed = {
        "name": replace(entry, name=b"b"),
        "mode": replace(entry, mode=0o4644),
        "owner": replace(entry, user=3),
        "time": replace(entry, mtime_ns=10**18 + 1),
        "attribute": replace(entry, attributes={b"user.x": b"12"}),
        "contents": entry,
    }[change]
    expected = Expected()
    expected.member(entry)
    expected.contents(crc32(b"abc"), 3)
    for other, contents in ((entry, b"abc"), (changed, b"abd" if change == "contents" else b"abc")):
        data = pax_header(other) + contents + padding(3)
        seen = look_into_archive([data + trailer(len(data))], Halt(), contents=True)
        if (other, contents) == (entry, b"abc"):
            compare("x", seen, expected.seen, contents=True)
        else:
            with pytest.raises(ImageFileError, match="export it again"):
                compare("x", seen, expected.seen, contents=True)
