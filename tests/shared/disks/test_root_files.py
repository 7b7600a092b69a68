from pathlib import Path

import pytest

from shared.disks.disk import Disk
from shared.disks.root_files import RootFiles, RootUnreadable
from shared.errors import ImageFileError, NotFound
from tests.shared.disks.small_disks import EFI, MIB, os_tree, partitioned, rooted, tool


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return os_tree(tmp_path / "tree")


def opened(tmp_path: Path, tree: Path) -> RootFiles:
    return Disk(rooted(tmp_path / "a disk.raw", tree)).root


def test_files_are_read_through_links(tmp_path: Path, tree: Path) -> None:
    root = opened(tmp_path, tree)
    assert root.read("/etc/os-release") == (tree / "usr/lib/os-release").read_bytes()
    assert root.read("/vmlinuz") == b"MZ kernel"
    assert root.read("/bin/python3") == b"\x7fELF"
    assert root.names("/lib/modules") == ["6.1.0-9-cloud-amd64"]
    entry = root.entry("/usr/bin/python3")
    assert entry is not None
    assert (entry.size, entry.user, entry.is_file) == (4, (tree / "etc").stat().st_uid, True)


def test_the_system_is_what_etc_says_else_usr_lib(tmp_path: Path, tree: Path) -> None:
    (tree / "etc/os-release").unlink()
    (tree / "usr/lib/os-release").write_text("# Two\nID='debian'\nVERSION_ID=\"12\"\n")
    assert opened(tmp_path, tree).os_release() == {"ID": "debian", "VERSION_ID": "12"}
    (tree / "etc/os-release").write_text("ID=cos\n")
    assert opened(tmp_path, tree).os_release() == {"ID": "cos"}
    for path in ("etc/os-release", "usr/lib/os-release"):
        (tree / path).unlink()
    assert opened(tmp_path, tree).os_release() == {}


def test_what_is_not_there(tmp_path: Path, tree: Path) -> None:
    (tree / "loop").symlink_to("loop")
    (tree / "dangling").symlink_to("/nowhere")
    root = opened(tmp_path, tree)
    for path in ("/nothing", "/etc/os-release/x", "/loop", "/dangling", "/etc/os-release\ncat /vmlinuz"):
        assert not root.exists(path)
        with pytest.raises(NotFound, match="there is no file"):
            root.read(path)
        with pytest.raises(NotFound, match="there is no folder"):
            root.names(path)
    with pytest.raises(NotFound):
        root.read("/etc")
    assert root.read("/../../usr/../vmlinuz") == b"MZ kernel"


def test_odd_names_long_links_and_many_files(tmp_path: Path, tree: Path) -> None:
    folder = tree / "odd"
    folder.mkdir()
    names = ['a "quoted" name', "ein Lehrzeichen", "größe", "<7>", "-p"]
    for name in names:
        (folder / name).write_text(name)
    (tree / "long").symlink_to("/" + "odd/../" * 20 + "odd")
    for number in range(600):
        (tree / "etc" / f"file-{number:04}").write_text(str(number))
    root = opened(tmp_path, tree)
    assert root.names("/odd") == sorted(names)
    assert root.read("/long/<7>") == b"<7>"
    assert root.read_all(f"/odd/{name}" for name in names) == {f"/odd/{name}": name.encode() for name in names}
    found = root.read_all([f"/etc/file-{number:04}" for number in range(0, 600, 7)] + ["/nothing"])
    assert found == {f"/etc/file-{number:04}": str(number).encode() for number in range(0, 600, 7)}


def test_files_are_dumped_below_their_folders(tmp_path: Path, tree: Path) -> None:
    big = bytes(range(256)) * 40_000
    (tree / "boot/initrd").write_bytes(big)
    into = tmp_path / "out"
    into.mkdir()
    copies = opened(tmp_path, tree).dump(["/boot/initrd", "/vmlinuz", "/nothing"], into)
    assert copies == {"/boot/initrd": into / "boot/initrd", "/vmlinuz": into / "vmlinuz"}
    assert (into / "boot/initrd").read_bytes() == big
    assert (into / "vmlinuz").read_bytes() == b"MZ kernel"
    assert sorted(path.name for path in into.iterdir()) == ["boot", "vmlinuz"]


def test_other_file_systems_cannot_be_read(tmp_path: Path) -> None:
    disk = partitioned(tmp_path / "disk.raw", "label: gpt\nstart=2048, type=linux\n")
    with disk.open("r+b") as file:
        file.seek(MIB)
        file.write(b"XFSB")
    with pytest.raises(RootUnreadable, match="partition 1, is xfs"):
        _ = Disk(disk).root
    with pytest.raises(RootUnreadable, match="no partition"):
        _ = Disk(partitioned(tmp_path / "other.raw", f"label: gpt\ntype={EFI}\n")).root


def test_a_damaged_file_system_is_named(tmp_path: Path, tree: Path) -> None:
    disk = rooted(tmp_path / "disk.raw", tree)
    with disk.open("r+b") as file:
        file.seek(2 * MIB + 1024)
        file.write(bytes(56) + b"\x53\xef" + bytes(900))
    with pytest.raises(
        ImageFileError, match=r"disk\.raw: the file system at byte 2097152 is damaged: .*; check it with e2fsck"
    ):
        Disk(disk).root.read("/vmlinuz")


def test_nothing_is_written_to_the_disk(tmp_path: Path, tree: Path) -> None:
    disk = rooted(tmp_path / "disk.raw", tree)
    disk.chmod(0o444)
    before = tool("sha256sum", disk)
    Disk(disk).root.read("/vmlinuz")
    assert tool("sha256sum", disk) == before
