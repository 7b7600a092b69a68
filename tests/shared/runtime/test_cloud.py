"""The backend of functions: what it tells VMs of where it is."""

from __future__ import annotations

from shared.runtime.cloud import LINGER, open_cloud
from shared.upkeep.watch import QUIET

ENVIRONMENT = {
    "GOLDSMITH_PROJECT": "my-project",
    "GOLDSMITH_BUCKET": "my-bucket",
    "GOLDSMITH_ZONES": "us-central1-a",
    "GOLDSMITH_MASTER_KEY": "ab" * 32,
    "GOLDSMITH_VM_SERVICE_ACCOUNT": "vm@my-project.iam.gserviceaccount.com",
}
TICK = 60.0  # seconds between two looks at silent VMs


def test_vms_stay_up_until_a_tick_has_read_what_pubsub_did_not_take() -> None:
    reports = open_cloud(ENVIRONMENT).reports
    assert reports.publish_url == "https://pubsub.googleapis.com/v1/projects/my-project/topics/build-reports:publish"
    assert reports.linger == LINGER
    assert LINGER >= QUIET + TICK


def test_the_emulators_vms_need_not() -> None:
    environment = {**ENVIRONMENT, "GOLDSMITH_COMPUTE_ENDPOINT": "http://127.0.0.1:1"}
    assert open_cloud(environment).reports.linger == 0.0
