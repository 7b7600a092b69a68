"""disk-image-create on the command line: converted to specs that are good, or told what is wrong with it."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.goldsmith.command_line import Commands
from tests.provisioner.elements.element_folders import ORIGINAL, element

LISTED = """\
- imagename: first
  elements: [system, app]
  image-size: 3
- imagename: second
  elements: [system]
- types: [raw, tar]
"""


@pytest.fixture
def elements(tmp_path: Path) -> Path:
    folder = tmp_path / "work" / "elements"
    element(folder, "app", {"install.d/50-app": "#!/bin/sh\n"})
    element(folder, "system", provides="operating-system")
    element(folder, "base")
    return folder


def test_a_command_line_comes_to_a_good_spec(run: Commands, elements: Path, tmp_path: Path) -> None:
    words = "disk-image-create -o out/My.Image -t qcow2,raw --image-size 2.5 -p curl vm debian-minimal"
    done = run("convert", "--path", elements, "--path", ORIGINAL, "-o", tmp_path / "specs", "--", *shlex.split(words))
    assert (done.status, done.err) == (0, "")
    spec = tmp_path / "specs" / "my-image.yaml"
    assert done.out == f"{spec}\n"
    assert run("validate", spec).out == f"{spec}: good: my-image, 1 step\n"
    text = spec.read_text()
    assert "# The disk is that of block-device-mbr/block-device-default.yaml.\n" in text
    assert 'context: "../work/elements"\n' in text
    assert "    elements: [base, vm, debian-minimal]\n" in text
    assert 'opts: "-i 4096 -J size=64"' in text


def test_a_file_that_a_variable_names_is_one_of_the_context(run: Commands, elements: Path, tmp_path: Path) -> None:
    """Scripts of elements see no other files of this machine."""
    keys, other = elements / "keys" / "ann.pub", element(tmp_path / "more", "more") / "list"
    for file in (keys, other, tmp_path / "far.pub"):
        file.parent.mkdir(exist_ok=True)
        file.write_text("of this machine")
    line = f"DIB_DEV_USER_AUTHORIZED_KEYS={keys} DIB_APT_SOURCES={other} DIB_DEV_USER_SHELL=/bin/sh disk-image-create"
    script = tmp_path / "build.sh"
    script.write_text(f"{line} -o my-image system\n")
    path = ("--path", elements, "--path", tmp_path / "more")
    done = run("convert", script, *path, "--output", tmp_path / "specs")
    assert (done.status, done.err) == (0, "")
    text = Path(done.out.strip()).read_text().replace('"', "")
    assert "DIB_DEV_USER_AUTHORIZED_KEYS: keys/ann.pub\n" in text
    assert "DIB_APT_SOURCES: .goldsmith-outside/up/up/more/more/list\n" in text
    assert "DIB_DEV_USER_SHELL: /bin/sh\n" in text
    script.write_text(script.read_text().replace(str(keys), str(tmp_path / "far.pub")))
    done = run("convert", script, *path, "--output", tmp_path / "none")
    assert done.status == 2
    assert "DIB_DEV_USER_AUTHORIZED_KEYS: " in done.err
    assert "machine, which scripts do not see; copy it into '../work/elements'" in done.err
    assert not (tmp_path / "none").exists()


def test_a_list_comes_to_a_spec_for_each_image(run: Commands, elements: Path, tmp_path: Path) -> None:
    file = tmp_path / "images.yaml"
    file.write_text(LISTED)
    done = run("convert", file, "--path", elements, "--output", tmp_path / "specs")
    assert (done.status, done.err) == (0, "")
    names = done.out.splitlines()
    assert [Path(name).name for name in names] == ["first.yaml", "second.yaml"]
    assert all(run("validate", name).status == 0 for name in names)
    assert "formats: [raw, tar]" in Path(names[1]).read_text()
    again = run("convert", file, "--path", elements, "--output", tmp_path / "specs")
    assert (again.status, "exists already" in again.err) == (2, True)


def test_a_script_comes_to_a_spec(run: Commands, elements: Path, tmp_path: Path) -> None:
    file = tmp_path / "build.sh"
    file.write_text(
        f"#!/bin/sh\nset -e\nexport ELEMENTS_PATH={elements} DIB_A='${{b}}'\nDIB_TOKEN=x disk-image-create system\n"
    )
    file.write_text(file.read_text().replace("'${b}'", "'$(b)'"))
    done = run("convert", file)
    assert (done.status, done.err) == (
        0,
        "goldsmith: DIB_TOKEN: its value is in the spec as it is; keep the file from others\n",
    )
    (tmp_path / "image.yaml").write_text(done.out)
    assert 'DIB_A: "$(b)"' in done.out


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["disk-image-create", "-o", "x"], "command line:1:1: disk-image-create: names no element"),
        (["disk-image-create", "-t", "qcow", "app"], "command line:1:19: -t: 'qcow' is no type; did you mean qcow2?"),
        (["disk-image-create", "-n", "app"], "none of app provides operating-system; add one that does: centos"),
        (["ramdisk-image-create", "system"], "makes a kernel and an initrd, and no image"),
        (["a", "b"], "convert takes one file, or a command: goldsmith convert -- disk-image-create -o NAME ..."),
    ],
)
def test_what_is_wrong_is_told(run: Commands, elements: Path, words: list[str], problem: str) -> None:
    done = run("convert", "--path", elements, "--path", ORIGINAL, "--", *words)
    assert (done.status, done.out) == (2, "")
    assert problem in done.err
    if words[0] == "disk-image-create":
        built = run("dib", "--path", elements, "--path", ORIGINAL, *words[1:])
        assert (built.status, built.out) == (2, "")
        assert problem.partition(": ")[2] in built.err.replace("goldsmith dib: names", "disk-image-create: names")


def test_images_that_would_be_one_spec_are_told(run: Commands, elements: Path, tmp_path: Path) -> None:
    file = tmp_path / "images.yaml"
    file.write_text("- imagename: a/x\n  elements: [system]\n- imagename: b/x\n  elements: [system]\n")
    done = run("convert", file, "--path", elements)
    assert done.status == 2
    assert f"{file}:3:3: [1].imagename: b/x and a/x would both be the spec x; choose another name" in done.err


def test_options_of_workflows_are_refused(run: Commands, elements: Path) -> None:
    done = run("convert", "--set", "A=b", "--path", elements, "--", "disk-image-create", "system")
    assert (done.status, done.out) == (2, "")
    assert "--set goes with a Cloud Build workflow" in done.err


def test_dib_prints_its_options(run: Commands) -> None:
    done = run("dib")
    assert (done.status, done.err) == (0, "")
    assert "\n  --image-size IMAGE-SIZE\n" in done.out
    for word in ("-h", "--help"):
        assert run("dib", word).out == done.out
