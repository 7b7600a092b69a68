"""docs/security.md and terraform/ agree, and no account has more permissions than the code's calls need."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from shared import topology
from shared.planning.permissions import MAKES_VMS, OF_BUILDS, OF_IMAGES, READS_SOURCES
from shared.topology import PEOPLE, REPORTS_TOPIC
from tests.project.source_tree import ROOT
from tests.terraform.configuration import read_configuration
from tests.terraform.conftest import SIGN, VARIABLES
from tests.terraform.grants import ACCOUNTS, PAGE, Grant, documented, grants
from tests.terraform.planning import Plan, make_plan

REQUESTS = re.compile(r"\bcompute_v1\.(\w+Request)\b")
PERMISSIONS = {
    "AggregatedListDisksRequest": {"disks.list"},
    "AttachDiskInstanceRequest": {"instances.attachDisk", "disks.useReadOnly"},
    "AggregatedListInstanceGroupManagersRequest": {"instanceGroupManagers.list"},
    "AggregatedListInstanceTemplatesRequest": {"instanceTemplates.list"},
    "AggregatedListInstancesRequest": {"instances.list"},
    "DeleteDiskRequest": {"disks.delete"},
    "DeleteImageRequest": {"images.delete"},
    "DeleteInstanceRequest": {"instances.delete"},
    "DeprecateImageRequest": {"images.deprecate"},
    "DisksResizeRequest": set(),  # a part of ResizeDiskRequest
    "GetAcceleratorTypeRequest": {"acceleratorTypes.get"},
    "GetDiskRequest": {"disks.get"},
    "GetIamPolicyImageRequest": {"images.getIamPolicy"},
    "GetImageRequest": {"images.get"},
    "GetInstanceRequest": {"instances.get"},
    "GetMachineTypeRequest": {"machineTypes.get"},
    "GetNetworkRequest": {"networks.get"},
    "GetSerialPortOutputInstanceRequest": {"instances.getSerialPortOutput"},
    "GetSubnetworkRequest": {"subnetworks.get"},
    "GlobalSetPolicyRequest": set(),  # a part of SetIamPolicyImageRequest
    "GlobalSetLabelsRequest": set(),  # a part of the next but one
    "InsertDiskRequest": {"disks.create", "disks.setLabels", "images.useReadOnly"},
    "InsertImageRequest": {"images.create", "images.setLabels", "disks.useReadOnly"},
    "InsertInstanceRequest": {
        "disks.create",
        "disks.setLabels",
        "disks.use",
        "images.useReadOnly",
        "instances.create",
        "instances.setLabels",
        "instances.setMetadata",
        "instances.setServiceAccount",
        "subnetworks.use",
        "subnetworks.useExternalIp",
    },
    "ListImagesRequest": {"images.list"},
    "ListZoneOperationsRequest": {"zoneOperations.list"},
    "ListZonesRequest": {"zones.list"},
    "PatchImageRequest": {"images.update"},
    "ResizeDiskRequest": {"disks.resize"},
    "SetIamPolicyImageRequest": {"images.setIamPolicy"},
    "SetLabelsImageRequest": {"images.setLabels"},
    "WaitGlobalOperationRequest": {"globalOperations.get"},
    "WaitZoneOperationRequest": {"zoneOperations.get"},
}
"""What each request to Compute Engine needs, as its reference says (https://cloud.google.com/compute/docs/reference)."""


def test_the_page_says_what_is_granted(plan: Plan) -> None:
    granted, told = grants(plan), documented(PAGE.read_text(encoding="utf-8"))
    assert sorted(granted - told) == [], "granted in terraform/, and not in docs/security.md"
    assert sorted(told - granted) == [], "in docs/security.md, and not granted in terraform/"


def test_a_row_that_is_missing_or_too_much_is_found(plan: Plan) -> None:
    text = PAGE.read_text(encoding="utf-8")
    less = documented(text.replace("`compute.zoneOperations.list` ", ""))
    more = documented(text + "| `vm` | `specs/` | `storage.objects.get` | nothing |\n")
    assert {grant.what for grant in grants(plan) - less} == {"compute.zoneOperations.list"}
    assert more - grants(plan) == {Grant("vm", "specs/", "storage.objects.get")}


def test_requests_of_the_code_have_their_permission() -> None:
    made = {
        name
        for path in (ROOT / "shared" / "gcp").rglob("*.py")
        for name in REQUESTS.findall(path.read_text(encoding="utf-8"))
    }
    assert made == set(PERMISSIONS)


def test_no_permission_of_compute_engine_is_granted_that_no_request_needs(plan: Plan) -> None:
    functions = {function.name for function in topology.FUNCTIONS}
    granted = {g.what for g in grants(plan) if g.account in functions and g.what.startswith("compute.")}
    assert granted == {f"compute.{need}" for needs in PERMISSIONS.values() for need in needs}


def test_functions_that_know_nothing_of_compute_engine_may_do_nothing_there(plan: Plan) -> None:
    found = {grant.account for grant in grants(plan) if grant.what.startswith("compute.")}
    functions = {function.name for function in topology.FUNCTIONS}
    assert found & functions == {function.name for function in topology.FUNCTIONS if function.compute}


def test_a_plan_names_the_roles_that_another_project_needs(plan: Plan) -> None:
    roles = {role["role_id"] for role in plan.all("google_project_iam_custom_role")}
    functions = {function.name for function in topology.FUNCTIONS} - {"retire_images"}
    assert {f"goldsmith_{name}" for name in functions} & roles == {f"goldsmith_{name}" for name in OF_BUILDS}
    of_images = {f"goldsmith_{name}_images" for name in functions}
    assert of_images & roles == {f"goldsmith_{name}_images" for name in OF_IMAGES}
    found = {grant.account for grant in grants(plan) if grant.where == "source_projects"}
    assert found == {*READS_SOURCES, "export_image"}
    assert {grant.account for grant in grants(plan) if grant.where == "vm_service_accounts"} == {*MAKES_VMS}


def test_build_vms_publish_reports_and_nothing_else(plan: Plan) -> None:
    found = {grant for grant in grants(plan) if grant.account == "vm"}
    assert found == {Grant("vm", f"topic {REPORTS_TOPIC}", "roles/pubsub.publisher")}


def test_no_member_has_a_wildcard_a_basic_role_or_an_administrators(plan: Plan) -> None:
    bad = re.compile(r"\*|roles/(owner|editor|viewer|browser)$|admin", re.IGNORECASE)
    assert [grant for grant in grants(plan) if bad.search(grant.what)] == []


def test_no_grant_is_to_all_users(plan: Plan) -> None:
    assert not {grant.account for grant in grants(plan)} & {"allUsers", "allAuthenticatedUsers"}


def test_roles_are_added_and_never_replaced(plan: Plan) -> None:
    """A `_binding` or `_policy` would take from others what it does not name."""
    kinds = {resource.type for resource in plan.resources if "_iam_" in resource.type}
    assert {kind for kind in kinds if not kind.endswith(("_iam_member", "_iam_custom_role"))} == set()


def test_there_are_no_keys(plan: Plan) -> None:
    assert not {resource.type for resource in plan.resources} & {
        "google_service_account_key",
        "google_storage_hmac_key",
    }


def test_the_master_key_is_in_no_plan(plan: Plan) -> None:
    [version] = plan.all("google_secret_manager_secret_version")
    assert version["secret_data"] is version["secret_data_wo"] is None
    assert "random_password" not in {resource.type for resource in plan.resources}


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ({}, ["europe-west1"]),
        ({"secret_locations": ["europe-west4", "europe-west9"]}, ["europe-west4", "europe-west9"]),
    ],
)
def test_the_master_key_stays_in_its_regions(told: dict[str, list[str]], kept: list[str], tmp_path: Path) -> None:
    [secret] = make_plan({**VARIABLES, **told}, tmp_path).all("google_secret_manager_secret")
    [replication] = secret["replication"]
    [managed] = replication["user_managed"]
    assert ([replica["location"] for replica in managed["replicas"]], replication["auto"]) == (kept, [])


