import json
import os
import subprocess
import tarfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from shared.budget import ROOT_ARCHIVE_BOUNDS, Bounds, Budget
from shared.errors import ImageFileError, InputError
from shared.origins.packed import FilePart, plain_stream
from shared.origins.tree_maker import TreeMaker
from shared.sandbox.roots.unpack_root import DeviceNode, remove_unpacked
from shared.sandbox.user_namespace import run_with_all_ids
from tests.shared.origins.archives import TIME, Entry, compressed, entry, folder, hard_link, link, packed, write
from tests.shared.sandbox.ordinary_user import AS_USER, run
from tests.shared.sandbox.trees import CAPABILITY, in_folder, packed_acl

pytestmark = pytest.mark.slow

SMALL = Bounds("a test", read=1 << 20, kept=8 << 20, steps=10_000, remedy="leave it")
CANARY = "canary"
WAYS = ("tar", "gz", "bz2", "xz", "zst")


@pytest.fixture
def place(place: Path) -> Path:
    (place / CANARY).mkdir()
    (place / CANARY / "file").write_text("untouched")
    (place / CANARY).chmod(0o777)
    return place


def made(place: str, layered: str, *groups: str) -> Any:
    """Unpack archives over each other; describe the files as their owner sees them, or say why that cannot be."""
    results = []
    for group in groups:
        tree = Path(place) / "tree"
        try:
            results.append(json.loads(run_with_all_ids(partial(_made, tree, layered, group))))
        except InputError as error:
            results.append(str(error))
        finally:
            remove_unpacked(tree)
    return results


def _made(tree: Path, layered: str, names: str) -> str:
    maker = TreeMaker(tree, "the archive", Budget(ROOT_ARCHIVE_BOUNDS, "the archive"))
    for path in map(Path, names.split(":")):
        with path.open("rb") as file:
            size = path.stat().st_size
            with plain_stream(FilePart(file.fileno(), 0, size), Budget(ROOT_ARCHIVE_BOUNDS, path, size)) as stream:
                maker.add(stream, layer=bool(layered))
    devices = [device.__dict__ for device in maker.finish().devices]
    return json.dumps([in_folder(tree), devices, maker._dropped])


def unpack_all(mode: str, place: Path, groups: Sequence[Sequence[bytes]], *, layered: bool = False) -> list[Any]:
    """Unpack groups of archives, one after the other; nothing outside of their tree may have changed."""
    paths = [
        [str(write(place / f"archive-{number}-{index}", data)) for index, data in enumerate(group)]
        for number, group in enumerate(groups)
    ]
    found: list[Any] = run(mode, made, place, "yes" if layered else "", *(":".join(group) for group in paths))
    for path in (Path(name) for group in paths for name in group):
        path.unlink()
    assert [path.name for path in place.iterdir()] == [CANARY]
    assert [path.name for path in (place / CANARY).iterdir()] == ["file"]
    assert (place / CANARY / "file").read_text() == "untouched"
    return found


def unpack(mode: str, place: Path, *each: Sequence[Entry], layered: bool = False) -> Any:
    (found,) = unpack_all(mode, place, [[packed(entries) for entries in each]], layered=layered)
    assert not isinstance(found, str), found
    return found


