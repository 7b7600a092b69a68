"""The ports of the core, as Protocols: Compute, Store, Bucket, Bus and Clock.

Each has one real adapter (gcp/) and one honest local one (local/), and one contract test that both pass. Calls that
make something look, act with a request id of the name, look again. Adapters raise the classes of errors.py alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from provisioner.protocol import Job, Step

from .build.build import ArchiveRecord, Build, ExportedImage, ImageDocument, Unfinished
from .build.damage import Damaged
from .build.events import Event, Stop
from .build.image.secure_boot import SecureBootKeys
from .build.plan import Context, MachinePlan, Plan
from .build_search import BuildSearch
from .export_ports import DiskAttachment, ObjectSum, SessionUploads
from .kept_documents import PromotionStore, TriggerStore
from .person_requests import PersonRequestStore

if TYPE_CHECKING:
    from provisioner.hygiene.hygiene import Finding  # and all its rules, which few that import this module need

PAGE = 50  # events that are read at once: the largest that a guest can have recorded are 64 KiB, but for its inventory

Status = Literal["starting", "running", "stopping", "stopped"]
ResourceKind = Literal["machine", "disk", "image", "object"]


@dataclass(frozen=True)
class Image:
    """An image as its project shows it."""

    project: str
    name: str
    id: str
    created: float  # Unix seconds
    family: str | None = None
    description: str = ""
    architecture: str = "x86_64"
    disk_size_gb: int = 10
    archive_bytes: int = 0  # what it takes up in storage
    labels: Mapping[str, str] = field(default_factory=dict)
    licenses: tuple[str, ...] = ()
    source_disk: str | None = None
    deprecated: str | None = None  # None (active), DEPRECATED, OBSOLETE or DELETED
    replacement: str | None = None
    deletes_at: float | None = None  # Unix seconds
    source_image: str | None = None  # the id of the image that it was copied from

    @property
    def is_obsolete(self) -> bool:
        """Return whether no disk can be made of it."""
        return self.deprecated in ("OBSOLETE", "DELETED")


@dataclass(frozen=True)
class ImageRequest:
    """An image to be made from a stopped machine's disk. It joins no family."""

    project: str
    name: str
    source_disk: str
    source_project: str  # of the disk, which need not be the image's
    zone: str
    description: str
    labels: Mapping[str, str]
    licenses: tuple[str, ...]
    architecture: str
    same_as: str | None = None  # one machine only: path of a disk that it has to be the same as
    same_bytes: bool = False  # and not only in its files
    guest_os_features: tuple[str, ...] = ()  # beside those of the disk
    storage_locations: tuple[str, ...] = ()  # () for the nearest multi-region
    kms_key: str | None = None  # None: Google's own
    secure_boot_keys: SecureBootKeys | None = None  # None: those of the disk
    made_by: str = ""  # the build whose label the disk has to carry, and `disk_gb` its size; "": any disk of that name
    disk_gb: int = 0
    sandbox: str = ""  # one machine only: the sandbox that has to have written the disk and ended; "": a VM's disk


@dataclass(frozen=True)
class Duplicate:
    """A copy to be made of a published image, in another project or location, with all that this has."""

    project: str
    name: str
    of: Image
    storage_location: str | None = None  # None for the nearest multi-region
    kms_key: str | None = None  # None: Google's own
    family: str | None = None  # that it joins, last


@dataclass(frozen=True)
class CopyRequest:
    """An image to be made from another one of its project, with all that this has. It joins no family."""

    project: str
    name: str
    source: str  # the name of the other one
    source_id: str  # its id
    asked: float  # Unix seconds; the same request has the same time


@dataclass(frozen=True)
class MachineRequest:
    """A machine to be made and started, with its boot disk unless that exists already."""

    name: str
    boot_disk: str  # kept when the machine is deleted; made from source_image where it does not exist
    source_project: str
    source_image: str
    plan: MachinePlan
    labels: Mapping[str, str]
    job: Job  # delivered with the provisioner as cidata
    context: Context | None
    max_seconds: float  # the machine ends by itself after this, even when everything else is down
    silence: float = 300.0  # seconds without a sign of life after which the machine counts as hung
    scratch_disk: str = ""  # of plan.scratch_gb; blank, deleted with the machine. "": none
    root_disk: str = ""  # of root_gb; blank, deleted with the machine, and made an image of before. "": none
    root_gb: int = 0
    whole_plan: Plan | None = None  # whose steps the job has, where their results may come from earlier builds
    architecture: str = "x86_64"  # of source_image
    restarts: bool = True  # False: it stays down after a fault of its host


