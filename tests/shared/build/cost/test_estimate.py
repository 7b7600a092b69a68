"""Time, cost and quota of a build before it is asked for."""

from dataclasses import replace

import pytest

from shared.build.build import Build, Outcome
from shared.build.cost.estimate import Estimate, estimate_build, expect_build, needed_quota
from shared.build.plan import MachinePlan, SourceImage, VerifyMachinePlan
from tests.world.values import NOON, ended_build, plan

MACHINE = MachinePlan("p", zones=("us-central1-a",), machine_type="e2-standard-2", disk_size_gb=10)
PLAN = replace(plan(), machine=MACHINE)


def slower(seconds: float, **changes: object) -> Build:
    """Return ended_build() with a longer time in provisioning."""
    ended = ended_build()
    stays = tuple(replace(stay, begun=stay.begun + (seconds if stay.begun > NOON + 90 else 0)) for stay in ended.stays)
    return replace(ended, stays=stays, updated=ended.updated + seconds, **changes)  # type: ignore[arg-type]


def test_time_is_the_median_of_earlier_builds_by_state() -> None:
    found = estimate_build(PLAN, [slower(0), slower(1000), slower(30)])
    assert (found.builds, found.of) == (3, "hello")
    assert found.seconds == {
        "preparing": 30,
        "provisioning": 340,
        "exporting": 100,
        "publishing": 10,
        "cleaning": 90,
    }
    assert found.usage is not None
    assert found.usage.vm_seconds == {"e2-standard-2": 340}
    assert found.usage.dollars is not None
    assert found.usage.dollars == pytest.approx(0.067 * 340 / 3600, rel=0.2)
    assert found.text.startswith("570 s (preparing 30 s, provisioning 340 s,")
    assert found.text.endswith("the median of 3 builds of hello")


def test_builds_of_the_family_count_where_the_spec_has_none() -> None:
    found = estimate_build(replace(PLAN, name="other"), [slower(0, name="third")])
    assert (found.builds, found.of) == (1, "family hello")


def test_without_a_build_that_succeeded_nothing_is_guessed() -> None:
    failed = slower(0, outcome=Outcome.FAILED)
    formerly = replace(slower(0), stays=())
    foreign = replace(PLAN, name="other", image=replace(PLAN.image, family=None))
    for builds, wanted in (([], PLAN), ([failed, formerly], PLAN), ([slower(0)], foreign)):
        found = estimate_build(wanted, builds)
        assert found == Estimate()
        assert found.text == "not known: no build of this spec or its family has succeeded here"


def test_builds_that_went_on_with_an_image_of_another_say_nothing() -> None:
    retries = [slower(0, retry_of="hello-1"), slower(0, taken_up=True)]
    assert estimate_build(PLAN, retries) == Estimate()
    assert estimate_build(PLAN, [*retries, slower(1000)]).seconds["provisioning"] == 1310


def test_a_build_under_a_new_name_is_expected_to_take_what_others_have_taken() -> None:
    new = replace(PLAN, name="new", image=replace(PLAN.image, family=None))
    failed = slower(500, outcome=Outcome.FAILED)
    running = slower(0, outcome=None)
    for builds, wanted, of, seconds in (
        ([slower(0), slower(1000, name="third")], PLAN, "hello", 310),
        ([failed, slower(1000, name="third")], replace(PLAN, name="new"), "family hello", 1310),
        ([failed, slower(1000)], new, "any spec", 1310),
        ([failed, running], PLAN, "hello", 810),
        ([failed], new, "any spec", 810),
    ):
        found = expect_build(wanted, builds)
        assert (found.of, found.seconds["provisioning"]) == (of, seconds)
        assert found.usage is not None
        assert (found.usage.dollars or 0) > 0
    assert expect_build(new, [running, slower(0, outcome=Outcome.UNCHANGED)]) == Estimate()


def test_builds_that_took_no_time_at_all_lead_to_an_estimate_of_none() -> None:
    ended = ended_build()
    stays = tuple(replace(stay, begun=NOON) for stay in ended.stays)
    found = estimate_build(PLAN, [replace(ended, stays=stays, updated=NOON)])
    assert (found.builds, found.seconds) == (1, {})
    assert found.usage is not None
    assert (found.usage.vm_seconds, found.usage.disk_gb_hours) == ({}, {})


def test_quota_is_of_all_disks_and_of_the_most_vms_at_once() -> None:
    assert needed_quota(PLAN) == {"CPUS": 2, "DISKS_TOTAL_GB": 10}
    machines = (
        VerifyMachinePlan("a", machine_type="n2-standard-8"),
        VerifyMachinePlan("b", machine_type="n2-standard-4"),
    )
    several = replace(PLAN, verify_steps=(), verify_machines=machines)
    assert needed_quota(several) == {"CPUS": 2, "DISKS_TOTAL_GB": 10 + 12 + 12, "N2_CPUS": 12}
    gpu = replace(
        MACHINE, gpu_type="nvidia-tesla-t4", machine_type="n1-standard-4", disk_type="pd-balanced", scratch_gb=10
    )
    assert needed_quota(replace(PLAN, machine=gpu)) == {"CPUS": 4, "NVIDIA_T4_GPUS": 1, "SSD_TOTAL_GB": 20}
    exporter = SourceImage("debian-cloud", "debian-12", "1", disk_size_gb=10)
    written = replace(PLAN, exporter=exporter, image=replace(PLAN.image, export_to="gs://b/x.tar.gz"))
    assert needed_quota(written) == {"CPUS": 2, "DISKS_TOTAL_GB": 30}
    assert needed_quota(replace(PLAN, machine=replace(MACHINE, machine_type="new", disk_type="new"))) == {}
