"""What a build needs of IAM beyond its deployment's own, by what its plan names."""

from __future__ import annotations

from dataclasses import replace

from provisioner.protocol import Step
from shared.build.build import Build, Outcome
from shared.build.plan import ImageCopyPlan, MachinePlan, Plan, SourceImage
from shared.planning.permissions import DeploymentAccounts, Grant, accounts_of, needed_grants, seen_grants
from tests.world.values import ended_build
from tests.world.values import plan as a_plan

PROJECT = "my-project"
ACCOUNTS = DeploymentAccounts(PROJECT, "gold")
KEY = "projects/keys/locations/europe-west1/keyRings/images/cryptoKeys/golden"
SECRET = "projects/vault/secrets/token"
MAIL = "builder@my-project.iam.gserviceaccount.com"


def made(**machine: object) -> Plan:
    first = a_plan()
    whole = MachinePlan(PROJECT, zones=("us-central1-a",))
    source = replace(first.source, project="debian-cloud")
    return replace(
        first,
        source=source,
        machine=replace(whole, **machine),  # type: ignore[arg-type]
        image=replace(first.image, project=PROJECT),
    )


def told(plan: Plan) -> list[tuple[str, str, str, tuple[str, ...]]]:
    return [(grant.key, grant.where, grant.variable, grant.accounts) for grant in needed_grants(plan, ACCOUNTS)]


def only(plan: Plan) -> Grant:
    [grant] = needed_grants(plan, ACCOUNTS)
    return grant


def test_a_build_of_public_sources_in_the_deployments_project_needs_nothing_more() -> None:
    assert needed_grants(made(), ACCOUNTS) == ()


def test_accounts_are_known_by_that_of_a_vm_and_by_their_usual_names() -> None:
    assert accounts_of(PROJECT, "gold-vm@my-project.iam.gserviceaccount.com") == ACCOUNTS
    assert accounts_of(PROJECT, MAIL) is None
    assert accounts_of(PROJECT, "gold-vm@other.iam.gserviceaccount.com") is None
    assert ACCOUNTS.function("start_build") == "gold-start-build@my-project.iam.gserviceaccount.com"
    assert DeploymentAccounts("example.com:web").vm == "goldsmith-vm@web.example.com.iam.gserviceaccount.com"


def test_private_images_of_other_projects_are_lent_to_the_functions_that_read_them() -> None:
    private = replace(made(), source=replace(made().source, project="bases"))
    assert told(private) == [
        ("source", "project bases", "source_projects", ("start_build", "create_resources", "expire_builds"))
    ]
    assert only(private).commands[1] == (
        "gcloud projects add-iam-policy-binding bases "
        "--member=serviceAccount:gold-create-resources@my-project.iam.gserviceaccount.com "
        "--role=roles/compute.imageUser"
    )
    maker = SourceImage("bases", "maker", "1")
    assert told(replace(private, exporter=maker))[0][3][-1] == "export_image"
    assert told(replace(made(), exporter=maker))[0] == (
        "output.export (maker_image)",
        "project bases",
        "source_projects",
        ("start_build", "export_image"),
    )


def test_another_project_needs_the_roles_of_the_module() -> None:
    grants = needed_grants(made(project="builds"), ACCOUNTS)
    assert [(grant.key, grant.where, len(grant.accounts)) for grant in grants] == [
        ("build.project", "project builds", 10),
        ("build.project", "project builds", 9),
        ("build.subnet", "projects/builds/regions/us-central1/subnetworks/default", 2),
    ]
    assert grants[0].commands[:2] == (
        "gcloud iam roles copy --source=gold_start_build --source-project=my-project --destination=gold_start_build "
        "--dest-project=builds",
        "gcloud projects add-iam-policy-binding builds "
        "--member=serviceAccount:gold-start-build@my-project.iam.gserviceaccount.com "
        "--role=projects/builds/roles/gold_start_build",
    )
    image = replace(made(), image=replace(made().image, project="images"))
    assert (only(image).key, only(image).where) == ("output.project", "project images")
    assert "--source=gold_export_image_images" in " ".join(only(image).commands)