@dataclass(frozen=True)
class Machine:
    """A machine as it is now."""

    name: str
    zone: str
    status: Status
    how: Stop | None = None  # how it stopped, where that is known
    detail: str = ""  # the same for people, when it did not power itself off


@dataclass(frozen=True)
class Resource:
    """Something that carries our labels, found by a sweep."""

    kind: ResourceKind
    name: str
    zone: str
    build_id: str
    expires: float  # Unix seconds; its build has cleaned up long before


PackageKind = Literal["dpkg", "rpm", "apk", "cos"]


@dataclass(frozen=True)
class Package:
    """A package that is installed in an image, as the image's own database knows it; "" is what that does not say."""

    name: str
    version: str  # with epoch and release, as the package manager compares it
    architecture: str
    kind: PackageKind = "dpkg"  # of the database: dpkg, rpm, apk, or Container-Optimized OS's own list
    source: str = ""  # the source package: NAME, NAME@VERSION where its version is another, or NAME-VERSION.src.rpm
    vendor: str = ""  # its author: dpkg's and apk's maintainer, rpm's vendor
    license: str = ""  # in the database's own words
    distribution: str = ""  # ID and VERSION_ID of os-release: debian-12
    build_time: bool = False  # it helped to make the image, and is not in it

    @property
    def order(self) -> tuple[object, ...]:
        """Return what packages are sorted by: all that they differ in, so that a set has one order."""
        place = (self.name, self.architecture, self.version, self.kind, self.source)
        return (*place, self.vendor, self.license, self.distribution, self.build_time)


class Clock(Protocol):
    """The server's time; nothing else decides a deadline."""

    def now(self) -> float:
        """Return Unix seconds."""
        ...

    def pause(self, most: float) -> None:
        """Wait for a random part of `most` seconds, so that writers in conflict come apart."""
        ...


