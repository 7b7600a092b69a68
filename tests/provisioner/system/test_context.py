"""Unpacking the context has the same result as tarfile, for archives of ours and of GNU tar."""

from __future__ import annotations

import io
import subprocess
import tarfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.system.context import ENTRY_BYTES, TOO_MUCH, ContextError, read_context, unpack_context
from shared.context.packing import pack_context

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=60).filter(
    lambda name: name not in (".", "..") and len(name.encode()) < 250
)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)


def tree(folder: Path) -> dict[str, tuple[str, object]]:
    """Return all files below a folder."""
    found: dict[str, tuple[str, object]] = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = ("link", str(path.readlink()))
        elif path.is_dir():
            found[name] = ("folder", None)
        else:
            found[name] = (f"file {path.stat().st_mode & 0o777:o}", path.read_bytes())
    return found


@given(
    files=st.dictionaries(PATHS, st.binary(max_size=1500), max_size=5),
    links=st.dictionaries(NAMES, PATHS, max_size=2),
    shape=st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
def test_what_was_packed_comes_out(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], links: dict[str, str], shape: int
) -> None:
    folder = tmp_path_factory.mktemp("unpack")
    kept = {name: data for name, data in files.items() if not any(other.startswith(name + "/") for other in files)}
    roots = {name.split("/")[0] for name in kept}
    with tarfile.open(folder / "context.tar", "w", format=shape) as archive:
        for name, data in kept.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o755 if data else 0o640
            archive.addfile(member, io.BytesIO(data))
        for name, target in links.items():
            if name not in roots:
                member = tarfile.TarInfo(name)
                member.type, member.linkname = tarfile.SYMTYPE, target
                archive.addfile(member)
    unpack_context(str(folder / "context.tar"), str(folder / "out"))
    found = {name: kind for name, kind in tree(folder / "out").items() if kind[0] != "folder"}
    expected: dict[str, tuple[str, object]] = {
        name: ("file 755" if data else "file 640", data) for name, data in kept.items()
    }
    expected |= {name: ("link", target) for name, target in links.items() if name not in roots}
    assert found == expected


@pytest.mark.parametrize("shape", ["gnu", "pax", "ustar", "v7"])
def test_tars_of_the_usual_program_come_out(tmp_path: Path, shape: str) -> None:
    source = tmp_path / "source"
    (source / "deep/er").mkdir(parents=True)
    (source / "deep/er/file").write_bytes(b"x" * 3000)
    (source / "link").symlink_to("deep/er/file")
    (source / "empty").touch()
    if shape != "v7":
        (source / ("d" * 90)).mkdir()
        (source / ("d" * 90) / ("n" * 90)).write_text("long name")
    subprocess.run(["tar", f"--format={shape}", "-C", source, "-cf", tmp_path / "context.tar", "."], check=True)
    unpack_context(str(tmp_path / "context.tar"), str(tmp_path / "out"))
    assert tree(tmp_path / "out") == tree(source)


