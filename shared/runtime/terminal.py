"""A project as a command line sees it: its builds, their logs, cancellation, retries, uploads of specs, and images.

Made with the person's own credentials, it writes nothing but uploads and wishes: to end a build, to retry one, or to
approve a promotion.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from provisioner.protocol import EXPORT, PHASES, VERIFY

from ..backend import Backend, ReportTarget
from ..build.build import Build, ImageUsage
from ..build.image.approval import AskedPromotion, PromotionAnswer, answer_request, is_answered_by, proof_of, purpose_of
from ..build.resources import machine_name
from ..clock import SystemClock
from ..engine.history import Followed
from ..errors import AlreadyExists, NotFound
from ..gcp.compute.compute import GoogleCompute
from ..gcp.firestore import GoogleStore
from ..gcp.identities import GoogleIdentities
from ..gcp.pubsub import GoogleBus
from ..gcp.rest.secret_versions import GoogleSecretVersions
from ..gcp.settings import Settings
from ..gcp.storage import GoogleBucket
from ..identities import Identities
from ..image_users import ImageUsers
from ..keys import Keys
from ..ports import Bucket, Clock, Compute, Message, SecretVersions, Store
from ..submission import upload_uri
from ..topology import IMAGES_TOPIC, LOGS, REQUESTS_TOPIC, RETIREMENT_REPORT

if TYPE_CHECKING:
    from ..build.image.retire_rules import RetireRule
    from ..build.plan import Plan
    from ..published.retire_verdict import RetireVerdict
    from ..published.retirement_report import RetirementReport

PORT = 1  # the serial port that is the console
POLL = 2.0  # seconds


@dataclass(frozen=True)
class CloudClient:
    """A project on Google Cloud, seen from a terminal."""

    bucket_name: str
    store: Store
    bucket: GoogleBucket
    bus: GoogleBus
    clock: Clock
    compute: Compute
    identities: Identities
    image_users: ImageUsers
    project: str = ""
    secret_versions: SecretVersions | None = None  # of the person; None: not asked for

    @property
    def family_concurrency(self) -> int | None:
        """Return None: how many builds of one family may be at work is known to the deployment's functions alone."""
        return None

    def upload_context(self, packed: Path, digest: str) -> str:
        """Upload a packed context unless it is there; return its URI."""
        return self._upload(packed, digest, ".tar")

    def upload_list(self, path: Path, digest: str) -> str:
        """Upload a list of packages unless it is there; return its URI."""
        return self._upload(path, digest, ".json")

    def _upload(self, path: Path, digest: str, suffix: str) -> str:
        """Upload a file by its digest; beside an object of that name which holds something else, if there is one."""
        uri = upload_uri(self.bucket_name, digest, suffix)
        try:
            self.bucket.write_once(uri, path)
        except AlreadyExists:  # any submitter can put anything there
            uri = upload_uri(self.bucket_name, digest, suffix, secrets.token_hex(8))
            self.bucket.write_once(uri, path)
        return uri

    def upload_spec(self, name: str, text: bytes, metadata: Mapping[str, str]) -> str:
        """Upload a spec, which starts its build; give the object's generation."""
        return self.bucket.upload(f"gs://{self.bucket_name}/{name}", text, metadata)

    def request(self, document: Mapping[str, Any]) -> str:
        """Publish a request for a build, as other pipelines do; return the id of its message."""
        return self.bus.send(Message(REQUESTS_TOPIC, json.dumps(document).encode(), {}))

    def logs_of(self, build_id: str) -> str:
        """Return the URI of the consoles of a finished build's VMs."""
        return f"gs://{self.bucket_name}/{LOGS}{build_id}"

    def console(self, followed: Followed) -> CloudConsole:
        """Return a reader of the consoles of a build's VMs; there need not be any yet."""
        return CloudConsole(followed, self.compute, self.bucket, self.logs_of(followed.build.id))

    def retirement(self) -> RetirementReport:
        """Return what the last run of retire_images has done. NotFound, StoreError."""
        from ..published.retirement_report import read_report

        return read_report(f"gs://{self.bucket_name}/{RETIREMENT_REPORT}", self._backend())

    def plan_retirement(self, rules: Mapping[str, RetireRule], consumers: Sequence[str]) -> Iterator[RetireVerdict]:
        """Say what is to be done with each image of the families, by what the caller may read. GoldsmithError."""
        from ..published.retirement import Retiring, plan_retirement

        return plan_retirement(Retiring(self.project, rules, consumers, self.image_users), self._backend())

    def usage(self, project: str, image: str, consumers: Sequence[str]) -> ImageUsage:
        """List what uses an image of ours, in projects that the caller may read; nothing for one that is not ours."""
        from ..ownership import find_image
        from ..published.usage import Consumers, usage_of

        known = find_image(project, image, self._backend())
        return (
            ImageUsage() if known is None else usage_of(known, Consumers(self.image_users, consumers), self._backend())
        )

    def unchanged(self, plan: Plan) -> str:
        """Return the name of the published image that has a plan's content; "" without one."""
        from ..planning.requests import find_unchanged

        found = find_unchanged(plan, self._backend())
        return found.name if found is not None else ""

    def _backend(self) -> Backend:
        """Return what reads the project; it has no keys, and gives no orders."""
        return Backend(
            compute=self.compute,
            store=self.store,
            bucket=self.bucket,
            bus=self.bus,
            clock=self.clock,
            keys=Keys(None),
            reports=ReportTarget("", None),
            logs=f"gs://{self.bucket_name}/{LOGS}{{build_id}}",
            progress=lambda _what, _done, _total: None,
            adopted_families=(),
            concurrency=None,
        )

    def forget(self, build_id: str) -> Any:
        """Set a build aside; return its document as it stood. NotFound, InputError, Conflict, Permanent."""
        return self.store.set_aside(build_id)

    def is_interrupted(self, build: Build) -> bool:
        """Return False: in a project no build hangs on one process."""
        return False

    def answer(
        self, asked: AskedPromotion, answer: PromotionAnswer, reason: str, token: str, patience: float
    ) -> tuple[AskedPromotion, bool]:
        """Say yes or no to a promotion; return what is known of it, and whether that has the word.

        It does not once patience is over. InputError for a token that cannot count; Transient.
        """
        mail = self.identities.mail_of(token, purpose_of(asked, answer))
        self.bus.publish(Message(IMAGES_TOPIC, answer_request(asked, answer, reason, token), {}))
        end = self.clock.now() + patience
        while True:
            known = self.store.promotion(asked.id) or asked
            approved_by = {each.by for each in known.approvals if known.number == asked.number}
            again = answer == "approve" and mail in approved_by
            recorded = again or is_answered_by(known, proof_of(token))
            if recorded or self.clock.now() >= end:
                return known, recorded
            time.sleep(POLL)

    def wait_until_finished(self, build_id: str) -> Build:
        """Wait for a build's end. NotFound."""
        while not (build := self.store.load(build_id).build).finished:
            time.sleep(POLL)
        return build


