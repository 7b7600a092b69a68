"""A build's state, as one frozen document: what Firestore and SQLite keep, what the CLI and the dashboard show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal

from provisioner.protocol import VERIFY

from .orders import Order
from .plan import Plan


class State(StrEnum):
    """The state of a build. It moves towards `finished`, except when a lost VM leads back."""

    QUEUED = "queued"
    PREPARING = "preparing"
    PROVISIONING = "provisioning"
    EXPORTING = "exporting"
    VERIFYING = "verifying"
    PUBLISHING = "publishing"
    CLEANING = "cleaning"
    HELD = "held"
    FINISHED = "finished"


LOST = "the process that ran this build has ended"
"""The reason of a build that was cancelled since a killed process has left it."""

ANNOUNCED = (State.HELD, State.FINISHED)
"""The states in which the outcome is announced."""


class Outcome(StrEnum):
    """The outcome of a build, decided once, on the way into `cleaning`."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Stay:
    """When a state was entered. It lasts until the next one is."""

    state: State
    attempt: int
    begun: float  # Unix seconds


@dataclass(frozen=True)
class LedgerEntry:
    """One thing that a build may have made and must delete. Written before the thing is made."""

    kind: Literal["machine", "disk", "image", "object"]
    name: str  # a resource's name, or an object's URI or path
    project: str = ""
    zone: str = ""  # "" until it is known; clean-up then looks in all zones of the plan
    keep: bool = (
        False  # the image, once it is known that it stays; the disk of a step that failed, until its time is over
    )


@dataclass(frozen=True)
class StepRecord:
    """One step, as the provisioner's reports describe it."""

    name: str
    action: str
    status: Literal["waiting", "running", "done", "failed"] = "waiting"
    tries: int = 0
    exit_status: int | None = None
    seconds: float | None = None
    output: str = ""  # the tail of a failed step's output
    note: str = ""  # what a finished step says of itself, such as the digest of the container that it ran
    sequence: int = 0  # of the newest report that says where this step stands, within `attempt`
    told: int = 0  # of the newest one that says how a try of it ended
    attempt: int = 0


@dataclass(frozen=True)
class Verifier:
    """One of several VMs that verify an image: of it alone, what a build has of the machine in use."""

    name: str
    ordered: bool = False  # its VM has been asked for in this attempt
    passed: bool = False  # it was seen to run, has said that it is done, and was seen stopped
    zone: str = ""
    claimed: bool = False
    reports: int = 0
    last_seen: float = 0.0
    quiet: float = 0.0
    newest: int = 0
    deadline: float = 0.0  # its own; 0: only that of the build
    identity: tuple[str, ...] = ()
    steps: tuple[StepRecord, ...] = ()


@dataclass(frozen=True)
class ArchiveRecord:
    """The tar.gz of an image, with what a person needs to check it."""

    bytes: int
    sha256: str  # of the tar.gz: `sha256sum NAME.tar.gz`
    tar_sha256: str  # of the tar stream: `gzip -dc NAME.tar.gz | sha256sum`
    crc32: str  # of disk.raw, holes read as zeros, in hex
    disk_bytes: int  # the size of disk.raw, holes too
    data_bytes: int  # what is not holes


@dataclass(frozen=True)
class ExportedFile:
    """A file that an image was exported to, beside the name that its format's ending makes."""

    format: str
    bytes: int  # holes too
    sha256: str


@dataclass(frozen=True)
class ExportedImage:
    """All files of one export, and of Compute Engine's archive, if that is among them, all that is known."""

    files: tuple[ExportedFile, ...]
    archive: ArchiveRecord | None = None


@dataclass(frozen=True)
class AllowedFinding:
    """A finding in an image that its spec allows."""

    path: str
    finding: str  # what the file holds, in words
    why: str  # as the spec has it


@dataclass(frozen=True)
class ImageRecord:
    """The image that a build made."""

    project: str
    name: str
    id: str
    archive: ArchiveRecord | None = None
    findings: tuple[str, ...] = ()  # what is in it that should not be, one line each; only with `hygiene: warn`
    allowed: tuple[AllowedFinding, ...] = ()  # what the spec's `hygiene.allow` lets pass
    files: tuple[ExportedFile, ...] = ()  # in other formats than `archive`, or in that too where formats are named


@dataclass(frozen=True)
class PublishedFile:
    """A file beside the image that publication reveals, with what identifies it among files of its name."""

    name: str  # URI or path that others look for
    staged: str  # where it is written before the commit
    sha256: str  # of its content, in hex
    moved: bool = True  # False: `staged` stays, as a file of the build's own
    size: int = 0  # bytes
    md5: str = ""  # by which it is known in Cloud Storage without being read; "": it has to be read


