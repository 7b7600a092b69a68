"""Run the steps of workflows, as their service does: those of GitHub Actions, and those of Cloud Build."""

from __future__ import annotations

import re
from typing import Any

import yaml

from tests.docs.reader import Reader

ONLY_THERE = {
    "install": "it installs the wheel, which tests/system/test_installed.py does",
    "deploy": "it makes what Terraform plans in a project",
}


def run_workflow(text: str, reader: Reader, project: str) -> str:
    """Run all steps of a workflow but those of ONLY_THERE and actions of others; return what they pass on."""
    document: dict[str, Any] = yaml.safe_load(text)
    if "jobs" in document:
        [job] = document["jobs"].values()
        return _on_github(job["steps"], reader, {**document["env"], "PROJECT": project})
    return _on_cloud_build(document["steps"], reader, project)


def _on_github(steps: list[dict[str, Any]], reader: Reader, environment: dict[str, str]) -> str:
    outputs: dict[str, str] = {}
    file = reader.folder / "outputs"
    for step in steps:
        if "uses" in step or step["name"] in ONLY_THERE:
            continue
        file.write_text("")
        given = {
            name: re.sub(r"\$\{\{ *(.*?) *\}\}", lambda m: outputs[m[1]], v) for name, v in step.get("env", {}).items()
        }
        beside = Reader(reader.folder, {**reader.environment, **environment, **given, "GITHUB_OUTPUT": str(file)})
        beside.run(step["run"])
        for line in file.read_text().splitlines():
            name, _, value = line.partition("=")
            outputs[f"steps.{step['id']}.outputs.{name}"] = value
    return "\n".join(outputs.values())


def _on_cloud_build(steps: list[dict[str, Any]], reader: Reader, project: str) -> str:
    for step in steps:
        if step["id"] not in ONLY_THERE:
            [_options, script] = step["args"]
            replaced = re.sub(r"\$\$|\$PROJECT_ID", lambda found: "$" if found[0] == "$$" else project, script)
            reader.run(replaced)
    return (reader.folder / "image-name").read_text()