class CloudConsole:
    """The consoles of a build's VMs, while they run and after they are gone; reads on where the last read ended.

    The caller looks at the build; nothing is read of it here.
    """

    poll = POLL

    def __init__(self, followed: Followed, compute: Compute, bucket: Bucket, logs: str) -> None:
        self._followed = followed
        self._compute = compute
        self._bucket = bucket
        self._logs = logs
        self._read: dict[str, int] = {}  # VM -> bytes that were given
        self._whole: set[str] = set()  # VMs whose stored log has been given to its end

    def read(self) -> bytes:
        """Return what the VMs have written since."""
        build = self._followed.build
        return b"".join(self._new(machine, build) for machine in machines(build) if machine not in self._whole)

    def _new(self, machine: str, build: Build) -> bytes:
        start = self._read.get(machine, 0)
        zone = build.zone or next((each.zone for each in build.verifiers if _is_of(machine, each.name, build)), "")
        if build.plan is None or not zone or build.ended:  # there is no VM
            return self._stored(machine, start)
        try:
            output, end = self._compute.serial_output(machine, build.plan.machine.project, zone, PORT, start)
        except NotFound:
            return self._stored(machine, start)
        self._read[machine] = end
        return output

    def _stored(self, machine: str, start: int) -> bytes:
        try:
            output = self._bucket.read(f"{self._logs}/{machine}.log")
        except NotFound:
            return b""
        self._whole.add(machine)
        return output[start:]


def _is_of(machine: str, name: str, build: Build) -> bool:
    """Return whether a VM of that name is a verifier's, in any attempt."""
    return build.plan is not None and machine.endswith(f"-{VERIFY}{build.plan.verifier_number(name)}")


def machines(build: Build) -> list[str]:
    """The names of all VMs that a build may have had, in the order of their making."""
    if build.plan is None:
        return []
    several = range(1, len(build.plan.verify_machines) + 1)
    return [
        machine_name(build.id, attempt, phase, number)
        for phase in PHASES
        if phase != EXPORT or build.plan.exporter is not None
        for number in ((several or (0,)) if phase == VERIFY else (0,))
        for attempt in range(1, build.attempt + 1)
    ]


def open_client(project: str, bucket: str) -> CloudClient:
    """Return the client of a project whose bucket has that name, with the credentials of the person who runs this."""
    settings = Settings.of_person(project, bucket, os.environ)
    clock = SystemClock()
    objects = GoogleBucket(settings)
    compute = GoogleCompute(settings, objects, clock)
    return CloudClient(
        bucket_name=bucket,
        store=GoogleStore(project, settings.firestore_host),
        bucket=objects,
        bus=GoogleBus(project, settings.pubsub_host),
        clock=clock,
        compute=compute,
        identities=GoogleIdentities(project, settings.certificates_url),
        image_users=compute,
        project=project,
        secret_versions=GoogleSecretVersions(settings),
    )
