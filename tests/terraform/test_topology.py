"""terraform/ makes what shared/topology.py says, which is what the emulator runs: no more, no less, nothing else."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from goldsmith.places import default_bucket
from shared import topology
from shared.gcp import settings
from shared.gcp.firestore import INDEXES, TTL, UNINDEXED
from shared.intake.request import REQUEST_KEYS
from shared.intake.uploads import CONTEXT_LIMIT, CONTEXTS_LIMIT
from tests.terraform.configuration import read_configuration
from tests.terraform.conftest import VARIABLES
from tests.terraform.grants import Grant, grants
from tests.terraform.planning import Plan, Values, days_kept, make_plan

FUNCTIONS = {function.name: function for function in topology.FUNCTIONS}


def functions(plan: Plan) -> dict[str, Values]:
    return plan.of("google_cloudfunctions2_function")


def deployed(name: str, attribute: str) -> str:
    """As the plan shows what is known of a function after the apply."""
    return f"<google_cloudfunctions2_function {FUNCTIONS[name].deployed_name} {attribute}>"


def test_topics(plan: Plan) -> None:
    topics = plan.all("google_pubsub_topic")
    assert sorted(topic["name"] for topic in topics) == sorted(topology.TOPICS)
    assert {topic["message_retention_duration"] for topic in topics} == {"604800s"}


def test_every_topic_has_its_meaning(plan: Plan) -> None:
    assert set(plan.of("google_pubsub_topic")) == set(topology.TOPICS)


def test_subscriptions(plan: Plan) -> None:
    found = plan.of("google_pubsub_subscription", "push")
    assert {name: _subscription(values) for name, values in found.items()} == {
        wanted.name: {**asdict(wanted), "name": wanted.name} for wanted in topology.SUBSCRIPTIONS
    }


def _subscription(values: Values) -> dict[str, Any]:
    """Read a planned subscription as topology.Subscription has it; the endpoint says function and topic."""
    [push], [retry], [dead] = (values[key] for key in ("push_config", "retry_policy", "dead_letter_policy"))
    address, _, path = push["push_endpoint"].partition("/")
    function = next(name for name in FUNCTIONS if deployed(name, "uri") == address)
    topic = path.rpartition("/")[2]
    assert path == f"projects/my-project/topics/{topic}"
    assert values["topic"] == f"<google_pubsub_topic {topic} id>"
    assert dead["dead_letter_topic"] == f"<google_pubsub_topic {topology.DEAD_LETTERS_TOPIC} id>"
    return {
        "name": values["name"],
        "topic": topic,
        "function": function,
        "filter": values["filter"],
        "ordered": values["enable_message_ordering"],
        "ack_deadline": values["ack_deadline_seconds"],
        "min_backoff": int(retry["minimum_backoff"].removesuffix("s")),
        "max_backoff": int(retry["maximum_backoff"].removesuffix("s")),
        "max_delivery_attempts": dead["max_delivery_attempts"],
    }


def test_pushes_carry_a_token_for_the_function(plan: Plan) -> None:
    for name, values in plan.of("google_pubsub_subscription", "push").items():
        [push] = values["push_config"]
        [token] = push["oidc_token"]
        assert push["push_endpoint"].startswith(token["audience"] + "/"), name
        assert token["service_account_email"] == "<google_service_account goldsmith-pusher email>"


def test_subscriptions_never_expire_and_keep_a_week(plan: Plan) -> None:
    for values in plan.all("google_pubsub_subscription"):
        assert values["expiration_policy"] == [{"ttl": ""}], values["name"]
        assert values["message_retention_duration"] == "604800s", values["name"]


def test_dead_letters_are_pulled(plan: Plan) -> None:
    [(_, values)] = plan.of("google_pubsub_subscription", "dead_letters").items()
    assert values["name"] == topology.DEAD_LETTERS_SUBSCRIPTION
    assert values["topic"] == f"<google_pubsub_topic {topology.DEAD_LETTERS_TOPIC} id>"
    assert values["push_config"] == []


def test_limits_are_those_of_pubsub(plan: Plan) -> None:
    for values in plan.of("google_pubsub_subscription", "push").values():
        assert 10 <= values["ack_deadline_seconds"] <= 600
        assert 5 <= values["dead_letter_policy"][0]["max_delivery_attempts"] <= 100


def test_functions(plan: Plan) -> None:
    found = functions(plan)
    assert set(found) == set(FUNCTIONS)
    for name, wanted in FUNCTIONS.items():
        [service], [build] = found[name]["service_config"], found[name]["build_config"]
        assert found[name]["name"] == wanted.deployed_name
        assert build["entry_point"] == name
        assert service["available_memory"] == f"{wanted.memory_mb}Mi"
        assert service["timeout_seconds"] == wanted.timeout
        assert service["max_instance_request_concurrency"] == wanted.concurrency
        assert service["min_instance_count"] == 0
        assert service["service_account_email"] == f"<google_service_account {wanted.deployed_name} email>"


def test_contexts_fit_into_the_memory_that_files_and_python_share() -> None:
    chunk, python = 100, 256  # MiB: of the storage client's uploads; of a function with Compute Engine's client
    fetched, packed_anew = CONTEXTS_LIMIT >> 20, 2 * (CONTEXT_LIMIT >> 20)  # all of a text's, and one at a time
    assert FUNCTIONS["start_build"].memory_mb > fetched + packed_anew + chunk + python


def test_functions_are_made_once_cloud_build_may_read_their_source() -> None:
    """Else a first apply is a race that the grant may lose."""
    configuration = read_configuration()
    waits = configuration.one("google_cloudfunctions2_function.function").body["depends_on"]
    grants = [
        block.address
        for block in configuration.of_kind("resource")
        if block.labels[0].endswith("_iam_member") and "google_service_account.builder." in block.body["member"]
    ]
    assert len(grants) > 1
    assert {f"${{{each}}}" for each in grants} <= set(waits)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_environment(plan: Plan, name: str) -> None:
    [service] = functions(plan)[name]["service_config"]
    secrets = {secret["key"] for secret in service["secret_environment_variables"]}
    plain = set(service["environment_variables"])
    deployed = [variable for variable in settings.VARIABLES.values() if variable.deployed]
    held = {
        "GOLDSMITH_MASTER_KEY": FUNCTIONS[name].keyed,
        "GOLDSMITH_WEBHOOKS": FUNCTIONS[name].webhooks,
        "GOLDSMITH_SIGNING_KEY": FUNCTIONS[name].signs,
        "GOLDSMITH_OTLP_ENDPOINT": FUNCTIONS[name].spans,
        "GOLDSMITH_IAP_AUDIENCE": name == "dashboard",
    }
    wanted = [variable for variable in deployed if held.get(variable.name, not variable.secret)]
    assert plain | secrets == {variable.name for variable in wanted} | {"THREADS", "LOG_EXECUTION_ID"}
    assert secrets == {variable.name for variable in wanted if variable.secret}
    assert not plain & secrets


@pytest.mark.parametrize("name", FUNCTIONS)
def test_environment_is_one_that_the_functions_take(plan: Plan, name: str) -> None:
    [service] = functions(plan)[name]["service_config"]
    given = {
        **service["environment_variables"],
        "GOLDSMITH_VM_SERVICE_ACCOUNT": "vm@my-project.iam.gserviceaccount.com",
    }
    values = {"GOLDSMITH_MASTER_KEY": "ab" * 32, "GOLDSMITH_WEBHOOKS": "{}"}
    given |= {secret["key"]: values[secret["key"]] for secret in service["secret_environment_variables"]}
    read = settings.Settings.from_environment(given)
    assert (read.project, read.bucket, list(read.zones), read.delivery) == (
        VARIABLES["project"],
        default_bucket("my-project"),
        VARIABLES["zones"],
        "download",
    )
    assert read.compute_endpoint is read.pubsub_host is read.firestore_host is read.storage_endpoint is None


def test_the_bucket_of_a_project_of_a_domain_has_a_name_that_buckets_may_have(tmp_path: Path) -> None:
    """example.com:my-project is the id of an old project; the command line derives the same name."""
    project = "example.com:my-project"
    bucket = make_plan({**VARIABLES, "project": project}, tmp_path).of("google_storage_bucket")["bucket"]
    assert bucket["name"] == default_bucket(project) == "example-com-my-project-goldsmith"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_instance_has_a_thread_for_each_request(plan: Plan, name: str) -> None:
    [service] = functions(plan)[name]["service_config"]
    threads = int(service["environment_variables"]["THREADS"])
    assert threads >= max(2, service["max_instance_request_concurrency"])
    assert float(service["available_cpu"]) >= 1


def test_only_the_dashboard_can_be_reached_from_outside(plan: Plan) -> None:
    ingress = {name: values["service_config"][0]["ingress_settings"] for name, values in functions(plan).items()}
    assert ingress == {name: "ALLOW_ALL" if name == "dashboard" else "ALLOW_INTERNAL_ONLY" for name in FUNCTIONS}


@pytest.mark.parametrize("ingress", ["ALLOW_INTERNAL_ONLY", "ALLOW_INTERNAL_AND_GCLB"])
def test_the_dashboard_is_as_open_as_a_policy_lets_it(tmp_path: Path, ingress: str) -> None:
    found = functions(make_plan({**VARIABLES, "dashboard_ingress": ingress}, tmp_path))
    settings = {name: values["service_config"][0]["ingress_settings"] for name, values in found.items()}
    assert settings == {name: ingress if name == "dashboard" else "ALLOW_INTERNAL_ONLY" for name in FUNCTIONS}


def test_functions_are_made_once_the_grants_of_cloud_build_are_in_force(plan: Plan) -> None:
    [wait] = plan.all("time_sleep")
    assert wait["create_duration"] == "90s"
    configuration = read_configuration()
    waits = configuration.one("time_sleep.builder").body["depends_on"]
    functions_wait = configuration.one("google_cloudfunctions2_function.function").body["depends_on"]
    assert {each for each in functions_wait if ".builder" in each} == {*waits, "${time_sleep.builder}"}


def test_agents_are_asked_for_once_their_api_is_on() -> None:
    for agent in read_configuration().of_kind("data"):
        if agent.labels[0].endswith("_service_account"):
            assert agent.body["depends_on"] == ["${google_project_service.api}"], agent.address


def test_notifications(plan: Plan) -> None:
    found = plan.of("google_storage_notification")
    assert {(topic, values["object_name_prefix"]) for topic, values in found.items()} == {
        (wanted.topic, wanted.prefix) for wanted in topology.NOTIFICATIONS
    }
    for topic, values in found.items():
        assert values["bucket"] == default_bucket("my-project")
        assert values["topic"] == f"<google_pubsub_topic {topic} id>"
        assert values["event_types"] == [topology.FINALIZED]
        assert values["payload_format"] == "JSON_API_V1"


def test_no_function_is_called_for_each_object_of_the_bucket(plan: Plan) -> None:
    assert [name for name, values in functions(plan).items() if values["event_trigger"]] == []
    assert [each for each in plan.all("google_project_service") if each["service"].startswith("eventarc")] == []


def test_an_upgrade_keeps_the_old_trigger_beside_the_notification(plan: Plan, tmp_path: Path) -> None:
    """Its first applies take nothing away, so that no upload is lost between the two ways."""
    first = make_plan({**VARIABLES, "eventarc_trigger": True}, tmp_path)
    [trigger] = functions(first)["start_build"]["event_trigger"]
    assert trigger["event_type"] == "google.cloud.storage.object.v1.finalized"
    assert trigger["retry_policy"] == "RETRY_POLICY_RETRY"
    assert trigger["service_account_email"] == "<google_service_account goldsmith-trigger email>"
    assert [(each["attribute"], each["value"]) for each in trigger["event_filters"]] == [
        ("bucket", default_bucket("my-project"))
    ]
    assert trigger["trigger_region"] == first.of("google_storage_bucket")["bucket"]["location"]
    assert grants(plan) < grants(first)
    assert grants(first) - grants(plan) == {
        Grant("trigger", "function start_build", "roles/run.invoker"),
        Grant("trigger", "project", "roles/eventarc.eventReceiver"),
        Grant("Cloud Storage", "project", "roles/pubsub.publisher"),
    }
    assert first.of("google_storage_notification") == plan.of("google_storage_notification")


def test_functions_are_replaced_once_the_topic_keeps_what_is_uploaded() -> None:
    configuration = read_configuration()
    waits = configuration.one("google_cloudfunctions2_function.function").body["depends_on"]
    assert "${google_storage_notification.notification}" in waits


def test_schedules(plan: Plan) -> None:
    found = plan.of("google_cloud_scheduler_job", "tick")
    assert {(name, job["schedule"]) for name, job in found.items()} == {
        (schedule.name, schedule.cron) for schedule in topology.SCHEDULES
    }
    for schedule in topology.SCHEDULES:
        job = found[schedule.name]
        [target] = job["http_target"]
        assert (target["http_method"], target["uri"]) == ("POST", deployed(schedule.function, "uri"))
        assert target["oidc_token"][0]["audience"] == target["uri"]
        assert job["attempt_deadline"] == f"{FUNCTIONS[schedule.function].timeout}s"


def test_prefixes_of_the_bucket(plan: Plan) -> None:
    days = days_kept(plan)
    assert days == {
        topology.UPLOADS: 32,
        topology.CONTEXTS: 63,
        topology.CIDATA: 9,
        topology.RESULTS: 365,
        topology.LOGS: 90,
    }
    assert topology.SPECS not in days


def test_buckets_are_private(plan: Plan) -> None:
    for bucket in plan.all("google_storage_bucket"):
        assert bucket["uniform_bucket_level_access"] is True
        assert bucket["public_access_prevention"] == "enforced"


def test_indexes(plan: Plan) -> None:
    found = {
        (index["collection"], tuple((field["field_path"], field["order"]) for field in index["fields"]))
        for index in plan.all("google_firestore_index")
    }
    assert found == {(index.collection, index.fields) for index in INDEXES}
    assert {index["query_scope"] for index in plan.all("google_firestore_index")} == {"COLLECTION"}


def test_fields_of_deletion(plan: Plan) -> None:
    fields = plan.of("google_firestore_field", "deleted_after").values()
    assert {(field["collection"], field["field"]) for field in fields} == set(TTL)
    assert all(len(field["ttl_config"]) == 1 for field in fields)


def test_fields_without_an_index(plan: Plan) -> None:
    fields = plan.of("google_firestore_field", "unindexed").values()
    assert {(field["collection"], field["field"]) for field in fields} == set(UNINDEXED)
    assert all(field["index_config"] == [{"indexes": []}] and not field["ttl_config"] for field in fields)


def test_database_is_the_one_that_the_store_uses_and_is_protected(plan: Plan) -> None:
    [database] = plan.all("google_firestore_database")
    assert (database["name"], database["type"]) == ("(default)", "FIRESTORE_NATIVE")
    assert database["delete_protection_state"] == "DELETE_PROTECTION_ENABLED"


def test_rebuilds_are_requests(plan: Plan) -> None:
    [job] = plan.of("google_cloud_scheduler_job", "rebuild").values()
    [target] = job["pubsub_target"]
    assert job["schedule"] == "0 4 * * 1"
    assert target["topic_name"] == f"<google_pubsub_topic {topology.REQUESTS_TOPIC} id>"
    request = json.loads(base64.b64decode(target["data"]))
    assert request == {"spec": "gs://b/specs/hello.yaml", "parameters": {"release": "2"}}
    assert set(request) <= set(REQUEST_KEYS)
