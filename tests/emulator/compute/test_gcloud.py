"""gcloud against the endpoint: what a person sees who looks at images, instances and disks."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from emulator.web.identity import Identity
from tests.emulator.compute.clients import IDLE, PROJECT, ZONE, Cloud, idle_cloud


class Terminal:
    """Runs `gcloud compute` with a configuration of its own."""

    def __init__(self, cloud: Cloud, folder: Path) -> None:
        self._environment = {
            **os.environ,
            **cloud.endpoint.environment,
            "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
            "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "true",
            "CLOUDSDK_CONFIG": str(folder / "gcloud"),
            "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false",
            "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
            "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
            "CLOUDSDK_CORE_PROJECT": PROJECT,
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["gcloud", "compute", *arguments]
        return subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False, timeout=240)

    def say(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def read(self, *arguments: str) -> Any:
        return json.loads(self.say(*arguments, "--format=json"))


def test_person_sees_images_instances_and_disks(tmp_path: Path, identity: Identity) -> None:
    with idle_cloud(tmp_path, identity) as cloud:
        terminal = Terminal(cloud, tmp_path)
        create_and_look(terminal)
        publish(terminal)
        use(terminal)
        clean_up(terminal)


def create_and_look(terminal: Terminal) -> None:
    terminal.say(
        "instances", "create", "vm-1", f"--zone={ZONE}", "--machine-type=e2-small", "--labels=goldsmith-build=b-1",
        f"--image-family={IDLE}", "--image-project=debian-cloud", "--no-address", "--metadata=startup-script=true",
    )  # fmt: skip
    [instance] = terminal.read("instances", "list", "--filter=labels.goldsmith-build=b-1")
    assert (instance["name"], instance["status"]) == ("vm-1", "RUNNING")
    [disk] = terminal.read("disks", "list")
    assert (disk["name"], disk["sizeGb"], disk["status"]) == ("vm-1", "1", "READY")
    assert "RUNNING" in terminal.say("instances", "describe", "vm-1", f"--zone={ZONE}")
    assert terminal.say("instances", "get-serial-port-output", "vm-1", f"--zone={ZONE}").startswith("goldsmith: ")
    assert (
        terminal.run("instances", "describe", "vm-2", f"--zone={ZONE}")
        .stderr.strip()
        .endswith(f"The resource 'projects/{PROJECT}/zones/{ZONE}/instances/vm-2' was not found")
    )


def publish(terminal: Terminal) -> None:
    terminal.say("instances", "stop", "vm-1", f"--zone={ZONE}")
    terminal.say("images", "create", "hello-2", "--source-disk=vm-1", f"--source-disk-zone={ZONE}", "--family=hello")
    terminal.say("images", "add-labels", "hello-2", "--labels=team=infra")
    terminal.say("images", "deprecate", IDLE, "--state=DEPRECATED", "--replacement=hello-2")
    image = terminal.read("images", "describe-from-family", "hello")
    assert (image["name"], image["labels"], image["status"]) == ("hello-2", {"team": "infra"}, "READY")
    assert terminal.read("images", "describe", IDLE)["deprecated"]["state"] == "DEPRECATED"
    active = terminal.read("images", "list", "--no-standard-images", "--filter=family=hello")
    assert [found["name"] for found in active] == ["hello-2"]
    every = terminal.read("images", "list", "--show-deprecated")  # asks twenty projects at once
    assert {found["name"] for found in every} == {IDLE, "hello-2"}


def use(terminal: Terminal) -> None:
    """A template and a group of an image; what the adapter says of such is in tests/shared/gcp/compute/."""
    image = f"projects/{PROJECT}/global/images/hello-2"
    terminal.say("instance-templates", "create", "web", "--machine-type=e2-small", f"--image={image}")
    [template] = terminal.read("instance-templates", "list")
    assert template["properties"]["disks"][0]["initializeParams"]["sourceImage"].endswith(image)
    refused = terminal.run("instance-templates", "delete", "other")
    assert "instanceTemplates/other' was not found" in refused.stderr
    terminal.say("instance-templates", "delete", "web")
    assert terminal.read("instance-templates", "list") == []


def clean_up(terminal: Terminal) -> None:
    terminal.say("instances", "delete", "vm-1", f"--zone={ZONE}")
    assert terminal.read("instances", "list") == []
    assert terminal.read("disks", "list") == []
    kinds = [operation["operationType"] for operation in terminal.read("operations", "list")]
    assert sorted(kinds) == ["delete", "delete", "deprecate", "insert", "insert", "insert", "setLabels", "stop"]
