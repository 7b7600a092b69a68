"""The difference between two images: on one machine of their disks, else of what their builds have recorded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from provisioner.protocol import INVENTORY
from shared.build.build import Build
from shared.images.diff.result import (
    FileChange,
    ImageDiff,
    KernelChange,
    PackageChange,
    PartitionChange,
    PartitionFiles,
)
from shared.ports import Package
from tests.shared.dashboard.pages_of import OneMachine, Pages
from tests.world import values
from tests.world.fakes import FakeCompute
from tests.world.published import add_build, build_of, image_of
from tests.world.world import World

HOSTILE = "<script>alert(1)</script>"


class Cloud(FakeCompute):
    """A project whose disks no function can read."""

    def packages(self, project: str, name: str) -> list[Package] | None:
        return None


@pytest.fixture
def world() -> World:
    made = World()
    cloud = Cloud(made.clock, made.bucket)
    made.backend = replace(made.backend, compute=cloud)
    for name, source in (("web-1", "debian-12"), ("web-2", "debian-13")):
        build = build_of(name, source)
        cloud.all_images[name] = image_of(build, disk_size_gb=10 if name == "web-1" else 12)
        add_build(made.store, build)
    return made


def tells(world: World, build_id: str, *packages: str) -> None:
    """Record what a build's VM has told of its packages, each NAME VERSION."""
    lines = "\n".join("\t".join(["dpkg", *each.split(), "amd64", "", "", ""]) for each in packages)
    stored = world.store.load(build_id)
    told = values.reported(build_id=build_id, kind=INVENTORY, sequence=9, output=lines)
    world.store.save(stored.build, stored.version, told)


def build_id(name: str) -> str:
    return f"{name}-0123456789ab"


def test_on_google_cloud_settings_and_packages_are_compared(world: World) -> None:
    tells(world, build_id("web-1"), "nginx 1.22", "curl 7.88", "zlib1g 1.2")
    tells(world, build_id("web-2"), "nginx 1.24", "zlib1g 1.2", f"{HOSTILE.replace(' ', '')} 1")
    document = Pages(world).json("/diff?a=web-1&b=local/web-2")
    difference = document["difference"]
    settings = {each["name"]: (each["before"], each["after"]) for each in difference["settings"]}
    assert settings == {"disk size": ("10 GB", "12 GB"), "source": ("local/debian-12", "local/debian-13")}
    changes = {each["name"]: (each["before"], each["after"]) for each in difference["packages"]}
    assert changes == {"curl": ("7.88", None), "nginx": ("1.22", "1.24"), HOSTILE: (None, "1")}
    assert difference["disk"] is None
    page = Pages(world).html("/diff?a=web-1&b=web-2")
    assert "no function can read the disk" in page
    assert HOSTILE not in page


def test_packages_that_no_build_has_told_are_not_compared(world: World) -> None:
    tells(world, build_id("web-1"), "nginx 1.22")
    difference = Pages(world).json("/diff?a=web-1&b=web-2")["difference"]
    assert (difference["packages"], difference["no_packages"]) == ([], "its build has not told what is installed")


def test_an_image_is_the_same_as_itself(world: World) -> None:
    tells(world, build_id("web-1"), "nginx 1.22")
    assert Pages(world).json("/diff?a=web-1&b=web-1")["same"] is True
    assert "Nothing that was compared differs." in Pages(world).html("/diff?a=web-1&b=web-1")


def test_on_one_machine_the_disks_are_compared(world: World) -> None:
    machine = OneMachine()
    files = [FileChange(f"/{HOSTILE}/{number}", "added", "file", number) for number in range(505)]
    changed = FileChange("/etc/motd", "changed", "file", 7, contents=True, differences={"mode": ("0644", "0600")})
    machine.found = ImageDiff(
        table=("mbr", "gpt"),
        disk_bytes=(10 << 30, 12 << 30),
        boot_code=True,
        partitions=[
            PartitionChange(1, "root", "changed", {"number": 1, "size": 5}, {"number": 1, "size": 6}, ["size"]),
            PartitionChange(2, "", "added", None, {"number": 2}),
            PartitionChange(3, "same", "same", {}, {}),
        ],
        os_release={"VERSION_ID": ("12", "13")},
        kernels=[KernelChange(1, "vmlinuz", ["quiet"], ["console=ttyS0"])],
        packages=[PackageChange("nginx", "amd64", None, "1.24")],
        sysctl={"kernel.panic": (None, "1")},
        contents=[
            PartitionFiles(1, "root", "ext4", [changed, *files]),
            PartitionFiles(4, "raw", None, (), 64, 12, "it is of no known file system"),
        ],
        notes=["web-1: was cut off in its work"],
    )
    document = Pages(world, machine).json("/diff?a=web-1&b=web-2")
    disk = document["difference"]["disk"]
    settings = {each["name"]: (each["before"], each["after"]) for each in disk["settings"]}
    assert settings["partition 1 root"] == ("size 5", "size 6")
    assert settings["partition 2"] == (None, "number 2")
    assert settings["os-release VERSION_ID"] == ("12", "13")
    assert settings["kernel command line, vmlinuz"] == ("quiet", "console=ttyS0")
    assert settings["sysctl kernel.panic"] == (None, "1")
    assert "about 12 differ" in settings["bytes of partition 4 raw"][1]
    assert (len(disk["files"]), disk["more"]) == (500, 6)
    assert disk["files"][0]["differences"] == "mode 0644 → 0600; other contents"
    assert document["difference"]["packages"][0]["name"] == "nginx"
    page = Pages(world, machine).html("/diff?a=web-1&b=web-2")
    assert HOSTILE not in page
    assert "506 differ" in page
    assert "goldsmith images diff web-1 web-2 --all" in page


def test_the_disk_of_a_deleted_image_is_not_asked_for(world: World) -> None:
    del world.backend.compute.all_images["web-1"]  # type: ignore[attr-defined]  # of the fake
    document = Pages(world, OneMachine()).json("/diff?a=web-1&b=web-2")
    assert document["difference"]["no_disk"] == "web-1 has been deleted"


def test_two_images_have_to_be_named(world: World) -> None:
    assert Pages(world).json("/diff")["choices"] == ["web-1", "web-2"]
    for address in ("/diff", "/diff?a=web-1", "/diff?b=web-1"):
        assert "Name two images" in Pages(world).html(address)


@pytest.mark.parametrize("name", ["none", "../x", "a/b/c", HOSTILE, "%00"])
def test_an_image_that_is_not_there(world: World, name: str) -> None:
    assert "there is no image" in Pages(world).json(f"/diff?a=web-1&b={name}", 404)["error"]
    assert HOSTILE not in Pages(world).html(f"/diff?a=web-1&b={name}", 404)


def test_steps_are_compared(world: World) -> None:
    stored = world.store.load(build_id("web-2"))
    build: Build = stored.build
    assert build.plan is not None
    steps = (replace(build.plan.steps[0], action="install-packages"),)
    world.store.save(replace(build, plan=replace(build.plan, steps=steps)), stored.version)
    found = Pages(world).json("/diff?a=web-1&b=web-2")["difference"]["settings"]
    assert {"name": "step 1", "before": "greet: run-script", "after": "greet: install-packages"} in found
