"""pax headers, as GNU tar and Python's tarfile read them."""

from __future__ import annotations

import io
import subprocess
import tarfile

import pytest

from shared.archives import pax
from shared.archives.pax import TarEntry, old_header, padding, pax_header
from shared.archives.sparse_tar import trailer

NANOSECOND = 1_600_000_000_123_456_789


def archive(*members: tuple[TarEntry, bytes, list[tuple[int, int]] | None]) -> bytes:
    data = b""
    for entry, contents, runs in members:
        data += pax_header(entry, runs) + contents + padding(len(contents))
    return data + trailer(len(data))


def file(name: bytes, contents: bytes = b"", **changes: object) -> tuple[TarEntry, bytes, None]:
    fields = {"mode": 0o644, "user": 0, "group": 0, "size": len(contents), "mtime_ns": 10**9} | changes
    return TarEntry(name, pax.FILE, **fields), contents, None  # type: ignore[arg-type]


def members(data: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:", errors="surrogateescape") as tar:
        return tar.getmembers()


def listed(data: bytes) -> list[str]:
    done = subprocess.run(
        ["tar", "-tvv", "--numeric-owner", "--full-time", "--quoting-style=escape", "-f", "-"],
        input=data,
        capture_output=True,
        check=True,
        env={"LC_ALL": "C", "TZ": "UTC", "PATH": "/usr/bin:/bin"},
    )
    assert not done.stderr
    return [" ".join(line.split()) for line in done.stdout.decode().splitlines()]


def test_what_the_old_header_holds_takes_no_records() -> None:
    data = archive(file(b"etc/hosts", b"127.0.0.1", user=3, group=4))
    assert len(data) == 10240
    assert listed(data) == ["-rw-r--r-- 3/4 9 1970-01-01 00:00:01 etc/hosts"]


@pytest.mark.parametrize("length", [99, 100, 101, 255, 256, 4000])
def test_names_of_any_length_and_bytes(length: int) -> None:
    name = (b"a/\xff\x80 \n" * length)[: length - 1] + b"z"
    [member] = members(archive(file(name)))
    assert member.name.encode("utf-8", "surrogateescape") == name


def test_large_numbers_fractions_of_seconds_and_times_before_1970() -> None:
    data = archive(file(b"a", user=8**7, group=4_000_000_000, mtime_ns=NANOSECOND), file(b"b", mtime_ns=-1_500_000_000))
    assert listed(data) == [
        "-rw-r--r-- 2097152/4000000000 0 2020-09-13 12:26:40.123456789 a",
        "-rw-r--r-- 0/0 0 1969-12-31 23:59:59.5 b",  # how GNU tar shows half a second before that
    ]


def test_links_devices_and_folders() -> None:
    def entry(name: bytes, kind: bytes, **changes: object) -> tuple[TarEntry, bytes, None]:
        fields = {"mode": 0o600, "user": 0, "group": 0, "size": 0, "mtime_ns": 0} | changes
        return TarEntry(name, kind, **fields), b"", None  # type: ignore[arg-type]

    data = archive(
        entry(b"d/", pax.FOLDER),
        entry(b"l", pax.LINK, target=b"t" * 150),
        entry(b"h", pax.HARD_LINK, target=b"l"),
        entry(b"c", pax.CHARACTERS, device=(4095, 1_048_575)),
        entry(b"b", pax.BLOCKS, device=(7, 0)),
        entry(b"p", pax.PIPE),
    )
    assert [line.split(" 1970-01-01 00:00:00 ") for line in listed(data)] == [
        ["drw------- 0/0 0", "d/"],
        ["lrw------- 0/0 0", f"l -> {'t' * 150}"],
        ["hrw------- 0/0 0", "h link to l"],
        ["crw------- 0/0 4095,1048575", "c"],
        ["brw------- 0/0 7,0", "b"],
        ["prw------- 0/0 0", "p"],
    ]


def test_attributes_are_any_bytes_and_a_record_counts_its_own_length() -> None:
    for length in (*range(60, 80), 950, 975, 976, 9970):  # where the digits of the length grow
        value = b"\n=\0" + b"v" * length
        [member] = members(archive(file(b"f", attributes={b"user.x": value})))
        assert member.pax_headers["SCHILY.xattr.user.x"].encode("utf-8", "surrogateescape") == value


def test_a_sparse_file_keeps_its_holes_and_its_end() -> None:
    runs = [(4096, 512), (1 << 33, 1024)]
    entry = file(b"var/lastlog", size=(1 << 33) + 5000)[0]
    data = archive((entry, b"a" * 512 + b"b" * 1024, runs))
    assert len(data) == 10240
    [member] = members(data)
    assert (member.name, member.size) == ("var/lastlog", (1 << 33) + 5000)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        contents = tar.extractfile(tar.getmembers()[0])
        assert contents is not None
        contents.seek(4095)
        assert contents.read(514) == b"\0" + b"a" * 512 + b"\0"
        contents.seek(1 << 33)
        assert contents.read() == b"b" * 1024 + bytes(5000 - 1024)


def test_a_file_that_is_one_hole() -> None:
    [member] = members(archive((file(b"hole", size=1 << 20)[0], b"", [])))
    assert (member.size, member.issparse()) == (1 << 20, True)


def test_a_header_that_is_filled_in_later_is_one_block_whatever_the_size() -> None:
    for size in (0, 8**11 - 1, 8**11, 1 << 40):
        block = old_header(b"blobs/x", size)
        assert (len(block), tarfile.TarInfo.frombuf(block, "utf-8", "strict").size) == (512, size)
