"""The statement about an image lies beside its bills of materials, where a key signs, and goes with them."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shared.build.build import ImageDocument, Outcome, State
from shared.errors import EnvironmentFault, Permanent, Transient
from shared.keys import Signer
from shared.planning.requests import admit
from shared.provenance.envelope import sign_statement
from shared.provenance.signing_key import SigningKey
from shared.workers.carry_out import carry_out
from shared.workers.withdraw import withdraw
from tests.shared.provenance.statements import openssl_verifies, stated
from tests.world import values
from tests.world.fakes import FakeCompute
from tests.world.given_orders import IMAGE, facts, kinds, order_of, put, world_at
from tests.world.world import World

RESULT = "gs://bucket/results/hello-1.json"
STATEMENT = "gs://bucket/results/hello-1.intoto.jsonl"
UNSIGNED = "gs://bucket/results/hello-1.intoto.json"


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return SigningKey(tmp_path)


def publishing(world: World | None = None) -> World:
    world = world or world_at("label_image")
    put(world, State.PUBLISHING, result=RESULT)
    return world


def stage(world: World, key: Signer | None) -> Any:
    """Carry the first stage of the publication out; return what is stated."""
    carry_out(order_of(world, "label_image"), replace(world.backend, signer=key))
    assert kinds(world) == {"PublicationStaged"}, facts(world)
    data = world.bucket.objects.get(STATEMENT)
    return None if data is None else json.loads(base64.b64decode(json.loads(data)["payload"]))


def test_it_is_signed_and_has_the_digests_of_what_lies_beside_it(key: SigningKey, tmp_path: Path) -> None:
    world = publishing()
    found = stage(world, key)
    assert openssl_verifies(world.bucket.objects[STATEMENT], key.public_key(), tmp_path)
    left = {entry["name"]: entry["digest"]["sha256"] for entry in found["predicate"]["runDetails"]["byproducts"]}
    for kind in ("spdx", "cdx"):
        data = world.bucket.objects[f"gs://bucket/results/hello-1.{kind}.json"]
        assert left[f"hello-1.{kind}.json"] == hashlib.sha256(data).hexdigest()
    disk = world.compute.disk_digest("local", values.plan().image.name)
    assert found["subject"][0]["digest"] == {"goldsmithDisk": disk}


def test_two_deliveries_write_the_same_bytes(key: SigningKey) -> None:
    world = publishing()
    stage(world, key)
    first = world.bucket.objects[STATEMENT]
    world.clock.time += 60
    world.bus.waiting.clear()
    stage(world, key)
    assert world.bucket.objects[STATEMENT] == first


class OtherEachTime:
    """Signs as Cloud KMS does: with another signature each time, and without telling later which are its own."""

    key_id = "projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1"

    def __init__(self) -> None:
        self.signed = 0
        self.fault: Exception | None = None

    def check(self) -> None:
        """Know nothing before."""

    def sign(self, message: bytes) -> bytes:
        if self.fault is not None:
            raise self.fault
        self.signed += 1
        return b"signature %d" % self.signed

    def has_signed(self, message: bytes, signature: bytes) -> None:
        return None


def test_an_envelope_with_the_same_statement_stays_where_a_signature_is_another_one_each_time() -> None:
    world, kms = publishing(), OtherEachTime()
    stage(world, kms)
    first = world.bucket.objects[STATEMENT]
    world.bus.waiting.clear()
    stage(world, kms)
    assert (world.bucket.objects[STATEMENT], kms.signed) == (first, 1)
    world.bucket.objects[STATEMENT] = first.replace(b"cryptoKeyVersions/1", b"cryptoKeyVersions/0")
    world.bus.waiting.clear()
    stage(world, kms)  # of a version before: signed anew
    assert kms.signed == 2


class Overtaken(OtherEachTime):
    """Signs while another delivery of the order writes its envelope with the same statement."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def sign(self, message: bytes) -> bytes:
        other = OtherEachTime()
        other.signed = 7
        statement = message.split(b" ", 4)[4]
        self._world.bucket.objects[STATEMENT] = sign_statement(statement, other)
        return super().sign(message)


def test_the_envelope_of_a_delivery_that_was_faster_stays() -> None:
    world = publishing()
    stage(world, Overtaken(world))
    [signature] = json.loads(world.bucket.objects[STATEMENT])["signatures"]
    assert base64.b64decode(signature["sig"]) == b"signature 8"


