"""Each option comes to keys of a spec, is refused with what to write instead, or is left out with a reason."""

from __future__ import annotations

from typing import Any

import pytest

from shared.spec.disk.reading import read_disk
from shared.spec.diskimage_builder.draft import IMAGE_TYPES, FoundElements, chosen_elements, draft_order
from tests.shared.spec.diskimage_builder.orders import draft_of, order_of, problems_of_draft, values_of

ROOT = {"mount": {"mount_point": "/"}}
DISK = (
    {"local_loop": {"name": "image0"}},
    {
        "partitioning": {
            "base": "image0",
            "label": "mbr",
            "partitions": ({"name": "root", "flags": ("primary",), "size": "100%", "mkfs": ROOT},),
        }
    },
)
FLAT = (
    {"local_loop": {"name": "image0"}},
    {"mkfs": {"name": "files", "base": "image0"}},
    {"mount": {"name": "place", "base": "files", "mount_point": "/"}},
)


def root_of(values: Any) -> Any:
    """Return the root file system of a document."""
    found = read_disk(values["disk"]).description
    assert found is not None
    return found.root


def test_an_image_is_all_that_disk_image_create_makes_of_it() -> None:
    values = values_of("-o", "out/My_App.v1.qcow2", "vm", "my-app")
    assert values == {
        "name": "my-app-v1",
        "source": {"elements": {"elements": ("base", "vm", "my-app"), "path": (".", "../other")}},
        "context": "elements",
        "disk": values["disk"],
        "steps": ({"name": "elements", "action": "elements", "inputs": {"env": {"IMAGE_NAME": "My_App.v1"}}},),
        "output": {"export": {"to": "out/My_App.v1.tar.gz"}, "formats": ("qcow2-compressed",)},
        "hygiene": "warn",
        "build": {"timeout": "6h"},
        "local": {"engine": "chroot", "memory_mb": 4096},
    }


@pytest.mark.parametrize(
    ("words", "elements"),
    [
        (["debian"], ["base", "debian"]),
        (["-n", "debian"], ["debian"]),
        (["vm", "block-device-efi"], ["base", "vm", "block-device-efi"]),
    ],
)
def test_elements_are_completed_as_there(words: list[str], elements: list[str]) -> None:
    assert chosen_elements(order_of(*words)) == elements


def test_the_environment_is_in_the_spec() -> None:
    values = values_of(
        *("-x", "-x", "--offline", "--install-type", "package", "vm"),
        DIB_RELEASE="bookworm",
        DIB_ENV="x",
        DIB_QUIET="1",
        ELEMENTS_PATH="a",
        HOME="/root",
        UNKNOWN="x",
    )
    expected = {
        "DIB_DEBUG_TRACE": "2",
        "DIB_DEFAULT_INSTALLTYPE": "package",
        "DIB_OFFLINE": "1",
        "DIB_RELEASE": "bookworm",
    }
    assert values["source"]["elements"]["env"] == expected


def test_a_cleared_environment_is_not_read() -> None:
    assert "env" not in values_of("-c", "vm", DIB_RELEASE="bookworm", ARCH="sparc")["source"]["elements"]


def test_variables_stand_for_options() -> None:
    by_variables = values_of(
        "vm",
        ARCH="amd64",
        IMAGE_NAME="out",
        DIB_IMAGE_SIZE="3",
        DIB_JOURNAL_SIZE="8",
        DIB_OFFLINE="1",
        DIB_DEBUG_TRACE="1",
        DIB_DEFAULT_INSTALLTYPE="source",
        MAX_ONLINE_RESIZE="1000",
        ROOT_LABEL="here",
        SKIP_BASE="1",
    )
    line = (
        "-a amd64 -o out --image-size 3 --mkfs-journal-size 8 --offline -x --install-type source --root-label here -n"
    )
    assert by_variables == values_of(*line.split(), "--max-online-resize", "1000", "vm")
    assert values_of("-o", "a", "vm", IMAGE_NAME="out")["name"] == "a"


