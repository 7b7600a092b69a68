"""The results of steps, kept from one build for the next: as root and as an ordinary user."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import pytest

from provisioner.protocol import FROM_CACHE
from tests.system.command import Document, Goldsmith, is_event, is_report
from tests.system.sandboxes import ROOT_IN_SOAK, assert_nothing_left, sandboxed

pytestmark = pytest.mark.slow

FIRST = """set -e
cd /opt
mkdir -p kept gone swapped/inner replaced
echo 1 >kept/a; echo 2 >kept/b; echo 3 >gone/c; echo 4 >swapped/inner/d; echo 5 >replaced/e
ln kept/a kept/linked
install -o 33 -g 33 -m 4755 /bin/true set-id
printf x >"$(printf 'not-\\377-utf8')"
truncate -s 20M sparse; printf end | dd of=sparse bs=1 seek=10M conv=notrunc status=none
python3 - <<'END'
import os, struct
os.close(os.open("capable", os.O_CREAT | os.O_WRONLY, 0o755))
os.setxattr("capable", "security.capability", struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0))
os.setxattr("kept", "user.note", b"first")
os.setxattr("kept/b", "system.posix_acl_access", struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry)
    for entry in ((1, 6, 0xFFFFFFFF), (2, 4, 33), (4, 4, 0xFFFFFFFF), (16, 4, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF))
))
END
rm -r /usr/share/doc
echo first >/etc/first
"""
SECOND = """set -e
cd /opt
rm -r gone kept/linked
rm -r swapped; echo file >swapped
rm -r replaced; mkdir replaced; echo new >replaced/f
mkdir gone; echo back >gone/g
chmod 700 kept; chown 33:33 kept/a
rm /etc/first; mkdir -p /usr/share/doc/own; echo doc >/usr/share/doc/own/x
"""
THIRD = "echo third >>/opt/third; cat /opt/swapped\n"


def steps(third: str = THIRD) -> list[Document]:
    own: list[str] = []
    return [
        {"name": "first", "script": FIRST, "reads": own},
        {"name": "second", "script": SECOND, "reads": own},
        {"name": "third", "script": third, "reads": own},
    ]


def notes(build: Document) -> list[bool]:
    """Return which steps were taken from the cache."""
    return [step["note"] == FROM_CACHE for step in build["steps"]]


def planned(goldsmith: Goldsmith, spec: Path) -> list[str]:
    """Return the steps that the plan says will be taken from the cache."""
    done = goldsmith.run("plan", spec, "--json")
    assert done.status == 0, done.text
    cached: list[str] = json.loads(done.out)["cached"]["steps"]
    return cached


def build(goldsmith: Goldsmith, wanted: list[bool], *arguments: str, third: str = THIRD) -> str:
    """Build, as the plan has said; return the name of the image."""
    spec = sandboxed(goldsmith, steps(third), hygiene="warn")
    if not arguments:
        taken = [step["name"] for step, from_cache in zip(steps(third), wanted, strict=True) if from_cache]
        assert planned(goldsmith, spec) == taken
    done, built = goldsmith.build(spec, *arguments)
    assert (done.status, built["outcome"], notes(built)) == (0, "succeeded", wanted), done.text
    return str(built["image"]["name"])


def assert_same(goldsmith: Goldsmith, one: str, other: str) -> None:
    done = goldsmith.run("images", "diff", one, other)
    assert "the images are the same" in done.out, done.text


@pytest.mark.parametrize("user", ROOT_IN_SOAK, indirect=True)
def test_a_build_begins_after_the_steps_that_were_done_before(sandboxes: Goldsmith) -> None:
    """Mended: diskimage-builder begins each run anew, also after a failure."""
    plain = build(sandboxes, [False, False, False], "--no-cache")
    first = build(sandboxes, [False, False, False])
    assert_same(sandboxes, plain, first)
    assert_same(sandboxes, plain, build(sandboxes, [True, True, True]))
    changed = build(sandboxes, [True, True, False], third=THIRD + "echo more >/opt/more\n")
    assert "/opt/more" in sandboxes.run("images", "diff", plain, changed).out
    assert_same(sandboxes, plain, build(sandboxes, [True, False, False], "--from", "second"))
    assert_nothing_left(sandboxes)


@pytest.mark.parametrize("user", ROOT_IN_SOAK, indirect=True)
def test_a_damaged_layer_is_made_again(sandboxes: Goldsmith) -> None:
    whole = build(sandboxes, [False, False, False])
    layers = json.loads(sandboxes.run("cache", "list", "--json").out)
    assert sorted(layer["step"] for layer in layers) == ["first", "second", "third"]
    [second] = [layer["key"] for layer in layers if layer["step"] == "second"]
    path = sandboxes.home / "cache" / "layers" / second / "content" / "opt" / "swapped"
    state = path.stat()
    with path.open("r+b") as file:
        file.truncate(2)
    assert path.stat().st_uid == state.st_uid
    assert_same(sandboxes, whole, build(sandboxes, [True, False, False]))
    build(sandboxes, [True, True, True])
    assert sandboxes.run("cache", "verify").status == 0
    place = sandboxes.home / "cache" / "layers" / second / "content" / "opt" / "swapped"
    with place.open("r+b") as file:
        file.write(b"F")
    done = sandboxes.run("cache", "verify", "--json")
    assert (done.status, json.loads(done.out)) == (1, {"damaged": [second]}), done.text
    assert_same(sandboxes, whole, build(sandboxes, [True, False, False]))


def test_two_builds_that_want_one_layer_leave_one_that_no_other_user_reaches(sandboxes: Goldsmith) -> None:
    """A set-id program in it belongs to an id of the sandbox, and lies where only the builder gets."""
    specs = [
        sandboxed(sandboxes, steps(), hygiene="warn", name=name, output={"name": name}) for name in ("one", "other")
    ]
    both = [sandboxes.start("build", spec, "--json") for spec in specs]
    for done in [running.finish() for running in both]:
        assert done.status == 0, done.text
    assert_same(sandboxes, "one", "other")
    layers = json.loads(sandboxes.run("cache", "list", "--json").out)
    assert sorted(layer["step"] for layer in layers) == ["first", "second", "third"]
    assert sandboxes.run("cache", "verify").out == "all layers are whole\n"
    folder = sandboxes.home / "cache" / "layers"
    [program] = folder.glob("*/content/opt/set-id")
    assert (folder.stat().st_mode & 0o077, program.stat().st_mode & 0o7777) == (0, 0o4755)
    assert program.stat().st_uid not in (0, folder.stat().st_uid)
    assert_nothing_left(sandboxes)


@pytest.mark.parametrize("user", ROOT_IN_SOAK, indirect=True)
def test_layers_go_to_another_machine_in_an_archive(sandboxes: Goldsmith) -> None:
    whole = build(sandboxes, [False, False, False])
    archive = sandboxes.folder / "layers.tar.zst"
    assert sandboxes.run("cache", "export", archive).out.endswith("3 layers\n")
    assert sandboxes.run("cache", "prune").out.startswith("removed 3 layers")
    assert sandboxes.run("cache", "list", "--json").out == "[]\n"
    assert sandboxes.run("cache", "import", archive).out == "added 3 layers\n"
    assert_same(sandboxes, whole, build(sandboxes, [True, True, True]))
    bad = sandboxes.folder / "bad.tar"
    bad.write_text("no archive")
    assert sandboxes.run("cache", "import", bad).status == 2


def test_what_a_step_does_not_name_it_does_not_see(goldsmith: Goldsmith) -> None:
    see = "test ! -e other.txt && test -e data/one.txt && ! test -e data/two.txt && ls >/opt/seen\n"
    spec = sandboxed(
        goldsmith,
        [
            {"name": "narrow", "script": see, "reads": ["data/o*.txt"], "network": False},
            {"name": "wide", "script": "test -e other.txt && test -e data/two.txt && echo left >left\n"},
            {"name": "after", "script": "test -e left\n", "cache": False},
        ],
    )
    context = spec.parent / "context"
    (context / "data").mkdir()
    for name in ("other.txt", "data/one.txt", "data/two.txt"):
        (context / name).write_text(name)
    done, first = goldsmith.build(spec)
    assert (done.status, notes(first)) == (0, [False, False, False]), done.text
    assert notes(goldsmith.build(spec)[1]) == [True, True, True]
    (context / "other.txt").write_text("changed")
    assert notes(goldsmith.build(spec)[1]) == [True, False, False]
    layers = json.loads(goldsmith.run("cache", "list", "--json").out)
    assert sorted(layer["step"] for layer in layers) == ["after", "after", "narrow"]
    (context / "data/one.txt").write_text("changed")
    assert notes(goldsmith.build(spec)[1]) == [False, False, False]


def test_the_wrong_files_and_steps_are_told_before(goldsmith: Goldsmith) -> None:
    spec = sandboxed(goldsmith, [{"name": "one", "script": "true\n", "reads": ["nothing/*.txt"]}])
    done = goldsmith.run("build", spec)
    assert (done.status, "'nothing/*.txt' selects no file" in done.err) == (2, True), done.text
    done = goldsmith.run("build", spec, "--from", "two")
    assert (done.status, "--from two: tiny has no such step; it has one" in done.err) == (2, True), done.text
    assert goldsmith.run("build", spec, "--from", "one", "--no-cache").status == 2
    done = goldsmith.run("build", spec, environment={"GOLDSMITH_CACHE_SIZE": "much"})
    assert (done.status, "GOLDSMITH_CACHE_SIZE" in done.err) == (3, True), done.text
    assert goldsmith.builds() == []


def in_a_vm(goldsmith: Goldsmith, second: str) -> Path:
    """Write a spec whose first step changes data, places that are zeros then, and files of the source."""
    first = "set -e\nhead -c 9999999 /dev/urandom >/opt/gone\nsync\nrm -r /opt/gone /usr/share/doc\necho 1 >/opt/1\n"
    own: list[str] = []
    steps = [{"name": "first", "script": first, "reads": own}, {"name": "second", "script": second, "reads": own}]
    return goldsmith.spec(steps, hygiene="warn")


@pytest.mark.vm
def test_a_vm_begins_after_the_steps_that_were_done_before(goldsmith: Goldsmith) -> None:
    spec = in_a_vm(goldsmith, "cat /opt/1 >>/opt/second\n")
    for wanted, more in (([False, False], ()), ([True, False], ("--from", "second"))):
        assert planned(goldsmith, spec) == (["first", "second"] if more else [])
        done, built = goldsmith.build(spec, *more)
        assert (done.status, built["outcome"], notes(built)) == (0, "succeeded", wanted), done.text
        goldsmith.traces.assert_none()
    cached, plain = (image["name"] for image in goldsmith.images())
    assert_same(goldsmith, plain, cached)
    layers = json.loads(goldsmith.run("cache", "list", "--json").out)
    assert sorted((layer["step"], layer["engine"]) for layer in layers) == [("first", "vm"), ("second", "vm")]
    assert goldsmith.run("cache", "verify").out == "all layers are whole\n"


if "GOLDSMITH_KILLS" in os.environ:  # in the soak alone: it takes half an hour

    @pytest.mark.vm
    def test_a_vm_that_is_killed_at_any_moment_leaves_whole_layers(goldsmith: Goldsmith) -> None:
        chance = random.Random(20261130)
        for number in range(int(os.environ["GOLDSMITH_KILLS"])):
            scripts = [
                f"echo {part * number} >/opt/{part}\nhead -c 30000000 /dev/urandom >/opt/data\n" for part in range(3)
            ]
            steps = [{"name": f"step{part}", "script": script, "reads": []} for part, script in enumerate(scripts)]
            running = goldsmith.start("build", goldsmith.spec(steps, hygiene="warn"), "--json")
            running.until(is_report("step-started") if number % 3 else is_event("BuildRequested"))
            time.sleep(chance.uniform(0.0, 3.0))
            running.kill()
            goldsmith.traces.wait_for_no_process()
            assert goldsmith.run("cache", "verify").out == "all layers are whole\n"
        assert goldsmith.run("builds", "resume").status == 0
        assert goldsmith.run("sweep").status == 0
        goldsmith.traces.assert_none()
        done, built = goldsmith.build(in_a_vm(goldsmith, "true\n"))
        assert (done.status, built["outcome"]) == (0, "succeeded"), done.text
