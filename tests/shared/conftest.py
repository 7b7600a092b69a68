"""Machines on this host, the disks that they start from, and the users who work on them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.disks.extents import copy_sparse
from shared.machines.accelerator import accelerator
from shared.machines.machines import Machines
from shared.ports import Message
from tests.shared.machines.hosts import Host
from tests.shared.sandbox.ordinary_user import MODES, place_for


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    """root, or the ordinary user of the tests."""
    return str(request.param)


@pytest.fixture
def place(mode: str) -> Iterator[Path]:
    """A folder that this user owns and can reach."""
    with place_for(mode) as place:
        yield place


@pytest.fixture(scope="session")
def known_accelerator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the host has been asked once how machines run on it."""
    home = tmp_path_factory.mktemp("asked")
    accelerator(home)
    return home


@pytest.fixture
def host(tmp_path: Path, known_accelerator: Path) -> Iterator[Host]:
    shutil.copytree(known_accelerator, tmp_path / "home")
    messages: list[Message] = []
    with Machines(tmp_path / "home", messages.append) as machines:
        yield Host(tmp_path / "home", machines, messages)


@pytest.fixture
def disk(tmp_path: Path, debian_disk: Path) -> Path:
    copy = tmp_path / "disk.raw"
    copy_sparse(debian_disk, copy)
    return copy


@pytest.fixture
def blank_disk(tmp_path: Path) -> Path:
    """A disk whose boot sector does nothing, for ever."""
    blank = tmp_path / "disk.raw"
    sector = bytearray(512)
    sector[:2] = b"\xeb\xfe"
    sector[446 + 4] = 0x83
    sector[446 + 8 : 446 + 16] = (2048).to_bytes(4, "little") + (2048).to_bytes(4, "little")
    sector[510:] = b"\x55\xaa"
    blank.write_bytes(bytes(sector) + bytes(4 << 20))
    return blank
