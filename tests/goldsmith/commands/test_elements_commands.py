"""goldsmith elements tree and explain, as a person and a program see them; bad input is exit status 2."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from tests.goldsmith.command_line import Commands
from tests.provisioner.elements.element_folders import ORIGINAL, element

SCRIPT = "#!/bin/sh\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "elements"
    files = {
        "install.d/50-app": SCRIPT,
        "install.d/app.service": "",
        "install.d/60-off-": "",
        "environment.d/10-app-": "",
    }
    element(folder, "app", files, needs="base")
    element(
        folder,
        "base",
        {"pre-install.d/10-base": SCRIPT, "README.rst": "Every machine has it.\n", "root.d/5-base": SCRIPT},
    )
    element(tmp_path / "other", "base")
    return folder


def test_tree_of_hooks(run: Commands, folder: Path) -> None:
    """Mended: diskimage-builder does not show which element a script comes from."""
    done = run(
        "elements", "tree", "--elements", "app", "--path", folder, "--path", folder.parent / "other", "--on-image"
    )
    assert (done.status, done.err) == (
        0,
        "goldsmith: 2 files beside the hooks will not run; -v lists them, and says why\n",
    )
    assert done.out.replace(str(folder.parent), "") == (
        "element  why            folder\n"
        "base     needed by app  /elements/base\n"
        "app      asked for      /elements/app\n"
        "\nenvironment.d, read before each phase\n  10-app  app\n"
        "\nroot.d, which does not run: the image is there\n  5-base  base\n"
        "\npre-install.d, in the image\n  10-base  base\n"
        "\ninstall.d, in the image\n  50-app  app\n"
        "\noverrides\n  base: /elements/base instead of /other/base\n"
    )


def test_tree_shows_what_does_not_run(run: Commands, folder: Path) -> None:
    done = run("elements", "tree", "--elements", "app,base", "--path", folder, "--on-image", "-v")
    assert (done.status, done.err) == (0, "")
    assert (
        "  50-app       app\n- 60-off       app: is not executable\n- app.service  app: its name has a dot\n"
        in done.out
    )


def test_tree_for_programs(run: Commands, folder: Path) -> None:
    done = run("elements", "tree", "--elements", "app", "--path", folder, "--on-image", "--json")
    found = done.document()
    assert (done.status, done.err) == (0, "")
    assert [each["name"] for each in found["elements"]] == ["base", "app"]
    assert found["phases"]["install.d"] == [
        {"element": "app", "name": "50-app", "path": str(folder / "app" / "install.d" / "50-app")}
    ]
    assert [each["reason"] for each in found["skipped"]] == ["is not executable", "its name has a dot"]


SPEC = """\
name: my
parameters: {app: app}
source: {project: local, family: debian-12}
context: .
steps:
  - name: first
    action: elements
    inputs: {elements: ["${app}"], path: [elements, other]}
  - name: greet
    action: run-script
    inputs: {script: elements/app/install.d/50-app}
