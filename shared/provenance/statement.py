"""What is stated of an image: an in-toto Statement v1 with a predicate of SLSA Provenance v1. Values only, no I/O.

    subject                 the image's disk, by its content, else the image by its id; the files of its export
    externalParameters      what was asked for: the plan's digest, the steps' digests, source and image
    resolvedDependencies    the source image, with its own statement if Goldsmith made it; context; provisioner
    runDetails              builder, build id, times; the steps as they ended; the bills of materials

Equal builds give equal statements: all times are recorded ones. Inputs of steps are stated as digests alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from provisioner.protocol import FROM_CACHE, Step

from ..build.build import Build, StepRecord
from ..build.export_formats import EXPORT_FORMATS
from ..build.plan import Plan
from ..json_values import to_document
from ..names import LOCAL

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
IMAGE_URI = "urn:goldsmith:image:"  # before PROJECT/NAME; projects of a domain have a colon, too
BUILD_TYPE = "urn:goldsmith:image:v1"
LOCAL_BUILDER = "urn:goldsmith:one-machine"
DEPLOYMENT = "urn:goldsmith:deployment:"  # begins the id of a builder on Google Cloud, which ends with its project
IMAGE_ID = "imageId"
"""The name of the digest of an image whose disk cannot be read: its own id, never used again."""
DISK_DIGEST = "goldsmithDisk"
"""The name of a disk's digest: SHA-256 over its size and those of its pieces of 1 MiB that are not all zeros."""


@dataclass(frozen=True)
class SourceStatement:
    """The statement of the image that a build started from."""

    sha256: str  # of the envelope
    disk: str  # the digest of its subject; "" where it states none


@dataclass(frozen=True)
class ImageFacts:
    """The facts about an image that its build's document does not have."""

    disk: str | None  # the digest of its disk; None where that cannot be read
    provisioner: str  # the version
    finished: float  # Unix seconds: when it was exported
    documents: Mapping[str, str]  # SHA-256 of the bills of materials, by file name
    source: SourceStatement | None = None


def statement(build: Build, plan: Plan, facts: ImageFacts) -> bytes:
    """Return the statement of the image that a build has made, as JSON with sorted keys."""
    document = {
        "_type": STATEMENT_TYPE,
        "subject": _subjects(build, plan, facts),
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": _asked(plan),
                "internalParameters": _chosen(build, plan),
                "resolvedDependencies": _dependencies(plan, facts),
            },
            "runDetails": {
                "builder": {"id": builder_of(plan), "version": {"provisioner": facts.provisioner}},
                "metadata": {
                    "invocationId": build.id,
                    "startedOn": _time(build.turn or build.created),
                    "finishedOn": _time(max(facts.finished, build.turn or build.created)),
                },
                "byproducts": _byproducts(build, plan, facts),
            },
        },
    }
    return _canonical(document)


def builder_of(plan: Plan) -> str:
    """Return the id of the builder that a plan is for."""
    return LOCAL_BUILDER if plan.machine.project == LOCAL else DEPLOYMENT + plan.machine.project


def image_uri(project: str, name: str) -> str:
    """Return what an image is called in statements."""
    return f"{IMAGE_URI}{project}/{name}"


def _subjects(build: Build, plan: Plan, facts: ImageFacts) -> list[dict[str, Any]]:
    image = build.image
    known = {IMAGE_ID: image.id if image is not None else ""} if facts.disk is None else {DISK_DIGEST: facts.disk}
    subjects: list[dict[str, Any]] = [{"name": f"{plan.image.project}/{plan.image.name}", "digest": known}]
    if image is not None and image.archive is not None:
        subjects.append({"name": f"{plan.image.name}.tar.gz", "digest": {"sha256": image.archive.sha256}})
    for file in image.files if image is not None else ():
        name = plan.image.name + EXPORT_FORMATS[file.format].ending
        subjects.append({"name": name, "digest": {"sha256": file.sha256}})
    return subjects


def _asked(plan: Plan) -> dict[str, Any]:
    source, image = plan.source, plan.image
    return {
        "name": plan.name,
        "plan": {"sha256": _sha256(to_document(plan))},
        "request": {"sha256": plan.request},
        "content": {"sha256": plan.content_digest},
        "source": {"project": source.project, "name": source.name, "family": source.family},
        "image": {"project": image.project, "name": image.name, "family": image.family},
        "steps": [_step(step) for step in plan.steps],
        "verify": None if plan.verify_steps is None else [_step(step) for step in plan.verify_steps],
    }


def _chosen(build: Build, plan: Plan) -> dict[str, Any]:
    return {
        "architecture": plan.source.architecture,
        "attempts": build.attempt,
        "cache": plan.cache.enabled,
        "engine": plan.machine.engine,
        "reproducible": plan.machine.reproducible,
        "retry_of": build.retry_of or None,
        "source_date": plan.source_date,
    }


def _dependencies(plan: Plan, facts: ImageFacts) -> list[dict[str, Any]]:
    source: dict[str, Any] = {
        "name": "source",
        "uri": image_uri(plan.source.project, plan.source.name),
        "annotations": {"id": plan.source.id},
    }
    if facts.source is not None:
        source["annotations"]["statement_sha256"] = facts.source.sha256
        if facts.source.disk:
            source["digest"] = {DISK_DIGEST: facts.source.disk}
    found = [source, {"name": "provisioner", "digest": {"sha256": facts.provisioner}}]
    if plan.context is not None:
        found.append({"name": "context", "digest": {"sha256": plan.context.digest}})
    return found


def _byproducts(build: Build, plan: Plan, facts: ImageFacts) -> list[dict[str, Any]]:
    found = _ended("steps", build.steps, plan.steps)
    for name, records in build.verify_tables:
        found += _ended(f"verify/{name}" if name else "verify", records, plan.verify_steps or ())
    return found + [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(facts.documents.items())]


def _ended(kind: str, records: Sequence[StepRecord], steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Return how the steps ended, and which of them were not run, since an earlier build had left their results."""
    return [
        {
            "name": f"{kind}/{index}/{step.name}",
            "digest": _step(step)["digest"],
            "annotations": {
                "status": record.status,
                "exit_status": record.exit_status,
                "tries": record.tries,
                "from_cache": record.note == FROM_CACHE,
                "note": record.note,
            },
        }
        for index, (record, step) in enumerate(zip(records, steps, strict=False))
    ]


def _step(step: Step) -> dict[str, Any]:
    done = {"action": step.action, "inputs": dict(step.inputs), "reads": step.reads, "network": step.network}
    if step.secrets:
        done["secrets"] = dict(step.secrets)
    return {"name": step.name, "action": step.action, "digest": {"sha256": _sha256(to_document(done))}}


def _sha256(document: Any) -> str:
    return hashlib.sha256(_canonical(document)).hexdigest()


def _canonical(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(int(seconds), UTC):%Y-%m-%dT%H:%M:%SZ}"
