"""Bad input, and a host that lacks something: one clear message, the right exit status, and nothing left behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.clock import SystemClock
from shared.images.catalogue import Catalogue
from tests.shared.disks.small_disks import os_tree, rooted, tool
from tests.system.command import Done, Goldsmith
from tests.system.small_disk import small_disk

BAD_INPUT, ENVIRONMENT = 2, 3

GOOD = """\
name: hello
source: {project: local, family: small}
context: context
steps:
  - name: greet
    action: run-script
    inputs: {script: greet.sh}
"""

SPECS = {
    "empty": ("", "build.yaml:1:1: spec: is empty"),
    "not YAML": ("name: [hello\n", "build.yaml:2:1:"),
    "not text": ("name: \x00\n", "build.yaml:"),
    "a list": ("- hello\n", "build.yaml:1:1:"),
    "wrong types": (GOOD.replace("name: hello", "name: [hello]"), "build.yaml:1:1: name: "),
    "an unknown key": (GOOD + "ouput: {family: hello}\n", "ouput: unknown key; did you mean output?"),
    "two sources": (
        GOOD.replace("family: small", "family: small, image: other"),
        "source: names its image in 2 ways (image, family); keep one of them",
    ),
    "an unknown action": (GOOD.replace("run-script", "run-scrip"), "is no action; did you mean run-script?"),
    "a bad name": (GOOD.replace("name: hello", "name: Hello_World", 1), "build.yaml:1:1: name: "),
    "no such script": (GOOD.replace("greet.sh", "meet.sh"), "meet.sh"),
    "no such context": (GOOD.replace("context: context", "context: contexts"), "contexts"),
    "a script outside": (GOOD.replace("greet.sh", "../build.yaml"), "is not a path inside the context"),
    "a parameter that is not given": (GOOD + "description: ${what}\n", "what"),
    "an unknown family": (
        GOOD.replace("small", "large"),
        "project local has no active image in family large; it has small",
    ),
    "an unknown image": (
        GOOD.replace("family: small", "image: large"),
        "project local has no image large; it has small-1",
    ),
    "another project": (
        GOOD.replace("project: local", "project: debian-cloud"),
        "project debian-cloud is on Google Cloud",
    ),
}
"""Specs with a mistake, and a part of the message."""


@pytest.fixture
def goldsmith(bare_goldsmith: Goldsmith) -> Goldsmith:
    """A home with one small image of family small, which cannot boot."""
    disk = rooted(bare_goldsmith.folder / "small.raw", os_tree(bare_goldsmith.folder / "tree"))
    Catalogue(bare_goldsmith.home, SystemClock()).add(disk, "small-1", transfer="move", family="small")
    return bare_goldsmith


def write_spec(goldsmith: Goldsmith, text: str = GOOD) -> Path:
    folder = goldsmith.folder / "spec"
    (folder / "context").mkdir(parents=True)
    (folder / "context" / "greet.sh").write_text("echo hello\n")
    (folder / "build.yaml").write_text(text)
    return folder / "build.yaml"


def assert_refused(goldsmith: Goldsmith, done: Done, status: int, *parts: str) -> None:
    assert done.status == status, done.text
    assert "Traceback" not in done.err
    for part in parts:
        assert part in done.err
    assert_nothing_left(goldsmith)


def assert_nothing_left(goldsmith: Goldsmith) -> None:
    builds = goldsmith.home / "builds"
    assert not builds.exists() or list(builds.iterdir()) == []
    assert not goldsmith.output.exists() or list(goldsmith.output.iterdir()) == []
    goldsmith.traces.assert_none()


@pytest.mark.parametrize(("text", "said"), SPECS.values(), ids=SPECS)
def test_a_bad_spec_is_refused(goldsmith: Goldsmith, text: str, said: str) -> None:
    spec = write_spec(goldsmith, text)
    done = goldsmith.run("build", spec, "--output", goldsmith.output)
    assert_refused(goldsmith, done, BAD_INPUT, said)
    assert len(done.err.splitlines()) == 1


def test_all_problems_of_a_spec_are_told_at_once(goldsmith: Goldsmith) -> None:
    spec = write_spec(goldsmith, GOOD.replace("name: hello", "name: Hello") + "ouput: {}\nrebuild: never\n")
    done = goldsmith.run("build", spec)
    assert_refused(goldsmith, done, BAD_INPUT, ":1:1: name: ", ":8:1: ouput: ", ":9:1: rebuild: ")
    assert len(done.err.splitlines()) == 3


def test_a_missing_spec_is_refused(goldsmith: Goldsmith) -> None:
    missing = goldsmith.folder / "missing.yaml"
    assert_refused(goldsmith, goldsmith.run("build", missing), BAD_INPUT, str(missing))


def test_a_folder_is_no_spec(goldsmith: Goldsmith) -> None:
    assert_refused(goldsmith, goldsmith.run("build", goldsmith.folder), BAD_INPUT, str(goldsmith.folder))


@pytest.mark.parametrize("target", ["../../secret", "/etc/hostname"])
def test_a_context_whose_links_lead_out_is_refused(goldsmith: Goldsmith, target: str) -> None:
    spec = write_spec(goldsmith)
    (goldsmith.folder / "secret").write_text("secret\n")
    (spec.parent / "context" / "link").symlink_to(target)
    assert_refused(goldsmith, goldsmith.run("build", spec), BAD_INPUT, "link")


def test_a_wrong_option_is_refused(goldsmith: Goldsmith) -> None:
    spec = write_spec(goldsmith)
    done = goldsmith.run("build", spec, "--boot", "floppy")
    assert_refused(goldsmith, done, BAD_INPUT, "--boot floppy: choose direct or firmware")
    assert_refused(goldsmith, goldsmith.run("build", spec, "--set", "nonsense"), BAD_INPUT, "nonsense")
    assert_refused(goldsmith, goldsmith.run("build", spec, "--nonsense"), BAD_INPUT, "--nonsense")


def test_without_qemu_the_package_is_named(goldsmith: Goldsmith) -> None:
    spec = write_spec(goldsmith)
    done = goldsmith.run("build", spec, environment={"PATH": str(goldsmith.folder / "nothing")})
    assert_refused(
        goldsmith, done, ENVIRONMENT, "qemu-system-x86_64 is not installed", "apt-get install qemu-system-x86"
    )
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize("made", ["not a disk", "cut off"])
def test_a_damaged_image_file_is_refused(goldsmith: Goldsmith, made: str) -> None:
    file = goldsmith.folder / "image.raw"
    whole = (goldsmith.home / "images" / "small-1" / "disk.raw").read_bytes()
    file.write_bytes(b"nonsense\n" * 1000 if made == "not a disk" else whole[: len(whole) // 2])
    assert_refused(goldsmith, goldsmith.run("images", "import", file), BAD_INPUT, str(file))
    spec = write_spec(goldsmith, GOOD.replace("{project: local, family: small}", f"{{file: {file}}}"))
    assert_refused(goldsmith, goldsmith.run("build", spec), BAD_INPUT, str(file))
    assert [image["name"] for image in json.loads(goldsmith.run("images", "list", "--json").out)] == ["small-1"]


def test_a_truncated_archive_is_refused(goldsmith: Goldsmith) -> None:
    assert goldsmith.run("images", "export", "small-1", "--output", goldsmith.folder / "whole").status == 0
    whole = (goldsmith.folder / "whole" / "small-1.tar.gz").read_bytes()
    file = goldsmith.folder / "short.tar.gz"
    file.write_bytes(whole[: len(whole) // 2])
    assert_refused(goldsmith, goldsmith.run("images", "import", file), BAD_INPUT, str(file))


def test_an_archive_that_is_there_is_not_replaced(goldsmith: Goldsmith) -> None:
    spec = write_spec(goldsmith, GOOD + "output: {name: hello-1}\n")
    goldsmith.output.mkdir()
    there = goldsmith.output / "hello-1.tar.gz"
    there.write_text("precious")
    done = goldsmith.run("build", spec, "--output", goldsmith.output)
    assert done.status == BAD_INPUT, done.text
    assert f"{there} exists already" in done.err
    assert there.read_text() == "precious"
    there.unlink()
    assert_nothing_left(goldsmith)


def test_an_output_folder_that_is_a_file_is_refused(goldsmith: Goldsmith) -> None:
    spec = write_spec(goldsmith)
    file = goldsmith.folder / "file"
    file.write_text("")
    done = goldsmith.run("build", spec, "--output", file)
    assert_refused(goldsmith, done, ENVIRONMENT, f"{file} is not a folder")


def test_an_output_folder_that_cannot_be_written_to_is_refused(goldsmith: Goldsmith) -> None:
    """/proc takes no files, not even from root."""
    done = goldsmith.run("build", write_spec(goldsmith), "--output", "/proc/images")
    assert_refused(goldsmith, done, ENVIRONMENT, "/proc")
    assert len(done.err.splitlines()) == 1


def test_a_read_only_output_folder_is_refused(goldsmith: Goldsmith) -> None:
    spec = write_spec(goldsmith)
    with small_disk(goldsmith.output, "1m") as place:
        tool(*place.enter, "mount", "-o", "remount,ro", place.path)
        with Goldsmith(goldsmith.home, goldsmith.folder, place) as inside:
            done = inside.run("build", spec, "--output", place.path / "below")
            assert_refused(inside, done, ENVIRONMENT, f"{place.path}: you may not write there")


@pytest.mark.parametrize("command", [["builds", "list"], ["images", "list"], ["sweep"]])
def test_a_home_that_cannot_be_written_to_is_refused(goldsmith: Goldsmith, command: list[str]) -> None:
    done = goldsmith.run(*command, environment={"GOLDSMITH_HOME": "/proc/goldsmith"})
    assert_refused(goldsmith, done, ENVIRONMENT, "/proc")


@pytest.mark.parametrize("command", [["builds", "show"], ["builds", "logs"], ["builds", "cancel"]])
def test_a_build_that_is_not_there_is_refused(goldsmith: Goldsmith, command: list[str]) -> None:
    done = goldsmith.run(*command, "hello-0123")
    assert_refused(goldsmith, done, BAD_INPUT, "there is no build 'hello-0123'")


@pytest.mark.parametrize("command", [["images", "show"], ["images", "delete"]])
def test_an_image_that_is_not_there_is_refused(goldsmith: Goldsmith, command: list[str]) -> None:
    assert_refused(goldsmith, goldsmith.run(*command, "hello-1"), BAD_INPUT, "there is no image hello-1")


def test_a_state_that_is_no_database_is_told(goldsmith: Goldsmith) -> None:
    (goldsmith.home / "state.db").write_bytes(b"nonsense\n" * 1000)
    done = goldsmith.run("builds", "list")
    assert done.status in (1, ENVIRONMENT), done.text
    assert "state.db" in done.err
    assert "Traceback" not in done.text
