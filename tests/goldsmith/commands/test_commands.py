"""Every command but build: what it prints, where, and with which exit status. No input ends in a traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from goldsmith.exit_status import ENVIRONMENT, NOT_SUCCEEDED
from shared.build.build import Build, Outcome, State
from shared.build.events import read_build
from shared.clock import SystemClock
from shared.images.catalogue import Catalogue
from shared.local.database import Database
from shared.local.store import LocalStore
from tests.goldsmith.command_line import Commands, Done
from tests.goldsmith.test_command_line_page import of_the_app
from tests.shared.disks.small_disks import os_tree, rooted, tool
from tests.world import values

ROOT = Path(__file__).resolve().parents[3]
DONE = values.build(id="hello-aaaaaaaaaaaa", state=State.FINISHED, outcome=Outcome.FAILED, reason="no luck")
LATER = replace(DONE, id="hello-aabbbbbbbbbb", created=values.NOON + 60)
LONGER = replace(DONE, id="hello-aaaaaaaaaaaa-x", created=values.NOON - 60)
LEFT = values.build(id="left-000000000000")


def keep(home: Path, *builds: Build) -> None:
    with Database(home / "state.db") as database:
        for build in builds:
            plan = replace(values.plan(build_id=build.id), build_id=build.id)
            LocalStore(database).create(build, values.requested(build_id=build.id, plan=plan))


def add_image(home: Path, tmp_path: Path, name: str, **more: str) -> None:
    disk = tmp_path / f"{name}.raw"
    with disk.open("wb") as file:
        file.truncate(4 << 20)
    Catalogue(home, SystemClock()).add(disk, name, transfer="move", **more)  # type: ignore[arg-type]  # by name


def test_every_command_has_help(run: Commands) -> None:
    for command, (arguments, options) in of_the_app().items():
        done = run(*command.split()[1:], "--help")
        assert (done.status, done.err) == (0, "")
        assert all(word in done.out for word in [f"Usage: {command} ", *arguments, *options])
    assert run("--help").status == 0


@pytest.mark.parametrize("words", [[], ["builds"], ["images"], ["biuld"], ["build"], ["plan", "x", "--json", "y"]])
def test_a_wrong_command_line_is_2(run: Commands, words: list[str]) -> None:
    done = run(*words)
    assert done.status == 2
    assert "Usage: goldsmith" in done.out + done.err


def test_empty_home_lists_nothing(run: Commands) -> None:
    for command in ("builds", "images"):
        assert (run(command, "list").out, run(command, "list", "--json").document()) == ("none\n", [])
    assert run("sweep").out == "nothing to do\n"
    assert run("sweep", "--json").document() == {"builds": {}, "deleted": []}


def test_builds_list_is_newest_first(run: Commands, home: Path) -> None:
    keep(home, DONE, LATER)
    done = run("builds", "list")
    heads, *rows = (line.split() for line in done.out.splitlines())
    assert heads == ["BUILD", "STATE", "OUTCOME", "REQUESTED", "TOOK"]
    assert [row[:3] for row in rows] == [[build.id, "finished", "failed"] for build in (LATER, DONE)]
    assert rows[1][-3:] in (["ago", "0.0", "s"], ["now", "0.0", "s"])
    assert [read_build(document) for document in run("builds", "list", "--json").document()] == [LATER, DONE]


def test_image_that_stays_is_not_left(run: Commands, home: Path) -> None:
    image = values.ledger_entry(kind="image", name="hello-1", keep=True)
    disk = values.ledger_entry(kind="disk", name="boot")
    keep(home, replace(DONE, ledger=(image,)), replace(LATER, ledger=(image, disk)))
    assert "left:       nothing\n" in run("builds", "show", DONE.id).out
    assert "left:       disk boot\n" in run("builds", "show", LATER.id).out


def test_builds_show_takes_the_beginning_of_an_id(run: Commands, home: Path) -> None:
    keep(home, DONE, LATER, LONGER)
    assert read_build(run("builds", "show", "hello-aab", "--json").document()) == LATER
    assert read_build(run("builds", "show", DONE.id, "--json").document()) == DONE  # though it begins another
    shown = run("builds", "show", LATER.id)
    assert shown.status == 0
    assert f"build:      {LATER.id}\nstate:      finished, failed\n" in shown.out
    assert "failed: no luck" in shown.out
    assert f"the whole log: {home}/builds/{LATER.id}/logs" in shown.out


@pytest.mark.parametrize("name", ["", " "])
@pytest.mark.parametrize("command", ["show", "logs", "cancel", "retry", "resume", "forget"])
def test_an_empty_word_names_no_build(run: Commands, home: Path, command: str, name: str) -> None:
    """Not the only one that there is, either."""
    keep(home, DONE)
    done = run("builds", command, name)
    told = "goldsmith: no build is named; write how its id begins; see: goldsmith builds list\n"
    assert (done.status, done.out, done.err) == (2, "", told)


@pytest.mark.parametrize(
    "words",
    [
        ("images", "check", "x", "--builder"),
        ("images", "check", "x", "--source"),
        ("images", "provenance", "x", "--builder"),
        ("images", "provenance", "x", "--source"),
        ("images", "approve", "x", "--channel", "prod", "--reason", "tested", "--impersonate"),
        ("submit", "x.yaml", "--impersonate"),
        ("build", "x.yaml", "--key"),
    ],
    ids=" ".join,
)
def test_an_empty_value_does_not_ask_for_less(run: Commands, words: tuple[str, ...]) -> None:
    """As of an unset variable of a script: without its value the option would be as good as left out."""
    for value in ("", " "):
        done = run(*words, value)
        assert (done.status, done.out) == (2, "")
        assert f"Invalid value for '{words[-1]}': it is empty; write a value, or leave the option out" in done.err


@pytest.mark.parametrize("command", ["show", "logs", "cancel"])
def test_a_build_that_cannot_be_told_is_2(run: Commands, home: Path, command: str) -> None:
    keep(home, DONE, LATER)
    unknown, ambiguous = run("builds", command, "nope"), run("builds", command, "hello-aa")
    assert (unknown.status, unknown.out) == (2, "")
    assert unknown.err == "goldsmith: there is no build 'nope'; see: goldsmith builds list\n"
    assert (ambiguous.status, ambiguous.out) == (2, "")
    assert f"hello-aa begins 2 builds: {LATER.id}, {DONE.id}; write more" in ambiguous.err


def test_a_finished_build_cannot_be_cancelled(run: Commands, home: Path) -> None:
    keep(home, DONE)
    done = run("builds", "cancel", DONE.id)
    assert (done.status, done.out) == (2, "")
    assert done.err == f"goldsmith: build {DONE.id} is finished already: failed\n"


def test_a_build_that_no_process_runs_is_cancelled_here(run: Commands, home: Path) -> None:
    keep(home, LEFT)
    done = run("builds", "cancel", "left")
    assert (done.status, done.out, done.err) == (0, f"build {LEFT.id} is cancelled\n", "")
    assert read_build(run("builds", "show", LEFT.id, "--json").document()).reason.endswith("goldsmith builds cancel")


def test_sweep_tells_what_it_ended_and_deleted(run: Commands, home: Path) -> None:
    keep(home, LEFT, DONE)
    orphan = home / "builds" / DONE.id / "disks" / f"gs-{DONE.id}-a1-boot.raw"
    orphan.parent.mkdir(parents=True)
    orphan.touch()
    document = run("sweep", "--json").document()
    assert document["builds"] == {LEFT.id: "cancelled"}
    assert not orphan.exists()
    assert run("sweep").out == "nothing to do\n"


def test_logs_of_a_finished_build_are_printed_byte_for_byte(run: Commands, home: Path) -> None:
    keep(home, DONE)
    logs = home / "builds" / DONE.id / "logs"
    logs.mkdir(parents=True)
    (logs / f"gs-{DONE.id}-a1-vm.log").write_bytes(b"one\r\n\x1b[31mtwo\n")
    (logs / f"gs-{DONE.id}-a2-vm.log").write_bytes(b"three\n")
    for options in ([], ["--follow"]):
        done = run("builds", "logs", DONE.id, *options)
        assert done.status == 0
        assert done.out.encode() == b"one\n\x1b[31mtwo\nthree\n"  # read back with universal newlines


def test_logs_that_hold_nothing_say_where_they_were_looked_for(run: Commands, home: Path) -> None:
    keep(home, DONE)
    done = run("builds", "logs", DONE.id)
    assert (done.status, done.out) == (0, "")
    assert done.err == f"goldsmith: nothing is in {home}/builds/{DONE.id}/logs\n"
    keep(home, LEFT)
    assert "has written nothing yet" in run("builds", "logs", LEFT.id).err


def test_ctrl_c_outside_of_a_build_is_130_without_a_word(run: Commands, home: Path) -> None:
    keep(home, LEFT)
    machine = home / "builds" / LEFT.id / "machines" / f"gs-{LEFT.id}-a1-vm"
    machine.mkdir(parents=True)
    (machine / "console.log").write_text("booting\n")
    with run.started("builds", "logs", "--follow", LEFT.id) as process:
        end = time.monotonic() + 120
        while not run.printed() and time.monotonic() < end:
            process.join(0.05)
        assert run.printed() == "booting\n"
        os.kill(process.pid or 0, signal.SIGINT)
        process.join(120)
        assert (run.done(process).status, run.done(process).err) == (130, "")


def test_images_list_and_show(run: Commands, home: Path, tmp_path: Path) -> None:
    add_image(home, tmp_path, "one", family="first")
    add_image(home, tmp_path, "two")
    assert {image["name"] for image in run("images", "list", "--json").document()} == {"one", "two"}
    assert [row.split()[0] for row in run("images", "list", "--family", "first").out.splitlines()] == ["IMAGE", "one"]
    (home / "images" / "two" / "image.json").write_text("{")
    damaged = run("images", "list", "--json")
    assert [image["name"] for image in damaged.document()] == ["one"]
    assert damaged.err.startswith("goldsmith: ")
    assert "two" in damaged.err


@pytest.mark.parametrize("words", [["show", "x"], ["export", "x", "-o", "out"], ["delete", "x"], ["show", "No Name"]])
def test_an_image_that_is_not_there_is_2(run: Commands, words: list[str]) -> None:
    done = run("images", *words)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("goldsmith: ")
    assert len(done.err.splitlines()) == 1


def test_the_beginning_of_a_name_is_enough_to_look_at_an_image(run: Commands, tmp_path: Path) -> None:
    disk = rooted(tmp_path / "small.raw", os_tree(tmp_path / "tree"))
    run("images", "import", disk, "--name", "hello-1")
    assert run("images", "show", "hel", "--json").document()["image"]["name"] == "hello-1"
    assert run("images", "export", "hello-", "-o", tmp_path / "out").status == 0
    run("images", "import", disk, "--name", "hello-1-a")
    assert run("images", "show", "hello-1", "--json").document()["image"]["name"] == "hello-1"
    ambiguous = run("images", "show", "hello")
    assert (ambiguous.status, "hello begins the names of 2 images" in ambiguous.err) == (2, True)
    assert run("images", "delete", "hello-1-").status == 2  # what deletes takes whole names alone


def test_the_nearest_names_are_told(run: Commands, home: Path, tmp_path: Path) -> None:
    keep(home, DONE, LATER)
    add_image(home, tmp_path, "debian-12-1", family="debian-12")
    mistyped = DONE.id[:-2] + "zz"
    assert f"there is no build '{mistyped}'; did you mean" in run("builds", "show", mistyped).err
    assert "did you mean debian-12-1?" in run("images", "show", "debain-12-1").err
    assert "did you mean debian-12-1?" in run("images", "delete", "debian-12").err
    spec = tmp_path / "x.yaml"
    spec.write_text("name: x\nsource: {project: local, family: debain-12}\nsteps: []\noutput: {family: x}\n")
    assert "no active image in family debain-12; did you mean debian-12?" in run("plan", spec).err


def test_delete_looks_all_up_before_the_first(run: Commands, home: Path, tmp_path: Path) -> None:
    add_image(home, tmp_path, "one")
    add_image(home, tmp_path, "two")
    assert run("images", "delete", "one", "three").status == 2
    done = run("images", "delete", "one", "two")
    assert (done.status, done.out) == (0, "deleted image one\ndeleted image two\n")
    assert run("images", "list").out == "none\n"


def test_import_and_export(run: Commands, tmp_path: Path) -> None:
    disk = rooted(tmp_path / "small.raw", os_tree(tmp_path / "tree"))
    done = run("images", "import", disk, "--family", "tiny")
    assert done.status == 0, done.err
    assert done.out.startswith("image local/small\nsystem:      Debian GNU/Linux 12 (bookworm), ")
    assert done.err == f"reading {disk}\nlooking at what is inside\n"
    again = run("images", "import", disk)
    assert (again.status, again.out) == (2, "")
    assert again.err.startswith("goldsmith: there is an image small already; choose another name")
    shown = run("images", "show", "small", "--json").document()
    assert (shown["image"]["family"], shown["contents"]["table"]) == ("tiny", "gpt")
    assert "family:      tiny" in run("images", "show", "small").out
    exported = run("images", "export", "small", "--output", tmp_path / "new" / "out")
    archive = tmp_path / "new" / "out" / "small.tar.gz"
    assert (exported.status, exported.out) == (0, f"archive {archive}\n")
    assert [line.partition(":")[0] for line in exported.err.splitlines()] == [
        *["writing the archive"] * 2,
        *["proving the archive"] * 2,
    ]
    tool("tar", "-C", tmp_path, "-xzf", archive)
    assert (tmp_path / "disk.raw").stat().st_size == 1 << 30  # Compute Engine takes whole gigabytes; this had 32 MB
    assert "No errors detected" in tool("sfdisk", "--verify", tmp_path / "disk.raw")  # its second GPT ends the disk
    before = archive.read_bytes()
    refused = run("images", "export", "small", "--output", archive.parent)
    assert (refused.status, refused.out) == (2, "")
    assert f"{archive} exists already" in refused.err
    assert archive.read_bytes() == before
    assert [path.name for path in archive.parent.iterdir()] == ["small.tar.gz"]


def test_an_option_with_no_such_choice_is_2(run: Commands, tmp_path: Path) -> None:
    assert "choose fast or best" in run("images", "export", "x", "-o", tmp_path, "--compression", "tiny").err
    good = tmp_path / "build.yaml"
    good.write_text("{name: x, source: {project: local, family: f}, steps: []}")
    for option, choices in (("--boot", "direct or firmware"), ("--compression", "fast or best")):
        done = run("build", good, option, "tiny")
        assert (done.status, done.out) == (2, "")
        assert f"{option} tiny: choose {choices}" in done.err
    assert "write NAME=VALUE" in run("validate", good, "--set", "release").err


def test_validate_and_plan(run: Commands, home: Path, tmp_path: Path) -> None:
    spec = tmp_path / "build.yaml"
    spec.write_text("{name: x, source: {project: local, image: one}, steps: []}")
    assert run("validate", spec).out == f"{spec}: good: x, 0 steps\n"
    good = {"spec": str(spec), "good": True, "builds": [{"name": "x", "steps": []}], "problems": []}
    assert run("validate", spec, "--json").document() == good
    missing = run("plan", spec)
    assert (missing.status, missing.out) == (2, "")
    assert "source.image: project local has no image one" in missing.err
    add_image(home, tmp_path, "one")
    assert run("plan", spec, "--json").document()["source"]["name"] == "one"
    planned = run("plan", spec)
    assert planned.status == 0
    assert "from:      local/one, x86_64, 1 GB\n" in planned.out
    assert list((home / "builds").iterdir()) == []
    spec.write_text("{nmae: x}")
    bad = run("validate", spec)
    assert (bad.status, bad.out) == (2, "")
    assert "unknown key; did you mean name?" in bad.err
    told = run("validate", spec, "--json")
    assert (told.status, told.err) == (2, bad.err)
    document = json.loads(told.out)
    assert (document["good"], document["builds"]) == (False, [])
    assert document["problems"] == [line.removeprefix("goldsmith: ") for line in bad.err.splitlines()]


def test_archive_is_placed_beside_the_spec(run: Commands, home: Path, tmp_path: Path) -> None:
    add_image(home, tmp_path, "one")
    spec = tmp_path / "specs" / "build.yaml"
    spec.parent.mkdir()
    for target, place in (("out/x.tar.gz", spec.parent / "out"), (f"{tmp_path}/x.tar.gz", tmp_path)):
        export = f"output: {{export: {{to: {target}}}}}"
        spec.write_text(f"{{name: x, source: {{project: local, image: one}}, steps: [], {export}}}")
        assert run("plan", spec, "--json").document()["image"]["export_to"] == f"{place}/x.tar.gz"


def test_archive_on_google_cloud_is_refused_before_anything_is_made(run: Commands, home: Path, tmp_path: Path) -> None:
    add_image(home, tmp_path, "one")
    spec = tmp_path / "build.yaml"
    export = "output: {export: {to: gs://bucket/x.tar.gz}}"
    spec.write_text(f"{{name: x, source: {{project: local, image: one}}, steps: [], {export}}}")
    for command in ("plan", "build"):
        done = run(command, spec)
        assert (done.status, done.out) == (2, "")
        assert "output.export.to: gs://bucket/x.tar.gz is on Google Cloud; write a path" in done.err
    assert list((home / "builds").iterdir()) == []
    assert not Path("gs:").exists()


def test_bill_of_materials_is_read_and_written_beside_the_spec(run: Commands, home: Path, tmp_path: Path) -> None:
    add_image(home, tmp_path, "one")
    spec = tmp_path / "specs" / "build.yaml"
    (spec.parent / "there").mkdir(parents=True)
    (spec.parent / "own.json").write_text("{}")

    def planned(sbom: str) -> Done:
        spec.write_text(f"{{name: x, source: {{project: local, image: one}}, steps: [], output: {{sbom: {{{sbom}}}}}}}")
        return run("plan", spec, "--json")

    image = planned("input: own.json, to: there").document()["image"]
    assert (image["sbom_input"], image["sbom_to"]) == (f"{spec.parent}/own.json", f"{spec.parent}/there/")
    assert planned("to: new/").document()["image"]["sbom_to"] == f"{spec.parent}/new/"
    elsewhere = planned("to: gs://bucket/sboms/")
    assert elsewhere.document()["image"]["sbom_to"] is None
    assert "output.sbom.to: gs://bucket/sboms/ is on Google Cloud; the bill of materials will be" in elsewhere.err
    refused = planned("input: gs://bucket/own.json")
    assert (refused.status, refused.out) == (2, "")
    assert "output.sbom.input: gs://bucket/own.json is on Google Cloud; write a path beside the spec" in refused.err


def test_the_schema_is_printed_as_it_is(run: Commands) -> None:
    done = run("schema")
    assert (done.status, done.err) == (0, "")
    assert done.out == (ROOT / "shared" / "spec" / "spec.schema.json").read_text(encoding="utf-8")


def test_doctor_says_what_there_is(run: Commands) -> None:
    done = run("doctor", "--json")
    findings = done.document()
    assert {"accelerator", "bootstrap", "home", "qemu-system-x86_64"} <= {finding["what"] for finding in findings}
    assert done.status == (0 if all(finding["good"] for finding in findings) else 3)


def test_a_home_that_cannot_be_is_3(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = Commands(tmp_path / "file", tmp_path)("builds", "list")
    assert (done.status, done.out) == (3, "")
    assert done.err == f"goldsmith: {tmp_path}/file is not a folder; set GOLDSMITH_HOME to one\n"


def a_folder(path: Path) -> None:
    path.mkdir()


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def of_bytes(count: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_bytes(b"k" * count)

    return make


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (a_folder, " is not a file; restore it, or move it away"),
        (a_pipe, " is not a file; restore it, or move it away"),
        (of_bytes(0), " holds 0 bytes, and a master key has at least 32; restore it, or move it away"),
        (of_bytes(31), " holds 31 bytes, and a master key has at least 32; restore it, or move it away"),
        (of_bytes(1 << 20), " holds more than 4096 bytes, and is no key of Goldsmith's; restore it"),
    ],
    ids=["a folder", "a pipe", "empty", "short", "long"],
)
@pytest.mark.parametrize("command", [["builds", "list"], ["images", "list"], ["sweep"]])
def test_a_master_key_that_is_none_is_3(
    run: Commands, home: Path, command: list[str], make: Callable[[Path], None], said: str
) -> None:
    home.mkdir(mode=0o700)
    make(home / "master.key")
    done = run(*command)
    assert (done.status, done.out) == (3, "")
    assert done.err.startswith(f"goldsmith: {home}/master.key{said}")


@pytest.mark.parametrize("make", [a_folder, a_pipe])
def test_a_state_that_is_no_file_is_3(run: Commands, home: Path, make: Callable[[Path], None]) -> None:
    home.mkdir(mode=0o700)
    make(home / "state.db")
    done = run("builds", "list")
    assert (done.status, done.out) == (3, "")
    assert done.err == f"goldsmith: {home}/state.db is not a file; move it away, or set GOLDSMITH_HOME elsewhere\n"


def test_reader_that_has_gone_and_full_disk(home: Path) -> None:
    keep(home, *(replace(DONE, id=f"hello-{number:012x}") for number in range(50)))
    command = [sys.executable, "-m", "goldsmith", "builds", "list"]
    environment = {**os.environ, "GOLDSMITH_HOME": str(home)}
    reading, writing = os.pipe()
    os.close(reading)
    full = os.open("/dev/full", os.O_WRONLY)
    for out, said, statuses in ((writing, "", (0, NOT_SUCCEEDED)), (full, "No space left on device", (ENVIRONMENT,))):
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.PIPE, text=True)
        os.close(out)
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == bool(said)
        assert done.returncode in statuses


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_help_on_a_full_disk_is_one_line(unbuffered: str) -> None:
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "goldsmith", "--help"]
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.stderr == "goldsmith: standard output: No space left on device\n"
    assert done.returncode == ENVIRONMENT


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_change_nothing_but_what_is_seen(home: Path, closed: str) -> None:
    keep(home, DONE)
    for command, status in (("builds show hello", 0), ("builds show nothing", 2)):
        line = f"exec '{sys.executable}' -m goldsmith {command} {closed}"
        environment = {**os.environ, "GOLDSMITH_HOME": str(home)}
        done = subprocess.run(["sh", "-c", line], cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == status
        assert "Traceback" not in done.stderr
        assert bool(done.stdout) == (status == 0 and ">&-" not in closed.replace("2>&-", ""))


@pytest.mark.parametrize(
    "command", ["validate", "convert", "init --yes", "images import", "cache export", "cache import", "triggers add"]
)
def test_a_name_that_is_too_long_is_2(run: Commands, command: str, tmp_path: Path) -> None:
    done = run(*command.split(), tmp_path / ("x" * 300))
    assert (done.status, done.out) == (2, "")
    assert "File name too long" in done.err
    assert "Errno" not in done.err


def test_an_empty_cache(run: Commands) -> None:
    assert run("cache", "verify", "--json").document() == {"damaged": []}
    assert run("cache", "prune", "--json").document() == {"layers": [], "packages_bytes": 0, "kept_bytes": 0}
    assert run("cache", "prune").out == "removed 0 layers, 0.0 MB\n"


@pytest.mark.parametrize("place", ["/", "", "."])
def test_the_archive_of_the_cache_is_no_folder(run: Commands, place: str) -> None:
    done = run("cache", "export", place)
    assert done.status == 2
    assert "is a folder; name a file in it" in done.err


@pytest.mark.parametrize("stream", ["/dev/full", "a reader that has gone"])
def test_exit_status_is_the_same_where_standard_error_has_gone(home: Path, stream: str) -> None:
    if stream == "/dev/full":
        out = os.open(stream, os.O_WRONLY)
    else:
        reading, out = os.pipe()
        os.close(reading)
    environment = {"PATH": os.environ["PATH"], "GOLDSMITH_HOME": str(home)}  # buffered, as people have it
    command = [sys.executable, "-m", "goldsmith", "images", "show", "no-such-image"]
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=out, stderr=out, check=False)
    os.close(out)
    assert done.returncode == 2


def test_a_file_that_cannot_be_read_is_named(run: Commands) -> None:
    done = run("images", "import", "/proc/self/mem")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("goldsmith: /proc/self/mem: cannot be read: Input/output error; ")
