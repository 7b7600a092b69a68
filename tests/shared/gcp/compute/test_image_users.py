"""What uses images on Compute Engine, against the emulator; and lists that are not whole, against a server of ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, jsonify
from google.cloud import compute_v1

from emulator.web.http_server import HttpServer
from emulator.web.identity import Identity
from shared.clock import SystemClock
from shared.errors import EnvironmentFault, Permanent, Transient
from shared.gcp.compute.calls import Calls
from shared.gcp.compute.image_users import GoogleImageUsers
from shared.image_users import ImageUse
from tests.shared.gcp.compute.compute_cloud import IDLE, PROJECT, ZONES, Cloud, open_cloud

IMAGES = f"projects/{PROJECT}/global/images"
GOOGLE = "https://www.googleapis.com/compute/v1/"
TEMPLATE = f"projects/{PROJECT}/global/instanceTemplates/web"


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    with open_cloud(tmp_path, Identity(tmp_path / "identity")) as opened:
        yield opened


def make_template(cloud: Cloud, name: str, image: str) -> None:
    disk = compute_v1.AttachedDisk(boot=True, initialize_params={"source_image": image})
    properties = compute_v1.InstanceProperties(machine_type="e2-small", disks=[disk])
    template = compute_v1.InstanceTemplate(name=name, properties=properties)
    cloud.client(compute_v1.InstanceTemplatesClient).insert(project=PROJECT, instance_template_resource=template)


def test_disks_templates_and_groups_are_users(cloud: Cloud) -> None:
    image = cloud.compute().image(PROJECT, IDLE)
    assert image is not None
    disk = compute_v1.Disk(name="d", source_image=f"{IMAGES}/{IDLE}")
    cloud.client(compute_v1.DisksClient).insert(project=PROJECT, zone=ZONES[1], disk_resource=disk)
    empty = compute_v1.Disk(name="e", size_gb=1)
    cloud.client(compute_v1.DisksClient).insert(project=PROJECT, zone=ZONES[1], disk_resource=empty)
    make_template(cloud, "web", f"{IMAGES}/{IDLE}")
    make_template(cloud, "by-family", f"{IMAGES}/family/{IDLE}")
    make_template(cloud, "of-debian", "projects/debian-cloud/global/images/debian-12")
    group = compute_v1.InstanceGroupManager(name="g", instance_template=TEMPLATE, target_size=0)
    groups = cloud.client(compute_v1.InstanceGroupManagersClient)
    groups.insert(project=PROJECT, zone=ZONES[0], instance_group_manager_resource=group)
    assert list(cloud.compute().uses(PROJECT, PROJECT)) == [
        ImageUse(IDLE, "", f"instance template web of project {PROJECT}"),
        ImageUse(IDLE, "", f"managed instance group g of project {PROJECT}"),
        ImageUse(IDLE, image.id, f"disk d of project {PROJECT} in {ZONES[1]}"),
    ]
    assert list(cloud.compute().uses(PROJECT, "other-project")) == []


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (f"{GOOGLE}projects/p/global/images/a", "a"),
        ("https://compute.googleapis.com/compute/beta/projects/p/global/images/a", "a"),
        ("projects/p/global/images/a", "a"),
        ("projects/123456789/global/images/a", "a"),
        ("projects/p/global/images/family/a", ""),
        ("projects/q/global/images/a", ""),
        ("global/images/a", ""),
        ("", ""),
    ],
)
def test_images_are_known_by_all_their_names(cloud: Cloud, image: str, found: str) -> None:
    make_template(cloud, "t", image)
    assert [use.image for use in cloud.compute().uses(PROJECT, "p")] == ([found] if found else [])


def test_an_image_without_a_project_is_one_of_the_templates_project(cloud: Cloud) -> None:
    make_template(cloud, "t", "global/images/a")
    assert [use.image for use in cloud.compute().uses(PROJECT, PROJECT)] == ["a"]


@pytest.mark.parametrize("what", ["disks", "instanceTemplates", "instanceGroupManagers"])
def test_a_project_that_may_not_be_listed_is_a_fault(cloud: Cloud, what: str) -> None:
    cloud.endpoint.deny(f"compute.{what}.list")
    with pytest.raises((Permanent, EnvironmentFault), match=f"of project {PROJECT}: .*compute.{what}.list"):
        list(cloud.compute().uses(PROJECT, PROJECT))


NOTHING = {"items": {"global": {"warning": {"code": "NO_RESULTS_ON_PAGE"}}}}
PARTS: dict[str, tuple[Mapping[str, Any], str]] = {
    "a zone that cannot be reached": (
        {"items": {"zones/a": {"warning": {"code": "UNREACHABLE"}}}},
        r"missing: zones/a \(UNREACHABLE\)",
    ),
    "scopes that cannot be reached": ({**NOTHING, "unreachables": ["zones/b"]}, "missing: zones/b"),
    "a warning of the whole list": ({**NOTHING, "warning": {"code": "UNREACHABLE"}}, "missing: UNREACHABLE"),
}


@pytest.mark.parametrize("part", PARTS)
def test_a_list_that_is_not_whole_is_none(cloud: Cloud, part: str) -> None:
    answer, text = PARTS[part]
    application = Flask("partial")
    application.add_url_rule("/<path:path>", "all", lambda path: jsonify(answer if path.endswith("disks") else NOTHING))
    with HttpServer(application) as server:
        calls = Calls(replace(cloud.settings, compute_endpoint=server.url), SystemClock())
        with pytest.raises(Transient, match=f"disks of project {PROJECT}: the list is not whole; {text}"):
            list(GoogleImageUsers(calls).uses(PROJECT, PROJECT))
