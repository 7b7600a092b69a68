"""A real build in a sandbox is traced from its request on, within its caller's trace, with the webhook that is told."""

from __future__ import annotations

import json

import pytest

from shared.runtime.followers.webhooks import FILE
from tests.shared.tracing.collector import collector
from tests.shared.webhooks.receiver import receiver
from tests.system.command import Document, Goldsmith
from tests.system.sandboxes import sandboxed

pytestmark = pytest.mark.slow

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PASSWORD = "correct-horse-battery"


def test_a_build_that_fails_in_its_second_step_is_traced_as_a_whole(goldsmith: Goldsmith) -> None:
    steps: list[Document] = [
        {"name": "greet", "script": "#!/bin/sh\nsleep 0.2\n", "inputs": {"script": "greet.sh", "env": {"P": PASSWORD}}},
        {
            "name": "break",
            "script": f"#!/bin/sh\necho {PASSWORD}\n[ -e /again ] || {{ touch /again; exit 5; }}\nexit 4\n",
            "retries": 1,
        },
    ]
    spec = sandboxed(goldsmith, steps, name="traced")
    with collector() as there, receiver() as told:
        (goldsmith.home / FILE).touch(mode=0o600)
        (goldsmith.home / FILE).write_text(json.dumps({"chat": {"url": told.url, "format": "slack"}}))
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": there.endpoint,
            "OTEL_SERVICE_NAME": "images",
            "TRACEPARENT": f"00-{TRACE}-{CALLER}-01",
        }
        done = goldsmith.run("build", spec, "--json", environment=environment)
        build = done.documents()[-1]["build"]
        assert (build["outcome"], len(told.got)) == ("failed", 1), done.text
        assert there.tree(CALLER) == [
            "BUILD traced",
            "  preparing",
            "  provisioning",
            "    build machine",
            "      boot",
            "      greet",
            "      break",
            "      break",
            "  cleaning",
            "  webhook chat",
        ]
        spans = there.spans
    assert {span.trace for span in spans} == {TRACE}
    assert {span.resource["service.name"] for span in spans} == {"images"}
    failures = {span.name: span.failure for span in spans if span.failure is not None}
    reason = build["reason"]
    assert failures == {"BUILD traced": reason, "provisioning": reason, "break": "exit status 4"}
    greet = next(span for span in spans if span.name == "greet")
    assert greet.end - greet.start >= 0.2
    root = spans[0]
    assert root.start == pytest.approx(build["created"])
    assert root.attributes["cicd.pipeline.result"] == "failure"
    assert PASSWORD not in repr(spans)
    assert done.err.count("opentelemetry") == 0
