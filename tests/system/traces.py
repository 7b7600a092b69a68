"""What a home's commands leave: processes, sockets, files."""

from __future__ import annotations

import time
from pathlib import Path

PATIENCE = 60.0  # seconds, on a busy machine, in which the kernel ends what was tied to a killed process


class Traces:
    """Find processes, files and sockets that belong to one home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._mark = f"GOLDSMITH_HOME={home}".encode()

    def processes(self) -> dict[int, str]:
        """All that was started by the home's commands and lives: the command's children have its environment."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if self._mark in (folder / "environ").read_bytes().split(b"\0"):
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue  # it has ended meanwhile, or is not ours
        return found

    def machines(self) -> list[int]:
        """Return the processes of QEMU."""
        return [pid for pid, line in self.processes().items() if "qemu-system" in line.split(" ")[0]]

    def wait_for_no_process(self, seconds: float = PATIENCE) -> None:
        """Wait until none is left. Raises AssertionError."""
        until = time.monotonic() + seconds
        while left := self.processes():
            assert time.monotonic() < until, left
            time.sleep(0.02)

    def files(self) -> list[str]:
        """Files and folders of builds but their logs, and whatever was left half written anywhere in the home."""
        left = []
        for path in sorted(self.home.rglob("*")):
            parts = path.relative_to(self.home).parts
            below = parts[0] == "builds" and len(parts) > 2 and parts[2] != "logs"
            if parts[:2] in (("cache", "roots"), ("cache", "layers")):  # files of images, whatever their names
                continue
            half = path.name.startswith(".") or path.name.endswith((".new", ".part", ".tmp"))
            if (below or half) and parts != (".reserve",):  # the room that a full disk is survived with
                left.append("/".join(parts))
        return left

    def sockets(self) -> list[str]:
        """Abstract sockets of the machines of this home's builds."""
        builds = [path.name for path in (self.home / "builds").glob("*")]
        bound = [line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines() if "@goldsmith" in line]
        return [name for name in bound if any(build in name for build in builds)]

    def assert_none(self) -> None:
        """Check that nothing is left but state, images, cache and logs."""
        self.wait_for_no_process()
        assert self.files() == []
        assert self.sockets() == []