def test_google_may_choose_where_the_master_key_is(tmp_path: Path) -> None:
    [secret] = make_plan({**VARIABLES, "secret_locations": []}, tmp_path).all("google_secret_manager_secret")
    [replication] = secret["replication"]
    assert (len(replication["auto"]), replication["user_managed"]) == (1, [])


def test_an_upgrade_makes_no_other_master_key() -> None:
    """Replication cannot be changed: Terraform would delete the secret, and builds in flight would lose their key."""
    secret = read_configuration().one("google_secret_manager_secret.master_key")
    assert secret.body["lifecycle"] == [{"ignore_changes": ["replication"]}]


def test_people_may_count_calls_to_the_project(plan: Plan) -> None:
    found = {grant.account for grant in grants(plan) if grant.what == "roles/serviceusage.serviceUsageConsumer"}
    assert found == {"submitters", "operators", "repairers"}


def test_every_account_is_used(plan: Plan) -> None:
    shown = str([resource.values for resource in plan.resources if resource.type != "google_service_account"])
    accounts = [values["account_id"] for values in plan.all("google_service_account")]
    assert [name for name in accounts if f"<google_service_account {name} " not in shown] == []
    assert len(accounts) == len(topology.FUNCTIONS) + 4


def test_only_who_calls_webhooks_is_given_them(plan: Plan) -> None:
    assert {grant.account for grant in grants(plan) if grant.where == "webhooks_secret"} == {"call_webhooks"}
    for name, function in plan.of("google_cloudfunctions2_function").items():
        [service] = function["service_config"]
        given = {secret["key"]: secret for secret in service["secret_environment_variables"]}
        assert ("GOLDSMITH_WEBHOOKS" in given) == topology.function(name).webhooks
        assert "GOLDSMITH_WEBHOOKS" not in service["environment_variables"]
        if topology.function(name).webhooks:
            secret = given["GOLDSMITH_WEBHOOKS"]
            assert (secret["project_id"], secret["secret"]) == ("my-project", "webhooks")


