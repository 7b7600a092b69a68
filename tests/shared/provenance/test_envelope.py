"""Envelopes hold against other implementations, and nothing that was changed passes."""

from __future__ import annotations

import base64
import json
import stat
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shared.errors import EnvironmentFault, InputError, StoreError
from shared.host.secret_file import read_or_make
from shared.provenance.check import ImageSubject, Policy, faults_of, read_statement
from shared.provenance.envelope import VerifyingKey, pre_authentication_encoding, read_envelope, sign_statement
from shared.provenance.signing_key import SigningKey
from shared.provenance.statement import DISK_DIGEST
from tests.shared.provenance.statements import DISK, openssl_verifies, stated

IMAGE = ImageSubject(DISK_DIGEST, DISK)


def verifying(key: SigningKey) -> VerifyingKey:
    return VerifyingKey(key.public_key(), "key")


def test_the_encoding_is_that_of_the_specification() -> None:
    """The example of protocol.md of secure-systems-lab/dsse."""
    assert pre_authentication_encoding("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_openssl_verifies_what_is_signed_and_nothing_else(tmp_path: Path) -> None:
    key = SigningKey(tmp_path)
    envelope = sign_statement(stated(), key)
    assert openssl_verifies(envelope, key.public_key(), tmp_path)
    document = json.loads(envelope)
    document["payload"] = base64.b64encode(stated().replace(b"debian-12", b"debian-13")).decode()
    assert not openssl_verifies(json.dumps(document).encode(), key.public_key(), tmp_path)


def test_the_same_statement_has_the_same_envelope_each_time(tmp_path: Path) -> None:
    first, second = (sign_statement(stated(), SigningKey(tmp_path)) for _ in range(2))
    assert first == second
    assert first.count(b"\n") == 1


def test_a_key_that_openssl_has_made_signs(tmp_path: Path) -> None:
    made = ["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(tmp_path / "signing.key")]
    subprocess.run(made, check=True, capture_output=True)
    key = SigningKey(tmp_path)
    assert openssl_verifies(sign_statement(stated(), key), key.public_key(), tmp_path)


def test_the_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    first, second = SigningKey(tmp_path), SigningKey(tmp_path)
    assert first.public_key() == second.public_key()
    assert stat.S_IMODE((tmp_path / "signing.key").stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["signing.key"]


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_key_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    SigningKey(tmp_path).check()
    (tmp_path / "signing.key").chmod(mode)
    with pytest.raises(EnvironmentFault, match=rf"open to other accounts \(mode {mode:04o}\); .* chmod 600"):
        SigningKey(tmp_path).check()


def test_a_link_to_a_key_that_is_away_is_told(tmp_path: Path) -> None:
    (tmp_path / "signing.key").symlink_to(tmp_path / "unmounted/signing.key")
    with pytest.raises(EnvironmentFault, match=r"signing\.key is a link to a file that is not there; restore it"):
        SigningKey(tmp_path).check()


def test_threads_of_one_process_have_one_key(tmp_path: Path) -> None:
    """Each makes one, at the same time; both get the first one that is whole."""
    met = threading.Barrier(2)

    def make() -> bytes:
        met.wait(10)
        return str(threading.get_ident()).encode() * 1000

    def read() -> bytes:
        return read_or_make(tmp_path / "key", make, 1 << 20, "")

    with ThreadPoolExecutor(2) as pool:
        for _ in range(20):
            first, second = (done.result() for done in [pool.submit(read), pool.submit(read)])
            assert first == second
            (tmp_path / "key").unlink()


@pytest.mark.parametrize("content", [b"", b"no key", b"x" * 5000])
def test_a_file_that_holds_no_key_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "signing.key").write_bytes(content)
    with pytest.raises(EnvironmentFault, match=r"signing\.key .*restore it, or move it away"):
        SigningKey(tmp_path).check()


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    made = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]
    subprocess.run([*made, "-out", tmp_path / "signing.key"], check=True, capture_output=True)
    with pytest.raises(EnvironmentFault, match="another kind than Ed25519"):
        SigningKey(tmp_path).check()
    public = subprocess.run(
        ["openssl", "pkey", "-pubout", "-in", tmp_path / "signing.key"], check=True, capture_output=True
    )
    with pytest.raises(InputError, match="another kind than Ed25519"):
        VerifyingKey(public.stdout, "key.pem")
    with pytest.raises(InputError, match=r"key\.pem: is no public key in PEM"):
        VerifyingKey(b"no key", "key.pem")


def test_what_holds_has_no_faults(tmp_path: Path) -> None:
    key = SigningKey(tmp_path)
    envelope = read_envelope(sign_statement(stated(), key), "it")
    for wanted in (
        Policy(),
        Policy(builder="urn:goldsmith:one-machine"),
        Policy(source="local/debian-12-20261101"),
        Policy(source="debian-12-20261101"),
        Policy("urn:goldsmith:one-machine", "sha256-0001"),
    ):
        assert faults_of(envelope, [verifying(key)], IMAGE, wanted) == []


def test_each_thing_that_does_not_hold_is_named(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    key, other = SigningKey(tmp_path), SigningKey(tmp_path / "other")
    envelope = read_envelope(sign_statement(stated(), key), "it")
    [fault] = faults_of(envelope, [verifying(other)], IMAGE, Policy())
    assert other.key_id in fault
    assert key.key_id in fault
    assert faults_of(
        envelope, [verifying(key)], ImageSubject(DISK_DIGEST, "00" * 32), Policy("urn:other", "local/other")
    ) == [
        "its disk is not the one that its statement is about",
        "it was made by 'urn:goldsmith:one-machine', and not by urn:other",
        "it was made from 'local/debian-12-20261101', and not from local/other",
    ]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"{}",
        b'{"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://spdx.dev/Document"}',
        b"[" * 100_000,
    ],
)
def test_other_things_that_are_signed_are_no_statement(tmp_path: Path, payload: bytes) -> None:
    key = SigningKey(tmp_path)
    envelope = read_envelope(sign_statement(payload, key), "it")
    assert faults_of(envelope, [verifying(key)], IMAGE, Policy()) == [
        "what is signed is no statement of in-toto with a provenance of SLSA's version 1"
    ]
    with pytest.raises(StoreError):
        read_statement(envelope)


