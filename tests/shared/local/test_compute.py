"""This machine as a Compute, without a VM: what check() refuses, disks, images, serial output, deletion."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from emulator.storage.endpoint import StorageEndpoint
from emulator.web.identity import Identity
from shared.build import resources
from shared.build.events import Stop
from shared.build.plan import Context, Plan
from shared.clock import SystemClock
from shared.disks.disk import Disk
from shared.errors import AlreadyExists, EnvironmentFault, InputError, NoSpace, NotFound, Permanent, Transient
from shared.host.build_folder import BuildFolder
from shared.images.catalogue import Catalogue
from shared.local.bucket import LocalBucket
from shared.local.compute import (
    KEPT_OUTPUT,
    REPORTS,
    LocalCompute,
)
from shared.machines.machines import Machines
from shared.machines.process import SERIAL_LIMIT
from shared.machines.record import Record
from shared.ports import Image, ImageRequest, Message, Resource
from shared.quantities import GIB
from tests.shared.disks.small_disks import left_clean, os_tree, partitioned, rooted, tool
from tests.world.driver_bucket import VERSIONS, fill, installing
from tests.world.values import BUILD_ID, NOON, plan

VM, BOOT = f"gs-{BUILD_ID}-a1-vm", f"gs-{BUILD_ID}-a1-boot"
SOURCE = plan().source.name
MIB = 1 << 20


def ignore(message: Message) -> None:
    """No machine is started here."""


def sparse(path: Path, size: int = 4 * MIB) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)
        file.seek(MIB)
        file.write(b"data" * 1024)
    return path


def silent(what: str, done: int, total: int) -> None:
    """Show no progress."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def catalogue(home: Path, tmp_path: Path) -> Catalogue:
    made = Catalogue(home, SystemClock())
    made.add(sparse(tmp_path / "source.raw"), SOURCE, family="debian-12")
    return made


@pytest.fixture
def compute(home: Path, catalogue: Catalogue) -> Iterator[LocalCompute]:
    with Machines(home, ignore) as machines:
        yield LocalCompute(home, catalogue, machines, SystemClock())


def exporting_to(target: Path) -> Plan:
    made = plan()
    return replace(made, image=replace(made.image, export_to=str(target)))


def image_request(**changes: object) -> ImageRequest:
    default = ImageRequest(
        "local", "new", BOOT, "local", "local", "made", {"goldsmith-build": BUILD_ID}, ("x",), "arm64"
    )
    return replace(default, **changes)  # type: ignore[arg-type]  # fields of ImageRequest, by name


def test_check_makes_nothing(compute: LocalCompute, tmp_path: Path) -> None:
    compute.check(exporting_to(tmp_path / "new" / "out" / "x.tar.gz"))
    assert not (tmp_path / "new").exists()


def test_check_asks_for_nothing_of_a_vm_where_none_is_made(
    compute: LocalCompute, catalogue: Catalogue, tmp_path: Path
) -> None:
    (tmp_path / "tree/etc").mkdir(parents=True)
    catalogue.add(rooted(tmp_path / "disk.raw", tmp_path / "tree"), "without-python")
    made = exporting_to(tmp_path / "x.tar.gz")
    made = replace(made, source=replace(made.source, name="without-python"))
    compute.check(made, boots=False)
    (tmp_path / "x.tar.gz").touch()
    with pytest.raises(InputError, match="exists already"):
        compute.check(made, boots=False)


def test_check_refuses_a_context_that_no_disk_of_files_can_hold(compute: LocalCompute) -> None:
    compute.check(replace(plan(), context=Context("/x/context.tar", "0" * 64, (4 << 30) - 1)))
    with pytest.raises(InputError, match="the context is 4294967296 bytes"):
        compute.check(replace(plan(), context=Context("/x/context.tar", "0" * 64, 4 << 30)))


def test_check_takes_an_image_for_another_architecture(compute: LocalCompute) -> None:
    """QEMU emulates its processor."""
    compute.check(plan(source=replace(plan().source, architecture="arm64")))


