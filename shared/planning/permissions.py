"""What a build needs of IAM that its deployment does not have by itself: of which account, where, and how to give it.

    what the spec names                        who is given what, and where
    a source or maker image of a project       functions: its images
    another project for VM or image            functions: the roles of terraform/access.tf, there
    a subnetwork of another project            functions that make VMs: its use
    a service account                          functions that make VMs: to give it; the account: to send reports
    secrets, keys of Cloud KMS                 the VM's account: the values; Compute Engine: the use of the key
    buckets, members, projects for copies      functions: variables of terraform/, or the owner of what is named

Pure: of the plan, of earlier builds and of the names of the deployment's accounts. What has been granted is not known
here, but by builds that needed the same and have succeeded.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..build.build import Build, Outcome
from ..build.limits import DEFAULT_NETWORK, subnetworks
from ..build.plan import Plan
from ..names import LATEST_VERSION, SECRET_OF_MANAGER
from ..submission import split_uri

PREFIX = "goldsmith"  # of the names of accounts and roles, unless the module's variable says otherwise
MAKES_VMS = ("create_resources", "verify_image")
READS_SOURCES = ("start_build", "create_resources", "expire_builds")
OF_BUILDS = (
    *("start_build", "create_resources", "grow_disk", "export_image", "verify_image", "label_image"),
    *("deprecate_images", "clean_up", "expire_builds", "dashboard"),
)
"""Functions with a role on VMs and disks of builds in terraform/access.tf; its id is PREFIX_FUNCTION."""
OF_IMAGES = tuple(function for function in OF_BUILDS if function != "grow_disk")
"""The same with a role on images: PREFIX_FUNCTION_images. retire_images retires those of the deployment alone."""
OF_COPIES = (
    *("compute.globalOperations.get", "compute.images.create", "compute.images.deprecate", "compute.images.get"),
    *("compute.images.setLabels", "compute.images.update"),
)
PUBLIC_PROJECTS = frozenset(
    [
        *("centos-cloud", "cos-cloud", "debian-cloud", "deeplearning-platform-release", "fedora-cloud"),
        *("fedora-coreos-cloud", "freebsd-org-cloud-dev", "ml-images", "opensuse-cloud", "oracle-linux-cloud"),
        *("rhel-cloud", "rhel-sap-cloud", "rocky-linux-accelerator-cloud", "rocky-linux-cloud", "suse-byos-cloud"),
        *("suse-cloud", "suse-sap-cloud", "ubuntu-os-accelerator-images", "ubuntu-os-cloud", "ubuntu-os-pro-cloud"),
        *("windows-cloud", "windows-sql-cloud"),
    ]
)
"""Projects whose images anyone may use: https://cloud.google.com/compute/docs/images/os-details"""


@dataclass(frozen=True)
class Grant:
    """What accounts have to be given on one thing."""

    key: str  # of the spec that asks for it
    accounts: tuple[str, ...]  # functions, or mail addresses
    role: str  # or permissions
    where: str
    variable: str = ""  # of terraform/ that has to name it; "": none
    commands: tuple[str, ...] = ()  # of gcloud, by those who own what it is granted on; () where an apply does all
    applied: bool = False  # whether an apply with the variable grants it
    seen: str = ""  # the id of the newest build that needed the same and has succeeded; "": none is known

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class DeploymentAccounts:
    """The service accounts of a deployment, as terraform/accounts.tf names them."""

    project: str
    prefix: str = PREFIX

    def function(self, name: str) -> str:
        """Return the mail address of a function's account."""
        return self._mail(name.replace("_", "-"))

    @property
    def vm(self) -> str:
        """Return that of the VMs whose spec names no account."""
        return self._mail("vm")

    def _mail(self, name: str) -> str:
        return f"{self.prefix}-{name}@{_of_project(self.project)}.iam.gserviceaccount.com"


def accounts_of(project: str, vm_account: str) -> DeploymentAccounts | None:
    """Return the accounts of a deployment, whose prefix its VMs' account tells; None for another account."""
    name, _, host = vm_account.partition("@")
    known = name.endswith("-vm") and host == f"{_of_project(project)}.iam.gserviceaccount.com"
    return DeploymentAccounts(project, name.removesuffix("-vm")) if known else None


def needed_grants(plan: Plan, accounts: DeploymentAccounts) -> tuple[Grant, ...]:
    """Return what a build of a plan needs beyond what the module grants with its defaults."""
    return (
        *_sources(plan, accounts),
        *_projects(plan, accounts),
        *_subnets(plan, accounts),
        *_account(plan, accounts),
        *_secrets(plan, accounts),
        *_keys(plan),
        *_files(plan, accounts),
        *_targets(plan, accounts),
    )


