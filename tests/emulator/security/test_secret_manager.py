"""Secret Manager's endpoint: what gcloud makes, reads and disables, and what Google refuses."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from emulator.security.secret_manager import SecretManagerEndpoint
from emulator.web.identity import Identity

SECRET = "projects/p-1/secrets/token"
VALUE = base64.b64encode(b"long enough").decode()


@pytest.fixture
def manager(tmp_path: Path, identity: Identity) -> Iterator[SecretManagerEndpoint]:
    with SecretManagerEndpoint(tmp_path / "secrets", identity=identity) as endpoint:
        yield endpoint


def test_a_person_makes_a_secret_reads_it_and_disables_it(manager: SecretManagerEndpoint, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        **manager.environment,
        "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "true",
        "CLOUDSDK_CONFIG": str(tmp_path / "gcloud"),
        "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false",
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
        "CLOUDSDK_CORE_PROJECT": "p-1",
    }

    def gcloud(*words: str, status: int = 0) -> str:
        done = subprocess.run(
            ["gcloud", "secrets", *words], env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == status, (words, done.stdout, done.stderr)
        return done.stdout if status == 0 else done.stderr

    for value in ("the first one", "the second one"):
        (tmp_path / "value").write_text(value)
        if value == "the first one":
            gcloud("create", "token", f"--data-file={tmp_path / 'value'}")
        else:
            gcloud("versions", "add", "token", f"--data-file={tmp_path / 'value'}")
    assert gcloud("versions", "access", "latest", "--secret=token") == "the second one"
    assert gcloud("versions", "describe", "latest", "--secret=token", "--format=value(name)").strip().endswith("/2")
    gcloud("versions", "disable", "2", "--secret=token")
    assert "is in DISABLED state" in gcloud("versions", "access", "latest", "--secret=token", status=1)
    assert gcloud("versions", "access", "1", "--secret=token") == "the first one"
    shown = gcloud("versions", "list", "token", "--format=value(name,state)").lower().split()
    assert shown == ["2", "disabled", "1", "enabled"]


def ask(manager: SecretManagerEndpoint, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    answer = requests.request(method, f"{manager.url}/v1/{path}", json=body, timeout=30)
    return answer.status_code, answer.json()


def make(manager: SecretManagerEndpoint) -> None:
    ask(manager, "POST", "projects/p-1/secrets?secretId=token", {"replication": {"automatic": {}}})
    ask(manager, "POST", f"{SECRET}:addVersion", {"payload": {"data": VALUE}})


def test_answers_have_the_number_of_the_project_which_is_taken_as_well(manager: SecretManagerEndpoint) -> None:
    make(manager)
    status, version = ask(manager, "GET", f"{SECRET}/versions/latest")
    assert (status, version["state"]) == (200, "ENABLED")
    assert version["name"].split("/")[1].isdecimal()
    assert "payload" not in version
    status, answer = ask(manager, "GET", f"{version['name']}:access")
    assert (status, answer["name"], answer["payload"]["data"]) == (200, version["name"], VALUE)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "projects/p-1/secrets?secretId=token", {"replication": {"automatic": {}}}, 409, "ALREADY_EXISTS"),
        ("POST", "projects/p-1/secrets?secretId=other", {}, 400, "INVALID_ARGUMENT"),
        ("POST", "projects/p-1/secrets?secretId=a%20b", {"replication": {"automatic": {}}}, 400, "INVALID_ARGUMENT"),
        ("GET", "projects/p-1/secrets/other/versions/latest", None, 404, "NOT_FOUND"),
        ("GET", "projects/p-2/secrets/token/versions/latest", None, 404, "NOT_FOUND"),
        ("GET", f"{SECRET}/versions/2", None, 404, "NOT_FOUND"),
        ("GET", f"{SECRET}/versions/0", None, 404, "NOT_FOUND"),
        ("GET", f"{SECRET}/versions/newest", None, 404, "NOT_FOUND"),
        ("GET", f"{SECRET}:addVersion", None, 404, "NOT_FOUND"),
        ("POST", f"{SECRET}:addVersion", {"payload": {"data": ""}}, 400, "INVALID_ARGUMENT"),
        ("POST", f"{SECRET}:addVersion", {"payload": "text"}, 400, "INVALID_ARGUMENT"),
        ("POST", f"{SECRET}:addVersion", {"payload": {"data": VALUE, "dataCrc32c": "1"}}, 400, "INVALID_ARGUMENT"),
    ],
)
def test_what_google_refuses_is_refused(
    manager: SecretManagerEndpoint, method: str, path: str, body: Any, status: int, code: str
) -> None:
    make(manager)
    found, document = ask(manager, method, path, body)
    assert (found, document["error"]["status"]) == (status, code)


def test_what_is_destroyed_is_gone_for_good(tmp_path: Path, identity: Identity) -> None:
    with SecretManagerEndpoint(tmp_path / "secrets", identity=identity) as manager:
        make(manager)
        assert ask(manager, "POST", f"{SECRET}/versions/1:destroy", {})[1]["state"] == "DESTROYED"
        assert ask(manager, "POST", f"{SECRET}/versions/1:enable", {})[0] == 400
        assert VALUE not in (tmp_path / "secrets" / "secrets.json").read_text()
    with SecretManagerEndpoint(tmp_path / "secrets", identity=identity) as manager:
        status, document = ask(manager, "GET", f"{SECRET}/versions/1:access")
        assert (status, document["error"]["status"]) == (400, "FAILED_PRECONDITION")
