"""docs/deployment.md tells how to upgrade from release 8d52f8c: with `-target`s that Terraform takes, and new rights.

release_8d52f8c.json has what that release's terraform/ was: `plain`, the resources without count or for_each, and
`access`, each function's permissions and prefixes of the bucket.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.terraform.configuration import read_configuration
from tests.terraform.planning import Plan
from tests.terraform.test_pages import PAGE, section

RELEASE: Mapping[str, Any] = json.loads(Path(__file__).with_name("release_8d52f8c.json").read_text(encoding="utf-8"))
ROLES = "google_project_iam_custom_role"
WRITERS = {"advance_build", "expire_builds", "start_build"}


def targets() -> set[str]:
    """Return the addresses in the module that the first step names."""
    return set(re.findall(r"-target='module\.goldsmith\.([^']+)'", section("Deploy a new version")))


def added(plan: Plan, role: str) -> dict[str, set[str]]:
    """Return the permissions that a role of each function has now and had not, by function."""
    new = {
        function: set(values["permissions"]) - set(RELEASE["access"][function][role])
        for function, values in plan.of(ROLES, role).items()
        if function in RELEASE["access"]  # else it is new, and nothing waits for it
    }
    return {function: permissions for function, permissions in new.items() if permissions}


def test_what_has_moved_since_is_a_target() -> None:
    """Terraform refuses other targets: "Moved resource instances excluded by targeting"."""
    counted = {block.address for block in read_configuration().of_kind("resource") if _counted(block.body)}
    moved = counted & set(RELEASE["plain"])
    assert moved, "the release's plain resources are none of ours"
    assert moved <= targets()


def _counted(body: Mapping[str, Any]) -> bool:
    return "count" in body or "for_each" in body


def test_functions_that_write_builds_are_replaced_with_their_new_rights(plan: Plan) -> None:
    named = targets()
    assert {f'google_cloudfunctions2_function.function["{function}"]' for function in WRITERS} <= named
    rights = {f'{ROLES}.{role}["{function}"]' for role in ("builds", "images") for function in added(plan, role)} | {
        f'google_project_iam_member.{role}["{function}"]'
        for role in ("builds", "images")
        for function in added(plan, role)
        if not RELEASE["access"][function][role]
    }
    rights |= {
        f'google_storage_bucket_iam_member.objects["{key}"]'
        for key in plan.of("google_storage_bucket_iam_member", "objects")
        for function, _, prefix in [key.partition(" ")]
        if function in WRITERS and prefix not in RELEASE["access"][function]["objects"]
    }
    assert {right for right in rights if any(f'["{function}' in right for function in WRITERS)} <= named


def test_targets_are_there(plan: Plan) -> None:
    """A target that Terraform does not know is none, without a word."""
    addresses = {f"{found.type}.{found.name}" for found in plan.resources}
    addresses |= {f'{found.type}.{found.name}["{found.key}"]' for found in plan.resources if found.key}
    addresses |= {block.address for block in read_configuration().of_kind("resource")}
    assert targets() <= addresses


def test_rights_to_add_in_other_projects_are_told(plan: Plan) -> None:
    told: dict[str, dict[str, set[str]]] = {"builds": {}, "images": {}}
    listed = PAGE.partition("add what is new in these roles:\n\n")[2].partition("\n\n")[0]
    for entry in listed.removeprefix("- ").split("\n- "):
        name, _, rights = entry.partition(": ")
        builds, _, images = rights.partition("images: ")
        for role, text in (("builds", builds), ("images", images)):
            if found := set(re.findall(r"`([\w.]+)`", text)):
                told[role][name.strip("`")] = found
    assert told == {role: added(plan, role) for role in ("builds", "images")}