output: {name: my}
"""


def test_tree_of_a_spec(run: Commands, folder: Path) -> None:
    spec = folder.parent / "build.yaml"
    spec.write_text(SPEC)
    done = run("elements", "tree", spec, "--json")
    found = done.document()
    assert (done.status, found["step"], found["not_run"]) == (0, "first", ["root.d"])
    assert [each["name"] for each in found["elements"]] == ["base", "app"]
    assert [each["instead_of"] for each in found["overrides"]] == [str(folder.parent / "other" / "base")]
    other = run("elements", "tree", spec, "--set", "app=base", "--json").document()
    assert [each["name"] for each in other["elements"]] == ["base"]
    assert run("elements", "tree", spec).out.startswith("element  why            folder\n")


def test_tree_of_a_spec_with_several_steps(run: Commands, folder: Path) -> None:
    again = "  - {name: second, action: elements, inputs: {elements: [base], path: [elements]}}\n"
    spec = folder.parent / "build.yaml"
    spec.write_text(SPEC.replace("  - name: greet\n", again + "  - name: greet\n"))
    done = run("elements", "tree", spec)
    assert (done.status, done.out.count("step first\n"), done.out.count("\nstep second\n")) == (0, 1, 1)
    assert [each["step"] for each in run("elements", "tree", spec, "--json").document()] == ["first", "second"]


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ('["${app}"]', "[ap, basis]", "step first: elements: there is no element ap in "),
        ("action: elements\n", "action: element\n", "did you mean elements?"),
        ("context: .", "context: packed.tar", "is no folder; unpack it, and use --elements and --path"),
        ("name: my\n", "", "build.yaml:1:1: name: is missing"),
    ],
)
def test_bad_spec_is_told(run: Commands, folder: Path, before: str, after: str, told: str) -> None:
    spec = folder.parent / "build.yaml"
    spec.write_text(SPEC.replace(before, after, 1))
    with tarfile.open(folder.parent / "packed.tar", "w") as archive:
        for name in ("elements", "other"):
            archive.add(folder.parent / name, name)
    done = run("elements", "tree", spec)
    assert (done.status, done.out) == (2, "")
    assert told in done.err


def test_spec_without_elements_is_told(run: Commands, folder: Path) -> None:
    spec = folder.parent / "build.yaml"
    spec.write_text(SPEC[: SPEC.index("  - name: first")] + SPEC[SPEC.index("  - name: greet") :])
    done = run("elements", "tree", spec)
    assert (done.status, done.out) == (2, "")
    assert "build.yaml: no step has the action elements; --elements NAME,... shows elements without a spec" in done.err


@pytest.mark.parametrize("words", [[], ["build.yaml", "--elements", "app"], ["build.yaml", "--on-image"]])
def test_spec_and_elements_are_alternatives(run: Commands, words: list[str]) -> None:
    done = run("elements", "tree", *words)
    assert (done.status, done.out) == (2, "")
    assert "SPEC" in done.err


def test_explanation(run: Commands, folder: Path) -> None:
    done = run("elements", "explain", "base", "--path", folder)
    assert (done.status, done.err) == (0, "")
    assert done.out.replace(str(folder.parent), "") == (
        "base: Every machine has it.\n\n"
        "folder:        /elements/base\n"
        "needed by:     app\n"
        "root.d:        5-base\n"
        "pre-install.d: 10-base\n"
    )
    assert run("elements", "explain", "base", "--path", folder, "--json").document()["needed_by"] == ["app"]


def test_explanation_of_an_original_element(run: Commands) -> None:
    done = run("elements", "explain", "devuser", "--path", ORIGINAL)
    assert done.status == 0
    assert "DIB_DEV_USER_USERNAME = devuser: exported by environment.d/50-devuser;" in done.out


def test_explanation_cannot_steer_the_terminal(run: Commands, folder: Path) -> None:
    element(folder, "bad", {"README": "red\x1b[31m text\n", "install.d/10-\x1b[2J": SCRIPT})
    done = run("elements", "explain", "bad", "--path", folder)
    assert done.status == 0
    assert "\x1b" not in done.out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["tree", "--elements", "ap", "--path", "{}"], "there is no element ap in {}; did you mean app?"),
        (
            ["tree", "--elements", "app", "--path", "{}"],
            "none of app, base provides operating-system; add one that does",
        ),
        (["tree", "--elements", "app", "--path", "{}/app/install.d/50-app"], "50-app: not a directory"),
        (["tree", "--elements", " , ", "--path", "{}"], "--elements: names no element; write names with commas"),
        (["tree", "--elements", "one,two", "--path", "{}", "--on-image"], "server is provided by one already"),
        (["tree", "--elements", "app,twin", "--path", "{}", "--on-image"], "both have install.d/50-app"),
        (
            ["tree", "--elements", "broken", "--path", "{}", "--on-image"],
            "package-installs.yaml:1:14: p.not-arch: stands",
        ),
        (["tree", "--elements", "app"], "elements: no such file or directory; name folders that hold elements"),
        (["explain", "ap", "--path", "{}"], "there is no element 'ap' in {}; did you mean app?"),
        (["explain", "broken", "--path", "{}"], "pkg-map:1:2: sections: is no section of a pkg-map"),
    ],
)
def test_bad_input_is_told(run: Commands, folder: Path, words: list[str], told: str) -> None:
    element(folder, "one", provides="server")
    element(folder, "two", provides="server")
    element(folder, "twin", {"install.d/50-app": SCRIPT})
    element(folder, "broken", {"package-installs.yaml": "p: {arch: a, not-arch: b}\n", "pkg-map": '{"sections": {}}'})
    done = run("elements", *(word.format(folder) for word in words))
    assert (done.status, done.out) == (2, "")
    assert told.format(folder) in done.err
    assert not run.home.exists()
