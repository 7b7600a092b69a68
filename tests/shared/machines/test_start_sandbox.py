"""What a host has to have before a sandbox is made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shared.errors import EnvironmentFault
from shared.machines.start_sandbox import check_way

OTHER = 65534  # a user and a group that own nothing here


@pytest.mark.parametrize(
    ("mode", "user", "group"),
    [(0o700, os.getuid(), OTHER), (0o010, OTHER, os.getgid()), (0o701, OTHER, OTHER)],
    ids=["its owner", "its group, as the primary one", "others"],
)
def test_a_home_that_can_be_passed(tmp_path: Path, mode: int, user: int, group: int) -> None:
    home = _open_above(tmp_path / "home")
    home.chmod(mode)
    check_way(home / "not there yet", user, group)


def test_a_home_that_only_a_supplementary_group_can_pass(tmp_path: Path) -> None:
    home = _open_above(tmp_path / "home")
    home.chmod(0o770)
    with pytest.raises(EnvironmentFault, match=rf"{home}: .*chmod o\+x"):
        check_way(home / "below", OTHER, OTHER)


def _open_above(home: Path) -> Path:
    """Make a folder that all may come to, which pytest's own folders do not let them."""
    home.mkdir()
    for folder in home.parents:
        if folder.name.startswith(("pytest", "test", "popen")):
            folder.chmod(folder.stat().st_mode | 0o011)
    return home