def test_subnetworks_are_named_in_the_module_and_lent_by_other_projects() -> None:
    own = only(made(subnet="builds"))
    assert (own.where, own.variable, own.commands) == (
        "projects/my-project/regions/us-central1/subnetworks/builds",
        "subnets",
        (),
    )
    shared = only(made(subnet="projects/host/regions/us-central1/subnetworks/builds"))
    assert (shared.variable, shared.role) == ("subnets", "roles/compute.networkUser")
    assert shared.commands[0] == (
        "gcloud compute networks subnets add-iam-policy-binding builds --project=host --region=us-central1 "
        "--member=serviceAccount:gold-create-resources@my-project.iam.gserviceaccount.com "
        "--role=roles/compute.networkUser"
    )


def test_an_account_of_a_vm_is_given_and_may_report_and_read_its_secrets() -> None:
    step = Step("fetch", "run-script", {}, secrets={"A": f"{SECRET}/versions/3", "B": f"{SECRET}/versions/latest"})
    plan = replace(made(service_account=MAIL), steps=(step,))
    assert told(plan) == [
        ("build.service_account", f"account {MAIL}", "vm_service_accounts", ("create_resources", "verify_image")),
        ("build.service_account", "topic build-reports of project my-project", "vm_service_accounts", (MAIL,)),
        ("secrets", SECRET, "", (MAIL,)),
        ("secrets", SECRET, "latest_secrets", ("start_build",)),
    ]
    assert needed_grants(plan, ACCOUNTS)[2].commands == (
        f"gcloud secrets add-iam-policy-binding token --project=vault --member=serviceAccount:{MAIL} "
        "--role=roles/secretmanager.secretAccessor",
    )


def test_a_key_is_used_by_the_service_agents_of_compute_engine() -> None:
    image = replace(made().image, kms_key=f"{KEY}/cryptoKeyVersions/2", copies=(ImageCopyPlan("web", kms_key=KEY),))
    grants = needed_grants(replace(made(), image=image), ACCOUNTS)
    assert [(grant.key, grant.where) for grant in grants] == [
        ("output.kms_key", KEY),
        ("output.copies", KEY),
        ("output.copies", "project web"),
    ]
    number = "$(gcloud projects describe my-project --format='value(projectNumber)')"
    assert grants[0].commands == (
        "gcloud kms keys add-iam-policy-binding golden --project=keys --location=europe-west1 --keyring=images "
        "--role=roles/cloudkms.cryptoKeyEncrypterDecrypter "
        f'--member="serviceAccount:service-{number}@compute-system.iam.gserviceaccount.com"',
    )


def test_buckets_and_targets_are_named_in_the_module_or_granted_by_their_owners() -> None:
    image = replace(
        made().image,
        export_to="gs://archives/hello.tar.gz",
        sbom_input="gs://lists/packages.json",
        sbom_to="gs://documents/",
        share=("group:web@example.org",),
        copies=(ImageCopyPlan("web"), ImageCopyPlan(PROJECT, storage_location="eu")),
    )
    assert [(key, where, variable) for key, where, variable, _ in told(replace(made(), image=image))] == [
        ("output.export", "bucket archives", "export_buckets"),
        ("output.sbom.input", "bucket lists", "context_buckets"),
        ("output.sbom.to", "bucket documents", ""),
        ("output.share", "project my-project", "share_with"),
        ("output.copies", "project web", "copy_projects"),
        ("output.copies", "project my-project", "copy_projects"),
    ]


def test_what_a_build_needed_that_has_succeeded_is_there() -> None:
    private = replace(made(service_account=MAIL), source=replace(made().source, project="bases"))
    image = replace(private.image, share=("group:web@example.org",))
    earlier = replace(ended_build(), id="hello-1", plan=replace(private, name="other", image=image))
    grants = needed_grants(replace(private, image=replace(image, kms_key=KEY)), ACCOUNTS)

    def seen(*builds: Build) -> dict[str, str]:
        return {grant.key: grant.seen for grant in seen_grants(grants, builds, ACCOUNTS)}

    keys = ("source", "build.service_account", "output.share")
    assert seen(earlier, replace(earlier, id="hello-0")) == {**dict.fromkeys(keys, "hello-1"), "output.kms_key": ""}
    for useless in ({"outcome": Outcome.FAILED}, {"warnings": ("not shared",)}, {"plan": None}):
        assert set(seen(replace(earlier, **useless)).values()) == {""}