def test_who_calls_webhooks_can_read_no_build(plan: Plan) -> None:
    found = {grant.where for grant in grants(plan) if grant.account == "call_webhooks"}
    assert found == {"topic webhook-calls", "webhooks_secret", "project"}


def test_traces_are_written_by_who_sends_them_and_only_where_google_takes_them(plan: Plan, tmp_path: Path) -> None:
    """Without a collector there is nothing of it; one elsewhere gets nothing of Google Cloud's."""
    senders = {each.name for each in topology.FUNCTIONS if each.spans}
    role = "roles/telemetry.tracesWriter"
    assert {grant for grant in grants(plan) if grant.account in senders and grant.where == "project"} == {
        Grant(name, "project", role) for name in senders
    }
    for number, endpoint in enumerate((None, "https://otlp.example.com")):
        (folder := tmp_path / str(number)).mkdir()
        other = make_plan({**VARIABLES, "otlp_endpoint": endpoint}, folder)
        assert role not in {grant.what for grant in grants(other)}
        functions = other.of("google_cloudfunctions2_function")
        traced = {
            name
            for name, function in functions.items()
            if "GOLDSMITH_OTLP_ENDPOINT" in function["service_config"][0]["environment_variables"]
        }
        assert traced == (senders if endpoint else set())
        assert (
            ("send_spans" in functions) == ("spans" in other.of("google_pubsub_subscription", "push")) == bool(endpoint)
        )
        apis = {each["service"] for each in other.all("google_project_service")}
        assert not apis & {"telemetry.googleapis.com", "cloudtrace.googleapis.com"}


def test_versions_of_secrets_are_looked_up_and_no_value_is_read(plan: Plan, tmp_path: Path) -> None:
    found = {grant for grant in grants(plan) if grant.where == "latest_secrets"}
    assert found == {Grant("start_build", "latest_secrets", "secretmanager.versions.get")}
    secrets = ["projects/one-project/secrets/token", "projects/two-project/secrets/token"]
    several = make_plan({**VARIABLES, "latest_secrets": secrets}, tmp_path)
    roles = [role for role in several.all("google_project_iam_custom_role") if "secret_versions" in role["role_id"]]
    assert {role["project"] for role in roles} == {"one-project", "two-project"}
    assert {role["role_id"] for role in roles} == {"goldsmith_secret_versions_my_project"}, "others may be there"
    assert {tuple(role["permissions"]) for role in roles} == {("secretmanager.versions.get",)}


def trusted_keys(plan: Plan) -> list[Any]:
    found = [each for each in plan.all("google_storage_bucket_object") if each["name"] == topology.TRUSTED_KEYS]
    return [json.loads(each["content"]) for each in found]


