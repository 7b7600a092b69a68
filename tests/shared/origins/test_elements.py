"""Images that root.d of elements makes: what their keys are over, the disks, what is kept, as root and as a user."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.build.block_devices.description import default_disk
from shared.clock import SystemClock
from shared.disks.disk import Disk
from shared.disks.ext4.reader import Inode
from shared.errors import EnvironmentFault, InputError
from shared.host.programs import run_tool
from shared.images.catalogue import Catalogue
from shared.machines.machines import Machines
from shared.origins.elements import GROWTH, ElementsRequest, RootElements
from shared.origins.kept_origins import KeptOrigins
from shared.quantities import GIB
from tests.provisioner.elements.element_folders import ORIGINAL, element
from tests.shared.origins.cloud_disks import cloud_disk
from tests.shared.sandbox.ordinary_user import MODES, place_for

pytestmark = pytest.mark.slow

ROOT = """#!/bin/bash
set -eu
mkdir -p "$TARGET_ROOT"/{bin,dev,etc,tmp,usr/local/bin}
touch "$TARGET_ROOT"/dev/null "$TARGET_ROOT"/usr/local/bin/own
chown 33:44 "$TARGET_ROOT"/usr/local/bin/own
chmod 4751 "$TARGET_ROOT"/usr/local/bin/own
cat /etc/resolv.conf >"$TARGET_ROOT"/etc/resolv.conf
env | sort | grep -v ^IMAGE_ELEMENT_YAML >"$TARGET_ROOT"/etc/variables
{ cat "$DIB_IMAGE_CACHE"/count 2>/dev/null || true; echo once; } >"$TARGET_ROOT"/etc/count
cp "$TARGET_ROOT"/etc/count "$DIB_IMAGE_CACHE"/count
"""
SECOND = '#!/bin/bash\nset -eu\n[ -c "$TARGET_ROOT/dev/null" ] && sudo -E mount -t tmpfs own "$TARGET_ROOT/tmp"\n'
GPT = """
- local_loop: {name: image0}
- partitioning:
    base: image0
    label: gpt
    partitions:
      - {name: BSP, type: EF02, size: 8MiB}
      - name: root
        type: 8300
        size: 100%
        mkfs: {mount: {mount_point: /, fstab: {options: defaults}}}
"""
LVM = """
- local_loop: {name: image0, size: 1GiB}
- partitioning: {base: image0, label: gpt, partitions: [{name: boot, size: 100MiB}, {name: pv, size: 100%}]}
- lvm:
    name: lvm
    pvs: [{name: pv0, base: pv}]
    vgs: [{name: vg, base: [pv0]}]
    lvs: [{name: lv_root, base: vg, extents: 100%FREE}]
