"""The environment of scripts: what bash makes of environment.d, and the functions that scripts call."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from provisioner.elements.environment import array_of, source_environment
from provisioner.elements.model import Element, ElementsError

BASE = {"PATH": "/usr/bin:/bin", "DIB_RELEASE": "bookworm", "PWD": "/nowhere"}
ELEMENTS = [Element("app", "/elements/with space/app", (), ()), Element("base", "/elements/base", (), ())]


def sourced(folder: Path, *texts: str) -> dict[str, str]:
    """Return the environment after files of these texts."""
    files = []
    for number, text in enumerate(texts):
        path = folder / f"{number}0-file"
        path.write_text(text)
        files.append(str(path))

    def run(command: list[str]) -> int:
        return subprocess.run(command, env=BASE, check=False, stdout=subprocess.DEVNULL).returncode

    owners = {str(folder / "10-file"): "app"}
    return source_environment(files, array_of(ELEMENTS), str(folder / "told"), ["/bin/bash"], run, owners)


def said(environment: dict[str, str], script: str) -> tuple[int, str]:
    """Return what bash says to a script in an environment."""
    done = subprocess.run(["/bin/bash", "-c", script], env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_files_change_the_variables_in_their_order(tmp_path: Path) -> None:
    found = sourced(
        tmp_path,
        'export DIB_RELEASE=${DIB_RELEASE:-sid} TEXT="a\nb"\nnot_exported=1\n',
        "export NAME=${not_exported}${DIB_RELEASE}\nunset TEXT\n",
    )
    assert found["NAME"] == "1bookworm"
    assert {"TEXT", "not_exported", "PWD", "SHLVL", "_"}.isdisjoint(found)
    assert sourced(tmp_path, "export TEXT='a\nb=c'\n")["TEXT"] == "a\nb=c"


def test_a_file_that_fails_is_named(tmp_path: Path) -> None:
    for text in ("false\n", "echo $NOT_SET_AT_ALL\n", "exit 3\n", "if\n"):
        with pytest.raises(ElementsError, match="/10-file of element app: exit status"):
            sourced(tmp_path, "export A=1\n", text)
    with pytest.raises(ElementsError, match="/00-file: exit status 126"):  # more than a program can be given
        sourced(tmp_path, "for n in {1..50}; do export A$n=$(printf %0100000d 0); done\n")


def test_a_file_that_ends_the_shell_is_named(tmp_path: Path) -> None:
    for text in ("exit 0\n", "exec true\n", "trap - EXIT; exit\n"):
        with pytest.raises(ElementsError, match="/10-file of element app: ends the shell that reads it; write return"):
            sourced(tmp_path, "export A=1\n", text)
    assert sourced(tmp_path, "export A=1\n", "return 0\n")["A"] == "1"


def test_what_a_script_puts_in_the_way_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "told").mkdir()
    with pytest.raises(ElementsError, match=r"/told: .*; leave the build's own folder alone"):
        sourced(tmp_path, "export A=1\n")
    (tmp_path / "told").rmdir()
    with pytest.raises(ElementsError, match="/told: is not a regular file; leave"):
        sourced(tmp_path, f"trap 'rm {tmp_path}/told; mkfifo {tmp_path}/told' EXIT\n")


def test_scripts_have_functions(tmp_path: Path) -> None:
    environment = sourced(tmp_path)
    array = 'eval declare -A found=($(get_image_element_array)); echo "${found[app]}:${#found[@]}"'
    assert said(environment, array) == (0, "/elements/with space/app:2\n")
    assert said(environment, "die it is broken") == (1, "it is broken\n")
    assert said(environment, "(exit 4) || die it is broken") == (4, "it is broken\n")
    assert said(environment, f"set -eu; unmount_dir {tmp_path}; echo done") == (0, "done\n")
    assert said(environment, "unmount_dir /nowhere") == (0, "*** /nowhere is not a directory\n")
