"""What sends traces to Google Cloud proves by a token which account it is; without an account, that is told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from flask import Flask

from emulator.web.http_server import HttpServer
from emulator.web.identity import TOKEN_PATH, Identity
from tests.project.source_tree import ROOT
from tests.shared.tracing.collector import collector

EMAIL = "goldsmith-send-spans@my-project.iam.gserviceaccount.com"
SEND = """
import sys
from shared.gcp.credentials import google_session
from shared.tracing.otlp import Collector, send_trace
from shared.tracing.trace import webhook_trace
from tests.world import values

trace = webhook_trace(values.build(), "ci", values.NOON, values.NOON, None)
try:
    send_trace(trace, Collector(sys.argv[1], (("gcp.project_id", "my-project"),), google_session))
except Exception as error:
    print(type(error).__name__, error)
"""


def sent(url: str, environment: Mapping[str, str]) -> str:
    """Send a span with the credentials of an environment; return what went wrong."""
    line = [sys.executable, "-c", SEND, url]
    done = subprocess.run(line, cwd=ROOT, env={**environment}, capture_output=True, text=True, check=True)
    return done.stdout


def test_the_token_is_of_the_account_that_the_process_runs_as(tmp_path: Path) -> None:
    identity = Identity(tmp_path / "identity")
    tokens = Flask("tokens")
    tokens.register_blueprint(identity.blueprint())
    with HttpServer(tokens) as server, collector() as there:
        key = identity.service_account_file(tmp_path, EMAIL, token_uri=server.url + TOKEN_PATH, project="my-project")
        assert sent(f"{there.endpoint}/v1/traces", {"GOOGLE_APPLICATION_CREDENTIALS": str(key)}) == ""
        [(headers, _)] = there.kept.got
        [span] = there.spans
    assert span.resource["gcp.project_id"] == "my-project"
    token = headers["authorization"].removeprefix("Bearer ")
    assert identity.verify_access_token(token) == EMAIL


def test_without_credentials_nothing_is_sent(tmp_path: Path) -> None:
    with collector() as there:
        fault = sent(f"{there.endpoint}/v1/traces", {"NO_GCE_CHECK": "true", "HOME": str(tmp_path)})
        assert there.kept.got == []
    assert fault.startswith("Permanent there are no credentials for Google Cloud: ")