@pytest.mark.parametrize(
    ("fault", "told"), [(Permanent("key k is disabled"), {"OrderFailed"}), (Transient("later"), set())]
)
def test_nothing_is_published_where_the_key_does_not_sign(fault: Exception, told: set[str]) -> None:
    world, kms = publishing(), OtherEachTime()
    kms.fault = fault
    backend = replace(world.backend, signer=kms)
    if isinstance(fault, Transient):
        with pytest.raises(Transient):
            carry_out(order_of(world, "label_image"), backend)
    else:
        carry_out(order_of(world, "label_image"), backend)
        assert "key k is disabled" in str(facts(world))
    assert kinds(world) == told
    assert not {STATEMENT, UNSIGNED} & world.bucket.objects.keys()


def test_a_source_from_before_the_key_is_stated_by_its_unsigned_statement(key: SigningKey) -> None:
    world = publishing()
    source = values.plan().source
    maker = values.build(id="base-0123456789ab", result="gs://bucket/results/base-1.json", state=State.FINISHED)
    document = ImageDocument(source.project, source.name, maker.id, "d" * 64, "published", source.id)
    world.store.create(maker, values.requested(build_id=maker.id), document)
    world.bucket.objects["gs://bucket/results/base-1.intoto.json"] = data = stated() + b"\n"
    [found, *_] = stage(world, key)["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert found["annotations"]["statement_sha256"] == hashlib.sha256(data).hexdigest()
    assert "digest" not in found  # this key has not signed it


class BlindCompute(FakeCompute):
    """Cannot look inside images, as Compute Engine cannot."""

    def disk_digest(self, project: str, name: str) -> None:
        return None


def test_without_a_key_it_is_a_statement_by_itself_about_the_id_of_the_image() -> None:
    world = publishing()
    blind = BlindCompute(world.clock, world.bucket)
    blind.all_images = world.compute.all_images
    for _delivery in range(2):
        carry_out(order_of(world, "label_image"), replace(world.backend, compute=blind))
    assert STATEMENT not in world.bucket.objects
    found = json.loads(world.bucket.objects[UNSIGNED])
    assert found["subject"][0] == {"name": f"local/{IMAGE}", "digest": {"imageId": f"sha256-{IMAGE}"}}
    build = put(world, State.CLEANING, result=RESULT, outcome=Outcome.FAILED)
    withdraw(build, world.backend)
    assert UNSIGNED not in world.bucket.objects


def test_it_goes_when_the_publication_is_withdrawn(key: SigningKey) -> None:
    world = publishing()
    stage(world, key)
    build = put(world, State.CLEANING, result=RESULT, outcome=Outcome.FAILED)
    withdraw(build, replace(world.backend, signer=key))
    assert STATEMENT not in world.bucket.objects


def test_the_statement_about_the_source_is_named_by_its_digest(key: SigningKey) -> None:
    world = publishing()
    source = values.plan().source
    maker = values.build(id="base-0123456789ab", result="gs://bucket/results/base-1.json", state=State.FINISHED)
    document = ImageDocument(source.project, source.name, maker.id, "d" * 64, "published", source.id)
    world.store.create(maker, values.requested(build_id=maker.id), document)
    world.bucket.objects["gs://bucket/results/base-1.intoto.jsonl"] = b"damaged"
    dependencies = ("predicate", "buildDefinition", "resolvedDependencies")

    def of_source(found: Any) -> Any:
        for key in dependencies:
            found = found[key]
        return found[0]

    assert "digest" not in of_source(stage(world, key))
    data = world.bucket.objects[STATEMENT]
    world.bucket.objects["gs://bucket/results/base-1.intoto.jsonl"] = data
    world.bus.waiting.clear()
    told = of_source(stage(world, key))
    assert told["annotations"]["statement_sha256"] == hashlib.sha256(data).hexdigest()
    assert told["digest"] == {"goldsmithDisk": world.compute.disk_digest("local", values.plan().image.name)}
    forged = json.loads(data)
    forged["payload"] = base64.b64encode(base64.b64decode(forged["payload"]).replace(b'"', b' "', 1)).decode()
    world.bucket.objects["gs://bucket/results/base-1.intoto.jsonl"] = json.dumps(forged).encode()
    world.bus.waiting.clear()
    told = of_source(stage(world, key))
    assert "statement_sha256" in told["annotations"]
    assert "digest" not in told


def test_a_build_is_refused_before_it_begins_where_the_key_is_damaged(key: SigningKey, tmp_path: Path) -> None:
    (tmp_path / "signing.key").write_bytes(b"damaged")
    world = World()
    with pytest.raises(EnvironmentFault, match=r"signing\.key holds no private key"):
        admit(values.plan(), replace(world.backend, signer=key))