@pytest.mark.parametrize("python", ["usr/bin/python3", "usr/libexec/platform-python", "usr/bin/python3.6", None])
def test_check_refuses_an_image_without_python(
    compute: LocalCompute, catalogue: Catalogue, tmp_path: Path, python: str | None
) -> None:
    (tmp_path / "tree/etc").mkdir(parents=True)
    if python:
        (tmp_path / "tree" / python).parent.mkdir(parents=True)
        (tmp_path / "tree" / python).touch()
    catalogue.add(rooted(tmp_path / "disk.raw", tmp_path / "tree"), "other-1")
    made = plan(source=replace(plan().source, name="other-1"))
    if python:
        compute.check(made)
    else:
        with pytest.raises(InputError, match=r"^source: image other-1 has no python3, and .* Python 3.6"):
            compute.check(made)


@pytest.mark.parametrize(
    ("line", "refused"),
    [
        ("UUID=1 /boot ext4 defaults 0 2", True),
        ("/dev/sda3 /var/log xfs defaults", True),
        ("LABEL=root / ext4 defaults 0 1", False),
        ("UUID=1 /boot/efi vfat umask=0077 0 1", False),
        ("UUID=1 none swap sw 0 0", False),
        ("/dev/sdb1 /data ext4 defaults,nofail 0 2", False),
        ("tmpfs /tmp tmpfs defaults 0 0", False),
        ("# UUID=1 /var ext4 defaults 0 2", False),
    ],
)
def test_a_sandbox_is_refused_where_it_would_not_see_all_files(
    compute: LocalCompute, catalogue: Catalogue, tmp_path: Path, line: str, refused: bool
) -> None:
    (tmp_path / "tree/etc").mkdir(parents=True)
    (tmp_path / "tree/usr/bin").mkdir(parents=True)
    (tmp_path / "tree/usr/bin/python3").touch()
    (tmp_path / "tree/etc/fstab").write_text(f"{line}\n")
    catalogue.add(rooted(tmp_path / "disk.raw", tmp_path / "tree"), "split")
    made = plan(source=replace(plan().source, name="split"))
    compute.check(made)
    chroot = replace(made, machine=replace(made.machine, engine="chroot"))
    if refused:
        with pytest.raises(InputError, match=r"image split: /\S+ is a file system of its own, .*engine: vm"):
            compute.check(chroot)
    else:
        compute.check(chroot)


def test_check_refuses_a_driver_that_is_not_there(home: Path, catalogue: Catalogue, tmp_path: Path) -> None:
    """install-gpu (rule): an unknown version is an error that lists the valid ones, before anything is made."""
    wanted = installing(plan(), "1.2")
    identity = Identity(tmp_path / "identity")
    with Machines(home, ignore) as machines, StorageEndpoint(tmp_path / "storage", identity=identity) as storage:
        environment = {"STORAGE_EMULATOR_HOST": storage.url}
        compute = LocalCompute(home, catalogue, machines, SystemClock(), environment)
        with pytest.raises(EnvironmentFault, match=r"answers 404 .*; connect this machine to the Internet, or name an"):
            compute.check(wanted)
        fill(storage.url)
        compute.check(installing(plan(), VERSIONS[1]))
        with pytest.raises(InputError, match=r"there is no driver 1\.2; write one of 390\.46, "):
            compute.check(wanted)


@pytest.mark.parametrize("name", ["x.tar.gz", "x.json", "x.spdx.json", "x.cdx.json"])
def test_check_refuses_what_would_be_replaced(compute: LocalCompute, tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=f"{tmp_path}/{name} exists already; remove it, or choose another folder"):
        compute.check(exporting_to(tmp_path / "x.tar.gz"))


@pytest.mark.parametrize("name", ["x.qcow2", "x.tar.gz.sha256", "x.json"])
def test_check_refuses_what_one_of_several_formats_would_replace(
    compute: LocalCompute, tmp_path: Path, name: str
) -> None:
    made = exporting_to(tmp_path / "x.tar.gz")
    made = replace(made, image=replace(made.image, formats=("qcow2", "gce")))
    compute.check(made)
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=f"{tmp_path}/{name} exists already"):
        compute.check(made)


def test_check_refuses_a_tree_of_an_image_whose_root_cannot_be_read(
    compute: LocalCompute, catalogue: Catalogue, tmp_path: Path
) -> None:
    catalogue.add(partitioned(tmp_path / "bare.raw", "label: gpt\nstart=2048, size=20480\n"), "bare-1")
    made = exporting_to(tmp_path / "x.tar.gz")
    made = replace(made, source=replace(made.source, name="bare-1"))
    with pytest.raises(InputError, match=r"^output\.formats: oci, tar need the files of the image: .*/disk\.raw: "):
        compute.check(replace(made, image=replace(made.image, formats=("raw", "oci", "tar"))))


