"""A spec with elements or a disk that cannot be used: exit status 2, the place, and nothing is made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.goldsmith.command_line import Commands
from tests.provisioner.elements.element_folders import element

SPEC = """\
name: bad
context: .
source: {{elements: {{elements: [{names}], path: [{path}]}}}}
steps: [{{name: rest, action: elements}}]
local: {{network: false}}
"""
INSTALLS, MAP, SERVICES, DISK = "package-installs.yaml", "pkg-map", "svc-map", "block-device-default.yaml"
WRONG = """\
- local_loop: {name: image0, size: 1XB}
- partitioning:
    base: image0
    label: gpt
    partitions: [{name: root, size: 101%}, {name: root, size: 1GiB}, {name: b, size: -1GiB}, {name: c, size: 1GiB}]
- mkfs: {name: r, base: root, label: one, mount: {mount_point: /}}
- mkfs: {name: s, base: rot}
- mkfs: {name: t, base: c, label: one}
- local_lop: {}
- mount: {}
  fstab: {}
"""
LATE_PRIMARY = """\
- local_loop: {name: image0}
- partitioning:
    base: image0
    label: mbr
    partitions: [{name: b, size: 1GiB}, {name: root, size: 100%, flags: [primary]}]
- mkfs: {name: r, base: root, mount: {mount_point: /}}
"""


def bad(run: Commands, folder: Path, names: str, path: str = "elements") -> str:
    """Build a spec, which has to be refused, and return why."""
    (folder / "spec.yaml").write_text(SPEC.format(names=names, path=path))
    done = run("build", folder / "spec.yaml")
    assert (done.status, done.out) == (2, ""), done.err
    for made in ("images", "builds", "cache/elements"):
        assert not list((run.home / made).glob("[!.]*")), made
    return done.err


def system(folder: Path, files: Mapping[str, str] | None = None) -> None:
    root = {"root.d/10-root": "#!/bin/sh\ntouch $TARGET_ROOT/made\n"}
    element(folder / "elements", "system", {**root, **(files or {})}, provides="operating-system")


@pytest.mark.parametrize(
    ("names", "path", "why"),
    [
        ("system, sistem", "elements", "there is no element sistem in elements; did you mean system?"),
        ("system, one, two", "elements", "two is provided by one; leave one of them out"),
        ("system, other", "elements", "operating-system"),
        ("one", "elements", "operating-system"),
        ("system", "elements/system/root.d/10-root", "elements/system/root.d/10-root"),
        ("system", "nowhere", "nowhere"),
    ],
    ids=["unknown", "provided-by-each-other", "two-providers", "no-system", "a-file-as-path", "no-path"],
)
def test_elements_that_do_not_go_together_are_refused(
    run: Commands, tmp_path: Path, names: str, path: str, why: str
) -> None:
    system(tmp_path)
    element(tmp_path / "elements", "one", provides="two")
    element(tmp_path / "elements", "two", provides="one")
    element(tmp_path / "elements", "other", provides="operating-system")
    assert why in bad(run, tmp_path, names, path)


def test_all_files_of_elements_that_are_wrong_are_told_at_once(run: Commands, tmp_path: Path) -> None:
    system(
        tmp_path,
        {INSTALLS: "a:\n  arch: amd64\n  not-arch: arm64\nb:\n  wen: A = b\n", SERVICES: "web: {default: a}\n"},
    )
    broken = {INSTALLS: "a: [\n", "package-installs.json": '{"a": ', MAP: "{", SERVICES: "web: {\n"}
    element(tmp_path / "elements", "broken", broken)
    twice = {MAP: '{"familly": {}, "default": {}, "default": {}}', SERVICES: "web: {default: a}\nweb: {default: b}\n"}
    element(tmp_path / "elements", "twice", twice)
    told = bad(run, tmp_path, "system, broken, twice")
    for place in (
        f"system/{INSTALLS}:3:3: a.not-arch: stands beside arch",
        f"system/{INSTALLS}:5:3: b.wen: ",
        f"broken/{INSTALLS}:2:1: is not YAML",
        "broken/package-installs.json:2:1: is not",
        f"broken/{MAP}:1:",
        f"broken/{SERVICES}:2:1: is not YAML",
        f"twice/{MAP}:1:2: familly: is no section of a pkg-map",
        f"twice/{MAP}:1:32: ",
        f"twice/{SERVICES}:2:1: web: ",
    ):
        assert f"elements/{place}" in told, (place, told)
    assert str(tmp_path) not in told


def test_a_service_of_two_elements_is_refused(run: Commands, tmp_path: Path) -> None:
    system(tmp_path, {SERVICES: "web: {default: a}\n"})
    element(tmp_path / "elements", "more", {SERVICES: "web: {default: b}\n"})
    assert "more/svc-map:1:1: web: " in bad(run, tmp_path, "system, more")


def test_all_that_is_wrong_with_a_disk_is_told_at_once(run: Commands, tmp_path: Path) -> None:
    system(tmp_path, {DISK: WRONG})
    told = bad(run, tmp_path, "system")
    for place, text in (
        ("[0].local_loop.size", "'1XB' is no size; write one such as 550MiB, 4GiB or 10G"),
        ("[1].partitioning.partitions[0].size", "'101%' is out of range; write more than 0% and at most 100%"),
        ("[1].partitioning.partitions[1].name", "'root' is the name of a partition too"),
        ("[1].partitioning.partitions[2].size", "'-1GiB' is no size"),
        ("[3].mkfs.base", "'rot' is not a partition"),
        ("[4].mkfs.label", "one"),
        ("[5].local_lop", "unknown key; did you mean local_loop?"),
        ("[6]", "needs one key"),
    ):
        line = next((line for line in told.splitlines() if f": {place}: " in line), "")
        assert f"elements/system/{DISK}:" in line, (place, told)
        assert text in line, line
    (tmp_path / "elements" / "system" / DISK).write_text(LATE_PRIMARY)
    assert "[1].partitioning.partitions[1]" in bad(run, tmp_path, "system")
