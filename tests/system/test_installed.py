"""The wheel, in environments of its own: it brings the whole command, and no package of a name that others may have."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from goldsmith.version import RELEASE
from tests.installation import ROOT, installed_goldsmith, site_packages
from tests.provisioner.pythons import pythons
from tests.system.archives import debugfs
from tests.system.command import Goldsmith


def assert_builds(launcher: Path, goldsmith: Goldsmith) -> None:
    """By the sandbox, from a folder with packages of the same names."""
    for name in ("shared", "goldsmith", "provisioner"):
        stranger = goldsmith.folder / name
        stranger.mkdir()
        (stranger / "__init__.py").write_text("raise SystemExit('a stranger')\n")
    shutil.copytree(ROOT / "examples" / "hello", goldsmith.folder / "hello")
    words = ("build", "hello/build.yaml", "--engine", "chroot", "--output", "out", "--format", "raw", "--json")
    done = subprocess.run(
        [launcher, *words],
        cwd=goldsmith.folder,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(goldsmith.folder), **goldsmith.environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [disk] = goldsmith.output.glob("*.raw")
    assert debugfs(disk, "cat /var/lib/hello") == "hello from x86_64\n"


def assert_serves(launcher: Path, goldsmith: Goldsmith) -> None:
    """The dashboard, with its templates and styles, shows what was built."""
    environment = {"PATH": "/usr/bin:/bin", **goldsmith.environment}
    with subprocess.Popen([launcher, "serve"], env=environment, stdout=subprocess.PIPE, text=True) as served:
        assert served.stdout is not None
        address = served.stdout.readline().strip()
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        opener.addheaders = [("Accept", "text/html")]
        with opener.open(address) as page:
            assert b'<a class="row-link mono" href="/builds/hello-' in page.read()
        with opener.open(address.partition("?")[0] + "static/style.css") as style:
            assert style.headers["Content-Type"] == "text/css; charset=utf-8"
        served.send_signal(signal.SIGINT)
        assert served.wait() == 0


def assert_version(launcher: Path) -> None:
    done = subprocess.run([launcher, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"goldsmith {RELEASE}\n", "")


@pytest.mark.slow
def test_an_installed_wheel_builds_an_image(goldsmith: Goldsmith, tmp_path: Path) -> None:
    launcher = installed_goldsmith(tmp_path)
    brought = {path.name for path in site_packages(tmp_path).iterdir() if path.suffix != ".pth"}
    assert brought == {"goldsmith_installed", f"goldsmith_images-{RELEASE}.dist-info"}
    assert (tmp_path / "environment" / "share" / "man" / "man1" / "goldsmith.1").is_file()
    assert_version(launcher)
    assert_builds(launcher, goldsmith)
    assert_serves(launcher, goldsmith)
    doctor = subprocess.run([launcher, "doctor", "--install"], capture_output=True, text=True, check=False)
    assert (doctor.returncode, doctor.stderr) == (0, "")
    assert "\nok       packages " in doctor.stdout


@pytest.mark.soak
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_an_empty_environment_gets_all_that_it_needs(goldsmith: Goldsmith, tmp_path: Path, version: str) -> None:
    launcher = installed_goldsmith(tmp_path, pythons().get(version, sys.executable), from_index=True)
    assert site_packages(tmp_path).parent.name == f"python{version}"
    assert_version(launcher)
    assert_builds(launcher, goldsmith)
