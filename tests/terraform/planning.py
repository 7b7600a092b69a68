"""Runs Terraform against the schema providers: its verdict on a module, and its whole plan as values."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.terraform.configuration import MODULE, SCHEMA
from tests.terraform.schema_provider import serving

Values = Mapping[str, Any]

MISSING = (
    "there is no terraform on the PATH, and terraform/ cannot be checked without it; Debian has no package of it: take "
    "1.11 or newer from https://developer.hashicorp.com/terraform/install"
)


@dataclass(frozen=True)
class Resource:
    """One instance of a resource or data source, with its planned arguments; `key` is that of its for_each."""

    type: str
    name: str
    key: str
    values: Values


@dataclass(frozen=True)
class Plan:
    """All that would be made, what is known only after the apply as `<TYPE NAME ATTRIBUTE>`."""

    resources: Sequence[Resource]
    data: Sequence[Resource]

    def of(self, kind: str, name: str | None = None) -> dict[str, Values]:
        """Return the values of a type's resources by their keys; those without a key, by name."""
        return {r.key or r.name: r.values for r in self.resources if r.type == kind and name in (None, r.name)}

    def all(self, kind: str) -> list[Values]:
        """Return the values of all resources of a type."""
        return [resource.values for resource in self.resources if resource.type == kind]


def schema() -> dict[str, Any]:
    """Read provider_schema.json."""
    found: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return found


def terraform(
    *arguments: str, folder: Path, scratch: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Terraform on a module; all that it writes is below `scratch`, and it uses no network."""
    assert shutil.which("terraform"), MISSING
    return subprocess.run(
        ["terraform", f"-chdir={folder}", *arguments],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(scratch),
            "TF_DATA_DIR": str(scratch / "data"),
            "CHECKPOINT_DISABLE": "1",
            "GOGC": "400",  # its plans are small and many: a third of its time would go into collecting garbage
            **(environment or {}),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def faults(folder: Path, scratch: Path) -> str:
    """Return the faults that Terraform finds in a module, in its own words; "" for none."""
    with serving(schema()) as environment:
        for command in (("init", "-input=false", "-lockfile=readonly"), ("validate",)):
            done = terraform(*command, "-no-color", folder=folder, scratch=scratch, environment=environment)
            if done.returncode:
                return done.stdout + done.stderr
    return ""


def make_plan(variables: Mapping[str, Any], scratch: Path, *, told: bool = True, folder: Path = MODULE) -> Plan:
    """Plan the module with some variables. AssertionError with Terraform's words when it cannot be planned.

    With `told`, what is known after the apply has a text; without, it is unknown, as in a real plan.
    """
    place = scratch / "plan"
    (scratch / "variables.json").write_text(json.dumps(variables))
    options = (
        "-input=false",
        f"-out={place}",
        f"-state={scratch / 'state'}",
        f"-var-file={scratch / 'variables.json'}",
    )
    commands = (("init", "-input=false", "-lockfile=readonly"), ("plan", *options), ("show", "-json", str(place)))
    shown = ""
    with serving(schema(), told=told) as environment:
        for command in commands:
            done = terraform(*command, "-no-color", folder=folder, scratch=scratch, environment=environment)
            assert done.returncode == 0, done.stdout + done.stderr
            shown = done.stdout
    document = json.loads(shown)
    return Plan(
        resources=_resources(document["planned_values"]),
        data=_resources(document["prior_state"]["values"]),
    )


def days_kept(plan: Plan) -> dict[str, int]:
    """Read after how many days objects are deleted, by their prefix."""
    rules = plan.of("google_storage_bucket")["bucket"]["lifecycle_rule"]
    return {
        prefix: condition["age"]
        for rule in rules
        for condition in rule["condition"]
        for prefix in condition["matches_prefix"] or ()
    }


def _resources(values: Values) -> list[Resource]:
    return [
        Resource(found["type"], found["name"], str(found.get("index", "")), found["values"])
        for found in values["root_module"].get("resources", ())
    ]
