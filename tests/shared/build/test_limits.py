"""What a deployment allows: every plan that asks for more is refused before anything is made, all of it at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from shared.build.build import State
from shared.build.limits import NO_LIMITS, Limits, check_distribution, check_limits, subnetworks
from shared.build.plan import MachinePlan, VerifyMachinePlan
from shared.engine.lifecycle import advance
from shared.errors import InputError
from shared.quantities import parse_duration
from shared.submission import KEEP_METADATA
from tests.world import values
from tests.world.intake import Desk, planned, reason

DEFAULT = "projects/my-project/regions/us-central1/subnetworks/default"
BUILDS = "projects/host-project/regions/us-central1/subnetworks/builds"
LIMITS = Limits(
    subnets=(DEFAULT, BUILDS),
    external_ip_allowed=False,
    machine_types=("n1-standard-1", "n2-standard-*"),
    gpu_types=("nvidia-tesla-t4",),
    max_timeout=parse_duration("2h"),
    max_disk_gb=50,
    kms_keys=("projects/my-project/*",),
    storage_locations=("europe-*",),
    share_with=("group:*@example.com",),
    copy_projects=("my-project",),
)
MALLORY = """\
name: mallory
source: {project: my-images, family: debian-12}
steps: []
output:
  disk_size_gb: 51
  kms_key: projects/mallory/locations/global/keyRings/r/cryptoKeys/k
  storage_locations: [us]
  share: ["user:mallory@example.org", "group:team@example.com"]
  copies: [{project: mallory-project, storage_location: asia}]
build:
  network: projects/prod-host/global/networks/prod
  subnet: prod-db
  external_ip: true
  machine_type: m3-megamem-128
  timeout: 30d
  attempts: 10
  gpu_type: nvidia-h100-80gb
