"""A GOLDSMITH_HOME of a test's own, with machines in it."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from shared.machines.machines import Machines, MachineSpec
from shared.ports import Message

BUILD = f"test{os.getpid()}"  # tests may run in several processes at once
NAME = f"gs-{BUILD}-a1-vm"
PATIENCE = 400.0  # seconds for a boot on a machine that does much else
CLOUD_INIT = b"""#cloud-config
bootcmd:
 - mkdir -p /run/goldsmith/cidata
 - mount -o ro LABEL=cidata /run/goldsmith/cidata
 - sh /run/goldsmith/cidata/bootstrap.sh >/dev/console 2>&1
"""


@dataclass
class Host:
    """A GOLDSMITH_HOME with machines, and what they published."""

    home: Path
    machines: Machines
    messages: list[Message]

    @property
    def folder(self) -> Path:
        return self.home / "builds" / BUILD / "machines" / NAME

    @property
    def console(self) -> str:
        return (self.folder / "console.log").read_text(errors="replace").replace("\r", "")

    def spec(self, disk: Path, script: str, boot: str = "direct", cpus: int = 2, internet: bool = True) -> MachineSpec:
        cidata: dict[str, bytes | Path] = {"bootstrap.sh": script.encode(), "user-data": CLOUD_INIT}
        cidata["meta-data"] = b"instance-id: test\n"
        return MachineSpec(NAME, self.folder, disk, cidata, boot, cpus, internet=internet)

    def run(self, disk: Path, script: str, boot: str = "direct", internet: bool = True) -> None:
        """Run a machine to its end."""
        self.machines.start(self.spec(disk, script, boot, internet=internet))
        assert self.machines.wait(NAME, PATIENCE), self.console

    def wait_for(self, text: str) -> None:
        """Wait until the console shows something."""
        wait_until(lambda: (self.folder / "console.log").exists() and text in self.console, text)


def wait_until(condition: object, what: str, seconds: float = PATIENCE) -> None:
    assert callable(condition)
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"{what} did not come about in {seconds} s"
        threading.Event().wait(0.05)
