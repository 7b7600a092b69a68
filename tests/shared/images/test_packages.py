"""Package databases of images: real ones where the tools that make them are at hand, damaged ones, forged ones."""

from __future__ import annotations

import json
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import pytest

from shared.disks.disk import Disk
from shared.errors import ImageFileError
from shared.images.packages import packages
from shared.ports import Package
from shared.sbom.packages import purl
from tests.shared.disks.small_disks import rooted, tool
from tests.shared.images.package_trees import APK, COS, GONE, RPM, TINY, make_rpm_database, put, rpm_tree


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    (folder / "etc").mkdir(parents=True)
    return folder


def found(tree: Path) -> list[Package] | None:
    disk = tree.parent / "disk.raw"
    disk.unlink(missing_ok=True)
    return packages(Disk(rooted(disk, tree)).root)


def refused(tree: Path, match: str) -> None:
    with pytest.raises(ImageFileError, match=match):
        found(tree)


def test_an_image_without_a_database_is_unknown(tree: Path) -> None:
    (tree / "var/lib/rpm").mkdir(parents=True)
    assert found(tree) is None


class TestDpkg:
    def test_a_real_status_is_read_as_dpkg_query_does(self, tree: Path) -> None:
        """The status of the machine that runs the tests, Debian or Ubuntu."""
        put(tree, "var/lib/dpkg/status", Path("/var/lib/dpkg/status").read_text() + GONE)
        put(tree, "etc/os-release", 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12"\n')
        shape = "${db:Status-Status}\t${Package}\t${Version}\t${Architecture}\t${source:Package}\t${source:Version}\n"
        lines = [line.split("\t") for line in tool("dpkg-query", "--show", "-f", shape).splitlines()]
        told = {tuple(line[1:4]): (line[4], line[5]) for line in lines if line[0] == "installed"}
        read = found(tree)
        assert read is not None
        assert {(one.name, one.version, one.architecture) for one in read} == set(told)
        assert {one.distribution for one in read} == {"debian-12"}
        for one in read:
            source, _, version = one.source.partition("@")
            assert (source or one.name, version or one.version) == told[one.name, one.version, one.architecture]

    def test_a_distroless_image_has_one_file_a_package(self, tree: Path) -> None:
        put(tree, "var/lib/dpkg/status.d/tzdata", "Package: tzdata\nVersion: 2024a-0\nArchitecture: all\n")
        put(tree, "var/lib/dpkg/status.d/tzdata.md5sums", "0 usr/share/zoneinfo\n")
        put(tree, "var/lib/dpkg/status.d/libc6", "Package: libc6\nSource: glibc (2.36)\nVersion: 2.36-9\n")
        assert found(tree) == [
            Package("libc6", "2.36-9", "", source="glibc@2.36"),
            Package("tzdata", "2024a-0", "all"),
        ]

    def test_a_package_without_a_version_is_damage(self, tree: Path) -> None:
        put(tree, "var/lib/dpkg/status", "Package: a\nStatus: install ok installed\n")
        refused(tree, "/var/lib/dpkg/status: a package has no name or version")

    def test_bytes_that_are_no_text_are_no_crash(self, tree: Path) -> None:
        put(tree, "var/lib/dpkg/status", bytes(range(256)) * 64)
        assert found(tree) == []

    def test_a_list_that_fills_memory_is_not_read(self, tree: Path) -> None:
        with put(tree, "var/lib/dpkg/status", "Package: a\n").open("r+b") as file:
            file.truncate(1 << 40)
        refused(tree, "/var/lib/dpkg/status: 1099511627776 bytes are too many")


@pytest.fixture(scope="module")
def rpm_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_rpm_database(tmp_path_factory.mktemp("rpm"))


def headers(database: Path) -> list[bytes]:
    with closing(sqlite3.connect(database / "rpmdb.sqlite")) as connection:
        return [blob for (blob,) in connection.execute("SELECT blob FROM Packages")]


def ndb(*blobs: bytes) -> bytes:
    """Packages.db as rpm's lib/backend/ndb/rpmpkg.c lays it out: a page of slots, then blobs in blocks of 16 bytes."""
    slots, body = [b"\0" * 8], b""
    for number, blob in enumerate(blobs, 1):
        whole = struct.pack("<4s3I", b"BlbS", number, 1, len(blob)) + blob
        whole += bytes(-(len(whole) + 12) % 16) + struct.pack("<2I4s", 0, len(blob), b"BlbE")
        slots.append(struct.pack("<4s3I", b"Slot", number, (4096 + len(body)) // 16, len(whole) // 16))
        body += whole
    page = struct.pack("<4s4I", b"RpmP", 0, 1, 1, len(blobs) + 1).ljust(32, b"\0") + b"".join(slots[1:])
    free = struct.pack("<4s3I", b"Slot", 0, 0, 0)
    return page + free * ((4096 - len(page)) // 16) + body


class TestRpm:
    def test_a_database_that_rpm_made_is_read_as_rpm_does(self, tree: Path, rpm_database: Path) -> None:
        read = found(rpm_tree(tree, rpm_database))
        assert read is not None
        assert read[1] == TINY
        assert [(one.name, one.version) for one in read] == [("other", "1.2-3"), ("tiny", "2:1.2-3")]

    def test_what_is_only_in_the_write_ahead_log_counts(self, tree: Path, rpm_database: Path, tmp_path: Path) -> None:
        """A machine that lost its power leaves the database and its -wal."""
        copy = tmp_path / "rpmdb.sqlite"
        copy.write_bytes((rpm_database / "rpmdb.sqlite").read_bytes())
        with closing(sqlite3.connect(copy)) as connection:
            connection.execute("DELETE FROM Packages WHERE hnum IN (SELECT hnum FROM Name WHERE key = 'other')")
            connection.commit()
            put(tree, "var/lib/rpm/rpmdb.sqlite", copy.read_bytes())
            put(tree, "var/lib/rpm/rpmdb.sqlite-wal", copy.with_name("rpmdb.sqlite-wal").read_bytes())
        read = found(tree)
        assert read is not None
        assert len(read) == 1

    def test_ndb_of_suse(self, tree: Path, rpm_database: Path) -> None:
        put(tree, "etc/os-release", "ID=fedora\nVERSION_ID=41\n")
        put(tree, f"{RPM}/Packages.db", ndb(*headers(rpm_database)))
        read = found(tree)
        assert read is not None
        assert TINY in read
        assert len(read) == 2

    def test_berkeley_db_is_unknown(self, tree: Path, caplog: pytest.LogCaptureFixture) -> None:
        put(tree, "var/lib/rpm/Packages", bytes(64))
        assert found(tree) is None
        assert "/var/lib/rpm/Packages is a Berkeley DB, which cannot be read" in caplog.text

    @pytest.mark.parametrize(
        ("data", "problem"),
        [
            (b"", "it has no table Packages"),
            (b"SQLite format 3\0" + bytes(4096), "file is not a database|malformed"),
            (b"no database at all" * 300, "file is not a database"),
        ],
    )
    def test_a_file_that_is_no_database(self, tree: Path, data: bytes, problem: str) -> None:
        put(tree, f"{RPM}/rpmdb.sqlite", data)
        refused(tree, f"/{RPM}/rpmdb.sqlite: the RPM database is damaged: ({problem})")

    @pytest.mark.parametrize(
        ("blob", "problem"),
        [
            (b"", "a header is cut off"),
            (b"\xff" * 64, "a header is larger than its blob"),
            (struct.pack(">2I", 0, 0), "no name, version or release"),
            ("text", "a package is no blob"),
        ],
    )
    def test_a_damaged_header(self, tree: Path, tmp_path: Path, blob: object, problem: str) -> None:
        with closing(sqlite3.connect(tmp_path / "forged")) as connection:
            connection.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob)")
            connection.execute("INSERT INTO Packages VALUES (1, ?)", (blob,))
            connection.commit()
        put(tree, f"{RPM}/rpmdb.sqlite", (tmp_path / "forged").read_bytes())
        refused(tree, problem)

    def test_a_forged_view_takes_no_time(self, tree: Path, tmp_path: Path) -> None:
        with closing(sqlite3.connect(tmp_path / "forged")) as connection:
            endless = (
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT x'00' AS blob, i AS hnum FROM n"
            )
            connection.execute(f"CREATE VIEW Packages AS {endless}")
            connection.commit()
        put(tree, f"{RPM}/rpmdb.sqlite", (tmp_path / "forged").read_bytes())
        refused(tree, "it has no table Packages")

    @pytest.mark.parametrize(
        ("at", "data", "problem"),
        [
            (0, b"XXXX", "does not begin as ndb does"),
            (12, b"\xff\xff\xff\x7f", "shorter than its own header says"),
            (32, b"XXXX", "there is no slot at 32"),
            (40, b"\xff\xff\xff\x0f", "damaged"),
            (40, b"\0\0\0\0", "package 1 is not where its slot says"),
            (4096 + 4, b"\x07", "package 1 is not where its slot says"),
            (4096 + 12, b"\xff\xff\xff\x7f", "package 1 is not where its slot says"),
        ],
    )
    def test_damaged_ndb(self, tree: Path, rpm_database: Path, at: int, data: bytes, problem: str) -> None:
        whole = bytearray(ndb(*headers(rpm_database)))
        whole[at : at + len(data)] = data
        put(tree, f"{RPM}/Packages.db", bytes(whole))
        refused(tree, problem)


class TestApk:
    def test_installed(self, tree: Path) -> None:
        put(tree, "lib/apk/db/installed", APK)
        put(tree, "etc/os-release", "ID=alpine\nVERSION_ID=3.20.3\n")
        maker = "Timo Teras <timo.teras@iki.fi>"
        read = found(tree)
        assert read is not None
        assert read[1] == Package("musl", "1.2.5-r1", "x86_64", "apk", "musl", maker, "MIT", "alpine-3.20.3")
        assert (read[0].name, read[0].source) == ("busybox-binsh", "busybox")

    def test_a_package_without_a_name_is_damage(self, tree: Path) -> None:
        put(tree, "lib/apk/db/installed", "C:Q1\nV:1\n")
        refused(tree, "/lib/apk/db/installed: a package has no name or version")


class TestContainerOptimizedOs:
    def test_its_own_list(self, tree: Path) -> None:
        put(tree, "etc/cos-package-info.json", json.dumps(COS))
        put(tree, "etc/os-release", "NAME='Container-Optimized OS'\nID=cos\nVERSION_ID=117\nBUILD_ID=18613.0.0\n")
        assert found(tree) == [
            Package("bash", "4.4_p23", "", "cos", "app-shells/bash@4.4_p23", distribution="cos-117"),
            Package("pkgconfig", "2", "", "cos", "virtual/pkgconfig@2-r1", distribution="cos-117", build_time=True),
            Package("zlib", "1.2.11", "", "cos", "sys-libs/zlib@1.2.11-r4", distribution="cos-117"),
        ]

    def test_half_a_character_is_none(self, tree: Path) -> None:
        """Mended: JSON may hold one, and it ended the publication of the image."""
        half = "\ud800"
        told = [{"name": f"a{half}", "version": half, "category": f"c{half}", "ebuild_version": f"1{half}"}]
        put(tree, "etc/cos-package-info.json", json.dumps({"installedPackages": told, "buildTimePackages": told}))
        read = found(tree)
        assert read is not None
        assert read[0] == Package("a?", "?", "", "cos", "c?/a?@1?")
        assert purl(read[0]) == "pkg:cos/a%3F@%3F"

    @pytest.mark.parametrize("text", ["", "[]", '{"installedPackages": [{}]}', '{"installedPackages": 1}', "[" * 9999])
    def test_what_is_no_such_list(self, tree: Path, text: str) -> None:
        put(tree, "etc/cos-package-info.json", text)
        refused(tree, "/etc/cos-package-info.json: is not the list")


def test_packages_that_differ_in_anything_have_one_order(tree: Path) -> None:
    """Mended: of a set, those that differed in vendor or licence alone came in the order of this process's hashes."""
    several = [f"P:a\nV:1\nA:x\no:s\nm:{vendor}\nL:{words}\n" for vendor in "dbca" for words in "hgfe"]
    put(tree, "lib/apk/db/installed", "\n".join(several))
    read = found(tree)
    assert read is not None
    assert [one.vendor + one.license for one in read] == [a + b for a in "abcd" for b in "efgh"]


def test_several_databases_are_all_read(tree: Path) -> None:
    put(tree, "lib/apk/db/installed", APK)
    put(tree, "etc/cos-package-info.json", json.dumps(COS))
    read = found(tree)
    assert read is not None
    assert {one.kind for one in read} == {"apk", "cos"}
