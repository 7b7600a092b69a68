"""The result object of a build: how it ended, for people and programs that can read only the bucket."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from provisioner.protocol import BUILD

from ..build.build import Build, LedgerEntry, Outcome, StepRecord
from ..build.cost.usage import build_usage
from ..build.resources import kept_disk_json, results_stem, sbom_names
from .script_table import NO_SCRIPTS, ScriptTable, scripts_json, verify_steps


def result(
    build: Build, left: Sequence[LedgerEntry], logs: str, number: int = 0, scripts: ScriptTable = NO_SCRIPTS
) -> bytes:
    """Return the JSON: outcome, the reason as `goldsmith validate` words it, image, steps, and what is not deleted yet.

    `left` is empty once nothing is left behind; `logs` is where the consoles of the build's VMs are; `number` is that
    of the clean-up that says so.
    """
    used = build_usage(build)
    document: dict[str, Any] = {
        "version": 1,
        "build": build.id,
        "created": build.created,
        "name": build.name,
        "outcome": build.outcome,
        "reason": build.reason,
        "image": asdict(build.image) if build.image and build.outcome in WITH_IMAGE else None,
        "kept": _kept(build),
        "kept_disk": kept_disk_json(build),
        "warnings": list(build.warnings),
        "sbom": _sbom(build),
        "attempts": build.attempt,
        "usage": used.to_json() if used is not None else None,
        "steps": [*_steps(build.steps, BUILD, scripts), *verify_steps(build, _step, scripts)],
        "left": [_thing(entry) for entry in left],
        "logs": logs if build.plan else None,
        "clean_up": number,
    }
    return _text(document)


def updated(before: bytes, after: bytes, gone: Sequence[LedgerEntry]) -> bytes:
    """Return what a result object says once a clean-up has ended that found the object as it is.

        clean-up 5, slow    look ──────────────────────────────────── "left: disk"
        clean-up 6                    look ── delete the disk ── "left: nothing"

    The newest clean-up knows best; of an earlier one counts only what it has deleted, and what is gone stays gone. A
    build that was set aside and asked for again has the same id, and counts its clean-ups anew: the later one counts.
    """
    mine = json.loads(after)
    try:
        old = json.loads(before)
        number, left, created = int(old["clean_up"]), list(old["left"]), float(old["created"])
    except (ValueError, KeyError, TypeError, RecursionError):  # none yet, or of the release before
        return after
    if created != mine["created"]:
        return after if created < mine["created"] else before
    if number < mine["clean_up"]:
        return after
    if number == mine["clean_up"]:  # another delivery of the same order
        old = mine | {"left": [thing for thing in left if thing in mine["left"]]}
    things = [_thing(entry) for entry in gone]
    return _text(old | {"left": [thing for thing in old["left"] if thing not in things]})


def _text(document: dict[str, Any]) -> bytes:
    return json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"


def _thing(entry: LedgerEntry) -> dict[str, str]:
    return {"kind": entry.kind, "project": entry.project, "name": entry.name}


WITH_IMAGE = (Outcome.SUCCEEDED, Outcome.UNCHANGED)  # published, or there before


def _kept(build: Build) -> dict[str, Any] | None:
    """Name the image that could not be published, and when it is deleted: Unix seconds."""
    if not build.kept_until or build.image is None:
        return None
    return {"project": build.image.project, "name": build.image.name, "until": build.kept_until}


def _sbom(build: Build) -> dict[str, str] | None:
    """Name the bill of materials, which publication writes beside this object."""
    files_only = build.plan is not None and build.plan.image.files_only
    if build.outcome is not Outcome.SUCCEEDED or not build.result or files_only:
        return None
    return dict(zip(("spdx", "cyclonedx"), sbom_names(results_stem(build, "")), strict=True))


def _steps(records: Sequence[StepRecord], phase: str, scripts: ScriptTable) -> list[dict[str, Any]]:
    return [_step(record) | scripts_json(scripts, phase, index) for index, record in enumerate(records)]


def _step(record: StepRecord) -> dict[str, Any]:
    return {key: value for key, value in asdict(record).items() if key not in ("sequence", "told", "attempt")}