@dataclass(frozen=True)
class ImageUsage:
    """What runs of an image, or would be made of it, for people."""

    users: tuple[str, ...] = ()
    more: int = 0  # that are not among these
    unread: tuple[str, ...] = ()  # projects that cannot be read, each with the reason


@dataclass(frozen=True)
class Revocation:
    """That a published image may not be used any more."""

    reason: str
    time: float  # Unix seconds
    done: bool = False  # it is OBSOLETE, and its family leads elsewhere
    usage: ImageUsage | None = None  # what used it then; None: that is not known

    @property
    def text(self) -> str:
        """Return it for people, as what has been done to the image."""
        return f"revoked at {datetime.fromtimestamp(self.time, UTC):%Y-%m-%d %H:%M:%SZ}: {self.reason}"


@dataclass(frozen=True)
class PushedCopy:
    """An image of a project on Google Cloud that was made of an image of this machine."""

    project: str
    name: str
    id: str
    time: float  # when it was recorded, in Unix seconds

    def is_in(self, others: tuple[PushedCopy, ...]) -> bool:
        """Return whether this very image is among others, whenever that was recorded."""
        return (self.project, self.name, self.id) in [(each.project, each.name, each.id) for each in others]


@dataclass(frozen=True)
class ChannelCopy:
    """That an image is the copy of another one of its project, which a promotion has made for a channel."""

    of: str  # the name of that one
    id: str  # its own id
    channel: str
    family: str  # what the copy joins, FAMILY-CHANNEL
    time: float  # when the promotion began: Unix seconds


@dataclass(frozen=True)
class Retirement:
    """How far the deletion of a published image by rule has come. Each field is written before or after one call."""

    begun: float  # before it is made OBSOLETE: Unix seconds
    obsolete: float = 0.0  # since when it is known to be; 0: it is not yet
    left: bool = False  # a person has made it active again since then: it stays
    deleting: bool = False  # nothing uses it at the second look: it is about to be deleted


@dataclass(frozen=True)
class Distributed:
    """What came of one target that a published image is distributed to: a member, or a copy of it."""

    target: str  # the member, or PROJECT/NAME
    time: float  # Unix seconds
    id: str = ""  # of the copy
    refused: str = ""  # why it cannot be; "": it is done, or a copy without an id that is begun
    is_copy: bool = False  # it may be there as soon as it is begun, also where it is refused

    @property
    def is_there(self) -> bool:
        """Return whether the target has the image, as far as is known."""
        return not self.refused and (bool(self.id) or not self.is_copy)


@dataclass(frozen=True)
class ImageDocument:
    """The store's record of an image of ours, by project and name. Labels can be set by others, and are for people.

    A name belongs to one build at a time, from its request on: of two that would make the same one, one is refused.
    `kept` is fit to be published, `held` waits for a retry that has to verify it; of `gone` there is no document.
    """

    project: str
    name: str
    build_id: str
    content_digest: str
    state: Literal["reserved", "made", "published", "kept", "held", "gone"] = "reserved"
    id: str = ""  # the image's own, never used again, unlike the name; "" until it is made
    until: float = 0.0  # when one that is kept or held is deleted: Unix seconds
    verified: bool | None = None  # of a published one, whether it was booted and `verify` run; None: not known
    source_id: str = ""  # of a published one, the id of the image that it was built from; "": not known
    replaced: tuple[str, ...] = ()  # the older images of its family that were deprecated in its favour
    replaced_by: str = ""  # the newer image for which a build has deprecated it, which may be gone; "": not known
    revoked: Revocation | None = None
    retired: Retirement | None = None
    distributed: tuple[Distributed, ...] = ()  # those that it has been shared with, and its copies on Google Cloud
    pushed: tuple[PushedCopy, ...] = ()  # what `images push` has made of it; other stores know more of those
    copies: tuple[str, ...] = ()  # the names of the images that promotions make, or have made, from it
    copy: ChannelCopy | None = None  # None for an image that a build has made; `build_id` is the original's either way
    author: str = ""  # as of Plan
    approvals: Mapping[str, int] = field(default_factory=dict)  # as of Plan

    def beside(self, known: ImageDocument | None) -> ImageDocument:
        """Return what a build writes of its image over what is known of it.

        No replacement, no revocation, no retirement and no copy is forgotten.
        """
        if known is None or (known.build_id, known.id) != (self.build_id, self.id):
            return self
        return replace(
            self,
            replaced_by=self.replaced_by or known.replaced_by,
            revoked=self.revoked or known.revoked,
            retired=self.retired or known.retired,
            distributed=self.distributed or known.distributed,
            pushed=self.pushed or known.pushed,
            copies=self.copies or known.copies,
        )

    def with_distributed(self, done: Distributed) -> ImageDocument:
        """Return it with what came of a target, in the place of what came of it before."""
        others = tuple(each for each in self.distributed if each.target != done.target)
        return replace(self, distributed=(*others, done))

    def with_pushed(self, copy: PushedCopy) -> ImageDocument:
        """Return it with a copy noted, in the place of an earlier one of that project and name."""
        place = copy.project, copy.name
        others = tuple(each for each in self.pushed if (each.project, each.name) != place)
        return self if copy.is_in(self.pushed) else replace(self, pushed=(*others, copy))


