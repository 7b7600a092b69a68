"""The messaging of a deployment on Google Cloud, as data: topics, subscriptions, schedules, functions.

The emulator makes all of it from these values, and a test holds terraform/ to them, so that what is tested on one
machine is what is deployed. No name is written anywhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

REQUESTS_TOPIC = "build-requests"  # other pipelines, and the schedules of rebuilds
UPLOADS_TOPIC = "specs-uploaded"  # Cloud Storage's notifications of objects below specs/
REPORTS_TOPIC = "build-reports"  # the one topic that a build VM may publish to
EVENTS_TOPIC = "build-events"  # for the functions' accounts alone, so not signed
WORKER_TOPIC = "build-orders"
FINISHED_TOPIC = "builds-finished"
IMAGES_TOPIC = "image-requests"  # of operators, who revoke images
PEOPLE_TOPIC = (
    "people-requests"  # of the dashboard alone: what people ask for, with the addresses that they have proved
)
WEBHOOKS_TOPIC = "webhook-calls"  # one message for each webhook that a finished build is told to
DEAD_LETTERS_TOPIC = "dead-letters"
TOPICS = (
    UPLOADS_TOPIC,
    REQUESTS_TOPIC,
    REPORTS_TOPIC,
    EVENTS_TOPIC,
    WORKER_TOPIC,
    FINISHED_TOPIC,
    IMAGES_TOPIC,
    PEOPLE_TOPIC,
    WEBHOOKS_TOPIC,
    DEAD_LETTERS_TOPIC,
)

SPECS = "specs/"  # objects below it are specs, and files that they name
PEOPLE = SPECS + "people/"  # below it, a folder of one person each, in which nobody else can write
UPLOADS = "uploads/"  # packed contexts and lists of packages as people bring them: to be checked and copied
CONTEXTS = "contexts/"  # the same by their digests, written by start_build alone
CIDATA = "cidata/"  # what VMs fetch at their start; holds their keys, and goes with them
RESULTS = "results/"  # one object for each finished build
LOGS = "logs/"  # the consoles of VMs that are gone
KEYS = "keys/"  # whose signatures count; written by the deployer alone
TRUSTED_KEYS = f"{KEYS}trusted.json"
RETIREMENT = "retirement/"  # what is done with old images; written by retire_images alone
RETIREMENT_REPORT = f"{RETIREMENT}report.json"  # of its last run
UPKEEP = "upkeep/"  # what needs a person, as expire_builds sees it, which alone writes there
UPKEEP_REPORT = f"{UPKEEP}report.json"

CACHE_SIZE, CACHE_SIZE_DEFAULT = "GOLDSMITH_CACHE_SIZE", "20G"
"""The environment variable that limits what the results of steps take on one machine's disk, and its default."""
COLLECTOR = "OTEL_EXPORTER_OTLP_ENDPOINT"  # OpenTelemetry's environment variable that says where traces go
STORAGE_EMULATOR = "STORAGE_EMULATOR_HOST"  # the environment variable that says where Cloud Storage is emulated

FOLLOWED = "followed"  # attribute of a finished build that another one of its workflow waits for


@dataclass(frozen=True)
class Function:
    """One function. `compute` says that it talks to Compute Engine, whose client is large and slow to import."""

    name: str  # in Python; on Google Cloud its underscores are dashes
    kind: Literal["cloud_event", "http"]  # called with events, or with requests of people and schedules
    compute: bool = False
    memory_mb: int = 256
    timeout: int = 60  # seconds; never longer than the acknowledgement deadline of what calls it
    concurrency: int = 8  # requests in one instance
    keyed: bool = False  # has the master key: it gives VMs their keys, or checks what they have signed
    webhooks: bool = False  # has the webhooks, with what they are signed with
    signs: bool = False  # signs what is stated of images, where a key is configured
    spans: bool = False  # sends traces of builds, where a collector is configured

    @property
    def deployed_name(self) -> str:
        """The name on Google Cloud: `goldsmith-start-build`."""
        return "goldsmith-" + self.name.replace("_", "-")


# A worker waits for Compute Engine within one delivery, and goes on waiting in the next: 9 of Pub/Sub's 10 minutes.
WORKER_TIMEOUT = 540


def _worker(name: str, *, keyed: bool = False, signs: bool = False) -> Function:
    return Function(name, "cloud_event", compute=True, memory_mb=512, timeout=WORKER_TIMEOUT, keyed=keyed, signs=signs)