@pytest.mark.parametrize("disk", [None, DISK, FLAT])
def test_the_root_gets_what_is_asked_of_it(disk: Any) -> None:
    values = values_of(
        *("--root-label", "here", "--mkfs-journal-size", "8", "--max-online-resize", "1000"),
        *("--mkfs-options", " -m  1", "vm"),
        disk=disk,
    )
    root = root_of(values)
    assert root.label == "here"
    assert root.options == ("-E", "resize=1000", "-i", "4096", "-J", "size=8", "-m", "1")


def test_other_file_systems_do_not_get_the_options_of_ext4() -> None:
    values = values_of("--mkfs-options", "-n ftype=1", "vm", FS_TYPE="xfs")
    assert (root_of(values).kind, root_of(values).options) == ("xfs", ("-n", "ftype=1"))
    assert values["local"]["engine"] == "auto"  # the sandbox mounts ext4 alone


def test_what_the_disk_says_itself_wins() -> None:
    disk = (
        {
            "local_loop": {
                "name": "image0",
                "size": "4GiB",
                "mkfs": {"label": "own", "opts": "-m 2", "mount": {"mount_point": "/"}},
            }
        },
    )
    draft = draft_of("--root-label", "a", "--mkfs-options", "-m 1", "--image-size", "5", "vm", disk=disk)
    assert draft.document.data["disk"] == disk
    assert [note.partition(":")[0] for note in draft.notes] == ["--root-label", "--mkfs-options", "--image-size"]


@pytest.mark.parametrize(
    ("size", "written"), [("4", "4GiB"), ("2.5", "2560MiB"), (".001", "1088KiB"), ("0.1", "104896KiB")]
)
def test_a_size_counts_gib_in_steps_of_64_kib(size: str, written: str) -> None:
    assert values_of("--image-size", size, "vm")["disk"][0]["local_loop"]["size"] == written


@pytest.mark.parametrize(("size", "room"), [("1", "2560M"), ("2.5", "4G"), ("0.0001", "1572992K")])
def test_an_extra_size_is_room_beside_what_later_phases_get(size: str, room: str) -> None:
    assert values_of("--image-extra-size", size, "vm")["source"]["elements"]["room"] == room
    by_variable = values_of("vm", DIB_IMAGE_EXTRA_SIZE=size)
    assert by_variable["source"]["elements"]["room"] == room
    draft = draft_of("--image-extra-size", size, "--image-size", "4", "vm")  # of which that is left out there, too
    assert "room" not in draft.document.data["source"]["elements"]
    assert draft.notes == ["--image-extra-size: not taken over: --image-size says how large the disk is"]


def test_types_come_to_formats_and_their_own_endings() -> None:
    """Mended: diskimage-builder passes squashfs over, unless it is the first type."""
    draft = draft_of("-t", ",".join(IMAGE_TYPES), "-o", "a", "vm")
    assert not problems_of_draft(draft)
    assert draft.document.data["output"]["formats"] == (
        *("qcow2-compressed", "raw", "tar", "tar.gz", "squashfs", "vhd", "vmdk", "oci"),
    )
    assert draft.files.endings == {
        ".qcow2": ".qcow2",
        ".raw": ".raw",
        ".rootfs.tar": ".tar",
        ".rootfs.tar.gz": ".tgz",
        ".squashfs": ".squash",
        ".vhd": ".vhd",
        ".vmdk": ".vmdk",
        ".oci.tar": ".oci.tar",
    }
    assert values_of("-u", "vm")["output"]["formats"] == ("qcow2",)


@pytest.mark.parametrize(
    ("words", "checksums"),
    [
        (["--checksum"], ("md5", "sha256")),
        ([], ()),
        (["DIB_CHECKSUM=sha256"], ("sha256",)),
        (["DIB_CHECKSUM=1"], ("md5", "sha256")),
    ],
)
def test_checksums_are_chosen(words: list[str], checksums: tuple[str, ...]) -> None:
    environment = dict(word.split("=") for word in words if not word.startswith("-"))
    draft = draft_of(*(word for word in words if word.startswith("-")), "vm", **environment)
    assert draft.files.checksums == checksums