"""


def told(limits: Limits = LIMITS, **machine: Any) -> str:
    """Return the message about a plan on such a machine; "" when it is allowed."""
    given = {"project": "my-project", "zones": ("us-central1-a", "us-central1-b"), **machine}
    try:
        check_limits(values.plan(machine=MachinePlan(**given)), limits)
    except InputError as error:
        return str(error)
    return ""


def test_no_bill_of_materials_is_written_over_files_of_others_in_a_bucket_for_exports() -> None:
    plan = values.plan()
    for to in ("gs://archives/web.tar.gz", "gs://archives/"):
        mine = replace(plan, image=replace(plan.image, sbom_to=to))
        check_limits(mine, replace(NO_LIMITS, export_buckets=("others",)))
        check_limits(mine, NO_LIMITS)
        with pytest.raises(InputError, match="archives is one of export_buckets, where no file may be written over"):
            check_limits(mine, replace(NO_LIMITS, export_buckets=("others", "archives")))


def test_all_that_is_over_a_limit_is_told_at_once_and_nothing_is_made() -> None:
    desk = Desk(LIMITS)
    lines = reason(desk.upload(MALLORY)).splitlines()
    assert [line.partition(" is refused: ")[0] for line in lines] == [
        "build.subnet: projects/my-project/regions/us-central1/subnetworks/prod-db",
        "build.external_ip: true",
        "build.machine_type: m3-megamem-128",
        "build.gpu_type: nvidia-h100-80gb",
        "build.timeout: 30d",
        "output.disk_size_gb: 51",
        "output.storage_locations: us",
        "output.kms_key: projects/mallory/locations/global/keyRings/r/cryptoKeys/k",
        "output.share: user:mallory@example.org",
        "output.copies: mallory-project",
        "output.copies: asia",
        "output.copies: projects/mallory/locations/global/keyRings/r/cryptoKeys/k",
    ]
    assert f"subnets of this deployment is {DEFAULT}, {BUILDS};" in lines[0]
    assert "external_ip_allowed of this deployment is false;" in lines[1]
    assert "machine_types of this deployment is n1-standard-1, n2-standard-*;" in lines[2]
    assert "gpu_types of this deployment is nvidia-tesla-t4;" in lines[3]
    assert "max_timeout of this deployment is 2h;" in lines[4]
    assert "max_disk_gb of this deployment is 50;" in lines[5]
    assert all(line.endswith(f"ask those who deploy it to change {line.split()[4]}") for line in lines)
    assert not desk.world.compute.machines


class TestKeptDisks:
    """`keep_on_failure` of a request, of which counts what `max_keep` allows."""

    SPEC = "name: hello\nsource: {project: my-images, family: debian-12}\nsteps: []\n"
    WORKFLOW = (
        "steps:\n"
        "- {name: gcr.io/cos-cloud/cos-customizer, args: [start-image-build, -image-name=debian-12-1, "
        "-image-project=my-images, -gcs-bucket=b, -gcs-workdir=w]}\n"
        "- {name: gcr.io/cos-cloud/cos-customizer, args: [finish-image-build, -zone=z-a1-a, -project=$PROJECT_ID, "
        "-image-name=one, -image-project=$PROJECT_ID]}\n"
    )

    @pytest.mark.parametrize(("asked", "seconds"), [("90m", 5400.0), ("2h", 7200.0), ("7d", 7200.0)])
    def test_for_at_most_the_limit(self, asked: str, seconds: float) -> None:
        desk = Desk(Limits(max_keep=7200.0))
        assert planned(desk.publish(spec=self.SPEC, keep_on_failure=asked)).keep_disk == seconds
        assert planned(desk.upload(self.SPEC, **{KEEP_METADATA: asked})).keep_disk == seconds
        assert (
            planned(desk.upload(self.WORKFLOW, "specs/cloudbuild.yaml", **{KEEP_METADATA: asked})).keep_disk == seconds
        )

    def test_none_is_asked_for_in_other_requests(self) -> None:
        assert planned(Desk(Limits(max_keep=7200.0)).publish(spec=self.SPEC)).keep_disk == 0.0

    def test_by_default_it_is_refused_with_the_remedy(self) -> None:
        desk = Desk(NO_LIMITS)
        assert reason(desk.upload(self.SPEC, **{KEEP_METADATA: "2h"})) == (
            "keep_on_failure: 2h is refused: max_keep of this deployment is 0; leave it out, or ask those who deploy "
            "it to set max_keep"
        )
        assert not desk.world.compute.machines

    @pytest.mark.parametrize(
        ("asked", "told"),
        [
            ("long", "keep_on_failure: 'long' is not a duration; write one such as 90s, 5m, 1h30m or 7d"),
            ("0s", "keep_on_failure '0s': write more than 0s and at most 7d"),
            ("8d", "keep_on_failure '8d': write more than 0s and at most 7d"),
            (7200, "keep_on_failure: '7200' is not a duration; write one such as 90s, 5m, 1h30m or 7d"),
            (["2h"], "keep_on_failure: \"['2h']\" is not a duration; write one such as 90s, 5m, 1h30m or 7d"),
        ],
    )
    def test_what_is_no_duration_is_refused(self, asked: object, told: str) -> None:
        assert reason(Desk(Limits(max_keep=7200.0)).publish(spec=self.SPEC, keep_on_failure=asked)) == told


def test_without_limits_the_same_is_planned() -> None:
    plan = planned(Desk(NO_LIMITS).upload(MALLORY))
    assert (plan.machine.machine_type, plan.timeout) == ("m3-megamem-128", parse_duration("30d"))


def test_what_is_just_within_every_limit_is_planned() -> None:
    text = MALLORY.replace("51", "50").replace("30d", "2h").replace("m3-megamem-128", "n2-standard-8")
    text = text.replace("subnet: prod-db", f"subnet: {BUILDS}").replace("nvidia-h100-80gb", "nvidia-tesla-t4")
    text = text.replace("projects/mallory", "projects/my-project").replace("[us]", "[europe-west4]")
    text = text.replace("mallory@example.org", "me@example.com").replace("user:", "group:")
    text = text.replace("mallory-project", "my-project").replace("location: asia", "location: europe-west1")
    plan = planned(Desk(LIMITS).upload(text.replace("external_ip: true", "external_ip: false")))
    assert subnetworks(plan.machine) == (BUILDS,)


def test_what_a_spec_leaves_out_is_the_default_network_of_each_region() -> None:
    machine = MachinePlan("my-project", zones=("us-central1-a", "europe-west1-b", "europe-west1-c"))
    assert subnetworks(machine) == (DEFAULT, DEFAULT.replace("us-central1", "europe-west1"))
    assert told(zones=machine.zones).startswith(f"build.subnet: {DEFAULT.replace('us-central1', 'europe-west1')} is")


URL = "https://www.googleapis.com/compute/v1/"


@pytest.mark.parametrize(
    "machine",
    [
        {},
        {"network": "default"},
        {"network": "projects/my-project/global/networks/default"},
        {"network": f"{URL}projects/my-project/global/networks/default"},
        {"network": "global/networks/default"},  # Compute Engine takes the machine's own project
        {"subnet": "regions/us-central1/subnetworks/default"},
        {"subnet": f"https://compute.googleapis.com/compute/beta/{DEFAULT}"},
        {"subnet": "default", "network": "custom"},  # Compute Engine wants the one to be in the other
        {"subnet": DEFAULT},
        {"subnet": URL + DEFAULT},
        {"subnet": BUILDS},
        {"project": "host-project", "subnet": "builds"},
    ],
)
def test_one_subnetwork_by_all_its_names(machine: dict[str, Any]) -> None:
    assert told(**machine) == ""


@pytest.mark.parametrize(
    ("key", "machine"),
    [
        ("build.network", {"network": "prod"}),
        ("build.network", {"network": "projects/prod-host/global/networks/default"}),
        ("build.network", {"network": "projects/my-project/global/default"}),
        ("build.network", {"network": "global/networks/prod"}),
        ("build.network", {"network": "global/networks/default", "project": "other-project"}),
        ("build.subnet", {"subnet": "regions/us-central1/subnetworks/default", "project": "other-project"}),
        ("build.subnet", {"subnet": "regions/europe-west1/subnetworks/default"}),
        ("build.subnet", {"subnet": f"https://example.org/compute/v1/{DEFAULT}"}),
        ("build.network", {"network": f"{DEFAULT}/prod"}),
        ("build.subnet", {"subnet": "prod"}),
        ("build.subnet", {"subnet": "prod", "network": "default"}),
        ("build.subnet", {"subnet": DEFAULT.replace("us-central1", "europe-west1")}),
        ("build.subnet", {"subnet": f"x/{DEFAULT}"}),
        ("build.subnet", {"subnet": f"{URL}{URL}{DEFAULT}"}),
        ("build.subnet", {"subnet": "projects/my-project/global/networks/default"}),
        ("build.subnet", {"project": "other-project"}),
        ("build.subnet", {"zones": ("europe-west1-b",)}),
    ],
)
def test_every_other_subnetwork_is_refused(key: str, machine: dict[str, Any]) -> None:
    assert told(**machine).startswith(f"{key}: ")
    assert told(**machine).count("\n") == 0


@pytest.mark.parametrize(
    ("limits", "machine_type", "allowed"),
    [
        (("n2-standard-2",), "n2-standard-2", True),
        (("n2-standard-2",), "n2-standard-22", False),
        (("n2-standard-*",), "n2-standard-22", True),
        (("n2-standard-*",), "n2-highmem-2", False),
        (("n2-standard-*",), "c4-n2-standard-2", False),
        (("*",), "m3-megamem-128", True),
    ],
)
def test_machine_types_are_names_and_patterns(limits: tuple[str, ...], machine_type: str, allowed: bool) -> None:
    assert (told(Limits(machine_types=limits), machine_type=machine_type) == "") == allowed


def test_machine_types_of_vms_that_verify_are_held_to_them() -> None:
    plan = replace(values.plan(), verify_machines=(VerifyMachinePlan("a"), VerifyMachinePlan("b", "n2-standard-4")))
    check_limits(plan, Limits(machine_types=("n1-*", "n2-*")))
    with pytest.raises(
        InputError, match=r"verify\.machines\[1\]\.machine_type: n2-standard-4 is refused: machine_types"
    ):
        check_limits(plan, Limits(machine_types=("n1-*",)))


def test_no_gpus_and_none_asked_for() -> None:
    none = Limits(gpu_types=())
    assert told(none) == ""
    assert "gpu_types of this deployment is empty;" in told(none, gpu_type="nvidia-tesla-t4")


def test_a_large_source_is_over_the_limit_as_a_large_disk_is() -> None:
    plan = values.plan(machine=MachinePlan("my-project", disk_size_gb=51))
    with pytest.raises(InputError, match="51 is refused: max_disk_gb"):
        check_limits(plan, Limits(max_disk_gb=50))
    check_limits(replace(plan, machine=replace(plan.machine, disk_size_gb=50)), Limits(max_disk_gb=50))


def test_a_long_value_is_cut() -> None:
    assert len(told(Limits(machine_types=()), machine_type="n" * 10_000)) < 600


def test_one_deadline_bounds_all_attempts_and_steps_together() -> None:
    """So `max_timeout` bounds their sum: neither attempts nor retries nor steps move it."""
    text = MALLORY.replace("steps: []", "steps: [{name: a, action: reboot, timeout: 29d, retries: 10}]")
    build = Desk().upload(text.replace("timeout: 30d", "timeout: 2h"))
    assert [step.timeout for step in planned(build).steps] == [parse_duration("2h")]
    assert build.deadline == build.created + parse_duration("2h")
    lost = build
    while lost.state == State.PREPARING and lost.attempt < 10:
        before = lost.attempt
        taken_away = replace(values.machine_stopped(build_id=build.id, attempt=before), how="preempted", claim=None)
        lost, _ = advance(lost, values.machine_started(build_id=build.id, attempt=before, event_id=f"s{before}"))
        lost, _ = advance(lost, taken_away)
        assert lost.attempt == before + 1
    assert lost.deadline == build.deadline


SECRET = {"TOKEN": "projects/p/secrets/s/versions/1"}


def test_secrets_go_with_an_account_of_the_deployment_and_no_kept_disk() -> None:
    plan = values.plan(machine=MachinePlan("my-project", service_account="a@b.c"))
    asked = replace(plan, steps=(replace(plan.steps[0], secrets=SECRET),))
    check_limits(asked, NO_LIMITS)
    check_limits(asked, Limits(vm_service_accounts=("a@b.c",)))
    check_limits(plan, Limits(vm_service_accounts=()))
    with pytest.raises(InputError, match=r"^build.service_account: a@b.c is refused: vm_service_accounts of this"):
        check_limits(asked, Limits(vm_service_accounts=()))
    with pytest.raises(InputError, match=r"^keep_on_failure: the disk of a failed step may hold its secrets"):
        check_limits(replace(asked, keep_disk=60.0), Limits(max_keep=60.0))


@pytest.mark.parametrize(
    ("member", "allowed"),
    [
        ("user:me@example.com", True),
        (
            "principal://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/subject/me@example.com",
            False,
        ),
        ("serviceAccount:123456789012@cloudservices.gserviceaccount.com", True),
        ("serviceAccount:123456789013@cloudservices.gserviceaccount.com", False),
        ("allAuthenticatedUsers", False),
    ],
)
def test_members_are_whom_a_pattern_means(member: str, allowed: bool) -> None:
    """Subjects of pools of identities are chosen by those who have the pool. A project is written by its number."""
    image, limits = (
        replace(values.plan().image, share=(member,)),
        Limits(share_with=("*@example.com", "project:123456789012")),
    )
    if allowed:
        check_distribution(image, limits)
        return
    with pytest.raises(InputError, match="share_with of this deployment"):
        check_distribution(image, limits)
