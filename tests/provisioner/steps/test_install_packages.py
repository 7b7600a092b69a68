"""install-packages: its commands, their arguments, and the meaning of their exit statuses."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from provisioner.protocol import Step
from provisioner.steps.step_context import StepContext, StepError, act
from provisioner.system.output import StepConsole, StepOutput
from provisioner.system.process import TimedOut

APT = "-y -q -oDPkg::Lock::Timeout=600 -oDpkg::Options::=--force-confdef -oDpkg::Options::=--force-confold"


class Image:
    """A root whose package managers only record their calls."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls = root / "calls"
        self.calls.touch()
        self.lists = root / "var/lib/apt/lists"

    def add_program(self, name: str, then: str = "exit 0") -> None:
        """Add a package manager."""
        path = self.root / "usr/bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\necho {name} "$@" $DEBIAN_FRONTEND >>{self.calls}\n{then}\n')
        path.chmod(0o755)

    def install(self, *packages: str, seconds: float = 20) -> int:
        """Do the step."""
        output = StepOutput("install", str(self.root / "log"), StepConsole(os.devnull))
        context = StepContext(str(self.root), str(self.root), output, time.monotonic() + seconds)
        return act(Step("install", "install-packages", {"packages": list(packages)}), context)


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """Make an image without any package manager."""
    return Image(tmp_path)


def test_apt_updates_where_there_are_no_lists(image: Image) -> None:
    image.add_program("apt-get")
    assert image.install("curl", "jq=1.6") == 0
    update, install = image.calls.read_text().splitlines()
    assert update == f"apt-get {APT} update noninteractive"
    assert install == f"apt-get {APT} install -- curl jq=1.6 noninteractive"


def test_apt_uses_the_lists_that_are_there(image: Image) -> None:
    image.add_program("apt-get")
    image.lists.mkdir(parents=True)
    (image.lists / "deb.debian.org_InRelease").touch()
    assert image.install("curl") == 0
    assert " install " in image.calls.read_text()
    assert " update " not in image.calls.read_text()


def test_apt_gets_new_lists_when_the_old_ones_fail(image: Image) -> None:
    image.add_program("apt-get", f'[ "$6" = update ] || [ $(grep -c " install " {image.calls}) -ne 1 ] || exit 100')
    image.lists.mkdir(parents=True)
    (image.lists / "deb.debian.org_InRelease").touch()
    assert image.install("curl") == 0
    assert [line.split()[6] for line in image.calls.read_text().splitlines()] == ["install", "update", "install"]


def test_a_failed_update_is_the_steps_failure(image: Image) -> None:
    image.add_program("apt-get", "exit 100")
    assert image.install("curl") == 100
    assert len(image.calls.read_text().splitlines()) == 1


def test_another_apt_is_waited_for(image: Image) -> None:
    image.add_program("apt-get")
    image.lists.mkdir(parents=True)
    (image.lists / "lock").touch()
    hold = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", hold.replace("open(", "f := open(", 1), str(image.lists / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(TimedOut):
            image.install("curl", seconds=0.3)
        assert image.calls.read_text() == ""
        holder.communicate()
    assert image.install("curl") == 0
    with (image.lists / "lock").open("r+") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the step keeps no lock


def test_dnf_is_next(image: Image) -> None:
    image.add_program("dnf", "exit 3")
    image.add_program("zypper")
    assert image.install("curl") == 3
    assert image.calls.read_text() == "dnf -y install -- curl\n"


@pytest.mark.parametrize(("status", "given"), [(0, 0), (102, 0), (103, 0), (104, 104), (4, 4)])
def test_zypper_has_statuses_of_its_own(image: Image, status: int, given: int) -> None:
    image.add_program("zypper", f"exit {status}")
    assert image.install("curl") == given
    assert image.calls.read_text() == "zypper --non-interactive install -- curl\n"


def test_no_package_manager_is_explained(image: Image) -> None:
    with pytest.raises(StepError, match="none of apt-get, dnf and zypper; install its packages with a run-script step"):
        image.install("curl")


def test_no_packages_are_no_work(image: Image) -> None:
    assert image.install() == 0
