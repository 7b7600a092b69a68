"""Signatures by Cloud KMS, against the emulator's: what holds, what is repeated, and what is told of refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator.security.kms import KmsEndpoint
from emulator.web.identity import Identity
from shared.errors import Permanent, Transient
from shared.gcp.rest.kms import KeyVersion
from shared.gcp.settings import Settings
from shared.provenance.envelope import VerifyingKey, read_envelope, sign_statement
from tests.shared.provenance.statements import openssl_verifies, stated

KEY = "projects/p-1/locations/europe-west1/keyRings/images/cryptoKeys/sign"
VERSION = f"{KEY}/cryptoKeyVersions/1"


@pytest.fixture
def kms(tmp_path: Path) -> Iterator[KmsEndpoint]:
    with KmsEndpoint(tmp_path / "kms", identity=Identity(tmp_path / "identity")) as endpoint:
        endpoint.make_version(VERSION)
        yield endpoint


def key_at(kms: KmsEndpoint, name: str = VERSION, patience: float = 20.0) -> KeyVersion:
    settings = Settings.of_person("my-project", "my-bucket", {"GOLDSMITH_KMS_ENDPOINT": kms.url})
    return KeyVersion(name, settings, patience=patience)


def test_a_statement_that_cloud_kms_has_signed_holds_for_its_version_alone(kms: KmsEndpoint, tmp_path: Path) -> None:
    key = key_at(kms)
    envelope = sign_statement(stated(), key)
    assert json.loads(envelope)["signatures"][0]["keyid"] == VERSION
    assert openssl_verifies(envelope, key.public_key(), tmp_path)
    found = read_envelope(envelope, "it")
    assert VerifyingKey(key.public_key(), "key", VERSION).has_signed(found)
    assert VerifyingKey(key.public_key(), "key").has_signed(found)
    assert not VerifyingKey(key.public_key(), "key", f"{KEY}/cryptoKeyVersions/2").has_signed(found)
    kms.make_version(f"{KEY}/cryptoKeyVersions/2")
    other = key_at(kms, f"{KEY}/cryptoKeyVersions/2").public_key()
    assert not VerifyingKey(other, "key").has_signed(found)
    assert not VerifyingKey(other, "key", VERSION).has_signed(found)


def test_a_statement_of_megabytes_is_signed(kms: KmsEndpoint) -> None:
    key, payload = key_at(kms), b"x" * (2 << 20)
    assert VerifyingKey(key.public_key(), "key").has_signed(read_envelope(sign_statement(payload, key), "it"))


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_passes_is_tried_again(kms: KmsEndpoint, status: int) -> None:
    kms.fail_next(status, times=2)
    key_at(kms).sign(b"message")
    assert len(kms.asked) == 3


def test_repeats_end(kms: KmsEndpoint) -> None:
    kms.fail_next(503, times=1000)
    with pytest.raises(Transient, match=r"key projects/p-1/.*can be tried again"):
        key_at(kms, patience=1.0).sign(b"message")
    assert len(kms.asked) < 10


def test_a_damaged_answer_is_asked_for_again_and_never_taken(kms: KmsEndpoint) -> None:
    kms.damage_next(2)
    key_at(kms).sign(b"message")
    assert len(kms.asked) == 3
    kms.damage_next(3)
    with pytest.raises(Transient, match="is damaged on its way"):
        key_at(kms).public_key()


def test_an_endpoint_that_is_gone_is_passing(kms: KmsEndpoint) -> None:
    key = key_at(kms, patience=0.5)
    kms.close()
    with pytest.raises(Transient, match="can be tried again"):
        key.sign(b"message")


def test_refusals_say_what_to_do(kms: KmsEndpoint) -> None:
    kms.deny("cloudkms.cryptoKeyVersions.useToSign")
    with pytest.raises(Permanent, match=r"permission cloudkms\.cryptoKeyVersions\.useToSign is missing"):
        key_at(kms).sign(b"message")
    kms.allow()
    kms.keys.set_state(VERSION, "DISABLED")
    disabled = r"current state is: DISABLED; enable it \(gcloud kms keys versions enable\)"
    with pytest.raises(Permanent, match=disabled):
        key_at(kms).sign(b"message")
    with pytest.raises(Permanent, match=disabled):
        key_at(kms).public_key()
    with pytest.raises(Permanent, match=r"not found.*; write the name of one that exists in signing_key"):
        key_at(kms, f"{KEY}/cryptoKeyVersions/9").sign(b"message")
    assert len(kms.asked) == 4  # no refusal is repeated


def test_a_key_of_another_algorithm_is_refused(kms: KmsEndpoint) -> None:
    wanted = {"purpose": "ASYMMETRIC_SIGN", "versionTemplate": {"algorithm": "EC_SIGN_ED25519"}}
    kms.keys.make_key(KEY.partition("/cryptoKeys/")[0], "other", wanted, empty=False)
    other = key_at(kms, KEY.replace("/sign", "/other") + "/cryptoKeyVersions/1")
    with pytest.raises(Permanent, match="must be a version of a key of EC_SIGN_P256_SHA256"):
        other.sign(b"message")
    with pytest.raises(Permanent, match="is of EC_SIGN_ED25519; name one of EC_SIGN_P256_SHA256"):
        other.public_key()
