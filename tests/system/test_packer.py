"""A template of Packer, converted and built: the image has what Packer would have put there."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.disks.disk import Disk
from tests.docs.reader import Reader
from tests.system.command import Goldsmith

pytestmark = pytest.mark.slow

TEMPLATE = """variable "project_id" {
  type = string
}
variable "release" {
  type    = string
  default = "r7"
}
variable "token" {
  type      = string
  sensitive = true
}
source "googlecompute" "web" {
  project_id              = var.project_id
  source_image_project_id = [var.project_id]
  source_image_family     = "debian-12"
  zone                    = "europe-west4-a"
  ssh_username            = "packer"
  image_name              = "web-${formatdate("YYYYMMDD", timestamp())}"
  image_family            = "web"
  image_labels            = { release = var.release }
  disk_size               = 10
}
build {
  sources = ["source.googlecompute.web"]
  provisioner "file" {
    content     = "release ${var.release}\\n"
    destination = "/tmp/release"
  }
  provisioner "file" {
    source      = "${path.root}/site"
    destination = "/srv"
  }
  provisioner "shell" {
    environment_vars = ["RELEASE=${var.release}", "TOKEN=${var.token}"]
    execute_command  = "sudo -E bash -eu '{{ .Path }}'"
    script           = "${path.root}/setup.sh"
  }
  provisioner "shell" {
    inline = ["set -u", "mv /tmp/release /etc/release-of-web", "echo $(whoami) $HOME >> /etc/release-of-web"]
  }
}
"""


def test_a_converted_template_is_built(goldsmith: Goldsmith, tmp_path: Path) -> None:
    folder = tmp_path / "template"
    (folder / "site").mkdir(parents=True)
    (folder / "site" / "index.html").write_text("<h1>web</h1>\n")
    (folder / "setup.sh").write_text('#!/bin/sh\nset -o pipefail\necho "$RELEASE ${#TOKEN}" >/srv/setup\n')
    (folder / "web.pkr.hcl").write_text(TEMPLATE)
    environment = {**goldsmith.environment, "PKR_VAR_token": "a-secret-of-24-characters"}
    reader = Reader(folder, environment, {"my-project": "local"})
    reader.types("goldsmith convert web.pkr.hcl --var project_id=my-project --output specs", says="image_name: ")
    reader.types("goldsmith validate specs/web.yaml", says="good: web, 4 steps")
    reader.types("goldsmith build specs/web.yaml --engine chroot")
    [image] = [image for image in goldsmith.images() if image["family"] == "web"]
    assert image["labels"]["release"] == "r7"
    with Disk(goldsmith.home / "images" / image["name"] / "disk.raw") as disk:
        read = {name: disk.root.read(name) for name in ("/etc/release-of-web", "/srv/setup", "/srv/site/index.html")}
    assert read == {
        "/etc/release-of-web": b"release r7\nroot /root\n",
        "/srv/setup": b"r7 25\n",
        "/srv/site/index.html": b"<h1>web</h1>\n",
    }
