"""The provisioner shell: scripts, inline commands, and how they are run."""

from __future__ import annotations

from typing import Any

import pytest

from shared.spec.packer.execute_command import ScriptRunner, script_runner
from tests.shared.spec.packer.templates import SECRET, drafts_of, hcl, problems_of, template_of, values_of

STEP: dict[str, Any] = {"action": "run-script", "reads": ()}


def test_scripts_and_inline_commands() -> None:
    rest = """
    provisioner "shell" {
      environment_vars = ["A=1", "B=x=${1 + 1}"]
      execute_command = "sudo -E bash '{{ .Path }}'"
      scripts = ["setup.sh", "setup.sh"]
      max_retries = 2
      timeout = "1h5m"
    }
    provisioner "shell" {
      inline = ["echo a", "echo b"]
      env = { C = true }
    }
    provisioner "shell" {
      script = "setup.sh"
      execute_command = "chmod +x {{ .Path }}; sudo bash -eux {{ .Path }}"
    }
    """
    template = template_of(hcl("", rest))
    (draft,) = drafts_of(template)
    first: Any = {
        **STEP,
        "inputs": {"script": "setup.sh", "env": {"A": "1", "B": "x=2"}, "interpreter": "/bin/bash"},
        "timeout": "1h5m",
        "retries": 2,
    }
    assert (problems_of(template), draft.document.data["steps"]) == (
        [],
        (
            {"name": "setup", **first},
            {"name": "setup-2", **first},
            {"name": "inline-1", **STEP, "inputs": {"script": "made/inline-1.sh", "env": {"C": "true"}}},
            {"name": "setup-3", **STEP, "inputs": {"script": "made/setup-runner.sh"}, "reads": ("setup.sh",)},
        ),
    )
    assert draft.made == {
        "inline-1.sh": "#!/bin/sh -e\necho a\necho b\n",
        "setup-runner.sh": "#!/bin/sh\nexec /bin/bash -eux setup.sh\n",
    }
    assert [text for _, text in draft.notes] == [
        'provisioner "shell": steps are root in the context\'s folder, with HOME=/root; Packer ran scripts as its user '
        "in its home"
    ]


@pytest.mark.parametrize(
    ("command", "runner"),
    [
        ("chmod +x {{.Path}}; {{.Vars}} {{.Path}}", ScriptRunner()),
        ("echo 'p' | sudo -S sh -c '{{ .Vars }} {{ .Path }}'", ScriptRunner(as_root=True)),
        ("echo 'p' | {{ .Vars }} sudo -S -E bash '{{ .Path }}'", ScriptRunner("bash", as_root=True)),
        ("{{ .Vars }} bash -e -o pipefail {{.Path}}", ScriptRunner("bash", ("-e", "-o", "pipefail"))),
        ('sudo su - root -c "{{ .Vars }} {{ .Path }}"', ScriptRunner(as_root=True)),
        ("sudo env A=1 {{ .Vars }} {{ .Path }}", ScriptRunner(env=(("A", "1"),), as_root=True)),
        ("echo 'p' | sudo -S bash -euxo pipefail {{.Path}}", ScriptRunner("bash", ("-euxo", "pipefail"), as_root=True)),
        ("chmod +x {{.Path}}; sudo {{.Path}} 1.2 amd64", ScriptRunner(as_root=True, arguments=("1.2", "amd64"))),
        ("{{ .Path }} >/dev/null", None),
        ("sudo -u postgres {{ .Path }}", None),
        ("rm -rf /; {{ .Path }}", None),
        ("sudo 'unclosed {{ .Path }}", None),
        ('sh -c \'sh -c "sh -c \\"sh -c x\\""\'', None),
    ],
)
def test_commands_that_run_scripts(command: str, runner: ScriptRunner | None) -> None:
    assert script_runner(command) == runner


def test_arguments_and_options_of_scripts() -> None:
    rest = """
    provisioner "shell" {
      execute_command = "sudo bash -elo pipefail {{ .Path }} a b"
      inline          = ["echo $1"]
    }
    provisioner "shell" {
      execute_command = "chmod +x {{ .Path }}; {{ .Path }} a"
      scripts         = ["setup.sh", "tmp.sh"]
    }
    """
    (draft,) = drafts_of(template_of(hcl("", rest)))
    assert draft.made == {
        "inline-1.sh": "#!/bin/bash -l\nset -eo pipefail\nset -- a b\necho $1\n",
        "setup-runner.sh": "#!/bin/sh\nexec /bin/sh setup.sh a\n",
        "tmp-runner.sh": "#!/bin/sh\nexec /bin/sh tmp.sh a\n",
    }


def test_a_sensitive_password_for_sudo_does_not_matter() -> None:
    rest = """provisioner "shell" {
      execute_command = "echo '${var.token}' | {{ .Vars }} sudo -S -E bash '{{ .Path }}'"
      script          = "setup.sh"
    }"""
    (step,) = values_of("", rest, SECRET)["steps"]
    assert step["inputs"] == {"script": "setup.sh", "interpreter": "/bin/bash"}
