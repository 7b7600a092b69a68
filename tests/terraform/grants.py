"""Who may do what where: every IAM binding of a plan as plain facts, and the table of docs/security.md as the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from shared import topology
from tests.project.source_tree import ROOT
from tests.terraform.planning import Plan, Resource

PAGE = ROOT / "docs" / "security.md"

PEOPLE = {
    "user:submitter@example.org": "submitters",
    "group:operators@example.org": "operators",
    "group:repairers@example.org": "repairers",
    "domain:example.org": "dashboard_invokers",
    "user:ann@example.org": "people",
    "serviceAccount:ann@my-project.iam.gserviceaccount.com": "people",
}
"""The members of conftest.VARIABLES, by the variable that they are in."""

AGENTS = {
    "serviceAccount:service-1@gcp-sa-iap.iam.gserviceaccount.com": "Identity-Aware Proxy",
    "serviceAccount:service-1@gcp-sa-pubsub.iam.gserviceaccount.com": "Pub/Sub",
    "serviceAccount:service-1@gs-project-accounts.iam.gserviceaccount.com": "Cloud Storage",
}
LENT = {"serviceAccount:other@other-project.iam.gserviceaccount.com": "vm_service_accounts"}
ACCOUNTS = {function.deployed_name: function.name for function in topology.FUNCTIONS}
OTHERS = {
    "other-project": "source_projects",
    "other-contexts": "context_buckets",
    "archives": "export_buckets",
    "web-project": "consumers",
}


@dataclass(frozen=True, order=True)
class Grant:
    """One fact: an account has a permission (or a predefined role) somewhere."""

    account: str
    where: str
    what: str


def grants(plan: Plan) -> set[Grant]:
    """Return all grants of a plan; our own roles are taken apart into their permissions."""
    roles = {f"<google_project_iam_custom_role {r['role_id']} name>": r["permissions"] for r in _roles(plan)}
    return {
        Grant(_account(resource.values["member"]), _where(resource), what)
        for resource in plan.resources
        if resource.type.endswith("_iam_member")
        for what in roles.get(resource.values["role"], [resource.values["role"]])
    }


def _roles(plan: Plan) -> Iterator[dict[str, list[str]]]:
    for values in plan.all("google_project_iam_custom_role"):
        yield dict(values)


def _account(member: str) -> str:
    """Name a member: a function, one of our other accounts, an agent of Google's, or people."""
    if match := re.fullmatch(r"<google_service_account (goldsmith-(.*)) member>", member):
        return ACCOUNTS.get(match[1], match[2])
    return {**AGENTS, **PEOPLE, **LENT}.get(member, member)


def _where(resource: Resource) -> str:
    """Name what a binding is on, within its condition."""
    values = resource.values
    condition = values["condition"][0]["title"].removeprefix("only-") if values.get("condition") else ""
    kind = resource.type.removeprefix("google_").removesuffix("_iam_member")
    if kind == "project":
        return condition or OTHERS.get(str(values["project"]), "project")
    if kind == "storage_bucket":
        return f"{condition}/" if condition else OTHERS.get(str(values["bucket"]), "other bucket")
    if kind == "service_account":
        match = re.fullmatch(r"<google_service_account (goldsmith-(.*)) name>", values["service_account_id"])
        return f"account {ACCOUNTS.get(match[1], match[2])}" if match else "vm_service_accounts"
    if kind == "compute_subnetwork":
        return "subnets" if values["project"] == "my-project" else "subnets of others"
    if kind == "kms_crypto_key":
        return "signing_key" if values["crypto_key_id"].endswith("/cryptoKeys/sign") else "other key"
    if kind == "artifact_registry_repository":
        return f"repository {values['repository']}"
    if kind == "cloud_run_v2_service":
        return f"function {ACCOUNTS[values['name']]}"
    names = {"pubsub_topic": "topic", "pubsub_subscription": "subscription", "secret_manager_secret": "secret_id"}
    name = str(values[names[kind]])
    secrets = {"goldsmith-master-key": "master key", "webhooks": "webhooks_secret", "token": "latest_secrets"}
    return secrets[name] if kind == "secret_manager_secret" else f"{names[kind]} {name}"


def documented(text: str) -> set[Grant]:
    """Read the rows `| accounts | where | permissions | for |`; a cell's entries are its `code`."""
    found = set()
    for line in text.splitlines():
        cells = [re.findall(r"`([^`]+)`", cell) for cell in line.split("|")[1:-1]]
        if len(cells) == 4:
            found |= {Grant(who, where, what) for who in cells[0] for where in cells[1] for what in cells[2]}
    return found