- mkfs: {base: boot, label: start, mount: {mount_point: /boot}}
- mkfs: {base: lv_root, mount: {mount_point: /}}
"""
KERNEL = 'mkdir "$TARGET_ROOT"/boot\necho kernel >"$TARGET_ROOT"/boot/vmlinuz-6.1\n'


@pytest.fixture
def home() -> Iterator[Path]:
    with place_for(MODES[0]) as place:
        (place / "home").mkdir()
        yield place / "home"


def made(home: Path, path: Path, age: float = 0.0, room: int = GROWTH) -> tuple[str, list[str]]:
    said: list[str] = []
    with Machines(home, lambda message: None) as machines:
        request = ElementsRequest(("system",), (path,), {"MINE": "own"}, network=False, max_age=age, room=room)
        origins = KeptOrigins(Catalogue(home, SystemClock()), home, said.append)
        image = origins.of_elements(request, machines)
    return image.name, said


def system(folder: Path, root: str = ROOT, **more: str) -> Path:
    files = {"root.d/10-root": root, "root.d/20-second": SECOND, "environment.d/10-own.bash": "export OTHER=$MINE/2\n"}
    element(folder, "system", {**files, "element-provides": "operating-system\n", **more})
    return folder


def test_an_image_is_made_of_what_root_d_makes(home: Path, tmp_path: Path) -> None:
    path = system(tmp_path)
    (tmp_path / "shared").mkdir()
    (path / "system" / "root.d" / "10-root").rename(tmp_path / "shared" / "root")
    (path / "system" / "root.d" / "10-root").symlink_to("../../shared/root")
    name, said = made(home, path)
    assert name.startswith("elements-")
    assert "elements: root.d/10-root (system)" in said
    with Disk(home / "images" / name / "disk.raw") as disk:
        inodes = dict(disk.root.file_system.walk())
        variables = disk.root.read("/etc/variables").decode()
        assert disk.root.read("/etc/count") == b"once\n"
    own = inodes["/usr/local/bin/own"]
    assert (own.user, own.group, stat.S_IMODE(own.mode)) == (33, 44, 0o4751)
    assert {"/etc/resolv.conf", "/dev/null"}.isdisjoint(inodes)
    expected = {
        *("OTHER=own/2", "MINE=own", "IMAGE_ELEMENT=system", "LC_ALL=C", "DIB_IMAGE_CACHE=/run/goldsmith/cache"),
        "TARGET_ROOT=/run/goldsmith/dib_build.goldsmith/mnt",
    }
    assert expected <= set(variables.splitlines())
    assert str(tmp_path) not in variables
    assert made(home, path, 3600.0) == (name, [])
    other, said = made(home, path)
    assert other != name
    with Disk(home / "images" / other / "disk.raw") as disk:
        assert disk.root.read("/etc/count") == b"once\nonce\n"
    assert list((home / "cache" / "origins").glob(".*")) == []
    larger, _ = made(home, path, 3600.0, GROWTH + GIB)
    sizes = [(home / "images" / each / "disk.raw").stat().st_size for each in (other, larger)]
    assert GIB <= sizes[1] - sizes[0] <= 2 * GIB


def test_a_file_of_the_environment_that_fails_is_told_with_its_element(home: Path, tmp_path: Path) -> None:
    path = system(tmp_path, **{"environment.d/20-fails.bash": "false\n"})
    with pytest.raises(InputError, match=r"environment\.d/20-fails\.bash of element system: exit status 1; correct it"):
        made(home, path)


def test_a_disk_with_volumes_and_its_own_boot_is_made_for_a_machine(home: Path, tmp_path: Path) -> None:
    """Mended: diskimage-builder makes it with the host's device-mapper, and leaves volumes active when it is killed."""
    disk = {"block-device-default.yaml": LVM}
    with pytest.raises(InputError) as caught:
        made(home, system(tmp_path / "none", **disk))
    assert "the root is on LVM, so that a machine has to run the other phases from the disk" in str(caught.value)
    assert "root.d leaves no kernel; write disk, with one ext4" in str(caught.value)
    assert list((home / "images").glob("[!.]*")) == []
    name, _ = made(home, system(tmp_path / "kernel", ROOT + KERNEL, **disk))
    file = home / "images" / name / "disk.raw"
    with Disk(file) as opened:
        boot, volumes = opened.table.partitions
        files = opened.ext4[boot]
        assert (boot.file_system, volumes.file_system, files.layout.label) == ("ext4", "lvm", "start")
        assert "/vmlinuz-6.1" in dict(files.walk())
    part = tmp_path / "pv"
    run_tool(["dd", f"if={file}", f"of={part}", "bs=1M", f"skip={volumes.start >> 20}", "conv=sparse", "status=none"])
    assert "lv_root {" in run_tool(["pvck", "--dump", "metadata", part])
    part = tmp_path / "boot"
    run_tool(["dd", f"if={file}", f"of={part}", "bs=1M", f"skip={boot.start >> 20}", "count=100", "status=none"])
    run_tool(["e2fsck", "-fn", part])