def test_unpacking_again_replaces(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("precious")
    (tmp_path / "in").write_text("new")
    subprocess.run(["tar", "-C", tmp_path, "-cf", tmp_path / "context.tar", "in"], check=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/in").symlink_to(outside)
    unpack_context(str(tmp_path / "context.tar"), str(tmp_path / "out"))
    assert ((tmp_path / "out/in").read_text(), outside.read_text()) == ("new", "precious")


@given(st.binary(max_size=2048), st.integers(0, 3000), st.integers(0, 255))
def test_garbage_is_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, place: int, value: int
) -> None:
    folder = tmp_path_factory.mktemp("garbage")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo("n" * 120)
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    damaged = bytearray(packed.getvalue())
    damaged[place] = value
    (folder / "context.tar").write_bytes(damaged)
    with suppress(ContextError, OSError):
        unpack_context(str(folder / "context.tar"), str(folder / "out"))
    assert {path.name for path in folder.iterdir()} <= {"context.tar", "out"}


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"5 a=\n" * 20_000, "a name of 100000 bytes"), (b"1" * 60_000, "is not a number")],
    ids=["many records", "many digits"],
)
def test_records_that_take_long_to_read_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    member = tarfile.TarInfo("records")
    member.type, member.size = tarfile.XHDTYPE, len(data)
    (tmp_path / "context.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512))
    with pytest.raises(ContextError, match=message):
        unpack_context(str(tmp_path / "context.tar"), str(tmp_path / "out"))


def test_a_size_beyond_the_end_is_refused(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo("x")
        member.size = 9 << 30  # base-256 in the header
        archive.addfile(member)
    (tmp_path / "context.tar").write_bytes(packed.getvalue())
    with pytest.raises(ContextError, match="in the middle of a member"):
        unpack_context(str(tmp_path / "context.tar"), str(tmp_path / "out"))
    assert (tmp_path / "out/x").stat().st_size < 1 << 20


@given(
    files=st.dictionaries(PATHS, st.binary(max_size=1500), max_size=5),
    links=st.dictionaries(NAMES, NAMES, max_size=2),
    executable=st.booleans(),
)
def test_the_digest_is_the_one_that_packing_gave(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], links: dict[str, str], executable: bool
) -> None:
    folder = tmp_path_factory.mktemp("digest")
    source = folder / "source"
    source.mkdir()
    for name, data in files.items():
        with suppress(OSError):  # a file and a folder of one name
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(data)
            (source / name).chmod(0o755 if executable else 0o644)
    for name, target in links.items():
        if not (source / name).exists() and (source / target).exists():
            (source / name).symlink_to(target)
    made = pack_context(source, folder / "context.tar")
    unpack_context(made.uri, str(folder / "out"), made.digest)
    assert tree(folder / "out") == tree(source)
    with (folder / "context.tar").open("rb") as file:
        assert read_context(file) == made.digest


@pytest.mark.parametrize(
    ("names", "kind", "most", "why"),
    [
        ([f"e{number}" for number in range(11)], tarfile.REGTYPE, 10, TOO_MUCH),
        ([f"e{number}" for number in range(11)], tarfile.DIRTYPE, 10, TOO_MUCH),
        ([f"e{number}" for number in range(11)], tarfile.SYMTYPE, 10, TOO_MUCH),
        (["a/b/c/d", "a/b/e", "a/f/g"], tarfile.REGTYPE, 6, TOO_MUCH),
        (["a/" * 100 + "b"], tarfile.REGTYPE, 1000, "lies more than 100 folders deep"),
    ],
    ids=["files", "folders", "links", "folders above", "deep"],
)
def test_members_without_contents_count_where_what_is_unpacked_is_bounded(
    tmp_path: Path, names: list[str], kind: bytes, most: int, why: str
) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "x" if kind == tarfile.SYMTYPE else ""
            archive.addfile(member)
    (tmp_path / "out").mkdir()
    with pytest.raises(ContextError, match=why):
        read_context(io.BytesIO(packed.getvalue()), str(tmp_path / "out"), None, most * ENTRY_BYTES)
    assert len(list((tmp_path / "out").rglob("*"))) <= most
    if why == TOO_MUCH:
        (tmp_path / "all").mkdir()
        read_context(io.BytesIO(packed.getvalue()), str(tmp_path / "all"), None, (most + 1) * ENTRY_BYTES)
        assert len(list((tmp_path / "all").rglob("*"))) == most + 1


@pytest.mark.parametrize("size", [b"-0000000007\0", b"0000000_7\0\0\0"])
def test_a_size_that_is_no_number_is_refused(size: bytes) -> None:
    """A size below 0 would be read for ever."""
    header = bytearray(tarfile.TarInfo("x").tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = size
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + sum(header[156:]) + 8 * ord(" "))
    with pytest.raises(ContextError, match="is not an octal number"):
        read_context(io.BytesIO(bytes(header) + bytes(1024)))


def test_an_archive_that_is_not_the_one_that_was_asked_for_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("good")
    asked = pack_context(tmp_path / "in", tmp_path / "asked.tar").digest
    (tmp_path / "in").write_text("evil")
    pack_context(tmp_path / "in", tmp_path / "context.tar")
    with pytest.raises(ContextError, match=f"is not the one that was asked for: its digest is .*, not {asked}"):
        unpack_context(str(tmp_path / "context.tar"), str(tmp_path / "out"), asked)
    unpack_context(str(tmp_path / "context.tar"), str(tmp_path / "any"), "")
