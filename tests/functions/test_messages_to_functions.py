"""What every function that takes messages does with good ones, poison, and what may pass."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from google.pubsub_v1.types import PubsubMessage, ReceivedMessage

from emulator.pubsub import router
from functions import log
from functions.advance_build import note_end
from functions.handling import LARGEST
from functions.log import JsonFormatter
from provisioner.protocol import STARTED, encode, sign
from shared.build.build import Build, State, Stay
from shared.build.identity import trace_id
from shared.build.orders import Order, OrderKind
from shared.engine.messages import INVENTORY_LIMIT, event_message, order_message, report_message
from shared.errors import Conflict, Permanent, Transient
from shared.keys import Keys
from shared.ports import Message
from shared.topology import EVENTS_TOPIC, FUNCTIONS, IMAGES_TOPIC, REPORTS_TOPIC, SUBSCRIPTIONS, WORKER_TOPIC
from tests.functions.deployed import ROOT, Deployment
from tests.world import values
from tests.world.published import add_build, build_of, image_of
from tests.world.world import MASTER

WORKERS: tuple[OrderKind, ...] = (
    "create_resources",
    "export_image",
    "verify_image",
    "label_image",
    "deprecate_images",
    "clean_up",
)
STATES = {
    "create_resources": State.PREPARING,
    "export_image": State.EXPORTING,
    "verify_image": State.VERIFYING,
    "label_image": State.PUBLISHING,
    "deprecate_images": State.CLEANING,
    "clean_up": State.CLEANING,
}


TAKERS = sorted({(each.function, each.topic) for each in SUBSCRIPTIONS})


@pytest.fixture
def deployment() -> Deployment:
    return Deployment()


def put(deployment: Deployment, build: Build) -> None:
    deployment.world.store.create(build, values.requested(plan=build.plan))


def report(key: str | None = None) -> Message:
    said = values.report(kind=STARTED)
    data = encode(said)
    key = key or Keys(MASTER).of_machine(said.build_id, said.attempt, said.phase)
    return report_message(said, data, sign(key, data))


def records(caplog: pytest.LogCaptureFixture) -> list[dict[str, str]]:
    """The entries as they are written."""
    formatter = JsonFormatter("f")
    return [json.loads(formatter.format(record)) for record in caplog.records]


class TestGoodMessages:
    def test_report_advances_its_build(self, deployment: Deployment) -> None:
        put(deployment, values.build())
        assert deployment.push("advance_build", report()).status_code == 200
        assert deployment.world.build().state is State.PROVISIONING

    def test_event_advances_its_build(self, deployment: Deployment) -> None:
        put(deployment, values.build())
        assert deployment.push("advance_build", event_message(values.machine_started())).status_code == 200
        build = deployment.world.build()
        assert (build.state, build.zone) == (State.PROVISIONING, "here")

    def test_the_same_again_is_acknowledged_and_changes_nothing(self, deployment: Deployment) -> None:
        put(deployment, values.build())
        deployment.push("advance_build", report())
        before = deployment.world.store.load(values.BUILD_ID)
        assert deployment.push("advance_build", report(), "18").status_code == 200
        assert deployment.world.store.load(values.BUILD_ID) == before

    @pytest.mark.parametrize("kind", WORKERS)
    def test_order_is_carried_out_and_reported(self, deployment: Deployment, kind: OrderKind) -> None:
        plan = replace(values.plan(), verify_steps=values.plan().steps)
        build = values.build(state=STATES[kind], plan=plan, zone="here", retiring=kind == "deprecate_images")
        put(deployment, build)
        response = deployment.push(kind, order_message(Order(build.id, 1, kind, 1), build))
        assert response.status_code == 200
        [fact] = deployment.world.bus.published
        assert fact.topic == EVENTS_TOPIC

    def test_request_for_an_image_is_carried_out_each_time_it_comes(self, deployment: Deployment) -> None:
        """A project that the request does not name is the deployment's; the world's images are of `local`."""
        world, build = deployment.world, build_of("one")
        add_build(world.store, build)
        world.compute.all_images["one"] = image_of(build)
        for image in ("local/one", "local/one", "one"):
            asked = {"revoke": {"image": image, "reason": "bad", "alone": True}}
            message = Message(IMAGES_TOPIC, json.dumps(asked).encode(), {})
            assert deployment.push("deprecate_images", message).status_code == 200
            assert world.compute.all_images["one"].deprecated == "OBSOLETE"
        assert world.bus.published == []

    def test_request_for_a_channel_that_is_not_there_is_dropped_with_the_reason(
        self, deployment: Deployment, caplog: pytest.LogCaptureFixture
    ) -> None:
        message = Message(IMAGES_TOPIC, b'{"promote": {"image": "local/one", "to": "prod"}}', {})
        assert deployment.push("deprecate_images", message).status_code == 200
        [entry] = [entry for entry in records(caplog) if entry["message"].startswith("dropped event")]
        assert "a request to promote an image is refused: there is no channel 'prod'" in entry["message"]

    def test_failure_for_good_is_reported_and_acknowledged(self, deployment: Deployment) -> None:
        build = values.build()
        put(deployment, build)
        deployment.world.compute.faults["create_machine"] = Permanent("permission compute.instances.create is missing")
        order = order_message(Order(build.id, 1, "create_resources", 1), build)
        assert deployment.push("create_resources", order).status_code == 200
        [fact] = deployment.world.bus.published
        assert b"compute.instances.create" in fact.data


class TestPoison:
    """Acknowledged, logged, and nothing comes of it."""

    def expect_dropped(
        self, deployment: Deployment, response: int, caplog: pytest.LogCaptureFixture, metric: str = "poison_message"
    ) -> None:
        assert response == 200
        assert deployment.world.bus.published == []
        [entry] = [entry for entry in records(caplog) if entry["message"].startswith("dropped event")]
        assert (entry["severity"], entry["metric"]) == ("WARNING", metric)

    @pytest.mark.parametrize(("function", "topic"), TAKERS)
    @pytest.mark.parametrize(
        "data",
        [b"no JSON", b"", b"[]", b'{"version": 2}', b'{"version": 1, "kind": "Unknown"}', b"\xff", b"[" * 100_000],
    )
    def test_that_cannot_be_read(
        self, deployment: Deployment, caplog: pytest.LogCaptureFixture, function: str, topic: str, data: bytes
    ) -> None:
        self.expect_dropped(deployment, deployment.push(function, Message(topic, data, {})).status_code, caplog)

    @pytest.mark.parametrize(("function", "topic"), TAKERS)
    @pytest.mark.parametrize("data", ["no base64!", "äöü"])
    def test_that_is_no_base64(
        self, deployment: Deployment, caplog: pytest.LogCaptureFixture, function: str, topic: str, data: str
    ) -> None:
        body = {"message": {"data": data, "messageId": "1"}, "subscription": "s"}
        self.expect_dropped(deployment, deployment.push_raw(function, topic, body).status_code, caplog)

    @pytest.mark.parametrize(("function", "topic"), TAKERS)
    @pytest.mark.parametrize("attributes", [{"build_id": "x-1", "order": "clean_up"}, {}])
    def test_that_has_no_data(
        self,
        deployment: Deployment,
        caplog: pytest.LogCaptureFixture,
        function: str,
        topic: str,
        attributes: dict[str, str],
    ) -> None:
        """Pub/Sub leaves out what is empty; functions-framework takes that for no message, and answers with 400."""
        sent = PubsubMessage(message_id="17", publish_time=datetime.now(UTC), attributes=attributes)
        body = json.loads(router.push_body(ReceivedMessage(message=sent), "s", 1))
        assert "data" not in body["message"]
        self.expect_dropped(deployment, deployment.push_raw(function, topic, body).status_code, caplog)

    @pytest.mark.parametrize(("function", "topic"), TAKERS)
    @pytest.mark.parametrize("body", [[], {}, "text", {"message": None}, {"message": {"data": 5}}, {"message": []}])
    def test_that_is_no_message_at_all(
        self, deployment: Deployment, caplog: pytest.LogCaptureFixture, function: str, topic: str, body: Any
    ) -> None:
        self.expect_dropped(deployment, deployment.push_raw(function, topic, body).status_code, caplog)

    @pytest.mark.parametrize(("function", "topic"), TAKERS)
    def test_that_is_too_large_is_never_whole_in_memory(
        self, deployment: Deployment, caplog: pytest.LogCaptureFixture, tmp_path: Path, function: str, topic: str
    ) -> None:
        size = 16 << 20  # Pub/Sub takes 10 MB, which are more in base64
        with (tmp_path / "body").open("w+b") as body:
            body.truncate(size)
            tracemalloc.start()
            response = deployment.push_stream(function, topic, body)
            _now, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        self.expect_dropped(deployment, response.status_code, caplog)
        assert f"a request of {size} bytes" in caplog.text
        assert peak < 2 * LARGEST

    def test_the_largest_honest_ones_fit(self) -> None:
        most = max(INVENTORY_LIMIT, 1 << 20)  # a build is a document of Firestore's, 1 MiB at most
        assert most * 4 / 3 + 64 * 1024 < LARGEST
        for each in FUNCTIONS:
            if each.kind == "cloud_event":  # body, its text, its base64 and what that holds; and Python itself
                assert each.concurrency * 5 * LARGEST + (96 << 20) < each.memory_mb << 20, each.name

    def test_only_a_post_brings_one(self, deployment: Deployment) -> None:
        with deployment.client("advance_build") as client:
            assert client.get("/").status_code == 405

    @pytest.mark.parametrize("function", sorted({function for function, _ in TAKERS}))
    @pytest.mark.parametrize("data", [b"no JSON", [], {}, {"message": 5}, None, "text"])
    def test_event_without_a_message(
        self, deployment: Deployment, caplog: pytest.LogCaptureFixture, function: str, data: object
    ) -> None:
        published = "google.cloud.pubsub.topic.v1.messagePublished"
        response = deployment.event(function, published, data, "//pubsub.googleapis.com/projects/p/topics/t")
        self.expect_dropped(deployment, response.status_code, caplog)

    def test_of_no_build_that_there_is(self, deployment: Deployment, caplog: pytest.LogCaptureFixture) -> None:
        response = deployment.push("advance_build", event_message(values.machine_started()))
        self.expect_dropped(deployment, response.status_code, caplog)
        assert records(caplog)[-1]["build_id"] == values.BUILD_ID

    @pytest.mark.parametrize("kind", WORKERS)
    def test_order_of_another_kind(
        self, deployment: Deployment, caplog: pytest.LogCaptureFixture, kind: OrderKind
    ) -> None:
        other: OrderKind = "clean_up" if kind != "clean_up" else "export_image"
        build = values.build(state=STATES[other])
        put(deployment, build)
        order = order_message(Order(build.id, 1, other, 1), build)
        self.expect_dropped(deployment, deployment.push(kind, order).status_code, caplog)

    def test_hazard_11_report_with_a_wrong_signature_is_counted(
        self, deployment: Deployment, caplog: pytest.LogCaptureFixture
    ) -> None:
        put(deployment, values.build())
        response = deployment.push("advance_build", report(key="00" * 32))
        self.expect_dropped(deployment, response.status_code, caplog, "wrong_signature")
        assert deployment.world.build().state is State.PREPARING

    def test_hazard_11_report_does_not_pass_as_an_event(
        self, deployment: Deployment, caplog: pytest.LogCaptureFixture
    ) -> None:
        put(deployment, values.build())
        fact = event_message(values.machine_stopped())
        response = deployment.push("advance_build", replace(fact, topic=REPORTS_TOPIC))
        self.expect_dropped(deployment, response.status_code, caplog)

    def test_hazard_11_a_report_without_a_signature_is_no_workers_fact(
        self, deployment: Deployment, caplog: pytest.LogCaptureFixture
    ) -> None:
        put(deployment, values.build())
        response = deployment.push("advance_build", event_message(values.reported(kind="completed")))
        self.expect_dropped(deployment, response.status_code, caplog, "wrong_signature")
        assert deployment.world.build().state is State.PREPARING

    def test_topic_that_brings_no_orders(self, deployment: Deployment, caplog: pytest.LogCaptureFixture) -> None:
        """A fact of build-events is good where facts go, and nothing that a worker carries out."""
        put(deployment, values.build())
        before = deployment.world.build()
        self.expect_dropped(
            deployment, deployment.push("clean_up", event_message(values.cancel_requested())).status_code, caplog
        )
        assert deployment.world.build() == before

    def test_topic_that_brings_no_facts(self, deployment: Deployment, caplog: pytest.LogCaptureFixture) -> None:
        put(deployment, values.build())
        fact = replace(event_message(values.machine_stopped()), topic=WORKER_TOPIC)
        self.expect_dropped(deployment, deployment.push("advance_build", fact).status_code, caplog)


class TestFaults:
    """Delivered again."""

    @pytest.mark.parametrize("fault", [Transient("the API is away"), Conflict("another writer")])
    def test_that_pass_are_one_line(
        self, deployment: Deployment, caplog: pytest.LogCaptureFixture, fault: Exception
    ) -> None:
        deployment.objects.faults["gs://goldsmith-test/specs/x.yaml"] = fault
        data = {"bucket": "goldsmith-test", "name": "specs/x.yaml", "generation": "1"}
        response = deployment.event("start_build", "google.cloud.storage.object.v1.finalized", data)
        assert response.status_code == 500
        [entry] = records(caplog)
        assert (entry["severity"], entry["message"]) == ("WARNING", f"to be tried again: {fault}")

    def test_order_comes_again_where_it_stopped(self, deployment: Deployment) -> None:
        build = values.build()
        put(deployment, build)
        deployment.world.compute.faults["create_machine"] = Transient("no room")
        order = order_message(Order(build.id, 1, "create_resources", 1), build)
        assert deployment.push("create_resources", order).status_code == 500
        assert deployment.world.bus.published == []
        assert deployment.push("create_resources", order).status_code == 200
        assert len(deployment.world.bus.published) == 1

    def test_faults_that_were_not_foreseen_have_a_traceback(
        self, deployment: Deployment, caplog: pytest.LogCaptureFixture
    ) -> None:
        deployment.objects.faults["gs://goldsmith-test/specs/x.yaml"] = ZeroDivisionError("oh")
        data = {"bucket": "goldsmith-test", "name": "specs/x.yaml", "generation": "1"}
        response = deployment.event("start_build", "google.cloud.storage.object.v1.finalized", data)
        assert response.status_code == 500
        [entry] = records(caplog)
        assert entry["severity"] == "ERROR"
        assert "Traceback" in entry["message"]
        assert entry["message"].endswith("ZeroDivisionError: oh")


def test_instance_with_a_wrong_environment_says_so_in_its_log() -> None:
    program = (
        "import functions_framework as f; print(f.create_app('dashboard', 'main.py').test_client().get('/').status)"
    )
    environment = {"PATH": os.environ["PATH"], "FUNCTION_TARGET": "dashboard"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("500 ")
    entry = json.loads(done.stderr)
    assert (entry["severity"], entry["function"]) == ("ERROR", "dashboard")
    assert "GOLDSMITH_PROJECT is not set; set it to a project's id" in entry["message"]


def test_log_names_function_and_build_and_is_one_line() -> None:
    record = logging.LogRecord("shared.engine.engine", logging.INFO, __file__, 1, "two\nlines", (), None)
    told = {"severity": "INFO", "message": "two\nlines", "logger": "shared.engine.engine", "function": "clean_up"}
    of_build = {"build_id": "hello-1", log.LABELS: {"build_id": "hello-1"}}
    for build, more in (("", {}), ("hello-1", of_build)):
        log.set_build(build)
        line = JsonFormatter("clean_up").format(record)
        assert "\n" not in line
        assert json.loads(line) == told | more
    log.set_build("")


def test_entries_of_all_functions_about_one_build_have_one_trace() -> None:
    record = logging.LogRecord("l", logging.INFO, __file__, 1, "text", (), None)
    log.set_build("hello-1")
    traces = {json.loads(JsonFormatter(name, "my-project").format(record))[log.TRACE] for name in ("clean_up", "label")}
    assert len(traces) == 1
    assert re.fullmatch(r"projects/my-project/traces/[0-9a-f]{32}", traces.pop())
    assert trace_id("hello-1") != trace_id("hello-2")
    log.set_build("")


def test_figures_of_a_build_are_logged_once_as_it_is_announced(caplog: pytest.LogCaptureFixture) -> None:
    """A held build was announced before it is finished; later events of either change nothing that is counted."""
    ended = values.ended_build()
    announced = values.cleaned_up(time=ended.stays[-1].begun)
    held = Stay(State.HELD, 1, values.NOON + 550)
    after_held = replace(ended, stays=(*ended.stays[:-1], held, ended.stays[-1]))
    with caplog.at_level(logging.INFO):
        for build, event in (
            (ended, announced),
            (ended, replace(announced, time=announced.time + 1)),
            (after_held, announced),
            (replace(ended, state=State.CLEANING, stays=ended.stays[:-1]), announced),
            (replace(ended, stays=()), announced),
        ):
            note_end(build, event)
    [record] = caplog.records
    figures = vars(record)["figures"]
    assert (figures["outcome"], figures["family"], figures["queue_seconds"]) == ("succeeded", "hello", 60)
    assert (figures["seconds"], figures["dollars"] > 0) == (600, True)
    assert json.loads(JsonFormatter("advance_build").format(record))["figures"] == figures
