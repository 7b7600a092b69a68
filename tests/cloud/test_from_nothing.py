"""A source from nothing, submitted: a maker VM makes its root, runs elements there, and fills a second disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from emulator.cloud.cloud import Cloud
from shared.clock import SystemClock
from shared.disks.disk import Disk
from shared.elements.chosen import choose
from shared.images.catalogue import Catalogue
from tests.cloud.maker_image import add_maker_image, small_root
from tests.cloud.person import Person
from tests.provisioner.elements.element_folders import ORIGINAL, element

pytestmark = [pytest.mark.vm, pytest.mark.soak]

LONGEST = 1500.0  # seconds; on a quiet machine it takes some 150
STEPS = ("install programs", "create root", "elements", "look", "write root")
ELEMENTS = ("install-static", "sysctl")  # the original's, unmodified
SPEC = """\
name: rooted
source: {rootfs: root.tar.gz}
context: .
steps:
  - name: elements
    action: elements
    inputs:
      elements: [app, install-static, sysctl]
      path: [own, original]
    reads: []
  - name: look
    action: run-script
    inputs: {script: look.sh}
    reads: []
output: {family: rooted, disk_size_gb: 3}
build: {external_ip: true}
"""
LOOK = "#!/bin/bash\nset -eu\n[ ! -e /var/lib/cloud ] && ! ls | grep root.tar\nuname -n >/etc/built-on\n"
INSTALL = "#!/bin/bash\nset -eu\nmkdir -p /etc/sysctl.d\nsysctl-write-value vm.swappiness 10 of-the-app\n"
MANAGER = '#!/bin/bash\nset -eu\nprintf "%s\\n" "$*" >>/var/lib/installed\n'  # the root has no package manager


def test_a_root_from_nothing_becomes_an_image(person: Person, cloud: Cloud, debian_disk: Path) -> None:
    add_maker_image(cloud.home, debian_disk)
    folder = person.folder / "rooted"
    (folder / "own").mkdir(parents=True)
    small_root(debian_disk, folder / "root.tar.gz")
    files = {"install.d/50-app": INSTALL, "bin/install-packages": MANAGER, "static/etc/app.conf": "mine\n"}
    element(folder / "own", "app", files, needs="install-static sysctl")
    for each in choose(ELEMENTS, [str(ORIGINAL)], on_image=True).elements:
        shutil.copytree(each.folder, folder / "original" / each.name, symlinks=True)
    (folder / "look.sh").write_text(LOOK)
    (folder / "build.yaml").write_text(SPEC)
    person.goldsmith("submit", folder / "build.yaml", "--detach")
    build = person.until("rooted", lambda each: each.finished, LONGEST)
    assert build.outcome == "succeeded", build.reason
    assert [(step.name, step.status) for step in build.steps] == [(name, "done") for name in STEPS]

    assert build.plan is not None
    assert build.plan.origin is not None
    image = person.gcloud("compute", "images", "describe-from-family", "rooted")
    assert image["sourceDisk"].endswith(f"/gs-{build.id}-a1-root")
    assert (image["diskSizeGb"], image["labels"]["goldsmith-source"]) == ("3", build.plan.source.name)
    assert {feature["type"] for feature in image["guestOsFeatures"]} == {"VIRTIO_SCSI_MULTIQUEUE", "UEFI_COMPATIBLE"}
    with Disk(Catalogue(cloud.home, SystemClock()).disk(image["name"])) as disk:
        root = disk.root
        assert root.read("/etc/app.conf") == b"mine\n"
        assert b"vm.swappiness = 10" in root.read("/etc/sysctl.d/vm.swappiness.conf")
        assert root.read("/var/lib/installed").startswith(b"rsync")
        assert not root.exists("/usr/local/bin/sysctl-write-value")  # a program of the builder
        assert not root.exists("/var/lib/goldsmith")
    told = person.result("rooted-")
    spdx = json.loads(person.run("gsutil", "cat", told["sbom"]["spdx"]))
    assert {"bash", "libc6"} <= {package["name"] for package in spdx["packages"]}
