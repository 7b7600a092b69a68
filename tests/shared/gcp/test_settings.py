"""The environment of a function: read whole, or told whole what is wrong with it, and never its secret."""

from __future__ import annotations

from dataclasses import fields

import pytest

from shared.build.image.channels import Channel
from shared.build.image.people import PersonRule
from shared.build.limits import Limits
from shared.errors import EnvironmentFault, InputError
from shared.gcp.settings import PUBSUB_URL, STORAGE_URL, VARIABLES, Settings

SECRET = "5e" * 32
GOOD = {
    "GOLDSMITH_PROJECT": "my-project",
    "GOLDSMITH_BUCKET": "my-project-goldsmith",
    "GOLDSMITH_ZONES": "us-central1-a, us-central1-b",
    "GOLDSMITH_MASTER_KEY": SECRET,
    "GOLDSMITH_VM_SERVICE_ACCOUNT": "vm@my-project.iam.gserviceaccount.com",
    "PATH": "/usr/bin",
}
EMULATOR = {
    "GOLDSMITH_DELIVERY": "disk",
    "GOLDSMITH_SECURE_BOOT": "true",
    "GOLDSMITH_MAKER_IMAGE": "projects/my-images/global/images/maker-7",
    "GOLDSMITH_LIMITS": '{"max_timeout": 3600, "gpu_types": []}',
    "GOLDSMITH_CHANNELS": '{"prod": {"approvers": ["ann@example.org"]}, "dev": {}}',
    "GOLDSMITH_PEOPLE": '{"ann": {"addresses": ["Ann@example.org"], "operator": true}}',
    "GOLDSMITH_IAP_AUDIENCE": "/projects/1/locations/us-central1/services/goldsmith-dashboard",
    "GOLDSMITH_IAP_KEYS_URL": "http://127.0.0.1:8000/iap/verify/public_key",
    "GOLDSMITH_WEBHOOKS": '{"chat": {"url": "https://chat.example.com/secret", "format": "slack"}}',
    "GOLDSMITH_SIGNING_KEY": "projects/p-1/locations/global/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1",
    "GOLDSMITH_OTLP_ENDPOINT": "https://telemetry.googleapis.com",
    "GOLDSMITH_VM_PUBSUB_URL": "http://169.254.169.253",
    "GOLDSMITH_VM_STORAGE_URL": "http://169.254.169.253/",
    "GOLDSMITH_CERTIFICATES_URL": "http://127.0.0.1:8000/oauth2/v1/certs",
    "GOLDSMITH_VM_SECRETS_URL": "http://169.254.169.253",
    "GOLDSMITH_COMPUTE_ENDPOINT": "http://127.0.0.1:8001",
    "STORAGE_EMULATOR_HOST": "http://127.0.0.1:8002",
    "GOLDSMITH_KMS_ENDPOINT": "http://127.0.0.1:8005",
    "GOLDSMITH_SECRETS_ENDPOINT": "http://127.0.0.1:8006",
    "GOLDSMITH_MONITORING_ENDPOINT": "http://127.0.0.1:8007",
    "PUBSUB_EMULATOR_HOST": "127.0.0.1:8003",
    "FIRESTORE_EMULATOR_HOST": "127.0.0.1:8004",
    "GOOGLE_APPLICATION_CREDENTIALS": "/home/me/functions.json",
}


def test_in_the_cloud_five_variables_are_enough() -> None:
    assert Settings.from_environment(GOOD) == Settings(
        project="my-project",
        bucket="my-project-goldsmith",
        zones=("us-central1-a", "us-central1-b"),
        master_key=bytes.fromhex(SECRET),
        vm_service_account="vm@my-project.iam.gserviceaccount.com",
        delivery="download",
        vm_pubsub_url=PUBSUB_URL,
        vm_storage_url=STORAGE_URL,
    )


def test_the_emulator_puts_its_endpoints_in() -> None:
    settings = Settings.from_environment(GOOD | EMULATOR)
    assert settings.delivery == "disk"
    assert settings.secure_boot
    assert settings.channels == {"dev": Channel(), "prod": Channel(("ann@example.org",))}
    assert settings.people == {"ann": PersonRule(("ann@example.org",), operator=True)}
    assert settings.iap_audience.endswith("/services/goldsmith-dashboard")
    assert settings.iap_keys_url == "http://127.0.0.1:8000/iap/verify/public_key"
    assert settings.maker_image == "projects/my-images/global/images/maker-7"
    assert settings.vm_pubsub_url == settings.vm_storage_url == "http://169.254.169.253"
    assert settings.certificates_url == "http://127.0.0.1:8000/oauth2/v1/certs"
    assert settings.compute_endpoint == "http://127.0.0.1:8001"
    assert settings.storage_endpoint == "http://127.0.0.1:8002"
    assert settings.secrets_endpoint == "http://127.0.0.1:8006"
    assert settings.vm_secrets_url == "http://169.254.169.253"
    assert settings.kms_endpoint == "http://127.0.0.1:8005"
    assert settings.signing_key.endswith("/cryptoKeyVersions/1")
    assert settings.pubsub_host == "127.0.0.1:8003"
    assert settings.firestore_host == "127.0.0.1:8004"
    assert settings.credentials_file == "/home/me/functions.json"
    assert settings.limits == Limits(max_timeout=3600.0, gpu_types=())
    assert [hook.name for hook in settings.webhooks] == ["chat"]
    assert "example.com" not in repr(settings)


