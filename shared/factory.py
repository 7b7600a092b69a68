"""The set of adapters in use, and the only module that knows which adapters exist; it imports them lazily."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .keys import Keys
from .ports import Bucket, Bus, Clock, Compute, Progress, Store

if TYPE_CHECKING:
    from .gcp.client import CloudClient as CloudClient
    from .gcp.client import CloudConsole as CloudConsole
    from .gcp.factory import CloudFactory as CloudFactory
    from .local.console import Console as Console
    from .local.doctor import Finding as Finding
    from .local.factory import LocalFactory as LocalFactory


@dataclass(frozen=True)
class ReportTarget:
    """Where this factory's build VMs send their reports."""

    publish_url: str  # Pub/Sub's REST `...:publish`
    token_url: str | None  # the metadata server's access token; None where none is needed
    port: str = "/dev/ttyS2"  # serial port 3, beside the console
    of_contents: bool = False  # whether VMs tell what is on their disk, into which the host cannot look
    linger: float = 0.0  # seconds that a VM stays up with what it could only say there


@dataclass(frozen=True)
class Factory:
    """Everything a worker needs of the world."""

    compute: Compute
    store: Store
    bucket: Bucket
    bus: Bus
    clock: Clock
    keys: Keys
    reports: ReportTarget
    logs: str  # URI or folder with {build_id} in it: where the consoles of a build's VMs are kept
    progress: Progress
    adopted_families: Collection[str]  # whose older images may be deprecated, whoever made them; *: all


def local(home: Path, progress: Progress | None = None) -> LocalFactory:
    """Give the factory of this machine, with all its state below `home`."""
    from .local.factory import open_factory

    return open_factory(home, progress)


def cloud(environment: Mapping[str, str]) -> CloudFactory:
    """Give the factory of a function on Google Cloud, as its environment describes it. EnvironmentFault."""
    from .gcp.factory import open_factory

    return open_factory(environment)


def client(project: str, bucket: str) -> CloudClient:
    """Give what a person's command line knows of a project: builds, logs, uploads; it makes nothing by itself."""
    from .gcp.client import open_client

    return open_client(project, bucket)


def temporary_folder() -> AbstractContextManager[Path]:
    """Return a folder for the length of a block; the next one removes what killed processes have left."""
    from .local.scratch import temporary_folder

    return temporary_folder()


def examine(home: Path) -> list[Finding]:
    """Look for what builds need of this machine."""
    from .local.doctor import examine

    return examine(home)
