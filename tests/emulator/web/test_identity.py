"""The emulator's key, and what google-auth makes of it."""

from __future__ import annotations

import base64
import json
import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Flask
from google.auth.transport.requests import Request
from google.oauth2 import id_token, service_account

from emulator.web.http_server import HttpServer
from emulator.web.iam_credentials import iam_credentials
from emulator.web.identity import CERTIFICATES_PATH, ISSUER, TOKEN_PATH, Identity, InvalidToken

EMAIL = "start-build@goldsmith-emulator.iam.gserviceaccount.com"


@pytest.fixture
def server(identity: Identity) -> Iterator[HttpServer]:
    application = Flask("identity")
    application.register_blueprint(identity.blueprint())
    with HttpServer(application) as served:
        yield served


@pytest.fixture
def key_file(identity: Identity, server: HttpServer, tmp_path: Path) -> Path:
    return identity.service_account_file(
        tmp_path, EMAIL, token_uri=server.url + TOKEN_PATH, project="goldsmith-emulator"
    )


def credentials_of(key_file: Path, **options: Any) -> Any:
    return service_account.Credentials.from_service_account_file(str(key_file), **options)


def public_key(folder: str, number: int) -> bytes:
    return Identity(Path(folder)).public_pem


def test_key_is_made_once_and_is_secret(tmp_path: Path) -> None:
    first = Identity(tmp_path / "home")
    assert Identity(tmp_path / "home").key_id == first.key_id
    [path] = (tmp_path / "home").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600


def test_processes_that_make_a_key_at_once_have_the_same(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        keys = pool.starmap(public_key, [(str(tmp_path / "home"), number) for number in range(8)])
    assert len(set(keys)) == 1
    assert len(list((tmp_path / "home").iterdir())) == 1


def test_key_file_gets_an_access_token(key_file: Path, identity: Identity) -> None:
    assert key_file.stat().st_mode & 0o777 == 0o600
    credentials = credentials_of(key_file, scopes=["https://www.googleapis.com/auth/devstorage.read_only"])
    credentials.refresh(Request())
    assert identity.verify_access_token(credentials.token) == EMAIL
    assert credentials.valid


def test_key_file_gets_an_id_token(key_file: Path, identity: Identity, server: HttpServer) -> None:
    credentials = service_account.IDTokenCredentials.from_service_account_file(
        str(key_file), target_audience="https://function.example"
    )
    credentials.refresh(Request())
    claims = identity.verify_id_token(credentials.token, "https://function.example")
    assert (claims["email"], claims["email_verified"], claims["iss"]) == (EMAIL, True, ISSUER)
    checked = id_token.verify_token(
        credentials.token,
        Request(),
        audience="https://function.example",
        certs_url=server.url + CERTIFICATES_PATH,
    )
    assert checked == claims


def test_key_signs_what_only_it_verifies(tmp_path: Path, identity: Identity) -> None:
    signature = identity.sign(b"data")
    assert identity.is_signed(signature, b"data")
    assert not identity.is_signed(signature, b"Data")
    assert not identity.is_signed(b"", b"data")
    assert not Identity(tmp_path / "other").is_signed(signature, b"data")


def altered(token: str) -> str:
    header, claims, signature = token.split(".")
    decoded = json.loads(base64.urlsafe_b64decode(claims + "=="))
    changed = base64.urlsafe_b64encode(json.dumps({**decoded, "email": "root@example.org"}).encode()).rstrip(b"=")
    return f"{header}.{changed.decode()}.{signature}"


def test_tokens_are_held_to_their_signature_time_and_audience(tmp_path: Path, identity: Identity) -> None:
    token = identity.id_token(EMAIL, "https://a.example")
    for bad, reason in (
        (altered(token), "signature"),
        (Identity(tmp_path / "other").id_token(EMAIL, "https://a.example"), "signature"),
        (identity.id_token(EMAIL, "https://a.example", lifetime_s=-1), "expired"),
        (identity.id_token(EMAIL, "https://b.example"), r"audience https://b\.example, expected .*https://a\.example"),
        (identity.access_token(EMAIL), "audience"),
        ("", "no valid JSON Web Token"),
        ("a.b.c", "no valid JSON Web Token"),
        ("ü.ü.ü", "no valid JSON Web Token"),
        (f"e30.{base64.b64encode(b'[' * 60_000).decode()}.AAAA", "no valid JSON Web Token"),
    ):
        with pytest.raises(InvalidToken, match=reason):
            identity.verify_id_token(bad, "https://a.example")
    assert identity.verify_id_token(token, "https://a.example")["exp"] > time.time()


def test_an_id_token_gives_no_access(identity: Identity) -> None:
    with pytest.raises(InvalidToken, match="no access token"):
        identity.verify_access_token(identity.id_token(EMAIL, "https://a.example"))


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({}, "unsupported_grant_type"),
        ({"grant_type": "refresh_token"}, "unsupported_grant_type"),
        ({"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer"}, "invalid_grant"),
        ({"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": "x.y.z"}, "invalid_grant"),
    ],
)
def test_token_endpoint_refuses(server: HttpServer, form: dict[str, str], error: str) -> None:
    answer = requests.post(server.url + TOKEN_PATH, data=form, timeout=10)
    assert (answer.status_code, answer.json()["error"]) == (400, error)


