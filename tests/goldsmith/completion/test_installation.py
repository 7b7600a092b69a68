"""Installing completion: what the shell reads from then on, seen in new shells."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from goldsmith.completion.installation import install_completion, shell_in_use
from shared.errors import InputError
from tests.system.command import ROOT


def installed(home: Path, script: str, *, shell: str = "bash", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a shell whose home is a folder."""
    environment = {"HOME": str(home), "PATH": f"{ROOT}/.venv/bin:{os.environ['PATH']}", **variables}
    return subprocess.run([shell, "-c", script], env=environment, capture_output=True, text=True, check=False)


def test_bash_completes_in_new_shells_once_it_is_installed(tmp_path: Path) -> None:
    (tmp_path / ".bashrc").write_text("MINE=1")
    for _ in range(2):
        done = installed(tmp_path, "goldsmith --install-completion; true")
        assert done.stdout.startswith(f"completion of bash is installed in {tmp_path}"), done.stderr
    lines = (tmp_path / ".bashrc").read_text().splitlines()
    assert lines == ["MINE=1", f"source '{tmp_path}/.bash_completions/goldsmith.sh'"]
    assert "complete -" in installed(tmp_path, "source ~/.bashrc; complete -p goldsmith").stdout


def test_the_shell_that_runs_the_command_is_the_one_meant(tmp_path: Path) -> None:
    printed = installed(tmp_path, "goldsmith --show-completion; true", SHELL="/usr/bin/fish").stdout
    assert "complete -o nosort" in printed
    assert printed == installed(tmp_path, "_GOLDSMITH_COMPLETE=source_bash goldsmith").stdout


def test_each_shell_has_its_own_place(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "ZDOTDIR": str(tmp_path / "z")}
    (tmp_path / "z").mkdir()
    assert install_completion("zsh", environment) == tmp_path / ".zfunc" / "_goldsmith"
    assert "compinit" in (tmp_path / "z" / ".zshrc").read_text()
    assert install_completion("fish", environment) == tmp_path / ".config/fish/completions/goldsmith.fish"
    elsewhere = {**environment, "XDG_CONFIG_HOME": str(tmp_path / "c")}
    assert install_completion("fish", elsewhere) == tmp_path / "c/fish/completions/goldsmith.fish"


def test_without_a_shell_the_login_shell_is_meant_or_none() -> None:
    assert shell_in_use({"SHELL": "/usr/bin/fish"}, 0) == "fish"
    assert shell_in_use({"SHELL": "/usr/bin/fish"}, 1) == "fish"
    for environment in ({}, {"SHELL": "/bin/csh"}):
        with pytest.raises(InputError, match="source_bash"):
            shell_in_use(environment, 0)
