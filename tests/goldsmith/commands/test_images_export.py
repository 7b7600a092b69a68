"""goldsmith images export of an image that a build has made: its manifest and its bill of materials go along."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from goldsmith.commands.images import export_again
from shared.build.build import Outcome, State
from shared.clock import SystemClock
from shared.images.catalogue import Catalogue
from shared.local.database import Database
from shared.local.store import LocalStore
from shared.names import BUILD_LABEL
from shared.runtime import opening
from tests.goldsmith.command_line import Commands
from tests.shared.disks.small_disks import MIB, os_tree, partitioned, rooted
from tests.world import values

NAME = values.plan().image.name
MADE = values.build(state=State.FINISHED, outcome=Outcome.SUCCEEDED, image=values.image_record())


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with an image, and the build that has made it."""
    home = tmp_path / "home"
    disk = rooted(tmp_path / "disk.raw", os_tree(tmp_path / "tree"))
    Catalogue(home, SystemClock()).add(disk, NAME, transfer="move", labels={BUILD_LABEL: MADE.id})
    with Database(home / "state.db") as database:
        store = LocalStore(database)
        store.create(replace(MADE, state=State.PREPARING, outcome=None), values.requested())
        store.save(MADE, store.load(MADE.id).version)
    return home


def test_the_bill_of_materials_goes_along(home: Path, tmp_path: Path) -> None:
    logs = home / "builds" / MADE.id / "logs"
    logs.mkdir(parents=True)
    for suffix in (".spdx.json", ".cdx.json"):
        (logs / f"{NAME}{suffix}").write_text(suffix)
    out = tmp_path / "out"
    done = Commands(home, tmp_path)("images", "export", NAME, "--output", out)
    assert done.status == 0, done.err
    files = sorted(path.name for path in out.iterdir())
    assert files == [f"{NAME}{suffix}" for suffix in (".cdx.json", ".json", ".spdx.json", ".tar.gz")]
    assert (out / f"{NAME}.cdx.json").read_text() == ".cdx.json"
    manifest = json.loads((out / f"{NAME}.json").read_text())
    assert manifest["sbom"] == [f"{NAME}.spdx.json", f"{NAME}.cdx.json"]
    assert [package["name"] for package in manifest["packages"]] == ["adduser", "zlib1g"]


def test_what_a_killed_export_has_left_goes_with_the_next(home: Path, tmp_path: Path) -> None:
    disk = rooted(tmp_path / "large.raw", os_tree(tmp_path / "more"), 256 * MIB)
    with disk.open("r+b") as file:
        file.seek(64 * MIB)
        for _ in range(160):
            file.write(os.urandom(MIB))
    Catalogue(home, SystemClock()).add(disk, "large", transfer="move")
    out = tmp_path / "out"
    run = Commands(home, tmp_path)
    for _ in range(20):  # on a busy machine an export may be done before it is seen to have begun
        with run.started("images", "export", "large", "--output", out) as process:
            while process.is_alive() and not list(out.glob(".scratch-*/*")):
                process.join(0.01)
            process.kill()
            process.join(120)
        if [path.name.partition("-")[0] for path in out.glob("*")] == [".scratch"]:
            break
        shutil.rmtree(out, ignore_errors=True)
    assert [path.name.partition("-")[0] for path in out.iterdir()] == [".scratch"]
    assert run("images", "export", "large", "--output", out).status == 0
    assert [path.name for path in out.iterdir()] == ["large.tar.gz"]


