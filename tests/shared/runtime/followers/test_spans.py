"""Traces of one machine: sent where the environment names a collector, kept until it has them, never in the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from shared.build.build import Build, Outcome, State
from shared.build.orders import Order
from shared.engine.messages import order_message
from shared.errors import InputError
from shared.gcp.settings import Settings
from shared.ports import Message
from shared.runtime.followers.spans import (
    SPANS_LINE,
    collector_here,
    collector_of,
    send_traces,
    traces_here,
    wants_traces,
)
from shared.runtime.one_machine import LocalBackend, open_one_machine
from tests.functions.deployed import SETTINGS
from tests.shared.tracing.collector import TestCollector, collector
from tests.world import values


@pytest.fixture
def there() -> Iterator[TestCollector]:
    with collector() as made:
        yield made


def named(there: TestCollector) -> Mapping[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": there.endpoint}


def announce(backend: LocalBackend, environment: Mapping[str, str]) -> Build:
    """Record a build that has ended, and what its announcement leads to."""
    done = values.build(state=State.FINISHED, outcome=Outcome.SUCCEEDED)
    backend.store.create(values.build(), values.requested())
    backend.store.save(done, backend.store.load(done.id).version)
    finished = order_message(Order(done.id, 9, "announce", 1), done)
    for message in traces_here(finished, environment):
        backend.bus.publish(message)
    return done


def send(backend: LocalBackend, environment: Mapping[str, str]) -> int:
    """Send what waits; return how many traces wait still."""
    send_traces(backend.store, backend.queue, environment, ())
    return backend.queue.pending(SPANS_LINE)


def test_a_trace_is_sent_once(tmp_path: Path, there: TestCollector) -> None:
    with open_one_machine(tmp_path / "home") as backend:
        announce(backend, named(there))
        assert send(backend, named(there)) == 0
        assert send(backend, named(there)) == 0
    assert [span.name for span in there.spans] == ["BUILD hello"]


def test_what_a_killed_process_has_left_is_sent_by_the_next_one_with_the_same_ids(
    tmp_path: Path, there: TestCollector, caplog: pytest.LogCaptureFixture
) -> None:
    there.kept.answers += [500]  # as a process leaves it that dies before it has acknowledged the message
    with open_one_machine(tmp_path / "home") as backend:
        build = announce(backend, named(there))
        assert send(backend, named(there)) == 1
    assert f"the trace of build {build.id} waits for the next build, or goldsmith sweep" in caplog.text
    with open_one_machine(tmp_path / "home") as backend:
        backend.queue.publish(Message("traces-to-send", b"", {"build_id": build.id}, SPANS_LINE))  # the delay is over
        send(backend, named(there))
    first, second = there.spans
    assert first == second


def test_without_a_collector_nothing_waits_and_nothing_is_sent(tmp_path: Path, there: TestCollector) -> None:
    with open_one_machine(tmp_path / "home") as backend:
        announce(backend, {})
        assert send(backend, {}) == 0
    off: Mapping[str, str]
    for off in ({"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}):
        assert not wants_traces({**named(there), **off})
    assert there.kept.got == []


def test_a_trace_that_is_refused_or_whose_build_is_gone_is_given_up(
    tmp_path: Path, there: TestCollector, caplog: pytest.LogCaptureFixture
) -> None:
    there.kept.answers += [401]
    with open_one_machine(tmp_path / "home") as backend:
        backend.queue.publish(Message("traces-to-send", b"", {"build_id": "hello-gone"}, SPANS_LINE))
        announce(backend, named(there))
        assert send(backend, named(there)) == 0
    assert "answers with status 401" in caplog.text
    assert "the trace of build hello-gone is not sent" in caplog.text


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318/"}, "http://127.0.0.1:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://a.example/otlp"}, "https://a.example/otlp/v1/traces"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://b.example/t"},
            "https://b.example/t",
        ),
    ],
)
def test_addresses_are_read_as_opentelemetry_has_it(environment: Mapping[str, str], url: str) -> None:
    assert wants_traces(environment)
    assert collector_here(environment).url == url


@pytest.mark.parametrize(
    ("environment", "fault"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "127.0.0.1:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT is no address of a collector"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://["}, "OTEL_EXPORTER_OTLP_ENDPOINT is no address of a collector"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "is grpc: traces are sent",
        ),
    ],
)
def test_what_cannot_be_sent_to_is_told_and_ends_nothing(
    tmp_path: Path, environment: Mapping[str, str], fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InputError, match=fault):
        collector_here(environment)
    with open_one_machine(tmp_path / "home") as backend:
        announce(backend, environment)
        assert send(backend, environment) == 1
    assert fault in caplog.text


def test_google_clouds_own_collector_gets_a_token_and_the_project_and_no_other_does() -> None:
    def of(endpoint: str) -> Settings:
        return Settings(**{**SETTINGS.__dict__, "otlp_endpoint": endpoint})

    google = collector_of(of("https://telemetry.googleapis.com"))
    assert (google.url, google.resource) == (
        "https://telemetry.googleapis.com/v1/traces",
        (("gcp.project_id", SETTINGS.project),),
    )
    assert google.session is not None
    assert collector_of(of("https://telemetry.europe-west3.rep.googleapis.com")).session is not None
    for other in ("https://telemetry.googleapis.com.example", "http://telemetry.googleapis.com", "https://x.example"):
        found = collector_of(of(other))
        assert (found.session, found.resource) == (None, ())
