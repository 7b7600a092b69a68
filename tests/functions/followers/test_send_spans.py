"""send_spans: the trace of a finished build goes to the collector, and what may pass is delivered again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from shared.build.build import Build
from shared.build.identity import span_id, trace_id
from shared.ports import Message
from shared.topology import EVENTS_TOPIC, FINISHED_TOPIC
from shared.webhooks.webhook import read_webhooks
from tests.functions.deployed import Deployment
from tests.shared.tracing.collector import TestCollector, collector
from tests.world import values

FUNCTION = "send_spans"


@pytest.fixture
def there() -> Iterator[TestCollector]:
    with collector() as made:
        yield made


def finished(endpoint: str) -> tuple[Deployment, Build, Message]:
    """Run a build, with its verification, to its announcement."""
    made = Deployment()
    settings = replace(made.backend.settings, otlp_endpoint=endpoint)
    made.backend = replace(made.backend, settings=settings)
    build = made.world.run(values.plan(verify_steps=values.plan().steps))
    [announced] = made.world.announced
    return made, build, announced


def test_a_finished_build_is_sent_whole_and_again_with_the_same_ids(there: TestCollector) -> None:
    made, build, announced = finished(there.endpoint)
    assert made.push(FUNCTION, announced).status_code == 200
    assert there.tree() == [
        *("BUILD hello", "  preparing", "  provisioning", "    build machine", "      boot", "      greet"),
        *(
            "  exporting",
            "  verifying",
            "    verify machine",
            "      boot",
            "      greet",
            "  publishing",
            "  cleaning",
        ),
    ]
    once = there.spans
    assert made.push(FUNCTION, announced).status_code == 200
    assert there.spans[len(once) :] == once
    assert {span.trace for span in once} == {trace_id(build.id)}


def test_a_collector_that_is_down_gets_it_later_and_one_that_refuses_it_is_not_asked_again(
    there: TestCollector,
) -> None:
    made, _, announced = finished(there.endpoint)
    there.kept.answers += [500, 403]
    assert [made.push(FUNCTION, announced).status_code for _ in range(3)] == [500, 200, 200]
    assert len(there.kept.got) == 3


def test_without_a_collector_nothing_is_read() -> None:
    made, _, announced = finished("")
    fuse = made.world.burn_at(None)
    assert made.push(FUNCTION, announced).status_code == 200
    assert fuse.count == 0


def test_other_messages_are_dropped(there: TestCollector) -> None:
    made, _, announced = finished(there.endpoint)
    for message in (replace(announced, topic=EVENTS_TOPIC), Message(FINISHED_TOPIC, b"{}", {}, "")):
        assert made.push(FUNCTION, message).status_code == 200
    assert there.kept.got == []


def test_each_call_of_a_webhook_is_a_span_that_does_not_tell_its_address(there: TestCollector) -> None:
    made, build, announced = finished(there.endpoint)
    url = f"{there.endpoint}/secret-place"
    hooks = read_webhooks(json.dumps({"chat": {"url": url, "format": "slack"}}))
    made.backend = replace(made.backend, settings=replace(made.backend.settings, webhooks=hooks))
    assert made.push("call_webhooks", announced).status_code == 200
    call = made.world.bus.published[-1]
    there.kept.answers += [503, 200, 410]
    assert [made.push("call_webhooks", call).status_code for _ in range(2)] == [500, 200]
    told = [(headers, body) for headers, body in there.kept.got if headers["content-type"] != "application/x-protobuf"]
    assert len(told) == 2
    for sent in told:
        there.kept.got.remove(sent)
    failed, refused = there.spans
    for span in (failed, refused):
        assert (span.name, span.kind, span.parent) == ("webhook chat", "client", span_id(build.id, "build"))
        assert "secret-place" not in repr(span)
    assert [span.failure and span.failure.partition(": ")[2] for span in (failed, refused)] == [
        "answers with status 503; it is tried again",
        "answers with status 410",
    ]
