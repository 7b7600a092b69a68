"""install-programs: what a maker VM lacks is installed, and told with the mirror where that fails."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from provisioner.protocol import Step
from provisioner.steps.step_context import StepContext, StepError, act
from provisioner.system.output import StepConsole, StepOutput

SOURCES = """Types: deb
# URIs: http://old.example/debian
URIs: http://mirror.example/debian
Suites: bookworm
"""


def install(root: Path, packages: dict[str, str]) -> int:
    """Do the step in a root."""
    output = StepOutput("install programs", str(root / "log"), StepConsole(os.devnull))
    context = StepContext(str(root), str(root), output, time.monotonic() + 20)
    return act(Step("install programs", "install-programs", {"packages": packages}), context)


def program(root: Path, name: str, then: str = "exit 0") -> None:
    """Add a program that records how it was called."""
    path = root / "usr/bin" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\necho {name} "$@" >>{root}/calls\n{then}\n')
    path.chmod(0o755)


def test_nothing_is_asked_of_a_mirror_where_all_is_there(tmp_path: Path) -> None:
    program(tmp_path, "apt-get", "exit 100")
    program(tmp_path, "sfdisk")
    (tmp_path / "usr/lib").mkdir()
    (tmp_path / "usr/lib/core").touch()
    assert install(tmp_path, {"sfdisk": "fdisk", "/usr/lib/core": "grub-pc-bin"}) == 0
    assert not (tmp_path / "calls").exists()


def test_each_missing_package_is_installed_once(tmp_path: Path) -> None:
    made = f"for name in mke2fs debugfs; do cp {tmp_path}/usr/bin/apt-get {tmp_path}/usr/bin/$name; done"
    program(tmp_path, "apt-get", made)
    program(tmp_path, "zstd")
    assert install(tmp_path, {"mke2fs": "e2fsprogs", "debugfs": "e2fsprogs", "zstd": "zstd"}) == 0
    assert (tmp_path / "calls").read_text().splitlines()[-1].endswith("install -- e2fsprogs")


@pytest.mark.parametrize("status", [0, 100])  # apt-get may also think that it has done all
def test_the_package_and_the_mirror_are_named_where_that_fails(tmp_path: Path, status: int) -> None:
    program(tmp_path, "apt-get", f"exit {status}")
    (tmp_path / "etc/apt/sources.list.d").mkdir(parents=True)
    (tmp_path / "etc/apt/sources.list.d/debian.sources").write_text(SOURCES)
    with pytest.raises(StepError, match=r"cannot install slirp4netns from mirror\.example: .*maker_image") as told:
        install(tmp_path, {"slirp4netns": "slirp4netns"})
    assert "old.example" not in str(told.value)


def test_an_image_without_a_package_manager_is_named(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="none of apt-get, dnf and zypper"):
        install(tmp_path, {"zstd": "zstd"})
