"""What is wrong with a plan is found before anything is made, and said with the spec's keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emulator.web.identity import Identity
from shared.build.plan import Context, ImagePlan, MachinePlan, Plan, VerifyMachinePlan
from shared.errors import InputError, Permanent, Transient
from shared.gcp.compute.delivery import DISK_CONTEXT_LIMIT
from tests.shared.gcp.compute.compute_cloud import BUCKET, PROJECT, ZONES, Cloud, open_cloud
from tests.world.driver_bucket import VERSIONS, fill, installing
from tests.world.values import plan


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    folder: Path = tmp_path_factory.mktemp("cloud")
    with open_cloud(folder, Identity(folder / "identity")) as cloud:
        yield cloud


def planned(image: ImagePlan | None = None, **machine: Any) -> Plan:
    return plan(machine=MachinePlan(PROJECT, **machine), image=image or ImagePlan(PROJECT, "hello-1"))


def test_a_good_plan_takes_three_calls(cloud: Cloud) -> None:
    compute = cloud.fused()
    compute.check(planned(zones=ZONES))
    assert compute.calls.made == ["Zones.list", "MachineTypes.get", "Networks.get"]
    compute = cloud.fused()
    compute.check(planned(zones=ZONES, subnet="regions/us-central1/subnetworks/default"))
    assert compute.calls.made == ["Zones.list", "MachineTypes.get", "Subnetworks.get"]


@pytest.mark.parametrize("ending", [".tar.gz", ".json", ".cdx.json"])
def test_no_build_is_begun_whose_files_another_one_s_are_in_the_way_of(cloud: Cloud, ending: str) -> None:
    """Publication would refuse them, when all is done: the archive, and what lies beside it."""
    name = f"gs://{BUCKET}/archives/web"
    wanted = planned(ImagePlan(PROJECT, "hello-1", export_to=f"{name}.tar.gz"), zones=ZONES)
    wanted = replace(wanted, exporter=wanted.source)
    cloud.bucket.write(f"{name}.tar.gz.old", b"of a person")
    cloud.compute().check(wanted)
    cloud.bucket.write(name + ending, b"of another build")
    with pytest.raises(InputError, match=f"{name}{ending} is there already; name another one, or a folder"):
        cloud.compute().check(wanted)
    cloud.bucket.delete(name + ending)
    absent = replace(wanted, image=replace(wanted.image, export_to="gs://no-such-bucket/web.tar.gz"))
    with pytest.raises(InputError, match=r"output\.export\.to: .*no-such-bucket.*; write a bucket that is there"):
        cloud.compute().check(absent)


def test_other_types_of_machines_that_verify_are_looked_at_too(cloud: Cloud) -> None:
    plan = replace(planned(zones=ZONES), verify_steps=())
    compute = cloud.fused()
    compute.check(replace(plan, verify_machines=(VerifyMachinePlan("a"), VerifyMachinePlan("b", "e2-small"))))
    assert compute.calls.made == [
        "Zones.list",
        *["MachineTypes.get", "Networks.get"] * 2,
    ]
    for kind, text in (
        ("e2-absent-1", r"verify\.machines\[1\]\.machine_type: zone us-central1-a has no e2-absent-1"),
        (
            "n4-standard-2",
            r"verify\.machines\[1\]\.machine_type: its disk is of type hyperdisk-balanced, which has 4 GB",
        ),
    ):
        small = replace(plan, image=replace(plan.image, disk_size_gb=2))
        with pytest.raises(InputError, match=text):
            compute.check(replace(small, verify_machines=(VerifyMachinePlan("a"), VerifyMachinePlan("b", kind))))


def test_an_output_elsewhere_is_looked_at_too(cloud: Cloud) -> None:
    compute = cloud.fused()
    compute.check(planned(ImagePlan("other-project", "hello-1")))
    assert compute.calls.made == ["Zones.list", "MachineTypes.get", "Networks.get", "Images.list"]
    cloud.endpoint.fail_next("GET .*/other-project/global/images$", 404)
    with pytest.raises(InputError, match=r"output\.project: there is no project other-project"):
        compute.check(planned(ImagePlan("other-project", "hello-1")))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            planned(zones=("us-central1-a", "us-central1-q")),
            r"build\.zones: project .* has no zone us-central1-q; write some of us-central1-a, .* \.\.\.$",
        ),
        (planned(zones=("europe-west9-z",)), "has no zone europe-west9-z; write some of europe-central2-a, "),
        (planned(machine_type="x9-standard-1"), r"build\.machine_type: zone us-central1-a has no x9-standard-1"),
        (planned(gpu_type="nvidia-h900"), r"build\.gpu_type: zone us-central1-b has no nvidia-h900"),
        (
            planned(ImagePlan(PROJECT, "hello-1", export_to="gs://b/x.tar.gz")),
            r"output\.export: a VM of type .* cannot boot what writes it on Google Cloud",
        ),
        (planned(network="absent"), r"build\.network: project goldsmith-emulator has no network absent; write"),
        (
            planned(network="projects/host/global/networks/absent"),
            r"build\.network: project host has no network absent; write another",
        ),
        (planned(subnet="absent"), r"build\.subnet: project .* has no subnetwork absent in region us-central1; write"),
        (
            planned(subnet="projects/host/regions/us-central1/subnetworks/absent"),
            r"build\.subnet: project host has no subnetwork absent in region us-central1; write another one",
        ),
        (
            planned(zones=ZONES, subnet="regions/europe-west1/subnetworks/default"),
            r"build\.subnet: .* is in region europe-west1, and zone us-central1-a is not; write zones of europe-west1",
        ),
        (planned(disk_type="hyperdisk-balanced", disk_size_gb=3), r"output\.disk_size_gb: .* has 4 GB at least"),
        (planned(ImagePlan("local", "hello-1")), r"output\.project: project local is on one machine"),
        (plan(machine=MachinePlan("local")), r"build\.project: project local is on one machine"),
    ],
)
def test_what_the_spec_can_mend_is_said_with_its_key(cloud: Cloud, given: Plan, text: str) -> None:
    with pytest.raises(InputError, match=text):
        cloud.compute().check(given)


@pytest.mark.parametrize(
    ("permission", "plan"),
    [("compute.networks.get", planned()), ("compute.subnetworks.get", planned(subnet="default"))],
)
def test_a_network_that_start_build_may_not_see_is_left_to_compute_engine(
    cloud: Cloud, permission: str, plan: Plan
) -> None:
    """Of a Shared VPC, only those who make VMs may use a subnetwork."""
    cloud.endpoint.deny(permission)
    try:
        cloud.compute().check(plan)
    finally:
        cloud.endpoint.faults.clear()


def test_a_project_that_is_not_there(cloud: Cloud) -> None:
    cloud.endpoint.fail_next("GET .*/zones$", 404)
    with pytest.raises(InputError, match=r"build\.project: there is no project goldsmith-emulator"):
        cloud.compute().check(planned())


def test_a_missing_permission_is_named(cloud: Cloud) -> None:
    cloud.endpoint.deny("compute.zones.list")
    with pytest.raises(Permanent, match=r"permission compute\.zones\.list is missing"):
        cloud.compute().check(planned())
    cloud.endpoint.faults.clear()


def test_a_large_context_goes_by_download_alone(cloud: Cloud) -> None:
    context = Context("gs://b/contexts/x.tar", "x", DISK_CONTEXT_LIMIT + 1)
    large = replace(planned(), context=context)
    cloud.compute().check(large)
    with pytest.raises(InputError, match="a disk that a function makes takes 2048 at most"):
        cloud.compute(delivery="disk").check(large)
    cloud.compute(delivery="disk").check(replace(large, context=replace(context, size=DISK_CONTEXT_LIMIT)))


def test_a_driver_that_is_not_there_is_refused(cloud: Cloud) -> None:
    """install-gpu (rule): an unknown version is an error that lists the valid ones, before anything is made."""
    fill(cloud.storage.url)
    cloud.compute().check(installing(planned(), VERSIONS[1]))
    with pytest.raises(InputError, match=r"there is no driver 1\.2; write one of 390\.46, 450\.51\.06, "):
        cloud.compute().check(installing(planned(), "1.2"))


def test_a_list_of_drivers_that_cannot_be_had_is_asked_for_again(cloud: Cloud) -> None:
    with pytest.raises(Transient, match="cannot be asked"):
        cloud.compute(storage_endpoint="http://127.0.0.1:1").check(installing(planned(), "1.2"))
