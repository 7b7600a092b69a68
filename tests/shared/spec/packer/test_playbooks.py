"""The provisioners ansible-local and ansible."""

from __future__ import annotations

import pytest

from tests.shared.spec.packer.templates import told, values_of


def test_playbooks_become_steps() -> None:
    rest = """
    provisioner "ansible-local" {
      playbook_file = "play/site.yml"
      playbook_dir = "play"
      command = "sudo ansible-playbook"
      role_paths = ["play/roles/one", "site"]
      inventory_groups = ["web"]
      extra_arguments = ["--extra-vars", "release=7 name='a b'", "--tags=x,y", "-vv"]
      galaxy_file = "play/needs.yml"
    }
    provisioner "ansible" {
      playbook_file = "setup.sh"
      roles_path = "site"
      extra_arguments = ["-e a=1", "--skip-tags", "z"]
      user = "debian"
    }
    """
    assert values_of("", rest)["steps"] == (
        {
            "name": "site",
            "action": "ansible",
            "inputs": {
                "playbook": "play/site.yml",
                "groups": ("web",),
                "roles": (".",),
                "requirements": "play/needs.yml",
                "extra_vars": {"release": "7", "name": "a b"},
                "tags": ("x", "y"),
            },
            "reads": ("play",),
        },
        {
            "name": "setup",
            "action": "ansible",
            "inputs": {"playbook": "setup.sh", "roles": ("site",), "extra_vars": {"a": "1"}, "skip_tags": ("z",)},
        },
    )


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ('command = "/opt/x/ansible-play"', "command: is not the step's ansible-playbook"),
        ('extra_arguments = ["--limit", "x"]', "extra_arguments: '--limit' is not taken over"),
        ('extra_arguments = ["-e", "@vars.yml"]', "extra_arguments: '@vars.yml' is a file; name it in vars_files"),
        ('command = "cd /x; ansible-playbook"', "command: is not the step's ansible-playbook"),
        ('command = "ANSIBLE_VAULT_PASSWORD_FILE=x ansible-playbook"', "command: 'ANSIBLE_VAULT_PASSWORD_FILE' is not"),
        ('extra_arguments = ["-e", "{\\"a\\": true}"]', "extra_arguments: 'a' is no text in JSON"),
        ('group_vars = "elsewhere/group_vars"', "group_vars: 'elsewhere/group_vars' is not found from the playbook"),
        ('inventory_file = "hosts"', "inventory_file: cannot be kept"),
    ],
)
def test_playbooks_that_cannot_be_kept(options: str, what: str) -> None:
    rest = f'provisioner "ansible-local" {{\nplaybook_file = "play/site.yml"\n{options}\n}}'
    (line,) = told("", rest)
    assert line.startswith(what)


def test_what_people_write_around_a_playbook() -> None:
    rest = """
    provisioner "ansible-local" {
      playbook_file    = "play/site.yml"
      command          = "ANSIBLE_FORCE_COLOR=1 PYTHONUNBUFFERED=1 sudo -E ansible-playbook"
      inventory_groups = ["all", "web"]
      extra_arguments  = ["-e", jsonencode({ a = "x y", n = 3 }), "--scp-extra-args", "-O", ""]
    }
    provisioner "ansible" {
      playbook_file    = "play/site.yml"
      ansible_env_vars = ["ANSIBLE_HOST_KEY_CHECKING=False", "ANSIBLE_ROLES_PATH=site:play/roles"]
    }
    """
    inputs = [step["inputs"] for step in values_of("", rest)["steps"]]
    assert inputs == [
        {"playbook": "play/site.yml", "groups": ("web",), "extra_vars": {"a": "x y", "n": "3"}},
        {"playbook": "play/site.yml", "groups": ("default",), "roles": ("site",)},
    ]