class Progress(Protocol):
    """Long work calls this with its progress. It may raise, to stop work that is no longer wanted."""

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that `done` of `total` bytes are done; 0 of 0 names a new piece of work."""
        ...


Notify = Callable[[str], None]
"""Where work says in a sentence what it does now, and how far it is."""


class Compute(DiskAttachment, Protocol):
    """Compute Engine, as far as an image build needs it."""

    def check(self, plan: Plan, *, boots: bool = True) -> None:
        """Raise EnvironmentFault or InputError when a plan cannot be carried out, before anything is made.

        Without `boots` no VM is made for it: what is left is its export.
        """
        ...

    def image(self, project: str, name: str) -> Image | None:
        """Look one image up by name."""
        ...

    def images(self, project: str, *, family: str | None = None, prefix: str = "") -> Sequence[Image]:
        """List images, newest first, deprecated ones too."""
        ...

    def every_image(self, project: str) -> Iterator[Image]:
        """List images one after the other, in any order: no more than a page of them is in memory."""
        ...

    def inspect_disk(self, name: str, source: str, places: Sequence[str] = ()) -> Sequence[Finding]:
        """Look into a stopped machine's boot disk for what must not be in an image, and was not in the image `source`.

        `places` are the proxies of the build, HOST:PORT, which no file may name.
        () as well where the adapter cannot look inside, since there the machine has looked at itself.
        """
        ...

    def find_secrets(self, name: str, source: str, steps: Sequence[Step]) -> Sequence[Finding]:
        """Search a stopped machine's disk for the values of its steps' secrets, in any form. Findings quote none.

        () where the adapter cannot look inside. InputError where a value cannot be had any more.
        """
        ...

    def create_image(self, request: ImageRequest) -> Image:
        """Make an image of a stopped machine's boot disk and wait until it is ready; one of this disk may be there.

        AlreadyExists for an image of that name of another disk.
        """
        ...

    def copy_image(self, request: CopyRequest) -> Image:
        """Make an image of another one and wait until it is ready; such a copy may be there.

        NotFound where the other one is gone, or another one has its name; AlreadyExists for an image of that name that
        is no copy of it.
        """
        ...

    def export_image(self, project: str, name: str, target: str, compression: str, progress: Progress) -> ArchiveRecord:
        """Write an image as a tar.gz that Compute Engine imports, whole and verified, to a URI or path."""
        ...

    def export_files(
        self, project: str, name: str, targets: Mapping[str, str], compression: str, progress: Progress
    ) -> ExportedImage:
        """Write an image in several formats at once, whole and verified: a URI or path for the name of each format.

        InputError for an image that one of the formats cannot hold.
        """
        ...

    def packages(self, project: str, name: str) -> Sequence[Package] | None:
        """List what is installed in an image, by name; None where the adapter, or its databases, cannot be read.

        ImageFileError for a database that is damaged.
        """
        ...

    def disk_digest(self, project: str, name: str) -> str | None:
        """Return the digest of what is on an image's disk, wherever that has holes; None where it cannot be read.

        NotFound.
        """
        ...

    def label_image(self, image: Image, labels: Mapping[str, str]) -> None:
        """Set an image's labels, where they are still as in `image`; its family stays as it is.

        NotFound; Transient when others have changed them since, or there is another image of the name.
        """
        ...

    def set_family(self, project: str, name: str, family: str | None) -> None:
        """Put an image into a family, or take it out of its own. NotFound."""
        ...

    def share_image(self, image: Image, member: str) -> None:
        """Let a member make disks of an image; what others may do stays as it is. NotFound, Permanent, Transient."""

    def duplicate_image(self, wanted: Duplicate) -> Image:
        """Make a copy of an image and wait until it is ready; it may be there. AlreadyExists, Permanent, Transient."""

    def deprecate_image(self, project: str, name: str, replacement: str, deletes_at: float | None) -> None:
        """Mark an image DEPRECATED in favour of another; one that is OBSOLETE stays so. NotFound.

        Transient, where the adapter can tell at that moment, for another that is OBSOLETE itself.
        """
        ...

    def activate_image(self, image: Image) -> None:
        """Take the mark DEPRECATED from an image, where it is still as in `image`. NotFound; Transient."""
        ...

    def obsolete_image(self, image: Image, active: str) -> None:
        """Mark an image OBSOLETE in favour of `active`, an image of its family that has to be active then.

        For "" there need be none, and the image's mark has still to be as in `image`. One that is OBSOLETE or DELETED
        stays as it is. NotFound; Transient when it is not so.
        """
        ...

    def create_machine(self, request: MachineRequest) -> str:
        """Make and start a machine, unless there is one, whatever its status; give its zone, which is never empty."""
        ...

    def machine(self, name: str, project: str, zone: str) -> Machine | None:
        """Look a machine up. A zone of "" is asked for where a plan names no zones."""
        ...

    def wait_until_stopped(self, name: str, project: str, zone: str, seconds: float) -> bool:
        """Wait for a machine to stop by itself; True when it is stopped (or gone) within `seconds`."""
        ...

    def grow_disk(self, name: str, project: str, zone: str, gigabytes: int) -> None:
        """Make a boot disk that large while its machine runs, which sees it at once; one that is larger stays so.

        NotFound for a disk that is not there; Permanent where the machine could not see it.
        """
        ...

    def serial_output(self, name: str, project: str, zone: str, port: int, start: int) -> tuple[bytes, int]:
        """Read a serial port's output from offset `start`; give it and the offset to go on from."""
        ...

    def delete(self, kind: ResourceKind, name: str, project: str, zone: str, *, image_id: str = "") -> None:
        """Delete a machine (stopping it hard), disk or image, and wait until it is gone; absent is fine.

        With `image_id`, an image that has another id stays: a name may be another build's by the time of the call.
        """
        ...

    def labelled(self, project: str) -> Iterator[Resource]:
        """List the machines and disks that carry a goldsmith-build label; images are kept for their users."""
        ...


