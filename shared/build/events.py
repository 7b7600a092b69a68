"""Events: facts about a build, as frozen values. lifecycle.py alone decides what they lead to.

`event_id` identifies the fact, so that the same fact delivered twice is the same document: `b1-r000007` for the seventh
report of the build VM's first attempt, `o4-ImageExported` for what came of the fourth order. `time` is the server's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from provisioner.protocol import HEARTBEAT, Report

from ..errors import StoreError
from ..json_values import reader, to_document
from .build import (
    Build,
    ImageDocument,
    ImageRecord,
    LedgerEntry,
    PublishedFile,
    StepRecord,
    TakenDisk,
    Unfinished,
    WorkflowPart,
)
from .orders import Order, OrderKind
from .plan import ImagePlan, Plan

Stop = Literal["powered-off", "panicked", "lost", "preempted", "gave-up"]


@dataclass(frozen=True, kw_only=True)
class _Fact:
    build_id: str
    event_id: str
    time: float  # Unix seconds, when the engine received it


@dataclass(frozen=True, kw_only=True)
class BuildRequested(_Fact):
    """A build was requested, and the request is valid."""

    plan: Plan
    replaces: str = ""  # the finished build whose image, or whose image's name, this one takes over
    taken_up: ImageRecord | None = None  # that image, where it is of the same content: only publication is left to do
    verify_again: bool = False  # whether that image has still to be verified
    retry_of: str = ""  # the build that this one retries; "" for any other
    steps: tuple[StepRecord, ...] = ()  # as that build has run them
    identity: tuple[str, ...] = ()  # of the VM that has run them, which no verifying one may have
    disk: TakenDisk | None = None  # its boot disk, where it has no image
    unchanged: ImageRecord | None = None  # the image that has this content already; nothing will be built
    queued: bool = False  # whether it waits for its turn, at which the image's name and the above are looked up anew
    result: str = ""  # URI of the object that says how the build ended; "" for none
    workflow: WorkflowPart | None = None  # of several builds of one workflow, which one this is
    traceparent: str = ""  # as of Build
    kind: Literal["BuildRequested"] = "BuildRequested"


@dataclass(frozen=True, kw_only=True)
class BuildRejected(_Fact):
    """A build was requested, and the request is invalid."""

    name: str
    request: str
    reason: str
    result: str = ""  # as of BuildRequested
    workflow: WorkflowPart | None = None  # the same
    traceparent: str = ""  # as of Build
    kind: Literal["BuildRejected"] = "BuildRejected"


@dataclass(frozen=True, kw_only=True)
class TurnCame(_Fact):
    """A queued build may begin; `image` and what follows are what was found then, as a request finds it."""

    image: ImagePlan
    replaces: str = ""  # as of BuildRequested
    taken_up: ImageRecord | None = None  # the same
    unchanged: ImageRecord | None = None  # the same
    refused: str = ""  # why it cannot be built any more; "" for a build that can
    kind: Literal["TurnCame"] = "TurnCame"


@dataclass(frozen=True, kw_only=True)
class MachineStarted(_Fact):
    """A worker has made a VM, for the build, for verification or for the image's files."""

    attempt: int
    phase: str  # protocol.PHASES
    zone: str
    machine: str = ""  # the verifier's name; "" for any other VM
    kind: Literal["MachineStarted"] = "MachineStarted"


@dataclass(frozen=True, kw_only=True)
class Reported(_Fact):
    """The provisioner said something; the signature was good."""

    report: Report
    kind: Literal["Reported"] = "Reported"


@dataclass(frozen=True, kw_only=True)
class MachineStopped(_Fact):
    """A VM was seen stopped or gone."""

    attempt: int
    phase: str
    how: Stop
    claim: str | None = None  # `completed` or `failed`, when such a report stands on its report port
    detail: str = ""
    machine: str = ""  # as of MachineStarted
    kind: Literal["MachineStopped"] = "MachineStopped"


@dataclass(frozen=True, kw_only=True)
class DiskGrown(_Fact):
    """A worker has given a VM the disk it waits for, a larger boot disk or the image's; the VM sees it by itself."""

    attempt: int
    phase: str  # protocol.PHASES
    gigabytes: int  # that the disk has
    kind: Literal["DiskGrown"] = "DiskGrown"


@dataclass(frozen=True, kw_only=True)
class ImageMade(_Fact):
    """The image exists, in no family, and its archive or other files are still to be written."""

    image: ImageRecord
    kind: Literal["ImageMade"] = "ImageMade"


@dataclass(frozen=True, kw_only=True)
class ImageExported(_Fact):
    """The image exists, in no family; the archive, if one was asked for, under its staged name."""

    image: ImageRecord
    kind: Literal["ImageExported"] = "ImageExported"


@dataclass(frozen=True, kw_only=True)
class PublicationStaged(_Fact):
    """All that publication shows is ready: labels, bills of materials, manifest. Recording this is the commit."""

    files: tuple[PublishedFile, ...] = ()
    kind: Literal["PublicationStaged"] = "PublicationStaged"


@dataclass(frozen=True, kw_only=True)
class ImageLabelled(_Fact):
    """The label_image of the release before has published the image, in one go. No worker of this release says so."""

    kind: Literal["ImageLabelled"] = "ImageLabelled"


@dataclass(frozen=True, kw_only=True)
class ImagePublished(_Fact):
    """The files have their names and, last of all, the image is in its family."""

    kind: Literal["ImagePublished"] = "ImagePublished"


