"""Fixtures of these tests: the module's plan, made once."""

from __future__ import annotations

from typing import Any

import pytest

from tests.terraform.planning import Plan, make_plan

SIGN = "projects/key-project/locations/europe-west1/keyRings/images/cryptoKeys/sign"

VARIABLES: dict[str, Any] = {
    "project": "my-project",
    "region": "europe-west1",
    "zones": ["europe-west1-b", "europe-west1-c"],
    "submitters": ["user:submitter@example.org"],
    "operators": ["group:operators@example.org"],
    "repairers": ["group:repairers@example.org"],
    "dashboard_invokers": ["domain:example.org"],
    "dashboard_iap": True,
    "source_projects": ["other-project"],
    "context_buckets": ["other-contexts"],
    "vm_service_accounts": ["other@other-project.iam.gserviceaccount.com"],
    "subnets": ["builds", "projects/host-project/regions/europe-west1/subnetworks/shared"],
    "external_ip_allowed": True,
    "machine_types": ["n1-standard-1", "n2-*"],
    "gpu_types": ["nvidia-tesla-t4"],
    "max_timeout": "36h",
    "max_keep": "2h",
    "retry_for": "2d",
    "retry_disk_for": "90m",
    "max_disk_gb": 200,
    "kms_keys": ["projects/my-project/locations/*/keyRings/images/cryptoKeys/*"],
    "storage_locations": ["eu", "europe-*"],
    "share_with": ["group:*@example.org"],
    "copy_projects": ["my-project", "other-project"],
    "export_buckets": ["archives"],
    "concurrency": 4,
    "channels": {"dev": {}, "prod": {"approvers": ["ann@example.org", "ben@example.org"], "approve_within": "36h"}},
    "people": {
        "ann": {
            "addresses": ["ann@example.org", "ann@my-project.iam.gserviceaccount.com"],
            "folder": True,
            "operator": True,
        }
    },
    "family_concurrency": 1,
    "trigger_failures": 3,
    "retire_images": {"hello": {"older_than": "90d12h", "keep": 3}, "base": {"keep": 2}},
    "budgets": {"hello": {"dollars": 20}, "*": {"dollars": 99.5, "per": "1d12h"}},
    "consumers": ["web-project"],
    "webhooks_secret": "projects/my-project/secrets/webhooks",
    "latest_secrets": ["projects/my-project/secrets/token"],
    "signing_key": f"{SIGN}/cryptoKeyVersions/2",
    "trusted_keys": {f"{SIGN}/cryptoKeyVersions/1": ""},
    "monitoring_dashboard": True,
    "otlp_endpoint": "https://telemetry.googleapis.com",
    "notification_channels": ["projects/my-project/notificationChannels/1"],
    "rebuilds": {"weekly": {"spec": "gs://b/specs/hello.yaml", "cron": "0 4 * * 1", "parameters": {"release": "2"}}},
}


@pytest.fixture(scope="session")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Return the plan of a deployment that uses every variable."""
    return make_plan(VARIABLES, tmp_path_factory.mktemp("terraform"))
