"""Packer's templates on the command line: converted to specs that are good, with the files that go with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.goldsmith.command_line import Commands

TEMPLATE = """variable "project_id" {
  type = string
}
variable "sizes" {
  type    = map(number)
  default = { web = 10 }
}
source "googlecompute" "web" {
  project_id          = var.project_id
  source_image_family = "debian-12"
  zone                = "us-central1-a"
  ssh_username        = "packer"
  image_name          = "web-{{timestamp}}"
  image_family        = "web"
  disk_size           = var.sizes["web"]
}
"""
BUILD = """build {
  sources = ["source.googlecompute.web"]
  provisioner "shell" { script = "${path.root}/setup.sh" }
  provisioner "shell" { inline = ["echo $${HOME} > /etc/home"] }
}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "source.pkr.hcl").write_text(TEMPLATE)
    (folder / "web.pkr.hcl").write_text(BUILD)
    (folder / "setup.sh").write_text("#!/bin/sh\n")
    return folder


def test_a_folder_comes_to_a_good_spec(run: Commands, folder: Path) -> None:
    (folder / "my.auto.pkrvars.hcl").write_text('project_id = "my-project"\n')
    more = folder / "more.pkrvars.hcl"
    more.write_text("sizes = { web = 12 }\n")
    done = run("convert", folder, "--var-file", more, "--source", folder, "-o", folder / "specs")
    spec, script = folder / "specs" / "web.yaml", folder / "specs" / "web.files" / "inline-1.sh"
    assert (done.status, done.out) == (0, f"{script}\n{spec}\n")
    assert run("validate", spec).out == f"{spec}: good: web, 2 steps\n"
    assert script.read_text() == "#!/bin/sh -e\necho ${HOME} > /etc/home\n"
    assert 'context: ".."\n' in spec.read_text()
    assert "disk_size_gb: 12\n" in spec.read_text()
    note = f"{folder / 'source.pkr.hcl'}:12:3: ssh_username: not taken over: steps run on the machine itself"
    assert f"goldsmith: {note}" in done.err
    assert f"# {note}" in spec.read_text()
    again = run("convert", folder, "--source", folder, "-o", folder / "specs")
    assert (again.status, "exists already" in again.err) == (2, True)


def test_problems_have_their_files_and_lines(run: Commands, folder: Path) -> None:
    (folder / "web.pkr.hcl").write_text(BUILD.replace("setup.sh", "no.sh").replace("inline", "inlin"))
    done = run("convert", folder, "--source", folder, "-o", folder / "specs")
    assert (done.status, done.out) == (2, "")
    assert done.err.removeprefix("goldsmith: ").splitlines() == [
        f"{folder / 'source.pkr.hcl'}:9:25: project_id: var.project_id has no value; give it one by --var "
        "project_id=VALUE",
        f"{folder / 'web.pkr.hcl'}:3:25: script: './no.sh' is not there; name the folder in which packer is run by "
        "--source, or make it",
        f'{folder / "web.pkr.hcl"}:4:3: provisioner "shell": runs nothing; write inline, script or scripts',
        f"{folder / 'web.pkr.hcl'}:4:25: inlin: is no option of 'shell'; did you mean inline?",
    ]
    assert not (folder / "specs").exists()


def test_the_model_finds_what_the_template_does_not(run: Commands, folder: Path) -> None:
    done = run("convert", folder, "--var", "project_id=X", "--source", folder, "-o", folder / "specs")
    assert done.status == 2
    assert f"{folder / 'source.pkr.hcl'}:9:3: project_id: 'X' is not a project id" in done.err


def test_files_may_be_above_and_not_anywhere(run: Commands, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "shared.sh").write_text("#!/bin/sh\n")
    (folder / "web.pkr.hcl").write_text(BUILD.replace("${path.root}/setup.sh", "../shared.sh"))
    words = ("convert", folder, "--var", "project_id=my-project", "--source", folder, "-o")
    done = run(*words, folder / "specs")
    assert (done.status, f"context: {tmp_path}, which holds all files" in done.err) == (0, True)
    assert run("validate", folder / "specs" / "web.yaml").status == 0
    far = run(*words, "/nowhere/specs")
    assert (far.status, "names files that no folder holds together (" in far.err) == (2, True)


def test_one_of_several_images(run: Commands, folder: Path) -> None:
    text = TEMPLATE.replace('"web" {', '"db" {').partition("source ")[2]
    (folder / "db.pkr.hcl").write_text(f'source {text}build {{\n  name = "db"\n  sources = ["googlecompute.db"]\n}}\n')
    words = ("convert", folder, "--set", "project_id=my-project", "--source", folder, "-o")
    assert run(*words, folder / "both").status == 0
    assert {path.name for path in (folder / "both").glob("*.yaml")} == {"db.yaml", "web.yaml"}
    assert run(*words, folder / "one", "--only", "db.*").status == 0
    assert {path.name for path in (folder / "one").glob("*.yaml")} == {"db.yaml"}
    wrong = run(*words, folder / "none", "--only", "googlecompute.dbb")
    assert (wrong.status, "did you mean db.googlecompute.db?" in wrong.err) == (2, True)


def test_a_template_in_json(run: Commands, folder: Path) -> None:
    template = {
        "variables": {"project": None, "user": "me"},
        "builders": [
            {
                "type": "googlecompute",
                "name": "old",
                "project_id": "{{user `project`}}",
                "source_image_family": "ubuntu-2204-lts",
                "zone": "us-central1-a",
                "image_name": "old-{{isotime | clean_resource_name}}",
            }
        ],
        "provisioners": [{"type": "shell", "inline": ["echo {{ user `user` }} {{build_name}}"], "pause_before": "1s"}],
        "post-processors": ["manifest", [{"type": "compress"}]],
    }
    path = folder / "old.json"
    path.write_text(json.dumps(template, indent=1))
    wrong = run("convert", path, "--source", folder)
    assert (wrong.status, "the variable project has no value; give it one by --var project=VALUE" in wrong.err) == (
        2,
        True,
    )
    done = run("convert", path, "--source", folder, "--var", "project=my-project", "-o", folder / "specs")
    assert (done.status, done.err.count("not taken over")) == (0, 3)
    assert (folder / "specs/old.files/inline-1.sh").read_text() == "#!/bin/sh -e\necho me old\n"
    assert run("validate", folder / "specs" / "old.yaml").status == 0


def test_options_of_templates_go_with_templates(run: Commands, folder: Path) -> None:
    (folder / "cloudbuild.yaml").write_text("steps: []\n")
    done = run("convert", folder / "cloudbuild.yaml", "--only", "x")
    assert (done.status, done.err) == (
        2,
        f"goldsmith: --only goes with a template of Packer, and {folder / 'cloudbuild.yaml'} is none; leave it out\n",
    )
    path = run("convert", folder, "--path", "x")
    assert (path.status, "--path names elements of diskimage-builder" in path.err) == (2, True)


def test_what_is_no_template_in_hcl_says_so(run: Commands, tmp_path: Path) -> None:
    empty = run("convert", tmp_path)
    assert (empty.status, f"{tmp_path}: is a folder without *.pkr.hcl" in empty.err) == (2, True)
    (tmp_path / "a.pkr.json").write_text("{}")
    for path in (tmp_path, tmp_path / "a.pkr.json"):
        done = run("convert", path)
        assert (done.status, "a.pkr.json: is HCL in JSON, which is not read" in done.err) == (2, True)
