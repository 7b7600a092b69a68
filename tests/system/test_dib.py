"""goldsmith dib: disk-image-create's command line, its files under its names, its exit statuses."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from shared.disks.disk import Disk
from tests.provisioner.elements.element_folders import element
from tests.system.command import Goldsmith
from tests.system.sandboxes import assert_nothing_left

pytestmark = pytest.mark.slow

UNPACK = r"""#!/bin/bash
set -eu
less="--exclude=usr/lib/modules --exclude=usr/share/i18n"  # a third of it
sudo tar -C "$TARGET_ROOT" $less -xf "$TMP_HOOKS_PATH/files/root.tar"
"""
INSTALL = '#!/bin/bash\necho "$DIB_DEBUG_TRACE" >/etc/installed\n'
FAIL = "#!/bin/bash\nexit 7\n"


def elements(goldsmith: Goldsmith, rootfs: Path) -> Path:
    """Make an element that is a system, and one that fails."""
    folder = goldsmith.folder / "elements"
    made = element(
        folder, "system", {"root.d/10-root": UNPACK, "install.d/10-own": INSTALL}, provides="operating-system"
    )
    (made / "files").mkdir()
    shutil.copyfile(rootfs, made / "files" / "root.tar")
    element(folder, "failing", {"install.d/20-fail": FAIL})
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o444))
    return folder


@pytest.mark.soak
def test_files_are_made_and_named_as_there(empty: Goldsmith, debian_rootfs: Path) -> None:
    path, out = elements(empty, debian_rootfs), empty.home / "files"
    out.mkdir()
    shutil.chown(out, empty.home.stat().st_uid, empty.home.stat().st_gid)
    line: list[str | Path] = ["dib", "--path", path, "-n", "-x", "-o", out / "app", "-t", "raw,tgz", "--checksum"]
    done = empty.run(*line, "system")
    assert done.status == 0, done.text
    assert f"Image file {out}/app.raw created...\nImage file {out}/app.tgz created...\n" in done.out
    names = {each.name for each in out.iterdir()}
    images = ["app.raw", "app.tgz"]
    assert names == {
        *images,
        *(f"{name}.{kind}" for name in images for kind in ("md5", "sha256")),
        *("app.json", "app.spdx.json", "app.cdx.json"),
    }
    for name in images:
        data = (out / name).read_bytes()
        assert (out / f"{name}.md5").read_text() == f"{hashlib.md5(data).hexdigest()}  {name}\n"
        assert (out / f"{name}.sha256").read_text() == f"{hashlib.sha256(data).hexdigest()}  {name}\n"
    with Disk(out / "app.raw") as disk:
        assert disk.table.kind == "none"
        assert disk.root.read("/etc/installed") == b"1\n"
    listed = subprocess.run(["tar", "-tzf", out / "app.tgz"], capture_output=True, text=True, check=True).stdout
    assert "etc/installed" in listed
    assert [image["name"].partition("-")[0] for image in empty.images()] == ["elements"]  # the files are the result

    failed = empty.run(*line, "system", "failing")
    assert failed.status == 7, failed.text
    assert "install.d/20-fail of element failing: exit status 7" in failed.text
    assert {each.name for each in out.iterdir()} == names

    log = out / "log"
    again = empty.run(*line[:-3], "-t", "raw", "--logfile", log, "system")
    assert again.status == 0, again.text
    assert again.out.startswith(f"Output logs going to: {log}\nOld image found. Renaming it to {out}/app-")
    assert "step elements from the cache" in log.read_text()
    old = {each.name for each in out.iterdir()} - names - {"log"}
    assert sorted(name.rpartition("-")[2][len("00.00.00") :] for name in old) == [".raw", ".raw.md5", ".raw.sha256"]
    assert_nothing_left(empty)


def test_bad_input_makes_nothing(empty: Goldsmith) -> None:
    element(empty.folder / "elements", "system", provides="operating-system")
    line: list[str | Path] = ["dib", "--path", empty.folder / "elements", "-n"]
    cases: list[tuple[list[str | Path], str]] = [
        (["-o", empty.home / "none" / "app", "system"], "name a place that can be written"),
        (["-t", "qcow", "system"], "-t: 'qcow' is no type; did you mean qcow2?"),
        (["-o", empty.home / "app", "--logfile", empty.home / "none" / "log", "system"], "name a file that can be"),
    ]
    for words, problem in cases:
        done = empty.run(*line, *words)
        assert (done.status, problem in done.text) == (2, True), done.text
    assert list(empty.home.iterdir()) == []
