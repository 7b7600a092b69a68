"""The Makefile, the script that installs packages (with an apt-get that only takes notes), and the launcher."""

import os
import pwd
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.project.source_tree import ROOT
from tests.provisioner.elements.element_folders import ORIGINAL


def run(*command: str | Path, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end with no input, and nothing of this environment but the search path."""
    return subprocess.run(
        command,
        cwd=cwd,
        env={"PATH": os.environ["PATH"], **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_make_alone_prints_help() -> None:
    done = run("make", "--no-print-directory")
    assert done.returncode == 0
    listed = [line.split()[1] for line in done.stdout.splitlines()]
    assert listed == [
        "help",
        "setup",
        "lock",
        "check",
        "test",
        "quick",
        "soak",
        "test-cloud",
        "cloud",
        "bench",
        "bundle",
        "dist",
        "demo",
        "picture",
        "clean",
    ]


@pytest.mark.parametrize("left_out", ["", "tests/cloud tests/browser"])
@pytest.mark.parametrize("target", ["check", "test", "quick", "soak", "cloud", "bench", "dist", "demo"])
def test_commands_of_a_target_are_whole_lines(target: str, left_out: str) -> None:
    """A comma or a bracket in the text of a condition would cut it."""
    printed = run("make", "-n", target, f"LEFT_OUT={left_out}")
    assert printed.returncode == 0, printed.stderr
    read = subprocess.run(["bash", "-n"], input=printed.stdout, capture_output=True, text=True, check=False)
    assert (read.returncode, read.stderr) == (0, ""), printed.stdout
    told = (
        f"leaving out {left_out}: the gcloud SDK or Terraform or Chromium or zsh or fish is not here" in printed.stdout
    )
    assert told == (target == "test" and bool(left_out))


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder of programs with what the script itself needs, a sudo, and an apt-get that only takes notes."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "cat", "env", "grep", "id"):
        (programs / name).symlink_to(shutil.which(name) or name)
    (programs / "python3").symlink_to(sys.executable)
    write(programs / "apt-get", f'echo "$*" >>"{tmp_path}/notes"')
    write(
        programs / "apt-cache", 'case $* in *mkosi*) echo "  Candidate: 14-2" ;; *) echo "  Candidate: (none)" ;; esac'
    )
    return programs


def write(path: Path, script: str) -> None:
    """Write a program."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def notes(bare: Path) -> list[list[str]]:
    """Return the arguments of apt-get, without options."""
    lines = (bare.parent / "notes").read_text().splitlines()
    return [
        [word for word in line.split() if word[0] != "-" and "=" not in word and "::" not in word] for line in lines
    ]


def install(bare: Path, *lists: str) -> subprocess.CompletedProcess[str]:
    """Run the script where the only programs are those in `bare`."""
    return run(ROOT / "setup" / "apt-packages.sh", *lists, PATH=str(bare))


def test_machine_that_has_everything_is_left_alone(bare: Path) -> None:
    write(bare / "apt-get", "exit 1")
    done = run(ROOT / "setup" / "apt-packages.sh", "base", PATH=f"{bare}:{os.environ['PATH']}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_missing_programs_are_installed(bare: Path) -> None:
    done = install(bare, "base", "development")
    assert done.returncode == 0, done.stderr
    update, wanted = notes(bare)
    assert update == ["update"]
    assert wanted[0] == "install"
    assert {"qemu-system-x86", "mmdebstrap", "shellcheck"} <= set(wanted)
    assert "python3" not in wanted


def test_what_is_missing_is_listed_and_not_installed(bare: Path) -> None:
    done = install(bare, "--missing", "base", "development")
    assert (done.returncode, done.stderr) == (0, "")
    assert {"qemu-system-x86", "mmdebstrap", "shellcheck"} <= set(done.stdout.splitlines())
    assert "python3" not in done.stdout.splitlines()
    assert not (bare.parent / "notes").exists()


def test_what_a_distribution_does_not_have_is_left_out(bare: Path) -> None:
    done = install(bare, "peers")
    assert done.returncode == 0, done.stderr
    assert "packer is not in this distribution" in done.stderr
    _, wanted = notes(bare)
    assert {"guestfs-tools", "mkosi"} <= set(wanted)
    assert "packer" not in wanted


def test_update_is_tried_twice(bare: Path) -> None:
    once = f'[ -e "{bare}/seen" ] || {{ : >"{bare}/seen"; exit 100; }}'
    write(bare / "apt-get", f'echo "$*" >>"{bare.parent}/notes"; {once}')
    assert install(bare, "base").returncode == 0
    assert [words[0] for words in notes(bare)] == ["update", "update", "install"]


def test_failure_to_install_is_told(bare: Path) -> None:
    write(bare / "apt-get", "case $* in *install*) exit 100 ;; esac")
    assert install(bare, "base").returncode != 0


def test_user_without_sudo_is_told_what_to_install(bare: Path) -> None:
    (bare / "id").unlink()
    write(bare / "id", "echo 1000")
    done = install(bare, "base")
    assert done.returncode != 0
    assert "run this as root: apt-get install" in done.stderr
    assert "mmdebstrap" in done.stderr


def test_user_with_sudo_gets_root(bare: Path) -> None:
    (bare / "id").unlink()
    write(bare / "id", "echo 1000")
    write(bare / "sudo", '"$@"')
    assert install(bare, "base").returncode == 0
    assert len(notes(bare)) == 2


def test_other_distributions_are_told_what_to_install(bare: Path) -> None:
    (bare / "apt-get").unlink()
    done = install(bare, "base")
    assert done.returncode != 0
    assert "neither Debian nor Ubuntu" in done.stderr
    assert "mmdebstrap" in done.stderr


def test_tests_have_an_ordinary_user_with_one_range_of_ids() -> None:
    """Of root's; any other user has to have ids of their own, and no user is made."""
    for _ in range(2):
        done = run(ROOT / "setup" / "test-user.sh")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    if os.geteuid() == 0:
        assert pwd.getpwnam("goldsmith-test").pw_dir == "/nonexistent"
        for name in ("subuid", "subgid"):
            lines = [line.split(":") for line in Path(f"/etc/{name}").read_text().splitlines()]
            [(first, count)] = [(int(start), int(length)) for user, start, length in lines if user == "goldsmith-test"]
            others = [(int(start), int(length)) for user, start, length in lines if user != "goldsmith-test"]
            assert count == 65536
            assert all(first + count <= start or start + length <= first for start, length in others)


def test_original_elements_are_there_as_data_alone() -> None:
    done = run(ROOT / "setup" / "original-elements.sh")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(list(ORIGINAL.glob("*/element-deps"))) > 70
    assert os.access(ORIGINAL / "vm" / "finalise.d" / "50-remove-bogus-udev-links", os.X_OK)
    assert find_spec("diskimage_builder") is None


def test_launcher_runs_this_checkout_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "shared").mkdir(parents=True)
    (tmp_path / "elsewhere" / "shared" / "__init__.py").write_text("raise SystemExit('a stranger')\n")
    (tmp_path / "elsewhere" / "goldsmith").mkdir()
    (tmp_path / "elsewhere" / "goldsmith" / "__init__.py").write_text("raise SystemExit('a stranger')\n")
    link = tmp_path / "link"
    link.symlink_to(ROOT / "setup" / "goldsmith")
    done = run(link, "--help", cwd=tmp_path / "elsewhere", PYTHONPATH=str(tmp_path / "elsewhere"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.lstrip().startswith("Usage: goldsmith ")