FUNCTIONS = (
    # Its files are in its memory: an archive, what it holds and the packed context; and 100 MiB at a time of an upload.
    Function("start_build", "cloud_event", compute=True, memory_mb=2048, timeout=300, concurrency=1),
    Function("advance_build", "cloud_event", memory_mb=512, concurrency=32, keyed=True),
    _worker("create_resources", keyed=True),
    _worker("grow_disk"),
    _worker("export_image", keyed=True),
    _worker("verify_image", keyed=True),
    _worker("label_image", signs=True),
    _worker("deprecate_images"),
    _worker("clean_up"),
    Function("expire_builds", "http", compute=True, memory_mb=512, timeout=300, concurrency=1, keyed=True),
    Function("retire_images", "http", compute=True, memory_mb=512, timeout=WORKER_TIMEOUT, concurrency=1),
    Function("call_webhooks", "cloud_event", concurrency=8, webhooks=True, spans=True),
    Function(
        "send_spans", "cloud_event", memory_mb=512, concurrency=8, spans=True
    ),  # deployed only where there is a collector
    Function("dashboard", "http", compute=True, memory_mb=512, concurrency=32),
)


@dataclass(frozen=True)
class Subscription:
    """A push subscription: what of a topic goes to which function, and how often it is tried."""

    name: str
    topic: str
    function: str
    filter: str = ""  # Pub/Sub's language; "" is everything
    ordered: bool = False
    ack_deadline: int = 60  # seconds
    min_backoff: int = 1  # seconds between deliveries of a message that was not acknowledged
    max_backoff: int = 600
    max_delivery_attempts: int = 20  # then it is a dead letter


def _orders(kind: str) -> Subscription:
    """The subscription of a worker. Transient faults may last for hours: stockouts, quotas that are being raised."""
    return Subscription(
        name=f"orders-{kind.replace('_', '-')}",
        topic=WORKER_TOPIC,
        function=kind,
        filter=f'attributes.order = "{kind}"',
        ack_deadline=WORKER_TIMEOUT + 60,
        min_backoff=2,
        max_delivery_attempts=100,
    )


def _people(about: str, name: str, ack_deadline: int) -> Subscription:
    """The subscription of the function that can do what people ask for; a person waits for it."""
    return Subscription(
        f"people-{about}", PEOPLE_TOPIC, name, filter=f'attributes.{ABOUT} = "{about}"', ack_deadline=ack_deadline
    )


ABOUT = "about"  # attribute of a person's request
FINALIZED = "OBJECT_FINALIZE"  # eventType of a notification: an object was written

SUBSCRIPTIONS = (
    Subscription(
        "specs",
        UPLOADS_TOPIC,
        "start_build",
        filter=f'attributes.eventType = "{FINALIZED}"',
        ack_deadline=360,
        min_backoff=5,
    ),
    Subscription("requests", REQUESTS_TOPIC, "start_build", ack_deadline=360, min_backoff=5),
    Subscription(
        "followed", FINISHED_TOPIC, "start_build", filter=f"attributes:{FOLLOWED}", ack_deadline=360, min_backoff=5
    ),
    Subscription("image-requests", IMAGES_TOPIC, "deprecate_images", ack_deadline=WORKER_TIMEOUT + 60, min_backoff=5),
    _people("builds", "advance_build", 60),
    _people("retries", "start_build", 360),
    _people("images", "deprecate_images", WORKER_TIMEOUT + 60),
    Subscription("finished", FINISHED_TOPIC, "call_webhooks", min_backoff=5),
    Subscription("spans", FINISHED_TOPIC, "send_spans", min_backoff=10),
    # A receiver that is down is tried again for two hours.
    Subscription("webhook-calls", WEBHOOKS_TOPIC, "call_webhooks", ack_deadline=90, min_backoff=10),
    # Not ordered: a VM chooses the keys of what it publishes, and could put itself into the line of another build.
    Subscription("vm-reports", REPORTS_TOPIC, "advance_build"),
    # Of the release before, with what was on its way at the upgrade; whether one is ordered cannot be changed. What is
    # published since then comes by both, and counts once. It goes with the next release.
    Subscription("reports", REPORTS_TOPIC, "advance_build", ordered=True),
    Subscription("events", EVENTS_TOPIC, "advance_build", ordered=True, max_delivery_attempts=100),
    _orders("create_resources"),
    _orders("grow_disk"),
    _orders("export_image"),
    _orders("verify_image"),
    _orders("label_image"),
    _orders("deprecate_images"),
    _orders("clean_up"),
)

DEAD_LETTERS_SUBSCRIPTION = "dead-letters"  # pulled by people; keeps what no function could handle for a week


@dataclass(frozen=True)
class Notification:
    """A notification that Cloud Storage publishes by itself: for objects written below a prefix of the bucket."""

    topic: str
    prefix: str


NOTIFICATIONS = (Notification(UPLOADS_TOPIC, SPECS),)


@dataclass(frozen=True)
class Schedule:
    """A call that Cloud Scheduler makes; schedules of rebuilds are the deployment's own (a variable of terraform/)."""

    name: str
    function: str
    cron: str


SCHEDULES = (
    Schedule("expire-builds", "expire_builds", "* * * * *"),
    Schedule("retire-images", "retire_images", "23 */6 * * *"),
)


def function(name: str) -> Function:
    """Look a function up. KeyError."""
    return _BY_NAME[name]


_BY_NAME: Mapping[str, Function] = {each.name: each for each in FUNCTIONS}