def seen_grants(grants: Iterable[Grant], builds: Iterable[Build], accounts: DeploymentAccounts) -> tuple[Grant, ...]:
    """Return grants with the builds that had them, given newest first: what has been granted shows in nothing else.

    A target that is refused is a warning of a build, and no failure, so such builds show nothing.
    """
    known: dict[tuple[str, str, tuple[str, ...]], str] = {}
    for build in builds:
        if build.plan is not None and build.outcome is Outcome.SUCCEEDED and not build.warnings:
            for grant in needed_grants(build.plan, accounts):
                known.setdefault((grant.where, grant.role, grant.accounts), build.id)
    return tuple(replace(grant, seen=known.get((grant.where, grant.role, grant.accounts), "")) for grant in grants)


def _sources(plan: Plan, accounts: DeploymentAccounts) -> Iterator[Grant]:
    source = plan.source if plan.origin is None else plan.origin.maker
    named = {source.project: ("source" if plan.origin is None else "source (maker_image)", READS_SOURCES)}
    if plan.exporter is not None:
        key, functions = named.get(plan.exporter.project, ("output.export (maker_image)", ()))
        named[plan.exporter.project] = key, tuple(dict.fromkeys((*functions, "start_build", "export_image")))
    for project, (key, functions) in named.items():
        if project in PUBLIC_PROJECTS or project == accounts.project:
            continue
        commands = (_bind_project(project, accounts.function(each), "roles/compute.imageUser") for each in functions)
        role, where = "roles/compute.imageUser", f"project {project}"
        yield Grant(key, functions, role, where, "source_projects", tuple(commands), applied=True)


def _projects(plan: Plan, accounts: DeploymentAccounts) -> Iterator[Grant]:
    machine, image = plan.machine.project, plan.image.project
    if machine != accounts.project:
        yield _roles("build.project", machine, OF_BUILDS, "", accounts)
    for project, key in {image: "output.project", machine: "build.project"}.items():
        if project != accounts.project:
            yield _roles(key, project, OF_IMAGES, "_images", accounts)


def _roles(key: str, project: str, functions: tuple[str, ...], suffix: str, accounts: DeploymentAccounts) -> Grant:
    commands = []
    for function in functions:
        role = f"{accounts.prefix.replace('-', '_')}_{function}{suffix}"
        copy = ["gcloud", "iam", "roles", "copy", f"--source={role}", f"--source-project={accounts.project}"]
        commands.append(shlex.join([*copy, f"--destination={role}", f"--dest-project={project}"]))
        commands.append(_bind_project(project, accounts.function(function), f"projects/{project}/roles/{role}"))
    what = "images" if suffix else "VMs and disks of builds"
    return Grant(
        key, functions, f"the roles of terraform/access.tf for {what}", f"project {project}", commands=tuple(commands)
    )


def _subnets(plan: Plan, accounts: DeploymentAccounts) -> Iterator[Grant]:
    key = "build.network" if plan.machine.network and not plan.machine.subnet else "build.subnet"
    functions = (*MAKES_VMS, "export_image") if plan.exporter is not None else MAKES_VMS
    for path in subnetworks(plan.machine):
        project, region, name = (path.split("/") + [""] * 6)[1:6:2]
        if not name or (project == accounts.project and name == DEFAULT_NETWORK):
            continue
        own = project == accounts.project
        add = ["gcloud", "compute", "networks", "subnets", "add-iam-policy-binding", name]
        commands = (
            shlex.join(
                [*add, f"--project={project}", f"--region={region}", *_binding(accounts.function(each), _NETWORK_USER)]
            )
            for each in functions
        )
        role = "compute.subnetworks.use" if own else _NETWORK_USER
        yield Grant(key, functions, role, path, "subnets", () if own else tuple(commands), applied=own)


def _account(plan: Plan, accounts: DeploymentAccounts) -> Iterator[Grant]:
    mail = plan.machine.service_account
    if mail is None or mail == accounts.vm:
        return
    key = "build.service_account"
    give = ["gcloud", "iam", "service-accounts", "add-iam-policy-binding", mail]
    yield Grant(
        key,
        MAKES_VMS,
        "roles/iam.serviceAccountUser",
        f"account {mail}",
        "vm_service_accounts",
        tuple(
            shlex.join([*give, *_binding(accounts.function(each), "roles/iam.serviceAccountUser")])
            for each in MAKES_VMS
        ),
        applied=True,
    )
    publish = ["gcloud", "pubsub", "topics", "add-iam-policy-binding", "build-reports", f"--project={accounts.project}"]
    yield Grant(
        key,
        (mail,),
        "roles/pubsub.publisher",
        f"topic build-reports of project {accounts.project}",
        "vm_service_accounts",
        applied=True,
        commands=(shlex.join([*publish, *_binding(mail, "roles/pubsub.publisher")]),),
    )