@dataclass(frozen=True)
class Sibling:
    """One of the builds that a workflow comes to."""

    name: str  # the spec's
    after: tuple[int, ...] = ()  # indexes of those that must have succeeded before it begins


@dataclass(frozen=True)
class WorkflowPart:
    """The part of a workflow that a build is, with all that is needed to begin the other parts."""

    uri: str  # gs:// URI of the workflow
    generation: str  # the very one that was read, since the others are read from it again
    asked: str  # what asked for all of them; see shared/intake/workflow.py
    result: str  # URI of the first one's result
    index: int
    siblings: tuple[Sibling, ...]  # itself too
    parameters: dict[str, str] = field(default_factory=dict)  # values for the workflow's substitutions
    packed: str | None = None  # URI of the context that the uploader has packed
    keep: str | None = None  # for how long the disk of a step that fails is wanted, as it was written
    author: str = ""  # the mail address of the person who has uploaded it; "": not known
    traceparent: str = ""  # as of Build

    @property
    def followed(self) -> bool:
        """Return whether another build waits for this one."""
        return any(self.index in sibling.after for sibling in self.siblings)


@dataclass(frozen=True)
class TakenDisk:
    """The boot disk that a retry has taken over, whose steps are done. It keeps its name and its labels."""

    name: str
    project: str
    zone: str
    maker: str  # id of the build whose VM it was, and which has that VM's reports