def test_all_kinds_of_members_are_made(mode: str, place: Path) -> None:
    odd = b"\xff\n\xfe".decode("utf-8", "surrogateescape")
    exact = {"mtime": "1234567890.123456789"}
    entries = [
        folder("./", mode=0o751, uid=7, gid=8),
        folder("./deep/", uid=1000, gid=65534, mode=0o2755),
        entry("./deep/file", data=b"contents", uid=33, gid=33, mode=0o4750, pax_headers=exact),
        hard_link("./deep/again", "./deep/file"),
        link("./dangling", "../../../nowhere"),
        entry("./pipe", tarfile.FIFOTYPE, mode=0o640),
        entry("./null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        entry("./disk", tarfile.BLKTYPE, devmajor=259, devminor=300000, gid=6),
        entry("./implied/by/this", data=b"x"),
        entry(f"./{odd}", data=b"any bytes"),
        entry("./" + "x" * 255, data=b"long"),
    ]
    found, devices, _ = unpack(mode, place, entries)
    assert (found["/"]["mode"], found["/"]["owner"]) == (0o40751, [7, 8])
    assert (found["/deep"]["mode"], found["/deep"]["owner"]) == (0o42755, [1000, 65534])
    assert found["/deep"]["mtime"] == TIME * 10**9
    assert (found["/deep/file"]["mode"], found["/deep/file"]["owner"]) == (0o104750, [33, 33])
    assert found["/deep/file"]["mtime"] == 1234567890123456789
    assert {found[name]["same as"] for name in ("/deep/file", "/deep/again")} == {"/deep/again"}
    assert found["/dangling"]["target"] == "../../../nowhere"
    assert found["/pipe"]["mode"] == 0o10640
    implied = found["/implied/by"]
    assert (implied["mode"], implied["owner"], implied["mtime"]) == (0o40755, [0, 0], 0)
    assert {f"/{odd}", "/" + "x" * 255} <= found.keys()
    nodes = [DeviceNode(**device) for device in devices]
    assert nodes == [
        DeviceNode("/disk", "b", 259, 300000, 0o644, 0, 6, TIME * 10**9),
        DeviceNode("/null", "c", 1, 3, 0o666, 0, 0, TIME * 10**9),
    ]
    assert "/null" not in found


def test_attributes_are_kept_but_those_of_an_overlay(mode: str, place: Path) -> None:
    def records(**values: bytes) -> dict[str, str]:
        return {f"SCHILY.xattr.{key}": value.decode("utf-8", "surrogateescape") for key, value in values.items()}

    attributes = records(
        **{
            "security.capability": CAPABILITY,
            "user.note": b"\0\xffvalue",
            "system.posix_acl_access": packed_acl(),
            "trusted.overlay.opaque": b"y",
            "user.overlay.opaque": b"y",
        }
    )
    entries = [
        folder("./"),
        entry("file", data=b"1", mode=0o664, pax_headers=attributes),
        folder("ruled/", pax_headers=records(**{"system.posix_acl_default": packed_acl()})),
        entry("ruled/file", data=b"2"),
    ]
    found, _, dropped = unpack(mode, place, entries)
    assert sorted(found["/file"]["attributes"]) == ["security.capability", "system.posix_acl_access", "user.note"]
    assert list(found["/ruled"]["attributes"]) == ["system.posix_acl_default"]
    assert found["/ruled/file"]["attributes"] == {}  # a folder's rule is for files to come
    assert dropped == {"trusted.overlay.opaque": 1, "user.overlay.opaque": 1}


def test_every_compression_is_read_to_its_end(mode: str, place: Path) -> None:
    plain = packed([folder("./"), entry("a", data=os.urandom(100_000)), entry("b", data=b"b" * 700_000)])
    whole = [compressed(plain, way) for way in WAYS]
    cut = [data[: len(data) * 2 // 3] for data in whole]
    found = unpack_all(mode, place, [[data] for data in (*whole, *cut)])
    for tree, _, _ in found[: len(WAYS)]:
        assert (tree["/a"]["size"], tree["/b"]["size"]) == (100_000, 700_000)
    for told in found[len(WAYS) :]:
        assert isinstance(told, str)
        assert told.startswith("the archive: ")


def test_sparse_files_are_read_by_their_maps(mode: str, place: Path, tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.seek(1 << 30)
        file.write(b"data")
        file.truncate((3 << 30) + 10)
    archives = []
    for arguments in (
        ["--format=gnu"],
        *(["--format=pax", f"--sparse-version={version}"] for version in ("0.1", "1.0")),
    ):
        command = ["tar", "--sparse", *arguments, "-C", str(tmp_path), "-cf", "-", "large"]
        archives.append(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        assert len(archives[-1]) < 1 << 20
    first, *others = [found["/large"] for found, _, _ in unpack_all(mode, place, [[data] for data in archives])]
    assert first["size"] == (3 << 30) + 10
    assert [other["contents"] for other in others] == [first["contents"]] * 2


def test_the_last_member_of_a_name_counts(mode: str, place: Path) -> None:
    entries = [
        folder("a/"),
        entry("a/inside", data=b"1"),
        entry("a", data=b"a file now"),
        entry("b", data=b"1"),
        entry("b", data=b"22"),
        link("c", "/etc"),
        folder("c/"),
        entry("d", tarfile.CHRTYPE, devmajor=1, devminor=3),
        entry("d", data=b"no device"),
    ]
    found, devices, _ = unpack(mode, place, entries)
    assert sorted(found) == ["/", "/a", "/b", "/c", "/d"]
    assert (found["/a"]["size"], found["/b"]["size"]) == (10, 2)
    assert devices == []


def test_what_is_refused(mode: str, place: Path) -> None:
    canary = str(place / CANARY)
    hostile: list[tuple[str, list[Entry]]] = [
        ("leads out of", [entry("../" * 20 + f"{canary[1:]}/new", data=b"x")]),
        ("leads out of", [folder("a/"), entry("a/../../b", data=b"x")]),
        ("leads out of", [hard_link("a", f"../../..{canary}/file")]),
        ("is another name of itself", [entry("a", data=b"x"), hard_link("a", "./a")]),
        ("is another name of the root", [hard_link("a", "/")]),
        ("No such file", [hard_link("a", f"{canary}/file")]),
        ("Not a directory", [entry("a", data=b"x"), entry("a/b", data=b"x")]),
        ("is the root", [entry("./", tarfile.SYMTYPE, linkname="/")]),
        ("of no possible number", [entry("a", tarfile.CHRTYPE, devmajor=4096, devminor=0)]),
        ("File name too long", [entry("y" * 256, data=b"x")]),
        ("File name too long", [entry("b/" * 3000)]),
        ("Too many levels", [link("a", "b"), link("b", "a"), entry("a/c", data=b"x")]),
        ("at no time", [entry("a", pax_headers={"mtime": "inf"})]),
        ("File exists", [link("a", "nowhere"), entry("a/b", data=b"x")]),
        ("not permitted", [folder("a/"), hard_link("b", "a")]),
        ("unknown type", [entry("a", b"Q")]),
    ]
    found = unpack_all(mode, place, [[packed([folder("./"), *entries])] for _, entries in hostile])
    for (why, _), told in zip(hostile, found, strict=True):
        assert why in told
        assert told.startswith("the archive: ")


def test_a_link_leads_nowhere_but_into_the_tree(mode: str, place: Path) -> None:
    """What a path would reach of the host is made in the tree, as it is for the system in it."""
    canary = str(place / CANARY)
    entries = [
        folder("./"),
        link("away", canary),
        folder(canary.lstrip("/") + "/"),
        entry("away/new", data=b"x"),
        link("up", "../../../../../.."),
        entry("up/top", data=b"y"),
        entry(f"{canary}/absolute", data=b"z"),
    ]
    found, _, _ = unpack(mode, place, entries)
    assert {f"{canary}/new", "/top", f"{canary}/absolute"} <= found.keys()


def test_what_is_no_archive_or_a_damaged_one_is_refused(mode: str, place: Path) -> None:
    data = bytearray(packed([folder("./"), entry("a", data=b"1"), entry("b", data=b"2")]))
    data[data.index(b"b\0\0\0") + 150] ^= 1  # in the header's checksum
    damaged, other, empty = unpack_all(mode, place, [[bytes(data)], [b"no archive at all" * 100], [b""]])
    assert "damaged" in damaged
    assert "cannot be read" in other
    assert "cannot be read" in empty


def test_a_bomb_is_not_read_to_its_end(tmp_path: Path) -> None:
    many = packed([folder("./"), *(entry(f"f{number}") for number in range(3000))])
    zeros = packed([entry("zeros", data=bytes(4 << 20))])
    for data, why in ((many, "entries"), (compressed(zeros, "zst"), "contents"), (compressed(zeros, "gz"), "contents")):
        file = write(tmp_path / "bomb", data)
        budget = Budget(SMALL, "the bomb")
        maker = TreeMaker(tmp_path / f"tree-{len(data)}", "the bomb", budget)
        with file.open("rb") as opened, plain_stream(FilePart(opened.fileno(), 0, len(data)), budget) as stream:
            with pytest.raises(ImageFileError, match=f"the bomb: .* {why}"):
                maker.add(stream, layer=False)
            assert stream.tell() < 2 << 20


def test_ids_that_a_namespace_lacks_are_refused_without_root(mode: str, place: Path) -> None:
    (found,) = unpack_all(mode, place, [[packed([folder("./"), entry("a", uid=70_000, gid=70_000)])]])
    if mode == AS_USER:
        assert "without root only ids up to 65535" in found
    else:
        assert found[0]["/a"]["owner"] == [70_000, 70_000]


def test_whiteouts_hide_what_is_below(mode: str, place: Path) -> None:
    first = [folder("a/"), entry("a/one"), entry("a/two"), folder("b/"), entry("b/c/d"), entry("dev", tarfile.CHRTYPE)]
    second = [entry("a/.wh.one"), entry(".wh.b"), entry(".wh.dev"), entry("nowhere/.wh.x"), entry("a/.wh.nothing")]
    found, devices, _ = unpack(mode, place, first, second, layered=True)
    assert sorted(found) == ["/", "/a", "/a/two"]
    assert devices == []


def test_an_opaque_folder_hides_the_layers_below_alone(mode: str, place: Path) -> None:
    first = [folder("a/"), entry("a/old"), folder("a/deep/"), entry("a/deep/old"), entry("a/both", data=b"1")]
    second = [folder("a/"), entry("a/new"), entry("a/deep/new"), entry("a/both", data=b"22")]
    orders = [[*second[:at], entry("a/.wh..wh..opq"), *second[at:]] for at in (0, 1, 3, 4)]
    for found, _, _ in unpack_all(mode, place, [[packed(first), packed(order)] for order in orders], layered=True):
        assert sorted(found) == ["/", "/a", "/a/both", "/a/deep", "/a/deep/new", "/a/new"]
        assert found["/a/both"]["size"] == 2


def test_a_whiteout_hides_nothing_of_its_own_layer(mode: str, place: Path) -> None:
    first = [folder("a/"), entry("a/old"), entry("b", data=b"1")]
    second = [folder("a/"), entry("a/new"), entry(".wh.a"), entry("b", data=b"22"), entry(".wh.b")]
    found, _, _ = unpack(mode, place, first, second, layered=True)
    assert sorted(found) == ["/", "/a", "/a/new", "/b"]
    assert found["/b"]["size"] == 2


def test_layers_go_over_each_other(mode: str, place: Path) -> None:
    first = [folder("usr/bin/"), link("bin", "usr/bin"), entry("usr/bin/a", data=b"1"), entry("null", tarfile.CHRTYPE)]
    second = [
        entry("bin/b", data=b"22"),  # where the link leads
        hard_link("bin/c", "usr/bin/a"),
        hard_link("null2", "null"),
        entry("bin/.wh..wh.plnk"),
    ]
    third = [folder("bin/"), entry("bin/own", data=b"333"), entry("usr/bin/.wh.a")]
    found, devices, _ = unpack(mode, place, first, second, third, layered=True)
    assert sorted(found) == ["/", "/bin", "/bin/own", "/usr", "/usr/bin", "/usr/bin/b", "/usr/bin/c"]
    assert [device["path"] for device in devices] == ["/null", "/null2"]


def test_odd_whiteouts(mode: str, place: Path) -> None:
    names = (".wh.", ".wh..", ".wh...")
    for told in unpack_all(
        mode, place, [[packed([entry("a")]), packed([entry(name)])] for name in names], layered=True
    ):
        assert "hides no name" in told
    found, _, _ = unpack(mode, place, [folder("a/" * 1500)], [entry(".wh.a")], layered=True)
    assert sorted(found) == ["/"]
    found, _, _ = unpack(mode, place, [entry("a"), entry(".wh.a")])  # a file, where there are no layers
    assert sorted(found) == ["/", "/.wh.a", "/a"]
