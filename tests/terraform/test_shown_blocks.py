"""The Terraform that the pages show is formatted, valid and can be planned, and refuses the images that they say."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.docs.pages import File
from tests.terraform.configuration import MODULE
from tests.terraform.conftest import VARIABLES
from tests.terraform.planning import faults, make_plan, schema, terraform
from tests.terraform.schema_provider import serving
from tests.terraform.shown_blocks import shown_modules, shown_values

MODULES = shown_modules()
POSTCONDITIONS = [module for module in MODULES if "postcondition" in module.text]
GOOD = {"goldsmith-build": "web-0123456789ab"}

TRIAL = """\
override_data {
  target = data.google_compute_image.%(name)s
  values = { name = "web-1", self_link = "web-1", labels = %(labels)s }
}

run "plan" {
  command = plan
}
"""


def place(fence: File) -> str:
    return f"{fence.page}:{fence.line}"


def write(fence: File, folder: Path) -> Path:
    """Write a fence as a module whose sources are this tree, and each of whose variables has a value."""
    folder.mkdir()
    text = re.sub(r'"git::https://\S+//terraform"', f'"{MODULE}"', fence.text)
    (folder / "main.tf").write_text(text)
    (folder / "image.auto.tfvars").write_text('image = "my-project/web-1"\n' if "var.image" in text else "")
    return folder


def test_pages_show_modules_and_values() -> None:
    assert {fence.page for fence in POSTCONDITIONS} == {"docs/pipelines.md", "docs/published-images.md"}
    assert {"budgets", "people", "signing_key"} <= set(shown_values())


@pytest.mark.parametrize("fence", MODULES, ids=place)
def test_a_shown_module_is_formatted_and_valid(fence: File, tmp_path: Path) -> None:
    folder = write(fence, tmp_path / "module")
    formatted = terraform("fmt", "-check", "-diff", folder=folder, scratch=tmp_path)
    assert formatted.returncode == 0, formatted.stdout + formatted.stderr
    assert faults(folder, tmp_path) == ""
    if fence not in POSTCONDITIONS:
        make_plan({}, tmp_path, folder=folder)


def test_shown_values_are_taken(tmp_path: Path) -> None:
    make_plan({**VARIABLES, **shown_values()}, tmp_path)


@pytest.mark.parametrize("fence", POSTCONDITIONS, ids=place)
@pytest.mark.parametrize(
    ("labels", "refused"),
    [(GOOD, False), (None, True), ({}, True), ({**GOOD, "goldsmith-revoked": "1"}, True)],
    ids=str,
)
def test_images_that_were_revoked_or_are_not_ours_are_refused(
    fence: File, labels: Mapping[str, str] | None, refused: bool, tmp_path: Path
) -> None:
    folder = write(fence, tmp_path / "module")
    names = re.findall(r'data "google_compute_image" "(\w+)"', fence.text)
    (folder / "image.tftest.hcl").write_text(TRIAL % {"name": names[0], "labels": json.dumps(labels)})
    with serving(schema(), told=True) as environment:
        terraform("init", "-input=false", folder=folder, scratch=tmp_path, environment=environment)
        done = terraform("test", "-no-color", folder=folder, scratch=tmp_path, environment=environment)
    assert ("was revoked, or Goldsmith has not made it." in done.stdout + done.stderr) == refused, done.stdout
    assert done.returncode == int(refused), done.stdout + done.stderr
