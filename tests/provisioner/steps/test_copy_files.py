"""copy-files: the files in the image, their owners, and inputs that are refused."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from provisioner.protocol import Step
from provisioner.steps.step_context import StepContext, StepError, act
from provisioner.system.output import StepConsole, StepOutput
from provisioner.system.process import TimedOut


class Place:
    """A context and a root."""

    def __init__(self, folder: Path) -> None:
        self.context = folder / "context"
        self.root = folder / "root"
        self.context.mkdir()
        self.root.mkdir()
        self._output = StepOutput("copy", str(folder / "log"), StepConsole(os.devnull))

    def copy(self, source: str, destination: str, inputs: dict[str, str] | None = None, seconds: float = 60) -> None:
        """Do the step."""
        context = StepContext(str(self.root), str(self.context), self._output, time.monotonic() + seconds)
        inputs = {"owner": f"{os.getuid()}:{os.getgid()}", **(inputs or {})}
        step = Step("copy", "copy-files", {"source": source, "destination": destination, **inputs})
        assert act(step, context) == 0

    def mode(self, path: str) -> int:
        """Return the mode of a file below the root."""
        return stat.S_IMODE((self.root / path).lstat().st_mode)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Make an empty context and an empty root."""
    return Place(tmp_path)


@pytest.mark.parametrize(
    ("destination", "lands"),
    [
        ("/etc/app.conf", "etc/app.conf"),
        ("/etc/", "etc/given"),
        ("/there", "there/given"),
        ("/new/deep/", "new/deep/given"),
    ],
)
def test_a_file_lands(place: Place, destination: str, lands: str) -> None:
    (place.root / "there").mkdir()
    (place.context / "given").write_text("text")
    (place.context / "given").chmod(0o640)
    place.copy("given", destination)
    assert (place.root / lands).read_text() == "text"
    assert place.mode(lands) == 0o640


def test_a_folders_contents_land(place: Place) -> None:
    (place.context / "tree/sub").mkdir(parents=True, mode=0o750)
    (place.context / "tree/sub/file").write_text("inner")
    (place.context / "tree/link").symlink_to("/etc/passwd")
    (place.context / "tree/dangling").symlink_to("nowhere")
    place.copy("tree", "/opt/app/")
    assert (place.root / "opt/app/sub/file").read_text() == "inner"
    assert (place.root / "opt/app/link").readlink() == Path("/etc/passwd")
    assert (place.root / "opt/app/dangling").readlink() == Path("nowhere")


def test_the_mode_is_for_files_and_folders_can_be_entered(place: Place) -> None:
    (place.context / "tree/sub").mkdir(parents=True)
    (place.context / "tree/sub/file").write_text("inner")
    (place.root / "opt").mkdir(mode=0o711)
    place.copy("tree", "/opt/app", {"mode": "0640"})
    assert [place.mode(path) for path in ("opt/app", "opt/app/sub", "opt/app/sub/file")] == [0o750, 0o750, 0o640]
    assert place.mode("opt") == 0o711


def test_a_folder_that_was_there_stays_as_it_is(place: Place) -> None:
    (place.context / "tree").mkdir(mode=0o700)
    (place.context / "tree/file").write_text("new")
    (place.root / "etc").mkdir(mode=0o755)
    (place.root / "etc/other").write_text("kept")
    place.copy("tree", "/etc", {"mode": "0600"})
    assert (place.mode("etc"), place.mode("etc/file"), (place.root / "etc/other").read_text()) == (0o755, 0o600, "kept")


def test_a_link_is_replaced_and_not_followed(place: Place) -> None:
    (place.context / "given").write_text("new")
    (place.root / "real").write_text("old")
    (place.root / "link").symlink_to("real")
    (place.root / "link.goldsmith-new").write_text("left by a power cut")
    place.copy("given", "/link")
    assert (place.root / "link").read_text() == "new"
    assert not (place.root / "link").is_symlink()
    assert (place.root / "real").read_text() == "old"
    assert {path.name for path in place.root.iterdir()} == {"link", "real"}


def test_set_user_id_survives_the_change_of_owner(place: Place) -> None:
    (place.context / "given").write_text("x")
    place.copy("given", "/given", {"mode": "4755"})
    assert place.mode("given") == 0o4755


@pytest.mark.parametrize(
    ("owner", "ids"), [("root", (0, 0)), ("12:34", (12, 34)), ("12", (12, 12)), ("root:daemon", (0, 1))]
)
def test_owners_go_by_name_or_number(place: Place, owner: str, ids: tuple[int, int]) -> None:
    (place.context / "given").write_text("x")
    (place.context / "link").symlink_to("given")
    for name in ("given", "link"):
        place.copy(name, f"/{name}", {"owner": owner})
        found = (place.root / name).lstat()
        assert (found.st_uid, found.st_gid) == ids


@pytest.mark.parametrize(
    ("source", "destination", "inputs", "why"),
    [
        ("absent", "/x", {}, "'absent' is not in the context"),
        ("../root", "/x", {}, "leads out of the context"),
        ("/etc/passwd", "/x", {}, "leads out of the context"),
        ("out", "/x", {}, "leads out of the context"),
        ("out/passwd", "/x", {}, "leads out of the context"),
        ("given", "x", {}, "destination 'x' must be an absolute path"),
        ("given", "/x", {"mode": "9"}, "mode '9' is not octal"),
        ("given", "/x", {"mode": "77777"}, "mode '77777' is not between 0 and 7777"),
        ("given", "/x", {"owner": "nobody-like-this"}, "has no such user or group"),
        ("given", "/x", {"owner": "root:no-such-group"}, "has no such user or group"),
        ("pipe", "/x", {}, "is neither a file, a folder nor a link"),
        ("given", "/file/x", {}, "File exists"),
    ],
)
def test_what_cannot_be_copied_is_named(
    place: Place, source: str, destination: str, inputs: dict[str, str], why: str
) -> None:
    (place.context / "given").write_text("x")
    (place.context / "out").symlink_to("/etc")
    os.mkfifo(place.context / "pipe")
    (place.root / "file").write_text("")
    with pytest.raises(StepError, match=why):
        place.copy(source, destination, inputs)
    assert [path.name for path in place.root.iterdir()] == ["file"]


def test_time_is_limited(place: Place) -> None:
    (place.context / "given").write_text("x")
    with pytest.raises(TimedOut):
        place.copy("given", "/given", seconds=-1)