def test_files_are_there_whole_or_not_at_all(compute: LocalCompute, catalogue: Catalogue, tmp_path: Path) -> None:
    catalogue.add(rooted(tmp_path / "disk.raw", os_tree(tmp_path / "tree")), "new-1")
    out = tmp_path / "out"
    targets = {"vmdk": str(out / "x.vmdk"), "tar": str(out / "x.rootfs.tar")}
    done = compute.export_files("local", "new-1", targets, "fast", silent)
    assert {path.name for path in out.iterdir()} == {"x.vmdk", "x.rootfs.tar"}
    for file in done.files:
        path = Path(targets[file.format])
        assert (file.bytes, file.sha256) == (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())

    def interrupted(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compute.export_files("local", "new-1", {"vhd": str(out / "y.vhd")}, "fast", interrupted)
    assert {path.name for path in out.iterdir()} == {"x.vmdk", "x.rootfs.tar"}


def test_check_refuses_a_file_where_the_folder_should_be(compute: LocalCompute, tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(EnvironmentFault, match=f"{tmp_path}/out is not a folder; choose another place"):
        compute.check(exporting_to(tmp_path / "out" / "below" / "x.tar.gz"))


def test_check_refuses_a_place_that_cannot_be_written_to(compute: LocalCompute) -> None:
    with pytest.raises(EnvironmentFault, match=r"^no space: /proc/out: .* choose another place"):
        compute.check(exporting_to(Path("/proc/out/x.tar.gz")))


@pytest.mark.parametrize(("what", "boots"), [("the export", False), ("the build VM's disk", True)])
def test_check_looks_for_room(
    compute: LocalCompute, catalogue: Catalogue, tmp_path: Path, home: Path, what: str, boots: bool
) -> None:
    """A data-free answer of the file system cannot be had; so the need is made larger than any disk."""
    out = tmp_path / "out"
    compute_of_little_room = _Greedy(home, catalogue, compute, need=shutil.disk_usage(tmp_path).total)
    with pytest.raises(NoSpace) as caught:
        compute_of_little_room.check(exporting_to(out / "x.tar.gz"), boots=boots)
    assert what in str(caught.value)
    assert "make room there, or choose another place" in str(caught.value)
    assert not out.exists()


class _Greedy(LocalCompute):
    """A compute whose source images hold as much data as is said."""

    def __init__(self, home: Path, catalogue: Catalogue, other: LocalCompute, need: int) -> None:
        super().__init__(home, catalogue, other._machines, SystemClock())
        self._need = need

    def _data_bytes(self, image: str) -> int:
        return self._need


def test_a_source_that_is_gone_is_named(compute: LocalCompute, catalogue: Catalogue) -> None:
    catalogue.delete(SOURCE)
    with pytest.raises(NotFound, match=SOURCE):
        compute.check(plan())


@pytest.mark.parametrize("call", ["image", "images", "packages", "export", "label", "family", "deprecate"])
def test_projects_of_the_cloud_are_refused_with_the_way_to_get_their_images(compute: LocalCompute, call: str) -> None:
    calls: dict[str, Callable[[], object]] = {
        "image": lambda: compute.image("cos-cloud", "x"),
        "images": lambda: compute.images("cos-cloud"),
        "packages": lambda: compute.packages("cos-cloud", "x"),
        "export": lambda: compute.export_image("cos-cloud", "x", "x", "fast", silent),
        "label": lambda: compute.label_image(Image("cos-cloud", "x", "1", 0.0), {}),
        "family": lambda: compute.set_family("cos-cloud", "x", None),
        "deprecate": lambda: compute.deprecate_image("cos-cloud", "x", "y", None),
    }
    with pytest.raises(InputError, match=r"cos-cloud is on Google Cloud.*goldsmith images import"):
        calls[call]()


def test_image_is_made_once_of_one_disk_without_a_copy(compute: LocalCompute, home: Path, catalogue: Catalogue) -> None:
    disk = left_clean(BuildFolder(home, BUILD_ID).disk(BOOT))
    made = compute.create_image(image_request())
    assert (made.family, made.architecture, made.source_disk, made.licenses) == (None, "arm64", BOOT, ("x",))
    assert catalogue.disk("new").samefile(disk)
    assert compute.create_image(image_request(description="another word")) == made
    other = f"gs-{BUILD_ID}-a2-boot"
    left_clean(BuildFolder(home, BUILD_ID).disk(other))
    with pytest.raises(AlreadyExists, match="new"):
        compute.create_image(image_request(source_disk=other))


def test_vm_that_ended_before_it_had_cleaned_up_gives_no_image(compute: LocalCompute, home: Path) -> None:
    left_clean(BuildFolder(home, BUILD_ID).disk(BOOT), "var/lib/goldsmith")
    with pytest.raises(Permanent, match="ended before it had cleaned up"):
        compute.create_image(image_request())


@pytest.mark.parametrize(
    ("how", "why"),
    [
        (None, "the process that ran it ended"),  # both were killed
        ("lost", "was killed by signal 9"),
        ("", "it has left no record"),
        ("powered-off", ""),
    ],
)
def test_sandbox_that_was_lost_after_its_last_report_gives_no_image(
    compute: LocalCompute, home: Path, catalogue: Catalogue, how: Stop | Literal[""] | None, why: str
) -> None:
    """The first is lost, and the second has to have written the disk: as root it is the source's until then."""
    left_clean(BuildFolder(home, BUILD_ID).disk(BOOT))
    second = VM.replace("a1", "a2")
    for name, end in ((VM, "lost"), (second, how)):
        folder = BuildFolder(home, BUILD_ID).machine(name)
        folder.mkdir(parents=True)
        if end != "":
            Record("boot.999999999.1", end, "was killed by signal 9" if end == "lost" else "").write(folder)
    if why:
        with pytest.raises(Permanent, match=why):
            compute.create_image(image_request(sandbox=second))
        assert catalogue.get("new") is None
        return
    made = compute.create_image(image_request(sandbox=second))
    compute.delete("machine", second, "local", "local")
    assert compute.create_image(image_request(sandbox=second)) == made  # an order that is delivered again


def test_file_system_that_was_cut_off_gives_no_image(compute: LocalCompute, home: Path, catalogue: Catalogue) -> None:
    disk = left_clean(BuildFolder(home, BUILD_ID).disk(BOOT))
    start = Disk(disk).root.partition.start
    tool("debugfs", "-w", "-R", "feature needs_recovery", f"{disk}?offset={start}")
    with pytest.raises(Permanent, match="ended before it had cleaned up"):
        compute.create_image(image_request())
    assert catalogue.get("new") is None


def test_image_of_a_disk_that_is_gone_fails_for_good(compute: LocalCompute) -> None:
    with pytest.raises(Permanent, match=f"disk {BOOT} is gone"):
        compute.create_image(image_request())


def test_labels_family_and_deprecation_are_the_catalogues(compute: LocalCompute) -> None:
    source = compute.image("local", SOURCE)
    assert source is not None
    compute.label_image(source, {"team": "infra"})
    compute.set_family("local", SOURCE, "other")
    compute.deprecate_image("local", SOURCE, "newer", NOON)
    image = compute.image("local", SOURCE)
    assert image is not None
    assert (image.labels, image.family, image.deprecated) == ({"team": "infra"}, "other", "DEPRECATED")
    assert (image.replacement, image.deletes_at) == ("newer", NOON)
    assert compute.images("local", prefix="debian") == [image]
    assert compute.images("local", family="debian-12") == []
    assert compute.image("local", "nope") is None


def test_export_tells_its_two_pieces_of_work(compute: LocalCompute, catalogue: Catalogue, tmp_path: Path) -> None:
    said: list[tuple[str, int, int]] = []
    catalogue.add(sparse(tmp_path / "whole.raw", GIB), "whole")
    target = tmp_path / "x.tar.gz"
    record = compute.export_image("local", "whole", str(target), "fast", lambda *words: said.append(words))
    assert list(dict.fromkeys(what for what, _done, _total in said)) == ["writing the archive", "proving the archive"]
    assert all(0 < done <= total for _what, done, total in said)
    assert record.bytes == target.stat().st_size
    assert (record.disk_bytes, record.data_bytes <= MIB) == (GIB, True)


@pytest.mark.parametrize("at", ["writing the archive", "proving the archive"])
def test_an_export_that_is_ended_leaves_the_archive_of_the_one_before_and_nothing_once_that_is_deleted(
    compute: LocalCompute, catalogue: Catalogue, tmp_path: Path, at: str
) -> None:
    """The order of a long export comes twice: the second delivery is ended when the first is published."""
    catalogue.add(sparse(tmp_path / "whole.raw", GIB), "whole")
    target = tmp_path / "out" / ".x.tar.gz"
    record = compute.export_image("local", "whole", str(target), "fast", lambda *words: None)

    def end(what: str, done: int, total: int) -> None:
        if what == at:
            raise Transient("not wanted any more")

    with pytest.raises(Transient):
        compute.export_image("local", "whole", str(target), "fast", end)
    assert hashlib.sha256(target.read_bytes()).hexdigest() == record.sha256
    LocalBucket(tmp_path).delete(str(target))
    assert list(target.parent.iterdir()) == []


def test_packages_are_read_from_the_disk_where_that_can_be(
    compute: LocalCompute, catalogue: Catalogue, tmp_path: Path
) -> None:
    catalogue.add(rooted(tmp_path / "small.raw", os_tree(tmp_path / "tree")), "small")
    packages = compute.packages("local", "small")
    assert packages is not None
    assert [package.name for package in packages] == ["adduser", "zlib1g"]


def test_serial_output_goes_on_where_it_ended(compute: LocalCompute, home: Path) -> None:
    folder = BuildFolder(home, BUILD_ID).machine(VM)
    folder.mkdir(parents=True)
    with pytest.raises(NotFound, match=VM):
        compute.serial_output(VM, "local", "local", 1, 0)
    (folder / "console.log").write_bytes(b"hello")
    (folder / "reports.log").write_bytes(b"report")
    assert compute.serial_output(VM, "local", "local", 1, 0) == (b"hello", 5)
    assert compute.serial_output(VM, "local", "local", 1, 5) == (b"", 5)
    with (folder / "console.log").open("ab") as file:
        file.write(b" world")
    assert compute.serial_output(VM, "local", "local", 1, 5) == (b" world", 11)
    assert compute.serial_output(VM, "local", "local", 3, 2) == (b"port", 6)


def test_a_report_port_that_was_flooded_gives_its_end_alone(compute: LocalCompute, home: Path) -> None:
    """The watch reads it whole, again and again: as of Compute Engine, what is older cannot be read any more."""
    folder = BuildFolder(home, BUILD_ID).machine(VM)
    folder.mkdir(parents=True)
    with (folder / "reports.log").open("wb") as file:
        file.truncate(SERIAL_LIMIT)
        file.seek(0, os.SEEK_END)
        file.write(b"the end")
    output, end = compute.serial_output(VM, "local", "local", 3, 0)
    assert (len(output), output[-7:], end) == (KEPT_OUTPUT[REPORTS], b"the end", SERIAL_LIMIT + 7)
    assert compute.serial_output(VM, "local", "local", 3, end - 3) == (b"end", end)


def test_labelled_lists_what_builds_have_made(compute: LocalCompute, home: Path) -> None:
    assert list(compute.labelled("local")) == []
    folder = BuildFolder(home, BUILD_ID)
    folder.label(resources.labels(plan().build_id, 1, NOON + plan().timeout))
    folder.machine(VM).mkdir(parents=True)
    sparse(folder.disk(BOOT))
    expires = NOON + plan().timeout + resources.EXPIRY_MARGIN
    assert list(compute.labelled("local")) == [
        Resource("machine", VM, "local", BUILD_ID, expires),
        Resource("disk", BOOT, "local", BUILD_ID, expires),
    ]
    (folder.path / "labels.json").write_text("{")
    assert {resource.expires for resource in compute.labelled("local")} == {0.0}  # of unknown builds: due


def test_everything_can_be_deleted_twice(compute: LocalCompute, home: Path) -> None:
    folder = BuildFolder(home, BUILD_ID)
    for _ in range(2):
        compute.delete("machine", VM, "local", "local")
        compute.delete("disk", BOOT, "local", "local")
        compute.delete("image", SOURCE, "local", "")
        assert list(compute.labelled("local")) == []
        assert compute.image("local", SOURCE) is None
        folder.machine(VM).mkdir(parents=True)
        sparse(folder.disk(BOOT))
    assert compute.machine(VM, "local", "local") is None


def test_only_resources_of_builds_can_be_deleted(compute: LocalCompute, tmp_path: Path) -> None:
    for name in ("../../etc", "gs-x", "gs--a1-vm", str(tmp_path)):
        with pytest.raises(InputError, match="is not the name of a machine or disk of a build"):
            compute.delete("disk", name, "local", "")
    assert Path("/etc").is_dir()
