"""Signed statements about a project's images: whose signatures count, and about which image they have to be."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared.build.build import Build, ChannelCopy
from shared.errors import EnvironmentFault, InputError
from shared.provenance.check import Policy
from shared.provenance.envelope import sign_statement
from shared.runtime.provenance import CloudProvenance
from tests.shared.provenance.statements import FACTS, stated
from tests.world.published import add_build, build_of, image_of
from tests.world.world import World

VERSION = "projects/p-1/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/{}"
STATEMENT, TRUSTED = "gs://bucket/results/{}-1.intoto.jsonl", "gs://bucket/keys/trusted.json"


class KeyOfVersion:
    """Signs as a version of a key in Cloud KMS does."""

    def __init__(self, key_id: str) -> None:
        self.key_id = key_id
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.pem = self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def check(self) -> None:
        """Know nothing before."""

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message, ec.ECDSA(SHA256()))

    def has_signed(self, message: bytes, signature: bytes) -> None:
        return None


KEY, OLDER, FOREIGN = (KeyOfVersion(VERSION.format(number)) for number in (2, 1, 9))


class Deployment:
    """A project with two images, whose statements are signed by KEY; Cloud KMS knows all keys."""

    def __init__(self) -> None:
        self.world, self.asked = World(), list[str]()
        for name in ("one", "two"):
            build = build_of(name, result=f"gs://bucket/results/{name}-1.json")
            add_build(self.world.store, build)
            self.world.compute.all_images[name] = image_of(build)
            self.write(name, build, KEY)
        self.trust({KEY.key_id: "", OLDER.key_id: OLDER.pem.decode()})

    def write(self, name: str, about: Build, key: KeyOfVersion) -> None:
        payload = stated(about, replace(FACTS, disk=None, documents={}))
        self.world.bucket.objects[STATEMENT.format(name)] = sign_statement(payload, key)

    def trust(self, keys: object) -> None:
        self.world.bucket.objects[TRUSTED] = json.dumps({"keys": keys}).encode()

    def _public_key(self, version: str) -> bytes:
        self.asked.append(version)
        return next(key.pem for key in (KEY, OLDER, FOREIGN) if key.key_id == version)

    def provenance(self) -> CloudProvenance:
        return CloudProvenance(self.world.backend, "bucket", self._public_key)

    def faults(self, name: str = "one", keys: Sequence[str] = ()) -> list[str]:
        return self.provenance().faults("local", name, keys, Policy())


@pytest.fixture
def deployment() -> Deployment:
    return Deployment()


def test_a_signature_of_a_trusted_version_holds(deployment: Deployment) -> None:
    assert deployment.faults() == []
    assert deployment.asked == [KEY.key_id]
    deployment.write("one", build_of("one"), OLDER)
    assert deployment.faults() == []
    assert deployment.asked == [KEY.key_id], "the other one is in the list"
    assert deployment.faults(keys=[OLDER.key_id]) == []


def test_a_key_that_the_statement_names_itself_counts_for_nothing(deployment: Deployment) -> None:
    deployment.write("one", build_of("one"), FOREIGN)
    [fault] = deployment.faults()
    assert f"says that it is signed by '{FOREIGN.key_id}', and gs://bucket/keys/trusted.json has" in fault
    assert deployment.asked == [], "and Cloud KMS is not asked for it"
    named = KeyOfVersion(KEY.key_id)  # another key, under the name of the trusted one
    deployment.write("one", build_of("one"), named)
    [fault] = deployment.faults()
    assert "its statement has no signature of" in fault


def test_a_statement_about_another_image_is_none_about_this(deployment: Deployment) -> None:
    deployment.write("one", build_of("two"), KEY)
    assert deployment.faults() == ["it is not the image that its statement is about"]
    deployment.write("one", build_of("one"), KEY)
    images = deployment.world.compute.all_images
    images["one"] = replace(images["one"], id="made by hand since")
    assert deployment.faults() == ["it is not the image that its statement is about"]
    del images["one"]
    assert deployment.faults() == ["it is not the image that its statement is about"]


def test_what_a_copy_was_made_from_compute_engine_says(deployment: Deployment) -> None:
    store, images = deployment.world.store, deployment.world.compute.all_images
    known = store.image("local", "one")
    assert known is not None
    copied = ChannelCopy("one", known.id, "prod", "hello-prod", 0.0)
    assert store.save_image(replace(known, name="one-prod", id="c-1", copy=copied), None)
    images["one-prod"] = replace(images["one"], name="one-prod", id="c-1", source_image=known.id)
    assert deployment.faults("one-prod") == []
    for source in ("sha256-two", None):
        images["one-prod"] = replace(images["one-prod"], source_image=source)
        assert deployment.faults("one-prod") == ["it is not the image that its statement is about"]


def test_without_a_list_or_a_statement_nothing_holds(deployment: Deployment) -> None:
    del deployment.world.bucket.objects[TRUSTED]
    with pytest.raises(InputError, match=r"there is no gs://bucket/keys/trusted\.json.*; name a key with --key"):
        deployment.faults()
    for damaged in list[object](([], None, "x")):
        deployment.trust(damaged)
        with pytest.raises(EnvironmentFault, match="is no list of keys"):
            deployment.faults()
    deployment.trust({})
    assert "has no key" in deployment.faults()[0]
    del deployment.world.bucket.objects[STATEMENT.format("one")]
    assert "nothing that is signed is stated about it" in deployment.faults()[0]
    assert "its build is not known" in deployment.faults("none")[0]


@pytest.mark.parametrize("project", ["a/b", "", "Project", "\ud800"])
def test_a_project_that_is_none_is_not_asked_for(deployment: Deployment, project: str) -> None:
    with pytest.raises(InputError, match="is not a project id"):
        deployment.provenance().check(project, "one", must_be_verified=False)