def test_packages_are_of_the_step() -> None:
    (step,) = values_of("-p", "curl,vim", "-p", "curl", "vm")["steps"]
    assert step == {"name": "elements", "action": "elements", "inputs": {"packages": ("curl", "vim")}}


def test_what_means_nothing_is_told() -> None:
    draft = draft_of(
        *("--image-cache", "x", "--min-tmpfs", "4", "--no-tmpfs", "--ramdisk-element", "x", "--logfile", "x"),
        *("--docker-target", "x", "--checksum", "vm"),
        DIB_TOKEN="x",
    )
    assert not problems_of_draft(draft)
    assert {note.partition(":")[0] for note in draft.notes_of_spec()} == {
        *("--image-cache", "--min-tmpfs", "--no-tmpfs", "--ramdisk-element", "--logfile", "--docker-target"),
        *("--checksum", "DIB_TOKEN"),
    }


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([], "disk-image-create: names no element; write them behind the options, one of a distribution among them"),
        (
            ["-a", "arm64", "vm"],
            "-a: arm64: images from nothing are made for amd64; leave it out, or write amd64",
        ),
        (["-a", "amd46", "vm"], "-a: 'amd46' is no architecture; did you mean amd64?"),
        (["-t", "qcow", "vm"], "-t: 'qcow' is no type; did you mean qcow2?"),
        (["-t", "aci", "vm"], "-t: aci is not made: its runtime is gone; write tar, or docker for an OCI image"),
        (["-o", "out/", "vm"], "-o: 'out/' is no file's name; write one such as out/my-image"),
        (["-o", "a\nb", "vm"], "-o: 'a\\nb' is no file's name; write one such as out/my-image"),
        (["--image-size", "0", "vm"], "--image-size: '0' is no size; write a number of GiB, such as 4 or 2.5"),
        (["--image-size", "4G", "vm"], "--image-size: '4G' is no size; write a number of GiB, such as 4 or 2.5"),
        (
            ["--image-extra-size", "1 GB", "vm"],
            "--image-extra-size: '1 GB' is no size; write a number of GiB, such as 4 or 2.5",
        ),
        (
            ["--mkfs-journal-size", "x", "vm"],
            "--mkfs-journal-size: cannot be 'x'; write a whole number from 4 to 10240",
        ),
        (
            ["--max-online-resize", "274877906945", "vm"],
            "--max-online-resize: cannot be '274877906945'; write a whole number from 1 to 274877906944",
        ),
        (
            ["--mkfs-options", "-E journal_dev=1", "vm"],
            "--mkfs-options: -E journal_dev cannot be set here; leave it out",
        ),
        (
            ["--root-label", "a" * 17, "vm"],
            f"--root-label: '{'a' * 17}' is too long for ext4; write at most 16 characters",
        ),
        (
            ["--qemu-img-options", "compat=1.1,preallocation=full", "vm"],
            "--qemu-img-options: 'preallocation=full' cannot be set; write -t raw, and convert that: qemu-img convert "
            "-O qcow2 -o compat=1.1,preallocation=full NAME.raw NAME.qcow2",
        ),
        (["--install-type", "git", "vm"], "--install-type: cannot be 'git'; write source or package"),
    ],
)
def test_what_cannot_be_is_refused(words: list[str], problem: str) -> None:
    assert problems_of_draft(draft_of(*words)) == [problem]


def test_ramdisks_are_refused() -> None:
    order = order_of("vm")
    order.is_ramdisk = True
    (problem,) = problems_of_draft(draft_order(order, FoundElements(".")))
    assert problem == "disk-image-create: makes a kernel and an initrd, and no image; run diskimage-builder for it"
