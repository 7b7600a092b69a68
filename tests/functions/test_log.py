"""What a function's process writes: each entry once, as JSON, whatever handlers the framework has set up before."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from emulator.cloud.functions import NOT_ALLOWED, SERVER, command
from emulator.web.processes import Processes, free_port
from shared.ports import Message
from shared.topology import REQUESTS_TOPIC
from tests.functions.deployed import BUCKET, PROJECT, ROOT, push_body

ENVIRONMENT = {
    "GOLDSMITH_PROJECT": PROJECT,
    "GOLDSMITH_BUCKET": BUCKET,
    "GOLDSMITH_ZONES": "us-central1-a",
    "GOLDSMITH_VM_SERVICE_ACCOUNT": "vm@my-project.iam.gserviceaccount.com",
    "FIRESTORE_EMULATOR_HOST": "127.0.0.1:9",
    "PUBSUB_EMULATOR_HOST": "127.0.0.1:9",
    "STORAGE_EMULATOR_HOST": "http://127.0.0.1:9",
    "GOLDSMITH_COMPUTE_ENDPOINT": "http://127.0.0.1:9",
}


class Served:
    """start_build in a process of its own."""

    def __init__(self, processes: Processes, folder: Path, environment: Mapping[str, str]) -> None:
        self._url = f"http://127.0.0.1:{free_port()}"
        arguments = command("start_build", ROOT / "main.py", self._url)
        self._child = processes.start("start_build", arguments, folder / "log", environment=environment, folder=ROOT)
        self._child.wait_until_ready(self._url, below=NOT_ALLOWED + 1)

    def push(self, data: bytes) -> int:
        message = Message(REQUESTS_TOPIC, data, {})
        body = json.dumps(push_body(message, "17")).encode()
        request = urllib.request.Request(
            f"{self._url}/projects/{PROJECT}/topics/{REQUESTS_TOPIC}", body, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    @property
    def entries(self) -> list[dict[str, Any]]:
        """What it has written until it answered: both are in the order of the process."""
        return [json.loads(line) for line in self._child.log.read_text("utf-8").splitlines()]


@pytest.fixture
def processes() -> Iterator[Processes]:
    with Processes() as made:
        yield made


@pytest.mark.parametrize("with_id", ["true", "false"])
def test_an_entry_comes_once(processes: Processes, tmp_path: Path, with_id: str) -> None:
    served = Served(processes, tmp_path, {**SERVER, **ENVIRONMENT, "LOG_EXECUTION_ID": with_id})
    for number in range(2):
        assert served.push(b"no JSON") == 200
        assert [entry["severity"] for entry in served.entries] == ["WARNING"] * (number + 1)
    [first, second] = served.entries
    assert first["message"].startswith("dropped event 17 of ")
    assert (first["metric"], first["function"]) == ("poison_message", "start_build")
    ids = {entry.get("logging.googleapis.com/labels", {}).get("execution_id") for entry in (first, second)}
    assert len(ids - {None}) == (2 if with_id == "true" else 0)


@pytest.mark.parametrize("with_id", ["true", "false"])
def test_a_crash_comes_once(processes: Processes, tmp_path: Path, with_id: str) -> None:
    absent = dict.fromkeys(ENVIRONMENT, "")
    served = Served(processes, tmp_path, {**SERVER, **absent, "LOG_EXECUTION_ID": with_id})
    assert served.push(b"no JSON") == 500
    [entry] = served.entries
    assert entry["severity"] == "ERROR"
    assert "GOLDSMITH_PROJECT" in entry["message"]
    assert "Traceback" in entry["message"]


def test_the_emulator_runs_functions_as_new_ones_are_run() -> None:
    assert SERVER["LOG_EXECUTION_ID"] == "true"