@dataclass(frozen=True)
class Stored:
    """A build and the version of its document, for the conditional write that follows."""

    build: Build
    version: str


class Store(TriggerStore, PromotionStore, PersonRequestStore, BuildSearch, Protocol):
    """Builds and their events: Firestore, or SQLite with the same documents."""

    def create(self, build: Build, event: Event, image: ImageDocument | None = None, replaces: str = "") -> None:
        """Write a new build and its first event, atomically, and the document of the image that it is to make.

        AlreadyExists when there is such a build; NameTaken when that image belongs to another build than `replaces`,
        or to none any more: the image that this one was to take over may be gone;
        DamagedDocument when what is there of the image cannot be read.
        """
        ...

    def load(self, build_id: str) -> Stored:
        """Read a build. NotFound; DamagedDocument when it cannot be read."""
        ...

    def save(
        self,
        build: Build,
        expected: str,
        event: Event | None = None,
        image: ImageDocument | None = None,
        replaces: str | None = None,
    ) -> str:
        """Write build and event in one step if the build's version is still `expected`; give the new version.

        Conflict when it is not; AlreadyExists when the event has been recorded before. Nothing is written then. The
        image's document is written along, unless that image belongs to another build by now, or what is there of it
        cannot be read: that stays as it is, and is logged. For a build that takes the image's name with this write,
        from the build `replaces` or from none (""), the former is NameTaken and the latter DamagedDocument.
        """
        ...

    def image(self, project: str, name: str) -> ImageDocument | None:
        """Read what is known of an image; None for one that is not ours. DamagedDocument."""
        ...

    def known_images(self, project: str, names: Sequence[str]) -> Mapping[str, ImageDocument | Damaged]:
        """Read what is known of so many images of a project at once, by their names; those that are not ours lack."""
        ...

    def image_documents(self, project: str) -> Iterator[ImageDocument | Damaged]:
        """List what is known of the images of a project: no more than a page of it is in memory."""
        ...

    def kept_images(self, before: float) -> Sequence[ImageDocument | Damaged]:
        """List the images that are kept until a time that is past."""
        ...

    def save_image(self, image: ImageDocument, expected: ImageDocument | None) -> bool:
        """Write an image's document, or delete it once that is gone, if it is as expected (None: absent); or False."""
        ...

    def set_image_aside(self, project: str, name: str) -> None:
        """Move an image's document that cannot be read to where nothing looks for it; its name is free again.

        One that can be read is refused with InputError. NotFound; Conflict when it has been written meanwhile.
        """
        ...

    def publisher(self, project: str, family: str) -> str:
        """Return the id of the build whose turn it is, or was last, to publish in a family; "" where there is none."""
        ...

    def pass_turn(self, project: str, family: str, build_id: str, expected: str) -> bool:
        """Pass that turn on if it is still that of the build `expected`; return whether it was."""
        ...

    def touch(self, build_id: str, seen: float) -> None:
        """Move last_seen on, never back, and neither the version nor anything else. An unknown build is ignored."""
        ...

    def builds(
        self, *, unfinished: bool = False, limit: int | None = None, before: str = ""
    ) -> Sequence[Build | Damaged]:
        """List builds, newest first: at most `limit`, those that follow the build `before`. NotFound for that.

        One that cannot be read stands in its place as Damaged, and `before` may be one. `unfinished` lists it unless
        its document's key says that it is finished.
        """
        ...

    def line(self) -> Sequence[Unfinished | Damaged]:
        """List the unfinished builds in the order in which create() has written them, whatever their times say.

        No more than one whole build is in memory at once. One that is damaged may be listed as what is known of it.
        A list that is begun after a build was created has that build, and all that are before it.
        """
        ...

    def set_aside(self, build_id: str) -> Any:
        """Move a build, with its events, to where no list shows it; return its document as it stood.

        Nothing of it is lost, and its id is free again. A build that can be read and is not finished is refused with
        InputError. NotFound; Conflict when it has been written meanwhile.
        """
        ...

    def events(
        self, build_id: str, *, kinds: Sequence[str] = (), after: str = "", limit: int = PAGE
    ) -> Sequence[Event | Damaged]:
        """List at most `limit` of a build's recorded events in the order they were applied; none for an unknown build.

        They are of these kinds, as kind_of() says (all: ()), and follow the event whose id is `after`: NotFound for
        that. One that cannot be read stands in its place as Damaged, and `after` may be one. history.py goes through
        all pages.
        """
        ...

    def newest_events(self, build_id: str, limit: int = PAGE) -> Sequence[Event | Damaged]:
        """List at most `limit` of a build's recorded events, the last one first."""
        ...

    def recorded(self, build_id: str, event_ids: Collection[str]) -> frozenset[str]:
        """Return which of these events of a build are recorded, whether or not they can be read."""
        ...


