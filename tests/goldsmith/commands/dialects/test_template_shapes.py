"""Templates in the shapes that public ones have: what each comes to, as a whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.goldsmith.command_line import Commands

CLOUDS = """variable "project" {
  type    = string
  default = env("SHAPES_PROJECT")
  validation {
    condition     = can(regex("^[a-z]([-a-z0-9]*)$", var.project))
    error_message = "No project."
  }
}
variable "flavour" { default = "plain" }
local "suffix" { expression = uuidv4() }
locals {
  label = lower(replace("V1.2", ".", "-"))
  kinds = { googlecompute = "gce", qemu = "kvm" }
}
source googlecompute web {
  project_id    = coalesce(var.project, "my-project")
  source_image  = "projects/ubuntu-os-cloud/global/images/ubuntu-2204-jammy-v20250508"
  zone          = "us-central1-a"
  image_name    = "web-${formatdate("YYYYMMDD", timestamp())}-${local.suffix}"
  image_family  = "web"
  image_labels  = { version = local.label, stamp = local.suffix }
  instance_name = local.suffix
  metadata      = { startup-script = "echo started\\n", enable-oslogin = "FALSE" }
  tags          = [for rule in ["a/b"] : reverse(split("/", rule))[0]]
}
source "azure-arm" "web" { location = var.nowhere }
build {
  name    = local.suffix
  sources = ["source.googlecompute.web", "source.azure-arm.web"]
  provisioner "shell-local" {
    only   = ["azure-arm.web"]
    inline = ["az vm show --name ${local.none}"]
  }
  provisioner "shell" {
    script          = "scripts/one.sh"
    execute_command = "KIND=${local.kinds[source.type]} sudo -E bash '{{.Path}}'"
  }
  provisioner "file" {
    content     = templatefile("${path.root}/motd.tpl", { hosts = ["a", "b"], quiet = false })
    destination = "~/motd"
  }
}
"""
MOTD = """%{ for host in hosts ~}
  host ${host}
