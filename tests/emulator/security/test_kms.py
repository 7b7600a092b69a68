"""Cloud KMS's endpoint: what gcloud makes and disables, what is signed, and what Google refuses."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import pytest
import requests

from emulator.security.kms import KmsEndpoint
from emulator.web.identity import Identity

RING = "projects/p-1/locations/europe-west1/keyRings/images"
KEY = f"{RING}/cryptoKeys/sign"
VERSION = f"{KEY}/cryptoKeyVersions/1"
DIGEST = hashlib.sha256(b"hello").digest()


@pytest.fixture
def kms(tmp_path: Path, identity: Identity) -> Iterator[KmsEndpoint]:
    with KmsEndpoint(tmp_path / "kms", identity=identity) as endpoint:
        yield endpoint


def gcloud(kms: KmsEndpoint, folder: Path, *words: str | Path, status: int = 0) -> str:
    environment = {
        **os.environ,
        **kms.environment,
        "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "true",
        "CLOUDSDK_CONFIG": str(folder / "gcloud"),
        "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false",
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
        "CLOUDSDK_CORE_PROJECT": "p-1",
    }
    command = ["gcloud", "kms", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == status, (words, done.stdout, done.stderr)
    return done.stdout if status == 0 else done.stderr


def test_a_person_makes_a_key_signs_and_disables_it(kms: KmsEndpoint, tmp_path: Path) -> None:
    place = ("--location=europe-west1", "--keyring=images")
    gcloud(kms, tmp_path, "keyrings", "create", "images", "--location=europe-west1")
    kind = ("--purpose=asymmetric-signing", "--default-algorithm=ec-sign-p256-sha256")
    gcloud(kms, tmp_path, "keys", "create", "sign", *place, *kind)
    (tmp_path / "text").write_text("hello")
    signed = ("--digest-algorithm=sha256", f"--input-file={tmp_path / 'text'}", f"--signature-file={tmp_path / 'sig'}")
    sign = ("asymmetric-sign", "--version=1", "--key=sign", *place, *signed)
    gcloud(kms, tmp_path, *sign)
    pem = tmp_path / "key.pem"
    gcloud(kms, tmp_path, "keys", "versions", "get-public-key", "1", "--key=sign", *place, f"--output-file={pem}")
    verify: list[str | Path] = [
        "openssl",
        "dgst",
        "-sha256",
        "-verify",
        pem,
        "-signature",
        tmp_path / "sig",
        tmp_path / "text",
    ]
    assert subprocess.run(verify, capture_output=True, check=False).returncode == 0
    (tmp_path / "text").write_text("hallo")
    assert subprocess.run(verify, capture_output=True, check=False).returncode == 1
    gcloud(kms, tmp_path, "keys", "versions", "disable", "1", "--key=sign", *place)
    refusal = gcloud(kms, tmp_path, *sign, status=1)
    assert f"{VERSION} is not enabled, current state is: DISABLED." in refusal
    gcloud(kms, tmp_path, "keys", "versions", "create", "--key=sign", *place)
    shown = gcloud(kms, tmp_path, "keys", "versions", "list", "--key=sign", *place, "--format=value(name,state)")
    assert sorted(line.split()[1] for line in shown.splitlines()) == ["DISABLED", "ENABLED"]


def ask(kms: KmsEndpoint, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    answer = requests.request(method, f"{kms.url}/v1/{path}", json=body, headers=headers, timeout=30)
    return answer.status_code, answer.json()


def refusal(kms: KmsEndpoint, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, str, str]:
    status, document = ask(kms, method, path, body, **headers)
    error = document["error"]
    assert error["code"] == status
    return status, error["status"], error["message"]


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_sums_are_told_and_checked(kms: KmsEndpoint) -> None:
    kms.make_version(VERSION)
    body = {"digest": {"sha256": b64(DIGEST)}, "digestCrc32c": str(google_crc32c.value(DIGEST))}
    status, answer = ask(kms, "POST", f"{VERSION}:asymmetricSign", body)
    assert (status, answer["name"], answer["verifiedDigestCrc32c"]) == (200, VERSION, True)
    assert answer["signatureCrc32c"] == str(google_crc32c.value(base64.b64decode(answer["signature"])))
    assert "verifiedDigestCrc32c" not in ask(kms, "POST", f"{VERSION}:asymmetricSign", {"digest": body["digest"]})[1]
    _, key = ask(kms, "GET", f"{VERSION}/publicKey")
    assert (key["algorithm"], key["pemCrc32c"]) == (
        "EC_SIGN_P256_SHA256",
        str(google_crc32c.value(key["pem"].encode())),
    )
    wrong = {**body, "digestCrc32c": "1"}
    assert refusal(kms, "POST", f"{VERSION}:asymmetricSign", wrong)[:2] == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"digest": {"sha256": b64(DIGEST)}, "data": b64(b"hello")},
        {"digest": {"sha384": b64(DIGEST)}},
        {"digest": {"sha256": b64(b"short")}},
        {"digest": "text"},
        {"data": "no base64"},
        {"data": b64(b"x" * 65537)},
        ["a list"],
    ],
)
def test_what_cannot_be_signed_is_refused(kms: KmsEndpoint, body: Any) -> None:
    kms.make_version(VERSION)
    assert refusal(kms, "POST", f"{VERSION}:asymmetricSign", body)[:2] == (400, "INVALID_ARGUMENT")


def test_ed25519_signs_data_and_no_digest(kms: KmsEndpoint) -> None:
    kms.keys.make_ring("projects/p-1/locations/europe-west1", "images")
    wanted = {"purpose": "ASYMMETRIC_SIGN", "versionTemplate": {"algorithm": "EC_SIGN_ED25519"}}
    kms.keys.make_key(RING, "sign", wanted, empty=False)
    assert ask(kms, "POST", f"{VERSION}:asymmetricSign", {"data": b64(b"hello")})[0] == 200
    digest = {"digest": {"sha256": b64(DIGEST)}}
    assert refusal(kms, "POST", f"{VERSION}:asymmetricSign", digest)[:2] == (400, "INVALID_ARGUMENT")


def test_versions_go_through_googles_states(kms: KmsEndpoint) -> None:
    kms.make_version(VERSION)
    change = f"{VERSION}?updateMask=state"

    def state() -> str:
        return str(ask(kms, "GET", VERSION)[1]["state"])

    ask(kms, "PATCH", change, {"state": "DISABLED"})
    assert state() == "DISABLED"
    assert refusal(kms, "GET", f"{VERSION}/publicKey")[1] == "FAILED_PRECONDITION"
    ask(kms, "PATCH", change, {"state": "ENABLED"})
    assert ask(kms, "POST", f"{VERSION}:destroy", {})[1]["destroyTime"]
    assert state() == "DESTROY_SCHEDULED"
    assert refusal(kms, "PATCH", change, {"state": "ENABLED"})[1] == "FAILED_PRECONDITION"
    assert "destroyTime" not in ask(kms, "POST", f"{VERSION}:restore", {})[1]
    assert state() == "DISABLED"
    assert refusal(kms, "POST", f"{VERSION}:restore", {})[1] == "FAILED_PRECONDITION"
    assert refusal(kms, "PATCH", VERSION, {"state": "ENABLED"})[1] == "INVALID_ARGUMENT"


def test_what_is_not_there_and_who_may_not_are_told_apart(kms: KmsEndpoint, identity: Identity) -> None:
    kms.make_version(VERSION)
    kms.make_version(VERSION)  # is there
    assert refusal(kms, "POST", "projects/p-1/locations/europe-west1/keyRings?keyRingId=images", {})[0] == 409
    missing = f"{KEY}/cryptoKeyVersions/2"
    body = {"digest": {"sha256": b64(DIGEST)}}
    assert refusal(kms, "POST", f"{missing}:asymmetricSign", body) == (
        404,
        "NOT_FOUND",
        f"CryptoKeyVersion {missing} not found.",
    )
    assert refusal(kms, "GET", VERSION, Authorization="Bearer other")[:2] == (401, "UNAUTHENTICATED")
    token = identity.access_token("someone@p-1.iam.gserviceaccount.com")
    assert ask(kms, "GET", VERSION, Authorization=f"Bearer {token}")[0] == 200
    kms.deny("cloudkms.cryptoKeyVersions.useToSign")
    assert refusal(kms, "POST", f"{VERSION}:asymmetricSign", body) == (
        403,
        "PERMISSION_DENIED",
        f"Permission 'cloudkms.cryptoKeyVersions.useToSign' denied on resource '{VERSION}' (or it may not exist).",
    )
    assert ask(kms, "GET", f"{VERSION}/publicKey")[0] == 200


def test_keys_outlive_the_endpoint(tmp_path: Path, identity: Identity) -> None:
    pems = []
    for _start in range(2):
        with KmsEndpoint(tmp_path / "kms", identity=identity) as kms:
            kms.make_version(VERSION)
            pems.append(ask(kms, "GET", f"{VERSION}/publicKey")[1]["pem"])
    assert pems[0] == pems[1]
    assert (tmp_path / "kms" / "keys.json").stat().st_mode & 0o077 == 0
