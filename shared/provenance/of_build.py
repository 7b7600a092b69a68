"""Make the statement about the image of a build, of all that is recorded of it. workers/ stores it.

    on one machine     HOME/builds/ID/logs/IMAGE.intoto.jsonl: signed, in an envelope
    on Google Cloud    gs://BUCKET/results/NAME-GENERATION.intoto.json: by itself, as no function has a key

Both lie beside the bills of materials. The same build has the same statement each time.
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
from ..ownership import find_build, find_image
from ..ports import Signer
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
    return stated + b"\n" if backend.signer is None else sign_statement(stated, backend.signer)


def statement_of(build: Build, backend: Backend) -> str:
    """Return where the statement about a build's image is."""
    folder = backend.logs.replace("{build_id}", build.id)
    return resources.statement_name(resources.results_stem(build, folder), signed=backend.signer is not None)


def _of_source(plan: Plan, backend: Backend) -> SourceStatement | None:
    """Return what is stated of the source image; None where Goldsmith has not made it, or has stated nothing."""
    known = find_image(plan.source.project, plan.source.name, backend)
    maker = find_build(known.build_id, backend) if known is not None and known.id == plan.source.id else None
    if maker is None:
        return None
    name = statement_of(maker, backend)
    try:
        data = backend.bucket.read(name)
        envelope = Envelope(data, PAYLOAD_TYPE, ()) if backend.signer is None else read_envelope(data, name)
        found = source_statement(envelope, hashlib.sha256(data).hexdigest())
    except NotFound:
        return None
    except StoreError as error:
        LOG.warning("build %s: the statement of its source image cannot be read: %s", plan.build_id, error)
        return None
    if backend.signer is None or _is_signed(envelope, backend.signer):
        return found
    LOG.warning("build %s: the statement of its source image has no signature of this key", plan.build_id)
    return replace(found, disk="")  # this key must not sign a disk's digest that it has not signed before


def _is_signed(envelope: Envelope, signer: Signer) -> bool:
    """Return whether a key has signed an envelope: the same message has the same signature each time."""
    signature = signer.sign(pre_authentication_encoding(envelope.payload_type, envelope.payload))
    return signature in [known for _, known in envelope.signatures]