class Bucket(SessionUploads, Protocol):
    """Objects by URI: gs://bucket/object, or a path on this machine."""

    def read(self, uri: str) -> bytes:
        """Read an object. NotFound."""
        ...

    def read_part(self, uri: str, start: int, most: int) -> tuple[bytes, int]:
        """Read at most `most` bytes of an object from an offset on, and its size. NotFound.

        A negative offset counts from the end, and one beyond it reads nothing.
        """
        ...

    def write(self, uri: str, data: bytes) -> None:
        """Write an object; it is whole or not there."""
        ...

    def read_with_generation(self, uri: str) -> tuple[bytes, str]:
        """Read an object, and its generation for the conditional write that follows. NotFound."""
        ...

    def generation(self, uri: str) -> str:
        """Return an object's generation, whatever its size; "" where there is no object."""
        ...

    def write_if_generation(self, uri: str, data: bytes, generation: str) -> str:
        """Write an object if it is still of that generation, or if it is absent for ""; return the new generation.

        Conflict when it is not; nothing is written then. An object with this very content counts as written, because
        the answer to an earlier try may have been lost.
        """
        ...

    def delete(self, uri: str) -> None:
        """Delete an object; absent is fine."""
        ...

    def publish(self, staged: str, final: str) -> None:
        """Move a staged object to its final name. Done before is fine; AlreadyExists for another object there."""
        ...

    def withdraw(self, uri: str, sha256: str, known: ObjectSum | None = None) -> None:
        """Delete an object that has this content, by its digest in hex; another one stays, and absent is fine.

        `known` says of the same content what an object is checked by: one that is told by it is not read.
        """
        ...


@dataclass(frozen=True)
class StoredObject:
    """One generation of an object."""

    uri: str
    generation: str
    size: int  # bytes
    metadata: Mapping[str, str]  # the uploader's own


class Objects(Protocol):
    """Uploaded objects, by URI: gs://bucket/object. Bucket is enough for objects that Goldsmith itself writes."""

    def stat(self, uri: str, generation: str = "") -> StoredObject | None:
        """Look an object up: one generation of it, or the live one."""
        ...

    def listing(self, prefix: str) -> Iterator[StoredObject]:
        """List the live objects whose URI begins with `prefix`, in the order of their names."""
        ...

    def download(self, found: StoredObject, target: Path) -> None:
        """Write the very generation that was found into a file. NotFound."""
        ...

    def write_once(self, uri: str, source: Path) -> None:
        """Upload a file unless there is such an object. AlreadyExists when that has other contents."""
        ...

    def parts(self, found: StoredObject) -> Iterator[bytes]:
        """Read the very generation that was found, a few megabytes at a time. NotFound."""
        ...

    def copy_once(self, found: StoredObject, uri: str) -> None:
        """Copy the very generation that was found, unless there is such an object. NotFound."""
        ...


@dataclass(frozen=True)
class Message:
    """A message of the bus, as Pub/Sub has it."""

    topic: str
    data: bytes
    attributes: Mapping[str, str]
    ordering_key: str = ""


class Bus(Protocol):
    """At-least-once messages: Pub/Sub, or a queue in SQLite."""

    def publish(self, message: Message) -> None:
        """Hand a message over; it is durable when this returns."""
        ...


class SecretVersions(Protocol):
    """The versions of secrets, without their values."""

    def newest(self, secret: str) -> int:
        """Return the number of the newest version of projects/P/secrets/S. InputError, Transient."""
        ...