%{ endfor ~}
%{ if quiet }quiet%{ else }loud%{ endif }
"""
LAYERS = """variable "scripts" {
  type    = list(string)
  default = ["one.sh", "two.sh"]
}
variable "ssh_password" { default = "ubuntu" }
locals {
  images = yamldecode(file("images.yaml"))
  run    = "chmod +x {{.Path}}; sudo -E env {{.Vars}} http_proxy=${env("NO_SUCH_PROXY")} {{.Path}}"
}
source "qemu" "disk" {
  disk_image       = true
  iso_checksum     = "none"
  boot_command     = ["root<enter>", "${var.ssh_password}<enter>"]
  qemuargs         = [["-smbios", "seedfrom=http://{{ .HTTPIP }}:{{ .HTTPPort }}/"]]
  shutdown_command = "echo '${var.ssh_password}' | sudo -S shutdown -P now"
}
build {
  dynamic "source" {
    for_each = { for name, image in local.images : name => image if contains(image.actions, "build") }
    iterator = I
    labels   = ["qemu.disk"]
    content {
      name      = I.key
      iso_url   = I.value.file
      disk_size = "${I.value.size}G"
    }
  }
  dynamic "provisioner" {
    for_each = length(var.scripts) == 0 ? [] : [1]
    labels   = ["shell"]
    content {
      scripts         = [for name in var.scripts : "scripts/${name}"]
      execute_command = local.run
      only            = ["qemu.large"]
    }
  }
  provisioner "shell" {
    inline            = ["sudo reboot"]
    expect_disconnect = true
  }
  provisioner "shell" { inline = ["cloud-init status --wait"] }
  provisioner "file" {
    direction   = "download"
    source      = "/tmp/log"
    destination = "log"
  }
}
"""
IMAGES = "small: {file: base.img, size: 2, actions: [build]}\nlarge: {file: base.img, size: 9, actions: [build]}\n"
IMAGES += "none: {file: base.img, size: 9, actions: []}\n"
NODE = {
    "variables": {
        "family": "node-{{user `build_name`}}",
        "version": None,
        "archive": "https://example.com/v{{user `version`}}.tgz",
        "common": "archive={{user `archive`}}",
        "arguments": "",
    },
    "builders": [
        {
            "type": "googlecompute",
            "name": "{{user `build_name`}}",
            "project_id": "my-project",
            "source_image_family": "debian-12",
            "zone": "us-central1-a",
            "image_name": "{{user `family` | clean_resource_name}}-{{timestamp}}",
            "image_family": "{{user `family` | clean_resource_name}}",
            "labels": {"version": '{{split (user `version`) "-" 0}}'},
        }
    ],
    "provisioners": [
        {
            "type": "ansible",
            "playbook_file": "./play/books/node.yml",
            "ansible_env_vars": [
                "ANSIBLE_SSH_ARGS='{{env `ANSIBLE_SSH_ARGS`}} -o x'",
                "ANSIBLE_ROLES_PATH=shared/roles",
            ],
            "extra_arguments": ["--extra-vars", "{{user `common`}}", "--scp-extra-args", "{{user `arguments`}}"],
        },
        {"type": "goss", "tests": ['{{ split (user `version`) "-" 0 }}']},
    ],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "shapes"
    for name in ("scripts/one.sh", "scripts/two.sh", "play/books/node.yml", "shared/roles/x/tasks/main.yml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("#!/bin/sh\n")
    (folder / "motd.tpl").write_text(MOTD)
    (folder / "images.yaml").write_text(IMAGES)
    (folder / "base.img").touch()
    return folder


def test_a_template_for_several_clouds(run: Commands, folder: Path) -> None:
    template = folder / "web.pkr.hcl"
    template.write_text(CLOUDS)
    done = run("convert", template, "--source", folder, "-o", folder / "specs")
    assert done.status == 0, done.err
    assert 'source "azure-arm" "web": not taken over: its builder makes no images here' in done.err
    spec = yaml.safe_load((folder / "specs" / "web.yaml").read_text())
    assert (spec["source"]["image"], spec["output"]["labels"]) == ("ubuntu-2204-jammy-v20250508", {"version": "v1-2"})
    assert [(step["name"], step["inputs"]) for step in spec["steps"]] == [
        ("startup-script", {"script": "specs/web.files/startup-script.sh"}),
        ("one", {"script": "scripts/one.sh", "env": {"KIND": "gce"}, "interpreter": "/bin/bash"}),
        ("copy-motd", {"source": "specs/web.files/motd", "destination": "/root/motd", "mode": "0644"}),
    ]
    assert (folder / "specs" / "web.files" / "motd").read_text() == "  host a\n  host b\nloud\n"


def test_images_that_a_file_lists(run: Commands, folder: Path) -> None:
    (folder / "disks.pkr.hcl").write_text(LAYERS)
    done = run("convert", folder / "disks.pkr.hcl", "--source", folder, "-o", folder / "specs")
    assert done.status == 0, done.err
    assert done.err.count("boot_command: not taken over") == 1
    assert "waits for cloud-init, which is not run on one machine" in done.err
    small, large = (yaml.safe_load((folder / "specs" / f"{name}.yaml").read_text()) for name in ("small", "large"))
    assert [step["name"] for step in small["steps"]] == ["reboot", "inline-1"]
    assert [step["name"] for step in large["steps"]] == ["one", "two", "reboot", "inline-1"]
    assert large["output"]["disk_size_gb"] == 9
    assert run("validate", folder / "specs" / "large.yaml").status == 0


def test_a_template_in_json_with_files_of_values(run: Commands, folder: Path) -> None:
    template, values = folder / "node.json", folder / "debian.json"
    template.write_text(json.dumps(NODE, indent=1))
    values.write_text('{"build_name": "debian-12", "version": "1.2-3"}')
    done = run("convert", template, "--var-file", values, "--source", folder, "-o", folder / "specs")
    assert done.status == 0, done.err
    spec = yaml.safe_load((folder / "specs" / "debian-12.yaml").read_text())
    assert spec["output"]["family"] == "node-debian-12"
    (step,) = spec["steps"]
    assert step["reads"] == ["play"]
    assert step["inputs"] == {
        "playbook": "play/books/node.yml",
        "roles": ["shared/roles"],
        "extra_vars": {"archive": "https://example.com/v1.2-3.tgz"},
    }
    template.write_text(json.dumps({**NODE, "variables": {"build_name": "{{user `a`}}", "a": "{{user `build_name`}}"}}))
    wrong = run("convert", template, "--source", folder)
    assert (wrong.status, "the variable build_name needs itself" in wrong.err) == (2, True)


def test_secrets_stay_out_of_specs_or_are_told(run: Commands, folder: Path) -> None:
    template = folder / "web.pkr.hcl"
    text = 'variable "db_password" { default = "hunter-22" }\n'
    text += 'variable "key" {\n  sensitive = true\n  default = "k-e-y-1"\n}\n'
    text += CLOUDS.replace('"echo started\\n"', '"echo ${var.db_password}"')
    template.write_text(text)
    done = run("convert", template, "--source", folder, "-o", folder / "specs")
    assert (done.status, f'{template}:1:1: variable "db_password": its value stands in the spec' in done.err) == (
        0,
        True,
    )
    template.write_text(text.replace("echo ${var.db_password}", "${parseint(var.key, 10)} ${upper(var.key)}"))
    wrong = run("convert", template, "--source", folder, "-o", folder / "more")
    assert (wrong.status, "metadata: is sensitive: " in wrong.err, "k-e-y" in wrong.err) == (2, True, False)


def test_files_of_other_folders_are_told(run: Commands, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.txt").write_text("from elsewhere\n")
    template = folder / "web.pkr.hcl"
    template.write_text(CLOUDS.replace('"echo started\\n"', 'file("../elsewhere.txt")'))
    done = run("convert", template, "--source", folder, "-o", folder / "specs")
    assert (done.status, f"the template: reads {tmp_path / 'elsewhere.txt'}, which is in another" in done.err) == (
        0,
        True,
    )
    link = folder / "more" / "web.yaml"
    link.parent.mkdir()
    link.symlink_to(tmp_path / "nothing")
    again = run("convert", template, "--source", folder, "-o", folder / "more")
    assert (again.status, f"{link} exists already" in again.err, (tmp_path / "nothing").exists()) == (2, True, False)


def test_what_is_only_printed_has_a_context_wherever_that_is(run: Commands, folder: Path) -> None:
    template = folder / "web.pkr.hcl"
    template.write_text(CLOUDS)
    done = run("convert", template, "--source", folder)
    assert (done.status, "--output FOLDER writes the files that go with it, too" in done.err) == (0, True), done.err
    spec = yaml.safe_load(done.out)
    assert spec["steps"][1]["inputs"]["script"].endswith("scripts/one.sh")
