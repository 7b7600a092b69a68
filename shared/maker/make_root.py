"""make: the image of a root from nothing, in a catalogue of the maker VM's own."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from ..build.block_devices.description import default_disk
from ..build.image.python import OLDEST
from ..build.plan import OriginPlan
from ..clock import SystemClock
from ..delivery.bundle import keep_pyz
from ..delivery.cidata import CONTEXT
from ..elements.chosen import choose
from ..elements.packed_path import unpacked_path
from ..errors import InputError
from ..host.scratch import scratch_folder
from ..images.catalogue import Catalogue
from ..images.contents import ImageContents, describe_image
from ..json_values import reader
from ..local.plan_checks import make_folder
from ..machines.machines import Machines
from ..origins.elements import ElementsRequest, described_disk
from ..origins.kept_origins import KeptOrigins
from ..origins.packages import PackageRequest
from ..ports import Image, Message
from ..quantities import GIB

MADE = "made.json"


@dataclass(frozen=True)
class MadeRoot:
    """The image that was made: its name in the catalogue, and the gigabytes of its disk."""

    image: str
    disk_size_gb: int


def make_root(home: Path, origin: Path, folder: Path, cidata: Path) -> None:
    """Make the image of an origin, unless it is there, and note it for the next commands. GoldsmithError."""
    asked: OriginPlan = reader(OriginPlan)(json.loads(origin.read_text()))
    if asked.place and not os.path.lexists(folder / asked.place):
        raise InputError(f"source.{asked.kind}: {asked.place} is not in the context; put it there, and submit again")
    take_provisioner(home, cidata)
    image = _image(home, asked, folder, cidata / CONTEXT)
    refuse_unfit(describe_image(Catalogue(home, SystemClock()).disk(image.name)), asked)
    (home / MADE).write_text(json.dumps([image.name, asked.disk_size_gb]))


def take_provisioner(home: Path, cidata: Path) -> None:
    """Keep the provisioner that this VM runs by where rooms and sandboxes look for one: packing it takes long here."""
    for folder in (home / "cache", home / "cache" / "provisioner"):
        keep_pyz(folder, (cidata / "provisioner.pyz").read_bytes())


def made_root(home: Path) -> MadeRoot:
    """Return what make_root() has made."""
    return MadeRoot(*json.loads((home / MADE).read_text()))


def print_line(text: str) -> None:
    """Print a line for the log of the step."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _image(home: Path, asked: OriginPlan, folder: Path, context: Path) -> Image:
    if asked.kind == "elements":
        return _image_of_elements(home, asked, folder, context)
    described = replace(asked.disk or default_disk(), size=asked.disk_size_gb * GIB)
    origins = KeptOrigins(Catalogue(home, SystemClock()), home, print_line, described, environment={})
    if asked.kind == "rootfs":
        return origins.of_rootfs(folder / asked.place)
    if asked.kind == "oci":
        return origins.of_container(folder / asked.place)
    keyring = folder / asked.place if asked.place else None
    lists = {key: tuple(asked.asked[key]) for key in ("packages", "components")}
    return origins.of_packages(PackageRequest(**{**asked.asked, **lists, "keyring": keyring}))


def _image_of_elements(home: Path, asked: OriginPlan, folder: Path, context: Path) -> Image:
    origins = KeptOrigins(Catalogue(home, SystemClock()), home, print_line, asked.disk, environment={})
    place = home / "cache" / "origins"
    make_folder(place)
    with (
        Machines(home, drop_report) as machines,
        scratch_folder(place) as scratch,
        unpacked_path(asked.asked["path"], context, scratch.path) as path,  # the cidata is read-only
    ):
        image = folder / asked.place if asked.place else None
        elements = tuple(asked.asked["elements"])
        size = asked.disk_size_gb * GIB
        request = ElementsRequest(elements, path, asked.asked["env"], size=size, local_image=image)
        if asked.disk is None:
            _refuse_disk(request)
        return origins.of_elements(request, machines)


def _refuse_disk(request: ElementsRequest) -> None:
    """Refuse the disk that an element describes where no sandbox could run the steps in it. InputError."""
    chosen = choose(request.elements, [str(folder) for folder in request.path], on_image=False)
    described, file = described_disk(chosen)
    reason = described.needs_vm if described is not None else None
    if reason is not None:
        raise InputError(
            f"source.elements: {file}: {reason}, which only a machine that runs from it can change; on Google Cloud, "
            "write disk, with one ext4 file system for all but /boot/efi"
        )


def drop_report(_message: Message) -> None:
    """Drop what a machine sends that has no job."""


def refuse_unfit(found: ImageContents, asked: OriginPlan) -> None:
    """Refuse a root in which no step can run, or an image that could not be booted. InputError."""
    if found.unreadable is not None:
        raise InputError(f"source.{asked.kind}: the root cannot be read: {found.unreadable}")
    if not found.python3:
        raise InputError(
            f"source.{asked.kind}: what it makes has no python3, and the provisioner needs Python {OLDEST} or later; "
            "add it there"
        )
    if not asked.verified or asked.kind == "elements":  # whose steps install both
        return
    remedy = "write variant: cloud, or add" if asked.kind == "bootstrap" else "add"
    remedy += " packages with a kernel, an init system, cloud-init and python3, or leave verify out"
    if found.kernel is None:
        raise InputError(f"verify: boots the image, and what source.{asked.kind} makes has no kernel; {remedy}")
    if not (found.cloud_init or found.guest_agent):
        raise InputError(
            f"verify: boots the image, and in what source.{asked.kind} makes neither cloud-init nor Google's guest "
            f"agent can start its steps; {remedy}"
        )
