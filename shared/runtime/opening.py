"""The set of adapters in use, and the only module that knows which adapters exist; it imports them lazily."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from ..build.build import Build, ImageUsage
from ..interruption import Interruption
from ..ports import Progress

if TYPE_CHECKING:
    import socket

    from ..build.plan import SourceImage
    from ..local.console import LocalConsole as LocalConsole
    from ..local.steps.cached_steps import CachedSteps as CachedSteps
    from ..published.cascade import Rebuild as Rebuild
    from ..published.image_check import ImageVerdict as ImageVerdict
    from ..published.promotion import PromotedImage as PromotedImage
    from ..published.revocation import RevokedImage as RevokedImage
    from ..upkeep.kept_triggers import KeptTriggers as KeptTriggers
    from .builds import LocalBuilds as LocalBuilds
    from .cache import BuildCache as BuildCache
    from .cloud import CloudBackend as CloudBackend
    from .cloud import CloudDesk as CloudDesk
    from .desk import LocalDesk as LocalDesk
    from .doctor import HostCheck as HostCheck
    from .images import LocalImages as LocalImages
    from .keeper import Keeper as Keeper
    from .keeper import Retried as Retried
    from .one_machine import LocalBackend as LocalBackend
    from .provenance import CloudProvenance as CloudProvenance
    from .provenance import LocalProvenance as LocalProvenance
    from .push import PushedImage as PushedImage
    from .terminal import CloudClient as CloudClient
    from .terminal import CloudConsole as CloudConsole


def local(home: Path, progress: Progress | None = None, concurrency: int | None = None) -> LocalBackend:
    """Return the backend of this machine, with all its state below `home`."""
    from .one_machine import open_one_machine

    return open_one_machine(home, progress, concurrency)


def mending(checks: Sequence[HostCheck]) -> str:
    """Return the one command line that mends what was found lacking."""
    from .doctor import mending

    return mending(checks)


def images_here(backend: LocalBackend) -> LocalImages:
    """Return the work on this machine's images, on an opened backend."""
    from .images import LocalImages

    return LocalImages(backend)


def desk_here(backend: LocalBackend) -> LocalDesk:
    """Return what does what people ask for in the dashboard of this machine, on an opened backend."""
    from .desk import LocalDesk

    return LocalDesk(backend)


def provenance_here(backend: LocalBackend) -> LocalProvenance:
    """Return what is stated of this machine's images, on an opened backend."""
    from .provenance import LocalProvenance

    return LocalProvenance(backend)


def cache_here(home: Path) -> BuildCache:
    """Return what earlier builds below `home` have left of their steps."""
    from .cache import BuildCache

    return BuildCache(home)


def builds_here(backend: LocalBackend) -> LocalBuilds:
    """Return this machine's builds, on an opened backend."""
    from .builds import LocalBuilds

    return LocalBuilds(backend)


def triggers_here(backend: LocalBackend) -> KeptTriggers:
    """Return this machine's specs that are built again by themselves, on an opened backend."""
    from ..upkeep.kept_triggers import KeptTriggers

    return KeptTriggers(backend)


def usage_lines(usage: ImageUsage) -> tuple[str, ...]:
    """Return what is told of the users of an image, a line each."""
    from ..published.usage import usage_lines as lines

    return lines(usage)


def trial(backend: LocalBackend, source: SourceImage) -> AbstractContextManager[LocalBackend]:
    """Return a backend for one build from one image of an opened backend, of which nothing stays after a block."""
    from .trial import open_trial

    return open_trial(backend, source)


def keeper(
    backend: LocalBackend,
    interruption: Interruption,
    again: Callable[[Build | None], Retried | None],
    *,
    once: bool,
) -> Keeper:
    """Return what keeps the machine of a build of this machine when its step has failed."""
    from .keeper import Keeper

    return Keeper(backend.machines, interruption, again, once=once)


def connect_shell(build: Build) -> socket.socket:
    """Connect to the process that keeps a build's machine. NotFound where none does."""
    from .keeper import connect_shell

    return connect_shell(build)


def cloud(environment: Mapping[str, str]) -> CloudBackend:
    """Return the backend of a function on Google Cloud, as its environment describes it. EnvironmentFault."""
    from .cloud import open_cloud

    return open_cloud(environment)


def cloud_desk(backend: CloudBackend) -> CloudDesk:
    """Return where the dashboard on Google Cloud takes what people ask for."""
    from .cloud import CloudDesk

    return CloudDesk(backend)


def client(project: str, bucket: str) -> CloudClient:
    """Return what a person's command line knows of a project: builds, logs, uploads; it makes nothing by itself."""
    from .terminal import open_client

    return open_client(project, bucket)


def provenance_at(project: str, bucket: str) -> CloudProvenance:
    """Return what is stated of the images of a project, with the credentials of the person who runs this."""
    from .provenance import open_cloud_provenance

    return open_cloud_provenance(project, bucket, os.environ)


def push_here(
    backend: LocalBackend,
    name: str,
    project: str,
    bucket: str,
    renamed: str,
    family: str | None,
    features: Sequence[str],
    *,
    keep: bool,
) -> PushedImage:
    """Bring an image of this machine to a project, by a bucket, under another name perhaps. InputError, Transient."""
    from ..images.archived import ArchivedAs
    from .push import person_target, push_image

    asked = ArchivedAs(project, renamed, tuple(features))
    return push_image(name, asked, family, person_target(project, bucket), backend, keep=keep)


def check_webhooks(home: Path) -> None:
    """Raise InputError where the webhooks of this machine cannot be read: none would be told of a build's end."""
    from .followers.webhooks import home_webhooks

    home_webhooks(home)


def temporary_folder() -> AbstractContextManager[Path]:
    """Return a folder for the length of a block; the next one removes what killed processes have left."""
    from ..host.scratch import temporary_folder

    return temporary_folder()


def examine(home: Path) -> list[HostCheck]:
    """Look for what builds need of this machine."""
    from .doctor import examine

    return examine(home)


def install_lacking_packages() -> bool:
    """Install the packages that builds need and this machine lacks; return whether that was done."""
    from .doctor import install_lacking_packages

    return install_lacking_packages()