EXTRACT = """#!/bin/bash
set -eu
image=${DIB_LOCAL_IMAGE:-$DIB_IMAGE_CACHE/disk.qcow2}
date +%N >>"$DIB_IMAGE_CACHE/runs"
"$TMP_HOOKS_PATH/bin/extract-image" disk.qcow2 disk.tgz "file://$TMP_HOOKS_PATH/files/disk.qcow2" "$image"
"""
OWN = {"MINE": "own"}
EMPTY = {"root.d/20-second": "#!/bin/bash\n"}
CHEAT = """#!/bin/bash
ln -sf /etc/passwd "$DIB_IMAGE_CACHE/link"
ln -sfn /etc "$DIB_IMAGE_CACHE/folder"
printf %s "$DIB_IMAGE_CACHE/{}" >"$TMP_BUILD_DIR/wanted"
exit 1
"""


def of_image(home: Path, path: Path, image: Path | None = None) -> dict[str, Inode]:
    """Return the files of an image that root.d has made."""
    with Machines(home, lambda message: None) as machines:
        env = OWN if image is None else {**OWN, "DIB_LOCAL_IMAGE": str(image)}
        request = ElementsRequest(("system", "sysprep"), (path, ORIGINAL), env, network=False, local_image=image)
        made = KeptOrigins(Catalogue(home, SystemClock()), home, lambda line: None).of_elements(request, machines)
    with Disk(home / "images" / made.name / "disk.raw") as disk:
        return dict(disk.root.file_system.walk())


@pytest.mark.parametrize("local", [True, False], ids=["local", "fetched"])
def test_the_image_of_a_distribution_is_unpacked_without_loop_devices(home: Path, tmp_path: Path, local: bool) -> None:
    """Mended: diskimage-builder mounts it by kpartx."""
    path = system(tmp_path / "elements", EXTRACT, **EMPTY)
    (path / "system" / "files").mkdir()
    image = (tmp_path if local else path / "system" / "files") / "disk.qcow2"
    run_tool(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", cloud_disk(tmp_path / "made"), image])
    inodes = of_image(home, path, image if local else None)
    own = inodes["/etc/own"]
    assert (own.user, own.group, stat.S_IMODE(own.mode)) == (33, 44, 0o4711)
    assert {"/boot/vmlinuz", "/boot/efi/EFI/BOOTX64.EFI", "/etc/link"} <= set(inodes)
    (kept,) = (home / "cache" / "elements").glob("*/files")
    assert len((kept / "runs").read_text().splitlines()) == (1 if local else 2)


@pytest.mark.parametrize("name", ["link", "../files/link", "nothing", "x\ny", "/etc/passwd", "folder/passwd"])
def test_a_script_cannot_have_other_files_unpacked(home: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"extract-image: .* is no image that root\.d has fetched"):
        of_image(home, system(tmp_path, CHEAT.format(name)))


def test_a_link_of_an_element_does_not_bring_a_file_of_the_host(home: Path, tmp_path: Path) -> None:
    """Elements are other people's; what they may see of this host is what lies beside them."""
    path = system(tmp_path / "elements")
    (tmp_path / "key").write_text("secret")
    (path / "system" / "root.d" / "key").symlink_to("../../../key")
    with pytest.raises(
        InputError, match=r"system/root\.d/key: the link leads out of .*/elements, and an element sees no"
    ):
        of_image(home, path)
    (path / "system" / "root.d" / "key").unlink()
    (path / "lent").mkdir()
    (path / "lent" / "key").symlink_to(tmp_path / "key")
    (path / "system" / "lent").symlink_to("../lent")
    (path / "system" / "root.d" / "30-look").write_text('#!/bin/bash\n[ ! -e "$TMP_HOOKS_PATH/lent/key" ]\n')
    (path / "system" / "root.d" / "30-look").chmod(0o755)
    of_image(home, path)


def test_a_local_image_is_there_and_counts(tmp_path: Path) -> None:
    path = system(tmp_path / "elements")
    image = tmp_path / "image"

    def asked(digest: str = "") -> RootElements:
        env = {"DIB_LOCAL_IMAGE": str(image)}
        request = ElementsRequest(("system",), (path,), env, local_image=image, local_digest=digest)
        return RootElements(request, lambda order, note: b"", path, lambda line: None)

    with pytest.raises(InputError, match=r"source\.elements\.env\.DIB_LOCAL_IMAGE: .*/image is no file; name an image"):
        asked()
    image.write_text("text")
    assert asked("1").digest != asked("2").digest


def read(path: Path, env: dict[str, str] | None = None) -> RootElements:
    request = ElementsRequest(("system",), (path,), env or {})
    return RootElements(request, lambda order, note: b"", path, lambda line: None)


def test_the_key_is_over_what_root_d_may_read(tmp_path: Path) -> None:
    path = system(tmp_path, **{"install.d/10-own": "one", "static/etc/own": "one", "README.rst": "one"})
    own = path / "system"
    first = read(path).digest
    (own / "install.d" / "10-own").write_text("two")
    (own / "README.rst").write_text("two")
    assert read(path).digest == first
    seen = {first, read(path, {"A": "b"}).digest}
    for change in (
        lambda: (own / "environment.d" / "10-own.bash").write_text("export OTHER=3\n"),
        lambda: (own / "static" / "etc" / "own").write_text("two"),
        lambda: (own / "root.d" / "20-second").chmod(0o644),
        lambda: (own / "root.d" / "link").symlink_to("10-root"),
    ):
        change()
        seen.add(read(path).digest)
    assert len(seen) == 6


def test_an_element_describes_the_disk(tmp_path: Path) -> None:
    assert read(system(tmp_path / "none")).disk() is None
    found = read(system(tmp_path / "gpt", **{"block-device-default.yaml": GPT})).disk()
    assert found is not None
    assert (found.table, [each.name for each in found.partitions]) == ("gpt", ["BSP", "root"])
    more = {
        "block-device-default.yaml": GPT,
        "block-device-amd64.yaml": GPT.replace("gpt", "mbr").replace("EF02", "83"),
    }
    other = read(system(tmp_path / "arch", **more)).disk()
    assert other is not None
    assert other.table == "mbr"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("- local_loop: {name: a}\n  other: b\n", "block-device-default.yaml:1:3: [0]: needs one key"),
        ("- local_loop: [", "block-device-default.yaml:2:1: is not YAML"),
    ],
)
def test_a_disk_that_cannot_be_made_is_told_with_its_place(tmp_path: Path, text: str, problem: str) -> None:
    elements = read(system(tmp_path, **{"block-device-default.yaml": text}))
    with pytest.raises(InputError) as caught:
        elements.disk()
    assert problem in str(caught.value)