@pytest.mark.parametrize(
    "rest",
    [
        {"subject": None, "predicate": []},
        {"subject": [1, {"digest": 2}], "predicate": {"buildDefinition": {"resolvedDependencies": [3]}}},
        {
            "subject": [{"digest": {"goldsmithDisk": [DISK]}}],
            "predicate": {"runDetails": {"builder": {"id": "x" * 9999}}},
        },
    ],
)
def test_a_signed_statement_of_any_shape_is_answered(tmp_path: Path, rest: dict[str, object]) -> None:
    key = SigningKey(tmp_path)
    whole = {"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://slsa.dev/provenance/v1", **rest}
    envelope = read_envelope(sign_statement(json.dumps(whole).encode(), key), "it")
    found = faults_of(envelope, [verifying(key)], IMAGE, Policy("urn:b", "s"))
    assert len(found) == 3
    assert all(len(fault) < 400 for fault in found)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"{}",
        b'{"payload": 1, "payloadType": "t", "signatures": []}',
        b'{"payload": "AA==", "payloadType": 5, "signatures": []}',
        b'{"payload": "AA==", "payloadType": "\\ud800", "signatures": []}',
        b'{"payload": "AA==", "payloadType": "t", "signatures": [' + b", ".join([b'{"sig": "AA=="}'] * 17) + b"]}",
        b'{"payload": "!", "payloadType": "t", "signatures": []}',
        b'{"payload": "AA==", "payloadType": "t", "signatures": [1]}',
        b'{"payload": "AA==", "payloadType": "t", "signatures": {"a": 1}}',
        b"[" * 100_000,
        b" " * (5 << 20),
    ],
)
def test_what_is_no_envelope_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(StoreError, match="about image x"):
        read_envelope(data, "the statement about image x")


def test_a_source_may_be_of_a_project_of_a_domain_and_nothing_is_no_name(tmp_path: Path) -> None:
    key = SigningKey(tmp_path)
    for entry, wanted in (
        ({"name": "source", "uri": "urn:goldsmith:image:example.com:p/debian"}, "example.com:p/debian"),
        ({"name": "source", "uri": "urn:goldsmith:image:example.com:p/debian"}, "debian"),
        ({"name": "source"}, "None"),
    ):
        document = json.loads(stated())
        document["predicate"]["buildDefinition"]["resolvedDependencies"] = [entry]
        envelope = read_envelope(sign_statement(json.dumps(document).encode(), key), "it")
        found = faults_of(envelope, [verifying(key)], IMAGE, Policy(source=wanted))
        assert found == ([] if "uri" in entry else ["it was made from None, and not from None"])


def test_a_disk_that_cannot_be_read_is_no_statement_s(tmp_path: Path) -> None:
    document = json.loads(stated())
    document["subject"][0]["digest"] = {"goldsmithDisk": ""}
    envelope = read_envelope(sign_statement(json.dumps(document).encode(), key := SigningKey(tmp_path)), "it")
    assert faults_of(envelope, [verifying(key)], ImageSubject(DISK_DIGEST, ""), Policy()) == [
        "its disk is not the one that its statement is about"
    ]


def test_an_envelope_without_signatures_is_signed_by_no_key(tmp_path: Path) -> None:
    document = json.loads(sign_statement(stated(), key := SigningKey(tmp_path))) | {"signatures": []}
    envelope = read_envelope(json.dumps(document).encode(), "it")
    [fault] = faults_of(envelope, [verifying(key)], IMAGE, Policy())
    assert fault.endswith("it says that it is of no key")
