"""The backend of a function on Google Cloud, as its environment describes it.

Making it opens no connection and imports no client: each adapter does so when it is first asked for something.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..backend import Backend, ReportTarget
from ..backlog import Backlogs
from ..clock import SystemClock
from ..gcp.compute.compute import GoogleCompute
from ..gcp.firestore import GoogleStore
from ..gcp.identities import IAP_HEADER, GoogleIdentities, ProxiedPeople
from ..gcp.pubsub import GoogleBus
from ..gcp.rest.backlogs import MeasuredBacklogs
from ..gcp.rest.kms import KeyVersion
from ..gcp.rest.secret_versions import GoogleSecretVersions
from ..gcp.settings import Settings
from ..gcp.storage import GoogleBucket
from ..image_users import ImageUsers
from ..keys import Keys
from ..person_requests import LEADS_TO, PersonRequest, write_person_request
from ..ports import Message, Objects
from ..topology import ABOUT, LOGS, PEOPLE_TOPIC, REPORTS_TOPIC

TOKEN_URL = "http://169.254.169.254/computeMetadata/v1/instance/service-accounts/default/token"  # noqa: S105 - no secret

# Compute Engine promises serial output of machines that run alone, and expire_builds reads it once Pub/Sub was silent
# for two minutes, at the next tick. The emulator's machines can be read after their end.
LINGER = 240.0


@dataclass(frozen=True)
class CloudBackend(Backend):
    """The adapters of one deployment."""

    settings: Settings
    objects: Objects  # the bucket once more, as intake needs it
    image_users: ImageUsers
    backlogs: Backlogs


class CloudDesk:
    """Where the dashboard takes what people ask for behind Identity-Aware Proxy: the functions decide about it."""

    def __init__(self, backend: CloudBackend) -> None:
        self._bus = backend.bus
        self._people = ProxiedPeople(backend.settings.iap_audience, backend.settings.iap_keys_url)

    def who(self, headers: Mapping[str, str]) -> str:
        """Return the address that the proxy's signature proves; "" for a request that has not come through it."""
        assertion = headers.get(IAP_HEADER.lower(), "")
        return self._people.mail_behind(assertion) if assertion else ""

    def send(self, asked: PersonRequest) -> None:
        """Publish a request. Transient."""
        self._bus.publish(Message(PEOPLE_TOPIC, write_person_request(asked).encode(), {ABOUT: LEADS_TO[asked.kind]}))


def _silent(what: str, done: int, total: int) -> None:
    """Show no progress: what a function does is in its log."""


def open_cloud(environment: Mapping[str, str]) -> CloudBackend:
    """Return the backend. EnvironmentFault names every variable that is absent or wrong."""
    settings = Settings.from_environment(environment)
    clock = SystemClock()
    bucket = GoogleBucket(settings)
    compute = GoogleCompute(settings, bucket, clock)
    return CloudBackend(
        compute=compute,
        store=GoogleStore(settings.project, settings.firestore_host),
        bucket=bucket,
        bus=GoogleBus(settings.project, settings.pubsub_host),
        clock=clock,
        keys=Keys(settings.master_key),
        reports=ReportTarget(
            f"{settings.vm_pubsub_url}/v1/projects/{settings.project}/topics/{REPORTS_TOPIC}:publish",
            TOKEN_URL,
            of_contents=True,
            secrets_url=f"{settings.vm_secrets_url}/v1/",
            linger=0.0 if settings.compute_endpoint else LINGER,
        ),
        logs=f"gs://{settings.bucket}/{LOGS}{{build_id}}",
        progress=_silent,
        adopted_families=settings.limits.adopted_families,
        concurrency=settings.limits.concurrency,
        channels=lambda: settings.channels,
        people=lambda: settings.people,
        family_concurrency=settings.limits.family_concurrency,
        trigger_failures=settings.limits.trigger_failures,
        identities=GoogleIdentities(settings.project, settings.certificates_url),
        secret_versions=GoogleSecretVersions(settings),
        signer=KeyVersion(settings.signing_key, settings) if settings.signing_key else None,
        settings=settings,
        objects=bucket,
        image_users=compute,
        backlogs=MeasuredBacklogs(settings, clock.now),
    )