@dataclass(frozen=True, kw_only=True)
class PublicationWithdrawn(_Fact):
    """A failed publication was withdrawn."""

    left: tuple[str, ...] = ()  # files that stay for good, each with why
    kind: Literal["PublicationWithdrawn"] = "PublicationWithdrawn"


@dataclass(frozen=True, kw_only=True)
class ImagesDeprecated(_Fact):
    """The family's older images are deprecated, and the new one is distributed."""

    names: tuple[str, ...]
    refused: tuple[str, ...] = ()  # in words: the targets that the image could not be distributed to, and why
    kind: Literal["ImagesDeprecated"] = "ImagesDeprecated"


@dataclass(frozen=True, kw_only=True)
class CleanedUp(_Fact):
    """A clean-up has ended; what could not be deleted yet remains in the ledger."""

    remaining: tuple[LedgerEntry, ...] = ()
    lost: str = ""  # why the image that was to be kept is not there any more
    kind: Literal["CleanedUp"] = "CleanedUp"


@dataclass(frozen=True, kw_only=True)
class OrderFailed(_Fact):
    """An order cannot be carried out, however often it is tried."""

    order: OrderKind
    attempt: int
    reason: str
    disk_whole: bool = False  # whether the VM was seen stopped, and only its image could not be made
    disk_gone: bool = False  # whether there is no disk any more that an image could be made of
    machine: str = ""  # as of the order
    kind: Literal["OrderFailed"] = "OrderFailed"


@dataclass(frozen=True, kw_only=True)
class CancelRequested(_Fact):
    """A person or a program wants the build to end."""

    reason: str
    kind: Literal["CancelRequested"] = "CancelRequested"


@dataclass(frozen=True, kw_only=True)
class Ticked(_Fact):
    """Time has passed; `time` says how much."""

    heard: bool = False  # the watch has just published something of the VM that had not been heard before
    kind: Literal["Ticked"] = "Ticked"


Event: TypeAlias = (
    BuildRequested
    | BuildRejected
    | TurnCame
    | MachineStarted
    | Reported
    | MachineStopped
    | DiskGrown
    | ImageMade
    | ImageExported
    | PublicationStaged
    | ImageLabelled
    | ImagePublished
    | PublicationWithdrawn
    | ImagesDeprecated
    | CleanedUp
    | OrderFailed
    | CancelRequested
    | Ticked
)


def report_id(report: Report) -> str:
    """The id of the event that a report becomes: `b1-r000007`; in verification `v1-r...`, or `v1-NAME-r...`."""
    return f"{machine_id(report.phase, report.attempt, report.machine)}-r{report.sequence:06d}"


def machine_id(phase: str, attempt: int, machine: str) -> str:
    """The beginning of the ids of the events that a VM tells of: `b1`, `v2`, or `v2-NAME` of a verifier."""
    return f"{phase[0]}{attempt}" + (f"-{machine}" if machine else "")


def verifier_of(event: Event) -> str:
    """Return the name of the verifier that an event is of; "" for any other event."""
    if isinstance(event, Reported):
        return event.report.machine
    return event.machine if isinstance(event, MachineStarted | MachineStopped | OrderFailed) else ""


OLD_REPORT = "Reported"  # kind_of() in the release before, of a report of any kind


def kind_of(event: Event) -> str:
    """Return the kind by which a recorded event is found: of a report its own, such as `completed`."""
    return event.report.kind if isinstance(event, Reported) else event.kind


def is_heartbeat(event: Event) -> bool:
    """Return whether an event only says that the VM is alive."""
    return isinstance(event, Reported) and event.report.kind == HEARTBEAT


def to_json(document: Event | Build | Order | ImageDocument | Unfinished) -> dict[str, Any]:
    """An event, a build or an order as a JSON document."""
    result: dict[str, Any] = to_document(document)
    return result


def _read(shape: Any, document: Any, what: str) -> Any:
    try:
        return reader(shape)(json.loads(document) if isinstance(document, bytes | str) else document)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{what} cannot be read: {error}") from error


def read_event(document: Any) -> Event:
    """Read an event from its JSON document, bytes or text. Raises StoreError."""
    event: Event = _read(Event, document, "event")
    return event


def read_event_of(build_id: str, event_id: str, document: Any) -> Event:
    """Read the event that is kept as `event_id` of a build. Raises StoreError, also for one that is another."""
    event = read_event(document)
    if (event.build_id, event.event_id) != (build_id, event_id):
        raise StoreError(f"it is event {event.event_id} of build {event.build_id}")
    return event


def read_build(document: Any) -> Build:
    """Read a build from its JSON document, bytes or text. Raises StoreError."""
    build: Build = _read(Build, document, "build")
    return build


def read_unfinished(document: Any) -> Unfinished:
    """Read what the line knows of a build from its JSON. Raises StoreError."""
    known: Unfinished = _read(Unfinished, document, "what the line knows of a build")
    return known


def read_image_document(document: Any) -> ImageDocument:
    """Read an image's document from its JSON, bytes or text. Raises StoreError."""
    image: ImageDocument = _read(ImageDocument, document, "an image's document")
    return image


def read_image_of(project: str, name: str, document: Any) -> ImageDocument:
    """Read the document that is kept of an image. Raises StoreError, also for one that is another's."""
    image = read_image_document(document)
    if (image.project, image.name) != (project, name):
        raise StoreError(f"it is that of image {image.name} of project {image.project}")
    return image


def read_order(document: Any) -> Order:
    """Read an order from its JSON document, bytes or text. Raises StoreError."""
    order: Order = _read(Order, document, "order")
    return order
