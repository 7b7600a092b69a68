"""Disk files that grow, whether a machine runs with them or not."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import NotFound
from tests.shared.machines.hosts import NAME, Host


def test_a_disk_grows_whether_its_machine_runs_or_not_and_only_where_the_guest_sees_it(
    host: Host, blank_disk: Path
) -> None:
    size = blank_disk.stat().st_size
    host.machines.grow_disk(blank_disk, size + 4096)
    assert blank_disk.stat().st_size == size + 4096
    host.machines.start(host.spec(blank_disk, "", "firmware"))
    for _ in range(2):
        host.machines.grow_disk(blank_disk, size + 8192)
    machine = host.machines.status(NAME)
    assert (blank_disk.stat().st_size, machine and machine.status) == (size + 8192, "running")
    host.machines.stop(NAME)
    host.machines.grow_disk(blank_disk, size + 12288)
    assert blank_disk.stat().st_size == size + 12288
    with pytest.raises(NotFound, match="there is no disk none"):
        host.machines.grow_disk(blank_disk.with_name("none.raw"), size)