@dataclass(frozen=True)
class Build:
    """One run of a plan."""

    id: str
    name: str
    request: str  # the whole digest of what asked for it
    plan: Plan | None  # None for a request that was rejected: nothing was made and nothing will be
    state: State
    created: float  # Unix seconds, as all times here; always the server's
    updated: float
    deadline: float  # of the whole build; while it is queued, of its turn
    wake_at: float  # when a tick looks at this build again if nothing else happens
    outcome: Outcome | None = None
    reason: str = ""  # why the outcome is what it is, for people
    attempt: int = 1
    zone: str = ""  # of the machine in use; "" until a worker has made it
    claimed: bool = False  # the verifying VM in use has said that it is done, and has not been seen stopped
    steps: tuple[StepRecord, ...] = ()
    verify_steps: tuple[StepRecord, ...] = ()  # () where there are verifiers, each of which has its own
    verifiers: tuple[Verifier, ...] = ()  # () where one VM verifies, which is then the machine in use
    ledger: tuple[LedgerEntry, ...] = ()
    turn: float = 0.0  # when its turn came: its time runs from then on; 0: it has not been queued, or still is
    taken_up: bool = False  # its image was made by an earlier build, and is not verified again
    retry_of: str = ""  # the build whose image it has taken over because a person asked for that; "" for any other
    committed: float = 0.0  # when publication was decided for good: from then on nothing else can end the build; 0: not
    files: tuple[PublishedFile, ...] = ()  # what publication gives its names
    retiring: bool = False  # the family's older images have still to be deprecated
    retired_in_part: bool = False  # that was given up: which of them are deprecated by now is not known
    replaced: tuple[str, ...] = ()  # those that were
    withdrawing: float = 0.0  # until when it is tried to take back what a failed publication has shown; 0: nothing is
    kept_until: float = 0.0  # when an image that was not published is deleted; until then it may be retried
    unfit: bool = False  # that image has failed its verification, and is kept to be looked at: only a retry takes it up
    failed_in: State | None = None  # where the build of such an image stood, or of a disk that waits for a retry
    warnings: tuple[str, ...] = ()  # what went wrong once the image was published
    outbox: tuple[Order, ...] = ()  # decided in the write that holds them, not known to be published
    keys: int = 1  # which keys its VMs sign with: keys.BY_ATTEMPT in documents of the release before
    orders: int = 0  # how many orders have been given; the newest one's number
    rewrites: int = 0  # how many VMs were to write the image's files before the one that does, or did
    reports: int = 0  # that the VM in use has sent and that are recorded; heartbeats are not
    told_contents: int = (
        0  # the sequence of the report in which it has told what is installed, which it may once; 0: none
    )
    disk_asked: float = 0.0  # when its larger disk was last ordered; 0: never
    disk_grown: bool = False  # that disk is there
    cleaning: int = 0  # the number of the newest order to clean up, which alone can finish the build
    image: ImageRecord | None = None
    result: str = ""  # URI of the object that says how it ended, for readers that have only the bucket
    workflow: WorkflowPart | None = None  # None: the only build of what asked for it
    last_seen: float = 0.0  # the last sign of life of the VM in use, or when its state was entered
    quiet: float = 0.0  # seconds beyond the plan's silence that the VM in use has said it will not be heard of
    newest: int = 0  # the sequence of its newest report, which alone says that
    identity: tuple[str, ...] = ()  # of the build VM: digests of its machine-id and ssh host keys, as it tells them
    verify_identity: tuple[str, ...] = ()  # of the VM that verifies; () where there are verifiers
    held: str = ""  # why its machine is held for a person; from then on the build can only fail
    disk_until: float = 0.0  # when the boot disk that is kept is deleted; 0: none is
    disk_whole: bool = False  # its VM was seen stopped after its steps, so an image can be made of its disk
    disk: TakenDisk | None = None  # that this retry makes its image of; None: that of a VM of its own, or none
    traceparent: str = ""  # the requester's place in a trace, in W3C's form; "": the build has a trace of its own
    stays: tuple[Stay, ...] = ()  # all states that it has entered, in their order; () of builds of the release before

    def stays_with(self, state: State, time: float) -> tuple[Stay, ...]:
        """Return its stays and that in a state which it enters now."""
        return (*self.stays, Stay(state, self.attempt, time))

    def machine_word(self, phase: str) -> str:
        """Return what people call the machine of a phase: the chroot engine's for the steps is none."""
        sandboxed = phase != VERIFY and self.plan is not None and self.plan.machine.engine == "chroot"
        return "sandbox" if sandboxed else "VM"

    @property
    def verify_tables(self) -> tuple[tuple[str, tuple[StepRecord, ...]], ...]:
        """Return the tables of the verify steps, each with the name of its verifier: "" where one VM verifies."""
        return tuple((each.name, each.steps) for each in self.verifiers) or (("", self.verify_steps),)

    @property
    def all_steps(self) -> tuple[StepRecord, ...]:
        """Return the steps of all its VMs, those of verification last; of several VMs that verify, with their names."""
        named = [(name, record) for name, table in self.verify_tables for record in table]
        return (
            *self.steps,
            *(replace(record, name=f"{name}: {record.name}") if name else record for name, record in named),
        )

    @property
    def keeps_fit(self) -> bool:
        """Return whether the image that is kept has passed all that its spec asks for, and is only not published."""
        passed = self.taken_up and self.failed_in is State.EXPORTING  # for an earlier build
        return not self.unfit and (passed or self.failed_in in (None, State.PUBLISHING))

    @property
    def finished(self) -> bool:
        """Return whether nothing is left to do."""
        return self.state is State.FINISHED

    @property
    def ended(self) -> bool:
        """Return whether its outcome is announced, and nothing is left but what is kept for a while."""
        return self.state in ANNOUNCED


MACHINERY = ("machine", "disk")


@dataclass(frozen=True)
class Unfinished:
    """An unfinished build in the queue: few and small values, since all of them are held at once."""

    id: str
    state: State
    outcome: Outcome | None
    created: float
    updated: float
    machinery: bool  # whether machines or disks have still to be deleted
    project: str = ""  # of its machines; as all that follow "" where it has no plan
    image_project: str = ""
    image: str = ""
    numbered: bool = False
    family: str | None = None
    content: str = ""
    rebuild: str = ""
    spec: str = ""  # as of Plan


def unfinished_of(build: Build) -> Unfinished:
    """Return what the line knows of a build."""
    known = Unfinished(
        id=build.id,
        state=build.state,
        outcome=build.outcome,
        created=build.created,
        updated=build.updated,
        machinery=any(entry.kind in MACHINERY and not entry.keep for entry in build.ledger),
    )
    if build.plan is None:
        return known
    image = build.plan.image
    return replace(
        known,
        project=build.plan.machine.project,
        image_project=image.project,
        image=image.name,
        numbered=image.numbered,
        family=image.family,
        content=build.plan.content_digest,
        rebuild=build.plan.rebuild,
        spec=build.plan.spec,
    )