def test_one_from_before_there_were_any_is_exported_without(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert Commands(home, tmp_path)("images", "export", NAME, "--output", out).status == 0
    assert sorted(path.name for path in out.iterdir()) == [f"{NAME}.json", f"{NAME}.tar.gz"]
    assert json.loads((out / f"{NAME}.json").read_text())["sbom"] == []


def test_several_formats_go_together_each_with_its_checksum(home: Path, tmp_path: Path) -> None:
    out, run = tmp_path / "out", Commands(home, tmp_path)
    done = run("images", "export", NAME, "--output", out, "--format", "qcow2,tar.zst", "--format", "gce")
    assert done.status == 0, done.err
    files = [f"{NAME}.qcow2", f"{NAME}.rootfs.tar.zst", f"{NAME}.tar.gz"]
    assert done.out.splitlines() == [f"file {out / name}" for name in files]
    manifest = json.loads((out / f"{NAME}.json").read_text())
    assert [(file["format"], file["name"]) for file in manifest["files"]] == [
        ("qcow2", files[0]),
        ("tar.zst", files[1]),
        ("gce", files[2]),
    ]
    for file in manifest["files"]:
        data = (out / file["name"]).read_bytes()
        assert (file["bytes"], file["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
        assert (out / f"{file['name']}.sha256").read_text() == f"{file['sha256']}  {file['name']}\n"
    assert manifest["archive"]["sha256"] == manifest["files"][2]["sha256"]
    assert {path.name for path in out.iterdir()} == {*files, *(f"{name}.sha256" for name in files), f"{NAME}.json"}


def test_a_later_export_adds_to_the_manifest(home: Path, tmp_path: Path) -> None:
    out, run = tmp_path / "out", Commands(home, tmp_path)
    assert run("images", "export", NAME, "--output", out).status == 0
    archive = json.loads((out / f"{NAME}.json").read_text())["archive"]
    for known in ("vhd", "oci"):
        assert run("images", "export", NAME, "--output", out, "--format", known).status == 0
    manifest = json.loads((out / f"{NAME}.json").read_text())
    assert manifest["archive"] == archive
    assert [file["format"] for file in manifest["files"]] == ["vhd", "oci"]


@pytest.mark.parametrize("there", [f"{NAME}.qcow2", f"{NAME}.vmdk.sha256"])
def test_nothing_is_written_where_one_file_is_there(home: Path, tmp_path: Path, there: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / there).write_text("mine")
    done = Commands(home, tmp_path)("images", "export", NAME, "--output", out, "--format", "qcow2,vmdk")
    assert (done.status, "exists already" in done.err) == (2, True)
    assert [path.name for path in out.iterdir()] == [there]


@pytest.mark.parametrize(("formats", "why"), [("iso", "no format 'iso'"), ("qcow2,qcow2-compressed", "both write")])
def test_formats_that_cannot_be_are_bad_input(home: Path, tmp_path: Path, formats: str, why: str) -> None:
    done = Commands(home, tmp_path)("images", "export", NAME, "--output", tmp_path / "out", "--format", formats)
    assert (done.status, why in done.err) == (2, True)
    assert not (tmp_path / "out").exists()


def test_a_disk_without_a_tree_is_exported_as_one_alone(home: Path, tmp_path: Path) -> None:
    disk = partitioned(tmp_path / "bare.raw", "label: gpt\nstart=2048, size=20480\n")
    Catalogue(home, SystemClock()).add(disk, "bare", transfer="move")
    out, run = tmp_path / "out", Commands(home, tmp_path)
    done = run("images", "export", "bare", "--output", out, "--format", "raw,oci")
    assert (done.status, "only ext4 can be read" in done.err, list(out.iterdir())) == (3, True, [])
    assert run("images", "export", "bare", "--output", out, "--format", "raw").status == 0
    assert sorted(path.name for path in out.iterdir()) == ["bare.raw", "bare.raw.sha256"]  # no manifest: not built here


def test_a_plan_says_what_is_missing_of_an_unchanged_image(home: Path, tmp_path: Path) -> None:
    """`goldsmith build --output` of what is there already: files that are there too stay as they are."""
    out = tmp_path / "out"
    out.mkdir()
    (out / f"{NAME}.qcow2").write_text("mine")
    image = replace(values.plan().image, export_to=str(out / f"{NAME}.tar.gz"), formats=("qcow2", "tar"))
    with opening.local(home) as backend:
        export_again(backend, NAME, image)
    assert (out / f"{NAME}.qcow2").read_text() == "mine"
    assert (out / f"{NAME}.rootfs.tar").exists()


def test_a_killed_export_takes_its_programs_along_and_its_files_go_with_the_next(home: Path, tmp_path: Path) -> None:
    disk = rooted(tmp_path / "large.raw", os_tree(tmp_path / "more"), 256 * MIB)
    with disk.open("r+b") as file:
        file.seek(64 * MIB)
        for _ in range(100):
            file.write(os.urandom(MIB))
    Catalogue(home, SystemClock()).add(disk, "large", transfer="move")
    out, run = tmp_path / "out", Commands(home, tmp_path)
    words = ("images", "export", "large", "--output", out, "--format", "vmdk,tar.gz")
    with run.started(*words) as process:
        while process.is_alive() and not _programs(out):
            process.join(0.01)
        process.kill()
        process.join(120)
    end = time.monotonic() + 120
    while _programs(out) and time.monotonic() < end:
        time.sleep(0.01)
    assert not _programs(out)
    assert [path.name.partition("-")[0] for path in out.iterdir()] == [".scratch"]
    assert run(*words).status == 0
    files = ["large.rootfs.tar.gz", "large.vmdk"]
    assert sorted(path.name for path in out.iterdir()) == sorted([*files, *(f"{name}.sha256" for name in files)])


def _programs(folder: Path) -> list[str]:
    """The programs that run with a path below a folder on their command lines."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().decode(errors="replace")
        except OSError:  # it has ended
            continue
        if command.startswith("/usr/bin/qemu-img") and f"{folder}/" in command:
            found.append(command)
    return found
