"""The inventory of a VM: the package managers' answers, sent in a report and read by the host."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from provisioner.job import inventory
from provisioner.protocol import COMPLETED, INVENTORY, STARTED
from shared.disks.disk import Disk
from shared.images.packages import packages
from shared.sbom.inventory import read_inventory
from tests.provisioner.provisioning import Provisioning, job
from tests.shared.disks.small_disks import rooted
from tests.shared.images.package_trees import APK, COS, GONE, RPM, make_rpm_database, rpm_tree


@pytest.fixture(scope="module")
def rpm_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_rpm_database(tmp_path_factory.mktemp("rpm"))


@pytest.fixture
def root(tmp_path: Path, rpm_database: Path) -> Path:
    """Make an image with all kinds of databases, and the programs that read two of them."""
    tree = tmp_path / "tree"
    for folder in ("etc", "usr/bin", "lib/apk/db", "var/lib/dpkg"):
        (tree / folder).mkdir(parents=True)
    for program in ("rpm", "dpkg-query"):
        (tree / "usr/bin" / program).symlink_to(f"/usr/bin/{program}")
    rpm_tree(tree, rpm_database)
    (tree / "lib/apk/db/installed").write_text(APK)
    (tree / "etc/cos-package-info.json").write_text(json.dumps(COS))
    (tree / "var/lib/dpkg/status").write_text(Path("/var/lib/dpkg/status").read_text() + GONE)
    return tree


def test_a_vm_and_a_look_into_its_disk_tell_the_same(root: Path, tmp_path: Path) -> None:
    output, message = inventory.take(str(root))
    read = read_inventory(output, message)
    assert list(read.packages) == packages(Disk(rooted(tmp_path / "disk.raw", root)).root)
    assert message == f"{len(read.packages)} packages"
    assert (read.system, read.left_out) == ({"ID": "fedora", "VERSION_ID": "41"}, 0)
    assert {one.kind for one in read.packages} == {"dpkg", "rpm", "apk", "cos"}


def test_each_package_is_a_line_of_seven_fields(root: Path) -> None:
    lines = inventory.take(str(root))[0].split("\n")
    assert lines[:2] == ["os\tID\tfedora", "os\tVERSION_ID\t41"]
    assert "rpm\ttiny\t2:1.2-3\tnoarch\ttiny-1.2-3.src.rpm\tExample Works\tGPLv3+ and MIT" in lines
    assert "cos-build\tpkgconfig\t2\t\tvirtual/pkgconfig@2-r1\t\t" in lines
    assert {line.count("\t") for line in lines[2:] if not line.startswith("folder\t")} == {6}


def test_a_machine_with_no_database_has_nothing_to_tell(tmp_path: Path) -> None:
    assert inventory.take(str(tmp_path)) == ("", "0 packages")


def test_a_list_that_is_too_long_is_cut_and_says_so(tmp_path: Path) -> None:
    count = 9000
    many = "\n\n".join(
        f"P:package-{number:05}\nV:1.0-r{number}\nA:x86_64\nm:Ä. <{'x' * 40}>" for number in range(count)
    )
    (tmp_path / "lib/apk/db").mkdir(parents=True)
    (tmp_path / "lib/apk/db/installed").write_text(many)
    output, message = inventory.take(str(tmp_path))
    read = read_inventory(output)
    assert inventory.LIMIT * 0.9 < len(json.dumps(output)) <= inventory.LIMIT
    assert (message, len(read.packages) + read.left_out) == (f"{count} packages", count)
    assert 0 < read.left_out < count


def test_a_damaged_database_is_said_and_the_others_are_told(root: Path) -> None:
    (root / "etc/cos-package-info.json").write_text('{"installedPackages": [{}]}')
    (root / RPM / "rpmdb.sqlite").write_bytes(b"no database at all" * 300)
    (root / "lib/apk/db/installed").write_text("C:Q1\n")
    output, message = inventory.take(str(root))
    kinds = {one.kind for one in read_inventory(output).packages}
    assert kinds == {"dpkg"}
    assert [part.split(":")[0] for part in message.split("; ")][1:] == ["rpm", "apk", "cos"]


def test_odd_characters_break_no_line(tmp_path: Path) -> None:
    entry = {"category": "a\tb", "name": "x\ny", "version": 7, "ebuild_version": None}
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/cos-package-info.json").write_text(json.dumps({"installedPackages": [entry]}))
    (tmp_path / "etc/os-release").write_bytes(b'ID="de\tb\xff"\nVERSION_ID\nother=1\n')
    output, _message = inventory.take(str(tmp_path))
    told = [line for line in output.split("\n") if not line.startswith("folder")]
    assert told == ["os\tID\tde b\ufffd", "cos\tx y\t7\t\ta b/x y\t\t"]


def test_the_sizes_of_folders_are_told_before_the_packages(root: Path) -> None:
    output, _message = inventory.take(str(root))
    read = read_inventory(output)
    assert output.split("\n")[2].startswith("folder\t/\t")
    assert {"/", "/usr/lib", "/var/lib/dpkg"} <= {each.path for each in read.folders}
    assert read.left_out == 0


def test_the_report_comes_before_the_last_word(tmp_path: Path) -> None:
    machine = Provisioning(tmp_path / "m", job(inventory=True))
    (machine.root / "etc").mkdir()
    (machine.root / "etc/cos-package-info.json").write_text(json.dumps(COS))
    assert machine.run().status == 0
    assert machine.kinds() == [STARTED, INVENTORY, COMPLETED]
    report = machine.reports()[1]
    assert (report.sequence, report.message) == (2, "3 packages")
    assert [one.name for one in read_inventory(report.output).packages] == ["bash", "pkgconfig", "zlib"]


def test_a_job_without_inventory_reports_none(tmp_path: Path) -> None:
    machine = Provisioning(tmp_path / "m", job())
    assert machine.run().status == 0
    assert INVENTORY not in machine.kinds()


def test_a_package_manager_that_fails(root: Path, tmp_path: Path) -> None:
    program = root / "usr/bin/rpm"
    program.unlink()
    program.write_text("#!/bin/sh\necho broken >&2; exit 3\n")
    program.chmod(0o755)
    assert "rpm: exit status 3: broken" in inventory.take(str(root))[1]
