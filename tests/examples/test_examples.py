"""Each example is a good spec with its files, can be planned, and is in the table of examples/README.md."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jsonschema
import pytest
import yaml

from shared.build.plan import Context, SourceImage
from shared.planning.plan import make_plan
from shared.spec.read import check_file, parse_file
from tests.goldsmith.command_line import Commands
from tests.project.source_tree import ROOT

EXAMPLES = ROOT / "examples"
SPECS = sorted({*EXAMPLES.glob("*/*.yaml"), *EXAMPLES.glob("*/specs/*.yaml")} - {*EXAMPLES.glob("*/cloud*.yaml")})
SCHEMA = json.loads((ROOT / "shared/spec/spec.schema.json").read_text(encoding="utf-8"))
COS = SourceImage("cos-cloud", "cos-117-18613-75-37", "1", family="cos-117-lts", disk_size_gb=10)
DEBIAN = SourceImage("debian-cloud", "debian-12-bookworm-v20261110", "2", family="debian-12", disk_size_gb=10)
CONTEXT = Context("gs://bucket/context.tar", "c0" * 32, 10240)


@pytest.mark.parametrize("path", SPECS, ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_an_example_is_good_and_can_be_planned(path: Path) -> None:
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert [error.message for error in jsonschema.Draft202012Validator(SCHEMA).iter_errors(values)] == []
    (build,) = check_file(parse_file(path)).builds
    plan = make_plan(
        build.spec,
        source=COS if build.spec.source.project == "cos-cloud" else DEBIAN,
        context=CONTEXT if build.spec.context else None,
        request="bucket/specs/example.yaml/1",
        requested=1795176000.0,
        provisioner_version="1",
    )
    assert [step.name for step in plan.steps] == [step.name for step in build.spec.steps]


def test_the_table_has_each_example() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
    assert {folder for folder in folders if f"[{folder}]({folder}/" in text} == folders


def test_the_template_becomes_what_is_beside_it(tmp_path: Path) -> None:
    folder, kept = tmp_path / "packer", EXAMPLES / "packer" / "specs"
    shutil.copytree(EXAMPLES / "packer", folder, ignore=shutil.ignore_patterns("specs"))
    words = ("--var", "project_id=my-project", "--source", folder, "--output", folder / "specs")
    done = Commands(tmp_path / "home", tmp_path)("convert", folder / "web.pkr.hcl", *words)
    assert done.status == 0, done.err
    names = sorted(str(path.relative_to(kept)) for path in kept.rglob("*") if path.is_file())
    made = {name: (folder / "specs" / name).read_text(encoding="utf-8") for name in names}
    assert {name: text.replace(f"{folder}/", "") for name, text in made.items()} == {
        name: (kept / name).read_text(encoding="utf-8") for name in names
    }
