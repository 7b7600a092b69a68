"""The images of elements are those of diskimage-builder itself, but for the differences in same_images.json.

Both build each set of elements from the same archives, one after the other. All of a set but the first begin with the
files of the tests' Debian, so that they take seconds. A difference that is not listed fails, and so does one that is
listed and has occurred in no set.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.provisioner.elements.element_folders import ORIGINAL, element
from tests.shared.sandbox.ordinary_user import AS_ROOT, MODES
from tests.system.command import Goldsmith
from tests.system.original_builder import OriginalBuilder

pytestmark = pytest.mark.soak

MIRROR = os.environ.get("GOLDSMITH_TEST_MIRROR", "http://deb.debian.org")
_PAIRS = ("table", "disk_bytes")
ALLOWED = Path(__file__).with_name("same_images.json")
UNPACK = (
    "#!/bin/bash\nset -eu\n"
    'sudo tar -C "$TARGET_ROOT" --numeric-owner --xattrs --xattrs-include=* -xpf "$TMP_HOOKS_PATH/files/root.tar"\n'
)
ENVIRONMENT = "export DISTRO_NAME=debian DIB_RELEASE=bookworm DIB_INIT_SYSTEM=systemd\n"
SOURCE = "hello tar /opt/hello {mirror}/debian/pool/main/h/hello/hello_2.10.orig.tar.gz hello-2.10\n"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExampleExampleExampleExampleExampleExample12345 ann\n"


@dataclass(frozen=True)
class ElementSet:
    """A list of elements, and the variables that it is built with."""

    elements: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)


SETS: Mapping[str, ElementSet] = {
    "whole disk": ElementSet(
        ("vm", "debian-minimal"),
        {
            "DIB_RELEASE": "bookworm",
            "DIB_DISTRIBUTION_MIRROR": f"{MIRROR}/debian",
            "DIB_DEBIAN_SECURITY_MIRROR": f"{MIRROR}/debian-security",
        },
    ),
    "data sources": ElementSet(
        ("-n", "kept-root", "cloud-init-datasources"), {"DIB_CLOUD_INIT_DATASOURCES": "NoCloud, GCE"}
    ),
    "user": ElementSet(
        ("-n", "kept-root", "devuser"),
        {"DIB_DEV_USER_USERNAME": "ann", "DIB_DEV_USER_AUTHORIZED_KEYS": "ELEMENTS/ann.pub"},
    ),
    "ssh": ElementSet(("-n", "kept-root", "openssh-server", "runtime-ssh-host-keys")),
    "growing root": ElementSet(("-n", "kept-root", "growroot")),
    "source": ElementSet(("-n", "kept-root", "fetched")),
}


def write_elements(folder: Path, rootfs: Path) -> None:
    """Write the elements of these tests: files of a Debian as the root, and a source-repository."""
    files = {
        "root.d/10-unpack": UNPACK,
        "pre-install.d/00-lists": "#!/bin/bash\napt-get -q -y update\n",
        "environment.d/10-kept-root.bash-": ENVIRONMENT,
    }
    kept = element(folder, "kept-root", files, needs="dpkg", provides="operating-system")
    (kept / "files").mkdir()
    shutil.copyfile(rootfs, kept / "files" / "root.tar")
    repository = {"source-repository-hello": SOURCE.format(mirror=MIRROR)}
    element(folder, "fetched", repository, needs="source-repositories")
    (folder / "ann.pub").write_text(KEY)


def differences(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield what `goldsmith images diff` has found as lines, one for each thing that is not the same."""
    yield from (f"{key}: {found[key][0]} -> {found[key][1]}" for key in _PAIRS if found[key][0] != found[key][1])
    if found["boot_code"]:
        yield "boot code"
    for partition in found["partitions"]:
        if partition["change"] in ("added", "removed"):
            yield f"partition: {partition['change']}"
        yield from (f"partition: {name}" for name in partition["fields"])
    for key in ("os_release", "sysctl"):
        yield from (f"{key} {name}: {before} -> {after}" for name, (before, after) in found[key].items())
    yield from (f"kernel {each['kernel']}: -{each['removed']} +{each['added']}" for each in found["kernels"])
    yield from (f"package {each['name']}: {each['before']} -> {each['after']}" for each in found["packages"])
    for inside in found["contents"]:
        yield from (line for file in inside["files"] for line in _of_file(file))
        if inside["different_bytes"]:
            yield f"bytes of {inside['file_system']}"
    yield from (f"note: {note}" for note in found["notes"])


def _of_file(file: Mapping[str, Any]) -> Iterator[str]:
    changes = [*(["contents"] if file["contents"] else []), *(key for key in file["differences"] if key != "size")]
    yield from (f"{file['path']}: {change}" for change in changes or [file["change"]])


@pytest.mark.parametrize("user", [mode for mode in MODES if mode == AS_ROOT], indirect=True)  # the original needs root
def test_the_images_are_those_of_diskimage_builder(empty: Goldsmith, debian_rootfs: Path) -> None:
    allowed = {re.compile(each["difference"]): each["reason"] for each in json.loads(ALLOWED.read_text())}
    assert all(allowed.values())
    original = OriginalBuilder(empty.folder)
    elements = empty.folder / "elements"
    write_elements(elements, debian_rootfs)
    only = os.environ.get("GOLDSMITH_SETS")
    chosen = {name: each for name, each in SETS.items() if only is None or name in only.split(",")}
    not_listed, occurred = [], set()
    for number, (name, each) in enumerate(chosen.items()):
        variables = {key: value.replace("ELEMENTS", str(elements)) for key, value in each.variables.items()}
        theirs, ours = (empty.folder / whose / f"image-{number}" for whose in ("theirs", "ours"))
        for file in (theirs, ours):
            file.parent.mkdir(exist_ok=True)
        words = ("-t", "raw", *each.elements)
        original.make(("-o", str(theirs), *words), {**variables, "ELEMENTS_PATH": str(elements)})
        path = ("--path", elements, "--path", ORIGINAL)
        done = empty.run("dib", *path, "-o", ours, *words, environment=variables)
        assert done.status == 0, done.text
        done = empty.run("images", "diff", "--json", f"{theirs}.raw", f"{ours}.raw")
        assert done.status == 0, done.text
        for line in differences(json.loads(done.out)):
            reasons = [pattern for pattern in allowed if pattern.fullmatch(line)]
            occurred.update(reasons)
            not_listed += [] if reasons else [f"{name}: {line}"]
        for file in (theirs, ours):
            file.with_suffix(".raw").unlink()
    assert not_listed == []
    assert only is not None or [pattern.pattern for pattern in allowed if pattern not in occurred] == []