def test_one_function_signs_and_people_read_its_public_key(plan: Plan, tmp_path: Path) -> None:
    assert {(g.account, g.what) for g in grants(plan) if g.where == "signing_key"} == {
        ("label_image", "roles/cloudkms.signer"),
        ("submitters", "roles/cloudkms.publicKeyViewer"),
        ("operators", "roles/cloudkms.publicKeyViewer"),
    }
    versions = [f"{SIGN}/cryptoKeyVersions/{number}" for number in (1, 2)]
    assert trusted_keys(plan) == [{"keys": dict.fromkeys(versions, "")}]
    assert {g.account for g in grants(plan) if g.where == topology.KEYS} == {"submitters", "operators"}
    assert {g.what for g in grants(plan) if g.where == topology.KEYS} == {"storage.objects.get", "storage.objects.list"}
    pem = "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n"
    known = make_plan({**VARIABLES, "signing_key": None, "trusted_keys": {versions[0]: pem}}, tmp_path)
    assert {g for g in grants(known) if g.where == "signing_key"} == set()  # nothing is signed
    assert trusted_keys(known) == [{"keys": {versions[0]: pem}}]


def test_a_deployment_without_a_key_asks_cloud_kms_for_nothing(tmp_path: Path) -> None:
    without = make_plan({**VARIABLES, "signing_key": None, "trusted_keys": {}}, tmp_path)
    assert trusted_keys(without) == []
    assert [each for each in without.all("google_project_service") if "kms" in each["service"]] == []
    assert {g for g in grants(without) if g.where in ("signing_key", topology.KEYS)} == set()
    [service] = without.of("google_cloudfunctions2_function")["label_image"]["service_config"]
    assert "GOLDSMITH_SIGNING_KEY" not in service["environment_variables"]


def test_each_function_has_an_account_of_its_own(plan: Plan) -> None:
    functions = plan.of("google_cloudfunctions2_function").values()
    accounts = [function["service_config"][0]["service_account_email"] for function in functions]
    assert len(set(accounts)) == len(accounts) == len(topology.FUNCTIONS)


@pytest.mark.parametrize("function", [function.name for function in topology.FUNCTIONS])
def test_only_who_may_read_the_master_key_is_given_it(plan: Plan, function: str) -> None:
    readers = {grant.account for grant in grants(plan) if grant.where == "master key"}
    [service] = plan.of("google_cloudfunctions2_function")[function]["service_config"]
    given = [secret["key"] for secret in service["secret_environment_variables"]]
    assert ("GOLDSMITH_MASTER_KEY" in given) == (function in readers) == topology.function(function).keyed
    assert "GOLDSMITH_MASTER_KEY" not in service["environment_variables"]


@pytest.mark.parametrize(
    ("name", "reached"),
    [
        ("projects/p/zones/z/instances/gs-hello-0123456789ab-a1-vm", True),
        ("projects/p/zones/z/instances/gateway", False),
        ("projects/p/zones/z/disks/gs-hello-0123456789ab-a1-boot", True),
        ("projects/p/zones/z/disks/database", False),
        ("projects/p/global/images/gs-hello-0123456789ab-a1-vm-ci", True),
        ("projects/p/global/images/hello-20261120", False),
        ("projects/p", True),
        ("projects/p/regions/r/subnetworks/default", True),
    ],
)
def test_condition_keeps_all_but_builds_out_of_reach(plan: Plan, name: str, reached: bool) -> None:
    """The condition is in CEL; it is read here as what it is made of: one clause for each type."""
    bindings = plan.of("google_project_iam_member", "builds").values()
    [expression] = {binding["condition"][0]["expression"] for binding in bindings}
    clauses = re.findall(
        r'\(resource\.type != "compute\.googleapis\.com/(\w+)" \|\| '
        r'resource\.name\.extract\("/(\w+)/{name}"\)\.startsWith\("(.*?)"\)\)',
        expression,
    )
    assert len(clauses) == expression.count("(resource.type") == 3
    collections = {collection: (kind, start) for kind, collection, start in clauses}
    assert {kind.lower() + "s" for kind, _ in collections.values()} == set(collections)
    _, _, rest = name.rpartition("/")
    collection = name.split("/")[-2]
    assert (collection not in collections or rest.startswith(collections[collection][1])) == reached


MAKERS = ("create_resources", "export_image", "verify_image")


def test_functions_that_make_vms_can_boot_them_from_private_images_of_other_projects(tmp_path: Path) -> None:
    """The image that `maker_image` names is one of those, also where it writes an image's files."""
    for buckets, makers in (["archives"], {"create_resources", "export_image"}), ([], {"create_resources"}):
        found = grants(make_plan({**VARIABLES, "export_buckets": buckets}, tmp_path))
        users = {grant.account for grant in found if grant.where == "source_projects"}
        assert users == {"start_build", "expire_builds"} | makers


