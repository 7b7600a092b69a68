"""A playbook in an image: what it does is there, and nothing of Ansible is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from shared.disks.disk import Disk
from tests.system.command import Goldsmith

pytestmark = pytest.mark.slow

SITE = """- hosts: web
  tasks:
    - name: fail once
      ansible.builtin.shell: test -e /var/tmp/once || { touch /var/tmp/once; echo not yet >&2; exit 3; }
    - ansible.builtin.file: {path: /var/tmp/once, state: absent}
    - acme.tools.stamp: {path: /etc/stamped}
    - name: write the release
      ansible.builtin.copy:
        content: "release {{ release }}, a token of {{ lookup('env', 'TOKEN') | length }}\\n"
        dest: /etc/release-of-web
    - ansible.builtin.include_role: {name: unit}
    - ansible.builtin.fail: {msg: is left out}
      tags: [broken]
"""
NEEDS = "collections: [{name: play/acme, type: dir}]\n"
COLLECTION = "{namespace: acme, name: tools, version: 1.0.0, readme: README.md, authors: [A <a@example.com>]}\n"
STAMP = """from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule(argument_spec={"path": {"type": "path", "required": True}})
open(module.params["path"], "w").close()
module.exit_json(changed=True)
"""
UNIT = "- ansible.builtin.command: systemctl mask apt-daily.timer\n"
SPEC = """name: played
source: {project: local, family: debian-12}
context: .
steps:
  - name: site
    action: ansible
    inputs:
      playbook: play/site.yml
      requirements: play/needs.yml
      extra_vars: {release: "7"}
      groups: [all, web]
      skip_tags: [broken]
    reads: [play]
    retries: 1
    secrets: {TOKEN: "env:PLAY_TOKEN"}
output: {family: played}
local: {engine: chroot, proxy: {ca: ca.crt}}
"""
AUTHORITIES = Path(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"))  # PyPI may be behind a proxy


KEPT = """name: kept
source: {project: local, family: played}
context: .
steps:
  - name: site
    action: ansible
    inputs: {playbook: play/site.yml, requirements: play/needs.yml, tags: [none], groups: [web], keep: true}
    reads: [play]
  - {name: use, action: run-script, inputs: {script: use.sh}, network: false}
output: {family: kept}
local: {engine: chroot, proxy: {ca: ca.crt}}
"""
USE = """set -e
ansible-playbook --version | head -1 >/var/lib/used
ansible localhost -m ping >>/var/lib/used 2>&1
rm -rf /root/.ansible
"""


def test_a_playbook_leaves_what_it_does(goldsmith: Goldsmith, tmp_path: Path) -> None:
    folder = tmp_path / "spec"
    (folder / "play" / "roles" / "unit" / "tasks").mkdir(parents=True)
    (folder / "play" / "site.yml").write_text(SITE)
    (folder / "play" / "needs.yml").write_text(NEEDS)
    (folder / "play" / "acme" / "plugins" / "modules").mkdir(parents=True)
    (folder / "play" / "acme" / "galaxy.yml").write_text(COLLECTION)
    (folder / "play" / "acme" / "README.md").write_text("tools\n")
    (folder / "play" / "acme" / "plugins" / "modules" / "stamp.py").write_text(STAMP)
    (folder / "play" / "roles" / "unit" / "tasks" / "main.yml").write_text(UNIT)
    (folder / "played.yaml").write_text(SPEC)
    shutil.copy(AUTHORITIES, folder / "ca.crt")
    done = goldsmith.run("build", folder / "played.yaml", environment={"PLAY_TOKEN": "a-token-of-19-chars"})
    assert done.status == 0, done.text
    assert "a-token-of-19-chars" not in done.text
    assert "the task 'fail once' of the playbook has failed: non-zero return code: not yet" in done.text
    [image] = [image for image in goldsmith.images() if image["family"] == "played"]
    with Disk(goldsmith.home / "images" / image["name"] / "disk.raw") as disk:
        assert disk.root.read("/etc/release-of-web") == b"release 7, a token of 19\n"
        assert disk.root.read("/etc/stamped") == b""
        assert "apt-daily.timer" in disk.root.names("/etc/systemd/system")
        with Disk(goldsmith.home / "images" / "debian-12-base" / "disk.raw") as source:
            for name in ("/root", "/tmp", "/var/tmp", "/usr/local/bin", "/usr/local/lib", "/var/lib"):
                assert disk.root.names(name) == source.root.names(name)
    (folder / "kept.yaml").write_text(KEPT)
    (folder / "use.sh").write_text(USE)
    kept = goldsmith.run("build", folder / "kept.yaml")
    assert kept.status == 0, kept.text
    [image] = [image for image in goldsmith.images() if image["family"] == "kept"]
    with Disk(goldsmith.home / "images" / image["name"] / "disk.raw") as disk:
        used = disk.root.read("/var/lib/used").decode()
    assert used.startswith("ansible-playbook [core 2.18.")
    assert '"ping": "pong"' in used


BOOTED = """- hosts: all
  tasks:
    - ansible.builtin.systemd_service: {name: apt-daily.timer, state: stopped, enabled: false}
    - ansible.builtin.copy: {content: "{{ ansible_facts['virtualization_role'] }}\\n", dest: /etc/role}
"""


@pytest.mark.vm
@pytest.mark.soak
def test_a_playbook_in_a_vm_meets_a_system_that_runs(goldsmith: Goldsmith, tmp_path: Path) -> None:
    folder = tmp_path / "spec"
    (folder / "play").mkdir(parents=True)
    (folder / "play" / "site.yml").write_text(BOOTED)
    (folder / "booted.yaml").write_text(
        "name: booted\nsource: {project: local, family: debian-12}\ncontext: .\n"
        "steps: [{name: site, action: ansible, inputs: {playbook: play/site.yml}}]\n"
        "output: {family: booted}\nlocal: {engine: vm, proxy: {ca: ca.crt}}\n"
    )
    shutil.copy(AUTHORITIES, folder / "ca.crt")
    done = goldsmith.run("build", folder / "booted.yaml")
    assert done.status == 0, done.text
    [image] = [image for image in goldsmith.images() if image["family"] == "booted"]
    with (
        Disk(goldsmith.home / "images" / image["name"] / "disk.raw") as disk,
        Disk(goldsmith.home / "images" / "debian-12-base" / "disk.raw") as source,
    ):
        assert disk.root.read("/etc/role") == b"guest\n"
        assert "apt-daily.timer" in source.root.names("/etc/systemd/system/timers.target.wants")
        assert "apt-daily.timer" not in disk.root.names("/etc/systemd/system/timers.target.wants")
        for name in ("/root", "/var/tmp", "/usr/local/bin", "/usr/local/lib"):
            assert disk.root.names(name) == source.root.names(name)
