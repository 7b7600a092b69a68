"""The commands of the pages, run on one machine as they are written there, with an empty home."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from shared.clock import SystemClock
from shared.images.catalogue import Catalogue
from tests.docs.reader import Reader
from tests.project.source_tree import ROOT
from tests.provisioner.elements.element_folders import element
from tests.system.terminal import Terminal

pytestmark = pytest.mark.vm

STEPS = "steps:\n- {name: greet, action: run-script, inputs: {script: preload.sh, env: {GREETING: hello}}}\n"
SHELL_IS_OPEN = "abort: give up"
LOCAL = "local: {engine: chroot, network: false, memory_mb: 512}\n"


def checkout(folder: Path) -> Path:
    """Copy what git keeps of this checkout, with its Python; return the folder."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, names.stdout.split("\0")):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target, follow_symlinks=False)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    return folder


def home_of(reader: Reader) -> Path:
    return reader.folder / ".local" / "share" / "goldsmith"


def spec(reader: Reader, name: str, more: str = "") -> Path:
    """Write a spec of a sandbox beside the hello example's script."""
    path = reader.folder / f"{name}.yaml"
    text = f"name: {name}\nsource: {{project: local, family: debian-12}}\ncontext: preload.sh\n{STEPS}{LOCAL}{more}"
    path.write_text(text)
    return path


