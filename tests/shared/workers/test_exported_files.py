"""Files of a build in the formats that its plan names."""

from __future__ import annotations

import hashlib
import json

from shared.build.build import Outcome
from shared.build.export_formats import EXPORT_FORMATS
from tests.world.given_orders import whole_plan
from tests.world.world import Guest, World


def test_files_in_other_formats_are_staged_and_then_shown_with_their_checksums() -> None:
    world = World(Guest())
    build = world.run(whole_plan(formats=("qcow2", "oci")))
    assert build.outcome is Outcome.SUCCEEDED
    assert build.image is not None
    assert [file.format for file in build.image.files] == ["qcow2", "oci"]
    assert build.image.archive is None
    for file in build.image.files:
        name = f"out/hello{EXPORT_FORMATS[file.format].ending}"
        digest = hashlib.sha256(world.bucket.objects[name]).hexdigest()
        line = world.bucket.objects[f"{name}.sha256"].decode()
        assert line == f"{digest}  {name.removeprefix('out/')}\n"
    manifest = json.loads(world.bucket.objects["out/hello.json"])
    assert [file["name"] for file in manifest["files"]] == ["hello.qcow2", "hello.oci.tar"]
    assert "out/hello.tar.gz" not in world.bucket.objects
    assert not [name for name in world.bucket.objects if name.startswith("out/.")]


def test_files_of_a_build_that_fails_its_verification_are_gone() -> None:
    world = World(Guest(fails_at=0, phase="verify"))
    build = world.run(whole_plan(formats=("raw", "gce")))
    assert build.outcome is Outcome.FAILED
    assert not [name for name in world.bucket.objects if name.startswith("out/")]
