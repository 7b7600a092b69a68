"""An element is explained by its own files: its README, its lists, its hooks and the variables in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.elements.explanation import SUMMARY_LENGTH, explain_element, exported, readme_summary
from shared.errors import InputError
from tests.provisioner.elements.element_folders import ORIGINAL, element

ENVIRONMENT = """\
# export COMMENTED=1
export APP_USER=${APP_USER:-app}
export APP_GREETING=${APP_GREETING-"hello  world"}; export APP_ONE=1 APP_TWO='a b'
if [ "$DISTRO_NAME" = debian ]; then export APP_DEBIAN; fi
declare -x DIB_RELEASE="${DIB_RELEASE:-stable}"
local_name=x # not for others
"""
SCRIPT = '#!/bin/sh\n[ "${DIB_DEBUG_TRACE:-0}" -gt 0 ] && set -x # DIB_NOT_READ\n'


def test_element_is_explained(tmp_path: Path) -> None:
    files = {
        "README.rst": "===\napp\n===\n\nInstalls the app,\nand its unit.\n\nMore.\n",
        "environment.d/10-app.bash-": ENVIRONMENT,
        "install.d/50-app": SCRIPT,
        "install.d/app.service": "",
        "package-installs.yaml": "app: {when: DIB_APP != 0}\nlib:\n",
        "svc-map": "app: {default: appd}\n",
    }
    element(tmp_path / "one", "app", files, needs="pkg-map base", provides="server")
    element(tmp_path / "two", "app")
    element(tmp_path / "two", "top", needs="app")
    found = explain_element("app", [str(tmp_path / "one"), str(tmp_path / "two")])
    variables = {each["name"]: each for each in found.pop("variables")}
    assert found == {
        "name": "app",
        "folder": str(tmp_path / "one" / "app"),
        "instead_of": [str(tmp_path / "two" / "app")],
        "summary": "Installs the app, and its unit.",
        "dependencies": ["pkg-map", "base"],
        "provides": ["server"],
        "needed_by": ["top"],
        "environment": ["10-app.bash"],
        "phases": {"install.d": ["50-app"]},
        "skipped": [{"phase": "install.d", "name": "app.service", "reason": "its name has a dot"}],
        "packages": ["app", "lib"],
        "services": ["app"],
    }
    assert {name: each["default"] for name, each in variables.items() if each["exports"]} == {
        "APP_DEBIAN": None,
        "APP_GREETING": "hello  world",
        "APP_ONE": "1",
        "APP_TWO": "a b",
        "APP_USER": "app",
        "DIB_RELEASE": "stable",
    }
    assert variables["DISTRO_NAME"]["reads"] == ["environment.d/10-app.bash"]
    assert variables["DIB_DEBUG_TRACE"] == {
        "name": "DIB_DEBUG_TRACE",
        "default": None,
        "exports": [],
        "reads": ["install.d/50-app"],
    }
    assert variables["DIB_APP"]["reads"] == ["package-installs.yaml"]
    assert not {"COMMENTED", "local_name", "DIB_NOT_READ"} & set(variables)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("export A=b", [("A", "b")]),
        ("export A", [("A", None)]),
        ("export A=", [("A", "")]),
        ('export A="${A:-}"', [("A", "")]),
        ("export A=${B:-c}", [("A", "${B:-c}")]),
        ("export A=\"${A:-x y}\" B=$(date +%s) C='it'", [("A", "x y"), ("B", "$(date +%s)"), ("C", "it")]),
        ("  export A=1 # one\n\texport B=2 && export C=3", [("A", "1"), ("B", "2"), ("C", "3")]),
        (
            'export A="${B:-"x y"}" C=${C:-${D}} E="$(f "a b")" F=\\ g',
            [("A", '"${B:-"x y"}"'), ("C", "${D}"), ("E", '"$(f "a b")"'), ("F", "\\ g")],
        ),
        ("if x; then export A=1; fi; { export B=2; } | export C=3", [("A", "1"), ("B", "2"), ("C", "3")]),
        ("echo export A=1\nexported B=2", []),
        ('export A="unclosed', [("A", '"unclosed')]),
    ],
)
def test_exports_of_a_script(text: str, found: list[tuple[str, str | None]]) -> None:
    assert list(exported(text)) == found


@pytest.mark.parametrize(
    ("name", "text", "summary"),
    [
        ("README.rst", "app\n===\nOne line.\n", "One line."),
        ("README.rst", "vm\n==\n\n.. note:: x\n\n====\n\nText *here*.\n", "Text *here*."),
        ("README.rst", "==\nvm\n==\nText.\n", "Text."),
        ("README.md", "# App\n\nText.\n", "Text."),
        ("README", "\n\n  Text\n", "Text"),
        ("README.rst", "a\n===\n", ""),
        ("README.rst", "", ""),
        ("README.rst", "a\0b", ""),
        ("README.rst", "A sentence. " * 100, ("A sentence. " * (SUMMARY_LENGTH // 12)).strip()),
        ("README.rst", "x" * 1000, "x" * (SUMMARY_LENGTH - 4) + " ..."),
        ("other", "Text.", ""),
    ],
)
def test_summary_is_the_first_paragraph(tmp_path: Path, name: str, text: str, summary: str) -> None:
    (tmp_path / name).write_text(text)
    assert readme_summary(str(tmp_path)) == summary


def test_all_original_elements_are_explained() -> None:
    names = sorted(path.parent.name for path in ORIGINAL.glob("*/README.rst"))
    found = {name: explain_element(name, [str(ORIGINAL)]) for name in names}
    assert [name for name, each in found.items() if not each["summary"]] == []
    [release] = [each for each in found["debian-minimal"]["variables"] if each["name"] == "DIB_RELEASE"]
    assert (release["default"], release["exports"]) == ("stable", ["environment.d/10-debian-minimal.bash"])
    assert "dpkg" in found["package-installs"]["needed_by"]
    assert len(found) > 120


def test_unknown_element_is_told(tmp_path: Path) -> None:
    element(tmp_path, "my-app")
    with pytest.raises(InputError) as caught:
        explain_element("my-ap", [str(tmp_path)])
    assert str(caught.value) == f"there is no element 'my-ap' in {tmp_path}; did you mean my-app?"
    with pytest.raises(InputError, match="name its folder with --path"):
        explain_element("other", [str(tmp_path)])


def test_broken_element_is_told(tmp_path: Path) -> None:
    element(tmp_path, "app", {"svc-map": "["})
    with pytest.raises(InputError, match="app/svc-map:2:1: is not YAML"):
        explain_element("app", [str(tmp_path)])
