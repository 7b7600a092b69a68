"""What people and programs see of `goldsmith images diff`."""

from collections.abc import Callable
from pathlib import Path

import pytest

from goldsmith.commands.diff import LONG, folded, growth
from shared.clock import SystemClock
from shared.images.catalogue import Catalogue
from shared.images.diff.result import FileChange
from tests.goldsmith.command_line import Commands
from tests.shared.disks.small_disks import MIB, os_tree, rooted, tool


@pytest.fixture
def disk(tmp_path: Path) -> Callable[..., Path]:
    """Makes small disks of one tree, each with further files."""

    def make(name: str, further: dict[str, str]) -> Path:
        tree = os_tree(tmp_path / f"{name}-tree")
        for path, text in further.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_text(text)
        made = rooted(tmp_path / f"{name}.raw", tree, 16 * MIB)
        script = "label-id: 00000000-0000-4000-8000-000000000001"
        tool("sfdisk", "--quiet", "--disk-id", made, script.partition(": ")[2])
        for number in ("1", "15"):
            tool("sfdisk", "--quiet", "--part-uuid", made, number, f"00000000-0000-4000-8000-0000000000{number:>02}")
        tool("tune2fs", "-U", "00000000-0000-4000-8000-000000000002", f"{made}?offset={2 * MIB}")
        return made

    return make


def test_what_differs_is_said_line_by_line(run: Commands, home: Path, disk: Callable[..., Path]) -> None:
    before = disk("before", {"etc/motd": "hello", "etc/old": "x" * 1500})
    after = disk(
        "after", {"etc/motd": "HELLO", "opt/app/one": "1" * 2000, "opt/app/two": "2", "etc/sysctl.conf": "a.b=1"}
    )
    home.mkdir(mode=0o700)
    Catalogue(home, SystemClock()).add(before, "base")
    done = run("images", "diff", "base", after)
    assert (done.status, done.err) == (0, "comparing partition 1\ncomparing partition 15\n")
    assert done.out.splitlines() == [
        "- base",
        f"+ {after}",
        "",
        "kernel settings, by sysctl",
        "  + a.b = 1",
        "",
        "files in partition 1, ext4: 5 added, 1 removed, 1 changed, +506 bytes",
        "  ~ /etc/motd  other contents, 5 bytes",
        "  - /etc/old  1,500 bytes",
        "  + /etc/sysctl.conf  5 bytes",
        "  + /opt/  3 in it, 2,001 bytes",
    ]
    every = run("images", "diff", "base", after, "--all").out
    assert "  + /opt/\n  + /opt/app/\n  + /opt/app/one  2,000 bytes\n  + /opt/app/two  1 bytes\n" in every


def test_status_is_1_only_when_asked_for(run: Commands, disk: Callable[..., Path]) -> None:
    before, after = disk("before", {}), disk("after", {"etc/motd": "hello"})
    assert run("images", "diff", before, after).status == 0
    assert run("images", "diff", "--exit-code", before, after).status == 1
    same = run("images", "diff", "--exit-code", before, before)
    assert (same.status, same.out.splitlines()[-1]) == (0, "the images are the same, but for the times of their files")


def test_json_is_one_document(run: Commands, disk: Callable[..., Path]) -> None:
    before, after = disk("before", {}), disk("after", {"etc/motd": "hello"})
    done = run("images", "diff", "--json", before, after)
    document = done.document()
    assert (document["same"], document["before"], document["after"]) == (False, str(before), str(after))
    [root, esp] = document["contents"]
    added = {"path": "/etc/motd", "change": "added", "type": "file", "size": 5, "contents": False, "differences": {}}
    added["target"] = None
    assert (root["files"], esp["files"]) == ([added], [])


@pytest.mark.parametrize("form", ["qcow2", "tar.gz"])
def test_other_forms_are_unpacked_and_nothing_is_left(
    run: Commands, home: Path, disk: Callable[..., Path], tmp_path: Path, form: str
) -> None:
    raw = disk("disk", {})
    other = tmp_path / f"other.{form}"
    if form == "qcow2":
        tool("qemu-img", "convert", "-O", "qcow2", raw, other)
    else:
        tool("tar", "-C", raw.parent, "--transform", "s/.*/disk.raw/", "-Sczf", other, raw.name)
    done = run("images", "diff", "--exit-code", raw, other)
    assert done.status == 0, done.out + done.err
    assert f"unpacking {other} into a temporary file" in done.err
    assert list((home / "images").iterdir()) == []


def test_what_is_no_image_is_2(run: Commands, home: Path, tmp_path: Path, disk: Callable[..., Path]) -> None:
    raw = disk("disk", {})
    done = run("images", "diff", raw, "nothing")
    assert (done.status, done.out) == (2, "")
    assert "there is no image nothing, and no such file; see: goldsmith images list" in done.err
    (tmp_path / "text").write_text("text" * 400)
    done = run("images", "diff", tmp_path / "text", raw)
    assert (done.status, done.out) == (2, "")
    assert f"{tmp_path}/text: byte 510: no partition table" in done.err
    assert list((home / "images").iterdir()) == []


def test_a_long_list_is_summed_up_by_folder(run: Commands, disk: Callable[..., Path]) -> None:
    before = disk("before", {})
    after = disk("after", {f"etc/{folder}-{number}": "x" for folder in "ab" for number in range(LONG)})
    done = run("images", "diff", before, after)
    assert "  /etc        120       0       0            +120\n" in done.out
    assert done.out.endswith("  each of them: --all\n")
    assert run("images", "diff", before, after, "--all").out.count("  + /etc/") == 2 * LONG


def test_names_in_an_image_do_not_steer_the_terminal(run: Commands, disk: Callable[..., Path]) -> None:
    before, after = disk("before", {}), disk("after", {"etc/\x1b[31mred\n- fake": "x"})
    done = run("images", "diff", before, after)
    assert "\x1b" not in done.out
    assert "\n- fake" not in done.out


def test_only_what_is_in_a_new_folder_is_folded() -> None:
    def change(path: str, what: str, kind: str = "file", size: int = 1) -> FileChange:
        return FileChange(path, what, kind, size)  # type: ignore[arg-type]  # any of its literals

    files = [
        change("/a", "added", "folder", 0),
        change("/a/b", "added", "folder", 0),
        change("/a/b/c", "added"),
        change("/a-2", "added"),
        change("/d", "changed", "folder", 0),
        change("/d/e", "removed"),
        FileChange("/f", "changed", "file", 7, True, {"size": (10, 7)}),
    ]
    assert [(shown.path, [one.path for one in below]) for shown, below in folded(files)] == [
        ("/a", ["/a/b", "/a/b/c"]),
        ("/a-2", []),
        ("/d", []),
        ("/d/e", []),
        ("/f", []),
    ]
    assert growth(files) == 1 + 1 - 1 - 3