def test_token_endpoint_refuses_an_assertion_for_another_endpoint(server: HttpServer, identity: Identity) -> None:
    assertion = identity.id_token(EMAIL, "https://elsewhere.example/token")
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion}
    answer = requests.post(server.url + TOKEN_PATH, data=form, timeout=10)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


@pytest.fixture
def iam(identity: Identity) -> Iterator[str]:
    """The address of accounts in IAM's Service Account Credentials API."""
    application = Flask("iam")
    application.register_blueprint(iam_credentials(identity))
    with HttpServer(application) as served:
        yield f"{served.url}/v1/projects/-/serviceAccounts/{EMAIL}"


def bearer(identity: Identity) -> dict[str, str]:
    return {"Authorization": f"Bearer {identity.access_token('me@goldsmith-emulator.iam.gserviceaccount.com')}"}


def test_an_account_gets_tokens_in_the_name_of_another_one(identity: Identity, iam: str) -> None:
    asked: dict[str, object] = {"audience": "goldsmith", "includeEmail": True}
    for with_email in (True, False):
        answer = requests.post(
            f"{iam}:generateIdToken", json={**asked, "includeEmail": with_email}, headers=bearer(identity), timeout=10
        )
        claims = identity.verify_id_token(answer.json()["token"], "goldsmith")
        assert claims.get("email") == (EMAIL if with_email else None)
        assert ("email_verified" in claims) == with_email
    scopes = {"scope": ["https://www.googleapis.com/auth/cloud-platform"], "lifetime": "60s"}
    answer = requests.post(f"{iam}:generateAccessToken", json=scopes, headers=bearer(identity), timeout=10)
    assert identity.verify_access_token(answer.json()["accessToken"]) == EMAIL


@pytest.mark.parametrize(
    ("place", "body", "status"),
    [
        (":generateIdToken", {}, 400),
        (":generateIdToken", {"audience": ""}, 400),
        (":generateIdToken", [], 400),
        (":generateAccessToken", {"scope": []}, 400),
        (":generateAccessToken", {"scope": ["a"], "lifetime": "7200s"}, 400),
        (":signJwt", {"audience": "a"}, 404),
        ("x:generateIdToken", {"audience": "a"}, 404),
    ],
)
def test_what_iam_refuses(identity: Identity, iam: str, place: str, body: object, status: int) -> None:
    answer = requests.post(iam + place, json=body, headers=bearer(identity), timeout=10)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, status)


def test_nobody_gets_a_token_without_one(iam: str) -> None:
    answer = requests.post(f"{iam}:generateIdToken", json={"audience": "a"}, timeout=10)
    assert (answer.status_code, answer.json()["error"]["status"]) == (401, "UNAUTHENTICATED")