def test_elements_without_root_d_are_refused(tmp_path: Path) -> None:
    element(tmp_path, "system", {"element-provides": "operating-system\n"})
    with pytest.raises(InputError, match=r"none of system has a script in root\.d; add one"):
        read(tmp_path)


def test_disks_of_the_original_can_be_made() -> None:
    """Mended: whole disks of diskimage-builder take device-mapper, and loop devices with partitions."""
    for name, table in (("mbr", "mbr"), ("gpt", "gpt"), ("efi", "gpt")):
        request = ElementsRequest(("debian-minimal", f"block-device-{name}"), (ORIGINAL,), {})
        found = RootElements(request, lambda order, note: b"", ORIGINAL, lambda line: None).disk()
        assert found is not None
        assert found.table == table
        assert json.dumps(found.to_json()) != json.dumps(default_disk().to_json())


@pytest.mark.parametrize("told", [b"", b"{", b"[" * 100_000], ids=["nothing", "half", "deep"])
def test_what_a_script_tells_in_its_place_is_an_error(home: Path, tmp_path: Path, told: bytes) -> None:
    request = ElementsRequest(("system",), (system(tmp_path / "own"),), {}, network=False)
    elements = RootElements(request, lambda job, progress: told, home, lambda text: None)
    with pytest.raises(EnvironmentFault, match=r"elements system: what root.d tells cannot be read"):
        elements.state()