@pytest.fixture
def reader(debian_disk: Path, warm_cache: Path, tmp_path: Path) -> Iterator[Reader]:
    """A reader whose home has what `goldsmith images bootstrap debian-12` makes."""
    reader = Reader(tmp_path, {})
    home = home_of(reader)
    home.mkdir(parents=True, mode=0o700)
    Catalogue(home, SystemClock()).add(debian_disk, "debian-12-base", transfer="link", family="debian-12")
    for name in ("accelerator.json", "boot"):
        source, target = warm_cache / name, home / "cache" / name
        target.parent.mkdir(exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy2(source, target)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    shutil.copy2(ROOT / "examples" / "hello" / "preload.sh", tmp_path)
    yield reader
    for bulky in (home / "images", tmp_path / "out"):
        shutil.rmtree(bulky, ignore_errors=True)  # pytest keeps the folders of some runs


def newest(reader: Reader, family: str) -> str:
    """Return the name of the newest image of a family."""
    [image, *_] = json.loads(reader.run(f"goldsmith images list --family {family} --json"))
    return str(image["name"])


def last_build(reader: Reader) -> str:
    return str(json.loads(reader.run("goldsmith builds list --json"))[0]["id"])


def test_builds_and_their_images(reader: Reader) -> None:
    reader.types(
        "goldsmith build examples/hello/build.yaml --output out --set greeting=hi", says="newest of family hello"
    )
    assert [path.suffix for path in sorted((reader.folder / "out").glob("hello-*"))]
    hello = last_build(reader)
    reader.types("goldsmith builds list", says=hello)
    reader.types("goldsmith builds show BUILD", BUILD=hello, says="greet")
    reader.types("goldsmith builds logs BUILD --follow", BUILD=hello, says="[step greet] hi from x86_64")
    reader.types("goldsmith builds logs BUILD", BUILD=hello, says="[step greet] hi from x86_64")

    image = newest(reader, "hello")
    reader.stands_for["NAME"] = image
    reader.types("goldsmith images provenance NAME", says="https://in-toto.io/Statement/v1")
    reader.types("goldsmith images provenance NAME --output NAME.intoto.jsonl")
    reader.types("goldsmith images lineage NAME", says="debian-12-base")
    reader.types("goldsmith images signing-key", says="BEGIN PUBLIC KEY")
    reader.follows("docs/provenance.md", "Check it without Goldsmith")
    reader.run("mv out/hello-*.tar.gz cos.tar.gz")
    reader.types(
        "goldsmith images import cos.tar.gz --name cos-stable-117-18613-75-37 --family cos-stable",
        says="image local/cos-stable-117-18613-75-37",
    )


def test_ways_to_build(reader: Reader) -> None:
    tiny = spec(reader, "tiny", "output: {family: web}\nverify: {}\n")
    reader.types("goldsmith build SPEC --engine chroot", SPEC=tiny, says="newest of family web")
    (home_of(reader) / "channels.json").write_text('{"dev": {}, "staging": {}, "prod": {}}')
    promoted = {"web-20261120": newest(reader, "web")}
    reader.stands_for.update(promoted)
    reader.types("goldsmith images promote web-20261120 --to prod", says=f"{promoted['web-20261120']}-prod")

    (reader.folder / "preload.sh").rename(reader.folder / "kept.sh")
    (reader.folder / "preload.sh").write_text("exit 7\n")
    fails = reader.opens("goldsmith build SPEC --on-failure shell", SPEC=spec(reader, "fails"))
    with Terminal(fails, {}) as terminal:
        terminal.until(SHELL_IS_OPEN)
        reader.types("ls ~/.local/share/goldsmith/builds/*/machines/*/", says="console.log")
        terminal.type("abort\n")
        assert terminal.finish() == 1
    (reader.folder / "kept.sh").rename(reader.folder / "preload.sh")

    twice = spec(reader, "twice")
    reader.types("goldsmith build SPEC --check-reproducible", SPEC=twice, says="building again")


def test_a_build_that_failed_late_is_retried(reader: Reader) -> None:
    """A file gets in the way of the folder that the archive is written to, and goes away again."""
    (reader.folder / "preload.sh").write_text("sleep 2\n")
    late = spec(reader, "late", "output: {family: late}\n")
    in_the_way = "while read -r line; do case $line in *MachineStarted*) echo >late-files;; esac; done"
    reader.run(f"goldsmith build {late} --output late-files --json | {in_the_way}", status=1)
    (reader.folder / "late-files").unlink()
    reader.types("goldsmith builds retry BUILD", BUILD=last_build(reader), says="newest of family late")
    assert list((reader.folder / "late-files").glob("*.tar.gz"))


def test_the_dashboard_is_served_until_ctrl_c(reader: Reader) -> None:
    with Terminal(reader.opens("goldsmith serve"), {}) as terminal:
        address = terminal.until("\r\n").strip()
        terminal.until("Ctrl-C ends it")
        with requests.Session() as session:
            page = session.get(address, headers={"Accept": "text/html"}, timeout=60).text
        assert "No builds yet" in page, page
        terminal.type("\x03")
        assert terminal.finish() == 0


@pytest.mark.soak
def test_the_first_commands_of_the_readme(reader: Reader) -> None:
    """On a machine that has all programs, and a home that has the image: the rest of `make demo`, and the dashboard."""
    there = Reader(checkout(reader.folder / "goldsmith"), {"HOME": str(reader.folder)})
    there.types("make setup")
    there.types("make demo", says="its manifest is beside it")
    [archive] = (there.folder / "out").glob("hello-*.tar.gz")
    with Terminal(there.opens("goldsmith serve"), {}) as terminal:
        address = terminal.until("\r\n").strip()
        with requests.Session() as session:
            page = session.get(address, headers={"Accept": "text/html"}, timeout=60).text
        assert archive.name.removesuffix(".tar.gz") in page


def test_the_first_hour_of_a_contributor(tmp_path: Path) -> None:
    """In a copy of the checkout: a line is broken, its test fails, and the line is taken back."""
    copy = checkout(tmp_path / "goldsmith")
    reader = Reader(copy, {"PYTHONDONTWRITEBYTECODE": "1"})
    reader.run("git init -q . && git add shared && git -c user.name=me -c user.email=me@example.org commit -qm copy")
    reader.types(
        "sed -i 's/if build.state is State.QUEUED and build.id not in waiting/if build.state is State.QUEUED/' "
        "shared/planning/line.py"
    )
    reader.types(".venv/bin/python -m pytest -q -x tests/shared/planning/test_line.py", status=1, says="1 failed")
    reader.types("git checkout shared/planning/line.py")
    reader.types(".venv/bin/python -m pytest -q -x tests/shared/planning/test_line.py", says="passed")


def test_elements(reader: Reader) -> None:
    for name in ("base", "vm", "my-app"):
        element(
            reader.folder / "elements", name, {f"install.d/50-{name}": "#!/bin/bash\n", "README.rst": f"The {name}.\n"}
        )
    root = {"root.d/10-root": "#!/bin/bash\n"}
    element(reader.folder / "elements", "debian-minimal", root, provides="operating-system")
    step = "{name: app, action: elements, inputs: {elements: [my-app], path: [.]}}"
    (reader.folder / "build.yaml").write_text(
        f"name: app\nsource: {{project: local, family: debian-12}}\ncontext: elements\nsteps: [{step}]\n"
    )
    reader.follows("docs/diskimage-builder.md", "diskimage-builder")
    reader.types(
        "ELEMENTS_PATH=elements goldsmith convert -- disk-image-create -o out/my-image vm debian-minimal my-app",
        says="elements: [base, vm, debian-minimal, my-app]",
    )


def test_the_tutorial(reader: Reader) -> None:
    reader.stands_for["SOURCE"] = "debian-12-base"
    said = reader.follows("docs/tutorial.md", "Your own image")
    assert "newest of family first" in said
    assert "+ /etc/motd" in said or "~ /etc/motd" in said, said


def test_pages_about_builds(reader: Reader) -> None:
    assert "newest of family verified" in reader.follows("docs/how-to/verify.md")
    assert "newest of family licensed" in reader.follows("docs/how-to/secrets.md", "Give a step a secret")
    assert "unchanged" in reader.follows("docs/how-to/rebuild.md")
    fails = frozenset({"goldsmith build broken/build.yaml"})
    reader.follows("docs/how-to/packages.md")
    said = reader.follows("docs/how-to/debug.md", fails=fails)
    assert "step settings from the cache" in said
    assert "newest of family broken" in said
    script = reader.folder / "broken" / "files" / "service.sh"
    mended = script.read_text()
    script.write_text("grep host= /etc/app.conf\n")
    with Terminal(reader.opens("goldsmith build broken/build.yaml --on-failure shell"), {}) as terminal:
        terminal.until(SHELL_IS_OPEN)
        terminal.type("cat /etc/app.conf\n")
        terminal.until("port=80")
        script.write_text(mended)
        terminal.type("retry\n")
        terminal.until("continue builds anew without that")
        terminal.type("continue\n")
        assert terminal.finish() == 0


def test_pages_about_images(reader: Reader) -> None:
    assert "web-1-prod" in reader.follows("docs/how-to/promote.md", "Promote an image through channels")
    assert "shop-1 may be used" in reader.follows("docs/how-to/roll-back.md", "Roll back a bad image")
    reader.types(
        "cd examples/cos-customizer && goldsmith validate cloudbuild.yaml && goldsmith plan cloudbuild.yaml "
        "&& goldsmith convert cloudbuild.yaml",
        says="family: greeting",
    )
