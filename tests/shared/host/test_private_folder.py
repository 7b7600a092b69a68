"""Folders that only their owner enters: made so, tightened, or refused with what to do."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from shared.errors import EnvironmentFault
from shared.host.private_folder import private_folder
from shared.runtime.opening import local

STRANGER = 54321


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_made_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0o000)
    try:
        private_folder(tmp_path / "parent" / "home")
    finally:
        os.umask(before)
    assert mode(tmp_path / "parent" / "home") == 0o700


@pytest.mark.parametrize("loose", [0o755, 0o750, 0o711, 0o777, 0o1777, 0o704])
def test_loose_one_of_ours_is_tightened_and_told_once(
    tmp_path: Path, loose: int, caplog: pytest.LogCaptureFixture
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(loose)
    with caplog.at_level(logging.WARNING):
        private_folder(home)
        private_folder(home)
    assert mode(home) == 0o700
    assert caplog.messages == [f"{home} could be read by other users; its mode is 0700 now"]


def test_link_to_a_folder_of_ours_is_followed_and_tightened(tmp_path: Path) -> None:
    target = tmp_path / "large-disk"
    target.mkdir(mode=0o755)
    (tmp_path / "home").symlink_to(target)
    private_folder(tmp_path / "home")
    assert mode(target) == 0o700


@pytest.mark.parametrize("what", ["a file", "a link to nothing", "below a file"])
def test_no_folder(tmp_path: Path, what: str) -> None:
    home = tmp_path / "home"
    if what == "a link to nothing":
        home.symlink_to(tmp_path / "absent")
    else:
        home.touch()
    with pytest.raises(EnvironmentFault, match="not a folder; set GOLDSMITH_HOME to one"):
        private_folder(home / "below" if what == "below a file" else home)


def of_another_user(tmp_path: Path, what: str) -> Path:
    """Return a folder that this user may enter and that is another user's, or is reached by way of one."""
    home = tmp_path / "home"
    if what == "a link of theirs":
        (tmp_path / "target").mkdir(mode=0o700)
        home.symlink_to(tmp_path / "target")
        os.chown(home, STRANGER, STRANGER, follow_symlinks=False)
        return home
    theirs = Path("/")
    if os.geteuid() == 0:
        theirs = tmp_path / "theirs"
        theirs.mkdir(mode=0o755)
        os.chown(theirs, STRANGER, STRANGER)
    if what == "a link to their folder":
        home.symlink_to(theirs)
        return home
    return theirs


THEIRS = ["their folder", "a link to their folder", *(["a link of theirs"] if os.geteuid() == 0 else [])]


@pytest.mark.parametrize("what", THEIRS)
def test_what_another_user_owns_is_refused_and_left_as_it_is(tmp_path: Path, what: str) -> None:
    home = of_another_user(tmp_path, what)
    before = home.stat().st_mode
    with pytest.raises(EnvironmentFault, match=r"belongs to user .*; set GOLDSMITH_HOME to a folder of your own"):
        local(home)
    assert home.stat().st_mode == before


def test_backend_tightens_the_home_that_it_opens(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o755)
    with local(home):
        assert mode(home) == 0o700
        assert mode(home / "master.key") == 0o600
