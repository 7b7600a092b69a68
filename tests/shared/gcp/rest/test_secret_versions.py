"""The newest version of a secret, by the emulator's Secret Manager: looked up without its value, or said why not."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from emulator.security.secret_manager import SecretManagerEndpoint
from emulator.web.identity import Identity
from shared.errors import InputError, Transient
from shared.gcp.rest.secret_versions import GoogleSecretVersions
from shared.gcp.settings import Settings

SECRET = "projects/my-project/secrets/token"


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[SecretManagerEndpoint]:
    with SecretManagerEndpoint(tmp_path / "secrets", identity=Identity(tmp_path / "identity")) as endpoint:
        post(endpoint, "projects/my-project/secrets?secretId=token", {"replication": {"automatic": {}}})
        yield endpoint


def post(manager: SecretManagerEndpoint, path: str, body: object = None) -> None:
    requests.post(f"{manager.url}/v1/{path}", json=body or {}, timeout=30).raise_for_status()


def add(manager: SecretManagerEndpoint) -> None:
    post(manager, f"{SECRET}:addVersion", {"payload": {"data": base64.b64encode(b"long enough").decode()}})


def versions(manager: SecretManagerEndpoint, patience: float = 20.0) -> GoogleSecretVersions:
    environment = {"GOLDSMITH_SECRETS_ENDPOINT": manager.url}
    return GoogleSecretVersions(Settings.of_person("my-project", "my-bucket", environment), patience=patience)


def test_the_newest_version_is_looked_up_each_time_and_no_value_is_read(manager: SecretManagerEndpoint) -> None:
    manager.deny("secretmanager.versions.access")
    found = versions(manager)
    for number in (1, 2):
        add(manager)
        assert found.newest(SECRET) == number
    assert not any("access" in each for each in manager.asked)


def test_what_is_wrong_is_told(manager: SecretManagerEndpoint) -> None:
    with pytest.raises(InputError, match=r"secrets/token/versions/latest: not found: .*whether it has a version"):
        versions(manager).newest(SECRET)
    with pytest.raises(InputError, match="look at the project and the name"):
        versions(manager).newest("projects/my-project/secrets/other")
    add(manager)
    add(manager)
    post(manager, f"{SECRET}/versions/2:disable")
    with pytest.raises(InputError, match="is version 2, which is DISABLED; enable it"):
        versions(manager).newest(SECRET)
    manager.deny("secretmanager.versions.get")
    with pytest.raises(InputError, match=r"permission secretmanager\.versions\.get is missing.*latest_secrets of this"):
        versions(manager).newest(SECRET)


def test_what_passes_is_tried_again_and_not_for_ever(manager: SecretManagerEndpoint) -> None:
    add(manager)
    manager.fail_next(503, times=2)
    assert versions(manager).newest(SECRET) == 1
    manager.fail_next(503, times=1000)
    with pytest.raises(Transient, match="can be tried again"):
        versions(manager, patience=1.0).newest(SECRET)
    assert len(manager.asked) < 20
