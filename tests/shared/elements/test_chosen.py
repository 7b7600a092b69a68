"""A list of names becomes elements that fit together, or all that is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.elements.hooks import HOOK_PHASES
from shared.elements.chosen import choose, is_in_target, tree_document
from shared.errors import InputError
from tests.provisioner.elements.element_folders import ORIGINAL, element

SCRIPT = "#!/bin/sh\n"


def test_tree_says_where_each_hook_comes_from(tmp_path: Path) -> None:
    site, original = tmp_path / "site", tmp_path / "original"
    element(site, "base", {"root.d/10-base": SCRIPT})
    element(original, "base", {"root.d/10-base": SCRIPT})
    element(original, "os", {"root.d/20-os": SCRIPT}, provides="operating-system")
    element(site, "unused")
    element(original, "unused")
    files = {
        "install.d/10-app": SCRIPT,
        "install.d/x.conf": "",
        "environment.d/10-app.bash-": "",
        "source-repository-x": "",
    }
    app = element(site, "app", files, needs="base")
    element(site, "more", {"source-repository-x": "", "finalise.d/50-more": SCRIPT})
    found = tree_document(choose(["app", "os", "more"], [str(site), str(original)], on_image=False))
    assert [(each["name"], each["asked"], each["needed_by"], each["provides"]) for each in found["elements"]] == [
        ("base", False, ["app"], []),
        ("app", True, [], []),
        ("os", True, [], ["operating-system"]),
        ("more", True, [], []),
    ]
    assert {phase: [hook["element"] for hook in hooks] for phase, hooks in found["phases"].items() if hooks} == {
        "root.d": ["base", "os"],
        "install.d": ["app"],
        "finalise.d": ["more"],
    }
    path = str(app / "environment.d" / "10-app.bash")
    assert found["environment"] == [{"name": "10-app.bash", "element": "app", "path": path}]
    [skipped] = found["skipped"]
    assert (skipped["phase"], skipped["name"], skipped["reason"]) == ("install.d", "x.conf", "its name has a dot")
    assert found["overrides"] == [
        {"element": "base", "folder": str(site / "base"), "instead_of": str(original / "base")}
    ]
    assert found["hidden"] == [{"name": "source-repository-x", "element": "more", "instead_of": "app"}]
    assert found["not_run"] == []


def test_an_image_is_the_operating_system_and_needs_no_root(tmp_path: Path) -> None:
    element(tmp_path, "app", {"root.d/10-x": SCRIPT})
    assert tree_document(choose(["app"], [str(tmp_path)], on_image=True))["not_run"] == ["root.d"]
    with pytest.raises(InputError, match="none of app provides operating-system"):
        choose(["app"], [str(tmp_path)], on_image=False)


def test_hooks_and_documents_are_told_together(tmp_path: Path) -> None:
    for name in "ab":
        element(tmp_path, name, {"install.d/10-x": SCRIPT, "svc-map": "ssh: 1\n"})
    with pytest.raises(InputError) as caught:
        choose(["a", "b"], [str(tmp_path)], on_image=True)
    assert [line.replace(f"{tmp_path}/", "").split(":")[0] for line in str(caught.value).splitlines()] == [
        "b/install.d/10-x",
        "a/svc-map",
        "b/svc-map",
    ]


def test_phases_of_the_image() -> None:
    in_target = [phase for phase in HOOK_PHASES if is_in_target(phase)]
    assert in_target == ["pre-install.d", "install.d", "post-install.d", "finalise.d"]


def test_original_elements_fit_together() -> None:
    names = [
        "debian-minimal",
        "vm",
        "block-device-gpt",
        "openssh-server",
        "runtime-ssh-host-keys",
        "devuser",
        "growroot",
    ]
    found = tree_document(choose(names, [str(ORIGINAL)], on_image=False))
    assert [hook["name"] for hook in found["phases"]["root.d"]][:2] == ["08-debootstrap", "09-apt-keyring"]
    assert sum(map(len, found["phases"].values())) > 40
