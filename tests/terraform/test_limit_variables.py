"""The variables that say what specs may ask for reach the functions as they are, and what follows from them follows."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest

from shared import topology
from shared.build.image.retire_rules import RetireRule
from shared.build.limits import FamilyBudget, Limits, check_limits
from shared.build.plan import MachinePlan
from shared.gcp import settings
from shared.quantities import parse_duration
from tests.terraform.planning import Plan, days_kept, make_plan
from tests.world import values


def limits(plan: Plan) -> Limits:
    """Read the one value that all functions are given."""
    services = [
        values["service_config"][0]["environment_variables"]
        for values in plan.of("google_cloudfunctions2_function").values()
    ]
    [text] = {service["GOLDSMITH_LIMITS"] for service in services}
    assert set(json.loads(text)) == {field.name for field in fields(Limits)}
    read: Limits = settings.VARIABLES["limits"].read(text)
    return read


def test_limits_are_those_of_the_variables(plan: Plan) -> None:
    assert limits(plan) == Limits(
        subnets=(
            "projects/host-project/regions/europe-west1/subnetworks/shared",
            "projects/my-project/regions/europe-west1/subnetworks/builds",
        ),
        external_ip_allowed=True,
        machine_types=("n1-standard-1", "n2-*"),
        gpu_types=("nvidia-tesla-t4",),
        max_timeout=36 * 3600.0,
        max_disk_gb=200,
        max_keep=7200.0,
        retry_for=2 * 86400.0,
        retry_disk_for=5400.0,
        kms_keys=("projects/my-project/locations/*/keyRings/images/cryptoKeys/*",),
        storage_locations=("eu", "europe-*"),
        share_with=("group:*@example.org",),
        copy_projects=("my-project", "other-project"),
        export_buckets=("archives",),
        vm_service_accounts=("other@other-project.iam.gserviceaccount.com",),
        concurrency=4,
        family_concurrency=1,
        trigger_failures=3,
        retire_images={"hello": RetireRule(90.5 * 86400, 3), "base": RetireRule(0.0, 2)},
        budgets={"hello": FamilyBudget(20.0, 30 * 86400.0), "*": FamilyBudget(99.5, 1.5 * 86400)},
        consumers=("web-project",),
    )


def test_a_deployment_that_sets_no_limits_allows_what_specs_leave_out_and_a_day(tmp_path: Path) -> None:
    """What a deployment of a version without these variables built goes on being built, in these bounds."""
    found = limits(make_plan({"project": "my-project"}, tmp_path))
    assert found == Limits(
        subnets=("projects/my-project/regions/us-central1/subnetworks/default",),
        max_timeout=parse_duration("24h"),
        retry_for=parse_duration("24h"),
        retry_disk_for=parse_duration("1h"),
        share_with=(),
        copy_projects=(),
        export_buckets=(),
        vm_service_accounts=(),
    )
    zones = ("us-central1-a", "us-central1-b", "us-central1-c", "us-central1-f")
    check_limits(values.plan(machine=MachinePlan("my-project", zones=zones, external_ip=True)), found)


@pytest.mark.parametrize(("asked", "seconds"), [("0", 0.0), ("0s", 0.0), ("1d12h", 129_600.0)])
def test_disks_and_images_are_kept_as_long_as_the_variables_say(asked: str, seconds: float, tmp_path: Path) -> None:
    found = limits(
        make_plan({"project": "my-project", "max_keep": asked, "retry_for": asked, "retry_disk_for": asked}, tmp_path)
    )
    assert (found.max_keep, found.retry_for, found.retry_disk_for) == (seconds, seconds, seconds)


def test_a_limit_of_no_gpus_is_not_one_of_any(tmp_path: Path) -> None:
    assert limits(make_plan({"project": "my-project", "gpu_types": []}, tmp_path)).gpu_types == ()


@pytest.mark.parametrize(
    ("max_timeout", "seconds", "days"),
    [("90s", 90.0, 1), ("24h", 86400.0, 1), ("1d1m", 86460.0, 2), ("1h30m10s", 5410.0, 1), ("30d", 2592000.0, 30)],
)
def test_files_of_vms_outlive_the_longest_build(max_timeout: str, seconds: float, days: int, tmp_path: Path) -> None:
    plan = make_plan({"project": "my-project", "max_timeout": max_timeout}, tmp_path)
    assert limits(plan).max_timeout == parse_duration(max_timeout) == seconds
    ages = days_kept(plan)
    assert ages[topology.CIDATA] == 7 + days
    assert ages[topology.CONTEXTS] == 31 + 30 + days  # found at the end of its month
