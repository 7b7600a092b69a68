"""Compute Engine as the port's Compute. The parts behind it import google-cloud-compute, at the first call.

Importing that takes a second and 100 MB; functions that never make a call do without.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

from ...build.build import ArchiveRecord, ExportedImage
from ...build.image.archived import ArchivedImage
from ...build.plan import Plan
from ...build.resources import beside_archive, export_targets
from ...errors import InputError, NotFound, Permanent
from ...export_ports import DiskRequest
from ...image_users import ImageUse
from ...names import BUILD_LABEL, EXPIRES_LABEL, is_own
from ...ports import (
    Clock,
    CopyRequest,
    Duplicate,
    Image,
    ImageRequest,
    Machine,
    MachineRequest,
    Package,
    Progress,
    Resource,
    ResourceKind,
)
from ..settings import Settings

if TYPE_CHECKING:
    from provisioner.hygiene.hygiene import Finding
    from provisioner.protocol import Step

    from ..storage import GoogleBucket
    from .calls import Calls
    from .delivery import Delivery
    from .images import Images
    from .machines import CloudMachines

POLL = 2.0  # seconds, at most, between two looks at a machine that is to stop
LEAST_PAUSE = 0.25  # seconds


class GoogleCompute:
    """All projects that our service account reaches. Each call waits for 240 s at most, then raises Transient."""

    def __init__(self, settings: Settings, bucket: GoogleBucket, clock: Clock) -> None:
        self._settings = settings
        self._bucket = bucket
        self._clock = clock

    @cached_property
    def _calls(self) -> Calls:
        from .calls import Calls

        return Calls(self._settings, self._clock)

    @cached_property
    def _images(self) -> Images:
        from .images import Images

        return Images(self._calls)

    @cached_property
    def _machines(self) -> CloudMachines:
        from .machines import CloudMachines

        return CloudMachines(self._settings, self._calls)

    @cached_property
    def _delivery(self) -> Delivery:
        from .delivery import Delivery

        return Delivery(self._settings, self._images, self._bucket)

    def check(self, plan: Plan, *, boots: bool = True) -> None:
        """Look at zones, machine type, GPU and projects; without a VM, at nothing."""
        from .check import check_plan

        if boots:
            check_plan(plan, self._settings, self._calls)
        for target in (*export_targets(plan).values(), *beside_archive(plan)):
            if self._is_listed(target):
                raise InputError(f"output.export.to: {target} is there already; name another one, or a folder")

    def _is_listed(self, uri: str) -> bool:
        """Return whether an object is there. InputError without its bucket.

        Names are listed, since to look an object up takes the right to read it: specs can name contexts there.
        """
        try:
            return any(found.uri == uri for found in islice(self._bucket.listing(uri), 1))  # the first is the shortest
        except NotFound as error:
            raise InputError(f"output.export.to: {error}; write a bucket that is there") from error

    def image(self, project: str, name: str) -> Image | None:
        """Look one image up."""
        return self._images.get(project, name)

    def images(self, project: str, *, family: str | None = None, prefix: str = "") -> Sequence[Image]:
        """List images, newest first."""
        return self._images.list(project, family=family, prefix=prefix)

    def every_image(self, project: str) -> Iterator[Image]:
        """List images page by page."""
        return self._images.every(project)

    def inspect_disk(self, name: str, source: str, places: Sequence[str] = ()) -> Sequence[Finding]:
        """Nothing: Compute Engine does not look inside disks, and the machine has done it."""
        return ()

    def find_secrets(self, name: str, source: str, steps: Sequence[Step]) -> Sequence[Finding]:
        """Nothing, as with other findings: no function may read a secret."""
        return ()

    def create_image(self, request: ImageRequest) -> Image:
        """Make an image of a disk; that of a root has to be the build's own, by its label and size."""
        if request.made_by and self._images.get(request.project, request.name) is None:
            place = request.source_project, request.zone, request.source_disk
            self._machines.check_disk(*place, request.made_by, request.disk_gb)
        try:
            return self._images.create(request)
        except NotFound:
            self._machines.refuse_without_disk(request.source_project, request.zone, request.source_disk)
            raise

    def import_archive(self, request: ArchivedImage, seconds: float) -> Image:
        """Make an image of an archive in Cloud Storage, and wait so long for it. AlreadyExists, Transient."""
        return self._images.import_archive(request, seconds)

    def export_image(self, project: str, name: str, target: str, compression: str, progress: Progress) -> ArchiveRecord:
        """Refuse: Compute Engine needs a machine for that, which plans of exports have."""
        raise Permanent(
            f"Compute Engine cannot write an archive of image {name} by itself; get one with: "
            f"gcloud compute images export --image={name} --project={project} --destination-uri={target}"
        )

    def export_files(
        self, project: str, name: str, targets: Mapping[str, str], compression: str, progress: Progress
    ) -> ExportedImage:
        """Refuse, as export_image() does."""
        raise Permanent(
            f"Compute Engine cannot write image {name} as {', '.join(targets)} by itself; build it on one machine "
            "with: goldsmith build SPEC --output FOLDER"
        )

    def packages(self, project: str, name: str) -> Sequence[Package] | None:
        """None: Compute Engine does not look inside images."""
        return None

    def disk_digest(self, project: str, name: str) -> str | None:
        """None: Compute Engine does not look inside images."""
        return None

    def label_image(self, image: Image, labels: Mapping[str, str]) -> None:
        """Set an image's labels."""
        self._images.label(image, labels)

    def set_family(self, project: str, name: str, family: str | None) -> None:
        """Patch the family of an image."""
        self._images.set_family(project, name, family)

    def copy_image(self, request: CopyRequest) -> Image:
        """Make an image of another image."""
        return self._images.copy(request)

    def share_image(self, image: Image, member: str) -> None:
        """Grant compute.imageUser on the image."""
        self._images.share(image, member)

    def duplicate_image(self, wanted: Duplicate) -> Image:
        """Make an image of another one."""
        return self._images.duplicate(wanted)

    def deprecate_image(self, project: str, name: str, replacement: str, deletes_at: float | None) -> None:
        """Mark an image DEPRECATED in favour of another."""
        self._images.deprecate(project, name, replacement, deletes_at)

    def activate_image(self, image: Image) -> None:
        """Take the mark DEPRECATED away."""
        self._images.activate(image)

    def obsolete_image(self, image: Image, active: str) -> None:
        """Mark an image OBSOLETE."""
        self._images.obsolete(image, active)

    def create_machine(self, request: MachineRequest) -> str:
        """Make a machine in the first zone that has room; give its zone."""
        until = self._calls.until()
        zone = self._machines.existing(request, until)
        if zone is None:
            zone = self._machines.create(request, self._delivery.prepare(request, until), until)
        return zone

    def machine(self, name: str, project: str, zone: str) -> Machine | None:
        """Look a machine up."""
        return self._machines.get(project, zone, name)

    def wait_until_stopped(self, name: str, project: str, zone: str, seconds: float) -> bool:
        """Look about every second whether a machine has stopped, or is gone."""
        until = self._clock.now() + seconds
        while not self._machines.is_stopped(project, zone, name):
            left = until - self._clock.now()
            if left < LEAST_PAUSE:
                return False
            self._clock.pause(min(2 * left, POLL))  # which waits for half of it, on the average
        return True

    def grow_disk(self, name: str, project: str, zone: str, gigabytes: int) -> None:
        """Make a boot disk larger; Compute Engine tells the machine that has it."""
        self._machines.grow_disk(project, zone, name, gigabytes)

    def attach_disk(self, request: DiskRequest) -> None:
        """Make the disk of an image, and attach it to a machine that runs."""
        self._machines.attach_disk(request, self._calls.until())

    def serial_output(self, name: str, project: str, zone: str, port: int, start: int) -> tuple[bytes, int]:
        """Read a serial port's output."""
        return self._machines.serial_output(project, zone, name, port, start)

    def delete(self, kind: ResourceKind, name: str, project: str, zone: str, *, image_id: str = "") -> None:
        """Delete a machine, and the files that it was given; or a disk, an image, an object."""
        if kind == "machine":
            self._machines.delete(project, zone, name)
            self._delivery.remove(project, name)
        elif kind == "disk":
            self._machines.delete_disk(project, zone, name)
        elif kind == "image":
            self._images.delete(project, name, image_id)
        else:
            self._bucket.delete(name)

    def uses(self, project: str, images_of: str) -> Iterator[ImageUse]:
        """List what uses images, as the port ImageUsers."""
        from .image_users import GoogleImageUsers

        return GoogleImageUsers(self._calls).uses(project, images_of)

    def labelled(self, project: str) -> Iterator[Resource]:
        """List machines and disks, and the images of CIDATA disks: images that expire."""
        for machine in self._machines.ours(project):
            yield from _resource("machine", machine.name, machine.zone, machine.labels)
        for disk in self._machines.our_disks(project):
            yield from _resource("disk", disk.name, disk.zone, disk.labels)
        for image in self._images.temporary(project):
            yield from _resource("image", image.name, "", image.labels)


def _resource(kind: ResourceKind, name: str, zone: str, labels: Mapping[str, str]) -> Iterator[Resource]:
    """Yield what is ours: others may set our labels on things of theirs, and a time that is none is not from us."""
    expires, build_id = labels.get(EXPIRES_LABEL, ""), labels.get(BUILD_LABEL, "")
    if expires.isdecimal() and is_own(name, labels):
        yield Resource(kind, name, zone.rsplit("/", 1)[-1], build_id, float(expires))
