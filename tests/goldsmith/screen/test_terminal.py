"""What is shown on a real terminal, a pty: the live view, spinners, consoles; and builds that need no VM."""

from __future__ import annotations

import io
import json
from pathlib import Path

from rich.console import Console

from goldsmith.screen.progress import Spinner, Stages
from shared.build.build import ImageDocument
from shared.build.events import to_json
from shared.clock import SystemClock
from shared.images.catalogue import Catalogue
from shared.local.database import Database
from tests.goldsmith.command_line import Commands
from tests.goldsmith.screen.drawn_terminal import watched
from tests.shared.disks.small_disks import os_tree, rooted

SPEC = """\
name: x
source: {project: local, image: small}
steps: [{name: greet, action: install-packages, inputs: {packages: [nginx]}}]
output: {name: made}
"""


def on_terminal(home: Path, *words: str | Path, **environment: str) -> tuple[int, str]:
    """Run a command on a terminal of its own; give its exit status and all that it wrote."""
    status, written, _ = watched(words, environment={"GOLDSMITH_HOME": str(home), **environment})
    return status, written


def already_made(home: Path, run: Commands, tmp_path: Path) -> Path:
    """A spec whose image is in the catalogue already; give the spec's path."""
    disk = rooted(tmp_path / "small.raw", os_tree(tmp_path / "tree"))
    catalogue = Catalogue(home, SystemClock())
    catalogue.add(disk, "small")
    spec = tmp_path / "build.yaml"
    spec.write_text(SPEC)
    plan = run("plan", spec, "--json").document()
    image = plan["image"]
    made = catalogue.add(disk, "made", labels=image["labels"], family=image["family"])
    known = ImageDocument("local", "made", "made-0123456789ab", plan["content_digest"], "published", made.id)
    with Database(home / "state.db") as database, database.transaction() as connection:  # its build is long forgotten
        row = ("local", "made", known.build_id, 0.0, json.dumps(to_json(known)))
        connection.execute("INSERT INTO images VALUES (?, ?, ?, ?, ?)", row)
    return spec


def test_unchanged_build_is_0_and_writes_its_archive(home: Path, run: Commands, tmp_path: Path) -> None:
    spec = already_made(home, run, tmp_path)
    done = run("build", spec, "--output", tmp_path / "out")
    assert done.status == 0, done.err
    assert done.out.splitlines()[-1] == "unchanged: image made has this content already"
    assert [line.split(" s  ")[1] for line in done.out.splitlines()[1:-1] if "archive" not in line] == [
        "cleaning: deleting what the build used",
        "finished: unchanged",
    ]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["made.tar.gz"]
    lines = [json.loads(line) for line in run("build", spec, "--json").out.splitlines()]
    assert [next(iter(line)) for line in lines] == ["event"] * (len(lines) - 1) + ["build"]
    assert lines[-1]["build"]["outcome"] == "unchanged"


def test_same_key_is_the_same_build(home: Path, run: Commands, tmp_path: Path) -> None:
    spec = already_made(home, run, tmp_path)
    for _ in range(2):
        assert run("build", spec, "--key", "nightly-7").status == 0
    assert len(run("builds", "list", "--json").document()) == 1
    assert run("build", spec).status == 0
    assert len(run("builds", "list", "--json").document()) == 2


def test_live_view_on_a_terminal(home: Path, run: Commands, tmp_path: Path) -> None:
    spec = already_made(home, run, tmp_path)
    status, written = on_terminal(home, "build", spec)
    assert status == 0
    assert "Traceback" not in written
    assert "greet" in written
    assert written.splitlines()[-1].endswith("unchanged: image made has this content already")
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h") == 1  # the cursor is hidden and comes back


def test_import_on_a_terminal_leaves_its_stages_with_their_times(home: Path, tmp_path: Path) -> None:
    disk = rooted(tmp_path / "small.raw", os_tree(tmp_path / "tree"))
    status, written = on_terminal(home, "images", "import", disk)
    assert status == 0
    assert " s  looking at what is inside" in written
    assert "image local/small" in written


def test_console_of_a_guest_does_not_steer_a_terminal(home: Path, run: Commands, tmp_path: Path) -> None:
    spec = already_made(home, run, tmp_path)
    run("build", spec, "--key", "x")
    [build] = run("builds", "list", "--json").document()
    logs = home / "builds" / build["id"] / "logs"
    logs.mkdir(parents=True)
    (logs / f"gs-{build['id']}-a1-vm.log").write_bytes(b"\x1b[2Jone \xe2\x9c\x93\r\n\x07two\n")
    status, written = on_terminal(home, "builds", "logs", build["id"], PAGER="cat")
    assert (status, written) == (0, "\ufffd[2Jone ✓\r\n\ufffdtwo\r\n")


def test_spinner_leaves_what_is_done_and_not_what_failed() -> None:
    console = Console(file=io.StringIO(), force_terminal=False, width=60)
    for done in (True, False):
        spinner = Spinner(console)
        spinner.start()
        spinner("reading [bold]x[/bold]\x1b", 0, 0)
        for written in range(10):
            spinner("writing", written, 10)
        spinner.stop(done=done)
    assert isinstance(console.file, io.StringIO)
    lines = [line.partition(" s  ")[2] for line in console.file.getvalue().splitlines() if " s  " in line]
    assert lines == ["reading [bold]x[/bold]\ufffd", "writing", "reading [bold]x[/bold]\ufffd"]


def test_stage_that_is_begun_again_is_told_again() -> None:
    said: list[str] = []
    stages = Stages(said.append)
    for what, done in (("a", 0), ("a", 5), ("b", 10), ("a", 10), ("a", 10)):
        stages(what, done, 10)
    assert [line.partition(":")[0] for line in said] == ["a", "b", "b", "a", "a"]


def test_a_terminal_that_cannot_be_drawn_on_gets_plain_lines(home: Path, run: Commands, tmp_path: Path) -> None:
    spec = already_made(home, run, tmp_path)
    status, written = on_terminal(home, "build", spec, TERM="dumb")
    assert status == 0
    assert "\x1b" not in written
    assert " s  finished: unchanged" in written


def test_progress_on_a_terminal_that_cannot_be_drawn_on_is_lines(home: Path, tmp_path: Path) -> None:
    disk = rooted(tmp_path / "small.raw", os_tree(tmp_path / "tree"))
    status, written = on_terminal(home, "images", "import", disk, TERM="dumb")
    assert status == 0
    assert "\x1b" not in written
    assert "looking at what is inside\r\n" in written


def test_a_terminal_without_colours_gets_none(home: Path, run: Commands, tmp_path: Path) -> None:
    spec = already_made(home, run, tmp_path)
    status, written = on_terminal(home, "build", spec, NO_COLOR="1")
    assert status == 0
    assert "\x1b[3" not in written.replace("\x1b[3A", "")


def test_live_view_fits_a_small_terminal(home: Path, run: Commands, tmp_path: Path) -> None:
    spec = already_made(home, run, tmp_path)
    status, written, seen = watched(["build", spec], size=(32, 9), environment={"GOLDSMITH_HOME": str(home)})
    assert status == 0, written
    drawn = [picture for picture in seen if "\u2026" in picture and "deleting" in picture]
    assert drawn
    assert all(len(line) <= 32 for picture in drawn for line in picture.splitlines() if not line.startswith("unch"))
    assert "made has this content already" in seen[-1]


def test_quiet_build_prints_the_image_alone(home: Path, run: Commands, tmp_path: Path) -> None:
    spec = already_made(home, run, tmp_path)
    done = run("build", spec, "--quiet")
    assert (done.status, done.out) == (0, "local/made\n")