def _secrets(plan: Plan, accounts: DeploymentAccounts) -> Iterator[Grant]:
    steps = (*plan.steps, *(plan.verify_steps or ()))
    places = dict.fromkeys(
        place for step in steps for place in step.secrets.values() if place.startswith(SECRET_OF_MANAGER)
    )
    mail, role = plan.machine.service_account or accounts.vm, "roles/secretmanager.secretAccessor"
    for secret in dict.fromkeys(place.partition("/versions/")[0] for place in places):
        _, project, _, name = secret.split("/")
        add = ["gcloud", "secrets", "add-iam-policy-binding", name, f"--project={project}"]
        yield Grant("secrets", (mail,), role, secret, commands=(shlex.join([*add, *_binding(mail, role)]),))
        if f"{secret}{LATEST_VERSION}" in places:
            yield Grant(
                "secrets", ("start_build",), "secretmanager.versions.get", secret, "latest_secrets", applied=True
            )


def _keys(plan: Plan) -> Iterator[Grant]:
    image = plan.image
    users = [("output.kms_key", image.kms_key, project) for project in (plan.machine.project, image.project)]
    users += [("output.copies", copy.kms_key, copy.project) for copy in image.copies]
    role = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
    for key, path, project in dict.fromkeys(users):
        if path is None:
            continue
        parts = path.split("/")
        where = [f"--project={parts[1]}", f"--location={parts[3]}", f"--keyring={parts[5]}"]
        number = f"$(gcloud projects describe {shlex.quote(project)} --format='value(projectNumber)')"
        member = f"serviceAccount:service-{number}@compute-system.iam.gserviceaccount.com"
        add = shlex.join(["gcloud", "kms", "keys", "add-iam-policy-binding", parts[7], *where, f"--role={role}"])
        agent = f"the service agent of Compute Engine of project {project}"
        yield Grant(key, (agent,), role, "/".join(parts[:8]), commands=(f'{add} --member="{member}"',))


def _files(plan: Plan, accounts: DeploymentAccounts) -> Iterator[Grant]:
    image = plan.image
    if image.export_to is not None:
        bucket = f"bucket {split_uri(image.export_to)[0]}"
        functions = ("start_build", "export_image", "label_image", "clean_up", "expire_builds")
        yield Grant(
            "output.export", functions, "the roles of terraform/access.tf", bucket, "export_buckets", applied=True
        )
    if image.sbom_input is not None and image.sbom_input.startswith("gs://"):
        where, role = f"bucket {split_uri(image.sbom_input)[0]}", "roles/storage.objectViewer"
        yield Grant("output.sbom.input", ("start_build", "label_image"), role, where, "context_buckets", applied=True)
    if image.sbom_to is not None and image.sbom_to.startswith("gs://"):
        bucket, role = image.sbom_to.removeprefix("gs://").partition("/")[0], "roles/storage.objectUser"
        add = ["gcloud", "storage", "buckets", "add-iam-policy-binding", f"gs://{bucket}"]
        commands = (shlex.join([*add, *_binding(accounts.function("label_image"), role)]),)
        yield Grant("output.sbom.to", ("label_image",), role, f"bucket {bucket}", commands=commands)


def _targets(plan: Plan, accounts: DeploymentAccounts) -> Iterator[Grant]:
    functions = ("deprecate_images",)
    if plan.image.share:
        permissions = "compute.images.getIamPolicy compute.images.setIamPolicy"
        where = f"project {plan.image.project}"
        yield Grant("output.share", functions, permissions, where, "share_with", applied=True)
    for project in dict.fromkeys(copy.project for copy in plan.image.copies):
        if project == accounts.project:
            own = "none beyond its own"
            yield Grant("output.copies", functions, own, f"project {project}", "copy_projects", applied=True)
            continue
        role = f"{accounts.prefix.replace('-', '_')}_copies"
        make = ["gcloud", "iam", "roles", "create", role, f"--project={project}"]
        yield Grant(
            "output.copies",
            functions,
            " ".join(OF_COPIES),
            f"project {project}",
            "copy_projects",
            (
                shlex.join([*make, f"--permissions={','.join(OF_COPIES)}"]),
                _bind_project(project, accounts.function("deprecate_images"), f"projects/{project}/roles/{role}"),
            ),
        )


_NETWORK_USER = "roles/compute.networkUser"


def _bind_project(project: str, mail: str, role: str) -> str:
    return shlex.join(["gcloud", "projects", "add-iam-policy-binding", project, *_binding(mail, role)])


def _binding(mail: str, role: str) -> list[str]:
    return [f"--member=serviceAccount:{mail}", f"--role={role}"]


def _of_project(project: str) -> str:
    """Return a project as mail addresses of service accounts have it: example.com:web becomes web.example.com."""
    domain, colon, name = project.rpartition(":")
    return f"{name}.{domain}" if colon else name
