"""NAME.json beside NAME.tar.gz: what is in the image and how it came about, for people and for other tools."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import PurePosixPath
from typing import Any

from provisioner.protocol import BUILD

from ..build.build import Build, ExportedFile, StepRecord
from ..build.export_formats import EXPORT_FORMATS
from ..build.plan import Plan
from ..ports import Package
from .script_table import NO_SCRIPTS, ScriptTable, scripts_json, verify_steps


def manifest(
    build: Build,
    plan: Plan,
    packages: Sequence[Package] | None,
    sbom: Sequence[str] = (),
    stem: str | None = None,
    scripts: ScriptTable = NO_SCRIPTS,
) -> bytes:
    """Return the manifest as JSON: digests, sizes, source, steps with seconds and exit statuses, packages or null.

    `packages` is None where they are not known. `sbom` has the paths of the bill of materials; the manifest has their
    file names. Files in other formats are called `stem` and their endings, else as the image. Steps of elements have
    their scripts.
    """
    archive = build.image.archive if build.image else None
    document: dict[str, Any] = {
        "version": 1,
        "image": {
            "project": plan.image.project,
            "name": plan.image.name,
            "id": build.image.id if build.image else None,
            "family": plan.image.family,
            "description": plan.image.description,
            "labels": plan.image.published_labels,
            "licenses": plan.image.licenses,
            "architecture": plan.source.architecture,
            "disk_size_gb": plan.image.disk_size_gb,
            "guest_os_features": plan.image.guest_os_features,
            "storage_locations": plan.image.storage_locations,
            "kms_key": plan.image.kms_key,
        },
        "findings": list(build.image.findings) if build.image else [],
        "allowed": [asdict(found) for found in build.image.allowed] if build.image else [],
        "archive": asdict(archive) if archive else None,
        "files": [_file(file, stem or plan.image.name) for file in build.image.files] if build.image else [],
        "content_digest": plan.content_digest,
        "source": asdict(plan.source),
        "build": {
            "id": build.id,
            "request": build.request,
            "requested": plan.requested,
            "attempts": build.attempt,
            "retry_of": build.retry_of or None,
        },
        "steps": _steps(build.steps, BUILD, scripts),
        "verify": verify_steps(build, _step, scripts) if plan.verify_steps is not None else None,
        "sbom": [PurePosixPath(path).name for path in sbom],
        "packages": None if packages is None else [_package(package) for package in packages],
    }
    return _as_json(document)


def with_earlier_files(told: bytes, before: bytes) -> bytes:
    """Return a manifest that also tells of the archive and the files that an earlier one of the same image told of."""
    document = json.loads(told)
    try:
        earlier = json.loads(before)
        same = earlier["image"]["id"] == document["image"]["id"]
        files = [file for file in earlier.get("files", []) if same and isinstance(file["name"], str)]
        archive = earlier["archive"] if same else None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return told
    names = {file["name"] for file in document["files"]}
    document["files"] = [file for file in files if file["name"] not in names] + document["files"]
    document["archive"] = document["archive"] or archive
    return _as_json(document)


def _as_json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"


def _file(file: ExportedFile, stem: str) -> dict[str, Any]:
    return {"name": stem + EXPORT_FORMATS[file.format].ending, **asdict(file)}


def _package(package: Package) -> dict[str, Any]:
    """Return what the image's database says of a package."""
    return {key: value for key, value in asdict(package).items() if value or key == "architecture"}


def _steps(records: Sequence[StepRecord], phase: str, scripts: ScriptTable) -> list[dict[str, Any]]:
    return [_step(record) | scripts_json(scripts, phase, index) for index, record in enumerate(records)]


def _step(record: StepRecord) -> dict[str, Any]:
    return {
        "name": record.name,
        "action": record.action,
        "tries": record.tries,
        "exit_status": record.exit_status,
        "seconds": record.seconds,
        "note": record.note,
    }