def test_a_person_names_project_and_bucket_alone() -> None:
    settings = Settings.of_person("my-project", "my-bucket", GOOD | EMULATOR)
    assert (settings.project, settings.bucket) == ("my-project", "my-bucket")
    assert (settings.master_key, settings.zones) == (None, ())
    assert settings.storage_endpoint == "http://127.0.0.1:8002"
    assert Settings.of_person("my-project", "my-bucket", {"GOLDSMITH_VM_PUBSUB_URL": "of no use here"}).zones == ()
    with pytest.raises(InputError, match="--bucket: 'gs://my-bucket' is not a bucket's name, without gs://"):
        Settings.of_person("my-project", "gs://my-bucket", {})
    with pytest.raises(InputError, match="--project: 'My_Project' is not a project's id"):
        Settings.of_person("My_Project", "my-bucket", {})
    with pytest.raises(EnvironmentFault, match="FIRESTORE_EMULATOR_HOST is not a host and a port"):
        Settings.of_person("my-project", "my-bucket", {"FIRESTORE_EMULATOR_HOST": "http://127.0.0.1"})


def test_each_field_has_its_variable() -> None:
    assert list(VARIABLES) == [field.name for field in fields(Settings)]
    assert sorted({variable.name for variable in VARIABLES.values()}) == sorted([*(GOOD | EMULATOR).keys() - {"PATH"}])


@pytest.mark.parametrize("empty", ["", "  ", None])
def test_all_that_is_missing_is_told_at_once(empty: str | None) -> None:
    environment = {} if empty is None else dict.fromkeys(GOOD | EMULATOR, empty)
    with pytest.raises(EnvironmentFault) as caught:
        Settings.from_environment(environment)
    lines = str(caught.value).splitlines()
    assert [line.split(" ")[0] for line in lines] == [
        name for name in GOOD if name not in ("PATH", "GOLDSMITH_MASTER_KEY")
    ]
    assert all(" is not set; set it to " in line for line in lines)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("GOLDSMITH_PROJECT", "My Project"),
        ("GOLDSMITH_BUCKET", "gs://bucket"),
        ("GOLDSMITH_ZONES", "us-central1"),
        ("GOLDSMITH_ZONES", "us-central1-a,,us-central1-b"),
        ("GOLDSMITH_MASTER_KEY", "5e" * 31),
        ("GOLDSMITH_MASTER_KEY", "secret" * 20),
        ("GOLDSMITH_VM_SERVICE_ACCOUNT", "default"),
        ("GOLDSMITH_DELIVERY", "Disk"),
        ("GOLDSMITH_SECURE_BOOT", "yes"),
        ("GOLDSMITH_MAKER_IMAGE", "debian-12"),
        ("GOLDSMITH_MAKER_IMAGE", "projects/p/global/images/family/a/b"),
        ("GOLDSMITH_CHANNELS", "[]"),
        ("GOLDSMITH_PEOPLE", '{"ann": {}}'),
        ("GOLDSMITH_IAP_AUDIENCE", "/projects/p/locations/us-central1/services/x"),
        ("GOLDSMITH_CHANNELS", '{"eu-prod": {}}'),
        ("GOLDSMITH_LIMITS", "{"),
        ("GOLDSMITH_LIMITS", "[]"),
        ("GOLDSMITH_LIMITS", '{"max_disk_gb": "200"}'),
        ("GOLDSMITH_LIMITS", '{"gpu_types": null}'),
        ("GOLDSMITH_LIMITS", '{"concurrency": 0}'),
        ("GOLDSMITH_LIMITS", '{"retire_images": {"hello": {"keep": 0}}}'),
        ("GOLDSMITH_LIMITS", '{"retire_images": {"hello": {"keep": 1001}}}'),
        ("GOLDSMITH_LIMITS", '{"retire_images": {"hello": {"older_than": -1.0}}}'),
        ("GOLDSMITH_LIMITS", '{"retire_images": {"Hello": {}}}'),
        ("GOLDSMITH_LIMITS", '{"budgets": {"hello": {"dollars": 0, "per": 60}}}'),
        ("GOLDSMITH_LIMITS", '{"budgets": {"hello": {"dollars": 20, "per": 7776001}}}'),
        ("GOLDSMITH_LIMITS", '{"budgets": {"Hello": {"dollars": 20, "per": 60}}}'),
        ("GOLDSMITH_LIMITS", '{"budgets": {"hello": {"dollars": 20}}}'),
        ("GOLDSMITH_LIMITS", '{"concurrency": 1.5}'),
        ("GOLDSMITH_LIMITS", '{"external_ip_allowed": 1}'),
        ("GOLDSMITH_VM_PUBSUB_URL", "pubsub.googleapis.com"),
        ("GOLDSMITH_VM_STORAGE_URL", "https://storage.googleapis.com/b"),
        ("GOLDSMITH_COMPUTE_ENDPOINT", "127.0.0.1:8001"),
        ("STORAGE_EMULATOR_HOST", "127.0.0.1:8001"),
        ("PUBSUB_EMULATOR_HOST", "http://127.0.0.1:8003"),
        ("FIRESTORE_EMULATOR_HOST", "127.0.0.1"),
    ],
)
def test_a_wrong_value_is_told_and_not_shown(variable: str, value: str) -> None:
    with pytest.raises(EnvironmentFault, match=rf"^{variable} is not .*; correct it") as caught:
        Settings.from_environment(GOOD | EMULATOR | {variable: value})
    if variable == "GOLDSMITH_MASTER_KEY":
        assert value not in str(caught.value)


def test_the_key_is_never_shown() -> None:
    settings = Settings.from_environment(GOOD)
    for text in (repr(settings), str(settings), f"{settings}"):
        assert "master_key" not in text
        assert SECRET not in text
        assert repr(settings.master_key) not in text
