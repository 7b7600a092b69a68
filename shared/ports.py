"""What the core asks of the world: Compute, Store, Bucket, Bus and Clock, as Protocols.

Each has one real adapter (gcp/) and one honest local one (local/), and one contract test that both pass. Every call
that makes something is *ensure*-style: it looks, acts with a request id derived from the name, looks again; so that
it can be called any number of times. Adapters raise the classes of errors.py and nothing of their vendor's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from .build import Build
from .events import Event
from .plan import MachinePlan

Status = Literal["starting", "running", "stopping", "stopped"]
ResourceKind = Literal["machine", "disk", "image", "object", "file"]


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


@dataclass(frozen=True)
class ImageRequest:
    """An image to be made from a stopped machine's boot disk. It joins no family."""

    project: str
    name: str
    source_disk: str
    zone: str
    description: str
    labels: Mapping[str, str]
    licenses: tuple[str, ...]
    architecture: str


@dataclass(frozen=True)
class MachineRequest:
    """A machine to be made and started, with its boot disk unless that exists already."""

    name: str
    boot_disk: str  # kept when the machine is deleted; made from source_image where it does not exist
    source_project: str
    source_image: str
    plan: MachinePlan
    labels: Mapping[str, str]
    cidata: Mapping[str, bytes | Path]  # member name -> contents or the file that holds them
    max_seconds: float  # the machine ends by itself after this, even when everything else is down


@dataclass(frozen=True)
class Machine:
    """A machine as it is now."""

    name: str
    zone: str
    status: Status
    preempted: bool = False
    detail: str = ""  # how it stopped, when it did not power itself off: for people


@dataclass(frozen=True)
class Resource:
    """Something that carries our labels, found by a sweep."""

    kind: ResourceKind
    name: str
    zone: str
    build_id: str


class Clock(Protocol):
    """The server's time; nothing else decides a deadline."""

    def now(self) -> float:
        """Give Unix seconds."""
        ...


class Compute(Protocol):
    """Compute Engine, as far as an image build needs it."""

    def image(self, project: str, name: str) -> Image | None:
        """Look one image up by name."""
        ...

    def images(self, project: str, *, family: str | None = None, prefix: str = "") -> Sequence[Image]:
        """List images, newest first, deprecated ones too."""
        ...

    def create_image(self, request: ImageRequest) -> Image:
        """Make an image of a stopped machine's boot disk and wait until it is ready."""
        ...

    def label_image(self, project: str, name: str, labels: Mapping[str, str], family: str | None) -> None:
        """Set an image's labels and let it join its family."""
        ...

    def deprecate_image(self, project: str, name: str, replacement: str, deletes_at: float | None) -> None:
        """Mark an image DEPRECATED in favour of another."""
        ...

    def create_machine(self, request: MachineRequest) -> str:
        """Make and start a machine; give the zone it runs in."""
        ...

    def machine(self, name: str, zone: str) -> Machine | None:
        """Look a machine up."""
        ...

    def wait_until_stopped(self, name: str, zone: str, seconds: float) -> bool:
        """Wait for a machine to stop by itself; True when it is stopped (or gone) within `seconds`."""
        ...

    def serial_output(self, name: str, zone: str, port: int, start: int) -> tuple[bytes, int]:
        """Read a serial port's output from offset `start`; give it and the offset to go on from."""
        ...

    def delete(self, kind: ResourceKind, name: str, project: str, zone: str) -> None:
        """Delete a machine (stopping it hard), disk or image, and wait until it is gone; absent is fine."""
        ...

    def labelled(self, project: str) -> Iterator[Resource]:
        """List all resources that carry a goldsmith-build label."""
        ...


@dataclass(frozen=True)
class Stored:
    """A build and the version of its document, for the conditional write that follows."""

    build: Build
    version: str


class Store(Protocol):
    """Builds and their events: Firestore, or SQLite with the same documents."""

    def create(self, build: Build, event: Event) -> None:
        """Write a new build and its first event, atomically. AlreadyExists when there is such a build."""
        ...

    def load(self, build_id: str) -> Stored:
        """Read a build. NotFound."""
        ...

    def save(self, build: Build, expected: str, event: Event | None = None) -> str:
        """Write build and event in one step if the build's version is still `expected`; give the new version.

        Conflict when it is not; AlreadyExists when the event has been recorded before. Nothing is written then.
        """
        ...

    def touch(self, build_id: str, seen: float) -> None:
        """Move last_seen, and neither the version nor anything else. An unknown build is ignored."""
        ...

    def builds(self, *, unfinished: bool = False) -> Sequence[Build]:
        """List builds, newest first."""
        ...

    def events(self, build_id: str) -> Sequence[Event]:
        """List a build's recorded events in the order they were applied."""
        ...


class Bucket(Protocol):
    """Objects by URI: gs://bucket/object, or a path on this machine."""

    def read(self, uri: str) -> bytes:
        """Read an object. NotFound."""
        ...

    def write(self, uri: str, data: bytes) -> None:
        """Write an object; it is whole or not there."""
        ...

    def delete(self, uri: str) -> None:
        """Delete an object; absent is fine."""
        ...


@dataclass(frozen=True)
class Message:
    """What the bus carries: Pub/Sub's message."""

    topic: str
    data: bytes
    attributes: Mapping[str, str]
    ordering_key: str = ""


class Bus(Protocol):
    """At-least-once messages: Pub/Sub, or a queue in SQLite."""

    def publish(self, message: Message) -> None:
        """Hand a message over; it is durable when this returns."""
        ...
