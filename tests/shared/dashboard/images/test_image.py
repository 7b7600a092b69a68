"""One image: whether it may be used, where it is from, what was made of it, and what it has to download."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from provisioner.protocol import INVENTORY
from shared.build.build import PushedCopy
from shared.build.image.channels import Channel
from shared.dashboard.images.downloads import LARGEST
from shared.dashboard.pictures.lineage import MOST_NODES
from shared.errors import Permanent
from shared.images.folder_sizes import FolderSize
from shared.ports import Package
from shared.published.promotion import promote_image
from shared.published.revocation import revoke_image
from tests.shared.dashboard.pages_of import BROWSER, OneMachine, Pages
from tests.world import values
from tests.world.fakes import FakeCompute
from tests.world.published import add_build, build_of, image_of
from tests.world.world import World

HOSTILE = "<script>alert(1)</script>"
COPY = "web-2-dev"
STATEMENT = "logs/web-2-0123456789ab/web-2.intoto.jsonl"


def add(world: World, name: str, source: str, **changes: Any) -> None:
    build = build_of(name, source)
    world.compute.all_images[name] = image_of(build, **changes)
    add_build(world.store, build)


@pytest.fixture
def world() -> World:
    """The images base-1, web-2 of it, and app-3 and app-4 of that; web-2 is in the channel dev."""
    made = World()
    made.backend = replace(made.backend, channels=lambda: {"dev": Channel()})
    for name, source in (("base-1", "debian-12"), ("web-2", "base-1"), ("app-3", "web-2"), ("app-4", "web-2")):
        add(made, name, source, archive_bytes=400_000_000)
    promote_image("local", "web-2", "dev", made.backend)
    return made


def names(document: Any) -> dict[str, str]:
    return {node["name"]: node["note"] for node in document["lineage"]["nodes"]}


def test_an_image_between_what_it_is_from_and_what_is_from_it(world: World) -> None:
    document = Pages(world).json("/images/local/web-2")
    assert (document["is_usable"], document["verified"], document["state"]) == (True, True, "published")
    assert document["source"] == {"project": "local", "name": "base-1", "id": "sha256-base-1"}
    assert document["copies"] == [COPY]
    assert set(names(document)) == {"debian-12", "base-1", "web-2", "app-3", "app-4", COPY}
    joined = {(edge["parent"].split("/")[1], edge["child"].split("/")[1]) for edge in document["lineage"]["edges"]}
    assert {("debian-12", "base-1"), ("base-1", "web-2"), ("web-2", "app-3"), ("web-2", "app-4")} < joined
    page = Pages(world).html("/images/local/web-2")
    assert "It may be used: published by Goldsmith, and verified." in page
    assert 'href="/images/local/app-3"' in page
    assert "/diff?a=base-1&amp;b=web-2" in page


def test_a_revoked_image_must_not_be_used_and_says_why(world: World) -> None:
    revoke_image("local", "web-2", f"CVE {HOSTILE}", world.backend, alone=True)
    document = Pages(world).json("/images/local/web-2")
    assert document["is_usable"] is False
    assert HOSTILE in document["problems"][0]
    assert names(document)["web-2"] == f"revoked: CVE {HOSTILE}"
    page = Pages(world).html("/images/local/web-2")
    assert "It must not be used." in page
    assert HOSTILE not in page
    assert Pages(world).json(f"/images?q={COPY}")["images"][0]["state"] == "revoked"


def test_a_deleted_image_is_known_as_long_as_its_record_is(world: World) -> None:
    del world.compute.all_images["web-2"]
    document = Pages(world).json("/images/local/web-2")
    assert (document["row"], document["problems"]) == (None, ["it has been deleted"])
    assert names(document)["web-2"] == "deleted"
    assert "deleted" in Pages(world).html("/images/local/web-2")


def test_an_image_that_no_build_of_ours_has_made(world: World) -> None:
    world.compute.all_images["debian-12"] = replace(
        world.compute.all_images["base-1"], name="debian-12", id="d", labels={}
    )
    document = Pages(world).json("/images/local/debian-12")
    assert (document["problems"], document["downloads"]) == (["Goldsmith has not made it"], [])
    assert "No build of this place has made it" in Pages(world).html("/images/local/debian-12")


@pytest.mark.parametrize("address", ["/images/local/none", "/images/other/web-2", "/images/local/..", "/images/l/A b"])
def test_what_is_not_there(world: World, address: str) -> None:
    assert "there is no image" in Pages(world).json(address, 404)["error"]
    Pages(world).html(address, 404)


def test_no_other_project_is_asked_for_an_image_that_is_not_ours(world: World) -> None:
    world.compute.duplicates["other/web-2"] = replace(world.compute.all_images["web-2"], project="other")
    Pages(world).json("/images/other/web-2", 404)


def test_the_list_is_searched(world: World) -> None:
    assert {image["name"] for image in Pages(world).json("/images?q=APP")["images"]} == {"app-3", "app-4"}
    assert len(Pages(world).json("/images?family=hello")["images"]) == 4
    assert "No such image" in Pages(world).html("/images?q=nothing")
    assert "No images yet" in Pages(World()).html("/images")


def test_what_uses_an_image_of_this_machine(world: World) -> None:
    machine = OneMachine()
    assert "Nothing, as of" in Pages(world, machine).html("/images/local/web-2")
    machine.users = (f"process 7 {HOSTILE}",)
    page = Pages(world, machine).html("/images/local/web-2")
    assert "process 7 &lt;script&gt;" in page
    assert "To ask takes minutes" in Pages(world).html("/images/local/web-2")


def test_where_an_image_was_brought_to(world: World) -> None:
    known = world.store.image("local", "web-2")
    assert known is not None
    assert world.store.save_image(known.with_pushed(PushedCopy("prod-project", "web", "1", values.NOON)), known)
    assert "prod-project/web" in Pages(world).html("/images/local/web-2")


def test_the_descendants_are_bounded(world: World) -> None:
    for number in range(MOST_NODES + 5):
        add(world, f"leaf-{number}", "app-3")
    lineage = Pages(world).json("/images/local/web-2")["lineage"]
    assert len(lineage["nodes"]) == MOST_NODES
    assert lineage["more"] == 11  # of 71
    assert "11 more images are not shown" in Pages(world).html("/images/local/web-2")


def test_documents_are_downloaded_by_their_names(world: World) -> None:
    world.bucket.objects[STATEMENT] = b'{"payload": ""}'
    world.bucket.objects[STATEMENT.replace(".intoto.jsonl", ".spdx.json")] = b"{}"
    downloads = Pages(world).json("/images/local/web-2")["downloads"]
    assert [row["kind"] for row in downloads] == ["spdx", "provenance", "manifest"]
    answer = Pages(world).client.get(downloads[1]["href"])
    assert (answer.data, answer.content_type) == (b'{"payload": ""}', "application/json")
    assert answer.headers["Content-Disposition"] == "attachment; filename=web-2.intoto.jsonl"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_the_manifest_is_written_for_the_one_who_asks(world: World) -> None:
    answer = Pages(world).client.get("/images/local/web-2/download/manifest")
    document = json.loads(answer.data)
    assert document["image"]["name"] == "web-2"
    assert [package["name"] for package in document["packages"]] == ["base-files", "libc6"]


@pytest.mark.parametrize("kind", ["cyclonedx", "statement", "none", ".."])
def test_a_document_that_is_not_there(world: World, kind: str) -> None:
    answer = Pages(world).client.get(f"/images/local/web-2/download/{kind}", headers=BROWSER)
    assert answer.status_code == 404


def test_a_document_is_not_answered_without_end(world: World) -> None:
    world.bucket.objects[STATEMENT] = b"x" * (LARGEST + 1)
    answer = Pages(world).client.get("/images/local/web-2/download/provenance")
    assert (answer.status_code, len(answer.data) < 300) == (404, True)


class Unreadable(FakeCompute):
    """A project whose disks no function can read, or cannot be read now."""

    fault: Permanent | None = None

    def packages(self, project: str, name: str) -> list[Package] | None:
        if self.fault is not None:
            raise self.fault
        return None


def test_packages_are_searched(world: World) -> None:
    document = Pages(world).json("/images/local/web-2/contents?q=LIBC")
    assert ([package["name"] for package in document["packages"]], document["installed"]) == (["libc6"], 2)
    assert "libc6" in Pages(world).html("/images/local/web-2/contents")
    assert "No package has “&lt;b&gt;” in its name" in Pages(world).html("/images/local/web-2/contents?q=<b>")


def test_what_is_not_known_of_the_contents_is_told(world: World) -> None:
    compute = Unreadable(world.clock, world.bucket)
    compute.all_images = world.compute.all_images
    world.backend = replace(world.backend, compute=compute)
    page = Pages(world).html("/images/local/web-2/contents")
    assert "its build has not told of them" in page
    assert "its build has not told what is installed" in page
    compute.fault = Permanent("dpkg: damaged")
    assert Pages(world).json("/images/local/web-2/contents")["no_packages"] == "dpkg: damaged"


def test_the_sizes_of_folders_are_those_that_a_vm_has_told(world: World) -> None:
    """On Google Cloud; what a guest makes up is drawn within the picture."""
    rows = ("/\t1000\t5", "/usr\t900\t4", "/usr/lib\t999999999999999\t3", "/<script>\t1\t1", "/lost/below\t9\t1")
    build = world.store.load("web-2-0123456789ab")
    output = "\n".join(f"folder\t{row}" for row in rows)
    told = values.reported(build_id=build.build.id, kind=INVENTORY, sequence=9, output=output)
    world.store.save(build.build, build.version, told)
    document = Pages(world).json("/images/local/web-2/contents")
    assert [each["path"] for each in document["folders"]["folders"]] == ["/usr", "/<script>"]
    assert document["folders"]["folders"][0]["folders"][0]["bytes"] == 999999999999999
    page = Pages(world).html("/images/local/web-2/contents")
    assert "As the build VM has told it" in page
    assert "<script>" not in page.partition("<main")[2]


def test_the_sizes_of_folders_are_drawn_and_in_a_table(world: World) -> None:
    machine = OneMachine()
    lib = FolderSize("/usr/lib", 600, 3)
    machine.sizes = FolderSize("/", 1000, 5, (FolderSize("/usr", 900, 4, (lib,)), FolderSize(f"/{HOSTILE}", 100, 1)))
    document = Pages(world, machine).json("/images/local/web-2/contents")
    assert document["folders"]["folders"][0]["folders"][0] == {
        "path": "/usr/lib",
        "bytes": 600,
        "files": 3,
        "folders": [],
    }
    page = Pages(world, machine).html("/images/local/web-2/contents")
    assert "Size by folder of web-2" in page
    assert "60.0 %" in page
    assert HOSTILE not in page
