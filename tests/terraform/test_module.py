"""terraform/ as Terraform sees it: formatted, valid against the providers' schemas, and plannable."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.project.source_tree import files
from tests.terraform.configuration import EXAMPLES, MODULE, Configuration, read_configuration
from tests.terraform.conftest import VARIABLES
from tests.terraform.planning import MISSING, faults, make_plan, schema, terraform
from tests.terraform.shown_blocks import types_in_use

MODULES = [MODULE, *sorted(folder for folder in EXAMPLES.iterdir() if folder.is_dir())]
GOOGLE = "6.50.0"


def test_terraform_is_there() -> None:
    assert shutil.which("terraform"), MISSING


def test_files_are_formatted(tmp_path: Path) -> None:
    done = terraform("fmt", "-check", "-recursive", "-diff", folder=MODULE, scratch=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_file_is_in_a_module_that_is_tested() -> None:
    assert {path.parent for path in files(MODULE, ".tf")} == set(MODULES)


@pytest.mark.parametrize("folder", MODULES, ids=lambda folder: str(folder.name))
def test_module_is_valid(folder: Path, tmp_path: Path) -> None:
    assert faults(folder, tmp_path) == ""


@pytest.mark.parametrize("told", [False, True])
def test_module_can_be_planned(told: bool, tmp_path: Path) -> None:
    plan = make_plan(VARIABLES, tmp_path, told=told)
    assert len(plan.resources) > 100


@pytest.mark.parametrize("folder", MODULES[1:], ids=lambda folder: str(folder.name))
def test_example_can_be_planned(folder: Path, tmp_path: Path) -> None:
    make_plan({"project": "my-project"}, tmp_path, folder=folder)


def test_schema_is_of_the_version_that_is_asked_for() -> None:
    required = read_configuration().one("terraform").body["required_providers"][0]
    found = schema()["providers"]
    assert found["google"] == GOOGLE
    assert set(required) == set(found)
    for name, version in found.items():
        assert required[name]["version"] == f"= {version}"


def test_schema_has_the_types_in_use_and_no_others() -> None:
    assert set(schema()["types"]) == types_in_use()


BAD = {
    "misspelt argument": ("ack_deadline_seconds ", "ack_deadline_second ", "Unsupported argument"),
    "missing argument": ('  account_id   = "${var.prefix}-vm"\n', "", "Missing required argument"),
    "misspelt block": ("retry_policy {", "retry_polcy {", "Unsupported block type"),
    "missing block": ('      action {\n        type = "Delete"\n      }\n', "", "Insufficient action blocks"),
    "two of a single block": ("  expiration_policy {", "  expiration_policy {}\n  expiration_policy {", "Too many"),
    "wrong type": ('attempt_deadline = "', 'attempt_deadline = [] # "', "Incorrect attribute value type"),
    "unknown type": ('"google_pubsub_topic" "topic"', '"google_pubsub_topics" "topic"', "Invalid resource type"),
    "unknown resource": ("google_service_account.pusher.email", "google_service_account.push.email", "undeclared"),
    "unknown attribute": (
        "google_service_account.pusher.email",
        "google_service_account.pusher.mail",
        "Unsupported attri",
    ),
    "unknown local": ("local.a_week", "local.two_weeks", "undeclared local value"),
    "unknown variable": ("= var.delivery", "= var.delivry", "undeclared input variable"),
    "unknown function": ("jsonencode(", "tojson(", "unknown function"),
    "computed argument": ("  paused      = ", "  state       = ", "state is known after the apply"),
}


@pytest.mark.parametrize("fault", BAD)
def test_fault_is_found(fault: str, tmp_path: Path) -> None:
    before, after, words = BAD[fault]
    copy = tmp_path / "terraform"
    copy.mkdir()
    changed = 0
    for path in MODULE.glob("*.tf"):
        text = path.read_text(encoding="utf-8")
        changed += before in text
        (copy / path.name).write_text(text.replace(before, after), encoding="utf-8")
    assert changed, f"{before} is nowhere in terraform/"
    assert re.search(words, " ".join(faults(copy, tmp_path).split()))


def test_wrong_argument_of_the_module_is_found_in_an_example(tmp_path: Path) -> None:
    shutil.copytree(MODULE, tmp_path / "terraform", ignore=shutil.ignore_patterns(".terraform*"))
    place = tmp_path / "terraform" / "examples" / "basic" / "main.tf"
    place.write_text(place.read_text(encoding="utf-8").replace("submitters ", "submiters "), encoding="utf-8")
    assert 'An argument named "submiters" is not expected here' in " ".join(faults(place.parent, tmp_path).split())


WRONG = [  # Terraform tells all that is wrong at once
    {
        "project": "My Project",
        "region": "us-central1-a",
        "zones": [],
        "prefix": "a-prefix-that-is-too-long",
        "bucket": "UPPER",
        "delivery": "post",
        "runtime": "python39",
        "max_instances": 0.5,
        "results_days": 0,
        "logs_days": -1,
        "rebuilds": {"weekly": {"spec": "hello.yaml", "cron": "0 4 * * 1"}},
        "submitters": ["allUsers"],
        "operators": ["me@example.org"],
        "repairers": ["allUsers"],
        "dashboard_invokers": ["allUsers"],
        "source_projects": ["-"],
        "context_buckets": ["gs://bucket"],
        "vm_service_accounts": ["me@example.org"],
        "notification_channels": ["me@example.org"],
        "subnets": [],
        "machine_types": ["N1-standard-1"],
        "gpu_types": ["nvidia tesla"],
        "max_timeout": "31d",
        "max_keep": "8d",
        "retry_for": "8d",
        "retry_disk_for": "8d",
        "max_disk_gb": 0.5,
        "kms_keys": ["a key"],
        "webhooks_secret": "webhooks",
        "storage_locations": ["EU"],
        "share_with": ["group: all"],
        "copy_projects": ["*"],
        "concurrency": 1.5,
        "channels": {"eu-prod": {}},
        "family_concurrency": 1.5,
        "budgets": {"hello": {"dollars": 0}},
        "trigger_failures": 1.5,
        "master_key_version": 0,
        "labels": {"Team": "infra"},
    },
    {
        "zones": ["us-central1"],
        "subnets": ["regions/us-central1/subnetworks/builds"],
        "machine_types": [],
        "max_timeout": "90",
        "max_keep": "",
        "retry_for": "",
        "retry_disk_for": "",
        "max_disk_gb": 0,
        "export_buckets": ["gs://archives"],
        "concurrency": 0,
        "channels": {"prod": {"approvers": ["ann"]}},
        "family_concurrency": 0,
        "budgets": {"hello": {"dollars": 20, "per": "91d"}},
        "trigger_failures": 0,
        "rebuilds": {"weekly": {"spec": "gs://b/hello.yaml", "cron": "0 4 * *"}},
    },
    {
        "rebuilds": {"Weekly": {"spec": "gs://b/hello.yaml", "cron": "0 4 * * 1"}},
        "channels": {"prod": {"approve_within": "91d"}},
        "budgets": {"Hello": {"dollars": 20}},
        "export_buckets": ["my-project-goldsmith"],  # the deployment's own
    },
]


@pytest.mark.parametrize("values", WRONG, ids=range(len(WRONG)))
def test_wrong_values_of_variables_are_refused(values: Mapping[str, object], tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="Invalid value for variable") as refused:
        make_plan({**VARIABLES, **values}, tmp_path)
    told = set(re.findall(r"\bvar\.(\w+) is\b", str(refused.value)))
    assert told == set(values)


@pytest.fixture(scope="module")
def configuration() -> Configuration:
    return read_configuration()


def test_variables_are_described_and_typed(configuration: Configuration) -> None:
    for block in configuration.of_kind("variable"):
        assert len(block.body["description"]) > 10, block.address
        assert "type" in block.body, block.address


def test_outputs_are_described(configuration: Configuration) -> None:
    for block in configuration.of_kind("output"):
        assert len(block.body["description"]) > 10, block.address


def test_variables_and_locals_are_used(configuration: Configuration) -> None:
    text = configuration.text()
    unused = [name for name in configuration.locals if not re.search(rf"\blocal\.{name}\b", text)]
    for block in configuration.of_kind("variable"):
        used = len(re.findall(rf"\bvar\.{block.labels[0]}\b", text))
        within = len(re.findall(rf"\bvar\.{block.labels[0]}\b", str(block.body)))
        unused += [block.address] if used <= within else []
    assert unused == []


def test_every_variable_has_a_default_but_the_project(configuration: Configuration) -> None:
    assert [b.labels[0] for b in configuration.of_kind("variable") if "default" not in b.body] == ["project"]
