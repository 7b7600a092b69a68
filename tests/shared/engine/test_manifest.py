"""NAME.json: golden, and the same bytes every time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from provisioner.protocol import STEP_FINISHED
from shared.build.build import AllowedFinding, ArchiveRecord, ExportedFile
from shared.engine.manifest import manifest, with_earlier_files
from shared.engine.step_table import note_report
from tests.world import values
from tests.world.fakes import PACKAGES

GOLDEN = Path(__file__).parents[1] / "golden" / "manifest.json"
ARCHIVE = ArchiveRecord(1000, "a1" * 32, "b2" * 32, "00c0ffee", 10 << 30, 600 << 20)


NOTE = f"installer container: gcr.io/p/i@sha256:{'ab' * 32}"


def test_the_whole_document_is_golden() -> None:
    done = values.report(kind=STEP_FINISHED, sequence=3, step=0, tries=1, exit_status=0, seconds=0.5, message=NOTE)
    build = note_report(values.build(image=values.image_record(archive=ARCHIVE)), done)
    sbom = ("/out/hello.spdx.json", "/out/hello.cdx.json")
    assert manifest(build, values.plan(), PACKAGES, sbom) == GOLDEN.read_bytes()


def test_what_the_spec_allows_is_told_with_its_reason() -> None:
    """hygiene.allow."""
    allowed = AllowedFinding("/opt/app/demo.key", "holds a private key", "of the demo")
    build = values.build(image=values.image_record(allowed=(allowed,)))
    assert json.loads(manifest(build, values.plan(), None))["allowed"] == [
        {"path": "/opt/app/demo.key", "finding": "holds a private key", "why": "of the demo"}
    ]


def test_what_is_not_known_is_null() -> None:
    document = json.loads(manifest(values.build(), values.plan(), None))
    assert (document["archive"], document["packages"], document["verify"], document["image"]["id"]) == (None,) * 4


def test_verification_without_steps_is_not_the_same_as_none() -> None:
    plan = replace(values.plan(), verify_steps=())
    assert json.loads(manifest(values.build(plan=plan), plan, None))["verify"] == []


def exported(*formats: str, image: str = "1") -> bytes:
    files = tuple(ExportedFile(name, 10, "ab" * 32) for name in formats)
    build = values.build(image=values.image_record(id=image, files=files))
    return manifest(build, values.plan(), None, stem="other")


def test_files_in_other_formats_are_named() -> None:
    assert json.loads(exported("vmdk"))["files"] == [
        {"name": "other.vmdk", "format": "vmdk", "bytes": 10, "sha256": "ab" * 32}
    ]


def test_what_was_told_before_of_the_same_image_is_kept() -> None:
    both = json.loads(with_earlier_files(exported("oci", "raw"), exported("vmdk", "raw")))
    assert [file["format"] for file in both["files"]] == ["vmdk", "oci", "raw"]
    other = with_earlier_files(exported("oci"), exported("vmdk", image="2"))
    assert other == exported("oci")


@pytest.mark.parametrize("before", [b"", b"{", b"[]", b'{"image": 1}', b'{"image": {"id": "1"}, "files": [1]}'])
def test_a_document_that_is_no_manifest_tells_nothing(before: bytes) -> None:
    assert with_earlier_files(exported("oci"), before) == exported("oci")
