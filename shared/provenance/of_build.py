"""Make the statement about the image of a build, of all that is recorded of it. workers/ stores it.

    on one machine     HOME/builds/ID/logs/IMAGE.intoto.jsonl: signed, in an envelope
    on Google Cloud    gs://BUCKET/results/NAME-GENERATION.intoto.jsonl: signed by Cloud KMS, where a key is configured
                                                        .intoto.json: else by itself

Both lie beside the bills of materials. The same build has the same statement each time. A signature of Cloud KMS is
another one each time, so that an envelope which holds the same statement stays.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import replace

from ..backend import Backend
from ..build import resources
from ..build.build import Build
from ..build.events import ImageExported
from ..build.plan import Plan
from ..delivery.bundle import provisioner_version
from ..engine.history import each_event
from ..errors import NotFound, StoreError
from ..keys import Signer
from ..ownership import find_build, find_image
from .check import source_statement
from .envelope import PAYLOAD_TYPE, Envelope, pre_authentication_encoding, read_envelope, sign_statement
from .statement import ImageFacts, SourceStatement, statement

LOG = logging.getLogger(__name__)


def statement_about(build: Build, plan: Plan, documents: Mapping[str, str], backend: Backend) -> bytes:
    """Return the statement about a build's image, in an envelope where the backend has a key that signs.

    `documents` has the digests of its bills of materials, by file name.
    """
    exported = [
        event.time
        for event in each_event(backend.store, build.id, kinds=("ImageExported",))
        if isinstance(event, ImageExported)
    ]
    facts = ImageFacts(
        disk=backend.compute.disk_digest(plan.image.project, plan.image.name),
        provisioner=provisioner_version(),
        finished=max(exported, default=build.created),
        documents=documents,
        source=_of_source(plan, backend),
    )
    stated = statement(build, plan, facts)
    if backend.signer is None:
        return stated + b"\n"
    kept = _kept(statement_of(build, backend, signed=True), stated, backend.signer, backend)
    return kept or sign_statement(stated, backend.signer)


def statement_of(build: Build, backend: Backend, *, signed: bool) -> str:
    """Return where the statement about a build's image is."""
    folder = backend.logs.replace("{build_id}", build.id)
    return resources.statement_name(resources.results_stem(build, folder), signed=signed)


def states_the_same(data: bytes, signer: Signer, found: bytes) -> bool:
    """Return whether what is found where an envelope is to be holds its statement, signed by the same key."""
    try:
        return _holds(read_envelope(found, "what is there"), read_envelope(data, "the statement").payload, signer)
    except StoreError:
        return False


def _kept(name: str, stated: bytes, signer: Signer, backend: Backend) -> bytes | None:
    """Return the envelope that an earlier delivery has written, if it holds this statement, signed by this key."""
    try:
        data = backend.bucket.read(name)
        envelope = read_envelope(data, name)
    except (NotFound, StoreError):
        return None
    return data if _holds(envelope, stated, signer) else None


def _holds(envelope: Envelope, stated: bytes, signer: Signer) -> bool:
    """Return whether an envelope holds a statement, with a signature that is a key's as far as that can be told."""
    message = pre_authentication_encoding(PAYLOAD_TYPE, stated)
    same = (envelope.payload_type, envelope.payload) == (PAYLOAD_TYPE, stated)
    own = [signature for key, signature in envelope.signatures if key == signer.key_id]
    return same and bool(own) and signer.has_signed(message, own[0]) is not False


def _of_source(plan: Plan, backend: Backend) -> SourceStatement | None:
    """Return what is stated of the source image; None where Goldsmith has not made it, or has stated nothing."""
    known = find_image(plan.source.project, plan.source.name, backend)
    maker = find_build(known.build_id, backend) if known is not None and known.id == plan.source.id else None
    if maker is None:
        return None
    try:
        found, envelope = _read(maker, backend)
    except NotFound:
        return None
    except StoreError as error:
        LOG.warning("build %s: the statement of its source image cannot be read: %s", plan.build_id, error)
        return None
    if backend.signer is None or not found.disk or _is_signed(envelope, backend.signer):
        return found
    LOG.warning("build %s: the statement of its source image has no signature of this key", plan.build_id)
    return replace(found, disk="")  # this key must not sign a disk's digest that it has not signed before


def _read(maker: Build, backend: Backend) -> tuple[SourceStatement, Envelope]:
    """Read what is stated of a build's image: signed, or by itself where none is. NotFound, StoreError."""
    name = statement_of(maker, backend, signed=True)
    try:
        data = backend.bucket.read(name)
        envelope = read_envelope(data, name)
    except NotFound:
        data = backend.bucket.read(statement_of(maker, backend, signed=False))
        envelope = Envelope(data, PAYLOAD_TYPE, ())
    return source_statement(envelope, hashlib.sha256(data).hexdigest()), envelope


def _is_signed(envelope: Envelope, signer: Signer) -> bool:
    """Return whether a key is known to have signed an envelope."""
    message = pre_authentication_encoding(envelope.payload_type, envelope.payload)
    return any(signer.has_signed(message, signature) for _, signature in envelope.signatures)