def test_who_reads_contexts_can_read_no_file_of_an_export(plan: Plan) -> None:
    found = {grant.what for grant in grants(plan) if (grant.account, grant.where) == ("start_build", "export_buckets")}
    assert found == {"roles/storage.legacyBucketReader"}, "which lists, and reads no object"


def subnets_in_use(plan: Plan) -> set[tuple[str, str, str]]:
    """Return (function, region, subnetwork) of each grant on a subnetwork."""
    return {
        (ACCOUNTS[found["member"].split()[1]], found["region"], found["subnetwork"])
        for found in plan.all("google_compute_subnetwork_iam_member")
    }


def test_vms_can_be_put_into_the_subnetworks_of_the_limits_alone(tmp_path: Path) -> None:
    named = ["builds", "projects/my-project/regions/us-east1/subnetworks/far", VARIABLES["subnets"][-1]]
    zones = ["europe-west1-b", "europe-west1-c", "europe-west4-a"]
    found = make_plan({**VARIABLES, "subnets": named, "zones": zones}, tmp_path)
    places = [("europe-west1", "builds"), ("europe-west4", "builds"), ("us-east1", "far")]
    assert subnets_in_use(found) == {(maker, *place) for maker in MAKERS for place in places}
    granted = {grant for grant in grants(found) if ".subnetworks.use" in grant.what}
    assert {grant.where for grant in granted} == {"subnets"}


def test_a_project_whose_name_begins_like_ours_is_another(tmp_path: Path) -> None:
    named = ["builds", "projects/my-project-2/regions/us-east1/subnetworks/theirs"]
    found = make_plan({**VARIABLES, "subnets": named}, tmp_path)
    assert subnets_in_use(found) == {(maker, "europe-west1", "builds") for maker in MAKERS}


def test_no_vm_can_be_given_an_address_where_specs_may_not_ask_for_one(tmp_path: Path) -> None:
    found = grants(make_plan({**VARIABLES, "external_ip_allowed": False}, tmp_path))
    assert {grant.what for grant in found if ".subnetworks.use" in grant.what} == {"compute.subnetworks.use"}


def test_functions_are_built_into_the_one_repository_that_their_builder_writes(plan: Plan) -> None:
    [repository] = plan.all("google_artifact_registry_repository")
    [writes] = plan.all("google_artifact_registry_repository_iam_member")
    assert writes["repository"] == repository["repository_id"] == "goldsmith-functions"
    assert repository["format"] == "DOCKER"
    assert writes["location"] == repository["location"] == "europe-west1"
    functions = plan.of("google_cloudfunctions2_function").values()
    assert {function["location"] for function in functions} == {repository["location"]}
    used = {function["build_config"][0]["docker_repository"] for function in functions}
    assert used == {"<google_artifact_registry_repository goldsmith-functions id>"}
    assert {grant.where for grant in grants(plan) if grant.what.startswith("roles/artifactregistry.")} == {
        "repository goldsmith-functions"
    }


def test_conditions_say_what_their_titles_say(plan: Plan) -> None:
    place = "projects/_/buckets/my-project-goldsmith"
    for binding in plan.all("google_storage_bucket_iam_member"):
        if binding["bucket"] != "my-project-goldsmith":
            continue
        [condition] = binding["condition"]
        prefix = condition["title"].removeprefix("only-")
        inside = f'resource.name.startsWith("{place}/objects/{prefix}/")'
        of_submitters = prefix == "specs" and "google_service_account" not in binding["member"]
        outside = f' && !resource.name.startsWith("{place}/objects/{PEOPLE}")' if of_submitters else ""
        assert condition["expression"] == f'resource.name == "{place}" || {inside}{outside}'


def test_no_other_database_can_be_reached(plan: Plan) -> None:
    roles = {f"<google_project_iam_custom_role goldsmith_store_{mode} name>" for mode in ("read", "write")}
    found = [binding for binding in plan.all("google_project_iam_member") if binding["role"] in roles]
    [database] = plan.all("google_firestore_database")
    wanted = f'resource.name == "projects/my-project/databases/{database["name"]}"'
    assert {binding["condition"][0]["expression"] for binding in found} == {wanted}
    assert len(found) == len(topology.FUNCTIONS) - 1 + 2  # call_webhooks knows no database
