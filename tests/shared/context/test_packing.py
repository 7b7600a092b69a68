"""Packing a context: the same bytes for the same files, nothing from outside it, nothing left behind."""

import io
import os
import socket
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.context.members import MEMBER_LIMIT, SHOWN_PROBLEMS, Member, Scan, missing_file, resolve_link, scan
from shared.context.packing import MEMBER_TIME, context_digest, pack_context
from shared.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small context: a script, a folder with a file, an empty folder, a link."""
    root = tmp_path / "context"
    (root / "etc/empty").mkdir(parents=True)
    (root / "run.sh").write_text("echo hi\n")
    (root / "run.sh").chmod(0o700)
    (root / "etc/motd").write_text("hello\n")
    (root / "link").symlink_to("etc/../run.sh")
    return root


def archived(target: Path, *members: tarfile.TarInfo | tuple[str, bytes], mode: str = "w:gz") -> Path:
    """Write an archive of the given members: TarInfo, or names and contents of files."""
    with tarfile.open(target, mode) as archive:  # type: ignore[call-overload]  # the stubs want a literal mode
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return target


def special(name: str, kind: bytes, linkname: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, linkname
    return info


def test_folder_is_packed_in_order_without_owners_and_times(folder: Path, tmp_path: Path) -> None:
    context = pack_context(folder, tmp_path / "packed.tar")
    with tarfile.open(context.uri, "r:") as archive:
        members = archive.getmembers()
        assert [(member.name, member.mode, member.type) for member in members] == [
            ("etc", 0o755, tarfile.DIRTYPE),
            ("etc/empty", 0o755, tarfile.DIRTYPE),
            ("etc/motd", 0o644, tarfile.REGTYPE),
            ("link", 0o777, tarfile.SYMTYPE),
            ("run.sh", 0o755, tarfile.REGTYPE),
        ]
        assert {(member.uid, member.gid, member.mtime) for member in members} == {(0, 0, MEMBER_TIME)}
        file = archive.extractfile("etc/motd")
        assert file is not None
        assert file.read() == b"hello\n"
    assert context.size == Path(context.uri).stat().st_size
    assert len(context.digest) == 64


def test_same_files_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    first = pack_context(folder, tmp_path / "1.tar")
    os.utime(folder / "run.sh", (1, 1))
    (folder / "run.sh").chmod(0o755)
    (folder / ".git").mkdir()
    (folder / ".git/HEAD").write_text("x")
    second = pack_context(folder, tmp_path / "2.tar")
    assert first.digest == second.digest
    assert Path(first.uri).read_bytes() == Path(second.uri).read_bytes()


@pytest.mark.parametrize("change", ["content", "mode", "name", "link", "folder"])
def test_any_change_gives_another_digest(folder: Path, tmp_path: Path, change: str) -> None:
    before = pack_context(folder, tmp_path / "1.tar").digest
    if change == "content":
        (folder / "run.sh").write_text("echo ho\n")
    elif change == "mode":
        (folder / "run.sh").chmod(0o600)
    elif change == "name":
        (folder / "run.sh").rename(folder / "run")
    elif change == "link":
        (folder / "link").unlink()
        (folder / "link").symlink_to("etc/.//run.sh")  # as long as before
    else:
        (folder / "etc/empty").rmdir()
    assert pack_context(folder, tmp_path / "2.tar").digest != before


def test_the_digest_alone_is_that_of_the_packed_context(folder: Path, tmp_path: Path) -> None:
    packed = pack_context(folder, tmp_path / "packed.tar")
    for place in (folder, Path(packed.uri)):
        assert context_digest(place, tmp_path) == packed.digest
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "file").write_text("beside\n")
    outside = ["../beside"]
    with_others = pack_context(folder, tmp_path / "others.tar", outside)
    assert context_digest(folder, tmp_path, outside) == with_others.digest != packed.digest
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    assert context_digest(folder, tmp_path, most=size) == packed.digest
    assert context_digest(folder, tmp_path, most=size - 1) is None
    os.mkfifo(folder / "pipe")
    with pytest.raises(InputError, match="pipe"):
        context_digest(folder, tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        context_digest(folder / "none", tmp_path)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_archive_is_packed_like_its_folder(folder: Path, tmp_path: Path, mode: str) -> None:
    with tarfile.open(tmp_path / "context.archive", mode) as archive:  # type: ignore[call-overload]  # as above
        for path in sorted(folder.rglob("*"), reverse=True):  # out of order, and without the folders' own entries
            if not path.is_dir() or path.name == "empty":
                archive.add(path, f"./{path.relative_to(folder)}", recursive=False)
    from_archive = pack_context(tmp_path / "context.archive", tmp_path / "1.tar")
    from_folder = pack_context(folder, tmp_path / "2.tar")
    assert from_archive.digest == from_folder.digest
    assert Path(from_archive.uri).read_bytes() == Path(from_folder.uri).read_bytes()


def test_hard_link_in_an_archive_becomes_a_file(tmp_path: Path) -> None:
    archive = archived(tmp_path / "a.tgz", ("a", b"text"), special("b", tarfile.LNKTYPE, "./a"))
    with tarfile.open(pack_context(archive, tmp_path / "p.tar").uri) as packed:
        assert [(member.name, member.size, member.type) for member in packed] == [
            ("a", 4, tarfile.REGTYPE),
            ("b", 4, tarfile.REGTYPE),
        ]


@pytest.mark.parametrize(
    ("name", "target"),
    [("masked.service", "/dev/null"), ("app/static/etc/motd", "/run/motd"), ("app/static/a/b", "/etc/passwd")],
)
def test_link_that_means_the_image_is_packed_and_never_followed(
    folder: Path, tmp_path: Path, name: str, target: str
) -> None:
    link = folder / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target)
    pack_context(folder, tmp_path / "p.tar")
    with tarfile.open(tmp_path / "p.tar") as archive:
        assert archive.getmember(name).linkname == target
    assert "leads out of the context" in str(missing_file(scan(folder).members or {}, name, ("file",), folder))


@pytest.mark.parametrize(
    ("name", "target"), [("app/static", "/etc"), ("zero", "/dev/zero"), ("s/static/x", "../../../x")]
)
def test_no_other_link_means_the_image(folder: Path, tmp_path: Path, name: str, target: str) -> None:
    link = folder / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target)
    with pytest.raises(InputError, match="leads out of the context"):
        pack_context(folder, tmp_path / "p.tar")


@pytest.mark.parametrize(
    ("target", "leads_out"),
    [
        ("/bin/sh", True),
        ("../x", True),
        ("etc/../../context/run.sh", True),
        ("bad", True),  # itself
        ("outer/x", True),  # over a link that leads out
        ("run.sh", False),
        ("etc/../run.sh", False),
        ("absent", False),
    ],
)
def test_link_that_leads_out_is_refused(folder: Path, tmp_path: Path, target: str, leads_out: bool) -> None:
    (folder / "bad").symlink_to(target)
    if target.startswith("outer"):
        (folder / "outer").symlink_to("..")
    if not leads_out:
        pack_context(folder, tmp_path / "p.tar")
        return
    with pytest.raises(InputError, match=r"'bad' is a link to .*, which leads out of the context or in a circle"):
        pack_context(folder, tmp_path / "p.tar")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["context"]


def test_special_files_are_refused(folder: Path, tmp_path: Path) -> None:
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        directory = os.open(folder, os.O_RDONLY)  # a socket's path may have 107 bytes, and tmp_path is long
        listener.bind(f"/proc/self/fd/{directory}/socket")
        os.close(directory)
        with pytest.raises(InputError) as caught:
            pack_context(folder, tmp_path / "p.tar")
    assert sorted(str(caught.value).splitlines()) == [
        f"{folder}: 'fifo' is a device, socket or fifo; remove it",
        f"{folder}: 'socket' is a device, socket or fifo; remove it",
    ]


def test_name_that_is_not_utf_8_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / os.fsdecode(b"caf\xe9")).write_text("x")
    with pytest.raises(InputError, match="whose name is not UTF-8; rename it"):
        pack_context(folder, tmp_path / "p.tar")


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (
            special("/etc/passwd", tarfile.REGTYPE),
            "'/etc/passwd' lies outside the context; pack it with relative paths",
        ),
        (special("a/../../b", tarfile.REGTYPE), "'a/../../b' lies outside the context; pack it with relative paths"),
        (special("null", tarfile.CHRTYPE), "'null' is a device, socket or fifo; remove it"),
        (special("pipe", tarfile.FIFOTYPE), "'pipe' is a device, socket or fifo; remove it"),
        (
            special("l", tarfile.SYMTYPE, "/etc"),
            "'l' is a link to '/etc', which leads out of the context or in a circle",
        ),
        (special("h", tarfile.LNKTYPE, "/etc/passwd"), "'h' is a hard link to a file that is not in the archive"),
        (special("file/below", tarfile.REGTYPE), "'file/below' lies below 'file', which is no folder; rename one"),
    ],
)
def test_bad_member_of_an_archive_is_refused(tmp_path: Path, member: tarfile.TarInfo, message: str) -> None:
    archive = archived(tmp_path / "a.tgz", ("file", b"x"), member)
    with pytest.raises(InputError) as caught:
        pack_context(archive, tmp_path / "p.tar")
    assert str(caught.value).startswith(f"{archive}: {message}")
    found = scan(archive)
    assert found.members is not None
    assert found.problems == [str(caught.value).removeprefix(f"{archive}: ")]


def test_archive_with_git_folder_is_packed_without(tmp_path: Path) -> None:
    archive = archived(tmp_path / "a.tar", (".git/HEAD", b"x"), ("sub/.git", b"x"), ("a", b"y"), mode="w")
    with tarfile.open(pack_context(archive, tmp_path / "p.tar").uri) as packed:
        assert packed.getnames() == ["a"]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_damaged_archive_is_refused_wherever_it_breaks_off(tmp_path: Path, mode: str) -> None:
    whole = archived(tmp_path / "whole", ("a", os.urandom(5000)), ("b", os.urandom(5000)), mode=mode).read_bytes()
    for length in (0, 100, len(whole) // 4, len(whole) // 2):
        (tmp_path / "cut.tar").write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"cut\.tar is no whole tar archive"):
            pack_context(tmp_path / "cut.tar", tmp_path / "p.tar")
    (tmp_path / "cut.tar").write_bytes(whole[:100] + b"\xff" * 2000 + whole[2100:])
    with pytest.raises(InputError, match=r"cut\.tar is no whole tar archive"):
        pack_context(tmp_path / "cut.tar", tmp_path / "p.tar")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.tar", "whole"]


def test_single_file_is_a_context_of_that_file_alone(tmp_path: Path) -> None:
    """start-image-build -build-context: a path to a file or directory."""
    (tmp_path / "alone").mkdir()
    for place in (tmp_path / "run.sh", tmp_path / "alone/run.sh"):
        place.write_bytes(b"true\n")
        place.chmod(0o755)
    packed = pack_context(tmp_path / "run.sh", tmp_path / "p.tar")
    assert packed.digest == pack_context(tmp_path / "alone", tmp_path / "q.tar").digest
    assert (tmp_path / "p.tar").read_bytes() == (tmp_path / "q.tar").read_bytes()
    (tmp_path / "empty").touch()
    assert scan(tmp_path / "empty") == Scan({"empty": Member("file")}, [], {})


@pytest.mark.parametrize("start", [b"\x1f\x8b\x08", b"PK\x03\x04", b"BZh9", b"x" * 257 + b"ustar"])
def test_file_that_begins_as_an_archive_is_no_single_file(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "files").write_bytes(start + b"x" * 2000)
    with pytest.raises(InputError, match="files is no whole tar archive"):
        pack_context(tmp_path / "files", tmp_path / "p.tar")


def test_damaged_second_header_is_not_taken_for_the_end(tmp_path: Path) -> None:
    whole = bytearray(archived(tmp_path / "a.tar", ("a", b"x" * 512), ("b", b"y"), mode="w").read_bytes())
    whole[1024 + 10] ^= 1
    (tmp_path / "a.tar").write_bytes(whole)
    with pytest.raises(InputError, match="damaged header at byte 1024"):
        pack_context(tmp_path / "a.tar", tmp_path / "p.tar")


def test_context_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "context").mkdir()
    with (tmp_path / "context/huge").open("wb") as file:
        file.truncate((4 << 30) + 1)
    with pytest.raises(InputError, match=f"holds more than 4 GiB or {MEMBER_LIMIT} files; keep large data in a bucket"):
        pack_context(tmp_path / "context", tmp_path / "p.tar")


def test_archive_that_claims_to_be_large_is_refused_unread(tmp_path: Path) -> None:
    info = special("huge", tarfile.REGTYPE)
    info.size = 5 << 30
    (tmp_path / "a.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT))
    with pytest.raises(InputError, match="holds more than 4 GiB"):
        pack_context(tmp_path / "a.tar", tmp_path / "p.tar")


def test_place_that_is_no_context(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent does not exist; write the path of a folder or tar archive"):
        pack_context(tmp_path / "absent", tmp_path / "p.tar")
    with pytest.raises(InputError, match="/dev/null is neither a folder nor a file"):
        pack_context(Path("/dev/null"), tmp_path / "p.tar")


def test_target_that_cannot_be_written_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "taken/x").mkdir(parents=True)
    with pytest.raises(InputError, match="the context cannot be packed"):
        pack_context(folder, tmp_path / "taken")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["context", "taken"]


def test_memory_does_not_grow_with_the_files(tmp_path: Path) -> None:
    (tmp_path / "context").mkdir()
    with (tmp_path / "context/large").open("wb") as file:
        file.truncate(100 << 20)
    tracemalloc.start()
    try:
        pack_context(tmp_path / "context", tmp_path / "p.tar")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_scan_shows_a_bounded_number_of_problems(tmp_path: Path) -> None:
    for number in range(SHOWN_PROBLEMS + 5):
        (tmp_path / f"link{number}").symlink_to("/")
    found = scan(tmp_path)
    assert found.members is not None
    assert len(found.problems) == SHOWN_PROBLEMS + 1
    assert found.problems[-1] == "holds 5 more such members; see above"


def test_file_is_found_over_links(folder: Path) -> None:
    members = scan(folder).members
    assert members is not None
    (what,) = {missing_file(members, name, ("file",), folder) for name in ("run.sh", "./etc/../run.sh", "link")}
    assert what is None
    assert missing_file(members, "etc", ("file", "dir"), folder) is None
    assert missing_file(members, ".", ("dir",), folder) is None
    assert missing_file(members, ".", ("file",), folder) == "'.' is a folder; write the path of a file"


NAMES = st.sampled_from(["a", "b", "c"])
TARGETS = st.lists(st.sampled_from(["a", "b", "c", ".", "..", "", "x"]), max_size=4).map("/".join)


@settings(deadline=None)
@given(st.dictionaries(NAMES, TARGETS), TARGETS)
def test_resolved_path_is_inside_and_no_link(links: dict[str, str], path: str) -> None:
    members = {name: Member("link", target=target) for name, target in links.items()}
    found = resolve_link(members, path)
    assert found is None or (".." not in found.split("/") and not found.startswith("/"))
    assert found is None or found.split("/")[0] not in links
